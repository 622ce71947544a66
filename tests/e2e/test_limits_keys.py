"""Limits of keys: refused at once with the time to wait, given back on every way out, kept over a restart."""

import json
import socket
import threading

import pytest
from harness import Server, rows, wait_for

X, Y = rows("iris", 4)
LONG = {"inputs": [{"name": "count", "datatype": "INT64", "shape": [1], "data": [10**11]}]}


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        s.deploy("slow", "count.onnx", "--timeout", "2s", "--max", "4")
        yield s


def create(server, name, *flags):
    made = json.loads(server.cli("keys", "create", name, "--scopes", "invoke", *flags, "-o", "json").stdout)
    return made["id"], {"Authorization": f"Bearer {made['key']}"}


def listed(server, key_id):
    return next(k for k in server.http("/admin/v1/keys").json()["keys"] if k["id"] == key_id)


def under_way(server, key_id):
    return listed(server, key_id)["under_way"]


def send(server, path, headers, body, missing=0):
    """A request on a connection of its own, `missing` bytes short of its body."""
    s = socket.create_connection(server.address.split(":"))
    head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body) + missing}\r\n\r\n".encode() + body)
    return s


def test_over_its_rate_a_key_is_told_when_to_come_back(server):
    _, key = create(server, "rated", "--rate", "0.02", "--burst", "3")
    answers = [server.infer("iris", X, headers=key) for _ in range(5)]
    assert [a.status for a in answers] == [200, 200, 200, 429, 429]
    for a in answers[3:]:
        assert a.headers["Mayfly-Reason"] == "rate_limited" and 30 <= int(a.headers["Retry-After"]) <= 50
    _, other = create(server, "other")
    assert server.infer("iris", X, headers=other).status == 200 and server.infer("iris", X).status == 200


def test_the_wait_that_is_told_is_enough(server):
    _, key = create(server, "soon", "--rate", "2", "--burst", "1")
    assert server.infer("iris", X, headers=key).status == 200
    refused = wait_for(lambda: (a := server.infer("iris", X, headers=key)).status == 429 and a, "a refusal")
    assert refused.headers["Retry-After"] == "1"
    wait_for(lambda: server.infer("iris", X, headers=key).status == 200, "an answer", 1)


def test_concurrency_is_given_back_by_answers_and_errors(server):
    key_id, key = create(server, "one", "--concurrency", "1")
    for _ in range(3):
        assert server.infer("iris", X, headers=key).status == 200
        assert server.http("/v2/models/iris/infer", "POST", b"{", key).status == 400
        assert server.http("/v2/models/iris/infer", "POST", b"", {**key, "Content-Length": str(10**9)}).status == 413
    assert under_way(server, key_id) == 0


def test_a_second_request_under_way_is_refused(server):
    key_id, key = create(server, "busy", "--concurrency", "1")
    with send(server, "/v2/models/slow/infer", key, json.dumps(LONG).encode()) as first:
        wait_for(lambda: under_way(server, key_id) == 1, "the first request")
        refused = server.infer("iris", X, headers=key)
        assert refused.status == 429 and refused.headers["Mayfly-Reason"] == "concurrency_limited"
        assert int(refused.headers["Retry-After"]) >= 1 and "its concurrency is 1" in refused.json()["error"]
        assert server.infer("iris", X).status == 200
        assert b" 504 " in first.recv(100)
    assert server.infer("iris", X, headers=key).status == 200


@pytest.mark.parametrize("missing", (0, 10), ids=("while it runs", "before its body is whole"))
def test_concurrency_is_given_back_when_the_client_leaves(server, missing):
    key_id, key = create(server, "leaves", "--concurrency", "1")
    with send(server, "/v2/models/slow/infer", key, json.dumps(LONG).encode(), missing):
        wait_for(lambda: under_way(server, key_id) == 1, "the request")
    wait_for(lambda: under_way(server, key_id) == 0, "the end of the request")
    assert server.infer("iris", X, headers=key).status == 200


def test_what_a_full_queue_refuses_does_not_use_up_the_rate(server):
    _, key = create(server, "patient", "--rate", "0.01", "--burst", "1")
    server.deploy("narrow", "count.onnx", "--timeout", "4s", "--max", "1", "--concurrency", "1", "--queue", "0")
    short = {"inputs": [{"name": "count", "datatype": "INT64", "shape": [1], "data": [1]}]}
    assert server.http("/v2/models/narrow/infer", "POST", short).status == 200
    held = send(server, "/v2/models/narrow/infer", {}, json.dumps(LONG).encode())
    wait_for(lambda: [i["state"] for i in server.instances("narrow")] == ["busy"], "a run that takes the only place")
    for _ in range(3):
        answer = server.http("/v2/models/narrow/infer", "POST", short, key)
        assert answer.status == 429 and answer.headers["Mayfly-Reason"] == "queue_full", answer.body
    held.close()
    wait_for(lambda: server.http("/v2/models/narrow/infer", "POST", short, key).status == 200, "an answer", 20)
    assert server.http("/v2/models/narrow/infer", "POST", short, key).headers["Mayfly-Reason"] == "rate_limited"


def test_who_sends_long_runs_gets_fewer(server):
    """Two keys that always have something waiting share the time of the instance, not the number of runs."""
    server.deploy("shared", "count.onnx", "--timeout", "30s", "--max", "1", "--concurrency", "1")
    answered, ended = {"long": 0, "short": 0}, threading.Event()

    def ask(kind, key, steps):
        body = {"inputs": [{"name": "count", "datatype": "INT64", "shape": [1], "data": [steps]}]}
        while not ended.is_set():
            assert server.http("/v2/models/shared/infer", "POST", body, key).status == 200
            answered[kind] += 1

    threads = []
    for kind, steps in (("long", 200_000), ("short", 10_000)):
        _, key = create(server, kind)
        threads += [threading.Thread(target=ask, args=(kind, key, steps)) for _ in range(4)]
    for t in threads:
        t.start()
    wait_for(lambda: answered["long"] >= 12, "twelve long runs", 60)
    ended.set()
    for t in threads:
        t.join()
    assert answered["short"] >= 3 * answered["long"], answered


def test_limits_survive_a_restart_and_change_under_way(server):
    key_id, key = create(server, "kept", "--rate", "0.01", "--burst", "1", "--concurrency", "5", "--weight", "7")
    want = {"rate": 0.01, "burst": 1, "concurrency": 5, "weight": 7}
    server.stop()
    server.start()
    assert want.items() <= listed(server, key_id).items()
    assert [server.infer("iris", X, headers=key).status for _ in range(2)] == [200, 429]
    assert server.cli("keys", "limit", key_id, "--rate", "0").stdout.startswith(f"key {key_id} (kept): 5 at once, weight 7")
    assert [server.infer("iris", X, headers=key).status for _ in range(4)] == [200] * 4
    assert "5 at once, weight 7" in server.cli("keys", "list").stdout
    server.stop()
    server.start()
    assert listed(server, key_id)["rate"] is None and listed(server, key_id)["weight"] == 7


def test_a_key_that_is_revoked_under_way_harms_nothing(server):
    key_id, key = create(server, "gone", "--concurrency", "2")
    with send(server, "/v2/models/slow/infer", key, json.dumps(LONG).encode()) as first:
        wait_for(lambda: under_way(server, key_id) == 1, "the request")
        server.cli("keys", "revoke", key_id)
        assert b" 504 " in first.recv(100)
    assert under_way(server, key_id) == 0
    assert server.infer("iris", X, headers=key).status == 401


def test_wrong_limits_are_refused_by_name(server):
    done = server.cli("keys", "create", "x", "--scopes", "invoke", "--burst", "3", check=False)
    assert done.returncode == 2 and "without a rate" in done.stderr
    done = server.cli("keys", "limit", "none", "--rate", "3", check=False)
    assert done.returncode == 3 and "none" in done.stderr
