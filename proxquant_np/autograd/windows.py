"""How images lie in memory, and the windows that slide over them.

Shapes are PyTorch's, (n, c, h, w), in any memory order; results are stored as (h, w, c, n), "images
last". One pixel of a whole batch is then one long run, so anything done pixel by pixel (a tap of a
kernel, a stride, a pooling window, a row of a Winograd tile) works on a few long slabs of memory,
at which NumPy is fast. A pixel is a matrix, channels by images, and the matrices of the pixels to
its right follow it in memory: so the window of a kernel's row is one matrix of kw * c rows that
needs no copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from proxquant_np.autograd.tensor import Array

Pair = int | Sequence[int]


class Axis(NamedTuple):
    """Output pixel q sees the input pixels stride q + dilation t - before, for t < kernel."""

    out: int
    kernel: int
    stride: int
    dilation: int
    before: int

    def span(self) -> int:
        """The number of input pixels from the first to the last one seen."""
        return (self.out - 1) * self.stride + (self.kernel - 1) * self.dilation + 1

    def under(self, tap: int) -> slice:
        """Which of the pixels seen are under one tap."""
        first = tap * self.dilation
        return slice(first, first + (self.out - 1) * self.stride + 1, self.stride)


Axes = tuple[Axis, Axis]


def images_last(x: Array) -> Array:
    """(n, c, h, w) or (c, h, w) as a contiguous (h, w, c, n), copied if necessary."""
    x = (x if x.ndim == 4 else x[None]).transpose(2, 3, 1, 0)
    return x if x.flags.c_contiguous else x.copy()


def like(input: Array, y: Array) -> Array:
    """A view of (h, w, c, n) as (n, c, h, w), or as (c, h, w) if the input was that."""
    y = y.transpose(3, 2, 0, 1)
    return y if input.ndim == 4 else y[0]


def padded(x: Array, rows: slice, columns: slice, fill: float = 0) -> Array:
    """These rows and columns of x, with `fill` for those outside x; a view if there are none.

    Slices have numbers for start and stop, counted from x's first row or column, maybe negative.
    """
    if min(rows.start, columns.start) >= 0 and rows.stop <= len(x) and columns.stop <= x.shape[1]:
        return x[rows, columns]
    inside, where, shape = [], [], []
    for wanted, size in zip((rows, columns), x.shape, strict=False):
        start, stop, step = wanted.start, wanted.stop, wanted.step or 1
        count = -((start - stop) // step)
        lo = min(max(-(start // step), 0), count)  # the first one inside x,
        hi = max(min(-((start - size) // step), count), lo)  # and the first one beyond its end
        inside.append(slice(start + lo * step, max(start + hi * step, 0), step))
        where.append(slice(lo, hi))
        shape.append(count)
    piece = np.zeros((*shape, *x.shape[2:]), x.dtype, like=x)
    if fill:
        piece[...] = fill
    piece[*where] = x[*inside]
    return piece


def row_windows(x: Array, width: int) -> Array:
    """A view of (h, w, c, n) as (h, w - width + 1, width * c, n): `width` pixels as one matrix.

    The pixels of x must follow each other in memory, as all rows and columns of `images_last` do.
    """
    h, w, c, n = x.shape
    # x's own strides mean nothing along axes of length 1.
    strides = (*x.strides[:2], n * x.itemsize, x.itemsize)
    return np.lib.stride_tricks.as_strided(x, (h, w - width + 1, width * c, n), strides)


@contextlib.contextmanager
def short_buffers() -> Iterator[None]:
    """Inside this block, NumPy buffers 512 entries of its operands at a time, not 8,192.

    If runs are shorter than the buffer, NumPy first gathers several of them there, which costs more
    than the computation itself.
    """
    before = np.setbufsize(512)
    try:
        yield
    finally:
        np.setbufsize(before)


# Options ---------------------------------------------------------------------------------------


def check(op: str, input: Array, **parameters: Array | None) -> None:
    """Refuse anything but float images, and parameters of another dtype than theirs."""
    if input.ndim not in (3, 4):
        raise ValueError(
            f"{op}: input must have shape (n, c, h, w) or (c, h, w), got {input.shape}"
        )
    if input.dtype not in (np.float32, np.float64):
        raise TypeError(f"{op}: input must be float32 or float64, got {input.dtype}")
    for name, value in parameters.items():
        if value is not None and value.dtype != input.dtype:
            raise TypeError(f"{op}: {name} must be {input.dtype} like input, got {value.dtype}")


def pair(op: str, name: str, value: Pair, least: int) -> tuple[int, int]:
    """One number for both axes, or one for each, as a pair."""
    if type(value) is int and value >= least:
        return value, value
    both = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    both = both * 2 if len(both) == 1 else both
    if len(both) != 2 or not all(isinstance(v, int | np.integer) and v >= least for v in both):
        raise ValueError(f"{op}: {name} must be one or two integers >= {least}, got {value!r}")
    return both


def sliding(
    op: str,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Pair,
    padding: Pair | str,
    dilation: Pair,
    ceil_mode: bool = False,
) -> Axes:
    """The axes of a kernel that slides over images of this size."""
    stride, dilation = pair(op, "stride", stride, 1), pair(op, "dilation", dilation, 1)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"{op}: stride must be 1 for padding='same', got {stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before = [total // 2 for total in totals]
    else:
        before = pair(op, "padding", 0 if padding == "valid" else padding, 0)
        totals = [2 * p for p in before]
    out = [
        (n + total - d * (k - 1) - 1) // s + 1
        for n, total, k, s, d in zip(size, totals, kernel, stride, dilation, strict=True)
    ]
    if ceil_mode:  # one more window over what is left, if it starts before the end
        out = [
            o + ((n + total - d * (k - 1) - 1) % s > 0 and o * s < n + p)
            for o, n, total, k, s, d, p in zip(
                out, size, totals, kernel, stride, dilation, before, strict=True
            )
        ]
    if min(out) < 1:
        raise ValueError(
            f"{op}: kernel must fit into the padded input, got kernel {tuple(kernel)} with "
            f"dilation {dilation} and input of size {tuple(size)} with padding {padding!r}"
        )
    return tuple(map(Axis, out, kernel, stride, dilation, before))
