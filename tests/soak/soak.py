#!/usr/bin/env python3
"""A long run of everything at once, at whose end memory and descriptors must be flat and no answer may have been wrong.

    python3 tests/soak/soak.py [MINUTES] [--seed N] [--results FILE]        10 minutes by default

Processes of mayfly_bench ask without pause (tiny model in JSON, binary and, if the server takes it, gRPC; pictures; an endpoint that
is cold for most requests) and check every answer. Threads here do what real clients and operators do to a server: errors of many kinds, clients
that go away in the middle, slow senders and slow readers, idle connections, redeploys, endpoints that come and go, keys made
and revoked. Every SAMPLE_SECONDS the resident memory and the descriptors of server, launcher and zygote are noted. Held at the
end: the last third against the middle third, and the descriptors with no instance left against those at the start.
Exit status: 0 all held, 1 something did not, 2 the run itself failed.
"""

import argparse
import json
import os
import random
import socket
import statistics
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from loads import BENCH, Load, Server, X, Y, http_request, iris_cases, wait_for
from harness import DEPS, MODELS, NETWORKS, descriptors

SAMPLE_SECONDS = 5
MIN_SAMPLES = 12
MEMORY_PART, MEMORY_BYTES = 0.05, 8 << 20  # the last third may have this much more than the middle one, whichever is more
DESCRIPTORS = 8  # and so many descriptors more or fewer: each running instance has some
DESCRIPTORS_AT_REST = 2  # the same in the end, with no instance left, against the start
IDLE = "2s"
ANSWER_SECONDS = 40  # a bit more than the longest timeout of a request
IMAGE = ("--image-input", "resize=224,crop=0.875,mean=127,scale=0.0078125,layout=nchw", "--top", "3", "--memory", "512Mi")


class Wrong(Exception):
    """An answer that is not the right one."""


def right(condition, what):
    if not condition:
        raise Wrong(what)


class Sampler(threading.Thread):
    """(resident bytes, descriptors) of each named process, every SAMPLE_SECONDS."""

    def __init__(self, processes):
        super().__init__(daemon=True)
        self.processes, self.samples, self.ended = processes, {name: [] for name in processes}, threading.Event()
        self.failure = None

    def run(self):
        while not self.ended.wait(SAMPLE_SECONDS):
            for name, pid in self.processes.items():
                try:
                    self.samples[name].append(observe(pid))
                except OSError as e:
                    self.failure = f"the {name} is gone: {e}"
                    return

    def stop(self):
        self.ended.set()
        self.join()


def observe(pid):
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident, descriptors(pid)[0]


class Client:
    """What single clients do; each method is one of them, raises Wrong, and is called again and again."""

    def __init__(self, server, seed):
        self.server, self.random = server, random.Random(seed)
        host, port = server.address.rsplit(":", 1)
        self.address = host, int(port)
        self.number, self.lock = 0, threading.Lock()
        self.picture = (DEPS / "models/coffee.png").read_bytes()

    def next_number(self):
        with self.lock:
            self.number += 1
            return self.number

    def auth(self, key=None):
        return {"Authorization": f"Bearer {key or self.server.key}"}

    def raw(self, data):
        """A socket of its own on which `data` has been sent."""
        s = socket.create_connection(self.address, timeout=ANSWER_SECONDS)
        s.sendall(data)
        return s

    def keyed(self, path, body, *headers):
        return http_request(path, body, [f"Authorization: Bearer {self.server.key}", *headers])

    @staticmethod
    def status(s):
        text = b""
        while b"\r\n" not in text:
            got = s.recv(4096)
            if not got:
                raise Wrong(f"the connection ended after {text!r}")
            text += got
        return int(text.split()[1]), text

    # -- good requests in unusual manners -----------------------------------------------------------------------------
    def slow_sender(self):
        at = self.random.randrange(len(X) - 3)
        body = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [3, 4], "data": X[at:at + 3].ravel().tolist()}]})
        request = self.keyed("/v2/models/iris/infer", body.encode())
        with socket.create_connection(self.address, timeout=ANSWER_SECONDS) as s:
            step = max(1, len(request) // 20)
            for i in range(0, len(request), step):
                s.sendall(request[i:i + step])
                time.sleep(0.05)
            code, text = self.status(s)
            while b'"probabilities"' not in text and (more := s.recv(65536)):
                text += more
        want = f'"data":{json.dumps(Y[at:at + 3].tolist(), separators=(",", ":"))}'.encode()
        right(code == 200 and want in text, f"slow sender: {text[:300]!r}")

    def slow_reader(self):
        """200,000 floats there and back, the answer read in small pieces."""
        x = np.arange(200_000, dtype="<f4")
        head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [x.size], "parameters": {"binary_data_size": x.nbytes}}],
                           "parameters": {"binary_data_output": True}}).encode()
        request = self.keyed("/v2/models/echo/infer", head + x.tobytes(), f"Inference-Header-Content-Length: {len(head)}", "Connection: close")
        with socket.create_connection(self.address, timeout=ANSWER_SECONDS) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            s.sendall(request)
            text = bytearray()
            while got := s.recv(16384):
                text += got
                time.sleep(0.01)
        right(text.startswith(b"HTTP/1.1 200 ") and text.endswith(x.tobytes()), f"slow reader: {bytes(text[:300])!r}, {len(text)} bytes")

    def idle_connections(self):
        held = [socket.create_connection(self.address, timeout=ANSWER_SECONDS) for _ in range(50)]
        time.sleep(self.random.random())
        for s in held:
            s.close()

    # -- clients that go away -----------------------------------------------------------------------------------------
    def gone_in_the_body(self):
        request = self.keyed("/v2/models/echo/infer", b"x" * 100_000)
        self.raw(request[:self.random.randrange(50, len(request))]).close()

    def gone_before_the_answer(self):
        s = self.raw(self.keyed("/predictions/picture", self.picture, "Content-Type: image/png"))
        time.sleep(self.random.random() * 0.02)
        if self.random.random() < 0.5:  # a reset instead of a close
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()

    def gone_while_cold(self):
        at = self.random.randrange(len(X))
        body = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": X[at].tolist()}]}).encode()
        self.raw(self.keyed("/v2/models/brief/infer", body)).close()

    # -- errors -------------------------------------------------------------------------------------------------------
    def errors(self):
        good = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
        wrong_shape = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 5], "data": [1, 2, 3, 4, 5]}]}
        wrong_type = {"inputs": [{"name": "input", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
        iris = "/v2/models/iris/infer"
        for want, path, body, headers in (
                (400, iris, b'{"inputs":[', self.auth()), (400, iris, json.dumps(wrong_shape).encode(), self.auth()),
                (400, iris, json.dumps(wrong_type).encode(), self.auth()), (404, "/v2/models/nope/infer", json.dumps(good).encode(), self.auth()),
                (404, "/no/such/path", b"{}", self.auth()), (401, iris, json.dumps(good).encode(), {}),
                (401, iris, json.dumps(good).encode(), self.auth("mf_wrong")),
                (400, "/predictions/picture", b"\x89PNG\r\n\x1a\nno picture", self.auth() | {"Content-Type": "image/png"})):
            answer = self.server.http(path, "POST", body, headers)
            right(answer.status == want and "error" in answer.json(), f"{path} {body[:60]!r}: {answer.status} instead of {want}: {answer.body[:200]!r}")

    def errors_of_http(self):
        head = f"POST /v2/models/iris/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.server.key}\r\n".encode()
        for want, request in ((400, b"nonsense\r\n\r\n"), (413, head + b"Content-Length: 999999999999\r\n\r\n"),
                              (431, head + b"X: " + b"x" * 70_000 + b"\r\n\r\n"), (501, head + b"Transfer-Encoding: rot13\r\n\r\n"),
                              (400, head + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")):
            with self.raw(request) as s:
                code, text = self.status(s)
            right(code == want, f"{request[-60:]!r}: {code} instead of {want}: {text[:300]!r}")

    # -- operators ----------------------------------------------------------------------------------------------------
    def redeploy(self):
        self.server.deploy("iris", "iris_logreg.onnx", "--idle", IDLE, "--max", self.random.choice("234"))

    def come_and_go(self):
        name = f"guest-{self.next_number()}"
        self.server.deploy(name, "iris_logreg.onnx", "--idle", "100ms")
        answer = self.server.infer(name, X[:5], headers=self.auth())
        right(answer.status == 200 and answer.json()["outputs"][0]["data"] == Y[:5].tolist(), f"{name}: {answer.body[:300]!r}")
        self.server.cli("delete", name)
        right(self.server.infer(name, X[:5], headers=self.auth()).status == 404, f"{name} is answered after its end")

    def keys(self):
        made = json.loads(self.server.cli("keys", "create", f"soak-{self.next_number()}", "--scopes", "invoke", "-o", "json").stdout)
        answer = self.server.infer("iris", X[:2], headers=self.auth(made["key"]))
        right(answer.status == 200 and answer.json()["outputs"][0]["data"] == Y[:2].tolist(), f"a new key: {answer.body[:300]!r}")
        self.server.cli("keys", "revoke", made["id"])
        right(self.server.infer("iris", X[:2], headers=self.auth(made["key"])).status == 401, "a revoked key is taken")

    def look(self):
        for path in ("/metrics", "/v2", "/v2/models/iris", "/v2/health/ready", "/admin/v1/endpoints", "/admin/v1/instances", "/openapi.json"):
            right(self.server.http(path, headers=self.auth()).status == 200, f"GET {path}")


EVERY = {"slow_sender": 1, "slow_reader": 2, "idle_connections": 3, "gone_in_the_body": 0.3, "gone_before_the_answer": 0.5,
         "gone_while_cold": 0.7, "errors": 1, "errors_of_http": 1, "redeploy": 10, "come_and_go": 8, "keys": 4, "look": 2}  # seconds


class Repeat(threading.Thread):
    """One method of Client at its pace until stop()."""

    def __init__(self, client, name, ended, problems):
        super().__init__(daemon=True)
        self.action, self.name, self.ended, self.problems, self.done = getattr(client, name), name, ended, problems, 0

    def run(self):
        while not self.ended.wait(EVERY[self.name]):
            try:
                self.action()
                self.done += 1
            except (Wrong, OSError, AssertionError, ValueError) as e:
                self.problems.append(f"{self.name} at {time.time():.3f}: {type(e).__name__} {e}")


class Soak:
    def __init__(self, server, minutes, seed, say=print):
        self.server, self.seconds, self.say, self.problems, self.rows = server, minutes * 60, say, [], []
        self.client = Client(server, seed)

    def deploy(self):
        s = self.server
        s.deploy("iris", "iris_logreg.onnx", "--idle", IDLE)
        s.deploy("brief", "iris_logreg.onnx", "--idle", "50ms")
        s.deploy("echo", "identity_fp32.onnx", "--idle", IDLE)
        s.deploy("picture", str(DEPS / "models/efficientnet_lite0.onnx"), "--idle", IDLE, *IMAGE)

    def has_grpc(self):
        """Whether the server answers ModelInfer: one call."""
        probe = Load("probe", self.server, self.server.folder, self.grpc_cases()[:1], *self.grpc_flags(), verb="grpc")
        time.sleep(1)
        probe.stop()
        return set(probe.counts()) == {"200"}

    @staticmethod
    def grpc_cases():
        return [(X[i].tobytes(), struct.pack("<q", Y[i])) for i in range(12)]

    @staticmethod
    def grpc_flags():
        return ("--model", "iris", "--input", "input:FP32:1x4", "--streams", 4, "--rate", 50, "--timeout", ANSWER_SECONDS)

    def start_loads(self):
        s, f, bounds = self.server, self.server.folder, ("--timeout", ANSWER_SECONDS)
        picture = http_request("/predictions/picture", self.client.picture, ["Content-Type: image/png"])
        loads = [Load("json", s, f, iris_cases("iris"), "--connections", 8, "--rate", 150, *bounds),
                 Load("binary", s, f, iris_cases("iris", True), "--connections", 8, "--rate", 100, *bounds),
                 Load("brief", s, f, iris_cases("brief"), "--connections", 4, "--rate", 4, *bounds),
                 Load("picture", s, f, [(picture, b'"index":967')], "--connections", 4, "--rate", 3, *bounds)]
        if self.has_grpc():
            loads.append(Load("grpc", s, f, self.grpc_cases(), *self.grpc_flags(), verb="grpc"))
        else:
            self.say("the server does not answer gRPC: without that load")
        return loads

    def at_rest(self):
        """Descriptors of each process once no instance runs."""
        headers = self.client.auth()
        wait_for(lambda: not self.server.http("/admin/v1/instances", headers=headers).json()["instances"], "the end of all instances", 60)
        time.sleep(1)  # the connections that asked are closed
        return {name: observe(pid)[1] for name, pid in self.processes.items()}

    def run(self):
        self.deploy()
        for name in ("errors", "look", "slow_reader", "keys"):  # what is made once only is made
            getattr(self.client, name)()
        self.processes = {"server": self.server.pid, "launcher": self.server.launcher(), "zygote": self.server.zygote()}
        before = self.at_rest()
        sampler, ended = Sampler(self.processes), threading.Event()
        loads = self.start_loads()
        actors = [Repeat(self.client, name, ended, self.problems) for name in EVERY]
        for thread in (sampler, *actors):
            thread.start()
        self.wait(loads, sampler)
        ended.set()
        for thread in actors:
            thread.join(ANSWER_SECONDS)
        for load in loads:
            load.stop()
        sampler.stop()
        self.judge(loads, actors, sampler)
        for name, count in self.at_rest().items():
            self.row(f"{name}: descriptors at rest, end over start (of {before[name]})", count - before[name], "", DESCRIPTORS_AT_REST)
        self.row("launcher: network namespaces kept", descriptors(self.server.launcher())[1], "", NETWORKS)

    def wait(self, loads, sampler):
        begin = time.monotonic()
        told = 0
        while (passed := time.monotonic() - begin) < self.seconds:
            time.sleep(0.5)
            over = [e for load in loads if (e := load.ended())] + ([sampler.failure] if sampler.failure else [])
            if over or self.server.process.poll() is not None:
                raise AssertionError(f"after {passed:.0f} s: {over or 'the server has ended'}")
            if passed >= told + 60:
                told += 60
                last = {name: f"{s[-1][0] / 1e6:.1f} MB, {s[-1][1]} descriptors" for name, s in sampler.samples.items() if s}
                self.say(f"{told} s: {last}, {len(self.problems)} problems")

    def row(self, what, value, unit, target):
        met = abs(value) <= target
        self.rows.append({"what": what, "value": round(value, 4), "unit": unit, "target": target, "met": met})
        self.say(f"  {what:<66} {value:>10.2f} {unit:<6} (at most {target:g}: {'held' if met else 'NOT HELD'})")

    def judge(self, loads, actors, sampler):
        counts = Counter()
        for load in loads:
            self.say(f"  load {load.name}: {load.counts()}")
            counts.update(load.counts())
            self.problems += load.problems()
        self.say(f"  done: { {a.name: a.done for a in actors} }")
        never = [a.name for a in actors if a.done == 0] + [load.name for load in loads if not load.counts().get("200")]
        self.row("kinds of traffic that never succeeded", len(never), "", 0)
        self.row(f"wrong or lost among {sum(counts.values())} answers to the loads", sum(n for k, n in counts.items() if k != "200"), "", 0)
        self.row("wrong answers to single clients", sum(1 for p in self.problems if p.split(" at ")[0] in EVERY), "", 0)
        for name, samples in sampler.samples.items():
            third = len(samples) // 3
            middle, last = samples[third:2 * third], samples[2 * third:]
            memory, later = (statistics.median(s[0] for s in part) for part in (middle, last))
            allowed = max(MEMORY_BYTES, MEMORY_PART * memory)
            self.row(f"{name}: memory, last third over middle third (of {memory / 1e6:.1f} MB)", max(0, later - memory) / 1e6, "MB", allowed / 1e6)
            # The fewest of a third: connections come and go by dozens, what leaks stays.
            count, later = (min(s[1] for s in part) for part in (middle, last))
            self.row(f"{name}: fewest descriptors, last third over middle third (of {count})", later - count, "", DESCRIPTORS)


def main():
    parser = argparse.ArgumentParser(description="everything at once for a while: memory and descriptors flat, no wrong answer")
    parser.add_argument("minutes", type=float, nargs="?", default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--results", type=Path, help="write the rows here as JSON")
    arguments = parser.parse_args()
    if arguments.minutes * 60 < SAMPLE_SECONDS * MIN_SAMPLES:
        parser.error(f"at least {SAMPLE_SECONDS * MIN_SAMPLES / 60:g} minutes, so that there is something to compare")
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    say = lambda text: print(text, flush=True)
    say(f"seed {seed}, {arguments.minutes:g} minutes, load generator {BENCH}")
    with Server() as server:
        server.key = json.loads(server.cli("keys", "create", "soak", "--scopes", "admin,deploy,invoke", "-o", "json").stdout)["key"]
        server.stop()
        server.flags = ("--require-keys",)
        server.start()
        soak, failure = Soak(server, arguments.minutes, seed, say), None
        try:
            soak.run()
        except AssertionError as e:
            failure = str(e)
        for problem in soak.problems[:10]:
            say(f"problem: {problem}")
        if len(soak.problems) > 10:
            say(f"… and {len(soak.problems) - 10} more")
        if failure:
            say(f"the run failed: {failure}\nthe end of the server's log:\n" + "\n".join(server.log_text().splitlines()[-20:]))
    if arguments.results:
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps({"seed": seed, "minutes": arguments.minutes, "rows": soak.rows, "problems": soak.problems,
                                                 "failure": failure}, indent=1) + "\n")
    return 2 if failure else 0 if all(r["met"] for r in soak.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
