"""The methods: what each makes of a base, and what a search may choose for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxquant_np import nn, optim, prox
from proxquant_np.experiments.bases import CONSTANT, Base

FULL_PRECISION = "full_precision"

Wrap = Callable[..., optim.QuantizedOptimizer]
Groups = list[tuple[Mapping[str, nn.Parameter], prox.Regularizer | None]]


def rounded(x: float) -> float:
    """To three significant digits, as a search draws hyperparameters."""
    return float(f"{x:.3g}")


@dataclass(frozen=True)
class Method:
    """A way to quantize.

    Args:
        wrap: makes the optimizer of a base, groups of parameters (each with its regularizer, None
            for full precision), the number of steps and the hyperparameters.
        default: the hyperparameters, the base's lr among them, where no search was made.
        space: the ends between which a search draws (log-uniform): of each hyperparameter or, in
            place of the reach, of "mean_lambda", which is held against the base's step.
        reach: gives the reach, from lr times the mean of lambda and the number of steps.
        base: what moves the weights, and how its rate falls.
        fine_tuning: the rate of Adam in the last phase.
        source: where the default comes from, if it counts whatever a search has chosen.
        rate_of: the method whose lr this one takes. Its own mean of lambda stays, so that the sum
            of its strengths is as much larger as the rate.
        keeps_sum: in place of the mean of lambda, this sum stays where the rate is another or
            falls, and lambda is as much larger as the rate is smaller.
        regularizer: the task's by default.
        ends: what becomes of the first and the last layer: True if they are quantized like the
            rest, False if they stay in full precision, or a regularizer of their own.
        start: the method whose network this one begins with.
        shares: the method whose hyperparameters this one uses; it is not searched itself.
    """

    label: str
    wrap: Wrap
    default: Mapping[str, float]
    space: Mapping[str, tuple[float, float]]
    regularizer: prox.Regularizer | None = None
    ends: prox.Regularizer | bool = True
    start: str = FULL_PRECISION
    shares: str | None = None
    reach: Callable[[float, int], float] | None = None
    base: Base = CONSTANT
    fine_tuning: float = 1e-3
    source: str | None = None
    rate_of: str | None = None
    keeps_sum: bool = False

    @property
    def is_searched(self) -> bool:
        """Whether a search chooses its hyperparameters."""
        return self.shares is None and self.source is None

    def hyperparameters(self, point: Mapping[str, float], steps: int) -> dict[str, float]:
        """What `wrap` takes, from a point of the space; to three digits."""
        found = dict(point)
        if self.reach is not None and "mean_lambda" in found:
            found["reach"] = rounded(self.reach(found["lr"] * found.pop("mean_lambda"), steps))
        return found

    def mean_lambda(self, found: Mapping[str, float], steps: int) -> float | None:
        """The mean of lambda, from hyperparameters with a reach; None where there is none."""
        if self.reach is None or "reach" not in found:
            return None
        return found["reach"] / self.reach(found["lr"], steps)  # which is linear in lr

    def at_rate(self, lr: float, found: Mapping[str, float]) -> dict[str, float]:
        """These hyperparameters at another rate, with what stays: see `rate_of`, `keeps_sum`."""
        changed = {"lr": lr}
        if self.reach is not None and "reach" in found and not self.keeps_sum:
            changed["reach"] = rounded(found["reach"] * lr / found["lr"])
        return {**found, **changed}

    def optimizer(
        self, model: nn.Module, steps: int, regularizer: prox.Regularizer, lr: float, **rest: float
    ) -> optim.QuantizedOptimizer:
        """This method's optimizer, over its base on all parameters of the model."""
        base, regularizer = self.base.make(model.parameters(), lr), self.regularizer or regularizer
        if self.keeps_sum:
            rest["reach"] /= self.base.share(steps)
        return self.wrap(base, self.groups(model, regularizer), steps, **rest)

    def groups(self, model: nn.Module, regularizer: prox.Regularizer) -> Groups:
        """What of a model is quantized, and how.

        ValueError if its ends are to be treated differently, but it has no layers between them.
        """
        every = nn.quantizable_parameters(model)
        if self.ends is True:
            return [(every, regularizer)]
        inner = nn.quantizable_parameters(model, first=False, last=False)
        if not inner:
            raise ValueError(
                f"model must have a quantizable layer between its first and its last one for "
                f"ends={self.ends!r}, got only {', '.join(every) or 'none at all'}"
            )
        ends = {name: p for name, p in every.items() if name not in inner}
        return [(inner, regularizer), (ends, self.ends or None)]


# All clip weights to [-1, 1], as published; Bop's are -1 and +1 anyway.


def _scheduled(
    groups: Groups,
    homotopy: Callable[[int], float] | None,
    of: Callable[[Any], prox.Regularizer] = lambda regularizer: regularizer,
) -> list[optim.Group]:
    """The groups with this homotopy, and `of` their regularizers; full precision stays so."""
    return [
        optim.Group(params, *((None, None) if own is None else (of(own), homotopy)))
        for params, own in groups
    ]


def _lazy(
    base: Any, groups: Groups, steps: int, clip: bool | float = True
) -> optim.QuantizedOptimizer:
    return optim.DualAveraging(base, _scheduled(groups, None), clip=clip)


def _eager_hard(base: Any, groups: Groups, steps: int) -> optim.QuantizedOptimizer:
    return optim.ProxGradient(base, _scheduled(groups, None), clip=True)


def _prox_quant(
    base: Any, groups: Groups, steps: int, reach: float = 0.0, mean_lambda: float = 0.0
) -> optim.QuantizedOptimizer:
    """lambda_t = rate * t, by the sum of all strengths or, in its place, the mean of lambda_t.

    `reach` is how far BinaryL1's prox alone can carry a weight (one at 0 has to travel 1). An L2
    prox alone reduces the gap of a weight to about e^-reach of what it was. The mean is what is
    held against the base's step: with the same mean, twice the steps reach twice as far.

    Both are those of a constant rate. Where it falls lambda_t stays, and the strengths really given
    sum to less: `protocol.quantize` measures that.
    """
    reach = reach or mean_lambda * base.lr * steps
    homotopy = prox.LinearHomotopy.reaching(reach, base.lr, max(2, steps))
    return optim.ProxGradient(base, _scheduled(groups, homotopy), clip=True)


def _prox_connect(base: Any, groups: Groups, steps: int, reach: float) -> optim.QuantizedOptimizer:
    """lambda_t = rate * t; `reach` is the last strength, for each prox starts from the latent.

    From 1 on, BinaryL1 ends with binary weights; an L2 prox leaves 1 / (1 + reach) of the gap.
    """
    rate = reach / (base.lr * max(1, steps - 1))
    return optim.DualAveraging(base, _scheduled(groups, prox.Linear(rate)), clip=True)


def _parq(base: Any, groups: Groups, steps: int) -> optim.QuantizedOptimizer:
    homotopy = prox.Linear.to(1 / base.lr, steps)
    return optim.DualAveraging(base, _scheduled(groups, homotopy, of=prox.Parq), clip=True)


def _binary_relax(base: Any, groups: Groups, steps: int, last: float) -> optim.QuantizedOptimizer:
    """The strength grows from 1 to `last`, by the same factor in every step."""
    homotopy = prox.Geometric(1 / base.lr, last ** (1 / max(1, steps - 1)))
    return optim.DualAveraging(base, _scheduled(groups, homotopy, of=prox.BinaryRelax), clip=True)


@dataclass(frozen=True)
class HardAtLast(prox.Geometric):
    """Geometric, and infinite, which is the projection, from step `hard` on."""

    hard: float

    def _at(self, t):
        return math.inf if t >= self.hard else super()._at(t)


def two_phases(base: Any, groups: Groups, steps: int, last: float) -> optim.QuantizedOptimizer:
    """BinaryRelax with its second phase: the last fifth of the steps projects."""
    soft = max(1, round(0.8 * steps))
    homotopy = HardAtLast(1 / base.lr, last ** (1 / max(1, soft - 1)), soft)
    return optim.DualAveraging(base, _scheduled(groups, homotopy, of=prox.BinaryRelax), clip=True)


def trained_ternary(base: Any, groups: Groups, steps: int) -> optim.QuantizedOptimizer:
    """Trained ternary quantization, which clips nothing."""
    ((params, _),) = [group for group in groups if group[1] is not None]
    return optim.TrainedTernary(base, params)


def _bop(
    base: Any, groups: Groups, steps: int, threshold: float, adaptivity: float
) -> optim.QuantizedOptimizer:
    params = {name: p for part, own in groups if own is not None for name, p in part.items()}
    return optim.Bop(base, params, threshold, adaptivity)


# Adam moves a weight by 7.27 lr at most: once lambda is larger, signs stay, whatever the gradient.
_LR, _LAMBDA = (1e-4, 1e-1), (1e-3, 30.0)
METHODS = {
    "binary_connect": Method("BinaryConnect (lazy, hard)", _lazy, {"lr": 0.01}, {"lr": _LR}),
    "prox_quant": Method(
        "ProxQuant (eager, soft)",
        _prox_quant,
        {"lr": 0.01, "reach": 6.0},
        {"lr": _LR, "mean_lambda": _LAMBDA},
        reach=lambda strength, steps: strength * steps,
    ),
    "prox_connect": Method(
        "ProxConnect (lazy, soft)",
        _prox_connect,
        {"lr": 0.01, "reach": 10.0},
        {"lr": _LR, "mean_lambda": _LAMBDA},
        reach=lambda strength, steps: 2 * strength,  # lambda ends at twice its mean
    ),
    "projected_gradient": Method(
        "projected gradient (eager, hard)", _eager_hard, {"lr": 0.01}, {"lr": _LR}
    ),
    "parq": Method("PARQ (lazy, soft)", _parq, {"lr": 0.01}, {"lr": _LR}),
    "binary_relax": Method(
        "BinaryRelax (lazy, soft)",
        _binary_relax,
        {"lr": 0.01, "last": 100.0},
        {"lr": _LR, "last": (10.0, 1e4)},
    ),
    "bop": Method(
        "Bop (flips)",
        _bop,
        {"lr": 0.01, "threshold": 1e-5, "adaptivity": 1e-3},
        {"lr": _LR, "threshold": (1e-8, 1e-3), "adaptivity": (1e-5, 1e-2)},
    ),
}
