"""Between zero and warm: parked and provisioned instances, budgets, eviction, explain."""

import http.client
import json
import os
import signal
import socket
import threading
import time

import harness
import pytest
from harness import MODELS, Server, alive, rows, wait_for

X, _ = rows("iris", 4)


def check(server, name="iris"):
    return start_of(harness.check(server, name))


def start_of(answer):
    return answer.headers["Server-Timing"].split(",")[0].split("=")[1]


def admin(server, path, method="GET", body=None):
    answer = server.http(f"/admin/v1/{path}", method, body)
    assert answer.status == 200, answer.body
    return answer.json()


def explain(server, name="iris"):
    return admin(server, f"endpoints/{name}/explain")


def in_state(server, state, count=1, name="iris"):
    def look():
        found = server.instances(name)
        return found if len(found) == count and all(i["state"] == state for i in found) else None
    return wait_for(look, f"{count} instances in state {state}")


def state_letter(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


@pytest.fixture
def server():
    with Server() as s:
        yield s


def test_a_parked_instance_is_stopped_and_answers(server):
    server.deploy("iris", "iris_logreg.onnx", "--parked", "1", "--idle", "50ms")
    [parked] = in_state(server, "parked")
    wait_for(lambda: state_letter(parked["pid"]) == "T", "the process to be stopped")
    assert check(server) == "parked"
    told = explain(server)
    assert [e["event"] for e in told["events"]][-1] in ("resumed", "parked")
    assert told["next_request"]["finds"] in ("warm", "parked")
    [again] = in_state(server, "parked")
    assert again["pid"] == parked["pid"]
    assert told["held"] == {"warm": 0, "parked": 1, "reason": "the setting parked"}


def test_a_parked_process_takes_no_cpu_and_dies_when_killed(server):
    server.deploy("iris", "iris_logreg.onnx", "--parked", "1", "--idle", "0ms")
    [parked] = in_state(server, "parked")
    wait_for(lambda: state_letter(parked["pid"]) == "T", "the process to be stopped")
    os.kill(parked["pid"], signal.SIGKILL)
    wait_for(lambda: not alive(parked["pid"]), "it to die")
    def replaced():
        found = server.instances("iris")
        return found and found[0]["pid"] != parked["pid"] and found[0]["state"] == "parked"
    wait_for(replaced, "another to be parked")
    assert check(server) == "parked"


def parked_and_alive(server, count):
    pids = [i["pid"] for i in server.instances("iris") if i["state"] == "parked" and alive(i["pid"])]
    return pids if len(pids) == count else None


def test_killed_while_it_is_woken_no_request_is_lost(server):
    server.deploy("iris", "iris_logreg.onnx", "--parked", "2", "--idle", "0ms", "--concurrency", "1")
    for round in range(10):
        pids = wait_for(lambda: parked_and_alive(server, 2), "two parked instances")  # not the one killed last
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(server.infer("iris", X))) for _ in range(4)]
        for t in threads:
            t.start()
        os.kill(pids[round % 2], signal.SIGKILL)
        for t in threads:
            t.join()
        assert [a.status for a in answers] == [200] * 4, [a.body for a in answers]


def test_the_server_ends_with_parked_instances(server):
    server.deploy("iris", "iris_logreg.onnx", "--parked", "2", "--idle", "0ms")
    pids = [i["pid"] for i in in_state(server, "parked", 2)]
    assert server.stop() == 0
    wait_for(lambda: not any(alive(p) for p in pids), "the parked ones to end")


def test_a_lost_launcher_leaves_no_parked_process(server):
    server.deploy("iris", "iris_logreg.onnx", "--parked", "1", "--idle", "0ms")
    [parked] = in_state(server, "parked")
    os.kill(server.zygote(), signal.SIGKILL)
    wait_for(lambda: not alive(parked["pid"]), "the parked one to end with its zygote")
    in_state(server, "parked")
    assert check(server) == "parked"


def test_provisioned_instances_are_warm_before_anybody_asks(server):
    server.deploy("iris", "iris_logreg.onnx", "--provisioned", "2", "--idle", "0ms", "--concurrency", "1")
    in_state(server, "idle", 2)
    assert check(server) == "warm"
    time.sleep(0.5)
    assert len(server.instances("iris")) == 2
    told = explain(server)
    assert told["held"]["reason"] == "the setting provisioned" and told["state"] == "warm"


def test_a_window_that_is_not_open_holds_nothing(server):
    now = time.gmtime()
    hour = (now.tm_hour + 6) % 24
    server.deploy("iris", "iris_logreg.onnx", "--provisioned", f"2@mon-sun@{hour:02}:00-{(hour + 1) % 24:02}:00")
    time.sleep(0.5)
    assert server.instances("iris") == []
    server.deploy("iris", "iris_logreg.onnx", "--provisioned", f"2@mon-sun@{(hour + 17) % 24:02}:00-{(hour + 20) % 24:02}:00")
    in_state(server, "idle", 2)


def test_bad_windows_are_refused(server):
    for flag, words in [("1@noday", "days"), ("1@mon@25:00-26:00", "time of the day"), ("x", "--provisioned"),
                        ("11", "above max")]:
        done = server.cli("deploy", "iris", MODELS / "iris_logreg.onnx", "--provisioned", flag, check=False)
        assert done.returncode != 0 and words in done.stderr, done.stderr
    assert admin(server, "endpoints")["endpoints"] == []


def test_a_budget_holds_the_least_that_keeps_it(server):
    server.deploy("roomy", "iris_logreg.onnx", "--cold-start-budget-ms", "60000", "--idle", "0ms")
    wait_for(lambda: explain(server, "roomy")["cold_start_budget"]["kept"] and not server.instances("roomy"), "zero")
    server.deploy("tight", "iris_logreg.onnx", "--cold-start-budget-ms", "1", "--idle", "0ms")
    wait_for(lambda: server.instances("tight"), "something to be held")
    told = explain(server, "tight")
    assert told["held"]["warm"] + told["held"]["parked"] == 1 and told["held"]["reason"].startswith("cold_start_budget_ms")


@pytest.mark.parametrize("stop", (lambda s: s.stop(), lambda s: s.kill9()), ids=("stopped", "killed"))
def test_what_a_start_costs_is_known_after_a_restart(server, stop):
    server.deploy("iris", "iris_logreg.onnx", "--idle", "0s")
    assert server.infer("iris", X).status == 200
    wait_for(lambda: not server.instances("iris"), "zero")
    before = explain(server, "iris")["next_request"]
    assert before["finds"] == "cold" and before["wait_ms"] > 0
    stop(server)
    server.start()
    after = explain(server, "iris")
    assert after["counts"]["starts"] == 0 and after["next_request"]["wait_ms"] > 0
    assert server.infer("iris", X).status == 200


def test_wake_starts_without_a_request(server):
    server.deploy("iris", "iris_logreg.onnx", "--idle", "60s", "--concurrency", "1")
    assert explain(server)["state"] == "cold"
    woken = admin(server, "endpoints/iris/wake?instances=3", "POST", {})
    assert woken["instances"] == 3
    in_state(server, "idle", 3)
    assert check(server) == "warm"


def test_a_full_node_evicts_what_is_idle_and_says_so():
    # A trial, of which nothing is known, counts as 64 MiB; beside it there is room for one instance of iris (0.4 MB).
    with Server("--memory-budget", str((64 << 20) + 600_000)) as server:
        for n in range(4):
            server.deploy(f"e{n}", "iris_logreg.onnx", "--idle", "60s", "--max", str(n + 1))  # others' settings: tried anew
            assert check(server, f"e{n}") == "cold"
        node = admin(server, "node")["memory"]
        assert node["used_bytes"] <= node["budget_bytes"] == (64 << 20) + 600_000
        told = [explain(server, f"e{n}") for n in range(4)]
        assert sum(t["counts"]["evictions"] for t in told) >= 2
        evicted = next(t for t in told if t["counts"]["evictions"])
        assert "memory budget" in evicted["last_eviction"] and "needed" in evicted["last_eviction"]
        shown = server.cli("explain", evicted["name"]).stdout
        assert "evicted" in shown and "EVENT" in shown
        assert check(server, evicted["name"]) == "cold"


CLIENT, STRANGER = "127.0.0.2", "127.0.0.3"  # not the address that looks at the server's state: each connection counts


def connection(server, address=CLIENT):
    host, port = server.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10, source_address=(address, 0))


def ask_from(server, address, name):
    host, port = server.address.rsplit(":", 1)
    client = http.client.HTTPConnection(host, int(port), timeout=10, source_address=(address, 0))
    body = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": list(X.shape), "data": X.ravel().tolist()}]})
    client.request("POST", f"/v2/models/{name}/infer", body)
    answer = client.getresponse()
    assert answer.status == 200, answer.read()
    client.close()
    return start_of(answer)


def connection_wakes(server, name):
    [line] = [x for x in server.http("/metrics").body.decode().splitlines()
              if x.startswith(f'mayfly_connection_wakes_total{{tenant="default",endpoint="{name}"}}')]
    return int(line.split()[-1])


def at_zero(server, *names):
    wait_for(lambda: not any(server.instances(n) for n in names), "scaling to zero")


def test_a_connection_wakes_what_its_address_asked(server):
    server.deploy("iris", "iris_logreg.onnx", "--wake-on", "connection", "--idle", "200ms")
    server.deploy("other", "iris_logreg.onnx", "--idle", "200ms")
    for name in ("iris", "other"):
        ask_from(server, CLIENT, name)
    at_zero(server, "iris", "other")
    with connection(server):  # says nothing
        in_state(server, "idle")
    assert not server.instances("other")
    assert connection_wakes(server, "iris") >= 1
    assert ask_from(server, CLIENT, "iris") == "warm"


def test_addresses_that_never_asked_wake_nothing(server):
    server.deploy("iris", "iris_logreg.onnx", "--wake-on", "connection", "--idle", "50ms")
    ask_from(server, CLIENT, "iris")
    at_zero(server, "iris")
    starts = explain(server)["counts"]["starts"]
    for _ in range(5):
        connection(server, STRANGER).close()
    time.sleep(0.3)
    assert explain(server)["counts"]["starts"] == starts
    assert connection_wakes(server, "iris") == 0


def test_connections_that_ask_nothing_soon_wake_nothing(server):
    server.deploy("iris", "iris_logreg.onnx", "--wake-on", "connection", "--idle", "0s")
    ask_from(server, CLIENT, "iris")
    for _ in range(60):
        connection(server).close()
        at_zero(server, "iris")
    assert 1 <= connection_wakes(server, "iris") <= 20
