"""Pooling of images, one tap of the window after another (see windows.py)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from proxquant_np.autograd.tensor import Array, Traced, differentiable
from proxquant_np.autograd.windows import (
    Axes,
    Pair,
    check,
    images_last,
    like,
    padded,
    pair,
    short_buffers,
    sliding,
)


@differentiable
def max_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Traced:
    """The largest value in every window; of equal ones, the first gets the gradient.

    Input (n, c, h, w) or (c, h, w), windows and output size as in `conv2d`; the stride defaults to
    kernel_size. Padding is at most half the kernel and never counts as the largest. With
    `ceil_mode`, the division by the stride rounds up: one more window may reach beyond the end if
    it starts inside the input or the padding before it. NaN counts as larger than any number.

    Raises:
        TypeError: the input is not float32 or float64.
        ValueError: shapes or options do not fit.

    Examples:
        >>> F.max_pool2d(pq.Tensor(np.arange(16.0).reshape(1, 4, 4)), 2).numpy()
        array([[[ 5.,  7.],
                [13., 15.]]])
    """
    x, inside, axes = _pooled(
        "max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode, -np.inf
    )
    with short_buffers():
        first, *others = _taps(x, axes)
        y = first.copy()
        for tap in others:
            np.maximum(y, tap, out=y)

    @short_buffers()
    def vjp(g: Array) -> Array:
        dx = np.zeros(x.shape, x.dtype, like=x)
        apart = all(a.stride > (a.kernel - 1) * a.dilation for a in axes)  # no pixel is seen twice
        # The gradient not yet given to a pixel; its bits, as integers, since inf * 0 is NaN.
        left = images_last(g).copy().view(f"i{x.itemsize}")
        equal = lambda tap: tap == y  # noqa: E731
        for is_largest in (equal, np.isnan):  # a largest NaN does not equal itself
            for tap, dtap in zip(_taps(x, axes), _taps(dx, axes), strict=True):
                share = left * is_largest(tap)
                left -= share
                if apart and is_largest is equal:
                    dtap[...] = share.view(x.dtype)
                else:
                    dtap += share.view(x.dtype)
            if isinstance(left, np.ndarray) and not left.any():  # never waits for a device
                break
        return like(input, dx[inside])

    return like(input, y), vjp


@differentiable
def avg_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Traced:
    """The mean of every window, its sum divided by its number of pixels; else as `max_pool2d`.

    Padded zeros count as pixels if `count_include_pad`; what `ceil_mode` adds beyond them never
    does. `divisor_override` replaces the number of pixels.

    Examples:
        >>> F.avg_pool2d(pq.Tensor(np.arange(16.0).reshape(1, 4, 4)), 2).numpy()
        array([[[ 2.5,  4.5],
                [10.5, 12.5]]])
    """
    x, inside, axes = _pooled(
        "avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode, fill=0
    )
    share = _share(input, axes, ceil_mode, count_include_pad, divisor_override)
    share = share if isinstance(share, float) else np.asarray(share, like=input)
    with short_buffers():
        y = sum(_taps(x, axes)) * share

    @short_buffers()
    def vjp(g: Array) -> Array:
        g = images_last(g) * share
        dx = np.zeros(x.shape, x.dtype, like=x)
        for dtap in _taps(dx, axes):
            dtap += g
        return like(input, dx[inside])

    return like(input, y), vjp


def _share(
    input: Array, axes: Axes, ceil_mode: bool, count_include_pad: bool, divisor: int | None
) -> Array | float:
    """The factor of each window's sum: a number, or (out, out, 1, 1) if it varies."""
    if divisor is not None:
        if not isinstance(divisor, int | np.integer) or not divisor:
            raise ValueError(f"avg_pool2d: divisor_override must not be 0, got {divisor!r}")
        return 1 / divisor
    if count_include_pad and not ceil_mode:
        return 1 / (axes[0].kernel * axes[1].kernel)
    counts = []
    for axis, n in zip(axes, input.shape[-2:], strict=True):
        first = np.arange(axis.out) * axis.stride - axis.before
        margin = axis.before if count_include_pad else 0
        last = np.minimum(first + axis.kernel, n + margin)
        counts.append(last - np.maximum(first, -margin))
    return (1 / np.multiply.outer(*counts)).astype(input.dtype)[..., None, None]


def _pooled(
    op: str,
    input: Array,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
    fill: float,
) -> tuple[Array, tuple[slice, slice], Axes]:
    """The input, images last and padded; where the input is inside that; the axes."""
    check(op, input)
    kernel = pair(op, "kernel_size", kernel_size, 1)
    stride = kernel if stride is None or stride == () else stride
    axes = sliding(op, input.shape[-2:], kernel, stride, padding, dilation, ceil_mode)
    if any(a.before > a.kernel // 2 for a in axes):
        raise ValueError(
            f"{op}: padding must be at most half of kernel_size={kernel}, got {padding}"
        )
    sizes = input.shape[-2:]
    around = [
        slice(-a.before, max(n + a.before, a.span() - a.before))
        for a, n in zip(axes, sizes, strict=True)
    ]
    inside = tuple(slice(a.before, a.before + n) for a, n in zip(axes, sizes, strict=True))
    return padded(images_last(input), *around, fill), inside, axes


def _taps(x: Array, axes: Axes) -> Iterator[Array]:
    """For each tap of the window, a view of the pixels of x under it, (out, out, c, n)."""
    rows, columns = ([axis.under(tap) for tap in range(axis.kernel)] for axis in axes)
    for row, column in product(rows, columns):
        yield x[row, column]
