"""Load on a server under test by processes of mayfly_bench, each of which checks every answer that it gets.

A Load runs until stop() and then has its report: counts by outcome and the first failures with their times and texts. The
binary is MAYFLY_BENCH of the environment, else the one beside the server's.
"""

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from harness import BINARY, Server, rows, wait_for  # noqa: E402, F401

BENCH = os.environ.get("MAYFLY_BENCH", str(Path(BINARY).with_name("mayfly_bench")))
FOREVER = 1_000_000  # seconds
X, Y = rows("iris", 4)


def http_request(path, body, headers=()):
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer(endpoint, tensor, binary=False):
    """A request with one FP32 tensor (name, array), JSON or binary."""
    name, x = tensor
    if not binary:
        body = {"inputs": [{"name": name, "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}]}
        return http_request(f"/v2/models/{endpoint}/infer", json.dumps(body).encode(), ["Content-Type: application/json"])
    head = json.dumps({"inputs": [{"name": name, "datatype": "FP32", "shape": list(x.shape),
                                   "parameters": {"binary_data_size": x.nbytes}}],
                       "parameters": {"binary_data_output": True}}).encode()
    return http_request(f"/v2/models/{endpoint}/infer", head + x.tobytes(),
                        ["Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(head)}"])


def iris_cases(endpoint, binary=False):
    """Twelve different requests of one to five rows, each with the bytes that the right answer holds: its labels."""
    cases = []
    for i in range(12):
        at, n = i * 3, 1 + i % 5
        labels = Y[at:at + n].tolist()
        right = struct.pack(f"<{n}q", *labels) if binary else f'"data":{json.dumps(labels, separators=(",", ":"))}'.encode()
        cases.append((infer(endpoint, ("input", X[at:at + n]), binary), right))
    return cases


class Load:
    """mayfly_bench in the background. flags: those of `mayfly_bench load`, or of `mayfly_bench grpc`."""

    def __init__(self, name, server, folder, cases, *flags, verb="load"):
        self.name, self.report = name, None
        command = [BENCH, verb, "--port", server.address.rsplit(":", 1)[1], "--tolerate", "--seconds", str(FOREVER)]
        for i, (request, expect) in enumerate(cases):
            for flag, content in (("--request", request), ("--expect", expect)):
                file = folder / f"{name}-{i}{flag}"
                file.write_bytes(content)
                command += [flag, file]
        if server.key:
            command += ["--key", server.key]
        self.process = subprocess.Popen([*map(str, command), *map(str, flags)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)

    def stop(self, seconds=90):
        self.process.send_signal(signal.SIGTERM)
        out, errors = self.process.communicate(timeout=seconds)
        if self.process.returncode != 0:
            self.report = {"count": 0, "classes": {}, "failures": [], "ended": errors.strip()}
        else:
            self.report = json.loads(out)
        return self.report

    def ended(self):
        """Why it ended before stop(), or None."""
        if self.process.poll() is None:
            return None
        return f"load \"{self.name}\" ended by itself: {self.stop().get('ended', 'no request was left')}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def counts(self):
        """Requests by outcome: "200", "429", "503", "504", "other", "wrong", "cut", "hung"."""
        return {name: c["count"] for name, c in self.report.get("classes", {}).items()}

    def problems(self):
        found = [f"{self.name}: {self.report['ended']}"] if self.report.get("ended") else []
        for f in self.report.get("failures", []):
            found.append(f"{self.name}: {f['class']} after {f['us'] / 1e3:.1f} ms at {f['unix_s']:.3f}: {f['text']}")
        return found
