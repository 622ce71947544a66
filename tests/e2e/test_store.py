"""The data folder: what deploys that were refused, killed or raced leave in it, and the quota."""

import http.client
import json
import threading

import pytest
from harness import DEPS, MODELS, Server, rows, wait_for

X, Y = rows("iris", 4)
SLOW = DEPS / "models/efficientnet_lite0.onnx"  # its compile job is long enough to be met


@pytest.fixture
def server():
    with Server() as s:
        yield s


def packages(server):
    return sorted(p.name for p in (server.data / "packages").rglob("*") if p.is_file())


def artefacts(server):
    return sorted(p.name for p in (server.data / "artefacts").iterdir())


def upload(server, content):
    return server.http("/admin/v1/packages", "POST", content)


def deploy(server, name, package, spec=None):
    return server.http(f"/admin/v1/endpoints/{name}/versions", "POST", {"package": package, "spec": spec or {}})


def check(server, name):
    answer = server.infer(name, X)
    assert answer.status == 200, answer.body
    assert answer.json()["outputs"][0]["data"] == Y.tolist()


def together(*calls):
    threads = [threading.Thread(target=c) for c in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def test_a_refused_deploy_leaves_nothing_and_costs_no_quota():
    with Server("--tenant-quota", "20Ki") as s:
        for i in range(8):
            digest = upload(s, b"not a model %d " % i * 500).json()["digest"]
            assert deploy(s, "bad", digest).status == 400
            assert packages(s) == [] and artefacts(s) == []
        sample = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
        digest = upload(s, (MODELS / "iris_logreg.onnx").read_bytes()).json()["digest"]
        assert deploy(s, "bad", digest, {"sample": sample}).status == 400
        assert packages(s) == [] and artefacts(s) == []


def test_a_refused_deploy_takes_nothing_from_the_version_of_the_same_package(server):
    server.deploy("iris", "iris_logreg.onnx")
    before = packages(server), artefacts(server)
    for name in ("iris", "other"):
        assert deploy(server, name, before[0][0], {"input": {"image": {"resize": 8}}}).status == 400
    assert (packages(server), artefacts(server)) == before
    check(server, "iris")
    assert server.http("/v2/models/other").status == 404


def test_a_kill_during_a_deploy_leaves_nothing_after_the_next_start(server):
    server.deploy("iris", "iris_logreg.onnx")
    before = packages(server), artefacts(server)
    upload(server, b"nobody deploys this")
    deploying = threading.Thread(target=lambda: server.cli("deploy", "slow", SLOW, check=False))
    deploying.start()
    wait_for(lambda: any(name.startswith("tmp-") for name in artefacts(server)), "the compile job")
    server.kill9()
    deploying.join()
    assert len(packages(server)) == 3 and any(name.startswith("tmp-") for name in artefacts(server))
    server.start()
    assert (packages(server), artefacts(server)) == before
    assert '"event":"swept","packages":2,"artefacts":1' in server.log_text()
    check(server, "iris")


def test_uploads_at_the_same_time_stay_within_the_quota():
    size, count = 60_000, 6
    with Server("--tenant-quota", "200000") as s:
        connections = [http.client.HTTPConnection(s.address, timeout=60) for _ in range(count)]
        for c in connections:
            c.putrequest("POST", "/admin/v1/packages")
            c.putheader("Content-Length", str(size))
            c.endheaders(b"x")
        for i, c in enumerate(connections):  # all have begun, none has ended
            c.send(str(i).encode() * (size - 1))
        answers = [(rs.status, rs.headers["Mayfly-Reason"], rs.read()) for rs in (c.getresponse() for c in connections)]
        for c in connections:
            c.close()
        assert sorted(status for status, _, _ in answers) == [200] * 3 + [507] * 3, answers
        assert {reason for status, reason, _ in answers if status == 507} == {"quota_exceeded"}
        assert packages(s) == sorted(json.loads(body)["digest"] for status, _, body in answers if status == 200)


def test_deploys_and_deletes_of_one_name_leave_the_same_before_and_after_a_restart(server):
    def deploys():
        for _ in range(4):
            server.cli("deploy", "iris", MODELS / "iris_logreg.onnx", check=False)

    def deletes():
        for _ in range(12):
            server.cli("delete", "iris", check=False)

    def state():
        listed = server.http("/v2/models/iris")
        return listed.status, listed.json().get("versions"), packages(server), artefacts(server)

    for _ in range(2):
        together(deploys, deploys, deletes)
        before = state()
        server.stop()
        server.start()
        assert state() == before
        assert len(before[2]) == len(before[3]) == (1 if before[0] == 200 else 0)
        if before[0] == 200:
            check(server, "iris")


def test_the_delete_of_one_endpoint_takes_no_package_from_the_deploy_of_another(server):
    """Both have the same package: the deploy finds it whole, or is told at once that it is gone."""
    content = (MODELS / "iris_logreg.onnx").read_bytes()
    served = 0
    for _ in range(8):
        digest = upload(server, content).json()["digest"]
        assert deploy(server, "first", digest).status == 200
        answers = []
        together(lambda: answers.append(deploy(server, "second", digest)), lambda: server.cli("delete", "first"))
        assert answers[0].status == 200 or answers[0].headers["Mayfly-Reason"] == "package_not_found", answers[0].body
        if answers[0].status == 200:
            served += 1
            check(server, "second")
            assert packages(server) == [digest] and len(artefacts(server)) == 1
            server.cli("delete", "second")
        assert packages(server) == [] and artefacts(server) == []
    assert served
