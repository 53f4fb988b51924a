"""Inference graphs in ONNX, which ONNX Runtime and others run. Needs the extra `interop`.

    pq.interop.onnx.export(pq.load_packed("net.npz"), "net.onnx", (1, 8, 8))

`_RULES` has one function per layer. How a network's `forward` combines its layers is stated once
more: here for each kind of network in this package, or by the module itself, in a method
`to_onnx(graph, x)` that adds its nodes to the `Graph` and returns the name of its output:

    class Residual(pq.nn.Module):
        def __init__(self, layers):
            self.layers = layers
        def forward(self, x):
            return x + self.layers(x)
        def to_onnx(self, graph, x):
            return graph.add("Add", x, graph.module(self.layers, x))

Batch norm uses its running statistics, and dropout does nothing.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from proxquant_np import models, nn
from proxquant_np.autograd import Tensor, no_grad
from proxquant_np.checks import check_instance
from proxquant_np.files import written_whole
from proxquant_np.interop import require
from proxquant_np.models.resnet import BasicBlock

OPSET, IR_VERSION = 17, 9  # from 2022 and 2023: old enough for every runtime
_NOT_IN_FLOAT64 = {"Conv", "AveragePool"}  # missing in ONNX Runtime, though standard


def export(
    model: nn.Module,
    path: str | os.PathLike,
    input_shape: Sequence[int],
    dtype: type | None = None,
) -> None:
    """Write the network as a graph from "input" (n, *input_shape) to "output", for any n.

    This works for MLP, SmallCNN, ResNet, a Sequential of layers that have a rule here, classes that
    inherit `forward` from one of these, and modules with a method `to_onnx` (see above). The file
    is written whole or not at all. Weights are written as they are: deploy them first. `dtype` is
    that of the graph and its weights; by default the widest of the parameters', or float32.

    Raises:
        TypeError: a layer has no rule, such as LSTM, or input_shape is not a sequence of integers.
        ValueError: the input shape does not fit the network (a copy of it is run once, on zeros),
            or ONNX Runtime cannot run the network in float64: pass dtype=np.float32, or
            dtype=np.float64 to write it for other runtimes.
        OSError: the folder is missing, read-only or full.
        ModuleNotFoundError: onnx is not installed (extra `interop`).

    Examples:
        >>> model = pq.nn.Sequential(pq.nn.Linear(3, 2), pq.nn.ReLU()).eval()
        >>> pq.interop.onnx.export(model, "net.onnx", input_shape=(3,))
        >>> import onnx
        >>> [node.op_type for node in onnx.load("net.onnx").graph.node]
        ['MatMul', 'Add', 'Relu', 'Identity']
    """
    content = content_of(model, input_shape, dtype).SerializeToString()
    with written_whole(path) as file:
        file.write(content)


def content_of(
    model: nn.Module,
    input_shape: Sequence[int],
    dtype: type | None = None,
    weights: Mapping[int, Coded] | None = None,
    opset: int = 0,
) -> Any:
    """The ModelProto that `export` writes; `weights` and `opset` as for `Graph`.

    Examples:
        >>> model = pq.interop.onnx.content_of(pq.nn.Sequential(pq.nn.ReLU()), (3,))
        >>> [node.op_type for node in model.graph.node]
        ['Relu', 'Identity']
    """
    check_instance("model", model, nn.Module, "a Module")
    shape = _shape(input_shape)
    widest = np.result_type(np.float32, *(p.dtype for p in model.parameters()))
    graph = Graph(widest if dtype is None else dtype, weights, opset)
    graph._emit("Identity", ["output"], [graph.module(model, "input")])
    alien = sorted(_NOT_IN_FLOAT64 & {node.op_type for node in graph.nodes})
    if dtype is None and graph.dtype == np.float64 and alien:
        raise ValueError(
            f"the network is float64, in which ONNX Runtime has no {' or '.join(alien)}: pass "
            "dtype=np.float32 (or dtype=np.float64, for other runtimes)"
        )
    return graph._model(shape, _output_shape(model, shape, widest))


def _shape(input_shape: Any) -> tuple[int, ...]:
    whole = isinstance(input_shape, Sequence) and not isinstance(input_shape, str)
    if not whole or not all(isinstance(n, int | np.integer) for n in input_shape):
        raise TypeError(
            f"input_shape must be a sequence of integers such as (64,) or (3, 32, 32), without the "
            f"axis of the batch, got {input_shape!r}"
        )
    if not all(n > 0 for n in input_shape):
        raise ValueError(f"input_shape must hold positive lengths, got {tuple(input_shape)}")
    return tuple(map(int, input_shape))


def _output_shape(model: nn.Module, shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    """The shape that a copy of the model maps a batch of one to, or the model's own error."""
    trial = copy.deepcopy(model).eval()
    try:
        with no_grad():
            return trial(Tensor(np.zeros((1, *shape), dtype))).shape
    except Exception as error:  # whatever a module raises
        raise ValueError(f"input_shape {shape} does not fit the network: {error}") from error


class Coded(Protocol):
    """A weight that is written in another form than its entries.

    Examples:
        >>> class Doubled:
        ...     def __init__(self, half):
        ...         self.half = half
        ...     def array(self, graph):
        ...         return graph.add("Add", *2 * [graph.constant(self.half)])
        ...     def product(self, graph, x):
        ...         return graph.add("Gemm", x, self.array(graph), transB=1)
        ...
        >>> layer = pq.nn.Linear(3, 2, bias=False)
        >>> weights = {id(layer.weight): Doubled(layer.weight.data / 2)}
        >>> graph = pq.interop.onnx.Graph(weights=weights)
        >>> graph.module(layer, "input"), [node.op_type for node in graph.nodes]
        ('Gemm_1', ['Add', 'Gemm'])
    """

    def array(self, graph: Graph) -> str:
        """Add what computes the weight; returns its name."""

    def product(self, graph: Graph, x: str) -> str:
        """Add what computes x W^T for a matrix W; returns its name."""


class Graph:
    """An ONNX graph under construction, to which a module's `to_onnx(graph, x)` adds its nodes.

    weights: how to write some of the parameters, by their id. opset: if more than 17 is needed.

    Examples:
        >>> graph = pq.interop.onnx.Graph()
        >>> y = graph.module(pq.nn.Linear(3, 2), "input")
        >>> graph.add("Mul", y, graph.constant(0.5))
        'Mul_2'
        >>> [node.op_type for node in graph.nodes]
        ['MatMul', 'Add', 'Mul']
    """

    def __init__(
        self,
        dtype: type = np.float32,
        weights: Mapping[int, Coded] | None = None,
        opset: int = 0,
    ) -> None:
        self.onnx = require("onnx")
        self.dtype, self.weights, self.opset = np.dtype(dtype), weights or {}, max(OPSET, opset)
        self.functions: dict[str, Any] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._path: list[str] = []

    def module(self, module: nn.Module, x: str) -> str:
        """Add the nodes of a module with input x; returns the name of its output."""
        rule = _rule(module)
        self._path.append(type(module).__name__)
        y = rule(self, module, x)
        self._path.pop()
        return y

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of the ONNX operator `op` (opset 17) with one output; returns its name."""
        name = f"{op}_{len(self.nodes)}"
        self._emit(op, [name], inputs, **attributes)
        return name

    def constant(self, value: Any, name: str = "") -> str:
        """Add an array, a number or a tensor, floats in the graph's dtype; returns its name."""
        if id(value) in self.weights:
            return self.weights[id(value)].array(self)
        value = np.array(value.data if isinstance(value, Tensor) else value)  # in C order
        if value.dtype.kind == "f":
            value = value.astype(self.dtype)
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def _emit(self, op: str, outputs: list[str], inputs: Sequence[str], **attributes: Any) -> None:
        name = f"{'.'.join(self._path)}:{len(self.nodes)}"  # tells messages the layer
        node = self.onnx.helper.make_node(op, list(inputs), outputs, name=name, **attributes)
        self.nodes.append(node)

    def _model(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Any:
        helper = self.onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        ends = [
            helper.make_tensor_value_info("input", kind, ["n", *input_shape]),
            helper.make_tensor_value_info("output", kind, ["n", *output_shape[1:]]),
        ]
        graph = helper.make_graph(self.nodes, "proxquant_np", ends[:1], ends[1:], self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        ir_version = max(IR_VERSION, helper.find_min_ir_version_for(opsets))
        domains = sorted({node.domain for node in self.nodes} - {""})
        model = helper.make_model(
            graph,
            opset_imports=opsets + [helper.make_opsetid(domain, 1) for domain in domains],
            functions=list(self.functions.values()),
            ir_version=ir_version,
        )
        try:
            require("onnx.shape_inference").infer_shapes(model, strict_mode=True)
            self.onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # the package has exceptions of its own
            raise ValueError(
                f"input_shape {input_shape} does not fit the network in ONNX, where it must give "
                f"the shape {('n', *output_shape[1:])} as here: {error}"
            ) from error
        return model


def _rule(module: nn.Module) -> Callable[[Graph, Any, str], str]:
    """The module's own rule, or that of the class whose `forward` it has."""
    if hasattr(module, "to_onnx"):
        return lambda graph, module, x: module.to_onnx(graph, x)
    kind = type(module)
    inherited = (base for base in kind.__mro__ if base in _RULES and base.forward is kind.forward)
    known = next(inherited, None)
    if known is None:
        names = ", ".join(base.__name__ for base in _RULES)
        raise TypeError(
            f"{kind.__name__} cannot be exported; there are {names}, and modules with a method "
            "to_onnx(graph, x) (see proxquant_np.interop.onnx)"
        )
    return _RULES[known]


def _chain(graph: Graph, modules: Sequence[nn.Module], x: str) -> str:
    for module in modules:
        x = graph.module(module, x)
    return x


def _linear(graph: Graph, layer: nn.Linear, x: str, weight: Tensor | None = None) -> str:
    weight = layer.weight if weight is None else weight
    coded = graph.weights.get(id(weight))
    if coded is None:
        y = graph.add("MatMul", x, graph.constant(weight.data.T))
    else:
        y = coded.product(graph, x)
    return y if layer.bias is None else graph.add("Add", y, graph.constant(layer.bias))


def _conv(graph: Graph, layer: nn.Conv2d, x: str) -> str:
    kernel = list(layer.weight.shape[2:])
    pairs = {k: _pair(getattr(layer, k)) for k in ("stride", "dilation")}
    if layer.padding == "same":  # if the sum is odd, the end gets the extra row
        total = [d * (k - 1) for d, k in zip(pairs["dilation"], kernel, strict=True)]
        pads = [n // 2 for n in total] + [n - n // 2 for n in total]
    else:
        pads = 2 * _pair(0 if layer.padding == "valid" else layer.padding)
    return graph.add(
        "Conv",
        x,
        graph.constant(layer.weight),
        *([] if layer.bias is None else [graph.constant(layer.bias)]),
        kernel_shape=kernel,
        strides=pairs["stride"],
        dilations=pairs["dilation"],
        pads=pads,
        group=int(layer.groups),
    )


def _norm(graph: Graph, layer: nn.BatchNorm1d, x: str, residual: str | None = None) -> str:
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = [graph.constant(getattr(layer, name)) for name in names]
    y = graph.add("BatchNormalization", x, *arrays, epsilon=layer.eps)
    y = y if residual is None else graph.add("Add", y, residual)
    return graph.add("Relu", y) if layer.relu else y


def _max_pool(graph: Graph, layer: nn.MaxPool2d, x: str) -> str:
    *window, dilation, ceil_mode = layer.options
    window = _window(*window, ceil_mode, dilation)
    if ceil_mode:  # ONNX Runtime requires less padding than the undilated kernel
        top, left, bottom, right = window["pads"]
        ends = graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))
        x = graph.add("Pad", x, ends, graph.constant(-np.inf))
        window["pads"] = [0] * 4
    return graph.add("MaxPool", x, dilations=_pair(dilation), **window)


def _avg_pool(graph: Graph, layer: nn.AvgPool2d, x: str) -> str:
    *window, ceil_mode, count_include_pad, divisor = layer.options
    window = _window(*window, ceil_mode)
    top, left, bottom, right = window["pads"]
    if divisor is not None:
        y = graph.add("AveragePool", x, count_include_pad=1, **window)  # the sum over all pixels
        return graph.add("Mul", y, graph.constant(math.prod(window["kernel_shape"]) / divisor))
    counted = count_include_pad and top + left > 0
    y = graph.add("AveragePool", x, count_include_pad=int(counted), **window)
    if ceil_mode and counted:  # what lies beyond the padding does not count
        padded = np.array([0, 0, 2 * top, 2 * left])
        padded = graph.add("Add", graph.add("Shape", x), graph.constant(padded))
        one = graph.onnx.numpy_helper.from_array(np.ones(1, graph.dtype))
        ones = graph.add("ConstantOfShape", padded, value=one)
        window["pads"] = [0, 0, bottom - top, right - left]
        y = graph.add("Div", y, graph.add("AveragePool", ones, count_include_pad=1, **window))
    return y


def _global_avg_pool(graph: Graph, layer: nn.GlobalAvgPool2d, x: str) -> str:
    if graph.opset < 18:
        return graph.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    return graph.add("ReduceMean", x, graph.constant(np.array([2, 3])), keepdims=0)


def _block(graph: Graph, block: BasicBlock, x: str) -> str:
    y = _chain(graph, [block.conv1, block.bn1, block.conv2], x)
    return _norm(graph, block.bn2, y, graph.module(block.shortcut, x))


def _resnet(graph: Graph, net: models.ResNet, x: str) -> str:
    stages = [net.layer1, net.layer2, net.layer3]
    return _chain(graph, [net.conv1, net.bn1, *stages, net.pool, net.linear], x)


def _window(
    kernel: Any, stride: Any, padding: Any, ceil_mode: bool, dilation: Any = 1
) -> dict[str, list[int]]:
    """Where windows lie. Rounding up is expressed by padding the end, on which all runtimes agree.

    The padding suffices for one more window whenever a pixel is left over (padding + stride - 1),
    but not for one that starts beyond the padded input (span - 1).
    """
    kernel, padding = _pair(kernel), _pair(padding)
    stride = kernel if stride is None or stride == () else _pair(stride)
    ends = padding
    if ceil_mode:
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, _pair(dilation), strict=True)]
        pairs = zip(padding, stride, spans, strict=True)
        ends = [min(p + s - 1, span - 1) for p, s, span in pairs]
    return {"kernel_shape": kernel, "strides": stride, "pads": padding + ends}


def _pair(value: Any) -> list[int]:
    return np.broadcast_to(value, 2).tolist()


_RULES: dict[type, Callable[..., str]] = {
    models.MLP: lambda g, net, x: g.module(net.layers, x),
    models.SmallCNN: lambda g, net, x: _chain(g, [net.features, net.classifier], x),
    models.ResNet: _resnet,
    BasicBlock: _block,
    nn.Sequential: _chain,
    nn.TrainedTernaryLinear: lambda g, layer, x: _linear(g, layer, x, layer.ternary()),
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.GlobalAvgPool2d: _global_avg_pool,
    nn.ReLU: lambda g, layer, x: g.add("Relu", x),
    nn.Tanh: lambda g, layer, x: g.add("Tanh", x),
    nn.Flatten: lambda g, layer, x: g.add("Flatten", x),
    nn.Dropout: lambda g, layer, x: x,
}
