"""The Open Inference Protocol with KServe's SDK."""

import asyncio

import pytest
from harness import Server, rows
from kserve import InferInput, InferRequest, InferenceRESTClient, RESTConfig


@pytest.mark.parametrize("binary", [True, False])
def test_iris(binary):
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

    with Server() as server:
        server.deploy("iris", "iris_logreg.onnx")
        outputs = asyncio.run(talk(server.url))
    assert outputs["label"].as_numpy().tolist() == y.tolist()
    assert outputs["probabilities"].as_numpy().shape == (45, 3)
