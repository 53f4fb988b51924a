"""Matrix products and layers whose weights stay packed.

Two ways to multiply without the float matrix:

    PackedMatrix    unpacks some rows at a time, by a table from each byte to its weights, and uses
                    the float product: for any levels and any inputs
    sign_product    both factors are signs; 64 products are one exclusive-or and one bit count

The first saves memory: the matrix takes bits/32 of the memory of floats, plus two blocks. It cannot
save time, since it must unpack and then do the same float product: one row times a matrix takes 2
to 6 times as long, a batch of 64 little longer, and with levels for each row everything takes
several times as long (benchmarks/packed.py).
The second saves memory and, for few rows times a large matrix, also time: the matrix is then read
from memory, and is 32 times smaller. On large batches NumPy's passes over the bits are no faster
than the float product, and on small matrices they are slower (benchmarks/packed.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.nn import Conv2d, Linear, Module
from proxquant_np.packing.codes import Codes, pack_bits, unpack_bits
from proxquant_np.prox.arrays import as_weights

_BLOCK = 1 << 20  # bytes of floats at a time: they fit into the cache, and products stay fast


class PackedMatrix:
    """A quantized matrix W (rows, columns) that stays packed; a kernel's first axis is the rows.

    Codes take 1, 2, 4 or 8 bits (sometimes more than in the file), and each row whole bytes. There
    may be one set of levels, or one for each row; ValueError otherwise, or above 256 levels.

    Examples:
        >>> from proxquant_np.packing import Codes, PackedMatrix
        >>> w = np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
        >>> matrix = PackedMatrix(Codes.of(w, pq.prox.BinaryL1()))
        >>> matrix.product(np.array([1.0, 2.0, 3.0])), matrix.nbytes
        (array([2., 0.]), 18)
    """

    def __init__(self, codes: Codes) -> None:
        if codes.axis not in (None, 0) or codes.block is not None or codes.bits > 8:
            raise ValueError(
                "codes must have at most 8 bits, and levels for all or for each row, got "
                f"{codes.bits} bits, axis={codes.axis}, block={codes.block}"
            )
        rows, columns = codes.shape[0], math.prod(codes.shape[1:])
        bits = 1 << (codes.bits - 1).bit_length()
        self.shape, self.levels = (rows, columns), codes.levels
        padded = np.zeros((rows, -(-columns * bits // 8) * 8 // bits), np.uint16)
        padded[:, :columns] = codes.codes().reshape(rows, columns)
        self.packed = pack_bits(padded, bits).reshape(rows, -1)
        # Maps a byte to its codes or, with one set of levels, to the weights themselves.
        table = unpack_bits(np.arange(256, dtype=np.uint8), bits, 256 * 8 // bits)
        self._table = table.reshape(256, -1)
        if len(self.levels) == 1:
            self._table = self.levels[0].take(self._table, mode="clip")

    @property
    def nbytes(self) -> int:
        """Bytes that the codes and the levels take."""
        return self.packed.nbytes + self.levels.nbytes

    def rows(self, some: slice) -> np.ndarray:
        """These rows, unpacked."""
        found = self._table.take(self.packed[some], axis=0)  # 10 times as fast as indexing
        found = found.reshape(len(found), -1)[:, : self.shape[1]]
        if len(self.levels) > 1:
            first = np.arange(*some.indices(self.shape[0]))[:, None] * self.levels.shape[1]
            found = self.levels.take(first + found)
        return found

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in order, unpacked, as many at a time as fit into the cache."""
        step = max(1, _BLOCK // (self.levels.itemsize * max(1, self.shape[1])))
        return (self.rows(slice(i, i + step)) for i in range(0, self.shape[0], step))

    def product(self, x: np.ndarray) -> np.ndarray:
        """x @ W^T for x (..., columns), up to the rounding of a sum; x has the dtype of W."""
        y, done = np.empty(x.shape[:-1] + self.shape[:1], self.levels.dtype), 0
        for rows in self.blocks():
            y[..., done : done + len(rows)] = x @ rows.T
            done += len(rows)
        return y


def pack_signs(x: np.ndarray) -> np.ndarray:
    """The signs of a matrix (rows, columns) as uint64 (rows, ceil(columns / 64)), bit 1 for >= 0.

    Unused bits are 0. Errors are those of `prox.sign_pm`, and ValueError if x is not a matrix.

    Examples:
        >>> pq.packing.pack_signs(np.array([[1.0, -1.0, 0.0]])).shape
        (1, 1)
    """
    x = as_weights(x)
    if x.ndim != 2:
        raise ValueError(f"x must be a matrix, got shape {x.shape}")
    words = np.zeros((len(x), -(-x.shape[1] // 64) * 8), np.uint8)
    signs = np.packbits(x >= 0, axis=1)
    words[:, : signs.shape[1]] = signs
    return words.view(np.uint64)


def sign_product(x: np.ndarray, w: np.ndarray, columns: int) -> np.ndarray:
    """sign_pm(X) @ sign_pm(W)^T as int32 (n, rows), exactly, from `pack_signs` of both.

    Signs that differ give -1: columns - 2 popcount(x XOR w). Source: Rastegari et al. 2016,
    XNOR-Net.

    Raises:
        ValueError: the widths differ, or `columns` does not fit them.

    Examples:
        >>> x, w = np.array([[0.5, -2.0, 1.0]]), np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]])
        >>> pack = pq.packing.pack_signs
        >>> pq.packing.sign_product(pack(x), pack(w), columns=3)
        array([[ 3, -3]], dtype=int32)
    """
    if not x.shape[1] == w.shape[1] == -(-columns // 64):
        raise ValueError(f"columns={columns} must fit both widths, got {x.shape} and {w.shape}")
    differing = np.empty((len(x), len(w)), np.int32)
    step = max(1, _BLOCK // (32 * w.shape[1]))
    for i in range(0, len(w), step):
        some = w[i : i + step]
        for row, target in zip(x, differing, strict=True):
            np.bitwise_count(row ^ some).sum(axis=1, dtype=np.int32, out=target[i : i + step])
    return columns - 2 * differing


class PackedLinear(Module):
    """`nn.Linear` with packed weights, for inference, computing some outputs at a time.

    Examples:
        >>> from proxquant_np.packing import Codes, PackedLinear
        >>> layer = pq.nn.Linear(64, 8)
        >>> packed = PackedLinear(layer, Codes.of(layer.weight.data, pq.prox.BinaryL1()))
        >>> packed(pq.Tensor(np.ones((5, 64), np.float32))).shape
        (5, 8)
    """

    def __init__(self, layer: Linear, codes: Codes) -> None:
        self.matrix, self.bias = PackedMatrix(codes), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        y = F.concatenate([F.linear(x, rows) for rows in self.matrix.blocks()], -1)
        return y if self.bias is None else y + self.bias


class PackedConv2d(Module):
    """`nn.Conv2d` without groups, with packed weights, for inference; some channels at a time.

    Examples:
        >>> from proxquant_np.packing import Codes, PackedConv2d
        >>> layer = pq.nn.Conv2d(3, 8, 3)
        >>> packed = PackedConv2d(layer, Codes.of(layer.weight.data, pq.prox.BinaryL1()))
        >>> packed(pq.Tensor(np.ones((1, 3, 8, 8), np.float32))).shape
        (1, 8, 6, 6)
    """

    def __init__(self, layer: Conv2d, codes: Codes) -> None:
        self.matrix, self.bias = PackedMatrix(codes), layer.bias
        self.kernel, self.options = codes.shape[1:], (layer.stride, layer.padding, layer.dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        kernels = (rows.reshape(-1, *self.kernel) for rows in self.matrix.blocks())
        y = F.concatenate([F.conv2d(x, kernel, None, *self.options) for kernel in kernels], -3)
        return y if self.bias is None else y + F.reshape(self.bias, (-1, 1, 1))


def keep_packed(model: Module, codes: Mapping[str, Codes]) -> None:
    """Replace, in place, layers that can run from the codes of their weights, given by name.

    These are linear layers and convolutions without groups; all others keep their float weights.
    """
    for prefix, parent in list(model.named_modules()):
        for name, layer in list(vars(parent).items()):
            found = codes.get(f"{prefix}.{name}.weight".removeprefix("."))
            if found is None or found.axis not in (None, 0) or found.block or found.bits > 8:
                continue
            if type(layer) is Linear:
                setattr(parent, name, PackedLinear(layer, found))
            elif type(layer) is Conv2d and layer.groups == 1:
                setattr(parent, name, PackedConv2d(layer, found))
