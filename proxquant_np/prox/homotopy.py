"""Homotopies: how the weight lambda_t of the regularizer grows during training.

A homotopy is a pure function of t, the number of steps already taken, so the first step uses
lambda_0. The optimizer, not the homotopy, counts steps. The strength of a prox step is
lr * lambda_t.

    Linear(rate)                 rate * t               the paper's
    Linear.to(end, steps)        end * t / steps        reaches `end` at `steps` and keeps growing
    Constant(lam)                lam
    Geometric(initial, ratio)    initial * ratio**t
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

from proxquant_np.checks import check_integer, check_number


@dataclass(frozen=True)
class Homotopy(ABC):
    """Maps an integer t >= 0 to the float lambda_t >= 0. Parameters are finite and >= 0.

    Examples:
        >>> isinstance(pq.prox.Constant(1.0), pq.prox.Homotopy)
        True
        >>> pq.prox.Constant(1.0)(-1)
        Traceback (most recent call last):
            ...
        ValueError: t must be an integer >= 0, got -1
    """

    def __post_init__(self):
        for field in fields(self):
            number = check_number(field.name, getattr(self, field.name), least=0, below=math.inf)
            object.__setattr__(self, field.name, number)  # as a float: equal ones have equal reprs

    def __call__(self, t: int) -> float:
        check_integer("t", t, least=0)
        return float(self._at(t))

    @abstractmethod
    def _at(self, t): ...


@dataclass(frozen=True)
class Linear(Homotopy):
    """lambda_t = rate * t. Source: Bai, Wang, Liberty 2019, Section 3.2.

    Examples:
        >>> pq.prox.Linear(0.5)(3)
        1.5
    """

    rate: float

    @classmethod
    def to(cls, end: float, steps: int) -> Linear:
        """The line through 0 at t = 0 and `end` at t = `steps` >= 1.

        Examples:
            >>> pq.prox.Linear.to(end=2.0, steps=100)(50)
            1.0
        """
        check_number("end", end, least=0, below=math.inf)
        check_integer("steps", steps, least=1)
        return cls(end / steps)

    def _at(self, t):
        return self.rate * t


@dataclass(frozen=True)
class Constant(Homotopy):
    """lambda_t = lam.

    Examples:
        >>> pq.prox.Constant(2.0)(0), pq.prox.Constant(2.0)(1000)
        (2.0, 2.0)
    """

    lam: float

    def _at(self, t):
        return self.lam


@dataclass(frozen=True)
class Geometric(Homotopy):
    """lambda_t = initial * ratio**t, or infinity beyond the largest float.

    Examples:
        >>> [pq.prox.Geometric(0.5, ratio=2.0)(t) for t in range(4)]
        [0.5, 1.0, 2.0, 4.0]
    """

    initial: float
    ratio: float

    def _at(self, t):
        try:
            return self.initial * self.ratio**t
        except OverflowError:  # raised only by the power; a product that overflows is inf
            return math.inf if self.initial else 0.0
