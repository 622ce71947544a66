"""Writes rows_mixed.onnx beside this file: y = x - mean of x over the rows, so that each row's answer depends on the others.

    .deps/venv/bin/python tests/models/make_rows_mixed.py

Its signature looks like that of a model whose rows can be joined.
"""

from pathlib import Path

from onnx import TensorProto, checker, helper

x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
nodes = [
    helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
    helper.make_node("Sub", ["x", "mean"], ["y"]),
]
graph = helper.make_graph(nodes, "rows_mixed", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="mayfly")
checker.check_model(model)
Path(__file__).with_name("rows_mixed.onnx").write_bytes(model.SerializeToString(deterministic=True))
