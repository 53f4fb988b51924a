"""Huber's loss and the levels that fit best by it: what the prox of L1 needs from a fitted set.

As for least squares, the search for levels goes over the parts of sorted magnitudes. Instead of the
means of the first m for all m (prefix sums) it needs their Huber locations: `locations`.
"""

from __future__ import annotations

import numpy as np

from proxquant_np.prox.arrays import Floats


def huber(d: Floats, s: Floats | float) -> Floats:
    """Huber's loss h(d) for d >= 0, or d itself if s is 0."""
    inner = np.minimum(d, s)
    return d if _is_zero(s) else inner * (d - inner / 2)


def locations(ordered: Floats, s: Floats | float) -> tuple[Floats, Floats]:
    """For each row and m, the a that minimises the sum of h(x - a) over its first m entries.

    Returns a and that sum. Rows descend and are float64. As a falls, the sum's derivative changes
    slope where an entry comes within s of a or falls behind it, at the edges x + s and x - s. The
    counts of edges and prefix sums give the derivative at each edge for every m; bisection over the
    edges, for all m in parallel, finds the piece with the root.
    """
    n = ordered.shape[1]
    m = np.arange(1, n + 1, like=ordered)
    sums = _prefix_sums(ordered)
    if _is_zero(s):  # medians
        half = m // 2
        a = ordered[:, (m - 1) // 2]
        upper, total = sums[:, half], sums[:, 1:]
        return a, (upper - half * a) + ((m - half) * a - (total - upper))

    s = np.minimum(s, ordered[:, :1] - ordered[:, -1:])  # no entry is farther from a
    squares = _prefix_sums(ordered * ordered)
    edges = np.concatenate([ordered + s, ordered - s], axis=1)
    order = np.argsort(-edges, axis=1, kind="stable")
    edges = np.take_along_axis(edges, order, axis=1)
    reached = np.cumsum(order < n, axis=1)  # entries that are at least a - s, at each edge a
    passed = np.arange(1, 2 * n + 1, like=ordered) - reached  # and those that are at least a + s

    def piece(at):
        """Of the first m, the number above a + s, the number above a - s, and the sum between."""
        low, high = (np.minimum(np.take_along_axis(c, at, axis=1), m) for c in (passed, reached))
        inner = np.take_along_axis(sums, high, axis=1) - np.take_along_axis(sums, low, axis=1)
        return low, high, inner

    at = np.zeros(ordered.shape, np.intp, like=ordered)
    for step in (1 << i for i in reversed(range((2 * n - 1).bit_length()))):
        further = np.minimum(at + step, 2 * n - 1)
        low, high, inner = piece(further)
        edge = np.take_along_axis(edges, further, axis=1)
        at = np.where(inner - (high - low) * edge + s * (low + high - m) <= 0, further, at)
    low, high, inner = piece(at)
    edge = np.take_along_axis(edges, at, axis=1)  # as good as any point where the sum is flat
    a = np.where(high > low, (inner + s * (low + high - m)) / np.maximum(high - low, 1), edge)
    a = np.clip(a, ordered, ordered[:, :1])  # so that equal entries have exactly their value
    upper, lower = (np.take_along_axis(sums, c, axis=1) for c in (low, high))
    between = np.take_along_axis(squares, high, axis=1) - np.take_along_axis(squares, low, axis=1)
    tails = (upper - low * a) + ((m - high) * a - (sums[:, 1:] - lower))
    cost = s * tails - (low + m - high) * s * s / 2
    return a, cost + between / 2 - a * inner + (high - low) * a * a / 2


def _is_zero(s):
    """Whether s is the number 0; a column of strengths, which are > 0, is not read."""
    return np.ndim(s) == 0 and s == 0


def _prefix_sums(rows):
    """The sums of the first 0, 1, ..., n entries of each row."""
    return np.concatenate([np.zeros_like(rows[:, :1]), np.cumsum(rows, axis=1)], axis=1)
