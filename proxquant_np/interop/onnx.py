"""Inference graphs in ONNX, which ONNX Runtime and others run; extra `interop`.

    pq.interop.onnx.export(pq.load_packed("net.npz"), "net.onnx", (1, 8, 8))

One function a layer, in `_RULES`; a network is what its `forward` makes of its layers, said once
more here for each kind. Batch norm uses its running statistics, dropout does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np import models, nn
from proxquant_np.interop import require
from proxquant_np.models.resnet import BasicBlock
from proxquant_np.training import written_whole

OPSET, IR_VERSION = 17, 9  # of 2022 and 2023: old enough for every runtime, ReduceMean as written


def export(model: nn.Module, path: str | os.PathLike, input_shape: Sequence[int]) -> None:
    """Write the network as a graph from "input" (n, *input_shape) to "output", n free.

    MLP, SmallCNN, ResNet, and a Sequential of the layers with a rule here. The file is written
    whole or not at all. Weights are the model's as they are: deploy them first.

    Raises:
        TypeError: a layer that has no rule, such as LSTM.
        ValueError: an input shape that does not fit the network.
        OSError: the folder is missing, read-only or full.
        ModuleNotFoundError: onnx is not installed (extra `interop`).

    Examples:
        >>> model = pq.nn.Sequential(pq.nn.Linear(3, 2), pq.nn.ReLU()).eval()
        >>> pq.interop.onnx.export(model, "net.onnx", input_shape=(3,))
        >>> import onnx
        >>> [node.op_type for node in onnx.load("net.onnx").graph.node]
        ['MatMul', 'Add', 'Relu', 'Identity']
    """
    graph = _Graph()
    dtype = next(iter(model.parameters())).dtype
    graph.emit("Identity", ["output"], [graph.module(model, "input")])
    content = graph.model(tuple(input_shape), dtype).SerializeToString()
    with written_whole(path) as file:
        file.write(content)


class _Graph:
    """Nodes and constants, named as they come."""

    def __init__(self) -> None:
        self.onnx = require("onnx")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def module(self, module: nn.Module, x: str) -> str:
        """Add a module's nodes; the name of its output."""
        if type(module) not in _RULES:
            known = ", ".join(kind.__name__ for kind in _RULES)
            raise TypeError(f"{type(module).__name__} cannot be exported; there are {known}")
        return _RULES[type(module)](self, module, x)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; its name."""
        name = f"{op}_{len(self.nodes)}"
        self.emit(op, [name], inputs, **attributes)
        return name

    def emit(self, op: str, outputs: list[str], inputs: Sequence[str], **attributes: Any) -> None:
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), outputs, **attributes))

    def constant(self, value: Any) -> str:
        """Add an array; its name."""
        value = getattr(value, "data", value) if isinstance(value, nn.Parameter) else value
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.array(value), name))
        return name

    def model(self, input_shape: tuple[int, ...], dtype: np.dtype) -> Any:
        helper = self.onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        ends = [
            helper.make_tensor_value_info("input", kind, ["n", *input_shape]),
            helper.make_tensor_value_info("output", kind, None),
        ]
        graph = helper.make_graph(self.nodes, "proxquant_np", ends[:1], ends[1:], self.constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        try:
            model = require("onnx.shape_inference").infer_shapes(model)  # that of the output, too
            self.onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # the package has exceptions of its own
            raise ValueError(f"input_shape {input_shape} does not fit the network") from error
        return model


def _chain(graph: _Graph, modules: Sequence[nn.Module], x: str) -> str:
    for module in modules:
        x = graph.module(module, x)
    return x


def _linear(graph: _Graph, layer: nn.Linear, x: str) -> str:
    y = graph.add("MatMul", x, graph.constant(layer.weight.data.T))
    return y if layer.bias is None else graph.add("Add", y, graph.constant(layer.bias))


def _conv(graph: _Graph, layer: nn.Conv2d, x: str) -> str:
    kernel = layer.weight.shape[2:]
    pairs = {k: _pair(getattr(layer, k)) for k in ("stride", "dilation")}
    if layer.padding == "same":  # where the sum is odd, the end gets the extra row
        total = [d * (k - 1) for d, k in zip(pairs["dilation"], kernel, strict=True)]
        pads = [n // 2 for n in total] + [n - n // 2 for n in total]
    else:
        pads = 2 * _pair(0 if layer.padding == "valid" else layer.padding)
    y = graph.add(
        "Conv",
        x,
        graph.constant(layer.weight),
        *([] if layer.bias is None else [graph.constant(layer.bias)]),
        kernel_shape=list(kernel),
        strides=pairs["stride"],
        dilations=pairs["dilation"],
        pads=pads,
        group=layer.groups,
    )
    return y


def _norm(graph: _Graph, layer: nn.BatchNorm1d, x: str, residual: str | None = None) -> str:
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = [graph.constant(getattr(layer, name)) for name in names]
    y = graph.add("BatchNormalization", x, *arrays, epsilon=layer.eps)
    y = y if residual is None else graph.add("Add", y, residual)
    return graph.add("Relu", y) if layer.relu else y


def _max_pool(graph: _Graph, layer: nn.MaxPool2d, x: str) -> str:
    kernel, stride, padding, dilation = layer.options
    return graph.add("MaxPool", x, dilations=_pair(dilation), **_window(kernel, stride, padding))


def _avg_pool(graph: _Graph, layer: nn.AvgPool2d, x: str) -> str:
    return graph.add("AveragePool", x, count_include_pad=1, **_window(*layer.options))


def _block(graph: _Graph, block: BasicBlock, x: str) -> str:
    y = _chain(graph, [block.conv1, block.bn1, block.conv2], x)
    return _norm(graph, block.bn2, y, graph.module(block.shortcut, x))


def _resnet(graph: _Graph, net: models.ResNet, x: str) -> str:
    stages = [net.layer1, net.layer2, net.layer3]
    return _chain(graph, [net.conv1, net.bn1, *stages, net.pool, net.linear], x)


def _window(kernel: Any, stride: Any, padding: Any) -> dict[str, list[int]]:
    stride = kernel if stride is None else stride
    return {"kernel_shape": _pair(kernel), "strides": _pair(stride), "pads": 2 * _pair(padding)}


def _pair(value: Any) -> list[int]:
    return [value] * 2 if isinstance(value, int) else list(value)


_RULES: dict[type, Callable[..., str]] = {
    models.MLP: lambda g, net, x: g.module(net.layers, x),
    models.SmallCNN: lambda g, net, x: _chain(g, [net.features, net.classifier], x),
    models.ResNet: _resnet,
    BasicBlock: _block,
    nn.Sequential: _chain,
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.GlobalAvgPool2d: lambda g, layer, x: g.add("ReduceMean", x, axes=[2, 3], keepdims=0),
    nn.ReLU: lambda g, layer, x: g.add("Relu", x),
    nn.Tanh: lambda g, layer, x: g.add("Tanh", x),
    nn.Flatten: lambda g, layer, x: g.add("Flatten", x),
    nn.Dropout: lambda g, layer, x: x,
}
