"""The nearest of several levels, the upper one at a tie: the last step of every projection."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from proxquant_np.libraries import on_host
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.ties import first_passing


def thresholds(levels: Floats, up: NDArray[np.bool_] | Literal[True] = True) -> Floats:
    """For each level but the first, the smallest number of its dtype that rounds to it or above.

    Levels ascend along the last axis; a number halfway between two belongs to the upper one, or,
    for a pair of neighbours where `up` is False, to the lower.
    """
    levels64 = levels.astype(np.float64)
    halves = levels64 / 2
    a, b = halves[..., :-1], halves[..., 1:]
    middle = a + b
    part = middle - a
    rest = (a - (middle - part)) + (b - part)  # the exact rounding error of the sum (Knuth)
    lost = levels64 - 2 * halves  # of subnormal numbers a half may be rounded
    rest = 2 * rest + (lost[..., :-1] + lost[..., 1:])  # its sign is exact
    on_it = rest <= 0 if up is True else (rest < 0) | ((rest == 0) & up)
    return first_passing(middle, on_it, levels.dtype)


def pick(rows: Floats, levels: Floats, first: Floats, out: Floats) -> None:
    """Fill `out` with the last of levels[i] whose first[i] each weight of rows[i] reaches.

    levels[i, 0] has no threshold; with thresholds(levels) this is the nearest level. Up to 32
    levels are compared one by one, which vectorises best; more are bisected, for all weights in
    parallel.
    """
    n_rows, n_levels = levels.shape
    if n_levels <= 32:
        index = np.zeros(rows.shape, np.uint8, like=rows)
        for j in range(n_levels - 1):
            index += rows >= first[:, j : j + 1]
        index = index.astype(np.intp)
        if n_rows > 1:
            index += np.arange(n_rows, like=rows)[:, None] * n_levels
    else:
        depth = (n_levels - 1).bit_length()
        missing = (0, 0), (0, (1 << depth) - n_levels)
        levels = np.pad(levels, missing, "edge")
        first = np.pad(first, missing, constant_values=np.inf)
        index = np.broadcast_to(np.arange(n_rows, like=rows)[:, None], rows.shape).copy()
        reached, cut = np.empty(rows.shape, bool, like=rows), np.empty_like(rows)
        for half in (1 << i for i in reversed(range(depth))):
            # The bits found so far select the threshold that halves what is left.
            _take(first[:, half - 1 :: 2 * half].copy(), index, cut)
            index += index
            index += np.greater_equal(rows, cut, out=reached)
    _take(levels, index, out)


def _take(values, index, out):
    if on_host(out):
        np.take(values, index, out=out, mode="clip")  # "clip" avoids a copy of `out`
    else:
        np.take(values, index, out=out)
