"""Where a weight goes that lies halfway between two levels: the conventions of rounding.

    up      to the greater level                       floor(x + 1/2); this library's own sets
    down    to the lesser level                        ceil(x - 1/2); argmin over ascending levels
    even    to the level with an even code             IEEE 754: numpy.rint, torch.round, ONNX
    away    to the level that is further from 0        C's round, roundf
    zero    to the level that is nearer to 0           strict thresholds, |x| > 1/2

At 0 itself, between two levels of opposite sign, "away" and "zero" go up: sign_pm(0) = +1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proxquant_np.libraries import moved
from proxquant_np.prox.arrays import Floats

TIES = ("up", "down", "even", "away", "zero")


def middles(levels: Floats) -> Floats:
    """The points halfway between each two levels.

    Examples:
        >>> from proxquant_np.prox.ties import middles
        >>> middles(np.array([-1.0, 0.0, 3.0]))
        array([-0.5,  1.5])
    """
    return levels[..., :-1] / 2 + levels[..., 1:] / 2


def goes_up(cuts: Floats, ties: str, codes: Floats | None = None) -> NDArray[np.bool_]:
    """For each cut between two levels, whether a weight on it goes to the upper one.

    codes: for "even" the integers that the levels stand for, ascending, one more than cuts.

    Examples:
        >>> from proxquant_np.prox.ties import goes_up
        >>> goes_up(np.array([-0.5, 0.5, 1.5]), "zero")
        array([ True, False, False])
        >>> goes_up(np.array([-0.5, 0.5, 1.5]), "even", np.arange(-1, 3))
        array([ True, False,  True])
    """
    if ties == "even":
        return moved(codes[..., 1:] % 2 == 0, cuts)
    if ties == "away":
        return cuts >= 0
    if ties == "zero":
        return cuts <= 0
    return np.full_like(cuts, ties == "up", dtype=bool)


def first_passing(cuts: Floats, up: NDArray[np.bool_], dtype: np.dtype) -> Floats:
    """For each threshold, in float64, the smallest number of `dtype` that passes it.

    What is on it passes where `up` says so.

    Examples:
        >>> from proxquant_np.prox.ties import first_passing
        >>> first_passing(np.array([0.5, 0.5]), np.array([True, False]), np.dtype(np.float64))
        array([0.5, 0.5])
    """
    first = cuts.astype(dtype)
    beyond = (first < cuts) | ((first == cuts) & ~up)
    return np.where(beyond, np.nextafter(first, dtype.type(np.inf)), first)


def round_to_integer(x: Floats, ties: str) -> Floats:
    """The integers nearest to `x`, in its dtype.

    Examples:
        >>> from proxquant_np.prox.ties import round_to_integer
        >>> [round_to_integer(np.array([-1.5, 0.5]), ties).tolist() for ties in ("even", "away")]
        [[-2.0, 0.0], [-2.0, 1.0]]
    """
    if ties == "even":
        return np.rint(x)
    below = np.floor(x)
    part = x - below  # exact
    up = {"up": True, "down": False, "away": x >= 0, "zero": x <= 0}[ties]
    return below + ((part > 0.5) | ((part == 0.5) & up))
