"""Homotopies: how the weight lambda_t of the regularizer grows during training.

A homotopy is a pure function of t, the number of steps already taken, so the first step uses
lambda_0. The optimizer, not the homotopy, counts steps. The strength of a prox step is
lr * lambda_t.

    LinearHomotopy(rate)                          rate * t               the paper's
    LinearHomotopy.to(end, steps)                 end * t / steps        `end` after `steps` steps
    LinearHomotopy.reaching(reach, lr, steps)     the strengths of `steps` steps sum to `reach`
    Constant(lam)                                 lam
    Geometric(initial, ratio)                     initial * ratio**t

`Linear` is the older name of `LinearHomotopy`, not to be confused with the layer `nn.Linear`.
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


@dataclass(frozen=True, repr=False)
class LinearHomotopy(Homotopy):
    """lambda_t = rate * t. Source: Bai, Wang, Liberty 2019, Section 3.2.

    `pq.prox.Linear` is the same class. Its repr is "Linear(rate=...)", as checkpoints hold it.

    Examples:
        >>> pq.prox.LinearHomotopy(0.5)(3)
        1.5
    """

    rate: float

    def __repr__(self) -> str:
        name = "Linear" if type(self) is LinearHomotopy else type(self).__qualname__
        return f"{name}(rate={self.rate!r})"

    @classmethod
    def to(cls, end: float, steps: int) -> LinearHomotopy:
        """The line through 0 at t = 0 and `end` at t = `steps` >= 1.

        Examples:
            >>> pq.prox.LinearHomotopy.to(end=2.0, steps=100)(50)
            1.0
        """
        check_number("end", end, least=0, below=math.inf)
        check_integer("steps", steps, least=1)
        return cls(end / steps)

    @classmethod
    def reaching(cls, reach: float, lr: float, steps: int) -> LinearHomotopy:
        """The line whose strengths lr * lambda_t, t = 0 .. steps - 1, sum to `reach`.

        The rate is 2 reach / (lr steps (steps - 1)). The sum says how far the prox alone carries a
        weight in `steps` >= 2 steps at a constant rate lr > 0: under an L1 distance by `reach`, if
        no level is nearer; under an L2 distance about e^-reach of its distance is left.

        Examples:
            >>> homotopy = pq.prox.LinearHomotopy.reaching(2.0, lr=0.1, steps=1000)
            >>> float(round(sum(0.1 * homotopy(t) for t in range(1000)), 9))
            2.0
        """
        check_number("reach", reach, least=0, below=math.inf)
        check_number("lr", lr, above=0, below=math.inf)
        check_integer("steps", steps, least=2)
        return cls(2 * reach / (lr * steps * (steps - 1)))

    def _at(self, t):
        return self.rate * t


Linear = LinearHomotopy


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
