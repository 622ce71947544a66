"""FastAPI over ONNX Runtime: the Open Inference Protocol in JSON for the models of PEER_MODELS (NAME=PATH;…), one thread each."""
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request

DTYPES = {"FP32": np.float32, "INT64": np.int64}
NAMES = {np.dtype(t): n for n, t in DTYPES.items()}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


app = FastAPI()
models = {name: session(path) for name, path in (m.split("=", 1) for m in os.environ["PEER_MODELS"].split(";"))}


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request):
    body = await request.json()
    feed = {t["name"]: np.asarray(t["data"], DTYPES[t["datatype"]]).reshape(t["shape"]) for t in body["inputs"]}
    model = models[name]
    outputs = []
    for meta, value in zip(model.get_outputs(), model.run(None, feed)):
        outputs.append({"name": meta.name, "datatype": NAMES[value.dtype], "shape": list(value.shape), "data": value.ravel().tolist()})
    return {"model_name": name, "outputs": outputs}
