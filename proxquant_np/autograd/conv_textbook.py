"""Convolution as textbooks have it: one product with a matrix whose columns are the windows.

This is the readable twin of conv.py. It also serves arrays of libraries other than NumPy, whose
devices prefer few large operations. Images are stored as (h, w, c, n), see windows.py.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from proxquant_np.autograd.tensor import Array
from proxquant_np.autograd.windows import Axes, padded


def _columns(x: Array, axes: Axes, groups: int) -> Array:
    """What each output pixel sees: (groups, c kh kw / groups, out out n)."""
    (rows, columns), (c, n) = axes, x.shape[2:]
    seen = padded(x, *(slice(-a.before, a.span() - a.before) for a in axes))
    sizes = [(a.kernel - 1) * a.dilation + 1 for a in axes]
    windows = np.lib.stride_tricks.sliding_window_view(seen, sizes, (0, 1))
    windows = windows[:: rows.stride, :: columns.stride, ..., :: rows.dilation, :: columns.dilation]
    taps = c * rows.kernel * columns.kernel // groups
    return windows.transpose(2, 4, 5, 0, 1, 3).reshape(groups, taps, rows.out * columns.out * n)


def convolve(x: Array, weight: Array, axes: Axes, groups: int) -> Array:
    """The convolution of x (h, w, c, n) with weight (o, c / groups, kh, kw): (out, out, o, n)."""
    kernels = weight.reshape(groups, len(weight) // groups, weight[0].size)
    y = kernels @ _columns(x, axes, groups)
    return y.reshape(len(weight), axes[0].out, axes[1].out, x.shape[3]).transpose(1, 2, 0, 3)


def convolve_vjp(
    g: Array, x: Array, weight: Array, axes: Axes, groups: int, input_too: bool
) -> tuple[Array | None, Array]:
    """The gradients with respect to x (None unless `input_too`) and to the weight."""
    (rows, columns), (h, w, c, n) = axes, x.shape
    pixels = rows.out * columns.out * n
    g = g.transpose(2, 0, 1, 3).reshape(groups, len(weight) // groups, pixels)
    dw = (g @ _columns(x, axes, groups).mT).reshape(weight.shape)
    if not input_too:
        return None, dw
    kernels = weight.reshape(groups, len(weight) // groups, weight[0].size)
    back = (kernels.mT @ g).reshape(c, rows.kernel, columns.kernel, rows.out, columns.out, n)
    seen = np.zeros((rows.span(), columns.span(), c, n), x.dtype, like=x)
    for a, b in product(range(rows.kernel), range(columns.kernel)):
        seen[rows.under(a), columns.under(b)] += back[:, a, b].transpose(1, 2, 0, 3)
    top, left = rows.before, columns.before
    return padded(seen, slice(top, top + h), slice(left, left + w)), dw
