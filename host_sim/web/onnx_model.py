# SPDX-License-Identifier: MIT
"""An ordinary vision transformer as ONNX, of a model file's sizes, with random weights: only its speed counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ftervit.architecture import convolutions, grids
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

OPSET = 20
CALIBRATION = 8  # pictures


class Graph:
    """Nodes and weights of a graph while it is made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.random = np.random.default_rng(0)

    def constant(self, value: Any) -> str:
        """A tensor's name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int) -> str:
        """Random weights' name."""
        scale = np.prod(shape[:-1] if len(shape) == 2 else shape[1:]) ** -0.5
        return self.constant(self.random.normal(0, scale, shape).astype(np.float32))

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """The output's name of a new node."""
        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """x @ W + b."""
        return self.add("Add", self.add("MatMul", x, self.weight(inputs, outputs)), self.weight(outputs))

    def norm(self, x: str, width: int) -> str:
        """LayerNorm over the last axis."""
        one = self.constant(np.ones(width, np.float32))
        return self.add("LayerNormalization", x, one, self.weight(width), axis=-1)

    def shaped(self, x: str, *shape: int) -> str:
        """Reshape."""
        return self.add("Reshape", x, self.constant(np.array(shape, np.int64)))


def vision_transformer(sizes: dict[str, Any]) -> Any:
    """The ONNX model of an architecture (a model file's, SPEC 10)."""
    graph = Graph()
    width, heads, hidden = sizes["embed_dim"], sizes["num_heads"], sizes["mlp_hidden"]
    shape = [1, sizes["in_chans"], sizes["img_size"], sizes["img_size"]]
    x, layers = "picture", list(convolutions(sizes))
    for i, ((_, kernel, stride, padding, outputs), (_, channels)) in enumerate(
        zip(layers, grids(sizes)[: len(layers)], strict=True)
    ):
        weights = graph.weight(outputs, channels, kernel, kernel), graph.weight(outputs)
        x = graph.add("Conv", x, *weights, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)
        if i < len(layers) - 1:
            x = graph.add("Gelu", x)
    patches = grids(sizes)[-1][0] ** 2
    tokens = patches + 1
    x = graph.add("Transpose", graph.shaped(x, 1, width, patches), perm=[0, 2, 1])
    x = graph.add("Concat", graph.weight(1, 1, width), x, axis=1)
    x = graph.add("Add", x, graph.weight(1, tokens, width))
    scale = graph.constant(np.float32((width // heads) ** -0.5))
    for _ in range(sizes["depth"]):
        qkv = graph.shaped(graph.linear(graph.norm(x, width), width, 3 * width), tokens, 3, heads, width // heads)
        qkv = graph.add("Transpose", qkv, perm=[1, 2, 0, 3])
        q, k, v = (graph.add("Gather", qkv, graph.constant(np.int64(i)), axis=0) for i in range(3))
        scores = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 2, 1]))
        weights_of = graph.add("Softmax", graph.add("Mul", scores, scale), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", weights_of, v), perm=[1, 0, 2])
        x = graph.add("Add", x, graph.linear(graph.shaped(mixed, 1, tokens, width), width, width))
        inner = graph.add("Gelu", graph.linear(graph.norm(x, width), width, hidden))
        x = graph.add("Add", x, graph.linear(inner, hidden, width))
    first = graph.add("Gather", graph.norm(x, width), graph.constant(np.int64(0)), axis=1)
    logits = graph.linear(first, width, sizes["num_classes"])
    given = helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info(logits, TensorProto.FLOAT, [1, sizes["num_classes"]])
    whole = helper.make_graph(graph.nodes, "vit", [given], [made], graph.weights)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


class Pictures(CalibrationDataReader):
    """Random pictures, for the ranges of activations."""

    def __init__(self, shape: list[int]):
        random = np.random.default_rng(1)
        self.left: Iterator[dict[str, Any]] = iter(
            [{"picture": random.normal(0, 1, shape).astype(np.float32)} for _ in range(CALIBRATION)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next picture."""
        return next(self.left, None)


def write(sizes: dict[str, Any], folder: Path) -> list[int]:
    """Write fp32.onnx and int8.onnx (static, QDQ) to a folder; returns the shape of their input."""
    model = vision_transformer(sizes)
    onnx.save(model, folder / "fp32.onnx")
    shape = [1, sizes["in_chans"], sizes["img_size"], sizes["img_size"]]
    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(
        folder / "fp32.onnx", folder / "int8.onnx", Pictures(shape), quant_format=QuantFormat.QDQ, **options
    )
    return shape
