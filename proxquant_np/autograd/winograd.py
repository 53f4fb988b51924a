r"""Three rows of a kernel for the price of two.

For two neighbouring output rows y0, y1, a kernel of three rows k0, k1, k2 sees four input rows
d0 ... d3 and needs six products of a kernel row with an input row:

    y0 = k0 d0 + k1 d1 + k2 d2
    y1 =         k0 d1 + k1 d2 + k2 d3.

Four suffice. For any numbers x0, x1, the sum x0 y0 + x1 y1 equals the sum of p_l d_l, where the p_l
are the coefficients of a product of two polynomials,

    p(s) = (x0 + x1 s) (k0 + k1 s + k2 s^2) = p0 + p1 s + p2 s^2 + p3 s^3.

A polynomial of degree 3 is determined by its values at four points, and a product's values are
products of values: one multiplication per point (Toom 1963, Cook 1966). **Evaluate** both factors
at 0, 1, -1 and infinity (where a polynomial's "value" is its leading coefficient),

    point       x            k
    0           x0           k0
    1           x0 + x1      k0 + k1 + k2
    -1          x0 - x1      k0 - k1 + k2
    infinity    x1           k2,

multiply, and **interpolate**: p0 = p(0), p3 = p(inf), p1 = (p(1) - p(-1)) / 2 - p3,
p2 = (p(1) + p(-1)) / 2 - p0. In the sum of p_l d_l, collect the factor of each value:

    x0 y0 + x1 y1 = sum over the points of X K D

    point       X            K                        D
    0           x0           k0                       d0 - d2
    1           x0 + x1      (k0 + k1 + k2) / 2       d1 + d2
    -1          x0 - x1      (k0 - k1 + k2) / 2       d2 - d1
    infinity    x1           k2                       d3 - d1.

This one identity gives everything, because it is linear in each of x, k and d. The coefficient of
x0 is y0 = M0 + M1 + M2 and that of x1 is y1 = M1 - M2 + M3, with the four products M = K D: the
convolution. The coefficients of the k are the kernel's gradient, from the four products X D, where
x is now the gradient of the output: as many products, and the same D.

Here the k are matrices and the d are rows of pixels, so all this is sums and differences of long
rows, and four matrix products. Winograd's minimal filtering (1980; Lavin and Gray 2016 for
networks) does the same along the columns, again four products for six. But the three taps of a
kernel's row already are one matrix product (see windows.py), which is larger and so faster than
three, and sums over columns would cost more than they save.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from proxquant_np.autograd.tensor import Array
from proxquant_np.autograd.threads import parallel
from proxquant_np.autograd.windows import Axes, padded, row_windows

_PIECE = 1 << 18  # bytes of a row of pixels at a time: the dozen in use stay in the cache
Block = tuple[slice, slice]
"""Rows and columns of the output; rows come in pairs."""


def applies(axes: Axes) -> bool:
    """Whether the kernel has three rows, and neither stride nor dilation."""
    return axes[0].kernel == 3 and all(a.stride == a.dilation == 1 for a in axes)


def convolve(x: Array, weight: Array, axes: Axes) -> Array:
    """The convolution of x (h, w, c, n)."""
    return _correlate(x, axes, kernel=weight)


def convolve_vjp(
    g: Array, x: Array, weight: Array, axes: Axes, input_too: bool
) -> tuple[Array | None, Array]:
    """The gradients with respect to x (None unless `input_too`) and to the weight.

    The reversed kernel slides over g, with as much padding as x's pixels need. For the weight
    alone, windows of x serve as well as those of g, and a first layer's x has fewer channels.
    """
    if not input_too:
        dw = np.empty_like(weight, order="C")
        _correlate(x, axes, pixels=g, dk=dw)
        return None, dw
    around = tuple(
        axis._replace(out=size, before=axis.kernel - 1 - axis.before)
        for axis, size in zip(axes, x.shape, strict=False)
    )
    turned, dw = _turned(weight), np.empty_like(weight, order="C")
    return _correlate(g, around, turned, x, _turned(dw)), dw


def _turned(kernel: Array) -> Array:
    """A view of the kernel that maps back: outputs for inputs, its taps in reverse order."""
    return kernel.swapaxes(0, 1)[:, :, ::-1, ::-1]


def _correlate(
    d: Array,
    axes: Axes,
    kernel: Array | None = None,
    pixels: Array | None = None,
    dk: Array | None = None,
) -> Array | None:
    """The output y, given a kernel; with `pixels` in place of y's gradient, fill dk, the kernel's.

    d (h, w, c, n), kernel and dk (o, c, 3, kw), y and pixels (out, out, o, n).
    """
    (rows, columns), (c, n) = axes, d.shape[2:]
    o = len(kernel) if pixels is None else pixels.shape[2]
    tiles = -(-rows.out // 2)
    y = None
    if kernel is not None:
        y = np.empty((2 * tiles, columns.out, o, n), d.dtype, like=d)
        k0, k1, k2 = kernel.transpose(2, 0, 3, 1).reshape(3, o, -1)
        at_points = [k0, (k0 + k1 + k2) / 2, (k0 - k1 + k2) / 2, k2]

    row = max(1, columns.out * max(c, o) * n * d.itemsize)
    height = min(tiles, max(1, _PIECE // row))
    width = max(min(8, columns.out), -(-columns.out // -(-row // _PIECE)))

    def part(start: int, stop: int) -> Array | None:
        m, x01 = np.empty((2, height, width, o, n), d.dtype, like=d)
        sums = None
        if pixels is not None:
            sums = np.zeros((4, columns.kernel * c, o), np.float64, like=d)
            products = np.empty((height, width, *sums.shape[1:]), d.dtype, like=d)
        for block, point, windows in _at_points(d, axes, start, stop, height, width):
            at = np.s_[: len(windows), : windows.shape[1]]
            if kernel is not None:
                _interpolate(y[block], at_points[point], windows, point, m[at])
            if pixels is not None:
                if point == 0:
                    rows_of_x = padded(pixels, *block)
                x = _evaluate(rows_of_x, point, x01[at])
                np.matmul(windows, x.swapaxes(-1, -2), out=products[at])
                sums[point] += np.add.reduce(products[at], (0, 1))
        return sums

    first, *others = parallel(part, tiles, 6 * columns.out * tiles * n * o * c)
    if pixels is not None:
        s0, s1, s2, s3 = sum(others, first).reshape(4, columns.kernel, c, o)
        s1 *= 0.5
        s2 *= 0.5
        into = dk.transpose(2, 3, 1, 0)
        into[0], into[1], into[2] = s0 + s1 + s2, s1 - s2, s1 + s2 + s3
    return y if y is None else y[: rows.out]


def _at_points(
    d: Array, axes: Axes, start: int, stop: int, height: int, width: int
) -> Iterator[tuple[Block, int, Array]]:
    """D for the tiles from start to stop: some tiles at a time, point by point, in the same memory.

    Yields the block of the output, the number of the point, and the windows of D,
    (rows / 2, columns, kw * c, n).
    """
    (_, _, _, _, above), (out, kw, _, _, before) = axes
    for left in range(0, out, width):
        right = min(left + width, out)
        first, last = left - before, right - before + kw - 1  # columns seen, some of them outside
        seen = slice(max(first, 0), max(first, 0, min(last, d.shape[1])))
        values = np.zeros((height, last - first, *d.shape[2:]), d.dtype, like=d)
        inside = values[:, seen.start - first : seen.stop - first]
        outside = np.zeros_like(inside[:1])
        windows = row_windows(values, kw)
        for top in range(start, stop, height):
            bottom = min(top + height, stop)
            block = slice(2 * top, 2 * bottom), slice(left, right)
            r, tiles = 2 * top - above, bottom - top
            if tiles == 1:  # row by row, so that only rows outside d are padded
                d0, d1, d2, d3 = (
                    d[a : a + 1, seen] if 0 <= a < len(d) else outside for a in range(r, r + 4)
                )
            else:
                piece = padded(d, slice(r, r + 2 * tiles + 2), seen)
                d0, d1, d2, d3 = (piece[a : a + 2 * tiles - 1 : 2] for a in range(4))
            into = inside[:tiles]
            minus, plus = np.subtract, np.add
            pairs = (minus, d0, d2), (plus, d1, d2), (minus, d2, d1), (minus, d3, d1)
            for point, (op, a, b) in enumerate(pairs):
                op(a, b, out=into)
                yield block, point, windows[:tiles]


def _evaluate(x: Array, point: int, memory: Array) -> Array:
    """X at a point, from the pixels in pairs of rows."""
    x0, x1 = x[::2], x[1::2]
    if point in (1, 2):
        return (np.add if point == 1 else np.subtract)(x0, x1, out=memory)
    return x1 if point else x0


def _interpolate(y: Array, k: Array, windows: Array, point: int, m: Array) -> None:
    """Add the contribution of M = K D at this point to y."""
    y0, y1 = y[::2], y[1::2]
    into = (y0, y1, m, m)[point]
    np.matmul(k, windows, out=into)
    if point in (1, 2):
        y0 += into
    if point == 2:
        y1 -= m
    if point == 3:
        y1 += m
