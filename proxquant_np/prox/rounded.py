"""Fixed levels with any convention for ties, and any thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.checks import check_choice
from proxquant_np.libraries import check_unmasked, moved
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.levels import Levels
from proxquant_np.prox.nearest import pick, thresholds
from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.ties import TIES, first_passing, goes_up, middles


@dataclass(frozen=True)
class Rounded(QuantizedSet):
    """Q = {l_1, ..., l_n}^d as `Levels`, with another rule for which level a weight goes to.

    project(w) = quantize(w) is the last level whose threshold a weight passes. thresholds: None for
    the midpoints, which gives nearest levels, or n - 1 increasing numbers, one between each two
    levels. Then not all weights go to the nearest one: `exact` is False, L1 refuses the set.
    ties: where a weight on a threshold goes, "up", "down", "even", "away" or "zero" as in ties.py;
    so "zero" makes strict thresholds of +-t, |w| > t, and "away" inclusive ones, |w| >= t. "even"
    is for levels that are evenly spaced, as integers of the step. ValueError for anything else.

    Learned step size (LSQ), given its step s, is Rounded([s c for c in -8, ..., 7]).
    Source: common practice; Esser et al. 2020, arXiv:1902.08153, equations 1 and 2, for LSQ.

    Examples:
        >>> w = [-1.5, -0.5, 0.5, 0.75]
        >>> pq.prox.Rounded([-1, 0, 1]).quantize(w)
        array([-1.,  0.,  0.,  1.])
        >>> pq.prox.Rounded([-1, 0, 1], thresholds=[-0.5, 0.5], ties="away").quantize(w)
        array([-1., -1.,  1.,  1.])
    """

    values: tuple[float, ...]  # any sequence of real numbers is accepted
    ties: str = "even"
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self):
        values = Levels(self.values).values  # which checks them
        object.__setattr__(self, "values", values)
        check_choice("ties", self.ties, TIES)
        if self.thresholds is not None:
            check_unmasked("thresholds", self.thresholds)
            try:
                cuts = np.asarray(self.thresholds, np.float64)
            except (TypeError, ValueError):
                cuts = np.array(np.nan)
            if (
                cuts.shape != (len(values) - 1,)
                or not ((cuts >= values[:-1]) & (cuts <= values[1:])).all()
            ):
                raise ValueError(
                    f"thresholds must be {len(values) - 1} numbers, one between each two levels, "
                    f"got {self.thresholds!r}"
                )
            object.__setattr__(self, "thresholds", tuple(cuts.tolist()))
        if self.ties == "even" and len(values) > 1:
            step = np.diff(values).min()
            codes = np.array(values) / step
            if np.abs(codes - (round(codes[0]) + np.arange(len(values)))).max() > 1e-6:
                raise ValueError(
                    "ties must be another than 'even' for values that are not successive integers "
                    f"of a step, got 'even' with {values}"
                )

    @property
    def exact(self) -> bool:
        """Whether each weight goes to its nearest level."""
        return self.thresholds is None

    @property
    def fits_l1(self) -> bool:
        """Whether L1's prox is exact: where each weight goes to its nearest level."""
        return self.exact

    def quantize(self, w: ArrayLike, out: Floats | None = None) -> Floats:
        """The same as `project`."""
        return self.project(w, out)

    def _codes(self):
        return np.rint(np.array(self.values) / np.diff(self.values).min())

    def _levels(self, x):
        return Levels(self.values)._levels(x)

    def _project(self, x, out):
        levels = self._levels(x)
        codes = self._codes() if self.ties == "even" and len(levels) > 1 else None
        if self.thresholds is None:
            first = thresholds(levels, goes_up(middles(levels), self.ties, codes))
        else:
            cuts = np.array(self.thresholds)
            first = first_passing(cuts, goes_up(cuts, self.ties, codes), x.dtype)
        levels, first = moved(levels, x), moved(first, x)
        pick(x.reshape(1, -1), levels[None], first[None], out.reshape(1, -1))
