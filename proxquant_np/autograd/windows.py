"""Images in memory, and the windows that slide over them.

Shapes are PyTorch's, (n, c, h, w), over any memory order; results lie in memory as (h, w, c, n),
"images last". One pixel of a whole batch is then one long run, so that whatever is done pixel by
pixel (a tap of a kernel, a stride, a pooling window, a row of a Winograd tile) goes over a few
long slabs of memory, which is what NumPy is quick at. And a pixel is a matrix, channels by images,
under which the matrices of the pixels to its right follow in memory: the window of a kernel's row
is one matrix of kw * c rows, and it is there already, without a copy.
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
        """How many input pixels lie between the first and the last that are seen."""
        return (self.out - 1) * self.stride + (self.kernel - 1) * self.dilation + 1

    def under(self, tap: int) -> slice:
        """Of the pixels that are seen, those under one tap."""
        first = tap * self.dilation
        return slice(first, first + (self.out - 1) * self.stride + 1, self.stride)


Axes = tuple[Axis, Axis]


def images_last(x: Array) -> Array:
    """(n, c, h, w) or (c, h, w) as a contiguous (h, w, c, n), copied if need be."""
    x = (x if x.ndim == 4 else x[None]).transpose(2, 3, 1, 0)
    return x if x.flags.c_contiguous else x.copy()


def like(input: Array, y: Array) -> Array:
    """(h, w, c, n) as (n, c, h, w), or as (c, h, w) if that is what the input was; a view."""
    y = y.transpose(3, 2, 0, 1)
    return y if input.ndim == 4 else y[0]


def padded(x: Array, rows: slice, columns: slice, fill: float = 0) -> Array:
    """These rows and columns of x, which may lie outside and are `fill` there; a view if none do.

    Slices start and stop at numbers, counted from x's first row or column; they may be negative.
    """
    inside, where, shape = [], [], []
    for wanted, size in zip((rows, columns), x.shape, strict=False):
        start, stop, step = wanted.start, wanted.stop, wanted.step or 1
        count = -((start - stop) // step)
        lo = min(max(-(start // step), 0), count)  # the first that is not before x's first,
        hi = max(min(-((start - size) // step), count), lo)  # and the first beyond its last
        inside.append(slice(start + lo * step, max(start + hi * step, 0), step))
        where.append(slice(lo, hi))
        shape.append(count)
    if where == [slice(0, count) for count in shape]:
        return x[*inside]
    piece = np.full_like(x, fill, order="C", shape=(*shape, *x.shape[2:]))
    piece[*where] = x[*inside]
    return piece


def row_windows(x: Array, width: int) -> Array:
    """(h, w, c, n) as (h, w - width + 1, width * c, n): `width` pixels as one matrix, a view.

    For x whose pixels follow each other in memory, as all rows and columns of `images_last` do.
    """
    h, w, c, n = x.shape
    # x's own strides say nothing of axes of length 1.
    strides = (*x.strides[:2], n * x.itemsize, x.itemsize)
    return np.lib.stride_tricks.as_strided(x, (h, w - width + 1, width * c, n), strides)


@contextlib.contextmanager
def short_buffers() -> Iterator[None]:
    """Within this block NumPy goes through its operands 512 entries at a time, not 8,192.

    Where runs are shorter than its buffer, it gathers several of them there before it computes,
    and that costs more than the computation.
    """
    before = np.setbufsize(512)
    try:
        yield
    finally:
        np.setbufsize(before)


# Options ---------------------------------------------------------------------------------------


def check(op: str, input: Array, **parameters: Array | None) -> None:
    """Refuse what is no image, or not of one dtype."""
    if input.ndim not in (3, 4):
        raise ValueError(f"{op}: input must be (n, c, h, w) or (c, h, w), got shape {input.shape}")
    if input.dtype not in (np.float32, np.float64):
        raise TypeError(f"{op}: input must be float32 or float64, got {input.dtype}")
    for name, value in parameters.items():
        if value is not None and value.dtype != input.dtype:
            raise TypeError(f"{op}: {name} must be {input.dtype} as input is, got {value.dtype}")


def pair(op: str, name: str, value: Pair, least: int) -> tuple[int, int]:
    """A number for both axes, or one for each."""
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
            raise ValueError(f"{op}: padding='same' needs stride 1, got {stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before = [total // 2 for total in totals]
    else:
        before = pair(op, "padding", 0 if padding == "valid" else padding, 0)
        totals = [2 * p for p in before]
    out = [
        (n + total - d * (k - 1) - 1) // s + 1
        for n, total, k, s, d in zip(size, totals, kernel, stride, dilation, strict=True)
    ]
    if ceil_mode:  # one more where something is left over, if it starts before the end
        out = [
            o + ((n + total - d * (k - 1) - 1) % s > 0 and o * s < n + p)
            for o, n, total, k, s, d, p in zip(
                out, size, totals, kernel, stride, dilation, before, strict=True
            )
        ]
    if min(out) < 1:
        raise ValueError(
            f"{op}: kernel {tuple(kernel)} with dilation {dilation} is larger than the input of "
            f"size {tuple(size)} with padding {padding!r}"
        )
    return tuple(map(Axis, out, kernel, stride, dilation, before))
