"""The KServe Python server over ONNX Runtime: kserve_server.py HTTP_PORT GRPC_PORT NAME=PATH…"""
import sys

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    def __init__(self, name, path):
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        feed = {i.name: i.as_numpy() for i in payload.inputs}
        outputs = []
        for meta, value in zip(self.session.get_outputs(), self.session.run(None, feed)):
            output = InferOutput(meta.name, list(value.shape), {"float32": "FP32", "int64": "INT64"}[str(value.dtype)])
            output.set_data_from_numpy(value, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(payload.id or "none", self.name, outputs, use_binary_outputs=payload.use_binary_outputs)


if __name__ == "__main__":
    models = [OnnxModel(*m.split("=", 1)) for m in sys.argv[3:]]
    ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1, enable_docs_url=False, access_log_format=None).start(models)
