"""The Open Inference Protocol with Triton's client: health, metadata, binary and JSON tensors, versions, right answers."""

import numpy as np
import pytest
import tritonclient.http as triton
from harness import Server, rows


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        s.deploy("letter", "letter_mlp.onnx")
        s.deploy("digits", "digits_cnn.onnx")
        yield s


@pytest.fixture(scope="module")
def client(server):
    c = triton.InferenceServerClient(server.address)
    yield c
    c.close()


def ask(client, model, x, binary_in=True, binary_out=True, output="label", version="", **options):
    name = client.get_model_metadata(model)["inputs"][0]["name"]
    tensor = triton.InferInput(name, list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=binary_in)
    wanted = [triton.InferRequestedOutput(output, binary_data=binary_out)]
    return client.infer(model, [tensor], model_version=version, outputs=wanted, **options)


def right(client, model, x, y, chunk):
    got = np.concatenate([ask(client, model, x[i:i + chunk]).as_numpy("label") for i in range(0, len(x), chunk)])
    return int((got == y).sum())


def test_health_and_server(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("iris") and client.is_model_ready("iris", "1")
    assert not client.is_model_ready("none")
    about = client.get_server_metadata()
    assert about["name"] == "mayfly" and "binary_tensor_data" in about["extensions"]


def test_metadata(client):
    meta = client.get_model_metadata("iris")
    assert meta["name"] == "iris" and meta["versions"] == ["1"] and meta["platform"] == "onnxruntime_onnx"
    assert meta["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
    assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]} in meta["outputs"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_iris_in_each_encoding(client, binary_in, binary_out):
    x, y = rows("iris", 4)
    answer = ask(client, "iris", x, binary_in, binary_out)
    assert answer.as_numpy("label").tolist() == y.tolist()
    p = ask(client, "iris", x, binary_in, binary_out, "probabilities").as_numpy("probabilities")
    assert p.shape == (45, 3) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def test_encodings_give_the_same_numbers(client):
    x, _ = rows("letter", 16)
    answers = [ask(client, "letter", x[:64], i, o, "probabilities").as_numpy("probabilities")
               for i in (True, False) for o in (True, False)]
    for other in answers[1:]:
        np.testing.assert_array_equal(answers[0], other)


def test_letter_accuracy(client):
    x, y = rows("letter", 16)
    assert right(client, "letter", x, y, 5000) / len(y) >= 0.9417


def test_digits_accuracy(client):
    x, y = rows("digits", 8, 8)
    assert right(client, "digits", x, y, 500) / len(y) >= 0.986


def test_request_id_comes_back(client):
    x, _ = rows("iris", 4)
    assert ask(client, "iris", x, request_id="a-1").get_response()["id"] == "a-1"


def test_classification(client):
    x, y = rows("iris", 4)
    tensor = triton.InferInput("input", [1, 4], "FP32")
    tensor.set_data_from_numpy(x[:1])
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=False, class_count=2)]
    best = client.infer("iris", [tensor], outputs=wanted).get_response()["outputs"][0]
    assert best["datatype"] == "BYTES"
    assert int(best["data"][0].split(":")[1]) == y[0]


def test_versions(server, client):
    assert server.deploy("twice", "iris_logreg.onnx")["version"] == 1
    assert server.deploy("twice", "iris_logreg.onnx")["version"] == 2
    assert client.get_model_metadata("twice")["versions"] == ["1", "2"]
    x, y = rows("iris", 4)
    for version in ("", "1", "2"):
        answer = ask(client, "twice", x, version=version)
        assert answer.get_response()["model_version"] == (version or "2")
        assert answer.as_numpy("label").tolist() == y.tolist()


def test_unknown_model_and_version(client):
    x, _ = rows("iris", 4)
    for model, version in (("none", ""), ("iris", "9")):
        with pytest.raises(triton.InferenceServerException) as e:
            client.get_model_metadata(model, version)
        assert e.value.status() == "404"
