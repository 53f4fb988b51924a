"""Stochastic rounding: a weight goes to one of its two neighbouring levels, by chance.

It is no projection, and no map either: asked twice it gives two results. What is fixed is the set Q
with its levels, which packs, plots and projects as ever; and that the mean of many results is the
weight. So small gradients are not lost, as they are if all that is below half a step goes down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.checks import check_instance
from proxquant_np.libraries import moved
from proxquant_np.prox.arrays import Floats, as_output, as_weights, fill, quiet
from proxquant_np.prox.distances import around
from proxquant_np.prox.quantized_set import QuantizedSet


@quiet
def stochastic_round(
    w: ArrayLike, set: QuantizedSet, rng: np.random.Generator, out: Floats | None = None
) -> Floats:
    """A random point of Q whose mean is `w`: each weight goes to a neighbouring level, unbiased.

    Of the levels l <= w_i <= h next to it, w_i goes to h with probability (w_i - l) / (h - l), else
    to l, each weight independently of all others. A weight on a level stays there, one beyond the
    ends goes to the nearer end. So E[result] = w for weights between the ends, and
    E[(result - w)^2] = (w - l)(h - w), between one and two times what rounding at best costs on
    average.

    set: Q; its levels are set.levels(w), one row for each of its groups. rng: as many numbers are
    drawn from it as there are weights. out: as for `QuantizedSet.project`. TypeError for other
    arguments. Each result is on Q if Q has fixed levels, and on a grid of its kind otherwise.
    Sources: Gupta et al. 2015, arXiv:1502.02551, Section 3, for fixed point; Courbariaux et al.
    2015, arXiv:1511.00363, BinaryConnect, equation 2, for Binary(), where it is the hard sigmoid.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> Q = pq.prox.FixedPoint(4, fraction=1)
        >>> pq.prox.stochastic_round([0.25, 0.25, 0.25, 1.5], Q, rng)
        array([0. , 0.5, 0.5, 1.5])
        >>> float(pq.prox.stochastic_round(np.full(10_000, 0.3), Q, rng).mean().round(2))
        0.3
    """
    check_instance("set", set, QuantizedSet, "a quantized set such as FixedPoint(8, 4)")
    check_instance("rng", rng, np.random.Generator, "a numpy.random.Generator")
    x = as_weights(w)

    def draw(w, levels, out):
        low, high, part = upper_part(w, levels)
        np.copyto(out, np.where(moved(rng.random(w.shape), w) < part, high, low))

    return fill(
        lambda x, out, tmp: set.map_rows(x, out, draw), x, as_output(out, x), elementwise=False
    )


def upper_part(w: Floats, levels: Floats) -> tuple[Floats, Floats, Floats]:
    """(l, h, the probability of h) for rows of weights and of their levels.

    Examples:
        >>> from proxquant_np.prox.stochastic import upper_part
        >>> upper_part(np.array([[0.25, 9.0]]), np.array([[0.0, 1.0, 2.0]]))
        (array([[0., 1.]]), array([[1., 2.]]), array([[0.25, 1.  ]]))
    """
    low, high = around(w, levels)
    x, a, b = (part.astype(np.float64) / 2 for part in (w, low, high))  # h - l may be infinite
    return low, high, np.clip((x - a) / np.where(b > a, b - a, 1), 0, 1)
