"""Makes a dense net that gains from batching: make_mlp.py OUT.onnx. Run by .deps/venv/bin/python, which has numpy and onnx.

x FP32 [n,16] -> 1024 (Relu) -> 960 (Relu) -> y FP32 [n,16]: 4 MB of weights, read once per run however many rows it has, so
that a run of one row is bound by memory and one of 32 rows costs far less than 32 runs. The weights are small random numbers.
"""
import sys

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

WIDTHS = (16, 1024, 960, 16)


def main():
    random = np.random.default_rng(7)
    nodes, weights, name = [], [], "x"
    for i, (a, b) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        last = i == len(WIDTHS) - 2
        weights.append(numpy_helper.from_array((random.standard_normal((a, b)) / a**0.5).astype(np.float32), f"w{i}"))
        weights.append(numpy_helper.from_array(random.standard_normal(b).astype(np.float32) / 10, f"b{i}"))
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"]))
        name = f"h{i}"
        if not last:
            nodes.append(helper.make_node("Relu", [name], [f"r{i}"]))
            name = f"r{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", w]) for n, w in (("x", WIDTHS[0]), ("y", WIDTHS[-1]))]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, sys.argv[1])


if __name__ == "__main__":
    main()
