#!/usr/bin/env python3
"""Measures the release build on this machine, prints a table and writes build/bench/serve.json.

    python3 bench/run.py [--quick]

Starts a server of its own on a free port with a temporary data folder, deploys two models, drives them with mayfly_bench and
compares with the same model run in-process, in the same minute. CPU is the kernel's own account of each process, so it holds
on a busy machine too; latencies and throughput do not. Needs build/release/bin/{mayfly,mayfly_bench} and .deps (./dev setup).
Exit status: 0 all rows measured, met or not; 1 a row could not be measured (it says why).
"""
import argparse
import glob
import http.client
import json
import os
import pathlib
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPS = pathlib.Path(os.environ.get("MAYFLY_DEPS", ROOT / ".deps"))
MAYFLY = ROOT / "build/release/bin/mayfly"
BENCH = ROOT / "build/release/bin/mayfly_bench"
IRIS = ROOT / "tests/models/iris_logreg.onnx"
TEXT = DEPS / "models/minilm.onnx"
IMAGE = DEPS / "models/efficientnet_lite0.onnx"
OUT = ROOT / "build/bench/serve.json"
PIXELS = 3 * 224 * 224
PHASES = ("queue", "fork", "map", "init", "infer", "total")


class Unmeasured(Exception):
    """Why a row has no value."""


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


class Server:
    """One `mayfly serve` in a temporary folder."""

    def __init__(self, folder):
        self.folder = folder
        log = folder / "log"
        command = [MAYFLY, "serve", "--data", folder / "data", "--listen", "127.0.0.1:0", "--log-file", log]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=open(folder / "stderr", "wb"))
        self.port = self._port(log)

    def _port(self, log):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in log.read_text().splitlines() if log.exists() else []:
                event = json.loads(line)
                if event.get("event") == "listening":
                    return int(event["detail"].rsplit(":", 1)[1])
            time.sleep(0.02)
        self.process.kill()
        raise SystemExit(f"bench: the server did not start: {(self.folder / 'stderr').read_text()[-2000:]}")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def deploy(self, name, model, *flags):
        if not model.exists():
            raise Unmeasured(f"{model.name} is missing: run scripts/dev/models.sh --all")
        environment = dict(os.environ, MAYFLY_SERVER=f"http://127.0.0.1:{self.port}")
        done = subprocess.run([MAYFLY, "deploy", name, model, *flags], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Unmeasured(f"deploy {name}: {(done.stderr or done.stdout).strip()[-300:]}")

    def delete(self, name):
        environment = dict(os.environ, MAYFLY_SERVER=f"http://127.0.0.1:{self.port}")
        subprocess.run([MAYFLY, "delete", name], env=environment, capture_output=True)

    def instances(self, endpoint=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", "/admin/v1/instances")
        rows = json.loads(connection.getresponse().read())["instances"]
        connection.close()
        return [r for r in rows if endpoint in (None, r["endpoint"])]

    def wait_instances(self, endpoint, done, seconds, what):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rows = self.instances(endpoint)
            if done(rows):
                return rows
            time.sleep(0.002)
        raise Unmeasured(f"{endpoint}: {what} did not happen within {seconds} s; now {len(rows)} instances")


def cpu_ns(pid):
    """CPU time of all threads of a process: nanoseconds from schedstat, else 10 ms ticks from stat."""
    try:
        return sum(int(pathlib.Path(f).read_text().split()[0]) for f in glob.glob(f"/proc/{pid}/task/*/schedstat"))
    except (OSError, IndexError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def private_bytes(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024
    except PermissionError:
        raise Unmeasured("reading smaps_rollup of an instance needs root") from None
    raise Unmeasured("smaps_rollup has no Private_Dirty")


def infer_request(endpoint, header, binary=None):
    """(path, headers, body) of an Open Inference Protocol request; binary: the tensor's bytes after the JSON."""
    text = json.dumps(header, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json"}
    if binary is not None:
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
    return f"/v2/models/{endpoint}/infer", headers, text + (binary or b"")


def request_file(folder, name, request):
    path, headers, body = request
    head = "".join(f"{k}: {v}\r\n" for k, v in {"Host": "127.0.0.1", **headers, "Content-Length": len(body)}.items())
    file = folder / name
    file.write_bytes(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    return file


def iris_json(endpoint):
    return infer_request(endpoint, {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})


def text_json(endpoint):
    tensors = [{"name": name, "datatype": "INT64", "shape": [1, 32], "data": [value] * 32}
               for name, value in (("input_ids", 2003), ("attention_mask", 1), ("token_type_ids", 0))]
    return infer_request(endpoint, {"inputs": tensors})


def pixels():
    return [((i * 37) % 256 - 127) / 128 for i in range(PIXELS)]


def image_json(endpoint):
    tensor = {"name": "image", "shape": [1, 3, 224, 224], "datatype": "FP32", "data": pixels()}
    return infer_request(endpoint, {"inputs": [tensor]})


def image_binary(endpoint):
    tensor = {"name": "image", "shape": [1, 3, 224, 224], "datatype": "FP32", "parameters": {"binary_data_size": PIXELS * 4}}
    header = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    return infer_request(endpoint, header, struct.pack(f"<{PIXELS}f", *pixels()))


def tool(*args):
    done = subprocess.run([str(a) for a in (BENCH, *args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unmeasured(done.stderr.strip()[-400:])
    return json.loads(done.stdout)


def floor(model, warmup, count, *shape):
    libraries = sorted(glob.glob(str(DEPS / "onnxruntime/libonnxruntime.so*")))
    if not libraries:
        raise Unmeasured("no libonnxruntime.so: run ./dev setup")
    return tool("floor", libraries[-1], model, warmup, count, *shape)


class Bench:
    def __init__(self, server, folder, quick):
        self.server, self.folder, self.quick = server, folder, quick
        self.rows = []

    def count(self, full):
        return max(5, full // 10) if self.quick else full

    def row(self, what, value, unit, target=None):
        met = None if target is None else value <= target
        self.rows.append({"what": what, "value": round(value, 4), "unit": unit, "target": target, "met": met})
        goal = "" if target is None else f"  (target <= {target:g}: {'met' if met else 'MISSED'})"
        print(f"  {what:<66} {value:>11.3f} {unit:<8}{goal}", flush=True)

    def section(self, title, function):
        print(f"\n{title}", flush=True)
        try:
            function()
        except (Unmeasured, OSError, http.client.HTTPException) as e:
            self.rows.append({"what": title, "value": None, "unit": "", "target": None, "met": None, "why": str(e)})
            print(f"  not measured: {e}", flush=True)

    # -- warm, a tiny model -------------------------------------------------------------------------------------------
    def tiny(self):
        self.server.deploy("iris", IRIS, "--idle", "60s")
        file = request_file(self.folder, "iris.http", iris_json("iris"))
        base = floor(IRIS, 1000, self.count(50000), 1, 4)
        self.row("iris 1x4 in-process: p50", base["p50_us"], "us")
        for connections, count in ((1, 20000), (16, 100000)):
            label = f"iris JSON, {connections} connection{'s' if connections > 1 else ''}"
            tool("load", self.server.port, file, connections, 0, self.count(10000))  # starts the instances
            before = {r["pid"]: cpu_ns(r["pid"]) for r in self.server.instances("iris")}
            server_before = cpu_ns(self.server.process.pid)
            load = tool("load", self.server.port, file, connections, 0, self.count(count))
            server = cpu_ns(self.server.process.pid) - server_before
            live = self.server.instances("iris")
            instances = sum(cpu_ns(r["pid"]) - before.get(r["pid"], 0) for r in live)
            if set(before) - {r["pid"] for r in live}:
                raise Unmeasured(f"{label}: an instance ended during the run, its CPU is lost")
            n = load["count"]
            self.row(f"{label}: latency p50", load["p50_us"], "us")
            self.row(f"{label}: latency p99", load["p99_us"], "us")
            if connections == 1:
                self.row(f"{label}: latency p50 over in-process", load["p50_us"] - base["p50_us"], "us")
            self.row(f"{label}: throughput", n / load["seconds"], "req/s")
            self.row(f"{label}: CPU of the server per request", server / n / 1e3, "us")
            self.row(f"{label}: CPU of {len(live)} instance(s) per request", instances / n / 1e3, "us")
            self.row(f"{label}: CPU per request", (server + instances) / n / 1e3, "us", 30 if connections == 16 else None)

    # -- warm, an image -----------------------------------------------------------------------------------------------
    def image(self):
        self.server.deploy("image", IMAGE, "--idle", "60s")
        files = {"binary": request_file(self.folder, "binary.http", image_binary("image")),
                 "JSON": request_file(self.folder, "json.http", image_json("image"))}
        tool("load", self.server.port, files["binary"], 1, 0, 20)
        floors, latencies, ratios = [], {k: [] for k in files}, {k: [] for k in files}
        n = self.count(100)
        for _ in range(3):  # interleaved, so that both sides see the same machine
            base = floor(IMAGE, 5, n, 1, 3, 224, 224)["p50_us"]
            floors.append(base)
            for kind, file in files.items():
                latencies[kind].append(tool("load", self.server.port, file, 1, 5, n)["p50_us"])
                ratios[kind].append(latencies[kind][-1] / base)
        self.row("image 1x3x224x224 in-process: p50", statistics.median(floors) / 1e3, "ms")
        for kind, target in (("binary", 1.10), ("JSON", 2.0)):
            self.row(f"image {kind}, 1 connection: latency p50", statistics.median(latencies[kind]) / 1e3, "ms")
            self.row(f"image {kind}, 1 connection: p50 over in-process p50", statistics.median(ratios[kind]), "ratio", target)

    # -- cold ---------------------------------------------------------------------------------------------------------
    def cold(self, label, endpoint, model, request, wakes, target):
        self.server.deploy(endpoint, model, "--idle", "60s")
        path, headers, body = request
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)

        def post():
            start = time.perf_counter()
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            elapsed = (time.perf_counter() - start) * 1e3
            if answer.status != 200:
                raise Unmeasured(f"{endpoint}: HTTP {answer.status} {text[:200].decode(errors='replace')}")
            timing = dict(p.strip().split(";", 1) for p in answer.headers["Server-Timing"].split(","))
            cold = timing.get("start") == "desc=cold"
            return elapsed, cold, {k: float(v.split("=")[1]) for k, v in timing.items() if v.startswith("dur=")}

        for _ in range(5):
            post()
        warm = statistics.median(post()[0] for _ in range(50))
        self.row(f"{label} warm, same client: latency p50", warm, "ms")
        self.server.deploy(endpoint, model, "--idle", "50ms")
        walls, phases, were_warm = [], {k: [] for k in PHASES}, 0
        while len(walls) < wakes:
            self.server.wait_instances(endpoint, lambda rows: not rows, 15, "scaling to zero")
            elapsed, cold, timing = post()
            if not cold:
                were_warm += 1
                if were_warm > wakes:
                    raise Unmeasured(f"{label}: answers say start;desc=warm although no instance was listed")
                continue
            walls.append(elapsed)
            for k in PHASES:
                phases[k].append(timing.get(k, 0.0))
        connection.close()
        self.row(f"{label} cold, {wakes} wakes: latency p50", percentile(walls, 0.5), "ms")
        self.row(f"{label} cold, {wakes} wakes: latency p99", percentile(walls, 0.99), "ms")
        self.row(f"{label} cold over warm p50: p50", percentile(walls, 0.5) - warm, "ms", target)
        self.row(f"{label} cold over warm p50: p99", percentile(walls, 0.99) - warm, "ms")
        for k in PHASES:
            self.row(f"{label} cold, phase {k}: p50", percentile(phases[k], 0.5), "ms")
            self.row(f"{label} cold, phase {k}: p99", percentile(phases[k], 0.99), "ms")

    # -- memory -------------------------------------------------------------------------------------------------------
    def memory(self, label, endpoint, model, request, counts, target=None):
        """Pages that are an instance's own; `target`, in MB, is for the largest of several."""
        file = request_file(self.folder, endpoint + ".http", request)
        for n in counts:
            self.server.deploy(endpoint, model, "--idle", "60s", "--concurrency", "1", "--min", str(n), "--max", str(n))
            settled = lambda rows: len(rows) == n and len({r["version"] for r in rows}) == 1 and all(r["state"] == "idle" for r in rows)
            self.server.wait_instances(endpoint, settled, 30, f"having {n} instances of one version")
            tool("load", self.server.port, file, n, 0, 20 * n)
            live = self.server.instances(endpoint)
            idlers = sum(1 for r in live if r["requests"] == 0)
            if idlers:
                raise Unmeasured(f"{idlers} of {len(live)} instances got no request, their memory says nothing")
            pids = [r["pid"] for r in live]
            private = [private_bytes(p) for p in pids]
            self.row(f"{label}: private bytes of {len(pids)} instance(s), sum", sum(private) / 1e6, "MB")
            self.row(f"{label}: private bytes of {len(pids)} instance(s), largest", max(private) / 1e6, "MB", target if n > 1 else None)
        self.server.delete(endpoint)

    def run(self):
        self.section("Warm: tiny model", self.tiny)
        self.section("Warm: image", self.image)
        self.section("Cold start: iris", lambda: self.cold("iris", "iris-cold", IRIS, iris_json("iris-cold"), self.count(200), None))
        self.section("Cold start: efficientnet", lambda: self.cold(
            "efficientnet", "image-cold", IMAGE, image_binary("image-cold"), self.count(50), 15))
        self.section("Memory: iris", lambda: self.memory("iris", "iris-memory", IRIS, iris_json("iris-memory"), (1, 10, 100)))
        self.section("Memory: efficientnet", lambda: self.memory("efficientnet", "image-memory", IMAGE, image_binary("image-memory"), (1, 10)))
        self.section("Memory: sentence embedding, 90 MB of weights", lambda: self.memory(
            "minilm", "text-memory", TEXT, text_json("text-memory"), (1, 4), 20))


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((x.split(":", 1)[1].strip() for x in info.splitlines() if x.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) * 1024
    version = subprocess.run([MAYFLY, "version"], capture_output=True, text=True).stdout.strip()
    return {"cpu": model, "cores": os.cpu_count(), "memory_bytes": memory, "kernel": platform.release(), "mayfly": version,
            "load_average": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "root": os.geteuid() == 0}


def main():
    parser = argparse.ArgumentParser(description="measure the release build; writes build/bench/serve.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    arguments = parser.parse_args()
    for program in (MAYFLY, BENCH):
        if not program.exists():
            raise SystemExit(f"bench: {program.relative_to(ROOT)} is missing: run ./dev build")
    facts = machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, load average {facts['load_average']:.1f} at the start")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mayfly-bench-"))
    folder.chmod(0o755)  # the server drops to another user
    server = Server(folder)
    bench = Bench(server, folder, arguments.quick)
    try:
        bench.run()
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
    facts["load_average_end"] = os.getloadavg()[0]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"machine": facts, "rows": bench.rows}, indent=1) + "\n")
    print(f"\nload average {facts['load_average_end']:.1f} at the end; written: {OUT.relative_to(ROOT)}")
    return 1 if any("why" in r for r in bench.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
