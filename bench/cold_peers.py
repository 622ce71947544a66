"""What ./dev bench-cold puts beside Mayfly: a worker that is forked and executed for each request, and Triton loading a model."""
import glob
import http.client
import statistics
import time

from common import DEPS, Unmeasured, percentile, tool
from peers import START_SECONDS, Triton, post


def fork_exec(rows, cold, model):
    """No isolation, no server: the time from before the fork until the worker has answered, from the model and from our artefact."""
    label, endpoint, path, _, _, _ = model
    libraries = sorted(glob.glob(str(DEPS / "onnxruntime/libonnxruntime.so*")))
    if not libraries:
        raise Unmeasured("no libonnxruntime.so: run ./dev setup")
    artefacts = cold.deploy(f"{endpoint}-fork", path, {})
    files = [("the .onnx file", path, "onnx")]
    files += [("our artefact", max(artefacts, key=lambda f: f.stat().st_size), "ort")] if artefacts else []
    for what, file, kind in files:
        got = tool("fork-exec", libraries[-1], file, kind, cold.count(200 if kind == "ort" else 50))
        rows.row(f"{label}: fork and exec of a worker on {what}, {got['count']} times, p50", got["p50_us"] / 1e3, "ms")
        rows.row(f"{label}: fork and exec of a worker on {what}, {got['count']} times, p99", got["p99_us"] / 1e3, "ms")
    cold.server.delete(f"{endpoint}-fork")


class ExplicitTriton(Triton):
    """Loads what it is told to load."""

    def command(self):
        return (*super().command(), "--model-control-mode", "explicit")

    def start(self):
        self.install()
        self.run()
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Unmeasured(f"Triton did not start: {(self.folder / 'log').read_text(errors='replace').strip()[-400:]}")
            time.sleep(0.1)

    def ready(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def triton(rows, cold, models):
    """Its load of a model, and the request after it; unloaded in between."""
    peer = ExplicitTriton(cold.folder)
    try:
        peer.start()
        for label, name, _, make, _, _ in models:
            path, headers, body = make(name)
            loads, walls, warms = [], [], []
            for _ in range(cold.count(50)):
                start = time.perf_counter()
                post(peer, f"/v2/repository/models/{name}/load", {}, b"{}")
                loaded = time.perf_counter()
                post(peer, path, headers, body)
                answered = time.perf_counter()
                post(peer, path, headers, body)
                warms.append((time.perf_counter() - answered) * 1e3)
                loads.append((loaded - start) * 1e3)
                walls.append((answered - start) * 1e3)
                post(peer, f"/v2/repository/models/{name}/unload", {}, b"{}")
            rows.row(f"{label}: Triton's load, {len(loads)} times, p50", statistics.median(loads), "ms")
            rows.row(f"{label}: Triton's load and infer over warm, {len(walls)} times, p50", statistics.median(walls) - statistics.median(warms), "ms")
            rows.row(f"{label}: Triton's load and infer over warm, {len(walls)} times, p99", percentile(walls, 0.99) - statistics.median(warms), "ms")
    finally:
        peer.close()
