"""What moves the weights under a method: an optimizer, and how its learning rate falls.

The published ones are those of the authors' code (github.com/allenbai01/ProxQuant), whose runs on
CIFAR-10 take 200 epochs in full precision, quantize in 200 more (ternary ones in 400), freeze, and
fine-tune for 100 (200). Here the epochs are fractions of a phase, whatever its length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from proxquant_np import optim
from proxquant_np.training import Plateau


@dataclass(frozen=True)
class Base:
    """An optimizer for one phase of training.

    Args:
        make: makes it, from parameters and a learning rate.
        falls: when the rate falls to a tenth of what it was, in fractions of the phase's steps.
        divided: by this the rate is divided after each epoch that brings no better validation loss.
        lr: the rate to begin with, where it is not chosen elsewhere.

    Examples:
        >>> from proxquant_np.experiments.bases import Base
        >>> schedule = Base(falls=(0.5,)).schedule(0.01, steps=100)
        >>> schedule(49), schedule(50)
        (0.01, 0.001)
    """

    make: Callable[..., optim.Optimizer] = optim.Adam
    falls: tuple[float, ...] = ()
    divided: float | None = None
    lr: float | None = None

    def schedule(self, lr: float, steps: int) -> Callable[[int], float] | Plateau | None:
        """The learning rate of each step; None if it stays as it is."""
        if self.divided is not None:
            return Plateau(lr, self.divided)
        at = [round(share * steps) for share in self.falls]
        return (lambda t: lr * 0.1 ** sum(t >= fall for fall in at)) if at else None

    def share(self, steps: int) -> float:
        """What is left of the sum of lr_t * lambda_t, lambda_t = rate * t, as the rate falls.

        That is a fraction of the sum at a constant rate.

        Raises:
            ValueError: when the rate falls depends on the run.

        Examples:
            >>> from proxquant_np.experiments.bases import CONSTANT, FALLING
            >>> CONSTANT.share(1000), round(FALLING.share(1000), 3)
            (1.0, 0.191)
        """
        if self.divided is not None:
            raise ValueError("the rate must fall at given steps, got one that validation divides")
        if (schedule := self.schedule(1.0, steps)) is None:
            return 1.0
        t = np.arange(max(2, steps))
        return float(np.array([schedule(n) for n in t]) @ t / t.sum())


def _sgd(weight_decay: float) -> Callable[..., optim.Optimizer]:
    return functools.partial(optim.SGD, momentum=0.9, weight_decay=weight_decay)


CONSTANT = Base()
FALLING = Base(falls=(81 / 200, 122 / 200))
"""BinaryConnect's: Adam, its rate lowered at epochs 81 and 122 of 200."""
WARM_START = Base(_sgd(1e-4), falls=(100 / 200, 150 / 200), lr=0.1)
"""The full-precision network's: SGD, its rate lowered at epochs 100 and 150 of 200."""
TRAINED_TERNARY = Base(_sgd(2e-4), falls=(80 / 400, 120 / 400, 300 / 400))
"""Trained ternary quantization's: SGD, its rate lowered at epochs 80, 120 and 300 of 400."""
