"""An MLServer runtime over ONNX Runtime; the model's uri is the ONNX file."""
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {i.name: NumpyCodec.decode_input(i) for i in payload.inputs}
        values = self.session.run(None, feed)
        outputs = [NumpyCodec.encode_output(meta.name, value) for meta, value in zip(self.session.get_outputs(), values)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
