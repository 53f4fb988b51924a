"""Quantized arrays as codes of a few bits, and back, bit for bit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from proxquant_np.libraries import as_numpy
from proxquant_np.prox import QuantizedSet, Regularizer, as_set
from proxquant_np.prox.arrays import as_weights
from proxquant_np.prox.quantized_set import codes_of, set_index

MAX_BITS = 16


@dataclass(frozen=True, eq=False)
class Codes:
    """A quantized array: entry i is levels[set of i, code of i].

    shape: the shape of the array. bits: bits per code, ceil(log2(number of levels)), at least 1.
    levels: (sets, number of levels), ascending along the last axis, in the dtype of the array.
    packed: the codes in C order as uint8, `bits` each, highest bit first, the last byte filled up
    with zeros. axis, block: which entries share levels, those at one index along the axis or a run
    of that many entries in C order; both None if all do.

    Examples:
        >>> from proxquant_np.packing import Codes
        >>> codes = Codes.of(np.array([-2.0, 0.1, 0.9, 1.1]), pq.prox.TernaryL2())
        >>> codes.bits, codes.levels, codes.codes()
        (2, array([[-2.,  0.,  1.]]), array([0, 1, 2, 2], dtype=uint16))
        >>> codes.array()
        array([-2.,  0.,  1.,  1.])
    """

    shape: tuple[int, ...]
    bits: int
    levels: np.ndarray
    packed: np.ndarray
    axis: int | None = None
    block: int | None = None

    @classmethod
    def of(
        cls, w: np.ndarray, regularizer: QuantizedSet | Regularizer, frozen: bool = False
    ) -> Codes:
        """The projection of `w` onto the set, which is `w` itself if `w` was projected before.

        regularizer: the set itself, or a regularizer with that set.

        Raises:
            ValueError: there are more than 2^16 levels, the regularizer refuses the weights, or
                `frozen` weights would move, so that another regularizer must have quantized them.
        """
        quantized, w = as_set(regularizer), as_numpy(as_weights(w))
        levels, q = np.atleast_2d(quantized.levels(w)), quantized.project(w)
        axis = None if quantized.axis is None else quantized.axis % w.ndim
        n_levels = levels.shape[1]
        bits = max(1, math.ceil(math.log2(n_levels)))
        if bits > MAX_BITS:
            raise ValueError(f"regularizer must have at most 65536 levels, got {n_levels}")
        if frozen and not np.array_equal(q, w):
            raise ValueError(
                f"its weights are frozen, and {regularizer} would quantize them anew: give the "
                "regularizer they were frozen with, or set requires_grad=True"
            )
        codes = codes_of(q, levels, axis, quantized.block)
        found = cls(w.shape, bits, levels, pack_bits(codes, bits), axis, quantized.block)
        if not np.array_equal(found.array(), q):
            raise ValueError(f"{regularizer} must project onto its levels, got other values")
        return found

    def codes(self) -> np.ndarray:
        """The codes, uint16, in the shape of the array."""
        return unpack_bits(self.packed, self.bits, math.prod(self.shape)).reshape(self.shape)

    def array(self) -> np.ndarray:
        """The quantized array."""
        return self.levels[set_index(self.shape, self.axis, self.block), self.codes()]

    @property
    def symmetric(self) -> bool:
        """Whether the lower half of the levels mirrors the upper one."""
        return self.levels.shape[1] > 1 and np.array_equal(self.levels, -self.levels[:, ::-1])

    @property
    def stored_levels(self) -> np.ndarray:
        """The levels, without the lower half if it mirrors the upper one."""
        return self.levels[:, self.levels.shape[1] // 2 :] if self.symmetric else self.levels

    @property
    def nbytes(self) -> int:
        """Bytes that the codes and the stored levels take in a file."""
        return self.packed.nbytes + self.stored_levels.nbytes


def mirrored(upper: np.ndarray, n_levels: int) -> np.ndarray:
    """All levels, given the upper half of symmetric ones."""
    lower = -upper[:, ::-1][:, : n_levels // 2]
    return np.concatenate([lower, upper], axis=1) + upper.dtype.type(0)  # turns -0.0 into 0.0


def count_sets(shape: tuple[int, ...], axis: int | None, block: int | None) -> int:
    """How many sets of levels an array of this shape has."""
    return shape[axis] if axis is not None else math.prod(shape) // block if block else 1


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """The lowest `bits` bits of each code in C order, highest first, as uint8."""
    each = codes.reshape(-1, 1) >> np.arange(bits - 1, -1, -1, dtype=codes.dtype) & 1
    return np.packbits(each.astype(np.uint8))


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` codes that `pack_bits` packed, as uint16."""
    each = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    codes = np.zeros(count, np.uint16)
    for bit in each.T:
        codes <<= 1
        codes |= bit
    return codes
