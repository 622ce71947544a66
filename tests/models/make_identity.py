"""Writes identity_*.onnx beside this file: one model for each data type, `x` → `y` with the same values.

    .deps/venv/bin/python tests/models/make_identity.py

The first dimension is free. The files are the same whenever they are made with the same version of the package onnx (1.23.2).
"""

from pathlib import Path

from onnx import TensorProto, checker, helper

TYPES = {
    "bool": TensorProto.BOOL,
    "bytes": TensorProto.STRING,
    "bf16": TensorProto.BFLOAT16,
    "fp16": TensorProto.FLOAT16,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
}


def identity(name, dtype):
    x = helper.make_tensor_value_info("x", dtype, ["n"])
    y = helper.make_tensor_value_info("y", dtype, ["n"])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], f"identity_{name}", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="mayfly")
    checker.check_model(model)
    return model.SerializeToString(deterministic=True)


for name, dtype in TYPES.items():
    Path(__file__).with_name(f"identity_{name}.onnx").write_bytes(identity(name, dtype))
