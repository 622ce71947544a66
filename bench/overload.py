#!/usr/bin/env python3
"""Ten times more requests than one instance can serve: what becomes of those that are admitted, and of the others.

    python3 bench/overload.py [--seconds 20] [--times 10]

One endpoint whose run takes about RUN_MS, held to one instance, so that on a machine with two processors or more the load
generator and the server do not take the time of the model. Its closed-loop peak is measured before and after; between them
requests arrive evenly at ten times that rate, whatever becomes of them, each with DEADLINE_MS. Latencies count from the time
that a request was due. Refused is what was answered 429 or 503. Prints a table and writes build/bench/overload.json.
Exit status: 0 all rows measured, met or not; 1 a row could not be measured (it says why).
"""
import argparse
import http.client
import json
import statistics
import sys
import threading
import time

from common import COUNT, Folder, Rows, Server, Unmeasured, bytes_file, count_json, load, need_binaries, request_file, rollup_bytes, tool

RUN_MS = 4.0
DEADLINE_MS = 250
CONNECTIONS = 1024  # of the overload; the peak is the best of PEAK_CONNECTIONS
PEAK_CONNECTIONS = (4, 8, 16)
PEAK_SECONDS = 4
GOODPUT, REFUSAL_MS = 0.95, 5
RSS_GROWTH_MB, RSS_FLAT = 64, 1.05  # over the idle server; the last quarter of the run over the second
SAMPLE_SECONDS = 0.2


class Memory(threading.Thread):
    """Samples the resident memory of the server's process until stop()."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.bytes, self.ended = pid, [], threading.Event()

    def run(self):
        while not self.ended.wait(SAMPLE_SECONDS):
            self.bytes.append(rollup_bytes(self.pid, "Rss"))

    def stop(self):
        self.ended.set()
        self.join()
        if len(self.bytes) < 8:
            raise Unmeasured(f"only {len(self.bytes)} samples of the server's memory")
        return self.bytes


def ask(server, n):
    """(milliseconds of the run, the answer's number) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    path, headers, body = count_json("count", n)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise Unmeasured(f"HTTP {answer.status} {text[:200].decode(errors='replace')}")
    timing = dict(p.strip().split(";dur=", 1) for p in answer.headers["Server-Timing"].split(",") if ";dur=" in p)
    return float(timing["infer"]), json.loads(text)["outputs"][0]["data"][0], text


def calibrate(server):
    """How often the model has to loop for RUN_MS."""
    n = 20_000
    for _ in range(3):
        fastest = min(ask(server, n)[0] for _ in range(7))
        n = max(100, int(n * RUN_MS / fastest))
    return n


def peak(server, file, expect):
    best = 0
    for connections in PEAK_CONNECTIONS:
        got = load(server.port, file, connections, 0, expect=expect, seconds=PEAK_SECONDS)
        best = max(best, got["count"] / got["seconds"])
    return best


def of(report, *outcomes):
    """Requests with these outcomes, and the largest of their 99th percentiles in ms."""
    found = [report["classes"][o] for o in outcomes if o in report["classes"]]
    return sum(f["count"] for f in found), max((f["p99_us"] for f in found), default=0) / 1e3


def overload(server, folder, rows, seconds, times):
    server.deploy("count", COUNT, "--max", "1", "--idle", "60s", "--timeout", "30s")
    n = calibrate(server)
    server.deploy("count", COUNT, "--max", "1", "--idle", "60s", "--timeout", f"{DEADLINE_MS}ms")
    run_ms, total, text = min(ask(server, n) for _ in range(7))
    if total != n:
        raise Unmeasured(f"count.onnx answered {total} for {n}")
    file = request_file(folder, "count.http", count_json("count", n))
    expect = bytes_file(folder, "count.expect", text[text.index(b'"data":'):])
    before = peak(server, file, expect)
    idle_rss = rollup_bytes(server.process.pid, "Rss")
    memory = Memory(server.process.pid)
    memory.start()
    got = tool("load", "--port", server.port, "--request", file, "--expect", expect, "--connections", CONNECTIONS, "--rate",
               before * times, "--seconds", seconds, "--timeout", 30, "--tolerate")
    rss = memory.stop()
    after = peak(server, file, expect)
    top = statistics.mean((before, after))

    admitted, admitted_p99 = of(got, "200")
    refused, refused_p99 = of(got, "429", "503")
    late, _ = of(got, "504")
    broken, _ = of(got, "other", "wrong", "cut", "hung")
    rows.row("one instance: run time", run_ms, "ms")
    rows.row("closed loop: peak goodput, mean of before and after", top, "req/s")
    rows.row(f"open loop: arrivals, {times:g} times the peak", before * times, "req/s")
    rows.row("overload: goodput of admitted over the peak", got["ok_in_time"] / seconds / top, "ratio", at_least=GOODPUT)
    rows.row(f"overload: latency p99 of {admitted} admitted and answered", admitted_p99, "ms", DEADLINE_MS)
    if refused:
        rows.row(f"overload: latency p99 of {refused} refused", refused_p99, "ms", REFUSAL_MS)
    else:
        rows.missing("overload: latency p99 of the refused", f"none was refused; {late} were admitted and missed their deadline")
    rows.row("overload: admitted that missed their deadline (504), of all", late / (before * times * seconds), "ratio")
    rows.row("overload: cut, hung, wrong or failed otherwise, or not sent", broken + got["unsent"], "requests", 0)
    rows.row("overload: resident memory of the server, peak over idle", (max(rss) - idle_rss) / 1e6, "MB", RSS_GROWTH_MB)
    quarter = len(rss) // 4
    flat = statistics.median(rss[3 * quarter:]) / statistics.median(rss[quarter:2 * quarter])
    rows.row("overload: resident memory of the server, last quarter over second", flat, "ratio", RSS_FLAT)
    rows.row("after it: goodput over that before", after / before, "ratio", at_least=GOODPUT)
    rows.row("load generator: p99 of sending late", got["lag_p99_us"] / 1e3, "ms")
    rows.row("load generator: CPU", got["client_cpu_s"] / got["seconds"], "cores")


def main():
    parser = argparse.ArgumentParser(description="goodput, latencies and memory under ten times the load; writes build/bench/overload.json")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--times", type=float, default=10)
    arguments = parser.parse_args()
    need_binaries()
    rows = Rows("overload")
    with Folder() as folder:
        server = Server(folder)
        try:
            rows.section("Overload", lambda: overload(server, folder, rows, arguments.seconds, arguments.times))
        finally:
            server.close()
    return rows.write()


if __name__ == "__main__":
    sys.exit(main())
