"""Models from elsewhere: https, S3 and OCI registries, fetched by the server or by the command line, honest stores and others."""

import contextlib
import json
import re
import threading

import pytest
from harness import DEPS, MODELS, Server, alive, check, http
from stores import KEY, S3, SECRET, Liar, Registry, digest

IRIS = (MODELS / "iris_logreg.onnx").read_bytes()
LARGE = DEPS / "models/efficientnet_lite0.onnx"  # 18.5 MB: three parts


def deploy(server, source, name="iris", spec=None):
    return server.http(f"/admin/v1/endpoints/{name}/versions", "POST", {"source": source, "spec": spec or {}})


def refused(answer, status, reason):
    assert (answer.status, answer.headers["Mayfly-Reason"]) == (status, reason), answer.body


def packages(server):
    return sorted(p.name for p in (server.data / "packages").rglob("*") if p.is_file())


@contextlib.contextmanager
def serving(*allowed, env=None, flags=()):
    allow = [f for host in allowed for f in ("--allow-source", host)]
    with Server(*allow, *flags, env=env) as server:
        yield server


@contextlib.contextmanager
def liar(content=IRIS, behave=None, flags=(), **options):
    with Liar(content, behave, **options) as web, serving(f"127.0.0.1:{web.port}", flags=("--source-stall", "1s", *flags)) as server:
        yield web, server


@pytest.fixture(scope="module")
def s3():
    with S3() as store:
        yield store


@pytest.fixture(scope="module")
def registry():
    with Registry() as r:
        yield r


# --- what the server may reach


def test_nothing_private_unless_it_is_allowed():
    with Liar(IRIS) as web, Server() as server:
        refused(deploy(server, web.url()), 403, "source_not_allowed")
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"):
            refused(deploy(server, f"https://{host}:{web.port}/"), 403, "source_not_allowed")
        refused(deploy(server, "https://169.254.169.254/latest/meta-data"), 403, "source_not_allowed")
        refused(deploy(server, "s3://models/iris.onnx"), 403, "source_not_allowed")
        refused(deploy(server, "/etc/passwd"), 400, "invalid_source")
        refused(deploy(server, "file:///etc/passwd"), 400, "invalid_source")
        refused(deploy(server, "https://user:secret@example.com/x"), 400, "invalid_source")
        assert web.requests == [] and packages(server) == []
        assert "secret" not in server.log_text()


def test_no_redirect_to_what_is_not_allowed():
    with Liar(IRIS) as inner:
        def away(handler, *_):
            handler.send_response(302)
            handler.send_header("Location", inner.url())
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        with liar(behave=away) as (web, server):
            refused(deploy(server, web.url()), 403, "source_not_allowed")
            assert len(web.requests) == 1 and inner.requests == []


# --- honest stores


def test_http_source():
    with liar() as (web, server):
        answer = deploy(server, web.url())
        assert answer.status == 200, answer.body
        assert answer.json()["package"] == digest(IRIS)
        check(server)
        assert '"event":"fetched"' in server.log_text()
        # With the hash, in both spellings; the parameter is not sent.
        for mark in ("#sha256=", "?sha256="):
            assert deploy(server, web.url() + mark + digest(IRIS)).status == 200
        refused(deploy(server, web.url() + "#sha256=" + digest(b"other")), 400, "digest_mismatch")
        assert packages(server) == [digest(IRIS)]


@pytest.mark.skipif(not LARGE.exists(), reason="the example models are not fetched")
def test_large_source_in_parallel_parts():
    content = LARGE.read_bytes()
    with liar(content) as (web, server):
        answer = deploy(server, web.url())
        assert answer.status == 200, answer.body
        assert answer.json()["package"] == digest(content)
        ranges = sorted(int(re.match(r"bytes=(\d+)-", r["Range"])[1]) for r in web.requests)
        assert ranges == [0, 8 << 20, 16 << 20]
        assert [r.get("If-Match") for r in web.requests] == [None, '"1"', '"1"']


def test_s3_source(s3):
    with serving("s3://models/team", env=s3.env) as server:
        for key in ("team/iris.onnx", "team/with space & +ü=#1/iris (2).onnx"):
            answer = deploy(server, s3.put(key, IRIS))
            assert answer.status == 200, answer.body
            check(server)
        refused(deploy(server, s3.put("other/iris.onnx", IRIS)), 403, "source_not_allowed")
        refused(deploy(server, "s3://models/team/none.onnx"), 404, "source_not_found")


def test_s3_with_wrong_credentials(s3):
    source = s3.put("iris.onnx", IRIS)
    with serving("s3://models", env=s3.env | {"AWS_SECRET_ACCESS_KEY": "wrong"}) as server:
        answer = deploy(server, source)
        refused(answer, 400, "source_refused")
        assert b"SignatureDoesNotMatch" in answer.body


def test_s3_credentials_from_a_file(s3, tmp_path):
    source = s3.put("iris.onnx", IRIS)
    file = tmp_path / "credentials"
    file.write_text(f'# for the tests\nAWS_ACCESS_KEY_ID={KEY}\nAWS_SECRET_ACCESS_KEY="{SECRET}"\n')
    file.chmod(0o600)
    with serving("s3://models", flags=("--s3-credentials", file, "--source-endpoint", s3.url)) as server:
        assert deploy(server, source).status == 200


def memory_holds(pid, needle):
    """Whether the writable memory of a process holds these bytes; nothing if it has ended meanwhile."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError), \
            open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            span, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            begin, end = (int(n, 16) for n in span.split("-"))
            with contextlib.suppress(OSError):
                mem.seek(begin)
                if needle in mem.read(end - begin):
                    return True
    return False


def test_credentials_stay_in_the_server(s3):
    source = s3.put("iris.onnx", IRIS)
    with serving("s3://models", env=s3.env) as server:
        assert deploy(server, source).status == 200
        check(server)
        others = server.tree() - {server.pid}
        assert {server.launcher(), server.zygote()} < others
        assert memory_holds(server.pid, SECRET.encode())
        assert not [p for p in others if memory_holds(p, SECRET.encode())]
        assert alive(server.launcher()) and alive(server.zygote())  # so they were looked at
        with open(f"/proc/{server.pid}/environ", "rb") as environ:
            assert SECRET.encode() not in environ.read()
        assert SECRET not in server.log_text()


def test_oci_source(registry):
    manifest = registry.push("team/iris", "v1", {"iris.onnx": IRIS, "README.md": b"hello"})
    registry.push("team/two", "v1", {"a.onnx": IRIS, "b.onnx": IRIS + b" "})
    registry.push("team/archive", "v1", {"a.tar": b"x"}, "application/vnd.cncf.model.weight.v1.tar")
    with serving(registry.name) as server:
        for source in ("team/iris:v1", f"team/iris@{manifest}", "team/iris:v1#iris.onnx", "team/two:v1#a.onnx"):
            answer = deploy(server, f"oci://{registry.name}/{source}")
            assert answer.status == 200, answer.body
            assert answer.json()["package"] == digest(IRIS)
        check(server)
        refused(deploy(server, f"oci://{registry.name}/team/two:v1"), 400, "source_ambiguous")
        refused(deploy(server, f"oci://{registry.name}/team/archive:v1"), 400, "source_unsupported")
        refused(deploy(server, f"oci://{registry.name}/team/none:v1"), 404, "source_not_found")
        refused(deploy(server, f"oci://{registry.name}/team/iris@sha256:{digest(b'no')}"), 404, "source_not_found")


def test_oci_not_allowed(registry):
    with Server() as server:
        refused(deploy(server, f"oci://{registry.name}/team/iris:v1"), 403, "source_not_allowed")


def test_registry_with_tokens_and_a_blob_store_elsewhere(registry):
    """As public registries are: 401 with a challenge, a token, and a redirect of the blob to another host without the token."""
    registry.push("team/iris", "token", {"iris.onnx": IRIS})
    with Liar(IRIS) as blobs:
        def front(handler, *_):
            if handler.path.startswith("/token"):
                body, status, headers = b'{"token":"abc"}', 200, {}
            elif handler.headers.get("Authorization") != "Bearer abc":
                realm = f'Bearer realm="{web.url("/token")}",service="here"'
                body, status, headers = b"{}", 401, {"WWW-Authenticate": realm}
            elif "/blobs/" in handler.path:
                body, status, headers = b"", 307, {"Location": blobs.url("/blob")}
            else:
                answer = http(f"{registry.url}{handler.path}", headers={"Accept": handler.headers["Accept"]})
                body, status, headers = answer.body, answer.status, {}
            handler.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)
            return True

        with Liar(IRIS, front) as web, serving(f"127.0.0.1:{web.port}", f"127.0.0.1:{blobs.port}") as server:
            answer = deploy(server, f"oci://127.0.0.1:{web.port}/team/iris:token")
            assert answer.status == 200, answer.body
            assert blobs.requests and not any("Authorization" in r for r in blobs.requests)


# --- stores that misbehave; nothing of a fetch that failed stays


def test_cut_connections_are_resumed():
    def cut(handler, first, last):
        if last - first < 100:
            return False
        handler.honest(first, last, 100)
        return handler.cut()

    with liar(behave=cut) as (web, server):
        answer = deploy(server, web.url())
        # 631 bytes in pieces of 100 are more retries than a part has.
        refused(answer, 503, "source_truncated")
        assert packages(server) == []

    def cut_thrice(handler, first, last):
        if handler.number > 3:
            return False
        handler.honest(first, last, 100)
        return handler.cut()

    with liar(behave=cut_thrice) as (web, server):
        assert deploy(server, web.url()).status == 200
        assert [r["Range"].split("=")[1].split("-")[0] for r in web.requests] == ["0", "100", "200", "300"]
        check(server)


def test_stall():
    def hang(handler, first, last):
        handler.honest(first, last, 50)
        return handler.hang()

    with liar(behave=hang) as (web, server):
        refused(deploy(server, web.url()), 503, "source_stalled")
        assert packages(server) == []


def test_a_stall_holds_up_nobody_else():
    def hang(handler, first, last):
        if handler.path == "/stalls":
            return handler.hang()
        return False

    with liar(behave=hang) as (web, server):
        stalled = threading.Thread(target=lambda: deploy(server, web.url("/stalls"), "other"))
        stalled.start()
        assert deploy(server, web.url()).status == 200
        check(server)
        stalled.join()


@pytest.mark.parametrize("what, status, reason", [
    ("short", 503, "source_truncated"), ("range", 400, "source_length_mismatch"), ("total", 413, "payload_too_large"),
    ("endless", 413, "payload_too_large"), ("changes", 409, "source_changed"), ("gone", 404, "source_not_found"),
    ("down", 503, "source_unavailable"), ("empty", 400, "source_empty")])
def test_lies(what, status, reason):
    def lie(handler, first, last):
        if what == "short":
            handler.head(first, last)
            return handler.cut()
        if what == "range":
            handler.head(first + 1, last)
            return handler.cut()
        if what in ("total", "endless"):
            handler.send_response(200)
            if what == "total":
                handler.send_header("Content-Length", str(1 << 40))
            handler.end_headers()
            for _ in range(64):
                handler.wfile.write(b"x" * 65536)
            return handler.cut()
        if what == "changes":
            web.etag = f'"{handler.number}"'
            handler.honest(first, last, 100)
            return handler.cut()
        if what == "empty":
            handler.send_response(200)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True
        handler.send_error(404 if what == "gone" else 500)
        return True

    with liar(behave=lie, flags=("--max-package", "1Mi")) as (web, server):
        refused(deploy(server, web.url()), status, reason)
        assert packages(server) == []
        assert server.http("/v2/models/iris").status == 404


def test_nobody_listens():
    with Liar(IRIS) as web:
        port = web.port
    with serving(f"127.0.0.1:{port}") as server:
        refused(deploy(server, f"http://127.0.0.1:{port}/x"), 503, "source_unavailable")


def test_what_is_no_model_leaves_nothing():
    with liar(b"not a model" * 50) as (web, server):
        refused(deploy(server, web.url()), 400, "invalid_model")
        assert packages(server) == []


# --- the command line


def test_command_line_fetches_with_its_own_credentials(s3):
    source = s3.put("iris.onnx", IRIS)
    with Server() as server:
        shown = server.cli("deploy", "iris", source, env=s3.env).stdout
        assert f"fetch    {source}" in shown and "upload" in shown
        check(server)
        wrong = server.cli("deploy", "iris", source, env=s3.env | {"AWS_SECRET_ACCESS_KEY": "no"}, check=False)
        assert wrong.returncode == 2 and "SignatureDoesNotMatch" in wrong.stderr
        refused_by_server = server.cli("deploy", "iris", source, "--on-server", env=s3.env, check=False)
        assert refused_by_server.returncode == 4 and "--allow-source s3://models" in refused_by_server.stderr


def test_endpoint_file_with_a_source(tmp_path):
    with liar() as (web, server):
        file = tmp_path / "endpoint.yaml"
        file.write_text(f"name: iris\nmodel: {web.url()}#sha256={digest(IRIS)}\nspec: {{idle: 1m}}\n")
        for flags in ((), ("--on-server",)):
            answer = json.loads(server.cli("apply", "-f", file, *flags, "-o", "json").stdout)
            assert answer["endpoints"][0]["package"] == digest(IRIS)
        check(server)
