"""A small builder of ONNX graphs: nodes and constants in order of creation, so that the same input gives the same bytes."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    def __init__(self):
        self.nodes = []
        self.constants = {}

    def constant(self, name, value, dtype=None):
        """Adds the array once under this name; returns the name, which nodes take as an input."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value, dtype), name)
        return name

    def op(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def save(self, path, name, inputs, outputs, opset, properties):
        """inputs, outputs: {name: (TensorProto type, shape)}; a dimension that is a string is free."""

        def infos(tensors):
            return [helper.make_tensor_value_info(n, dtype, shape) for n, (dtype, shape) in tensors.items()]

        graph = helper.make_graph(self.nodes, name, infos(inputs), infos(outputs), list(self.constants.values()))
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="mayfly"
        )
        helper.set_model_props(model, properties)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
