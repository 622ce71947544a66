"""Requests of one version run together where their rows do not influence each other, and each gets its own answer."""

import http.client
import json
import re
import threading

import numpy as np
import pytest
from harness import MODELS, Server, rows, wait_for

X, _ = rows("iris", 4)
LETTERS, LABELS = rows("letter", 16)


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        yield s


def runs_and_rows(server, endpoint):
    text = server.http("/metrics").body.decode()
    return [int(re.search(rf'mayfly_batch_rows_{what}{{tenant="default",endpoint="{endpoint}"}} (\d+)', text)[1])
            for what in ("count", "sum")]


def apply(server, tmp_path, name, model, spec):
    file = tmp_path / f"{name}.yaml"
    file.write_text(json.dumps({"name": name, "model": str(MODELS / model), "spec": spec}))
    return server.cli("apply", "-f", str(file), check=False)


def ask_at_once(server, endpoint, connections, each):
    """Every connection asks for its own rows, one after the other; the labels come back in the rows' places."""
    got = np.full(connections * each, -1)
    failures = []

    def run(k):
        c = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
        for n in range(each):
            i = k * each + n
            tensor = {"name": "input", "datatype": "FP32", "shape": [1, 16], "data": LETTERS[i].tolist()}
            c.request("POST", f"/v2/models/{endpoint}/infer", json.dumps({"inputs": [tensor]}))
            answer = c.getresponse()
            body = answer.read()
            if answer.status != 200:
                failures.append(body)
                return
            got[i] = json.loads(body)["outputs"][0]["data"][0]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(connections)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]
    return got


def labels_of(server, endpoint, count):
    """The same rows in one request of their own."""
    answer = server.infer(endpoint, LETTERS[:count])
    return np.array(answer.json()["outputs"][0]["data"])


def test_every_request_gets_its_own_rows_and_runs_are_fewer(server):
    server.deploy("letters", "letter_mlp.onnx")
    got = ask_at_once(server, "letters", connections=24, each=40)
    runs, total = runs_and_rows(server, "letters")
    assert total == 24 * 40
    assert runs < total, "nothing ran together"
    assert (got == labels_of(server, "letters", 24 * 40)).all()
    assert (got == LABELS[: 24 * 40]).mean() > 0.9


def test_batch_max_1_turns_it_off(server, tmp_path):
    assert apply(server, tmp_path, "apart", "letter_mlp.onnx", {"batch": {"max": 1}}).returncode == 0
    ask_at_once(server, "apart", connections=8, each=10)
    assert runs_and_rows(server, "apart") == [80, 80]


def test_rows_that_influence_each_other_run_apart(server, tmp_path):
    refused = apply(server, tmp_path, "mixed", "rows_mixed.onnx", {"batch": {"max": 8}})
    assert refused.returncode == 2
    assert "batch_not_possible" in refused.stderr or "rows influence each other" in refused.stderr
    assert apply(server, tmp_path, "mixed", "rows_mixed.onnx", {}).returncode == 0
    answers = []

    def ask():
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [3, 4]}
        answers.append(server.http("/v2/models/mixed/infer", "POST", {"inputs": [tensor]}).json()["outputs"][0]["data"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [[0.0, 0.0]] * 12


def test_a_client_that_leaves_ends_its_run(server):
    """count.onnx adds 1 as often as its input says: the second run would take days."""
    server.deploy("count", "count.onnx", "--timeout", "1h", "--concurrency", "1", "--max", "1")

    def body(n):
        return json.dumps({"inputs": [{"name": "count", "datatype": "INT64", "shape": [1], "data": [n]}]}).encode()

    assert server.http("/v2/models/count/infer", "POST", body(200_000)).status == 200
    c = http.client.HTTPConnection(server.url.removeprefix("http://"))
    c.request("POST", "/v2/models/count/infer", body(10**15))
    wait_for(lambda: server.instances("count")[0]["state"] == "busy", "the long run")
    pid = server.instances("count")[0]["pid"]
    c.close()
    wait_for(lambda: server.instances("count")[0]["state"] == "idle", "the end of the run")
    assert server.http("/v2/models/count/infer", "POST", body(3)).json()["outputs"][0]["data"] == [3.0]
    assert server.instances("count")[0]["pid"] == pid, "the instance was replaced instead"
    wait_for(lambda: '"status":499' in server.log_text(), "the log line of the request")
