"""How an ONNX graph computes a weight from its codes: by a table, by steps, or inside a product."""

from __future__ import annotations

from typing import Any

import numpy as np

from proxquant_np.interop import onnx as graphs
from proxquant_np.interop.onnx import Graph
from proxquant_np.packing.codes import Codes

DOMAIN, MICROSOFT = "proxquant", "com.microsoft"


class Table:
    """levels[codes], by a function of the graph, one for each kind of set."""

    opset = graphs.OPSET

    def __init__(self, name: str, codes: Codes) -> None:
        self.name, self.codes = name, codes

    def array(self, graph: Graph) -> str:
        """Add a call of the function."""
        codes, (sets, n_levels) = self.codes, self.codes.levels.shape
        levels, attributes = codes.stored_levels, {"shape": codes.shape}
        kind = f"Unpack{levels.shape[1]}of{n_levels}"
        if sets == 1:
            levels = levels[0]
        elif not codes.axis:
            kind += "Rows"
        else:
            kind += "Axis"
            attributes["sets"] = [sets] + [1] * (len(codes.shape) - 1 - codes.axis)
        if kind not in graph.functions:
            graph.functions[kind] = _unpack(graph.onnx, kind, codes, sorted(attributes))
        inputs = [graph.constant(codes.packed), graph.constant(levels)]
        graph._emit(kind, [self.name], inputs, domain=DOMAIN, **attributes)
        return self.name

    def product(self, graph: Graph, x: str) -> str:
        """Add the weight and x W^T."""
        return graph.add("MatMul", x, graph.add("Transpose", self.array(graph), perm=[1, 0]))


def _unpack(onnx: Any, kind: str, codes: Codes, attributes: list[str]) -> Any:
    """The function (packed, levels) -> weight. Only operators of opset 17."""
    n_levels, nodes = codes.levels.shape[1], []

    def add(op: str, *inputs: str, output: str = "", **options: Any) -> str:
        nodes.append(onnx.helper.make_node(op, inputs, [output or f"{len(nodes)}"], **options))
        return nodes[-1].output[0]

    def integers(*values: int, dtype: Any = None) -> str:
        if dtype is None:
            return add("Constant", value_ints=list(values))
        return add("Constant", value=onnx.numpy_helper.from_array(np.array(values, dtype)))

    def attribute(name: str) -> str:
        output = add("Constant")
        kind = onnx.AttributeProto.INTS
        nodes[-1].attribute.add(name="value_ints", ref_attr_name=name, type=kind)
        return output

    shape, one, flat, int32 = attribute("shape"), integers(1), integers(-1), onnx.TensorProto.INT32
    bits = add("Unsqueeze", "packed", one)
    bits = add("BitShift", bits, integers(*range(8), dtype=np.uint8), direction="LEFT")
    bits = add("BitShift", bits, integers(7, dtype=np.uint8), direction="RIGHT")
    size = add("Mul", add("ReduceProd", shape), integers(codes.bits))
    bits = add("Slice", add("Reshape", bits, flat), integers(0), size)
    chosen = add("Cast", bits, to=int32)
    if codes.bits > 1:
        powers = integers(*(1 << np.arange(codes.bits)[::-1]), dtype=np.int32)
        chosen = add("MatMul", add("Reshape", chosen, integers(-1, codes.bits)), powers)
    levels = "levels"
    if codes.symmetric:  # 0 - x, since -x would make -0.0 of 0.0
        lower = add("Slice", levels, flat, integers(-1 - n_levels // 2), flat, flat)
        lower = add("Sub", add("CastLike", integers(0), levels), lower)
        levels = add("Concat", lower, levels, axis=-1)
    if len(codes.levels) > 1:  # runs in C order, or along an axis, share levels
        rows = add("Concat", add("Slice", add("Shape", levels), integers(0), one), flat, axis=0)
        start, step = (add("Constant", value_int=value) for value in (0, n_levels))
        first = add("Range", start, add("Size", levels), step)
        along = attribute("sets") if "sets" in attributes else integers(-1, 1)
        first = add("Cast", add("Reshape", first, along), to=int32)
        chosen = add("Reshape", chosen, shape if "sets" in attributes else rows)
        chosen, levels = add("Add", chosen, first), add("Reshape", levels, flat)
    add("Reshape", add("Gather", levels, chosen), shape, output="weight")
    opsets, ends = [onnx.helper.make_opsetid("", graphs.OPSET)], (["packed", "levels"], ["weight"])
    return onnx.helper.make_function(DOMAIN, kind, *ends, nodes, opsets, attributes)


class Steps:
    """(codes - zero) * step, by DequantizeLinear."""

    def __init__(self, name: str, codes: Codes) -> None:
        self.name, self.codes = name, codes
        self.integers, self.steps = _multiples(name, codes)
        low, high = int(self.integers.min()), int(self.integers.max())
        for bits in (2, 4, 8):
            half = 1 << bits - 1
            signed, fits = -half <= low and high < half, low > -2 * half and high - low < 2 * half
            if signed or (fits and low <= 0 <= high):
                self.bits, self.zero = bits, None if signed else -low
                break
        else:
            raise ValueError(
                f"{name}: its levels are {low}..{high} steps, and DequantizeLinear and MatMulNBits "
                "are written with 2, 4 or 8 bits: choose Gather"
            )
        self.opset = 25 if self.bits == 2 else 21

    def chosen(self) -> np.ndarray:
        """For each entry its integer."""
        codes = self.codes
        like = Codes(codes.shape, codes.bits, self.integers, codes.packed, codes.axis, codes.block)
        return like.array()

    def array(self, graph: Graph) -> str:
        """Add the node."""
        codes, sets = self.codes, len(self.codes.levels)
        integers, options, output = self.chosen(), {}, self.name
        if sets > 1:
            options["axis"] = 0 if codes.block else codes.axis
        if sets > 1 and codes.block:  # runs in C order may go beyond a row
            integers, output = integers.reshape(sets, -1), f"{self.name}/runs"
        inputs = [
            self.initializer(graph, integers),
            graph.constant(self.steps if sets > 1 else self.steps[0]),
        ]
        if self.zero is not None:
            zeros = np.zeros(self.steps.shape if sets > 1 else (), np.int64)
            inputs.append(self.initializer(graph, zeros))
        graph._emit("DequantizeLinear", [output], inputs, **options)
        if output != self.name:
            shape = graph.constant(np.array(codes.shape))
            graph._emit("Reshape", [self.name], [output, shape])
        return self.name

    def initializer(self, graph: Graph, integers: np.ndarray) -> str:
        """Add integers, from the zero, as a tensor of 2, 4 or 8 bits, the lowest bits first."""
        kind = f"{'INT' if self.zero is None else 'UINT'}{self.bits}"
        types = graph.onnx.TensorProto
        if not hasattr(types, kind):
            raise ValueError(
                f"onnx {graph.onnx.__version__} has no {kind}: use operator Gather, or a newer onnx"
            )
        content = _lowest_first(integers + (self.zero or 0), self.bits).tobytes()
        name = f"constant_{len(graph.constants)}"
        tensor = types(name=name, data_type=getattr(types, kind), dims=integers.shape)
        tensor.raw_data = content
        graph.constants.append(tensor)
        return name

    def product(self, graph: Graph, x: str) -> str:
        """Add the weight and x W^T for a matrix x: a Gemm, which ONNX Runtime does not replace."""
        return graph.add("Gemm", x, self.array(graph), transB=1)


class StepsInProduct(Steps):
    """The product itself, in blocks of one row, filled up with zeros."""

    def __init__(self, name: str, codes: Codes) -> None:
        super().__init__(name, codes)
        columns, sizes = codes.shape[1], [256, 128, 64, 32, 16]
        if codes.axis not in (None, 0):
            raise ValueError(f"{name}: MatMulNBits has steps for rows, not along axis {codes.axis}")
        if codes.block and (columns % codes.block or codes.block not in sizes):
            raise ValueError(
                f"{name}: MatMulNBits has blocks of 16, 32, 64, 128 or 256 in each row, got runs "
                f"of {codes.block} in rows of {columns}"
            )
        self.block = codes.block or min(sizes, key=lambda size: -(-columns // size) * size)

    def product(self, graph: Graph, x: str) -> str:
        """Add the node."""
        rows, columns = self.codes.shape
        blocks, half = -(-columns // self.block), 1 << self.bits - 1
        zero = half if self.zero is None else self.zero
        integers = np.full((rows, blocks * self.block), zero)
        integers[:, :columns] += self.chosen()
        packed = _lowest_first(integers, self.bits).reshape(rows, blocks, -1)
        steps = self.steps.reshape(-1, blocks if self.codes.block else 1)
        inputs = [x, graph.constant(packed, self.name), graph.constant(steps)]
        if steps.shape != (rows, blocks):
            inputs[2] = graph.add("Expand", inputs[2], graph.constant(np.array([rows, blocks])))
        if self.zero is not None:
            zeros = np.full((rows, -(-blocks * self.bits // 8) * 8 // self.bits), zero)
            inputs.append(graph.constant(_lowest_first(zeros, self.bits).reshape(rows, -1)))
        sizes = {"N": rows, "K": columns, "bits": self.bits, "block_size": self.block}
        return graph.add("MatMulNBits", *inputs, domain=MICROSOFT, accuracy_level=1, **sizes)


def _multiples(name: str, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Integers (sets, levels) and steps (sets,) with integers * steps = levels to the bit."""
    found = [_step(levels) for levels in codes.levels]
    if codes.levels.dtype != np.float32 or None in found:
        bad = codes.levels[found.index(None) if None in found else 0]
        few = ", ".join(f"{level:.6g}" for level in bad[:4]) + (", ..." if len(bad) > 4 else "")
        raise ValueError(
            f"{name}: its levels {few} ({bad.dtype}) are not exactly integers times one float32 "
            "step, as DequantizeLinear and MatMulNBits need: choose Gather, for any levels"
        )
    steps = np.array(found, np.float32)
    return np.rint(codes.levels / steps[:, None]).astype(np.int64), steps


def _step(levels: np.ndarray) -> np.floating | None:
    """The largest step that gives these levels to the bit in at most 8 bits, or None."""
    sizes = np.abs(levels[levels != 0])
    if not sizes.size:
        return levels.dtype.type(1)
    gaps = np.diff(levels)
    least = min(sizes.min(), gaps[gaps > 0].min(initial=np.inf))
    parts = sizes / np.maximum(1, np.rint(sizes / least))  # of a step that is `least`, or near it
    for step in np.unique([*sizes, least, *parts, least / 2]).astype(levels.dtype)[::-1]:
        integers = np.rint(levels / step) + 0  # turns -0.0 into 0.0
        if np.ptp(integers) < 256 and (integers * step).tobytes() == levels.tobytes():
            return step
    return None


def _lowest_first(integers: np.ndarray, bits: int) -> np.ndarray:
    """The lowest `bits` of integers in C order, the first in the lowest bits of a byte."""
    each = integers.reshape(-1, 1) >> np.arange(bits) & 1
    return np.packbits(each.astype(np.uint8), bitorder="little")
