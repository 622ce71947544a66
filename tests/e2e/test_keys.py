"""API keys: who is refused, what a scope allows, revocation; no open listener without keys."""

import json
import subprocess

import pytest
from harness import BINARY, Server, rows


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def create(server, name, scopes):
    return json.loads(server.cli("keys", "create", name, "--scopes", scopes, "-o", "json").stdout)


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        s.key = create(s, "root", "admin,deploy,invoke")["key"]
        s.stop()
        s.flags = ("--require-keys",)
        s.start()
        yield s


def test_no_key_and_wrong_key(server):
    x, _ = rows("iris", 4)
    for headers in ({}, bearer("wrong"), bearer(server.key[:-1] + ("a" if server.key[-1] != "a" else "b"))):
        for answer in (server.infer("iris", x, headers=headers), server.http("/admin/v1/keys", headers=headers),
                       server.http("/v2/models/none", headers=headers), server.http("/metrics", headers=headers)):
            assert answer.status == 401 and answer.json()["error"] and answer.headers["WWW-Authenticate"]


def test_health_needs_no_key(server):
    assert server.http("/v2/health/live").status == 200 and server.http("/v2/health/ready").status == 200


def test_both_headers(server):
    x, y = rows("iris", 4)
    for headers in (bearer(server.key), {"X-API-Key": server.key}):
        answer = server.infer("iris", x, headers=headers)
        assert answer.status == 200 and answer.json()["outputs"][0]["data"] == y.tolist()


def test_invoke_only_key(server):
    x, _ = rows("iris", 4)
    key = create(server, "shop", "invoke")["key"]
    assert server.infer("iris", x, headers=bearer(key)).status == 200
    for method, path in (("GET", "/admin/v1/keys"), ("GET", "/admin/v1/endpoints"), ("GET", "/metrics"),
                         ("DELETE", "/admin/v1/endpoints/iris"), ("POST", "/admin/v1/packages")):
        answer = server.http(path, method, b"{}" if method == "POST" else None, bearer(key))
        assert answer.status == 403 and answer.json()["error"], path
    assert server.cli("deploy", "x", "/dev/null", check=False, key=key).returncode != 0


def test_revoked_key(server):
    x, _ = rows("iris", 4)
    made = create(server, "gone", "invoke")
    assert server.infer("iris", x, headers=bearer(made["key"])).status == 200
    server.cli("keys", "revoke", made["id"])
    assert server.infer("iris", x, headers=bearer(made["key"])).status == 401
    listed = {k["id"]: k for k in json.loads(server.cli("keys", "list", "-o", "json").stdout)["keys"]}
    assert listed[made["id"]]["revoked"]
    server.stop()
    server.start()
    assert server.infer("iris", x, headers=bearer(made["key"])).status == 401


def test_secret_is_not_stored(server):
    secret = server.key.encode()
    for path in server.data.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    assert server.key not in server.log_text()


def test_open_listener_without_keys_is_refused(tmp_path):
    done = subprocess.run([BINARY, "serve", "--data", tmp_path / "data", "--listen", "0.0.0.0:0"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "without keys" in done.stderr and "listening\"" not in done.stderr
