"""What a client gets for each kind of mistake: a status, a JSON object with "error", and a connection that still works."""

import http.client
import json

import pytest
from harness import Server

GOOD = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
INFER = "/v2/models/iris/infer"


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx", "--max-request", "64Ki")
        yield s


@pytest.fixture(scope="module")
def connection(server):
    c = http.client.HTTPConnection(server.address, timeout=30)
    c.connect()
    yield c
    c.close()


def tensors(**change):
    return {"inputs": [{**GOOD, **change}]}


def talk(c, method, path, body=None, headers=None):
    c.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers or {})
    rs = c.getresponse()
    return rs, rs.read()


CASES = {
    "malformed JSON": ("POST", INFER, b'{"inputs":[', 400),
    "no JSON at all": ("POST", INFER, b"\x00\xff\xfe", 400),
    "empty body": ("POST", INFER, b"", 400),
    "no inputs": ("POST", INFER, {"id": "x"}, 400),
    "inputs of another type": ("POST", INFER, {"inputs": 7}, 400),
    "wrong datatype": ("POST", INFER, tensors(datatype="INT64"), 400),
    "unknown datatype": ("POST", INFER, tensors(datatype="FLOAT"), 400),
    "wrong width": ("POST", INFER, tensors(shape=[1, 5], data=[1, 2, 3, 4, 5]), 400),
    "wrong rank": ("POST", INFER, tensors(shape=[4]), 400),
    "negative dimension": ("POST", INFER, tensors(shape=[-1, 4]), 400),
    "overflowing shape": ("POST", INFER, tensors(shape=[1 << 62, 4]), 413),
    "tensor over max_request": ("POST", INFER, tensors(shape=[5000, 4], data=[0] * 20000), 413),
    "fewer numbers than the shape says": ("POST", INFER, tensors(data=[1, 2, 3]), 400),
    "more numbers than the shape says": ("POST", INFER, tensors(data=[1, 2, 3, 4, 5]), 400),
    "text for a number": ("POST", INFER, tensors(data=[1, 2, 3, "4"]), 400),
    "missing tensor": ("POST", INFER, {"inputs": []}, 400),
    "unknown tensor": ("POST", INFER, tensors(name="other"), 400),
    "the same tensor twice": ("POST", INFER, {"inputs": [GOOD, GOOD]}, 400),
    "unknown output": ("POST", INFER, {"inputs": [GOOD], "outputs": [{"name": "other"}]}, 400),
    "unknown model": ("POST", "/v2/models/none/infer", tensors(), 404),
    "unknown version": ("POST", "/v2/models/iris/versions/9/infer", tensors(), 404),
    "version that is no number": ("POST", "/v2/models/iris/versions/x/infer", tensors(), 404),
    "wrong method on infer": ("GET", INFER, None, 405),
    "wrong method on health": ("POST", "/v2/health/live", b"{}", 405),
    "bad path": ("GET", "/nothing/here", None, 404),
    "bad path below a model": ("GET", "/v2/models/iris/nothing", None, 404),
    "picture for a model without one": ("POST", "/predictions/iris", b"\x89PNG", 400),
    "delete of an unknown endpoint": ("DELETE", "/admin/v1/endpoints/none", None, 404),
    "deploy of an unknown package": ("POST", "/admin/v1/endpoints/x/versions", {"package": "0" * 64}, None),
    "deploy of no JSON": ("POST", "/admin/v1/endpoints/x/versions", b"[", 400),
}


@pytest.mark.parametrize("case", CASES)
def test_refusal(connection, case):
    method, path, body, status = CASES[case]
    before = connection.sock
    rs, text = talk(connection, method, path, body)
    assert rs.status == status if status else 400 <= rs.status < 500
    assert rs.headers["Content-Type"] == "application/json" and rs.headers["Mayfly-Reason"]
    assert json.loads(text)["error"]
    rs, text = talk(connection, "POST", INFER, tensors())
    assert rs.status == 200 and json.loads(text)["outputs"][0]["data"] == [0]
    assert connection.sock is before, "the connection was closed"


def test_body_too_large(server):
    """Refused by its head alone: the client has sent nothing of the body yet."""
    c = http.client.HTTPConnection(server.address, timeout=30)
    c.putrequest("POST", INFER)
    c.putheader("Content-Length", str(8 << 20))
    c.endheaders()
    rs = c.getresponse()
    assert rs.status == 413 and json.loads(rs.read())["error"]
    c.close()
    c = http.client.HTTPConnection(server.address, timeout=30)
    assert talk(c, "POST", INFER, tensors())[0].status == 200
    c.close()


@pytest.mark.parametrize("length", ["-1", "x", "99999999"])
def test_bad_binary_header_length(connection, length):
    rs, text = talk(connection, "POST", INFER, tensors(), {"Inference-Header-Content-Length": length})
    assert rs.status == 400 and json.loads(text)["error"]


def test_binary_size_that_lies(connection):
    head = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4],
                                   "parameters": {"binary_data_size": 1 << 40}}]}).encode()
    rs, text = talk(connection, "POST", INFER, head + bytes(16), {"Inference-Header-Content-Length": str(len(head))})
    assert rs.status == 400 and json.loads(text)["error"]


def test_model_that_is_none(server, tmp_path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a model" * 100)
    done = server.cli("deploy", "bad", bad, check=False)
    assert done.returncode != 0 and "mayfly: " in done.stderr
    assert server.http("/v2/models/bad").status == 404
