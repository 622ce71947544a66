"""HTTP/2 on the same port as HTTP/1.1: real clients, many streams, cancels, floods, drain; and h2spec."""

import json
import os
import socket
import struct
import subprocess
import threading

import pytest
from h2 import CANCEL, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, H2, HEADERS, NO_ERROR, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame
from harness import DEPS, ROOT, Server, rows, wait_for

X, Y = rows("iris", 4)
OK = 0x88  # ":status: 200", indexed


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        s.deploy("count", "count.onnx", "--timeout", "60s")
        yield s


def tensor(name, datatype, shape, data):
    return json.dumps({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}).encode()


def iris(x):
    return tensor("input", "FP32", list(x.shape), x.ravel().tolist())


def curl(*args, data=None):
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", *args], input=data, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_versions_on_one_port(server):
    url = server.url + "/v2/models/iris/infer"
    for flag, version in (("--http2-prior-knowledge", b"2"), ("--http1.1", b"1.1"), ("--http2", b"1.1")):
        out = curl(flag, "-w", "\n%{http_version} %{http_code}", "--data-binary", "@-", url, data=iris(X))
        body, said = out.rsplit(b"\n", 1)
        assert said == version + b" 200"  # the last one asks for an upgrade, which HTTP/1.1 may ignore
        assert json.loads(body)["outputs"][0]["data"] == Y.tolist()


def test_upload_and_deploy_over_http2(server):
    package = (ROOT / "tests/models/letter_mlp.onnx").read_bytes()
    out = curl("--http2-prior-knowledge", "--data-binary", "@-", "-H", "Content-Type: application/octet-stream",
               server.url + "/admin/v1/packages", data=package)
    assert json.loads(out)["digest"]


def test_preface_byte_by_byte(server):
    with H2.__new__(H2) as c:
        host, port = server.address.rsplit(":", 1)
        c.sock = socket.create_connection((host, int(port)), 30)
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.address, c.next, c.buffer = server.address, 1, b""
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0):
            c.send(bytes([byte]))
        assert c.answer(c.request("GET", "/v2/health/live"))[0] == OK


def test_many_streams_on_one_connection(server):
    with H2(server.address) as c:
        bodies = {}
        for i in range(100):
            row = X[i % len(X):i % len(X) + 1]
            bodies[c.request("POST", "/v2/models/iris/infer", iris(row))] = int(Y[i % len(X)])
        got = {stream: b"" for stream in bodies}
        ended = set()
        while len(ended) < len(bodies):
            kind, flags, stream, payload = c.read()
            if kind == DATA:
                got[stream] += payload
            assert kind != RST_STREAM
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                ended.add(stream)
        for stream, label in bodies.items():
            assert json.loads(got[stream])["outputs"][0]["data"] == [label]


def test_cancelled_stream_leaves_the_others_alone(server):
    with H2(server.address) as c:
        slow = c.request("POST", "/v2/models/count/infer", tensor("count", "INT64", [1], [2_000_000]))
        c.send(frame(RST_STREAM, 0, slow, struct.pack(">I", CANCEL)))
        assert c.answer(c.request("POST", "/v2/models/iris/infer", iris(X[:1])))[0] == OK


def test_refused_body_is_not_waited_for(server):
    with H2(server.address) as c:
        stream = c.request("POST", "/v2/nothing", b"x", end=False)
        first, body = c.answer(stream)
        assert first != OK and b"nothing is served" in body
        assert c.until(RST_STREAM, stream)[3] == struct.pack(">I", NO_ERROR)


def test_large_answers_to_a_reader_that_comes_late(server):
    """Its windows are wide open, so what stops the server is the socket; nothing is lost."""
    server.deploy("same", "identity_fp32.onnx")
    meta = server.http("/v2/models/same").json()["inputs"][0]
    shape = [100_000] if len(meta["shape"]) == 1 else [1, 100_000]
    body = tensor(meta["name"], "FP32", shape, [0.25] * 100_000)
    with H2(server.address) as c:
        c.until(SETTINGS)  # the server's window for bodies counts from the acknowledgement
        c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1)) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30)))
        streams = []
        for _ in range(16):
            stream = c.request("POST", "/v2/models/same/infer", end=False)
            for at in range(0, len(body), 16_384):
                piece = body[at:at + 16_384]
                c.send(frame(DATA, END_STREAM if at + 16_384 >= len(body) else 0, stream, piece))
            streams.append(stream)
        wait_for(lambda: sum('"endpoint":"same"' in line and '"status":200' in line
                             for line in server.log_text().splitlines()) >= len(streams), "all answers", 60)
        sizes, ended = dict.fromkeys(streams, 0), 0
        while ended < len(streams):
            kind, flags, stream, payload = c.read()
            assert kind not in (RST_STREAM, GOAWAY)
            if kind == DATA:
                sizes[stream] += len(payload)
                ended += flags & END_STREAM
        assert len(set(sizes.values())) == 1 and sizes[streams[0]] > 400_000


def test_rapid_reset_is_refused_and_logged_once(server):
    with H2(server.address) as c:
        try:
            for _ in range(700):
                stream = c.request("GET", "/v2")
                c.send(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        except (BrokenPipeError, ConnectionResetError):
            pass
        got = c.until(GOAWAY)
        assert got is not None and struct.unpack(">I", got[3][4:8])[0] == ENHANCE_YOUR_CALM
        assert c.until(GOAWAY) is None
    wait_for(lambda: server.log_text().count("max_resets"), "the log line")
    assert server.log_text().count("http2_refused") == 1
    assert server.http("/v2/health/live").status == 200


def test_drain_lets_streams_finish():
    with Server() as s:
        s.deploy("count", "count.onnx", "--timeout", "60s")
        with H2(s.address) as c, H2(s.address) as idle:
            assert c.answer(c.request("POST", "/v2/models/count/infer", tensor("count", "INT64", [1], [1])))[0] == OK
            stream = c.request("POST", "/v2/models/count/infer", tensor("count", "INT64", [1], [2_000_000]))
            wait_for(lambda: any(i["state"] == "busy" for i in s.instances("count")), "a running request")
            ended = []
            stopping = threading.Thread(target=lambda: ended.append(s.stop(60)))
            stopping.start()
            assert idle.until(GOAWAY) is not None and idle.until(GOAWAY) is not None and idle.read() is None
            notice = c.until(GOAWAY)
            assert struct.unpack(">II", notice[3][:8]) == (2**31 - 1, NO_ERROR)
            final = c.until(GOAWAY)
            assert struct.unpack(">II", final[3][:8]) == (stream, NO_ERROR)
            assert c.answer(stream)[0] == OK
            assert c.read() is None
            stopping.join()
            assert ended == [0]


def test_h2spec(server):
    """The published conformance suite. Without it there is no test: ./dev test fetches it."""
    tool = DEPS / "bin/h2spec"
    assert os.access(tool, os.X_OK), f"{tool} is missing: scripts/h2spec.sh fetch"
    done = subprocess.run([ROOT / "scripts/h2spec.sh", "run", server.address, "/admin/v1/keys"],
                          capture_output=True, text=True, timeout=170, env={**os.environ, "MAYFLY_DEPS": str(DEPS)})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
