"""Learning rates that depend on what was measured, for `fit`'s argument `schedule`.

A checkpoint holds what they depend on, so a resumed run has the same rates to the bit. One that
depends on the step alone is a function of it, and needs no class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from proxquant_np.checks import check_number


@dataclass(frozen=True)
class Plateau:
    """lr, divided by `factor` after each epoch whose validation loss is not below all before it.

    `fit` then needs a validation split. Source: Xu et al. 2018, who divide a rate of 20 by 1.2.

    Examples:
        >>> schedule = pq.training.Plateau(20.0, factor=2.0)
        >>> schedule.after([]), schedule.after([5.0, 4.0]), schedule.after([5.0, 4.0, 4.0, 4.5])
        (20.0, 20.0, 5.0)
    """

    lr: float
    factor: float = 1.2

    def __post_init__(self) -> None:
        check_number("lr", self.lr, above=0, below=math.inf)
        check_number("factor", self.factor, least=1, below=math.inf)

    def after(self, losses: Sequence[float]) -> float:
        """The rate of the next epoch, from the validation losses of those before."""
        best, worse = math.inf, 0
        for loss in losses:
            worse += not loss < best
            best = min(best, loss)
        try:
            return self.lr / self.factor**worse
        except OverflowError:
            return 0.0
