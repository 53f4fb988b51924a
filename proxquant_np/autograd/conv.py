r"""Convolution of images.

With stride s, dilation d and padding p, y[q] is the sum over the taps t of
weight[t] x[s q + d t - p]: one matrix product for each tap, in which x[...] is a slab of pixels,
each a matrix of channels by images (see windows.py). Backward, each tap uses the same slab:

    dweight[t] = sum over q of g[q] x[s q + d t - p]^T        dx[s q + d t - p] += weight[t]^T g[q].

This file computes just that, for any stride, dilation and groups. All taps of a kernel's row share
one product if their pixels are neighbours in memory (`_taps`). Kernels with three rows and stride
1, which are nearly all, need a third fewer products: see winograd.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from proxquant_np.autograd import conv_textbook, winograd
from proxquant_np.autograd.tensor import Array, Tensor, Traced, differentiable
from proxquant_np.autograd.threads import parallel
from proxquant_np.autograd.windows import (
    Axes,
    Pair,
    check,
    images_last,
    like,
    padded,
    row_windows,
    short_buffers,
    sliding,
)

_PIECE = 1 << 19  # bytes of pixels at a time, few enough to stay in the cache


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """y[n, o, q] = bias[o] + sum_{c, t} weight[o, c, t] * input[n, c, stride q + dilation t - pad].

    q and t are pairs (row, column); outside its bounds the input is 0. Input (n, c, h, w) or
    (c, h, w), weight (out, c / groups, kh, kw), bias (out,); output (n, out, oh, ow) or
    (out, oh, ow) with oh = floor((h + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and ow
    likewise. The channels of input and output are divided into `groups` parts; each output part
    sees only its own input part. Padding "valid" means 0; "same" keeps the size and needs stride 1
    (if the total is odd, the extra row goes to the end).

    Raises:
        TypeError: the arrays are not all float32 or all float64.
        ValueError: shapes or options do not fit.

    Examples:
        >>> image = pq.Tensor(np.arange(9.0).reshape(1, 3, 3))
        >>> F.conv2d(image, pq.Tensor(np.ones((1, 1, 2, 2)))).numpy()
        array([[[ 8., 12.],
                [20., 24.]]])
    """
    input_too = isinstance(input, Tensor) and input.requires_grad
    return _conv2d(input, weight, bias, stride, padding, dilation, groups, input_too)


@differentiable
def _conv2d(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair | str,
    dilation: Pair,
    groups: int,
    input_too: bool,
) -> Traced:
    """The same. One pass computes both gradients, that of the input only if `input_too`."""
    check("conv2d", input, weight=weight, bias=bias)
    if weight.ndim != 4 or not weight.size:
        raise ValueError(
            f"conv2d: weight must have shape (out, in, kh, kw), none of them 0, got {weight.shape}"
        )
    n_out, n_in, *kernel = weight.shape
    if not isinstance(groups, int | np.integer) or groups < 1 or n_out % groups:
        raise ValueError(f"conv2d: groups must be a divisor of {n_out} outputs, got {groups!r}")
    if input.shape[-3] != n_in * groups:
        raise ValueError(
            f"conv2d: input must have {n_in * groups} channels for weight of shape {weight.shape} "
            f"and groups={groups}, got shape {input.shape}"
        )
    if bias is not None and bias.shape != (n_out,):
        raise ValueError(f"conv2d: bias must have shape ({n_out},), got {bias.shape}")
    axes = sliding("conv2d", input.shape[-2:], kernel, stride, padding, dilation)

    x = images_last(input)
    quick = groups == 1 and winograd.applies(axes)
    blocked = _is_for_blocks(x)
    if not blocked:
        y = conv_textbook.convolve(x, weight, axes, groups)
    elif quick:
        y = winograd.convolve(x, weight, axes)
    else:
        y = _convolve(x, weight, axes, groups)
    if bias is not None:
        y += np.repeat(bias, x.shape[-1]).reshape(n_out, -1)

    def vjp(g: Array) -> tuple:
        g = images_last(g)
        if not blocked:
            dx, dw = conv_textbook.convolve_vjp(g, x, weight, axes, groups, input_too)
        elif quick:
            dx, dw = winograd.convolve_vjp(g, x, weight, axes, input_too)
        else:
            dx, dw = _convolve_vjp(g, x, weight, axes, groups, input_too)
        to_bias = lambda: np.add.reduce(np.add.reduce(g, -1), (0, 1), np.float64)  # noqa: E731
        return dx if dx is None else like(input, dx), dw, to_bias

    return like(input, y), vjp


def _is_for_blocks(x: Array) -> bool:
    """Whether x is a NumPy array, in the memory of a processor with caches: blocks help there."""
    return isinstance(x, np.ndarray)


class _Taps(NamedTuple):
    """Taps that are neighbours in a kernel's row and share one product.

    `kernels` is (groups, out, taps * in): one matrix for each group of channels.
    """

    row: int
    first: int
    kernels: Array

    def under(self, windows: Array, axes: Axes) -> Array:
        """The pixels under these taps, (rows, columns, groups, taps * in, n)."""
        rows, columns = axes
        seen = windows[rows.under(self.row), columns.under(self.first)]
        groups, _, k = self.kernels.shape
        return seen.reshape(*seen.shape[:2], groups, k, seen.shape[-1])


def _taps(weight: Array, axes: Axes, groups: int) -> tuple[list[_Taps], int]:
    """All taps, and how many share a product: a row, if its pixels are neighbours in memory."""
    n_out, n_in, kh, kw = weight.shape
    by_group = weight.reshape(groups, -1, n_in, kh, kw).transpose(0, 1, 3, 4, 2)
    together = kw if groups == 1 and axes[1].dilation == 1 else 1
    starts = product(range(kh), range(0, kw, together))
    return [
        _Taps(a, b, by_group[:, :, a, b : b + together].reshape(groups, n_out // groups, -1))
        for a, b in starts
    ], together


def _pieces(
    x: Array, axes: Axes, together: int, start: int, stop: int
) -> Iterator[tuple[slice, Axes, Array]]:
    """Some rows of the output at a time: which ones, their axes, and the windows of x they see."""
    rows, columns = axes
    width = columns.span()
    row = rows.stride * width * x[0, 0].nbytes
    step = max(1, _PIECE // max(1, row))
    for r in range(start, stop, step):
        some = rows._replace(out=min(step, stop - r))
        first = r * rows.stride - rows.before
        piece = padded(
            x, slice(first, first + some.span()), slice(-columns.before, width - columns.before)
        )
        yield slice(r, r + some.out), (some, columns), row_windows(piece, together)


def _convolve(x: Array, weight: Array, axes: Axes, groups: int) -> Array:
    rows, columns = axes
    taps, together = _taps(weight, axes, groups)
    y = np.empty((rows.out, columns.out, len(weight), x.shape[-1]), x.dtype, like=x)
    by_group = y.reshape(*y.shape[:2], groups, -1, y.shape[-1]) if y.size else y

    def part(start: int, stop: int) -> None:
        for at, some, windows in _pieces(x, axes, together, start, stop):
            out = by_group[at]
            for i, tap in enumerate(taps):
                if i:
                    out += tap.kernels @ tap.under(windows, some)
                else:
                    np.matmul(tap.kernels, tap.under(windows, some), out=out)

    if y.size:
        parallel(part, rows.out, y.size * weight[0].size)
    return y


def _convolve_vjp(
    g: Array, x: Array, weight: Array, axes: Axes, groups: int, input_too: bool
) -> tuple[Array | None, Array]:
    """The gradients with respect to x (None unless `input_too`) and to the weight."""
    (rows, columns), n = axes, x.shape[-1]
    n_out, n_in, kh, kw = weight.shape
    taps, together = _taps(weight, axes, groups)
    by_group = g.reshape(rows.out, columns.out, groups, n_out // groups, n)
    dx = np.zeros(x.shape, x.dtype, like=x) if input_too else None

    def part(start: int, stop: int) -> tuple[int, Array, Array | None]:
        dw = np.zeros((groups, n_out // groups, kh, kw * n_in), np.float64, like=x)
        over = None  # what belongs to rows of dx beyond those already filled
        for at, some, windows in _pieces(x, axes, together, start, stop):
            for tap in taps:
                products = by_group[at] @ tap.under(windows, some).swapaxes(-1, -2)
                first = tap.first * n_in
                columns_ = slice(first, first + products.shape[-1])
                dw[:, :, tap.row, columns_] += np.add.reduce(products, (0, 1))
            if dx is not None:
                spread = _spread(by_group[at], taps, some, x.shape[2], over)
                filled = some[0].out * rows.stride
                _add(dx, spread[:filled], at.start, axes)
                over = spread[filled:]
        return stop, dw, over

    with short_buffers():
        parts = parallel(part, rows.out, 2 * g.size * weight[0].size)
    if dx is not None:
        for stop, _, over in parts:
            _add(dx, over, stop, axes)
    dw = sum(dw for _, dw, _ in parts).reshape(n_out, kh, kw, n_in)
    return dx, dw.transpose(0, 3, 1, 2).astype(x.dtype)


def _spread(g: Array, taps: list[_Taps], axes: Axes, channels: int, over: Array | None) -> Array:
    """weight^T g, added up at its places in the padded input, starting from `over`."""
    (rows, columns), n = axes, g.shape[-1]
    height = max(rows.span(), rows.out * rows.stride)
    spread = np.zeros((height, columns.span(), channels, n), g.dtype, like=g)
    if over is not None:
        spread[: len(over)] = over
    for tap in taps:
        back = tap.kernels.swapaxes(-1, -2) @ g
        back = back.reshape(*g.shape[:2], tap.kernels[:, 0].size // channels, channels, n)
        for i in range(back.shape[2]):
            spread[rows.under(tap.row), columns.under(tap.first + i)] += back[:, :, i]
    return spread


def _add(dx: Array, spread: Array, q: int, axes: Axes) -> None:
    """Add to dx what the output rows from q on contribute, leaving out the padding."""
    inside, where = [], []
    for first, length, size in zip(
        (q * axes[0].stride - axes[0].before, -axes[1].before), spread.shape, dx.shape, strict=False
    ):
        start, stop = max(first, 0), max(0, first, min(first + length, size))
        inside.append(slice(start, stop))
        where.append(slice(start - first, stop - first))
    dx[*inside] += spread[*where]
