"""The least squared error that levels of a rule's kind can have: what its heuristic falls short of.

A grid of codes c times a scale a: as a falls, each w/a passes the middles of the grid, one after
the other, so only so many assignments of codes occur as weights times middles. For each the best a
is sum(c w) / sum(c^2), and leaves ||w||^2 - sum(c w)^2 / sum(c^2). The sums are prefix sums over
the sorted events; so the least error is exact, for any grid.
"""

from __future__ import annotations

import numpy as np

from proxquant_np.conformance import vectors
from proxquant_np.prox import (
    Affine,
    CentredBinary,
    Codebook,
    DoReFa,
    Levels,
    MultiBit,
    PowersOfTwo,
    QuantizedSet,
    Uniform,
)
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.rule import Scaled
from proxquant_np.prox.ties import middles


def least_error(w: Floats, grid: Floats) -> float:
    """min over a >= 0 and codes c_i in the grid of ||w - a c||^2, exactly; the grid ascends.

    Examples:
        >>> from proxquant_np.conformance.least import least_error
        >>> least_error(np.array([3.0, 1.0, 0.25]), np.array([-1.0, 0.0, 1.0]))
        1.0625
    """
    w, g = np.asarray(w, np.float64), np.asarray(grid, np.float64)
    middle, up = middles(g), np.diff(g)
    below = np.count_nonzero(middle < 0)  # at a = infinity each w/a is 0, or on that side of it
    first = g[below + ((w >= 0) & (0 in middle))]
    at, codes, squares = [], [], []
    for side in (1, -1):
        beyond = middle * side > 0
        rows = w[w * side > 0][:, None]
        step = side * up[beyond]  # outwards
        inner = (g[:-1] if side > 0 else g[1:])[beyond]
        at.append((rows / middle[beyond]).ravel())
        codes.append((rows * step).ravel())
        squares.append((np.ones_like(rows) * ((inner + step) ** 2 - inner**2)).ravel())
    order = np.argsort(-np.concatenate(at), kind="stable")
    product = np.sum(first * w) + np.append(0, np.cumsum(np.concatenate(codes)[order]))
    square = np.sum(first**2) + np.append(0, np.cumsum(np.concatenate(squares)[order]))
    gain = np.where(square > 0, np.maximum(product, 0) ** 2 / np.where(square > 0, square, 1), 0)
    return float(max(np.square(w).sum() - gain.max(), 0))


def least_error_for_powers(w: Floats, grid: Floats) -> float:
    """The same over all a = 2^k.

    Examples:
        >>> from proxquant_np.conformance.least import least_error_for_powers
        >>> least_error_for_powers(np.array([3.0, 1.0]), np.array([-1.0, 0.0, 1.0]))
        2.0
    """
    w, g = np.asarray(w, np.float64), np.asarray(grid, np.float64)
    top = int(np.frexp(np.abs(w).max() / np.abs(g).max())[1])
    errors = []
    for k in range(top - 24, top + 3):  # below all is clipped, above all but the largest is 0
        levels = np.ldexp(g, k)
        q = levels[np.searchsorted(middles(levels), w)]
        errors.append(float(np.square(w - q).sum()))
    return min(errors)


def excess(rule: QuantizedSet) -> dict[str, float]:
    """By how much the rule's squared error exceeds the least, or that of a better heuristic.

    For each of the large random tensors, in words; empty if each weight goes to the nearest of
    levels that are given. Weights per axis or per block are those of as many tensors.
    """
    found = {}
    for key, w in vectors.large().items():
        group, _, name = key.partition(".")
        if group != "weights":
            continue
        x = _arranged(rule, w.astype(np.float64))
        other = _least(rule, x)
        if other is None:
            return {}
        words, least = other
        ours = float(np.square(rule.quantize(x) - x).sum())
        if least:
            found[f"{words}, {x.size} {name} weights"] = max(ours / least - 1, 0.0)
    return found


def _arranged(rule, w):
    """The weights with several groups, if the rule has any."""
    if rule.block is not None:
        return np.resize(w, max(1, len(w) // rule.block) * rule.block)
    if rule.axis is not None:
        return w.reshape(16, 32) if rule.axis == 0 else w.reshape(32, 16)
    return w


def _least(rule, x):
    """(what it is, the least squared error), or None if the rule is no heuristic."""
    if isinstance(rule, Scaled):
        power = isinstance(rule, PowersOfTwo | Codebook) and rule.scale == "power"
        least = least_error_for_powers if power else least_error
        words = "the least for a power of two" if power else "the least"
        return words, sum(least(row, rule._grid()) for row in rule._rows(x))
    groups = {"axis": rule.axis, "block": rule.block}
    if isinstance(rule, Affine):
        best = Uniform(rule.n_bits, symmetric=False, projection="least_squares", **groups)
    elif isinstance(rule, CentredBinary):
        best = MultiBit(1, "exact", **groups)
    elif isinstance(rule, DoReFa) or (rule.elementwise and not rule.exact):
        best = Levels(np.unique(rule.levels(x)))
    else:
        return None
    words = "the least" if best.exact else repr(best)
    return words, float(np.square(best.project(x) - x).sum())
