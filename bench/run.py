#!/usr/bin/env python3
"""Measures the release build on this machine, prints a table and writes build/bench/serve.json.

    python3 bench/run.py [--quick] [--only WORD]

The server asks for keys and logs each request; every request carries a key. What is compared with the in-process run of the
same model is measured in the same minute, in turns. Needs build/release/bin/{mayfly,mayfly_bench} and .deps (./dev setup, ./dev
models --all). Exit status: 0 all rows measured, met or not; 1 a row could not be measured (it says why).
"""
import argparse
import http.client
import statistics
import struct
import subprocess
import sys
import time

from common import (DEPS, IMAGE, IRIS, IRIS_ROW, RESULTS, ROOT, TEXT, Folder, Meter, Rows, Server, Unmeasured, bytes_file,
                    floor, grpc, image_binary, image_json, infer_request, iris_json, json_tensor, load, need_binaries,
                    percentile, raw_pixels, request_file, rollup_bytes, text_json)

PHASES = ("queue", "fork", "map", "init", "infer", "total")
MLP = RESULTS / "mlp.onnx"
BATCH_CONNECTIONS = 64
UNBATCHED = {"batch": {"max": 1}}  # settings of the endpoint in the two halves of the batching row
BATCHED = {"batch": {"max": 32, "delay": "1ms"}}
IMAGE_RATIOS = {"binary": 1.05, "JSON": 1.4, "gRPC raw": 1.06}  # at most this times the in-process run
ROUNDS = 3


class Bench:
    def __init__(self, server, folder, rows, quick):
        self.server, self.folder, self.rows, self.quick = server, folder, rows, quick
        self.row = rows.row

    def count(self, full):
        return max(5, full // 10) if self.quick else full

    def load(self, file, connections, count, warmup=0, expect=None):
        return load(self.server.port, file, connections, count, warmup, self.server.key, expect)

    # -- warm, a tiny model -------------------------------------------------------------------------------------------
    def tiny(self):
        self.server.deploy("iris", IRIS, "--idle", "60s")
        file = request_file(self.folder, "iris.http", iris_json("iris"))
        expect = bytes_file(self.folder, "iris.expect", b'"data":[0]')
        base = floor(IRIS, 1000, self.count(50000), 1, 4)["p50_us"]
        self.row("iris 1x4 in-process: p50", base, "us")
        for connections, count in ((1, 20000), (16, 100000)):
            label = f"iris JSON, keys and request log, {connections} connection{'s' if connections > 1 else ''}"
            self.load(file, connections, self.count(10000), expect=expect)  # starts the instances
            meter = Meter(self.server, "iris")
            got = self.load(file, connections, self.count(count), expect=expect)
            self.cpu_rows(label, meter, got, 20 if connections == 16 else None)
            self.row(f"{label}: throughput", got["count"] / got["seconds"], "req/s")
            self.row(f"{label}: latency p50", got["p50_us"], "us")
            self.row(f"{label}: latency p99", got["p99_us"], "us")
            if connections == 1:
                self.row(f"{label}: latency p50 over in-process p50", got["p50_us"] - base, "us", 50)
                self.row(f"{label}: latency p99 over in-process p50", got["p99_us"] - base, "us", 150)

    def cpu_rows(self, label, meter, got, target):
        server, instances, alive = meter.stop(label)
        n = got["count"]
        self.row(f"{label}: CPU of the server per request", server / n / 1e3, "us")
        self.row(f"{label}: CPU of {alive} instance(s) per request", instances / n / 1e3, "us")
        self.row(f"{label}: CPU per request", (server + instances) / n / 1e3, "us", target)

    # -- gRPC ---------------------------------------------------------------------------------------------------------
    def grpc(self):
        self.server.deploy("iris", IRIS, "--idle", "60s")
        file = bytes_file(self.folder, "iris.raw", struct.pack("<4f", *IRIS_ROW))
        expect = bytes_file(self.folder, "iris.label", struct.pack("<q", 0))  # the first output, raw
        for streams, count, target in ((1, 20000, 18), (16, 100000, 12)):
            label = f"iris gRPC unary, {streams} stream{'s' if streams > 1 else ''}"

            def run(n):
                return grpc(self.server.port, "iris", "input:FP32:1x4", file, streams, n, key=self.server.key, expect=expect)

            run(self.count(10000))
            meter = Meter(self.server, "iris")
            got = run(self.count(count))
            self.cpu_rows(label, meter, got, target)
            self.row(f"{label}: throughput", got["count"] / got["seconds"], "req/s")
            self.row(f"{label}: latency p50", got["p50_us"], "us")
            self.row(f"{label}: latency p99", got["p99_us"], "us")

    # -- batching -----------------------------------------------------------------------------------------------------
    def batching(self):
        """One instance, BATCH_CONNECTIONS closed-loop connections; the same endpoint in turns with and without joining rows."""
        python = DEPS / "venv/bin/python"
        if not python.exists():
            raise Unmeasured("no .deps/venv with onnx to make the model: run ./dev models")
        MLP.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, ROOT / "bench/make_mlp.py", MLP], check=True)
        row = [round((i * 7 % 16 - 8) / 8, 3) for i in range(16)]
        spec = {"max": 1, "concurrency": BATCH_CONNECTIONS, "idle": "60s"}
        file = request_file(self.folder, "mlp.http", infer_request("mlp", {"inputs": [json_tensor("x", "FP32", (1, 16), row)]}))
        one = floor(MLP, 50, self.count(2000), 1, 16)["p50_us"]
        joined = floor(MLP, 50, self.count(500), 32, 16)["p50_us"] / 32
        self.row("dense net of 4 MB in-process: one row", one, "us")
        self.row("dense net of 4 MB in-process: a row of a batch of 32", joined, "us")
        rates = {"unbatched": [], "batched": []}
        for _ in range(ROUNDS):
            for kind, settings in (("unbatched", UNBATCHED), ("batched", BATCHED)):
                self.server.apply("mlp", MLP, spec | settings)
                self.load(file, BATCH_CONNECTIONS, self.count(5000))
                got = self.load(file, BATCH_CONNECTIONS, self.count(30000))
                rates[kind].append(got["count"] / got["seconds"])
        for kind, values in rates.items():
            self.row(f"dense net of 4 MB, {BATCH_CONNECTIONS} connections, {kind}: throughput", statistics.median(values), "req/s")
        gain = statistics.median(b / u for u, b in zip(rates["unbatched"], rates["batched"]))
        self.row(f"dense net of 4 MB, {BATCH_CONNECTIONS} connections: batched over unbatched throughput", gain, "ratio", at_least=2)

    # -- warm, an image -----------------------------------------------------------------------------------------------
    def image(self):
        self.server.deploy("image", IMAGE, "--idle", "60s")
        runs = {"binary": request_file(self.folder, "binary.http", image_binary("image")),
                "JSON": request_file(self.folder, "json.http", image_json("image"))}
        calls = {k: lambda n, f=f: self.load(f, 1, n, 5) for k, f in runs.items()}
        raw = bytes_file(self.folder, "image.raw", raw_pixels())
        calls["gRPC raw"] = lambda n: grpc(self.server.port, "image", "image:FP32:1x3x224x224", raw, 1, n, 5, self.server.key)
        broken = {}
        for kind, call in list(calls.items()):
            try:
                call(20)
            except Unmeasured as e:
                broken[kind] = e
                del calls[kind]
        floors, latencies, ratios = [], {k: [] for k in calls}, {k: [] for k in calls}
        n = self.count(100)
        for _ in range(ROUNDS):  # in turns, so that both sides see the same machine
            base = floor(IMAGE, 5, n, 1, 3, 224, 224)["p50_us"]
            floors.append(base)
            for kind, call in calls.items():
                latencies[kind].append(call(n)["p50_us"])
                ratios[kind].append(latencies[kind][-1] / base)
        self.row("image 1x3x224x224 in-process: p50", statistics.median(floors) / 1e3, "ms")
        for kind, target in IMAGE_RATIOS.items():
            label = f"image {kind}, 1 connection: p50 over in-process p50"
            if kind in broken:
                self.rows.missing(label, broken[kind])
                continue
            self.row(f"image {kind}, 1 connection: latency p50", statistics.median(latencies[kind]) / 1e3, "ms")
            self.row(label, statistics.median(ratios[kind]), "ratio", target)

    # -- cold ---------------------------------------------------------------------------------------------------------
    def cold(self, label, endpoint, model, request, wakes, target):
        self.server.deploy(endpoint, model, "--idle", "60s")
        path, headers, body = request
        headers = headers | self.server.headers()
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
            self.server.apply(endpoint, model, {"min": n, "max": n, "idle": "60s", "concurrency": 1, "batch": {"max": 1}})
            settled = lambda rows: len(rows) == n and len({r["version"] for r in rows}) == 1 and all(r["state"] == "idle" for r in rows)
            self.server.wait_instances(endpoint, settled, 30, f"having {n} instances of one version")
            self.load(file, n, 20 * n)
            live = self.server.instances(endpoint)
            idlers = sum(1 for r in live if r["requests"] == 0)
            if idlers:
                raise Unmeasured(f"{idlers} of {len(live)} instances got no request, their memory says nothing")
            pids = [r["pid"] for r in live]
            private = [rollup_bytes(p, "Private_Dirty") for p in pids]
            self.row(f"{label}: private bytes of {len(pids)} instance(s), sum", sum(private) / 1e6, "MB")
            self.row(f"{label}: private bytes of {len(pids)} instance(s), largest", max(private) / 1e6, "MB", target if n > 1 else None)
        self.server.delete(endpoint)

    def sections(self):
        return {
            "Warm: tiny model": self.tiny,
            "Warm: tiny model by gRPC": self.grpc,
            "Warm: batching": self.batching,
            "Warm: image": self.image,
            "Cold start: iris": lambda: self.cold("iris", "iris-cold", IRIS, iris_json("iris-cold"), self.count(200), None),
            "Cold start: efficientnet": lambda: self.cold(
                "efficientnet", "image-cold", IMAGE, image_binary("image-cold"), self.count(50), 15),
            "Memory: iris": lambda: self.memory("iris", "iris-memory", IRIS, iris_json("iris-memory"), (1, 10, 100)),
            "Memory: efficientnet": lambda: self.memory("efficientnet", "image-memory", IMAGE, image_binary("image-memory"), (1, 10)),
            "Memory: sentence embedding, 90 MB of weights": lambda: self.memory(
                "minilm", "text-memory", TEXT, text_json("text-memory"), (1, 4), 20),
        }


def main():
    parser = argparse.ArgumentParser(description="measure the release build; writes build/bench/serve.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--only", default="", metavar="WORD", help="only the sections with this word in their title")
    arguments = parser.parse_args()
    need_binaries()
    rows = Rows("serve")
    with Folder() as folder:
        server = Server(folder, keys=True)
        try:
            for title, section in Bench(server, folder, rows, arguments.quick).sections().items():
                if arguments.only.lower() in title.lower():
                    rows.section(title, section)
        finally:
            server.close()
    return rows.write()


if __name__ == "__main__":
    sys.exit(main())
