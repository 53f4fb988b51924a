r"""Small convolutions: everything that the kernel sees written out as columns, and one product.

Where all of it fits the cache, calls cost more than what they move. So the slabs of pixels under
the taps (see conv.py) are copied into one array, which holds for every output pixel q all that the
kernel sees there, a column for each image:

    y[q] = K columns(x)[q],      columns(x)[q] = the x[q + t - p] of all taps t, on top of another.

With stride 1 the gradient in x is a convolution, too: of g, with the kernel turned around, K'. And
the gradient in the weight meets the same columns, turned around in turn:

    dx[p] = K' columns(g)[p],    dK' = sum over the pixels p of x[p] columns(g)[p]^T.
"""

from __future__ import annotations

import numpy as np

from proxquant_np.autograd.summation import pairwise_sum
from proxquant_np.autograd.tensor import Array
from proxquant_np.autograd.threads import blas_on_one_thread
from proxquant_np.autograd.windows import Axes, padded, row_windows, seen_from_input

_SMALL = 1 << 19  # entries that fit the cache


def applies(x: Array, weight: Array, axes: Axes) -> bool:
    """Whether the kernel goes from pixel to pixel, and all columns and products fit the cache."""
    (o, c, kh, kw), (h, w, _, n) = weight.shape, x.shape
    pixels = max(h * w, axes[0].out * axes[1].out)
    entries = pixels * kh * kw * max(c * n, o * n, c * o)
    return entries <= _SMALL and all(a.stride == a.dilation == 1 for a in axes)


def convolve(x: Array, weight: Array, axes: Axes) -> Array:
    """The convolution of x (h, w, c, n)."""
    with blas_on_one_thread():
        return _matrix(weight) @ _columns(x, axes)


def convolve_vjp(
    g: Array, x: Array, weight: Array, axes: Axes, input_too: bool
) -> tuple[Array | None, Array]:
    """The gradients in x (None unless `input_too`) and in the weight."""
    o, c, kh, kw = weight.shape
    with blas_on_one_thread():
        if not input_too:  # the columns of x do as well, and a first layer's have few channels
            dk = _sum_over_pixels(_columns(x, axes) @ g.swapaxes(-1, -2))
            return None, dk.reshape(kh, kw, c, o).transpose(3, 2, 0, 1)
        columns = _columns(g, seen_from_input(axes, x))
        dx = _matrix(weight.swapaxes(0, 1)[:, :, ::-1, ::-1]) @ columns
        dk = _sum_over_pixels(columns @ x.swapaxes(-1, -2))
        return dx, dk.reshape(kh, kw, o, c)[::-1, ::-1].transpose(2, 3, 0, 1)


def _matrix(kernel: Array) -> Array:
    """(o, c, kh, kw) as (o, kh kw c), in the order of the columns' entries."""
    return kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1)


def _columns(x: Array, axes: Axes) -> Array:
    """(out, out, kh kw c, n), row by row of the kernel."""
    (rows, columns), (c, n) = axes, x.shape[2:]
    whole = (slice(-a.before, a.span() - a.before) for a in axes)
    windows = row_windows(np.ascontiguousarray(padded(x, *whole)), columns.kernel)
    y = np.empty((rows.out, columns.out, rows.kernel, columns.kernel * c, n), x.dtype, like=x)
    for tap in range(rows.kernel):
        y[:, :, tap] = windows[rows.under(tap)]
    return y.reshape(rows.out, columns.out, -1, n)


def _sum_over_pixels(products: Array) -> Array:
    return pairwise_sum(products, (0, 1))
