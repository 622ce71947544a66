#!/usr/bin/env python3
"""Mayfly beside other servers on the same models, in one run: prints a table and writes build/bench/peers.json.

    python3 bench/peers.py [--quick] [--only PEER[,PEER]] [--rounds N]

Each peer is installed from the pinned list bench/peers/PEER.txt into a virtual environment of its own, build/peers/PEER. All
servers run at once and idle while another is measured; a round asks each in turn and the in-process run too, and the figures are
medians of the rounds. CPU per request is the kernel's account of the server's whole process tree, the load generator apart;
throughput per core is its inverse. Mayfly asks for a key and logs each request. A peer that can't be installed, started, or that
does not speak an encoding has rows that say why. Every server may use one thread per model instance; Triton has two instances.
Exit status: 0 Mayfly and the targets' peers were measured, 1 not (a row says why).
"""
import argparse
import hashlib
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import sys
import time

from common import (DEPS, IMAGE, IRIS, IRIS_ROW, ROOT, Folder, Rows, Server, Unmeasured, bytes_file, end, floor, grpc,
                    image_binary, image_json, iris_json, load, need_binaries, raw_pixels, request_file, tree_cpu_ns)

HERE = pathlib.Path(__file__).resolve().parent / "peers"
PEERS = ROOT / "build/peers"
START_SECONDS, INSTALL_SECONDS = 90, 900
TRITON_INSTANCES = 2
THROUGHPUT_PER_CORE = 2.3  # of Mayfly over Triton's, tiny model, JSON, 16 connections
IMAGE_RATIOS = {"image binary": 1.05, "image JSON": 1.4, "image gRPC": 1.06}
BINARY = os.environ.get("MAYFLY_TRITON_BACKEND", str(ROOT / "build/release/bench/libtriton_onnx_native.so"))
MODELS = {"iris": IRIS, "image": IMAGE}
SHAPES = {"iris": (1, 4), "image": (1, 3, 224, 224)}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# -- the servers ------------------------------------------------------------------------------------------------------
class Peer:
    """A server from a package. start() runs `command()` and waits for a right answer to the tiny request."""

    grpc_port = None
    key = None
    speaks = ("JSON", "binary")  # encodings over HTTP

    def __init__(self, folder):
        self.folder, self.port, self.process = folder / self.name, free_port(), None
        self.folder.mkdir()
        self.environment = dict(os.environ, ORT_DISABLE_TELEMETRY="1", OMP_NUM_THREADS="1")
        self.venv = PEERS / self.name

    def install(self):
        """The environment exactly as listed; a stamp makes the second call free."""
        listed = HERE / f"{self.name}.txt"
        want = hashlib.sha256(listed.read_bytes()).hexdigest()
        stamp = self.venv / ".installed"
        if stamp.exists() and stamp.read_text() == want:
            return
        print(f"  installing {self.name} into {self.venv.relative_to(ROOT)} …", flush=True)
        for command in ((system_python(), "-m", "venv", "--clear", self.venv),
                        (self.venv / "bin/pip", "install", "--disable-pip-version-check", "--no-input", "-q", "--no-deps", "-r", listed)):
            done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=INSTALL_SECONDS)
            if done.returncode != 0:
                raise Unmeasured(f"can't be installed: {(done.stderr or done.stdout).strip()[-400:]}")
        stamp.write_text(want)

    def start(self):
        self.install()
        log = self.run()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return post(self, *iris_json("iris"))
            except (OSError, http.client.HTTPException, Unmeasured) as e:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    end = log.read_text(errors="replace").strip()[-400:]
                    raise Unmeasured(f"did not start ({e}): {end}") from None
                time.sleep(0.2)

    def run(self):
        """Its log."""
        log = self.folder / "log"
        with open(log, "wb") as out:
            self.process = subprocess.Popen([str(c) for c in self.command()], env=self.environment, cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        return log

    @property
    def pid(self):
        return self.process.pid

    def close(self):
        if self.process is not None:
            end(self.process)


class Triton(Peer):
    name, title, about = "triton", "Triton", f"2.51, bench/peers/triton_onnx_backend.cc over ONNX Runtime 1.32, {TRITON_INSTANCES} instances"

    CONFIG = ('name: "{name}" backend: "onnx_native" max_batch_size: 0\n'
              'input [{{ name: "{input}" data_type: TYPE_FP32 dims: [{dims}] }}]\n{outputs}'
              'instance_group [{{ kind: KIND_CPU count: {count} }}]\n')
    TENSORS = {"iris": ("input", "-1, 4", (("label", "INT64", "-1"), ("probabilities", "FP32", "-1, 3"))),
               "image": ("image", "-1, 3, 224, 224", (("probabilities", "FP32", "-1, 1000"),))}

    def command(self):
        if not pathlib.Path(BINARY).exists():
            raise Unmeasured(f"its back end is not built: {BINARY} (target triton_onnx_native)")
        backends, models, self.grpc_port = self.folder / "backends/onnx_native", self.folder / "models", free_port()
        backends.mkdir(parents=True)
        (backends / "libtriton_onnx_native.so").symlink_to(BINARY)
        for name, (tensor, dims, outputs) in self.TENSORS.items():
            if not MODELS[name].exists():
                continue
            (models / name / "1").mkdir(parents=True)
            (models / name / "1/model.onnx").symlink_to(MODELS[name])
            text = "".join(f'output [{{ name: "{n}" data_type: TYPE_{t} dims: [{d}] }}]\n' for n, t, d in outputs)
            (models / name / "config.pbtxt").write_text(
                self.CONFIG.format(name=name, input=tensor, dims=dims, outputs=text, count=TRITON_INSTANCES))
        self.environment["MAYFLY_BENCH_ORT"] = str(max((DEPS / "onnxruntime").glob("libonnxruntime.so*")))
        server = next(self.venv.glob("lib/python3*/site-packages/pytriton/tritonserver/bin/tritonserver"), None)
        if server is None:
            raise Unmeasured("its package has no tritonserver")
        return (server, "--model-repository", models, "--backend-directory", self.folder / "backends", "--http-address", "127.0.0.1",
                "--http-port", self.port, "--grpc-address", "127.0.0.1", "--grpc-port", self.grpc_port, "--allow-metrics", "false")


class FastApi(Peer):
    name, title, about = "fastapi", "FastAPI", "0.165 with uvicorn 0.54, over ONNX Runtime 1.32, one worker"
    speaks = ("JSON",)

    def command(self):
        self.environment["PEER_MODELS"] = ";".join(f"{n}={p}" for n, p in MODELS.items() if p.exists())
        return (self.venv / "bin/uvicorn", "--app-dir", HERE, "--port", self.port, "--no-access-log", "--log-level", "warning", "fastapi_app:app")


class MlServer(Peer):
    name, title, about = "mlserver", "MLServer", "1.7.1, over ONNX Runtime 1.32, no parallel workers"
    speaks = ("JSON",)

    def command(self):
        self.environment["PYTHONPATH"] = str(HERE)
        (self.folder / "settings.json").write_text(json.dumps(
            {"http_port": self.port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1", "parallel_workers": 0,
             "debug": False}))
        for name, path in MODELS.items():
            if path.exists():
                (self.folder / name).mkdir()
                (self.folder / name / "model-settings.json").write_text(json.dumps(
                    {"name": name, "implementation": "mlserver_runtime.OnnxModel", "parameters": {"uri": str(path)}}))
        return self.venv / "bin/mlserver", "start", self.folder


class KServe(Peer):
    name, title, about = "kserve", "KServe", "0.21, its Python server, over ONNX Runtime 1.32, one worker"

    def command(self):
        models = [f"{n}={p}" for n, p in MODELS.items() if p.exists()]
        return self.venv / "bin/python", HERE / "kserve_server.py", self.port, free_port(), *models


class Mayfly:
    """The release build, with keys and its request log."""

    name, title, about = "mayfly", "Mayfly", "keys required, each request logged"
    speaks = ("JSON", "binary")

    def __init__(self, folder):
        self.server = None
        self.folder = folder / self.name

    def start(self):
        self.folder.mkdir(mode=0o755)
        self.server = Server(self.folder, keys=True)
        self.key, self.port, self.grpc_port, self.pid = self.server.key, self.server.port, self.server.port, self.server.process.pid
        for name, model in MODELS.items():
            if model.exists():
                self.server.deploy(name, model, "--idle", "1h")
        return post(self, *iris_json("iris"))

    def close(self):
        if self.server:
            self.server.close()


def system_python():
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


def post(peer, path, headers, body):
    """The answer's body; Unmeasured if it is not a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=30)
    try:
        connection.request("POST", path, body, headers | ({"Authorization": f"Bearer {peer.key}"} if peer.key else {}))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise Unmeasured(f"HTTP {answer.status} {text[:300].decode(errors='replace')}")
    return text


# -- what is asked ----------------------------------------------------------------------------------------------------
class Work:
    """One kind of request. prepare() checks a peer's answer and gives the call that measures it for some seconds."""

    def __init__(self, title, model, kind, lanes, folder):
        self.title, self.model, self.kind, self.lanes, self.folder = title, model, kind, lanes, folder
        self.label = f"{title}, {lanes} {'stream' if kind == 'gRPC' else 'connection'}{'s' if lanes > 1 else ''}"

    def request(self):
        return {("iris", "JSON"): iris_json, ("image", "JSON"): image_json, ("image", "binary"): image_binary}[self.model, self.kind](self.model)

    def prepare(self, peer):
        if not MODELS[self.model].exists():
            raise Unmeasured(f"{MODELS[self.model].name} is missing: run ./dev models")
        if self.kind == "gRPC":
            return self.prepare_grpc(peer)
        if self.kind not in peer.speaks:
            raise Unmeasured(f"does not speak the {self.kind} tensor extension")
        text = post(peer, *self.request())
        expect = bytes_file(self.folder, f"{peer.name}-{self.model}-{self.kind}.expect", self.right(text))
        file = request_file(self.folder, f"{self.model}-{self.kind}.http", self.request())
        return lambda seconds: load(peer.port, file, self.lanes, 0, key=peer.key, expect=expect, seconds=seconds)

    def right(self, text):
        """The bytes of this answer that every other one must have, after a look whether they are right."""
        if self.kind == "binary":
            scores = struct.unpack("<1000f", text[-4000:])
            self.check_scores(scores)
            return struct.pack("<f", max(scores))[2:]  # the upper half: the same to three digits
        outputs = {o["name"]: o["data"] for o in json.loads(text)["outputs"]}
        if self.model == "image":
            self.check_scores(outputs["probabilities"])
            return b'"outputs"'
        if outputs["label"] not in ([0], [[0]]):
            raise Unmeasured(f"the answer is wrong: {text[:300].decode()}")
        return re.search(rb'"data": ?\[+0\]', text)[0]

    def check_scores(self, scores):
        if len(scores) != 1000 or abs(sum(scores) - 1) > 0.01:
            raise Unmeasured(f"the answer is wrong: {len(scores)} scores with the sum {sum(scores)}")

    def prepare_grpc(self, peer):
        if peer.grpc_port is None:
            raise Unmeasured("measured over HTTP only, by design of this bench")
        raw, tensor = {"iris": (struct.pack("<4f", *IRIS_ROW), "input:FP32:1x4"),
                       "image": (raw_pixels() if self.model == "image" else b"", "image:FP32:1x3x224x224")}[self.model]
        file = bytes_file(self.folder, f"{self.model}.raw", raw)
        right = struct.pack("<q", 0) if self.model == "iris" else self.right_image_bytes(peer)
        expect = bytes_file(self.folder, f"{peer.name}-{self.model}-grpc.expect", right)
        call = lambda seconds: grpc(peer.grpc_port, self.model, tensor, file, self.lanes, 0, key=peer.key, expect=expect, seconds=seconds)
        call(0.2)
        return call

    def right_image_bytes(self, peer):
        return Work("", "image", "binary", 1, self.folder).right(post(peer, *image_binary("image")))


def works(folder):
    return [Work("iris JSON", "iris", "JSON", 16, folder), Work("iris JSON", "iris", "JSON", 1, folder),
            Work("iris gRPC", "iris", "gRPC", 1, folder), Work("iris gRPC", "iris", "gRPC", 16, folder),
            Work("image binary", "image", "binary", 1, folder), Work("image JSON", "image", "JSON", 1, folder),
            Work("image gRPC", "image", "gRPC", 1, folder)]


# -- the run ----------------------------------------------------------------------------------------------------------
class Figures:
    """What was measured of one peer on one work, a value per round."""

    def __init__(self):
        self.rate, self.p50, self.p99, self.cpu, self.client, self.over = [], [], [], [], [], []

    def add(self, got, cpu_ns, base_us):
        n = got["count"]
        self.rate.append(n / got["seconds"])
        self.p50.append(got["p50_us"])
        self.p99.append(got["p99_us"])
        self.cpu.append(cpu_ns / n / 1e3)
        self.client.append(got["client_cpu_s"] / n * 1e6)
        self.over.append(got["p50_us"] / base_us)


class Bench:
    def __init__(self, rows, seconds, rounds):
        self.rows, self.seconds, self.rounds, self.medians = rows, seconds, rounds, {}

    def measure(self, work, peers):
        print(f"\n{work.label}", flush=True)
        calls = {}
        for peer in peers:
            try:
                calls[peer] = work.prepare(peer)
                calls[peer](min(1, self.seconds))
            except (Unmeasured, OSError, http.client.HTTPException, ValueError, KeyError, struct.error) as e:
                calls.pop(peer, None)
                self.rows.missing(f"{work.label}: {peer.title}", e)
        figures, bases = {peer: Figures() for peer in calls}, []
        for _ in range(self.rounds if calls else 0):
            base = floor(MODELS[work.model], 20, 10000 if work.model == "iris" else 40, *SHAPES[work.model])["p50_us"]
            bases.append(base)
            for peer, call in calls.items():
                before = tree_cpu_ns(peer.pid)
                try:
                    got = call(self.seconds)
                except Unmeasured as e:
                    self.rows.missing(f"{work.label}: {peer.title}, in a round", e)
                    continue
                figures[peer].add(got, tree_cpu_ns(peer.pid) - before, base)
        if bases:
            self.rows.row(f"{work.label}: in-process p50", statistics.median(bases), "us")
        for peer, f in figures.items():
            if f.rate:
                self.tell(work, peer, f)

    def tell(self, work, peer, f):
        name, middle = f"{work.label}: {peer.title}", statistics.median
        self.medians[work.label, peer.name] = middle(f.cpu)
        target = IMAGE_RATIOS.get(work.title) if peer.name == "mayfly" else None
        self.rows.row(f"{name}: throughput", middle(f.rate), "req/s")
        self.rows.row(f"{name}: latency p50", middle(f.p50), "us")
        self.rows.row(f"{name}: latency p99", middle(f.p99), "us")
        self.rows.row(f"{name}: CPU per request", middle(f.cpu), "us")
        self.rows.row(f"{name}: CPU of the load generator", middle(f.client), "us")
        self.rows.row(f"{name}: p50 over in-process p50", middle(f.over), "ratio", target)

    def compare(self, works, peers):
        """Requests per second of processor time: Mayfly's over each peer's."""
        print("\nThroughput per core, Mayfly's over the peer's", flush=True)
        for work in works:
            ours = self.medians.get((work.label, "mayfly"))
            for peer in peers:
                theirs = self.medians.get((work.label, peer.name))
                if peer.name == "mayfly" or not ours or not theirs:
                    continue
                aim = THROUGHPUT_PER_CORE if peer.name == "triton" and work.title == "iris JSON" and work.lanes == 16 else None
                self.rows.row(f"{work.label}: Mayfly over {peer.title}", theirs / ours, "ratio", at_least=aim)


def run(rows, folder, arguments):
    wanted = [kind for kind in (Mayfly, Triton, FastApi, MlServer, KServe) if not arguments.only or kind.name in arguments.only.split(",")]
    peers, asked = [], works(folder)
    try:
        for kind in wanted:
            peer = kind(folder)
            try:
                peers.append(peer)
                peer.start()
                print(f"  {peer.title}: started ({peer.about})", flush=True)
            except (Unmeasured, OSError, subprocess.TimeoutExpired, http.client.HTTPException) as e:
                peers.remove(peer)
                peer.close()
                rows.missing(peer.title, e)
        bench = Bench(rows, arguments.seconds, arguments.rounds)
        for work in asked:
            bench.measure(work, peers)
        bench.compare(asked, peers)
    finally:
        for peer in peers:
            peer.close()


def main():
    parser = argparse.ArgumentParser(description="Mayfly beside other servers; writes build/bench/peers.json")
    parser.add_argument("--quick", action="store_true", help="one round of half a second each")
    parser.add_argument("--only", default="", metavar="PEER[,PEER]", help="of mayfly, triton, fastapi, mlserver, kserve")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.5
    need_binaries()
    rows = Rows("peers")
    with Folder() as folder:
        run(rows, folder, arguments)
    rows.write()
    return 0 if any("Mayfly over Triton" in r["what"] for r in rows.rows) or arguments.only else 1


if __name__ == "__main__":
    sys.exit(main())
