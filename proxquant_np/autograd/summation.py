"""Sums whose rounding error hardly grows with the number of terms.

NumPy sums pairwise, by halves of halves, only along the axis that is contiguous in memory. Along
any other axis it adds row after row and rounds each time: in float32, 20 million ones give
16777216, where adding another 1 no longer changes the sum. This package uses `pairwise_sum`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

_RUN = 64  # rows added one after the other; up to twice as many are not worth dividing
_WIDTH = 4096  # entries a row needs for NumPy to add rows at full speed


def pairwise_sum(
    x: np.ndarray, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> np.ndarray:
    """np.sum(x, axis, keepdims=keepdims), with an error that grows like log n along every axis.

    No term goes through more than 19 log2 n of the n - 1 additions. So, to first order in u (2^-24
    in float32), |result - exact| <= 19 log2 n u sum |x|, whatever the shape, the axes and their
    order in memory; adding row after row, the bound is n u sum |x|. For up to 128 terms, and where
    NumPy sums pairwise (over the last axis of an array in C order, or over all of it), the bits are
    those of `np.add.reduce`. Integers are exact; arrays of another library use that library's sum.

    A long axis is cut into runs of up to 64 rows, each run is summed to one row, and so on until
    few rows are left. NumPy is slow at adding narrow rows, so r neighbours are added as one wide
    row, which gives r sums per run, each over every r-th row. That is up to 30 times as fast.
    Source: Higham 1993, The accuracy of floating point summation, for such bounds.

    Examples:
        >>> ones = np.ones((20_000_000, 2), np.float32)
        >>> np.sum(ones, axis=0).tolist()
        [16777216.0, 16777216.0]
        >>> pq.autograd.pairwise_sum(ones, axis=0).tolist()
        [20000000.0, 20000000.0]
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fc":
        return np.sum(x, axis, keepdims=keepdims)
    if type(axis) is int and -x.ndim <= axis < x.ndim and x.shape[axis] <= 2 * _RUN:
        return np.add.reduce(x, axis, keepdims=keepdims)  # the most frequent case, at once
    named = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [normalize_axis_index(i, x.ndim) for i in named]
    terms = math.prod([x.shape[i] for i in axes])
    if terms <= 2 * _RUN or x.size == 0 or _by_pairs(x, axes):
        return np.add.reduce(x, axis, keepdims=keepdims)
    axes = normalize_axis_tuple(axes, x.ndim)  # refuses an axis that is named twice
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
    if x.flags.c_contiguous and max(axes) < len(axes):  # the first axes, such as a batch's
        return _sum_rows(x.reshape(terms, -1), 0).reshape(shape)
    rows, summed, kept = _in_memory_order(x, axes)
    total = _sum_axes(rows, summed).reshape([x.shape[i] for i in kept])
    return total.transpose(sorted(range(len(kept)), key=kept.__getitem__)).reshape(shape)


def _by_pairs(x: np.ndarray, axes: list[int]) -> bool:
    """Whether the terms of a sum are plainly contiguous in memory, so that NumPy sums pairwise."""
    if len(axes) == x.ndim:
        return x.ndim == 1 or x.flags.forc
    return x.flags.c_contiguous and min(axes) == x.ndim - len(axes)


def _in_memory_order(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, list, list]:
    """A view of x with few axes, largest stride first; which of those axes are summed; and the axes
    of x that are not summed, in the order in which the view has them.

    Axes stretched by broadcasting come first. Neighbouring axes that are both summed or both kept
    become one axis where their strides allow it.
    """
    steps = [abs(s) or math.inf for s in x.strides]
    order = sorted((i for i, n in enumerate(x.shape) if n > 1), key=steps.__getitem__, reverse=True)
    lengths, summed, stride = [], [], None
    for i in order:
        n, step, sums = x.shape[i], x.strides[i], i in axes
        if stride == step * n and summed[-1] == sums:
            lengths[-1] *= n
        else:
            lengths.append(n)
            summed.append(sums)
        stride = step
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    view = x.transpose(ones + order).reshape(lengths)
    return view, [i for i, s in enumerate(summed) if s], [i for i in order if i not in axes]


def _sum_axes(rows: np.ndarray, axes: list[int]) -> np.ndarray:
    """Sum over axes, given in ascending order; the last axis of `rows` is contiguous in memory."""
    last = rows.ndim - 1
    if math.prod([rows.shape[i] for i in axes if i != last]) <= 2 * _RUN:
        return np.add.reduce(rows, tuple(axes))
    for i in reversed(axes):
        rows = np.add.reduce(rows, i) if i == rows.ndim - 1 else _sum_rows(rows, i)
    return rows


def _sum_rows(rows: np.ndarray, axis: int) -> np.ndarray:
    """Sum over one axis other than the last."""
    n = rows.shape[axis]
    if n <= 2 * _RUN:
        return np.add.reduce(rows, axis)
    before, after = rows.shape[:axis], rows.shape[axis + 1 :]
    joined = min(max(1, _WIDTH // math.prod(after)), n // _RUN)
    runs = -(-n // (_RUN * joined))
    run = n // (runs * joined)
    ahead, whole = (slice(None),) * axis, runs * run * joined
    parts = rows[*ahead, :whole].reshape(*before, runs, run, joined, *after)
    sums = np.add.reduce(parts, axis + 1).reshape(*before, runs * joined, *after)
    if whole < n:
        sums[*ahead, : n - whole] += rows[*ahead, whole:]
    return _sum_rows(sums, axis)
