"""The REST dialects beside the Open Inference Protocol, each with the client that people use for it."""

import asyncio
import base64
import json

import pytest
from harness import DEPS, Server, rows
from kserve import InferenceRESTClient, RESTConfig

PICTURES = ["--image-input", "resize=224,crop=0.875,mean=127,scale=0.0078125,layout=nchw", "--top", "3"]


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        s.deploy("count", "count.onnx")
        s.deploy("fp32", "identity_fp32.onnx")
        s.deploy("bytes", "identity_bytes.onnx")
        s.deploy("net", f"{DEPS}/models/efficientnet_lite0.onnx", *PICTURES)
        yield s


def picture(name="coffee.png"):
    return (DEPS / "models" / name).read_bytes()


# ---- KServe V1 and TensorFlow Serving ----


def test_kserve_v1_sdk(server):
    x, y = rows("iris", 4)

    async def talk():
        client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=30))
        assert await client.is_model_ready(server.url, "iris")
        answer = await client.infer(server.url, {"instances": x.tolist()}, model_name="iris")
        await client.close()
        return answer

    answer = asyncio.run(talk())
    assert [p["label"] for p in answer["predictions"]] == y.tolist()


def test_tensorflow_serving_forms_agree(server):
    x, y = rows("iris", 4)
    row = server.http("/v1/models/iris:predict", "POST", {"instances": x.tolist()}).json()["predictions"]
    named = server.http("/v1/models/iris:predict", "POST", {"instances": [{"input": r} for r in x.tolist()]}).json()
    column = server.http("/v1/models/iris:predict", "POST", {"inputs": x.tolist()}).json()["outputs"]
    assert named["predictions"] == row
    assert column["label"] == [r["label"] for r in row] == y.tolist()
    assert column["probabilities"] == [r["probabilities"] for r in row]


def test_picture_by_v1(server):
    b64 = {"b64": base64.b64encode(picture()).decode()}
    for body in ({"instances": [b64]}, {"instances": [{"image_bytes": b64}]}):
        answer = server.http("/v1/models/net:predict", "POST", body)
        assert answer.json()["predictions"][0][0]["index"] == 967, answer.body
    assert server.http("/v1/models/net:predict", "POST", {"inputs": b64}).json()["outputs"][0]["index"] == 967


def test_label_previous_is_the_version_before(server):
    server.deploy("labelled", "identity_fp32.onnx")
    server.deploy("labelled", "identity_fp32.onnx")
    status = server.http("/v1/models/labelled").json()["model_version_status"]
    assert [s["version"] for s in status] == ["2", "1"]
    for label, version in (("stable", "2"), ("previous", "1")):
        assert server.http(f"/v1/models/labelled/labels/{label}").json()["model_version_status"][0]["version"] == version
        assert server.http(f"/v1/models/labelled/labels/{label}:predict", "POST", {"instances": [1]}).status == 200
    line = json.loads(server.cli("logs", "labelled").stdout.strip().splitlines()[-1])
    assert line["version"] == 1
