"""The rows of ./dev bench-cold about endpoints at zero: what thousands of them cost while nobody asks them anything.

All endpoints have the same model, so that a deploy compiles nothing again and the time goes into what is measured. The server runs
without keys. Memory is Private_Dirty of the server's process: with one endpoint after a restart, with all of them after their
deploys, and with all of them after a restart.
"""
import concurrent.futures
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import threading
import time

from common import IRIS, MAYFLY, Server, Unmeasured, cpu_ns, iris_json, percentile, rollup_bytes, tree

ENDPOINTS = 10_000
DEPLOYS_AT_ONCE = 4  # Control::kMaxDeploysAtOnce
LISTS, IDLE_SECONDS = 20, 20
SETTLE_SECONDS = 3


class Client(threading.local):
    """One connection for each thread."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def call(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Unmeasured(f"{method} {path}: HTTP {answer.status} {text[:200].decode(errors='replace')}")
        return text


def deploy_many(port, model, names, spec=None):
    """Uploads the model once and makes an endpoint of each name; seconds of each deploy."""
    client = Client(port)
    package = json.loads(client.call("POST", "/admin/v1/packages", model.read_bytes()))["digest"]
    body = json.dumps({"package": package, "spec": spec or {}})

    def one(name):
        start = time.perf_counter()
        client.call("POST", f"/admin/v1/endpoints/{name}/versions", body, {"Content-Type": "application/json"})
        return time.perf_counter() - start

    with concurrent.futures.ThreadPoolExecutor(DEPLOYS_AT_ONCE) as pool:
        return list(pool.map(one, names))


def facts(server):
    """(private bytes, descriptors, mappings) of the server's process."""
    pid = server.process.pid
    return (rollup_bytes(pid, "Private_Dirty"), len(os.listdir(f"/proc/{pid}/fd")),
            len(pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()))


def start_seconds(folder):
    start = time.perf_counter()
    server = Server(folder)
    return server, time.perf_counter() - start


def milliseconds(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def measure(rows, folder, endpoints):
    server, _ = start_seconds(folder)
    try:
        deploy_many(server.port, IRIS, ["e-0"])
        server.close()
        server, _ = start_seconds(folder)
        one = facts(server)
        took = deploy_many(server.port, IRIS, [f"e-{i}" for i in range(1, endpoints)])
        server.wait_instances(None, lambda instances: not instances, 60, "scaling to zero")
        deployed = facts(server)
        rows.row(f"{endpoints:,} endpoints of one model: a deploy, p50", percentile(took, 0.5) * 1e3, "ms")
        memory(rows, endpoints, "after their deploys", one, deployed)
        server.close()
        server, seconds = start_seconds(folder)
        rows.row(f"{endpoints:,} endpoints at zero: start-up of the server until it listens", seconds, "s", 2)
        memory(rows, endpoints, "after a restart", one, facts(server))
        lists(rows, server, endpoints)
        pages(rows, server, endpoints)
        idle(rows, server, endpoints)
    finally:
        server.close()


def memory(rows, endpoints, when, one, many):
    label = f"{endpoints:,} endpoints at zero, {when}"
    rows.row(f"{label}: private memory of each", (many[0] - one[0]) / (endpoints - 1) / 1024, "KiB", 16)
    rows.row(f"{label}: descriptors more than with one", many[1] - one[1], "", 0)
    rows.row(f"{label}: mappings more than with one", many[2] - one[2], "")


def lists(rows, server, endpoints):
    client = Client(server.port)

    def get():
        found = len(json.loads(text := client.call("GET", "/admin/v1/endpoints"))["endpoints"])
        if found != endpoints:
            raise Unmeasured(f"the list has {found} endpoints, deployed were {endpoints}")
        return text

    size = len(get())
    # The answer is read, not parsed: the target is the server's time.
    times = [milliseconds(lambda: client.call("GET", "/admin/v1/endpoints")) for _ in range(LISTS)]
    rows.row(f"{endpoints:,} endpoints at zero: GET /admin/v1/endpoints ({size / 1e6:.1f} MB), p50", statistics.median(times), "ms", 100)
    command = [MAYFLY, "--server", f"http://127.0.0.1:{server.port}", "list"]
    times = [milliseconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(LISTS)]
    rows.row(f"{endpoints:,} endpoints at zero: mayfly list, process and all, p50", statistics.median(times), "ms", 100)


def pages(rows, server, endpoints):
    client = Client(server.port)
    for _ in range(3):
        path, headers, body = iris_json("e-7")
        client.call("POST", path, body, headers)
    text = client.call("GET", "/metrics")
    times = [milliseconds(lambda: client.call("GET", "/metrics")) for _ in range(LISTS)]
    rows.row(f"{endpoints:,} endpoints, one of them asked: /metrics", len(text) / 1e3, "kB")
    rows.row(f"{endpoints:,} endpoints, one of them asked: /metrics, p50", statistics.median(times), "ms")


def idle(rows, server, endpoints):
    server.wait_instances(None, lambda instances: not instances, 60, "scaling to zero")
    time.sleep(SETTLE_SECONDS)
    processes = tree(server.process.pid)
    before, start = {pid: cpu_ns(pid) for pid in processes}, time.perf_counter()
    time.sleep(IDLE_SECONDS)
    used, elapsed = sum(cpu_ns(pid) - before[pid] for pid in processes), time.perf_counter() - start
    rows.row(f"{endpoints:,} endpoints at zero: CPU of server, launcher and zygote in {IDLE_SECONDS} s", used / elapsed / 1e7, "% of a core", 0.5)
