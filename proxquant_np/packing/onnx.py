"""Packed networks as ONNX graphs whose weights stay packed, equal to the deployed ones bit for bit.

A quantized weight is stored as codes and turned into its entries by nodes of the graph. Three forms
of it differ in the operator that does this (`operator`):

    Gather            the k-bit codes of the packed file, unpacked by shifts, choose from a table of
                      levels. For every set, in opset 17.
    DequantizeLinear  2-, 4- or 8-bit integers times a step, for levels that are whole multiples of
                      one (binary, symmetric ternary, uniform). It needs opset 21, for 2 bits 25.
    MatMulNBits       the same integers inside ONNX Runtime's own product (domain com.microsoft),
                      which unpacks them as it runs. Linear layers; all others as DequantizeLinear.

All else, such as biases and batch norm, is written as it is. A runtime adds the error of its own
products only. In the second form a linear layer, whose inputs must be vectors, is a Gemm by the
transpose: ONNX Runtime replaces a DequantizeLinear and a MatMul by a product that rounds the
activations to 8 bits and, with 2-bit codes and some widths, is wrong (docs/deployment.md).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.autograd import Tensor, no_grad
from proxquant_np.checks import check_choice
from proxquant_np.files import read_whole, shown, written_whole
from proxquant_np.interop import onnx as graphs
from proxquant_np.interop import require
from proxquant_np.models import MLP
from proxquant_np.nn import Linear, Module, Parameter
from proxquant_np.packing import forms
from proxquant_np.packing.codes import Codes
from proxquant_np.packing.file import load_packed, read_packed

OPERATORS = ("Gather", "DequantizeLinear", "MatMulNBits")
TOLERANCE = 1e-4  # of the outputs, relative to the largest: float32 sums in another order


class Checked(NamedTuple):
    """What ONNX Runtime made of a file: how many weights it computed, all of them equal to the bit,
    and the largest difference of an output, relative to the largest output.

    Examples:
        >>> pq.packing.Checked("1.32.0", weights=3, difference=2e-7).weights
        3
    """

    version: str
    weights: int
    difference: float


def to_onnx(
    packed: str | os.PathLike,
    path: str | os.PathLike,
    input_shape: tuple[int, ...] | None = None,
    operator: str = "Gather",
    model: Module | None = None,
) -> None:
    """Write the network of a packed file as an ONNX graph, its weights in one of the forms above.

    input_shape: without the axis of the batch; by default that of an MLP. The graph computes each
    weight in a tensor that has its name (in the form MatMulNBits, convolutions only). `model` is as
    for `load_packed`, and the rest as for `interop.onnx.export`.

    Raises:
        PackedError: the file is not a packed file, or not of this network.
        ValueError: nothing in it is quantized, `operator` cannot express a weight, or the input
            shape is needed or does not fit.
        TypeError: a layer cannot be exported.
        OSError: a file cannot be read or written.
        ModuleNotFoundError: onnx is not installed (extra `interop`).

    Examples:
        >>> pq.pack(pq.models.MLP((64, 32, 10), rng=0), pq.prox.MultiBitL2(1), "net.npz")
        >>> pq.packing.to_onnx("net.npz", "net.onnx")
        >>> checked = pq.packing.check_onnx("net.npz", "net.onnx")
        >>> checked.weights, checked.difference < 1e-5
        (2, True)
    """
    check_choice("operator", operator, OPERATORS)
    network, codes = _load(packed, model)
    form = {"Gather": forms.Table, "DequantizeLinear": forms.Steps}.get(operator)
    weights: dict[int, graphs.Coded] = {}
    for name, layer, weight in _coded(network, codes):
        own = form or (forms.StepsInProduct if type(layer) is Linear else forms.Steps)
        weights[id(weight)] = own(name, codes[name])
    if not weights:
        raise ValueError(f"{shown(packed)} holds no quantized weights: export it as it is")
    if input_shape is None:
        input_shape = default_shape(network)
    opset = max(weight.opset for weight in weights.values())
    content = graphs.content_of(network, input_shape, weights=weights, opset=opset)
    _shorten(content.graph, {weight.name for weight in weights.values()})
    with written_whole(path) as file:
        file.write(content.SerializeToString())


def _shorten(graph: Any, kept: set[str]) -> None:
    """Take out what a runtime does not need, a tenth of a file: long names, default attributes."""
    kept = {"", "input", "output"} | kept
    free = (name for n in itertools.count() if (name := np.base_repr(n, 36)) not in kept)
    short: dict[str, str] = {}

    def renamed(name: str) -> str:
        if name not in kept and name not in short:
            short[name] = next(free)
        return short.get(name, name)

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for node in graph.node:
        node.ClearField("name")
        node.input[:], node.output[:] = map(renamed, node.input), map(renamed, node.output)
        for given in list(node.attribute):
            if _by_default(node.op_type, given):
                node.attribute.remove(given)


def _by_default(op: str, given: Any) -> bool:
    if op == "BatchNormalization":
        return given.name == "epsilon" and given.f == np.float32(1e-5)
    ones = given.name in ("strides", "dilations") and set(given.ints) == {1}
    alone = given.name == "group" and given.i == 1
    return op == "Conv" and (ones or alone or given.name == "kernel_shape")


def default_shape(network: Module) -> tuple[int, ...]:
    """The input shape of an MLP, without the axis of the batch; ValueError for other networks."""
    if not isinstance(network, MLP):
        raise ValueError(
            f"input_shape must be given for a {type(network).__name__}, such as (3, 32, 32)"
        )
    return (network.arguments["sizes"][0],)


def _load(packed: str | os.PathLike, model: Module | None) -> tuple[Module, dict[str, Codes]]:
    """The network, and the codes of its weights under all of their names."""
    network, entries = load_packed(packed, model), read_packed(packed).entries
    whole = {k: entries[v] if isinstance(v, str) else v for k, v in entries.items()}
    return network, {name: entry for name, entry in whole.items() if isinstance(entry, Codes)}


def _coded(network: Module, codes: dict[str, Codes]) -> Iterator[tuple[str, Module, Parameter]]:
    """(name, layer, parameter) of the quantized weights, each once."""
    layers, seen = dict(network.named_modules()), set()
    for name, weight in network.named_parameters():
        if name in codes and id(weight) not in seen:
            seen.add(id(weight))
            yield name, layers[name.rpartition(".")[0]], weight


def check_onnx(
    packed: str | os.PathLike,
    path: str | os.PathLike,
    model: Module | None = None,
) -> Checked:
    """Run the file with ONNX Runtime and compare it with the network of the packed file.

    Every quantized weight that the graph computes must equal the deployed one to the bit, and the
    outputs for 16 random inputs must agree within 1e-4 of the largest. A MatMulNBits is given the
    identity matrix, whose products are the weights.

    Raises:
        ValueError: something differs, or ONNX Runtime cannot run the file.
        ModuleNotFoundError: onnx or onnxruntime is not installed (extra `interop`).
        PackedError, OSError: as for `to_onnx`.

    Examples:
        >>> pq.pack(pq.models.MLP((64, 32, 10), rng=0), pq.prox.BinaryL1(), "net.npz")
        >>> pq.packing.to_onnx("net.npz", "net.onnx", operator="MatMulNBits")
        >>> pq.packing.check_onnx("net.npz", "net.onnx").weights
        2
    """
    runtime, onnx = require("onnxruntime"), require("onnx")
    network, codes = _load(packed, model)
    data = read_whole(path)
    try:
        content = onnx.load_from_string(data)
        onnx.checker.check_model(content)
    except Exception as error:  # a damaged file can raise almost anything
        raise ValueError(f"{shown(path)} is not a whole ONNX file: {shown(error)}") from error
    given = {t.name: t for t in content.graph.initializer}
    found: dict[str, np.ndarray] = {}
    for node in content.graph.node:
        name = node.input[1] if node.op_type == "MatMulNBits" else node.output[0]
        if name in codes:
            part = _part(onnx, content, node, given)
            x = np.eye(codes[name].shape[1], dtype=np.float32) if name in node.input else None
            y = _run(runtime, part, x, path)
            found[name] = y if x is None else y.T
    for name, _, weight in _coded(network, codes):
        if name not in found:
            raise ValueError(f"{shown(path)} does not compute {name}")
        if found[name].tobytes() != weight.data.astype(found[name].dtype).tobytes():
            moved = np.abs(found[name] - weight.data).max()
            raise ValueError(
                f"{shown(path)}: ONNX Runtime {runtime.__version__} computes {name} differently, "
                f"by up to {moved:.3g}"
            )
    return Checked(runtime.__version__, len(found), _difference(runtime, network, content, path))


def _part(onnx: Any, content: Any, node: Any, given: dict[str, Any]) -> Any:
    """The model of one node and of what computes its inputs, save that of a product."""
    makers = {name: maker for maker in content.graph.node for name in maker.output}
    nodes, open_names, wanted = [node], list(node.input), onnx.ModelProto()
    wanted.CopyFrom(content)
    ends = {"input": [], "output": [onnx.ValueInfoProto(name=node.output[0])]}
    if node.op_type == "MatMulNBits":
        kind = onnx.TensorProto.FLOAT
        ends["input"] = [onnx.helper.make_tensor_value_info(open_names.pop(0), kind, None)]
    inputs = []
    while open_names:
        name = open_names.pop()
        if name in given:
            inputs.append(given[name])
        else:
            nodes.insert(0, makers[name])
            open_names += makers[name].input
    graph = onnx.helper.make_graph(
        nodes, "weight", **{k + "s": v for k, v in ends.items()}, initializer=inputs
    )
    wanted.graph.CopyFrom(graph)
    return wanted


def _run(runtime: Any, content: Any, x: np.ndarray | None, path: str | os.PathLike) -> np.ndarray:
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # its errors are raised as well
    try:
        session = runtime.InferenceSession(
            content.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feeds = {} if x is None else {session.get_inputs()[0].name: x}
        return session.run(None, feeds)[0]
    except Exception as error:  # the package has exceptions of its own
        raise ValueError(
            f"{shown(path)} cannot be run by ONNX Runtime {runtime.__version__}: {error}"
        ) from error


def _difference(runtime: Any, network: Module, content: Any, path: str | os.PathLike) -> float:
    """The largest difference of 16 outputs, relative to the largest output; ValueError if large."""
    kind = content.graph.input[0].type.tensor_type
    shape = [axis.dim_value for axis in kind.shape.dim][1:]
    dtype = require("onnx.helper").tensor_dtype_to_np_dtype(kind.elem_type)
    x = np.random.default_rng(0).normal(size=(16, *shape)).astype(dtype)
    with no_grad():
        wanted = network(Tensor(x)).data
    found = _run(runtime, content, x, path)
    scale = np.abs(wanted).max() or 1
    difference = float(np.abs(found - wanted).max() / scale)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{shown(path)}: outputs of ONNX Runtime {runtime.__version__} differ by "
            f"{difference:.2g} of the largest; its weights are right"
        )
    return difference
