"""The Open Inference Protocol with KServe's SDK, REST and gRPC."""

import asyncio

import grpc
import pytest
from harness import Server, rows
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc


@pytest.fixture(scope="module")
def server():
    with Server() as s:
        s.deploy("iris", "iris_logreg.onnx")
        yield s


@pytest.mark.parametrize("binary", [True, False])
def test_iris(server, binary):
    x, y = rows("iris", 4)

    async def talk(url):
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, "iris")
        tensor = InferInput("input", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=binary)
        answer = await client.infer(url, InferRequest(model_name="iris", infer_inputs=[tensor]), model_name="iris")
        await client.close()
        return {o.name: o for o in answer.outputs}

    outputs = asyncio.run(talk(server.url))
    assert outputs["label"].as_numpy().tolist() == y.tolist()
    assert outputs["probabilities"].as_numpy().shape == (45, 3)


# ---- gRPC ----


def test_grpc_sdk(server):
    x, y = rows("iris", 4)
    given = InferInput(name="input", datatype="FP32", shape=list(x.shape))
    given.set_data_from_numpy(x, binary_data=True)

    async def run():
        c = InferenceGRPCClient(server.address)
        assert await c.is_server_live() and await c.is_server_ready() and await c.is_model_ready("iris")
        answer = await c.infer(InferRequest(model_name="iris", infer_inputs=[given]))
        await c.close()
        return next(o for o in answer.outputs if o.name == "label").as_numpy()

    assert asyncio.run(run()).tolist() == y.tolist()


def test_grpc_messages(server):
    """KServe's own messages: typed tensors, and a repository whose messages have the name as field 1."""
    x, y = rows("iris", 4)
    with grpc.insecure_channel(server.address) as channel:
        stub = grpc_predict_v2_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelMetadata(pb.ModelMetadataRequest(name="iris")).inputs[0].datatype == "FP32"
        rq = pb.ModelInferRequest(model_name="iris")
        given = rq.inputs.add(name="input", datatype="FP32", shape=list(x.shape))
        given.contents.fp32_contents.extend(x.ravel().tolist())
        assert list(stub.ModelInfer(rq).outputs[0].contents.int64_contents) == y.tolist()
        loaded = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="iris"))
        assert loaded.model_name == "iris" and loaded.isLoaded
        assert stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="iris")).isUnloaded
