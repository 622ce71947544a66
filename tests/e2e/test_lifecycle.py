"""From zero to warm to zero; the loss of every process; redeploys under load; the end of the server."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time

import pytest
from harness import BINARY, Server, alive, check, rows, wait_for

X, Y = rows("iris", 4)


@pytest.fixture
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx", "--idle", "60s")
        yield s


class Load:
    """Requests on several threads until stopped; collects what was not the right answer."""

    def __init__(self, server, threads=4):
        self.server, self.ended, self.count, self.bad = server, threading.Event(), 0, []
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for t in self.threads:
            t.join()

    def run(self):
        while not self.ended.is_set():
            try:
                check(self.server)
                self.count += 1
            except (AssertionError, OSError) as e:
                self.bad.append(repr(e))

    def more(self, n):
        goal = self.count + n
        wait_for(lambda: self.bad or self.count >= goal, f"{n} more answers", 30)


def test_cold_warm_zero(server):
    server.deploy("brief", "iris_logreg.onnx", "--idle", "1s")
    wait_for(lambda: server.get("brief")["state"] == "cold", "zero instances")
    assert "start;desc=cold" in check(server, "brief").headers["Server-Timing"]
    assert "start;desc=warm" in check(server, "brief").headers["Server-Timing"]
    assert server.get("brief")["state"] == "warm"
    pid = server.instances("brief")[0]["pid"]
    wait_for(lambda: server.get("brief")["state"] == "cold", "zero instances")
    wait_for(lambda: not alive(pid), "the end of the process")
    assert "start;desc=cold" in check(server, "brief").headers["Server-Timing"]


def test_kill_of_an_instance_under_requests(server):
    check(server)
    with Load(server) as load:
        for _ in range(3):
            load.more(20)
            found = wait_for(lambda: [i for i in server.instances("iris") if i["state"] in ("idle", "busy")], "one")
            os.kill(found[0]["pid"], signal.SIGKILL)
            wait_for(lambda: found[0]["id"] not in [i["id"] for i in server.instances("iris")], "its end")
        load.more(20)
    assert load.bad == []
    assert server.instances("iris")


def test_kill_of_the_zygote(server):
    check(server)
    old = server.zygote()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: not alive(old), "the zygote's end")
    wait_for(lambda: server.infer("iris", X).status == 200, "an answer")
    server.deploy("other", "iris_logreg.onnx")
    check(server, "other")
    assert server.process.poll() is None and server.zygote() != old


def test_kill_of_the_zygote_leaves_no_instance(server):
    check(server)
    old = [i["pid"] for i in server.instances("iris")]
    os.kill(server.zygote(), signal.SIGKILL)
    wait_for(lambda: not any(alive(p) for p in old), "the end of the zygote's instances")
    check(server)
    every = server.tree()
    assert server.stop() == 0
    wait_for(lambda: not any(alive(p) for p in every), "the end of all processes")


def test_kill_of_the_launcher_ends_the_server_for_its_supervisor(server):
    check(server)
    every = server.tree()
    os.kill(server.launcher(), signal.SIGKILL)
    assert server.process.wait(10) == 1
    assert "supervisor" in server.log_text()
    wait_for(lambda: not any(alive(p) for p in every), "the end of all processes")
    server.start()
    check(server)


def test_kill_of_the_server(server):
    check(server)
    old = server.tree()
    assert len(old) >= 4
    server.kill9()
    wait_for(lambda: not any(alive(p) for p in old), "the end of all processes of the killed server")
    server.start()
    assert server.get("iris")["version"] == 1
    check(server)


def test_second_server_on_the_same_data(server):
    done = subprocess.run([BINARY, "serve", "--data", server.data, "--listen", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "mayfly: " in done.stderr, done.stderr
    check(server)


def test_sigterm_drains(server):
    """A request that has begun when SIGTERM comes is answered; then no process is left."""
    check(server)
    old = server.tree()
    body = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": list(X.shape),
                                   "data": X.ravel().tolist()}]}).encode()
    c = http.client.HTTPConnection(server.address, timeout=30)
    c.putrequest("POST", "/v2/models/iris/infer")
    c.putheader("Content-Length", str(len(body)))
    c.endheaders(body[:100])
    time.sleep(0.2)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: '"event":"stopping"' in server.log_text(), "the beginning of the end")
    time.sleep(0.3)
    c.send(body[100:])
    rs = c.getresponse()
    assert rs.status == 200 and json.loads(rs.read())["outputs"][0]["data"] == Y.tolist()
    assert server.process.wait(15) == 0
    c.close()
    assert '"event":"stopped"' in server.log_text()
    wait_for(lambda: not any(alive(p) for p in old), "the end of all processes")


def test_redeploy_under_requests(server):
    with Load(server) as load:
        load.more(20)
        assert server.deploy("iris", "iris_logreg.onnx", "--idle", "60s")["version"] == 2
        wait_for(lambda: server.infer("iris", X).json()["model_version"] == "2", "the new version")
        load.more(40)
    assert load.bad == []
    assert server.http("/v2/models/iris").json()["versions"] == ["1", "2"]


def test_delete(server):
    check(server)
    pids = [i["pid"] for i in server.instances("iris")]
    server.cli("delete", "iris")
    assert server.infer("iris", X).status == 404 and server.http("/v2/models/iris").status == 404
    assert server.cli("get", "iris", check=False).returncode != 0
    wait_for(lambda: not any(alive(p) for p in pids), "the end of its instances")
    server.stop()
    server.start()
    assert server.http("/v2/models/iris").status == 404
    assert server.deploy("iris", "iris_logreg.onnx")["version"] >= 1
    check(server)


def test_delete_takes_nothing_from_requests_under_way(server):
    """Ten times: a request that runs for a while, a delete meanwhile; the request is answered all the same."""
    for round in range(10):
        server.deploy("count", "count.onnx")
        answers = []

        def count():
            tensor = {"name": "count", "datatype": "INT64", "shape": [1], "data": [200_000]}
            answers.append(server.http("/v2/models/count/infer", "POST", {"inputs": [tensor]}))

        running = threading.Thread(target=count)
        running.start()
        wait_for(lambda: answers or any(i["state"] in ("busy", "starting") for i in server.instances("count")), "a running request")
        server.cli("delete", "count")
        running.join()
        assert answers[0].status == 200, (round, answers[0].body)
        assert server.http("/v2/models/count").status == 404
    wait_for(lambda: not server.instances("count"), "the end of its instances")
