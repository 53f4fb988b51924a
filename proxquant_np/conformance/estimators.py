"""Gradients that training passes through quantizers, as they are published.

The derivative of a quantizer q is 0 almost everywhere, so each of these puts something else in its
place: given g, the gradient of the loss with respect to q(w), it says what w receives, and what the
step receives if that is learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from proxquant_np.checks import check_choice, check_number
from proxquant_np.conformance.definitions import check_name
from proxquant_np.prox.arrays import Floats

Interval = tuple[float, float]
Gradient = tuple[Floats, float]
"""Expected values, and the size of the numbers that they were made of, for rounding errors."""

ENDS = {
    "inside": (True, True),
    "outside": (False, False),
    "lower": (True, False),
    "upper": (False, True),
}
"""Whether the gradient passes at the lower and at the upper end of the clip."""

FACTORS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "": lambda w, q: np.ones_like(w),
    "mean": lambda w, q: np.full_like(w, np.abs(w).mean()),
    "max": lambda w, q: np.full_like(w, np.abs(w).max()),
    "quantized": lambda w, q: q,
    "weights": lambda w, q: w,
}
"""What the gradient may be multiplied by; the last two are mistakes."""

FACTOR_WORDS = {
    "": "",
    "mean": "mean|w| ",
    "max": "max|w| ",
    "quantized": "q(w) ",
    "weights": "w ",
}

STEP_SCALES: dict[str, Callable[[int, float], float]] = {
    "1/sqrt(n q)": lambda n, q: 1 / math.sqrt(n * q),
    "1": lambda n, q: 1.0,
    "1/sqrt(n)": lambda n, q: 1 / math.sqrt(n),
    "1/n": lambda n, q: 1 / n,
    "1/sqrt(q)": lambda n, q: 1 / math.sqrt(q),
    "1/(n q)": lambda n, q: 1 / (n * q),
}
"""Factors of the step's gradient, of the number n of weights and the last code q."""


@dataclass(frozen=True)
class Passed:
    """w receives scale * g where low <= w <= high, 0 elsewhere.

    clip: (low, high); without ends, the identity of Bengio et al. 2013, arXiv:1308.3432; (-1, 1) is
    that of Hubara et al. 2016, Binarized Neural Networks, NIPS. ends: a key of ENDS, "inside" as
    above. factor: what the gradient is multiplied by as well, a key of FACTORS.
    """

    clip: Interval = (-math.inf, math.inf)
    ends: str = "inside"
    scale: float = 1.0
    factor: str = ""

    def __str__(self) -> str:
        if self.scale == 0:
            return "zero: nothing passes"
        scaled = "" if self.passed == "g" else "scaled "
        if self.clip == (-math.inf, math.inf):
            return f"{scaled}identity (Bengio et al. 2013): {self.passed}"
        return f"{scaled}clipped (Hubara et al. 2016): {self.passed} {self.where}, else 0"

    @property
    def passed(self) -> str:
        """What passes, in words."""
        return f"{_times(self.scale)}{FACTOR_WORDS[self.factor]}g"

    @property
    def where(self) -> str:
        """Where it passes, in words."""
        return between(self.clip, self.ends)

    def gradients(self, given: tuple[Floats, ...], q: Floats, g: Floats) -> list[Gradient]:
        """What w receives."""
        (w,) = given
        passed = self.scale * FACTORS[self.factor](w, q) * g
        dw = np.where(inside(w, self.clip, self.ends), passed, 0)
        return [(dw, float(np.abs(g).max() + np.abs(passed).max()))]

    def judges(self, w: Floats) -> bool:
        """Whether the definition says what w receives."""
        return True


@dataclass(frozen=True)
class ThroughTanh:
    """w receives scale times the gradient of sum(g * tanh(w) / max|tanh(w)|): DoReFa.

    With t = tanh(w) and M = |t_m| the maximum, entry i is g_i (1 - t_i^2) / M, and entry m has
    -sign(t_m) (1 - t_m^2) / M^2 sum_j g_j t_j besides: maximum="differentiated". Without the second
    term, maximum="constant". Where several weights are the largest, the paper leaves it open.
    Source: Zhou et al. 2016, arXiv:1606.06160, equation 9 with the identity through the rounding;
    the paper does not say what becomes of the maximum, autograd differentiates it.
    """

    maximum: str = "differentiated"
    scale: float = 1.0

    def __str__(self) -> str:
        return (
            f"DoReFa's (Zhou et al. 2016): {self.passed} through tanh(w) / max|tanh(w)|, the "
            f"maximum {self.maximum}"
        )

    @property
    def passed(self) -> str:
        """What passes, in words."""
        return f"{_times(self.scale)}g"

    def gradients(self, given: tuple[Floats, ...], q: Floats, g: Floats) -> list[Gradient]:
        """What w receives."""
        t = np.tanh(given[0])
        slope = self.scale * (1 - t * t)
        m = np.unravel_index(np.abs(t).argmax(), t.shape)
        top = np.abs(t[m])
        dw = g * slope / top
        size = np.abs(dw).max() + np.abs(g).max() / top
        if self.maximum == "differentiated":
            dw[m] -= t[m] * slope[m] / top**3 * np.sum(g * t)
            size += np.abs(slope[m]) / top**2 * np.sum(np.abs(g * t))
        return [(dw, float(size))]

    def judges(self, w: Floats) -> bool:
        """Whether one weight alone is the largest."""
        t = np.abs(np.tanh(w.astype(np.float64)))
        return t.max() > 0 and np.sum(t >= t.max() * (1 - 1e-6)) == 1


@dataclass(frozen=True)
class ThroughStep:
    """What w and the learned step s receive, for codes from low to high: LSQ, and PACT.

    w receives scale * g where low < w/s < high, 0 elsewhere. s receives step_scale times
    sum(g * d), with d = low where w/s <= low, high where w/s >= high, and round(w/s) - w/s = (q(w)
    - w) / s between.
    LSQ: step_scale is 1/sqrt(n q), n the number of weights and q = high. The paper's ends are
    outside, as above; differentiating a clamp that includes them, as PyTorch's, gives others.
    Source: Esser et al. 2020, arXiv:1902.08153, sections on the step size gradient and its scale.

    rest=False: d = 0 between. With codes from 0 to 1 and s the clip alpha this is PACT, where w
    receives g for 0 <= w < alpha (ends "lower"), and alpha the sum of g over w >= alpha.
    Source: Choi et al. 2018, arXiv:1805.06085.

    codes: low and high, the values of d. clip and step_clip: between which ends w/s lies for w and
    for s to receive what is said, both (low, high) in the papers; ends and step_ends: which of
    these count as between. step_factor: a further factor of what s receives.
    """

    clip: Interval
    step_clip: Interval
    codes: Interval
    ends: str = "outside"
    step_ends: str = "outside"
    scale: float = 1.0
    step_scale: str = "1/sqrt(n q)"
    step_factor: float = 1.0
    rest: bool = True

    def __str__(self) -> str:
        name = "LSQ's (Esser et al. 2020)" if self.rest else "PACT's (Choi et al. 2018)"
        other = "" if self.ends == self.step_ends else f", its ends {self.step_ends}"
        return (
            f"{name}: {self.passed} {self.where}, the step's gradient times "
            f"{self.step_words}{other}"
        )

    @property
    def passed(self) -> str:
        """What w receives, in words."""
        return f"{_times(self.scale)}g"

    @property
    def where(self) -> str:
        """Where w receives it, in words."""
        return between(self.clip, self.ends, "w/s")

    @property
    def step_words(self) -> str:
        """The factor of the step's gradient, in words."""
        if self.step_scale == "1":
            return f"{self.step_factor:.6g}"
        return f"{_times(self.step_factor)}{self.step_scale}"

    def step_number(self, n: int) -> float:
        """The same as a number, for n weights."""
        return self.step_factor * STEP_SCALES[self.step_scale](n, self.codes[1])

    def gradients(self, given: tuple[Floats, ...], q: Floats, g: Floats) -> list[Gradient]:
        """What w and s receive."""
        w, s = given
        (dw,) = Passed(self.clip, self.ends, self.scale).gradients((w / s,), q, g)
        low, high = self.codes
        within = (q - w) / s if self.rest else np.zeros_like(w)
        beyond = np.where(w / s > np.mean(self.step_clip), high, low)
        d = np.where(inside(w / s, self.step_clip, self.step_ends), within, beyond)
        k = self.step_number(w.size)
        size = abs(k) * np.abs(g).sum() * max(1, abs(low), abs(high))
        return [dw, (np.reshape(k * np.sum(g * d), s.shape), float(size))]

    def judges(self, w: Floats) -> bool:
        """Whether the definition says what w receives."""
        return True


Estimator = Passed | ThroughTanh | ThroughStep

ESTIMATORS: Mapping[str, tuple[str, ...]] = {
    "straight_through": ("clip", "ends", "scale"),
    "dorefa_gradient": ("maximum", "scale"),
    "lsq_gradient": ("clip", "ends", "scale", "step_scale"),
    "pact_gradient": ("clip", "ends", "scale", "step_scale"),
}
"""What `check_gradient` knows by name, and what may be said of each."""


def inside(w: Floats, clip: Interval, ends: str) -> np.ndarray:
    """Where w lies in the clip, its ends included as `ends` says."""
    lower, upper = ENDS[ends]
    low, high = clip
    return (w >= low if lower else w > low) & (w <= high if upper else w < high)


def between(clip: Interval, ends: str, name: str = "w") -> str:
    """The same in words: "where -1 <= w < 1"."""
    (low, high), (lower, upper) = clip, ENDS[ends]
    left = f"{low:.7g} {'<=' if lower else '<'} " if low > -math.inf else ""
    right = f" {'<=' if upper else '<'} {high:.7g}" if high < math.inf else ""
    return f"where {left}{name}{right}" if left or right else "for every w"


def _times(number):
    return {1: "", -1: "-"}.get(number, f"{number:.6g} ")


def estimator(name: str, **said: Any) -> Estimator | None:
    """The one that is asked for; None for "straight_through" with nothing said about it.

    ValueError or TypeError for an unknown name, and for what the named one has not or refuses.
    """
    check_name(name, list(ESTIMATORS), "as_")
    said = {key: value for key, value in said.items() if value is not None}
    for key in said:
        if key not in ESTIMATORS[name]:
            known = ", ".join(ESTIMATORS[name])
            raise ValueError(f"{key} is nothing that {name} has: {known}; got {said[key]!r}")
    scale = said.get("scale", 1.0)
    factor = scale if isinstance(scale, str) else ""
    if factor:
        check_choice("scale", factor, ("mean", "max") if name == "straight_through" else ())
    scale = 1.0 if factor else check_number("scale", scale, below=math.inf, above=-math.inf)
    if name == "dorefa_gradient":
        maximum = said.get("maximum", "differentiated")
        return ThroughTanh(check_choice("maximum", maximum, ("differentiated", "constant")), scale)
    ends = check_choice("ends", said["ends"], ENDS) if "ends" in said else None
    clip = _interval(said["clip"]) if "clip" in said else None
    if name == "straight_through":
        return Passed(clip or Passed.clip, ends or "inside", scale, factor) if said else None
    lsq = name == "lsq_gradient"
    clip = clip or (None if lsq else (0.0, 1.0))
    if clip is None or not 0 < clip[1] < math.inf or clip[0] == -math.inf:
        what = "the first and the last code, as (-8, 7)" if lsq else "two ends low < high > 0"
        raise ValueError(f"clip must be {what} for {name}, got {clip}")
    step_scale, step_factor = said.get("step_scale", "1/sqrt(n q)" if lsq else "1"), 1.0
    if isinstance(step_scale, str):
        check_choice("step_scale", step_scale, STEP_SCALES)
    else:
        step_scale, step_factor = "1", check_number("step_scale", step_scale)
    ends = ends or ("outside" if lsq else "lower")
    return ThroughStep(clip, clip, clip, ends, ends, scale, step_scale, step_factor, lsq)


def _interval(clip) -> Interval:
    if not isinstance(clip, Sequence):
        high = check_number("clip", clip, above=0)
        return -high, high
    if len(clip) != 2:
        raise ValueError(f"clip must be a number > 0 or a pair low < high, got {clip!r}")
    low, high = clip
    low, high = check_number("clip[0]", low), check_number("clip[1]", high)
    if low >= high:
        raise ValueError(f"clip must be a number > 0 or a pair low < high, got {clip!r}")
    return low, high


SIGNED = ("scale", "step_factor")
"""The parts of an estimator that are numbers with a sign."""


def published(model: Estimator) -> Estimator:
    """The estimator without what can only be a mistake: 0, a sign, a factor of w or of q(w)."""
    upright = {k: abs(getattr(model, k)) or 1.0 for k in SIGNED if hasattr(model, k)}
    if getattr(model, "factor", "") in ("quantized", "weights"):
        upright["factor"] = ""
    return replace(model, **upright)
