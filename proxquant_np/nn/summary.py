"""The printed form of a network: a table of its layers."""

from __future__ import annotations

import math

import numpy as np

from proxquant_np.nn.module import Module, Parameter

_HEAD = ("layer", "module", "shapes", "parameters", "bits")


def table(model: Module) -> str:
    """A line for each module with parameters or without modules below it, then the totals.

    Shapes and bits are those of its parameters in order (bits only once if they are all equal). The
    bits are those of the dtype or, for quantizable weights that take less space as codes and
    levels, those of the codes. A parameter shared by layers is counted once.

    Examples:
        >>> net = pq.nn.Sequential(pq.nn.Linear(64, 8), pq.nn.ReLU())
        >>> pq.quantize_and_freeze([net[0].weight], pq.prox.BinaryL1())
        >>> print(net)
        Sequential
        layer  module  shapes   parameters  bits
        0      Linear  8x64, 8         520  1, 32
        1      ReLU
        520 parameters in 104 bytes
    """
    arguments = getattr(model, "arguments", None)
    title = type(model).__name__
    if isinstance(arguments, dict):
        title += f"({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
    rows, sizes = [_HEAD], {}  # sizes: entries and bytes of each parameter
    for path, module in model.named_modules():
        below = any(name for name, _ in module.named_modules())
        new, shapes, widths = 0, [], []
        for name, p in vars(module).items():
            if not isinstance(p, Parameter):
                continue
            bits, nbytes = _coded(p.data) if name in module.quantizable else _plain(p.data)
            shapes.append("x".join(map(str, p.shape)) or "1")
            widths.append(str(bits))
            new += p.size * (id(p) not in sizes)
            sizes[id(p)] = p.size, nbytes
        if shapes or not below:
            widths = widths[:1] if len(set(widths)) == 1 else widths
            cells = ", ".join(shapes), f"{new:,}" if shapes else "", ", ".join(widths)
            rows.append((path, type(module).__name__, *cells))
    lines = [title]
    if sizes or len(rows) > 2:
        columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [c.ljust(n) for c, n in zip(row, columns, strict=True)]
            cells[3] = row[3].rjust(columns[3])
            lines.append("  ".join(cells).rstrip())
        entries, nbytes = map(sum, zip(*sizes.values(), strict=True)) if sizes else (0, 0)
        lines.append(f"{entries:,} parameters in {nbytes:,} bytes")
    return "\n".join(lines)


def _plain(data: np.ndarray) -> tuple[int, int]:
    return 8 * data.itemsize, data.nbytes


def _coded(data: np.ndarray) -> tuple[int, int]:
    """Bits per entry, and bytes: as codes with levels for all or for each row, if that is less."""
    best = _plain(data)
    for sets in (data.reshape(1, -1), data.reshape(len(data), -1)):
        head = sets[0, :1000]
        if 2 * np.unique(head).size <= head.size:  # else it saves nothing, and sorting all is slow
            most = max(np.unique(row).size for row in sets)
            bits = max(1, (most - 1).bit_length())
            nbytes = math.ceil(bits * data.size / 8) + len(sets) * most * data.itemsize
            best = min(best, (bits, nbytes), key=lambda pair: pair[1])
    return best
