"""With fewer samples than weights, critical points are mostly quantized.

**Theorem.** Let L(w) = l(A w), where A has n rows (samples) and d columns (weights) and l is
differentiable. Let R(w) = sum_i r(w_i), where r is affine with nonzero slopes between finitely many
levels. If the columns of A are in general position, then at every critical point of L + lam R with
lam > 0 at most n weights are off the levels: a fraction of at least 1 - n/d is quantized. Columns
drawn from a density are in general position with probability 1.

Proof: at a critical point every weight off the levels satisfies <a_i, y> = -lam r'(w_i), where a_i
is its column of A and y = grad l(A w) is the same for all. For n + 1 such weights these are n + 1
equations in the n entries of y. There are finitely many right-hand sides, none of them 0, so
outside a null set of A none of these systems can be solved.

The proof uses kinks at the levels and nonzero slopes between them: L1 distances and
`PiecewiseAffine` with a_0 > 0 have both, L2 distances neither. Convexity plays no part.
Source: Ma, Xiao 2025, on piecewise-affine regularization ("at least (1 - n/d)-quantized"); the
proof above is ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.prox import QuantizedSet, Regularizer, as_regularizer, as_set
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.regularizer import Prox


def off_levels(
    regularizer: QuantizedSet | Regularizer, w: ArrayLike, tolerance: float = 0.0
) -> int:
    """The number of weights that are further than `tolerance` from every level of a set.

    Examples:
        >>> pq.theory.off_levels(pq.prox.BinaryL1(), [1.0, -1.0, 0.5])
        1
    """
    w = np.asarray(w)
    return int((np.abs(w - as_set(regularizer).project(w)) > tolerance).sum())


def critical_point(
    a: Floats, y: Floats, regularizer: Prox, lam: float, w: Floats, sweeps: int = 5000
) -> Floats:
    """A critical point of 1/2 ||A w - y||^2 + lam R(w), found by coordinate descent from w.

    Each step minimises over one weight exactly, by its prox. ValueError if the weights still move
    by more than 1e-12 after all sweeps.

    Examples:
        >>> a, y, start = np.array([[1.0, 2.0, 0.75]]), np.array([1.5]), np.zeros(3)
        >>> pq.theory.critical_point(a, y, pq.prox.LevelsL1([-1, 0, 1]), 0.25, start).round(3)
        array([1.   , 0.188, 0.   ])
    """
    regularizer = as_regularizer(regularizer)
    w, squares = np.array(w, np.float64), np.square(a).sum(axis=0)
    rest = y - a @ w
    for _ in range(sweeps):
        before = w.copy()
        for i, square in enumerate(squares):
            new = regularizer.prox(w[i : i + 1] + a[:, i] @ rest / square, lam / square)[0]
            rest += a[:, i] * (w[i] - new)
            w[i] = new
        if np.abs(w - before).max() <= 1e-12:
            return w
    raise ValueError(f"sweeps must be more, as the weights still move, got {sweeps}")
