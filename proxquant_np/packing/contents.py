"""What a packed file holds, array by array, as numbers and as a table.

The size of a file is that of its data,

    sum over quantized weights (ceil(bits * n / 8) + itemsize * stored levels)
    + sum over all else (itemsize * n),

plus the header and what the archive adds, 0.5 to 1 kB. For a binary ResNet(20) the data are 33,622
bytes of signs and levels and 22,992 bytes of everything else: the shortcuts, batch norm with its
statistics, one bias. The header adds 1.8 %; uncompressed names and shapes would add a tenth. A
network of a few kB is mostly header.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from proxquant_np.files import shown
from proxquant_np.packing.codes import Codes
from proxquant_np.packing.file import Packed, read_packed


class Layer(NamedTuple):
    """A line of `inspect`: one array of the file. If it is not coded, bits and entropy are 0.

    Examples:
        >>> pq.pack(pq.nn.Sequential(pq.nn.Linear(64, 8)), pq.prox.BinaryL1(), "net.npz")
        >>> layer = pq.packing.inspect("net.npz")[0]
        >>> layer.name, layer.shape, layer.bits, layer.nbytes
        ('0.weight', (8, 64), 1, 68)
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    levels: np.ndarray | None
    """(sets, number of levels); None if the array is not coded."""
    nbytes: int
    ratio: float
    """The size in float32, 4 bytes per entry, divided by `nbytes`."""
    entropy: float
    """The entropy of the pooled codes, -sum p log2 p: the fewest bits per weight of any code."""


def inspect(path: str | os.PathLike) -> list[Layer]:
    """What a packed file holds, array by array; errors as for `load_packed`.

    Examples:
        >>> pq.pack(pq.nn.Sequential(pq.nn.Linear(64, 8)), pq.prox.TernaryL2(), "net.npz")
        >>> [(layer.name, layer.bits) for layer in pq.packing.inspect("net.npz")]
        [('0.weight', 2), ('0.bias', 0)]
    """
    layers = []
    for name, entry in read_packed(path).entries.items():
        if isinstance(entry, np.ndarray):
            ratio = 4 * entry.size / max(1, entry.nbytes)
            layers.append(Layer(name, entry.shape, 0, None, entry.nbytes, ratio, 0.0))
        elif isinstance(entry, Codes):
            counts = np.bincount(entry.codes().reshape(-1))
            p = counts[counts > 0] / counts.sum()
            entropy = float((p * np.log2(1 / p)).sum())
            ratio = 4 * math.prod(entry.shape) / entry.nbytes
            told = entry.shape, entry.bits, entry.levels, entry.nbytes, ratio, entropy
            layers.append(Layer(name, *told))
    return layers


def table(path: str | os.PathLike) -> str:
    """`inspect` as text, with totals and the size of the file.

    Examples:
        >>> pq.pack(pq.nn.Sequential(pq.nn.Linear(64, 8)), pq.prox.BinaryL1(), "net.npz")
        >>> print(pq.packing.table("net.npz").splitlines()[0])
        a network of your own, BinaryL1()
    """
    packed, layers = read_packed(path), inspect(path)
    width = max((len(shown(layer.name)) for layer in layers), default=0)
    lines = [
        _title(packed),
        f"{'':{width}}{'shape':>14} bits {'levels':24}{'bytes':>10}{'ratio':>7} entropy",
    ]
    for name, shape, bits, levels, nbytes, ratio, entropy in layers:
        told = (
            f"{bits or '':>4} {'' if levels is None else _few(levels):24}{nbytes:10,}{ratio:7.1f}"
        )
        end = f"{entropy:8.3f}" if bits else ""
        lines.append(f"{shown(name):{width}}{'x'.join(map(str, shape)):>14} {told}{end}")
    coded, plain = ([la for la in layers if bool(la.bits) == which] for which in (True, False))
    size = 4 * sum(math.prod(layer.shape) for layer in layers)
    written = Path(path).stat().st_size
    sums = [sum(layer.nbytes for layer in some) for some in (coded, plain)]
    lines.append(
        f"{sums[0]:,} bytes of codes and levels, {sums[1]:,} of all else, {written - sum(sums):,} "
        f"of header: {written:,} bytes, 1/{size / written:.1f} of {size:,} as float32"
    )
    return "\n".join(lines)


def _few(levels: np.ndarray) -> str:
    """The levels themselves if there are few, else their number."""
    if len(levels) == 1 and levels.size <= 3:
        return ", ".join(f"{level:.4g}" for level in levels[0])
    return f"{levels.shape[1]}" + (f" x {len(levels)} sets" if len(levels) > 1 else "")


def _title(packed: Packed) -> str:
    network = "a network of your own"
    if packed.model:
        told = [f"{name}={value!r}" for name, value in packed.model["arguments"].items()]
        network = f"{packed.model['name']}({', '.join(told)})"
    return shown(f"{network}, {packed.regularizer}")
