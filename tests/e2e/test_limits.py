"""Every wait and every size has a limit: the answer names it, and the next request is served."""

import http.client
import json
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from harness import DEPS, MODELS, Server, alive, rows, wait_for

X, Y = rows("iris", 4)
PICTURE = np.zeros((1, 3, 224, 224), np.float32)


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        yield s


def infer_binary(server, name, tensor, x):
    head = json.dumps({"inputs": [{"name": tensor, "datatype": "FP32", "shape": list(x.shape),
                                   "parameters": {"binary_data_size": x.nbytes}}],
                       "parameters": {"binary_data_output": True}}).encode()
    return server.http(f"/v2/models/{name}/infer", "POST", head + x.tobytes(),
                       {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"})


def test_min_instances_are_ready_without_a_request_and_stay(server):
    server.deploy("kept", "iris_logreg.onnx", "--min", "2", "--max", "3", "--idle", "0s")
    wait_for(lambda: [i["state"] for i in server.instances("kept")] == ["idle", "idle"], "two idle instances")
    assert "start;desc=warm" in server.infer("kept", X).headers["Server-Timing"]
    assert len(server.instances("kept")) == 2
    server.cli("delete", "kept")
    wait_for(lambda: not server.instances("kept"), "the end of its instances")


def test_min_instances_do_not_keep_a_server_from_stopping():
    with Server() as s:
        s.deploy("kept", "iris_logreg.onnx", "--min", "2")
        wait_for(lambda: len(s.instances("kept")) == 2, "two instances")
        every = s.tree()
        assert s.stop(seconds=10) == 0
        wait_for(lambda: not any(alive(p) for p in every), "the end of every process")


def test_a_run_that_hangs_is_ended_and_the_next_request_is_served(server):
    """count.onnx adds 1 as often as its input says."""
    def count(n):
        tensor = {"name": "count", "datatype": "INT64", "shape": [1], "data": [n]}
        return server.http("/v2/models/count/infer", "POST", {"inputs": [tensor]})

    server.deploy("count", "count.onnx", "--timeout", "300ms")
    assert count(5).json()["outputs"][0]["data"] == [5.0]
    hung = server.instances("count")[0]["pid"]
    answer = count(10**11)
    assert answer.status == 504 and answer.headers["Mayfly-Reason"] == "deadline_exceeded", answer.body
    wait_for(lambda: not alive(hung), "the end of the hung process")
    assert count(7).json()["outputs"][0]["data"] == [7.0]
    assert "hung" in server.cli("logs", "count").stdout


def test_an_instance_woken_by_a_refused_request_goes_back_to_zero(server):
    server.deploy("refused", "iris_logreg.onnx", "--idle", "100ms")
    assert server.http("/v2/models/refused/infer", "POST", b"{").status == 400
    wait_for(lambda: not server.instances("refused"), "zero instances")


def test_full_queue_is_refused_at_once_and_the_rest_is_answered(server):
    server.deploy("full", str(DEPS / "models/efficientnet_lite0.onnx"), "--max", "1", "--concurrency", "1", "--queue", "2")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(infer_binary(server, "full", "image", PICTURE))) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    refused = [a for a in answers if a.status == 429]
    assert refused and {a.status for a in answers} == {200, 429}
    for a in refused:
        assert a.headers["Mayfly-Reason"] == "queue_full" and int(a.headers["Retry-After"]) >= 1


def test_a_queue_of_zero_serves_whom_an_instance_can_take(server):
    server.deploy("direct", "iris_logreg.onnx", "--queue", "0", "--max", "1", "--idle", "100ms")
    assert server.infer("direct", X).status == 200
    wait_for(lambda: not server.instances("direct"), "zero instances")
    assert "start;desc=cold" in server.infer("direct", X).headers["Server-Timing"]


def test_min_is_kept_for_the_live_version_only(server):
    for _ in range(2):
        server.deploy("twice", "iris_logreg.onnx", "--min", "1", "--idle", "100ms")
    first = server.http("/v2/models/twice/versions/1/infer", "POST", {"inputs": [
        {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": X[0].tolist()}]})
    assert first.status == 200 and first.json()["model_version"] == "1"
    wait_for(lambda: [(i["version"], i["state"]) for i in server.instances("twice")] == [(2, "idle")], "version 2 alone")


def test_out_of_memory_is_told_as_such_and_hurts_nobody_else(server):
    server.deploy("small", "letter_mlp.onnx", "--memory", "64Mi")
    x, y = rows("letter", 16)
    many = np.tile(x, (60, 1))[:300_000]
    answer = infer_binary(server, "small", "input", many)
    assert answer.status == 500 and answer.headers["Mayfly-Reason"] == "instance_failed"
    assert "out of memory" in answer.json()["error"]
    answer = server.infer("small", x[:10])
    assert answer.status == 200, answer.body


def test_a_package_over_the_limit_is_refused_and_leaves_nothing():
    with Server("--max-package", "100Ki") as s:
        done = s.cli("deploy", "big", str(DEPS / "models/coffee.png"), check=False)
        assert done.returncode == 2 and "102400" in done.stderr.replace(",", "")
        assert not [p for p in (s.data / "packages").rglob("*") if p.is_file()]


def test_a_hostile_model_is_refused_and_the_endpoint_keeps_its_version(server):
    server.deploy("steady", "iris_logreg.onnx")
    for name, content in {"noise": struct.pack("<256Q", *range(256)), "empty": b"", "text": b"hello"}.items():
        bad = server.folder / name
        bad.write_bytes(content)
        done = server.cli("deploy", "steady", bad, check=False)
        assert done.returncode == 2 and done.stderr, name
    assert server.get("steady")["version"] == 1
    assert server.infer("steady", X).json()["outputs"][0]["data"] == Y.tolist()


def test_a_version_that_fails_its_sample_or_its_memory_is_not_deployed(server):
    def sample(shape, data):
        file = server.folder / "sample.json"
        file.write_text(json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": shape, "data": data}]}))
        return "--sample", file

    server.deploy("tried", "iris_logreg.onnx", *sample([1, 4], [5.1, 3.5, 1.4, 0.2]))
    done = server.cli("deploy", "tried", "--sample", sample([1, 3], [1, 2, 3])[1], MODELS / "iris_logreg.onnx", check=False)
    assert done.returncode == 2 and "[1,3]" in done.stderr
    done = server.cli("deploy", "tried", MODELS / "count.onnx", "--timeout", "300ms",
                      "--sample", count_sample(server, 10**11), check=False)
    assert done.returncode == 2 and "trial run failed" in done.stderr
    assert server.get("tried")["version"] == 1
    wait_for(lambda: not server.instances("tried"), "the end of the trials")


def count_sample(server, n):
    file = server.folder / "count.json"
    file.write_text(json.dumps({"inputs": [{"name": "count", "datatype": "INT64", "shape": [1], "data": [n]}]}))
    return file


def test_an_upload_is_not_held_in_memory():
    """300 MB through a server that has seen nothing else: its memory must not have held them."""
    size, piece = 300 << 20, bytes(1 << 20)
    with Server() as s:
        connection = http.client.HTTPConnection(s.address, timeout=60)
        connection.putrequest("POST", "/admin/v1/packages")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for _ in range(size // len(piece)):
            connection.send(piece)
        answer = json.loads(connection.getresponse().read())
        assert answer["bytes"] == size
        status = (Path("/proc") / str(s.pid) / "status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        assert peak < 100 << 10, f"{peak} KiB"


def test_a_body_of_countless_small_values_takes_little_memory():
    """64 MB of "{}," would be 1.4 GB as values."""
    with Server() as s:
        body = b'{"package": "x", "spec": {"a": [' + b"{}," * (20 << 20) + b"{}]}}"
        answer = s.http("/admin/v1/endpoints/many/versions", "POST", body)
        assert answer.status == 400 and answer.headers["Mayfly-Reason"] == "malformed_json"
        assert "too many values" in answer.json()["error"]
        status = (Path("/proc") / str(s.pid) / "status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        assert peak < 350 << 10, f"{peak} KiB"
