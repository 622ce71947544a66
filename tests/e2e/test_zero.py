"""Hundreds of endpoints at zero: a deploy of what was tried before starts nothing, nothing is held, a restart keeps all."""

import json
import os
import re

import pytest
from harness import MODELS, Server, rows, wait_for

ENDPOINTS = 300
X, Y = rows("iris", 4)


def deploy(server, name, package, spec):
    answer = server.http(f"/admin/v1/endpoints/{name}/versions", "POST", {"package": package, "spec": spec})
    assert answer.status == 200, answer.body
    return answer.json()


def upload(server, model):
    return server.http("/admin/v1/packages", "POST", (MODELS / model).read_bytes()).json()["digest"]


def ready(server, name, version):
    """Instances of it that became ready, as logged; version 0 is a trial."""
    return len(re.findall(rf'"event":"instance_ready","endpoint":"{name}","version":{version},', server.log_text()))


def test_many_endpoints_hold_nothing():
    with Server() as server:
        package = upload(server, "iris_logreg.onnx")
        first = deploy(server, "e-0", package, {})
        artefacts = sorted(os.listdir(server.data / "artefacts"))
        descriptors = len(os.listdir(f"/proc/{server.pid}/fd"))
        for i in range(1, ENDPOINTS):
            assert deploy(server, f"e-{i}", package, {})["report"] == first["report"]
        assert sorted(os.listdir(server.data / "artefacts")) == artefacts
        assert len(os.listdir(f"/proc/{server.pid}/fd")) <= descriptors + 2  # a connection that is about to close
        names = [f"e-{i}" for i in range(ENDPOINTS)]
        listed = server.http("/admin/v1/endpoints").json()["endpoints"]
        assert [e["name"] for e in listed] == sorted(names)
        assert {(e["state"], e["version"], e["instances"], e["requests"]) for e in listed} == {("cold", 1, 0, 0)}
        server.stop()
        server.start()
        assert server.http("/admin/v1/endpoints").json()["endpoints"] == listed
        assert server.infer("e-299", X).json()["outputs"][0]["data"] == Y.tolist()


def test_metrics_tell_only_what_has_happened():
    with Server() as server:
        package = upload(server, "iris_logreg.onnx")
        for name in ("asked", "never"):
            deploy(server, name, package, {})
        assert server.infer("asked", X[:1]).status == 200
        text = server.http("/metrics").body.decode()
        assert 'mayfly_requests_total{tenant="default",endpoint="asked"} 1' in text
        assert "never" not in text
        assert "mayfly_batch_rows_count" in text and 'mayfly_request_retries_total{tenant="default",endpoint="asked"} 0' in text


@pytest.mark.parametrize("settings, again", [({}, False), ({"memory": "256Mi"}, True)], ids=["the same", "other settings"])
def test_a_version_is_tried_once_for_its_settings(settings, again):
    with Server() as server:
        package = upload(server, "iris_logreg.onnx")
        deploy(server, "first", package, {})
        deploy(server, "second", package, settings)
        assert server.infer("second", X[:1]).status == 200
        wait_for(lambda: ready(server, "second", 1) == 1, "the log line of the first instance")
        assert ready(server, "first", 0) == 1
        assert ready(server, "second", 0) == (1 if again else 0)


def test_a_missing_or_cut_artefact_is_made_again():
    with Server() as server:
        package = upload(server, "iris_logreg.onnx")
        deploy(server, "first", package, {})
        (artefact,) = (server.data / "artefacts").iterdir()
        whole = artefact.read_bytes()
        for damage in (lambda: artefact.unlink(), lambda: os.truncate(artefact, len(whole) // 2)):
            damage()
            deploy(server, "again", package, {})
            assert artefact.read_bytes() == whole
            assert server.infer("again", X).json()["outputs"][0]["data"] == Y.tolist()


def test_the_sample_is_shown_though_it_is_not_held():
    sample = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
    with Server() as server:
        deploy(server, "sampled", upload(server, "iris_logreg.onnx"), {"sample": sample})
        server.stop()
        server.start()
        (version,) = server.http("/admin/v1/endpoints/sampled").json()["versions"]
        assert version["spec"]["sample"] == json.loads(json.dumps(sample))
        assert version["report"]["inputs"][0]["name"] == "input"
