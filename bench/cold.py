#!/usr/bin/env python3
"""What a start costs, and what endpoints at zero cost: prints a table and writes build/bench/cold.json.

    python3 bench/cold.py [--quick] [--only WORD] [--endpoints N]

Each wake is one HTTP request to an endpoint that has no instance, timed until its answer is read; the request after it is the
warm one that it is compared with, over the same connection of the same client. "Only on disk": the artefact's pages were dropped
from the page cache, which mincore confirms before each wake; the disk's bandwidth is a read of the same file with O_DIRECT in the
same minute. Every request carries a key and is logged. Beside it: a worker that is forked and executed for each request, and
Triton's load of a model with the request that follows. Needs what bench/run.py needs, and root. Exit status: 0 all rows measured,
met or not; 1 a row could not be measured (it says why).
"""
import argparse
import ctypes
import http.client
import json
import mmap
import os
import selectors
import socket
import statistics
import sys
import time

import cold_peers
import cold_zero
from common import (IMAGE, IRIS, TEXT, Folder, Rows, Server, Unmeasured, image_binary, iris_json, load, need_binaries, percentile,
                    request_file, text_json, tree_cpu_ns)
from run import Bench

PHASES = ("queue", "fork", "isolate", "map", "init", "infer", "total")
WAKES = 200
IDLE = "50ms"
REST_SECONDS = 0.01  # between the end of an instance and the next wake, for what ends it to be done
HELD_SECONDS = 0.1
BURST, BURSTS = 100, 10
START_ENDPOINTS, START_CONNECTIONS, START_SECONDS = 64, 8, 10
DIRECT_BLOCK = 8 << 20

# label, endpoint, model, request, targets over warm: p50 and p99, milliseconds
TINY = ("iris", "iris", IRIS, iris_json, 3, 10)
CONVOLUTION = ("efficientnet, 18 MB", "image", IMAGE, image_binary, 8, 30)
LARGE = ("minilm, 90 MB", "text", TEXT, text_json, 10, None)
MODELS = (TINY, CONVOLUTION, LARGE)


# -- the page cache and the disk --------------------------------------------------------------------------------------
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def resident_pages(file):
    """Pages of the file that are in memory."""
    with open(file, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0)
        pages = (ctypes.c_ubyte * ((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE))()
        try:
            if libc.mincore(at, size, pages) != 0:
                raise Unmeasured(f"mincore: {os.strerror(ctypes.get_errno())}")
        finally:
            libc.munmap(at, size)
    return sum(p & 1 for p in pages)


def drop(file):
    """Takes the file out of the page cache. A mapping that is just being torn down holds its pages for a moment."""
    for _ in range(100):
        fd = os.open(file, os.O_RDONLY)
        os.fdatasync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        if (left := resident_pages(file)) == 0:
            return
        time.sleep(0.005)
    raise Unmeasured(f"{left} pages of {file.name} stay in the page cache")


def direct_bandwidth(file):
    """Bytes a second of a read that goes around the page cache."""
    fd = os.open(file, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, DIRECT_BLOCK) as block:
            start, at = time.perf_counter(), 0
            while n := os.preadv(fd, [block], at):
                at += n
                if n < DIRECT_BLOCK:
                    break
            return at / (time.perf_counter() - start)
    finally:
        os.close(fd)


# -- one endpoint -----------------------------------------------------------------------------------------------------
class Caller:
    """One connection to one endpoint."""

    def __init__(self, server, request):
        self.path, headers, self.body = request
        self.headers = headers | server.headers()
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def post(self):
        """(milliseconds, whether it was cold, its phases)"""
        start = time.perf_counter()
        self.connection.request("POST", self.path, self.body, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        elapsed = (time.perf_counter() - start) * 1e3
        if answer.status != 200:
            raise Unmeasured(f"{self.path}: HTTP {answer.status} {text[:200].decode(errors='replace')}")
        timing = dict(p.strip().split(";", 1) for p in answer.headers["Server-Timing"].split(","))
        return elapsed, timing.get("start") != "desc=warm", {k: float(v.split("=")[1]) for k, v in timing.items() if v.startswith("dur=")}


class Cold:
    def __init__(self, server, folder, rows, quick):
        self.server, self.folder, self.rows, self.quick = server, folder, rows, quick
        self.row = rows.row

    def count(self, full):
        return max(5, full // 10) if self.quick else full

    def deploy(self, endpoint, model, spec):
        """The artefacts that the deploy has made."""
        if not model.exists():
            raise Unmeasured(f"{model.name} is missing: run scripts/dev/models.sh --all")
        artefacts = self.folder / "data/artefacts"
        before = set(artefacts.iterdir())
        self.server.apply(endpoint, model, spec)
        return sorted(set(artefacts.iterdir()) - before)

    def wake(self, endpoint, request, before=lambda: None):
        """WAKES pairs of a cold answer and the second one after it: ([ms], [ms], phases, warm phases)."""
        caller, cold, warm, phases, warm_phases, misses = Caller(self.server, request), [], [], [], [], 0
        while len(cold) < self.count(WAKES):
            self.server.wait_instances(endpoint, lambda rows: not rows, 15, "scaling to zero")
            time.sleep(REST_SECONDS)
            before()
            elapsed, was_cold, timing = caller.post()
            caller.post()
            again = caller.post()
            if not was_cold:
                misses += 1
                if misses > WAKES:
                    raise Unmeasured(f"{endpoint}: answers say start;desc=warm although no instance was listed")
                continue
            cold.append(elapsed)
            phases.append(timing)
            if not again[1]:
                warm.append(again[0])
                warm_phases.append(again[2])
        caller.connection.close()
        return cold, warm, phases, warm_phases

    def tell(self, label, cold, warm, p50, p99):
        base = statistics.median(warm)
        self.row(f"{label}: warm, p50", base, "ms")
        self.row(f"{label}: cold over warm, {len(cold)} wakes, p50", percentile(cold, 0.5) - base, "ms", p50)
        self.row(f"{label}: cold over warm, {len(cold)} wakes, p99", percentile(cold, 0.99) - base, "ms", p99)

    def tell_phases(self, label, phases, kinds=PHASES):
        for k in kinds:
            values = [p.get(k, 0.0) for p in phases]
            self.row(f"{label}: phase {k}, p50", percentile(values, 0.5), "ms")

    # -- wakes --------------------------------------------------------------------------------------------------------
    def wakes(self, label, endpoint, model, make, p50, p99):
        artefacts = self.deploy(endpoint, model, {"idle": IDLE})
        self.row(f"{label}: artefact", sum(f.stat().st_size for f in artefacts) / 1e6, "MB")
        cold, warm, phases, warm_phases = self.wake(endpoint, make(endpoint))
        self.tell(f"{label}, artefact in memory", cold, warm, p50, p99)
        self.tell_phases(f"{label}, artefact in memory, cold", phases)
        self.tell_phases(f"{label}, artefact in memory, warm", warm_phases, ("queue", "infer", "total"))
        if endpoint == TINY[1]:
            self.row("isolation's share of a start, p50", percentile([p["isolate"] for p in phases], 0.5), "ms", 1)
        else:
            self.from_disk(label, endpoint, make(endpoint), artefacts, endpoint == LARGE[1])
        self.server.delete(endpoint)

    def from_disk(self, label, endpoint, request, artefacts, has_target):
        size, rates = sum(f.stat().st_size for f in artefacts), []

        def before():
            rates.append(direct_bandwidth(max(artefacts, key=lambda f: f.stat().st_size)))
            for file in artefacts:
                drop(file)

        cold, warm, phases, _ = self.wake(endpoint, request, before)
        rate = statistics.median(rates)
        limit = size / (0.8 * rate) * 1e3 + 10
        self.row(f"{label}: disk bandwidth, O_DIRECT", rate / 1e6, "MB/s")
        self.tell(f"{label}, artefact only on disk", cold, warm, limit if has_target else None, None)
        self.tell_phases(f"{label}, artefact only on disk, cold", phases)

    # -- many at once -------------------------------------------------------------------------------------------------
    def burst(self):
        """BURST connections ask at once, of an endpoint whose instances take one request at a time. Few instances are enough
        for that, so beside it: as many instances as there were connections, asked for by a wake."""
        self.deploy("burst", IRIS, {"idle": IDLE, "max": BURST, "concurrency": 1, "batch": {"max": 1}})
        firsts, lasts, started = [], [], []
        for _ in range(self.count(BURSTS)):
            self.server.wait_instances("burst", lambda rows: not rows, 15, "scaling to zero")
            time.sleep(0.2)  # blanks are made ahead again
            times = self.ask_at_once(iris_json("burst"), BURST)
            started.append(len(self.server.instances("burst")))
            firsts.append(times[0])
            lasts.append(times[-1])
        label = f"iris, 0 to {BURST} instances, {len(firsts)} times"
        self.row(f"{label}: first answer, p50", statistics.median(firsts), "ms", 10)
        self.row(f"{label}: last answer, p50", statistics.median(lasts), "ms", 150)
        self.row(f"{label}: last answer, largest", max(lasts), "ms")
        self.row(f"{label}: instances that were started, p50", statistics.median(started), "")
        self.server.delete("burst")
        self.deploy("burst-wake", IRIS, {"idle": "1s", "max": BURST})
        ready = []
        for _ in range(self.count(BURSTS)):
            self.server.wait_instances("burst-wake", lambda rows: not rows, 15, "scaling to zero")
            time.sleep(0.2)
            ready.append(self.wake_all("burst-wake", BURST))
        self.row(f"iris, woken with {BURST} instances, {len(ready)} times: all ready, p50", statistics.median(ready), "ms")
        self.server.delete("burst-wake")

    def wake_all(self, endpoint, n):
        """Milliseconds until n instances are ready, as seen by asking every 2 ms."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        start = time.perf_counter()
        connection.request("POST", f"/admin/v1/endpoints/{endpoint}/wake?instances={n}", headers=self.server.headers())
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise Unmeasured(f"wake: HTTP {answer.status}")
        self.server.wait_instances(endpoint, lambda rows: sum(r["state"] == "idle" for r in rows) == n, 15, f"having {n} instances")
        return (time.perf_counter() - start) * 1e3

    def ask_at_once(self, request, n):
        """Milliseconds until each of n answers, sorted."""
        file = request_file(self.folder, "burst.http", (request[0], request[1] | self.server.headers(), request[2])).read_bytes()
        sockets = [socket.create_connection(("127.0.0.1", self.server.port)) for _ in range(n)]
        poll, times = selectors.DefaultSelector(), []
        for s in sockets:
            poll.register(s, selectors.EVENT_READ)
        start = time.perf_counter()
        for s in sockets:
            s.sendall(file)
        while len(times) < n:
            ready = poll.select(30)
            if not ready:
                raise Unmeasured(f"{n - len(times)} of {n} answers did not come within 30 s")
            for key, _ in ready:
                text = key.fileobj.recv(65536)
                if not text.startswith(b"HTTP/1.1 200"):
                    raise Unmeasured(f"an answer is {text[:200].decode(errors='replace')}")
                times.append((time.perf_counter() - start) * 1e3)
                poll.unregister(key.fileobj)
        for s in sockets:
            s.close()
        poll.close()
        return times

    def starts(self):
        """Closed loops over many endpoints whose instances end as soon as they have answered."""
        files = []
        for i in range(START_ENDPOINTS):
            self.deploy(f"start-{i}", IRIS, {"idle": "0s", "max": 1})
            files.append(request_file(self.folder, f"start-{i}.http", iris_json(f"start-{i}")))
        run = lambda seconds: load(self.server.port, files[0], START_CONNECTIONS, 0, key=self.server.key, others=files[1:], seconds=seconds)
        run(1)
        before, cpu = self.cold_answers(), tree_cpu_ns(self.server.process.pid)
        got = run(self.count(START_SECONDS))
        cold, cpu = self.cold_answers() - before, tree_cpu_ns(self.server.process.pid) - cpu
        label = f"iris, {START_ENDPOINTS} endpoints asked in turn by {START_CONNECTIONS} connections"
        self.row(f"{label}: starts per second", cold / got["seconds"], "/s", at_least=300)
        self.row(f"{label}: CPU of a start, request and end included, all processes", cpu / cold / 1e6, "ms")
        self.row(f"{label}: part of the answers that was cold", cold / got["count"], "")
        self.row(f"{label}: answer, p50", got["p50_us"] / 1e3, "ms")
        self.row(f"{label}: answer, p99", got["p99_us"] / 1e3, "ms")
        for i in range(START_ENDPOINTS):
            self.server.delete(f"start-{i}")

    def cold_answers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        connection.request("GET", "/metrics", headers=self.server.headers())
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(int(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("mayfly_cold_starts_total{"))

    # -- what the ladder holds ahead ----------------------------------------------------------------------------------
    def held(self, what, endpoint, spec, state, target):
        """Requests that find what is held for the endpoint: an instance in that state, and nobody has asked for a while."""
        self.deploy(endpoint, IRIS, {"idle": IDLE} | spec)
        caller, over = Caller(self.server, iris_json(endpoint)), []
        while len(over) < self.count(WAKES):
            self.server.wait_instances(endpoint, lambda rows: rows and all(r["state"] == state for r in rows), 15, f"having only {what} instances")
            time.sleep(HELD_SECONDS)
            first = caller.post()[0]
            caller.post()
            over.append(first - caller.post()[0])
        self.row(f"iris: {what} over warm, {len(over)} wakes, p50", percentile(over, 0.5), "ms", target)
        self.row(f"iris: {what} over warm, {len(over)} wakes, p99", percentile(over, 0.99), "ms")
        self.server.delete(endpoint)

    def sections(self, arguments):
        found = {f"Wakes: {m[0]}": lambda m=m: self.wakes(*m) for m in MODELS}
        found |= {
            "Parked over warm": lambda: self.held("parked", "parked", {"parked": 1}, "parked", 4),
            "Provisioned over warm": lambda: self.held("provisioned", "provisioned", {"provisioned": 1}, "idle", None),
            "Burst: 0 to 100 instances": self.burst,
            "Starts per second": self.starts,
            "Private memory of further instances: minilm": lambda: Bench(self.server, self.folder, self.rows, self.quick).memory(
                "minilm, 90 MB", "text-memory", TEXT, text_json("text-memory"), (1, 4), 12),
        }
        found |= {f"Fork and exec for each request: {m[0]}": lambda m=m: cold_peers.fork_exec(self.rows, self, m) for m in MODELS}
        found["Triton: load and infer"] = lambda: cold_peers.triton(self.rows, self, (TINY, CONVOLUTION))
        return found


def main():
    parser = argparse.ArgumentParser(description="measure cold starts and endpoints at zero; writes build/bench/cold.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of the wakes and of the endpoints")
    parser.add_argument("--only", default="", metavar="WORD", help="only the sections with this word in their title")
    parser.add_argument("--endpoints", type=int, default=cold_zero.ENDPOINTS, help="at zero, 10,000 by default")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root")
    need_binaries()
    endpoints = arguments.endpoints // 10 if arguments.quick else arguments.endpoints
    rows = Rows("cold")
    wanted = lambda title: arguments.only.lower() in title.lower()
    with Folder() as folder:
        server = Server(folder, keys=True)
        try:
            for title, section in Cold(server, folder, rows, arguments.quick).sections(arguments).items():
                if wanted(title):
                    rows.section(title, section)
        finally:
            server.close()
    if wanted(title := "Endpoints at zero"):
        with Folder() as folder:
            rows.section(title, lambda: cold_zero.measure(rows, folder, endpoints))
    return rows.write()


if __name__ == "__main__":
    sys.exit(main())
