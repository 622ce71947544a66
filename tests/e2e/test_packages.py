"""Packages and artefacts that are not on the local disk: rebuilt and fetched on demand, a bucket of packages, the disk quota."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import DEPS, MODELS, Server, rows, wait_for

X, Y = rows("iris", 4)
IRIS = (MODELS / "iris_logreg.onnx").read_bytes()
SLOW = DEPS / "models/efficientnet_lite0.onnx"  # its compile job is long enough to be met
COLD = ("--idle", "1s")


def packages(server):
    return sorted(p.name for p in (server.data / "packages").rglob("*") if p.is_file())


def artefacts(server):
    return sorted(p for p in (server.data / "artefacts").iterdir() if p.is_file())


def drop(*files):
    for f in files:
        f.unlink()


def package_files(server):
    return [p for p in (server.data / "packages").rglob("*") if p.is_file()]


def at_zero(server, name="iris"):
    wait_for(lambda: not server.instances(name), f"{name} at zero")


def events(server, name):
    return [json.loads(line) for line in server.log_text().splitlines() if f'"event":"{name}"' in line]


def phases(answer):
    return {n: float(d) for n, d in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"])}


def check(server, name="iris"):
    answer = server.infer(name, X)
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == Y.tolist()
    return answer


def refused(answer, status, reason):
    assert (answer.status, answer.headers["Mayfly-Reason"]) == (status, reason), answer.body


def explain(server, name="iris"):
    return server.http(f"/admin/v1/endpoints/{name}/explain").json()


def metric(server, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in server.http("/metrics").body.decode().splitlines()
               if re.match(rf"{name}[{{ ]", line))


# --- artefacts are rebuilt where they are missing


def test_a_missing_artefact_is_rebuilt_by_the_request_that_needs_it():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        check(server)
        at_zero(server)
        before = [a.read_bytes() for a in artefacts(server)]
        drop(*artefacts(server))
        found = phases(check(server))
        assert found["fetch"] > 0 and found["total"] >= found["fetch"]
        assert [len(a.read_bytes()) for a in artefacts(server)] == [len(b) for b in before]
        assert len(events(server, "artefact_missing")) == len(events(server, "artefact_rebuilt")) == 1
        assert "fetch" not in phases(check(server))  # warm
        assert metric(server, "mayfly_artefacts_rebuilt_total") == 1
        assert metric(server, "mayfly_artefact_wait_seconds_count") == 1
        assert [e["event"] for e in explain(server)["events"]].count("artefact_rebuilt") == 1


def test_a_truncated_artefact_is_rebuilt():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        for cut in (0, 100):
            [file] = artefacts(server)
            os.truncate(file, cut)
            assert phases(check(server))["fetch"] > 0
            at_zero(server)
        server.kill9()
        os.truncate(artefacts(server)[0], 100)
        server.start()
        assert phases(check(server))["fetch"] > 0


def test_a_server_starts_at_once_without_its_artefacts():
    """They are rebuilt when they are asked for: of many models that would take a while."""
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx")
        server.deploy("other", "iris_logreg.onnx")
        server.stop()
        drop(*artefacts(server))
        server.start()
        assert not events(server, "artefact_rebuilt") and not events(server, "artefact_lost")
        check(server)
        check(server, "other")
        assert len(events(server, "artefact_rebuilt")) == 1  # one package, one artefact
        server.stop()
        server.start()
        assert "fetch" not in phases(check(server))  # what was noted of it is still known


def test_many_requests_wait_for_one_compile_job():
    with Server() as server:
        for name in ("iris", "other"):
            server.deploy(name, "iris_logreg.onnx", *COLD)
        for name in ("iris", "other"):
            at_zero(server, name)
        drop(*artefacts(server))
        jobs = metric(server, "mayfly_artefact_builds_total")
        with ThreadPoolExecutor(24) as pool:
            list(pool.map(lambda i: check(server, ("iris", "other")[i % 2]), range(24)))
        assert len(artefacts(server)) == 1
        assert metric(server, "mayfly_artefact_builds_total") == jobs + 1


def test_what_can_be_had_nowhere_is_said():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        drop(*artefacts(server), *package_files(server))
        answer = server.infer("iris", X)
        refused(answer, 503, "package_unavailable")
        assert b"upload it again" in answer.body and int(answer.headers["Retry-After"]) >= 1
        assert events(server, "artefact_unavailable")
        server.stop()
        server.start()
        assert events(server, "artefact_lost")
        refused(server.infer("iris", X), 503, "package_unavailable")
        server.deploy("iris", "iris_logreg.onnx")
        check(server)


def test_a_damaged_package_is_not_compiled():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx", *COLD)
        at_zero(server)
        drop(*artefacts(server))
        [file] = package_files(server)
        content = bytearray(IRIS)
        content[100] ^= 1
        file.chmod(0o644)
        file.write_bytes(content)
        refused(server.infer("iris", X), 500, "package_corrupt")
        assert not artefacts(server)
        assert server.http("/admin/v1/packages", "POST", IRIS).status == 200  # replaces it
        wait_for(lambda: server.infer("iris", X).status == 200, "the endpoint to answer again")


@pytest.mark.skipif(not SLOW.exists(), reason="the example models are not fetched")
def test_a_delete_during_the_rebuild_leaves_nothing():
    with Server() as server:
        server.deploy("slow", str(SLOW), *COLD)
        at_zero(server, "slow")
        drop(*artefacts(server))
        server.cli("wake", "slow")
        wait_for(lambda: any(a.name.startswith("tmp-") for a in artefacts(server)), "the compile job")
        server.cli("delete", "slow")
        wait_for(lambda: not artefacts(server) and not packages(server), "nothing to be left", 60)
        assert server.http("/v2/models/slow").status == 404
