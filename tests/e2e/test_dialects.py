"""The REST dialects beside the Open Inference Protocol, each with the client that people use for it."""

import asyncio
import base64
import json
import os

import boto3
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.utils.shared_memory as shm
from botocore.config import Config
from harness import DEPS, MODELS, Server, rows, wait_for
from kserve import InferenceRESTClient, RESTConfig
from tritonclient.utils import InferenceServerException

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


# ---- Triton's extensions ----


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.address) as c:
        yield c


def test_triton_configuration_and_statistics(server, client):
    config = client.get_model_config("iris")
    assert [(i["name"], i["data_type"], i["dims"]) for i in config["input"]] == [("input", "TYPE_FP32", [4])]
    assert config["max_batch_size"] == 32 and client.get_model_metadata("iris")["inputs"][0]["shape"] == [-1, 4]
    before = client.get_inference_statistics("iris", "1")["model_stats"][0]["inference_stats"]["success"]
    x = triton.InferInput("input", [1, 4], "FP32")
    x.set_data_from_numpy(np.ones((1, 4), np.float32))
    client.infer("iris", [x], priority=1, timeout=20_000_000, sequence_id=3)
    after = client.get_inference_statistics("iris", "1")["model_stats"][0]["inference_stats"]["success"]
    assert after["count"] == before["count"] + 1 and after["ns"] > before["ns"]
    assert {"iris", "fp32"} <= {s["name"] for s in client.get_inference_statistics()["model_stats"]}


def test_triton_repository(server, client):
    server.deploy("repo", "identity_fp32.onnx")
    assert {"name": "repo", "version": "1", "state": "READY", "reason": ""} in client.get_model_repository_index()
    client.load_model("repo")
    wait_for(lambda: server.get("repo")["ready"] == 1, "the loaded model")
    client.unload_model("repo")
    wait_for(lambda: not server.get("repo")["instances"], "the end of the instances")
    assert client.is_model_ready("repo")
    assert server.http("/v2/models/repo/generate", "POST", {"x": 3}).json()["y"] == 3
    with pytest.raises(InferenceServerException, match="no model"):
        client.load_model("no-such")


def test_triton_log_and_trace_settings(server, client):
    def lines():
        return server.log_text().count('"event":"request"')

    assert client.get_trace_settings()["trace_level"] == ["OFF"]
    with pytest.raises(InferenceServerException, match="trace"):
        client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    assert client.update_log_settings({"log_info": False})["log_info"] is False
    try:
        wait_for(lambda: lines() > 0, "request lines from before")
        for _ in range(5):
            server.http("/v2/models/fp32/generate", "POST", {"x": 1})
        last = json.loads(server.cli("logs", "fp32").stdout.strip().splitlines()[-1])
        assert last["event"] == "request"
    finally:
        client.update_log_settings({"log_info": True})
    server.http("/v2/models/fp32/generate", "POST", {"x": 1}, {"X-Request-Id": "shown"})
    wait_for(lambda: '"id":"shown"' in server.log_text(), "the line of a request after it")
    assert last["id"] not in server.log_text()
    assert client.get_log_settings()["log_info"] is True


def test_generate_stream_is_one_event(server):
    answer = server.http("/v2/models/fp32/generate_stream", "POST", {"x": 4})
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.body.startswith(b"data: ") and answer.body.endswith(b"\n\n") and answer.body.count(b"data: ") == 1
    assert json.loads(answer.body[6:])["y"] == 4


def test_a_timeout_of_the_request_is_its_deadline(server):
    server.deploy("slow-start", "identity_fp32.onnx", "--idle", "1ms")
    body = {"parameters": {"timeout": 1}, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
    for warm in (False, True):  # a run that would be short is not begun either
        if warm:
            server.deploy("slow-start", "identity_fp32.onnx", "--idle", "1m")
            assert server.http("/v2/models/slow-start/infer", "POST", {"inputs": body["inputs"]}).status == 200
        answer = server.http("/v2/models/slow-start/infer", "POST", body)
        assert answer.status == 504 and answer.headers["Mayfly-Reason"] == "deadline_exceeded", answer.body
    # A word is no parameter, and what comes late counts as well.
    late = {"id": '"timeout"', "inputs": [{"name": "x", "datatype": "FP32", "shape": [3000], "data": [0.5] * 3000}], "more": ["timeout"]}
    assert server.http("/v2/models/slow-start/infer", "POST", late).status == 200
    assert server.http("/v2/models/slow-start/infer", "POST", late | {"parameters": {"timeout": 1}}).status == 504


# ---- shared memory ----


@pytest.fixture(scope="module")
def sharing():
    with Server("--shared-memory") as s:
        s.deploy("iris", "iris_logreg.onnx")
        s.deploy("bytes", "identity_bytes.onnx")
        yield s


class Segment:
    """POSIX shared memory as tritonclient makes it, open to the server's user."""

    def __init__(self, size):
        self.key = f"mayfly-test-{os.getpid()}-{id(self)}"
        self.handle = shm.create_shared_memory_region("r", self.key, size, create_only=True)
        os.chmod(f"/dev/shm/{self.key}", 0o666)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shm.destroy_shared_memory_region(self.handle)


def test_shared_memory_in_and_out(sharing):
    x, y = rows("iris", 4)
    size = x.nbytes
    with triton.InferenceServerClient(sharing.address) as client, Segment(size + 8 * len(y)) as s:
        assert "system_shared_memory" in client.get_server_metadata()["extensions"]
        shm.set_shared_memory_region(s.handle, [x])
        client.register_system_shared_memory("r", s.key, size + 8 * len(y))
        assert client.get_system_shared_memory_status("r") == [
            {"name": "r", "key": s.key, "offset": 0, "byte_size": size + 8 * len(y)}]
        tensor = triton.InferInput("input", list(x.shape), "FP32")
        tensor.set_shared_memory("r", size)
        label = triton.InferRequestedOutput("label")
        label.set_shared_memory("r", 8 * len(y), offset=size)
        answer = client.infer("iris", [tensor], outputs=[label, triton.InferRequestedOutput("probabilities")])
        out = answer.get_output("label")
        assert out["parameters"] == {"shared_memory_region": "r", "shared_memory_offset": size, "shared_memory_byte_size": 8 * len(y)}
        assert shm.get_contents_as_numpy(s.handle, np.int64, [len(y)], size).tolist() == y.tolist()
        assert answer.as_numpy("probabilities").shape == (len(y), 3)
        label.set_shared_memory("r", 8, offset=size)
        with pytest.raises(InferenceServerException, match="shared_memory_byte_size"):
            client.infer("iris", [tensor], outputs=[label])
        client.unregister_system_shared_memory("r")
        assert client.get_system_shared_memory_status() == []
        with pytest.raises(InferenceServerException, match="no shared memory region"):
            client.infer("iris", [tensor])


def test_shared_memory_that_lies(sharing):
    x, _ = rows("iris", 4)
    with triton.InferenceServerClient(sharing.address) as client, Segment(x.nbytes) as s:
        for key, offset, size in ((s.key, 0, x.nbytes + 1), (s.key, x.nbytes, 1), ("../etc/passwd", 0, 1), ("none", 0, 1)):
            with pytest.raises(InferenceServerException):
                client.register_system_shared_memory("r", key, size, offset=offset)
        shm.set_shared_memory_region(s.handle, [x])
        client.register_system_shared_memory("r", s.key, x.nbytes)
        with pytest.raises(InferenceServerException, match="registered already"):
            client.register_system_shared_memory("r", s.key, x.nbytes)
        tensor = triton.InferInput("input", list(x.shape), "FP32")
        tensor.set_shared_memory("r", x.nbytes, offset=16)
        with pytest.raises(InferenceServerException, match="do not lie"):
            client.infer("iris", [tensor])
        os.truncate(f"/dev/shm/{s.key}", 16)
        tensor = triton.InferInput("input", list(x.shape), "FP32")  # the client keeps an offset that it once set
        tensor.set_shared_memory("r", x.nbytes)
        with pytest.raises(InferenceServerException, match="smaller than it was"):
            client.infer("iris", [tensor])
        client.unregister_system_shared_memory()
        assert client.is_server_live()


def test_shared_memory_of_somebody_else(sharing):
    """A segment that only its owner may open is refused: the server has no privilege to read it."""
    with triton.InferenceServerClient(sharing.address) as client, Segment(16) as s:
        os.chmod(f"/dev/shm/{s.key}", 0o600)
        with pytest.raises(InferenceServerException, match="server's user"):
            client.register_system_shared_memory("r", s.key, 16)


def test_strings_in_shared_memory(sharing):
    text = b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    with triton.InferenceServerClient(sharing.address) as client, Segment(64) as s:
        shm.set_shared_memory_region(s.handle, [np.array(text, dtype=object)])
        client.register_system_shared_memory("r", s.key, 64)
        tensor = triton.InferInput("x", [2], "BYTES")
        tensor.set_shared_memory("r", len(text))
        assert client.infer("bytes", [tensor]).as_numpy("y").tolist() == [b"ab", b""]
        tensor.set_shared_memory("r", 64)  # what follows is no element
        with pytest.raises(InferenceServerException, match="elements"):
            client.infer("bytes", [tensor])
        client.unregister_system_shared_memory()


# ---- SageMaker ----


def runtime(server, access_key="mayfly", token=None):
    """boto3's client of the SageMaker runtime, at this server."""
    return boto3.client("sagemaker-runtime", endpoint_url=server.url, region_name="us-east-1", aws_access_key_id=access_key,
                        aws_secret_access_key="none", aws_session_token=token,
                        config=Config(retries={"max_attempts": 0}, proxies={}))


def test_boto3_invoke_endpoint(server):
    x, y = rows("iris", 4)
    client = runtime(server)
    answer = client.invoke_endpoint(EndpointName="iris", ContentType="application/json", Body=json.dumps(x.tolist()))
    assert [p["label"] for p in json.load(answer["Body"])["predictions"]] == y.tolist()
    assert answer["InvokedProductionVariant"] == "1" and answer["ContentType"] == "application/json"
    csv = "\n".join(",".join(map(str, row)) for row in x.tolist())
    answer = client.invoke_endpoint(EndpointName="iris", ContentType="text/csv", Accept="text/csv", Body=csv)
    assert [int(line.split(b",")[0]) for line in answer["Body"].read().splitlines()] == y.tolist()
    answer = client.invoke_endpoint(EndpointName="net", ContentType="image/png", Body=picture())
    assert json.load(answer["Body"])["predictions"][0]["index"] == 967


def test_boto3_errors(server):
    client = runtime(server)
    with pytest.raises(client.exceptions.ValidationError, match="no model"):
        client.invoke_endpoint(EndpointName="none", Body=b"[1]")
    with pytest.raises(client.exceptions.ModelError) as e:
        client.invoke_endpoint(EndpointName="iris", ContentType="application/json", Body=b"[[1]]")
    assert e.value.response["OriginalStatusCode"] == 400 and "shape" in e.value.response["OriginalMessage"]


def test_boto3_with_keys():
    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx")
        key = json.loads(server.cli("keys", "create", "aws", "--scopes", "invoke", "-o", "json").stdout)["key"]
        server.stop()
        server.flags = ("--require-keys",)
        server.start()
        body = {"EndpointName": "iris", "ContentType": "text/csv", "Body": "5.1,3.5,1.4,0.2"}
        assert runtime(server, token=key).invoke_endpoint(**body)["InvokedProductionVariant"] == "1"
        assert runtime(server, access_key=key).invoke_endpoint(**body)["InvokedProductionVariant"] == "1"
        for client in (runtime(server), runtime(server, token="mf_" + "a" * 56)):
            with pytest.raises(client.exceptions.ClientError) as e:
                client.invoke_endpoint(**body)
            assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


# ---- import of a Triton model repository ----


def test_import(server, tmp_path):
    def put(model, version, file, config=None):
        (tmp_path / model / version).mkdir(parents=True, exist_ok=True)
        (tmp_path / model / version / "model.onnx").write_bytes((MODELS / file).read_bytes())
        if config:
            (tmp_path / model / "config.pbtxt").write_text(config)

    put("im-iris", "1", "identity_fp32.onnx")
    put("im-iris", "2", "iris_logreg.onnx", """
name: "im-iris"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "input" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "probabilities" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
instance_group [ { count: 3 } ]
""")
    (tmp_path / "im-iris" / "labels.txt").write_text("setosa\nversicolor\nvirginica\n")
    put("im-other", "1", "identity_fp32.onnx", 'backend: "python"')
    dry = json.loads(server.cli("import", tmp_path, "--dry-run", "-o", "json").stdout)["models"]
    assert [(m["name"], m["status"]) for m in dry] == [("im-iris", "would deploy"), ("im-other", "skipped")]
    assert server.http("/v2/models/im-iris").status == 404

    done = server.cli("import", tmp_path)
    assert "deployed" in done.stdout and "python" in done.stdout
    answer = server.http("/v1/models/im-iris:classify", "POST", {"examples": [[5.1, 3.5, 1.4, 0.2]]}).json()
    assert answer["results"][0][0][0] == "setosa"
    assert server.get("im-iris")["versions"][0]["spec"]["max"] == 3

    put("im-wrong", "1", "identity_fp32.onnx", 'input { name: "z" data_type: TYPE_FP32 dims: 1 }')
    failed = server.cli("import", tmp_path, check=False)
    assert failed.returncode == 1 and 'no input "z"' in failed.stdout
    assert server.cli("import", tmp_path / "none", check=False).returncode == 2
