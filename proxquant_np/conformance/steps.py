"""Checks of training steps, lazy and eager, with SGD and Adam."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from proxquant_np.checks import check_callable
from proxquant_np.conformance import search, vectors
from proxquant_np.conformance.adapters import recognised
from proxquant_np.conformance.calls import Misuse, called, first_call
from proxquant_np.conformance.checks import check_dtypes, noted
from proxquant_np.conformance.definitions import PROXES, STEPS, check_name, look_up
from proxquant_np.conformance.form import DTYPES
from proxquant_np.conformance.report import Fault, Report, in_order
from proxquant_np.conformance.search import SIXTEENTHS
from proxquant_np.prox import ProxFunction, QuantizedSet, as_regularizer
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.regularizer import Prox


def check_step(
    fn: Callable[..., Any],
    definition: str,
    *,
    regularizer: str | QuantizedSet | Prox = "binary_l1",
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Is fn one training step, with the P and prox of `regularizer`?

    A plain function (w, strength) -> w is a prox, and its own P at an infinite strength.

    With d = gradient(w) for SGD, or Adam's direction for that gradient,

        lazy_sgd    fn(latent, gradient, lr) -> (latent, weights)
                    w = P(latent),  latent <- latent - lr d,  weights = P(latent)
        lazy_adam   fn(latent, gradient, lr, m, v, t) -> (latent, weights, m, v)
        eager_sgd   fn(weights, gradient, lr, strength) -> weights
                    w = weights,  weights <- prox(weights - lr d, strength),  strength = lr lambda_t
        eager_adam  fn(weights, gradient, lr, strength, m, v, t) -> (weights, m, v)

    gradient is a function from weights to the gradient of the loss there. m and v are Adam's
    moments before the step and t = 1, 2, ... is its number; beta1 = 0.9, beta2 = 0.999, eps = 1e-8.
    Arguments must not be modified, and dtypes must be kept. A function that cannot be called like
    this is reported as misuse, with the remedy.

    Raises:
        ValueError: the name is unknown (the nearest known one is suggested), or dtypes are other
            than float32 and float64.
        TypeError: fn is not callable.

    Examples:
        >>> def step(weights, gradient, lr, strength):
        ...     return pq.prox.BinaryL1().prox(weights - lr * gradient(weights), strength)
        ...
        >>> bool(pq.conformance.check_step(step, "eager_sgd"))
        True
        >>> pq.conformance.check_step(step, "lazy_sgd").verdict  # it takes no strength
        'misuse'
    """
    check_name(definition, STEPS, "definition")
    if not callable(regularizer):
        _, regularizer = look_up(regularizer, PROXES, "regularizer")
    r = as_regularizer(regularizer, hard=definition.startswith("lazy"))
    check_callable("fn", fn)
    dtypes, fn = check_dtypes(dtypes), recognised(fn)
    judge = _Step(fn, definition, r, dtypes)
    name, title = getattr(fn, "__name__", repr(fn)), f"step {definition!r} with {r!r}"
    golden = vectors.table("steps.json")[definition]["cases"]
    cases = [case | {"dtype": dtype} for dtype in dtypes for case in golden]
    try:
        first = first_call(fn, judge.arguments(cases[0], cases[0]["dtype"]))
        words, found = search.collect(judge, cases, time.monotonic() + search.LIMIT)
    except Misuse as misuse:
        fault = Fault("misuse", str(misuse), {})
        return Report(name, title, "misuse", False, "nothing", (fault,))
    if "wrong step" in found:
        smallest_first = sorted((case for _, case in found.values()), key=judge.size)
        found |= judge.named(found.pop("wrong step"), [*smallest_first, *cases])
    faults = in_order([*first, *(fault for fault, _ in found.values())])
    verdict = "wrong" if faults else "right"
    return Report(name, title, verdict, not faults, words, faults, notes=noted(fn, dtypes))


Found = tuple[Fault, dict[str, Any]]


class _Step:
    """Judges training steps by the formula in float64. A case is as in golden/steps.json."""

    def __init__(self, fn, definition, r, dtypes):
        self.fn, self.r, self.dtypes = fn, r, dtypes
        self._seen = {}
        self.lazy, self.adam = definition.startswith("lazy"), definition.endswith("adam")
        self.names = ["latent"] * self.lazy + ["weights"] + ["m", "v"] * self.adam

    def arguments(self, case: dict[str, Any], dtype: str) -> dict[str, Any]:
        """The arguments of fn, by name and in order."""
        A, b = np.array(case["A"], dtype), np.array(case["b"], dtype)
        point = "latent" if self.lazy else "weights"
        named = {point: np.array(case["point"], dtype), "gradient": lambda w: A @ w - b}
        named |= {key: case[key] for key in ("lr", "strength") if key in case}
        if self.adam:
            moments = {key: np.array(case[key], dtype) for key in ("m", "v")}
            named |= {**moments, "t": case["t"]}
        return named

    def size(self, case: dict[str, Any]) -> int:
        """The number of weights."""
        return len(case["point"])

    def key(self, case: dict[str, Any]) -> str:
        """The case, hashable."""
        return json.dumps(case, sort_keys=True)

    def strategy(self, st: Any) -> Any:
        """Steps of one weight, for `search`.

        The numbers are dyadic, so that an SGD step that ends on a tie does so exactly; Adam's
        steps, the first of which is nearly lr, must not end near one.
        """
        one = st.sampled_from(SIXTEENTHS).map(lambda x: [x])
        lr = st.sampled_from([0.37, 0.11] if self.adam else [0.5, 0.125])
        parts = {"A": st.just([[1.0]]), "b": one, "point": one, "lr": lr}
        if not self.lazy:
            parts["strength"] = st.sampled_from([0.0, 0.5, 0.25, 1.0, 2.0])
        if self.adam:
            squares = st.integers(0, 16).map(lambda i: [i / 4])
            parts |= {"m": one, "v": squares, "t": st.integers(1, 9)}
        return st.fixed_dictionaries({**parts, "dtype": st.sampled_from(self.dtypes)})

    def kind(self) -> Hashable:
        """What the strategy depends on."""
        return "step", self.lazy, self.adam, tuple(self.dtypes)

    def run(self, case: dict[str, Any]) -> tuple[tuple[Floats, ...] | None, list[Fault]]:
        """(what fn returns, or None; the faults in its form), only once for the same case."""
        key = self.key(case)
        if key not in self._seen:
            self._seen[key] = self._run(case)
        return self._seen[key]

    def _run(self, case):
        given = self.arguments(case, case["dtype"])
        shown = self.shown(case)
        out, faults = called(self.fn, given, shown)
        if out is None and faults:
            return None, faults
        out = out if isinstance(out, tuple | list) else (out,)
        if len(out) != len(self.names) or not all(isinstance(u, np.ndarray) for u in out):
            came = ", ".join(type(u).__name__ for u in out)
            detail = f"returned ({came}), not arrays ({', '.join(self.names)})"
            return None, [*faults, Fault("result", detail, shown)]
        for name, u in zip(self.names, out, strict=True):
            if u.shape != (shape := np.shape(case["point"])):
                detail = f"the new {name} has shape {u.shape}, the old one {shape}"
                return None, [*faults, Fault("shape changed", detail, shown, u)]
            if not np.isfinite(u).all():
                detail = f"the new {name} holds NaN or infinity"
                return None, [*faults, Fault("NaN", detail, shown, u)]
        other = [n for n, u in zip(self.names, out, strict=True) if u.dtype != case["dtype"]]
        if other:
            u = out[self.names.index(other[0])]
            detail = f"the new {' and '.join(other)} has dtype {u.dtype}"
            faults.append(Fault("dtype changed", detail, shown, u))
        return tuple(u.astype(case["dtype"]) for u in out), faults

    def shown(self, case: dict[str, Any]) -> dict[str, Any]:
        """The arguments, as a report shows them."""
        gradient = f"A w - b, A = {case['A']}, b = {case['b']}"
        return self.arguments(case, case["dtype"]) | {"gradient": gradient}

    def faults(self, case: dict[str, Any]) -> list[Fault]:
        """All faults at this case."""
        out, faults = self.run(case)
        if out is None:
            return faults
        right = self.formula(case)
        wrong = [n for n, u, e in zip(self.names, out, right, strict=True) if not _close(u, e)]
        if wrong:
            detail = f"{' and '.join(wrong)}: the formula gives another result"
            faults = [*faults, self.fault(case, "wrong step", detail)]
        return faults

    def fault(self, case: dict[str, Any], convention: str, detail: str) -> Fault:
        """The fault, with the result at this case and the right one."""
        expected = tuple(e.astype(case["dtype"]) for e in self.formula(case))
        return Fault(convention, detail, self.shown(case), self.run(case)[0], expected)

    def named(self, generic: Found, cases: list[dict[str, Any]]) -> dict[str, Found]:
        """The faults in values, as the one or two mistakes that explain every result.

        Each comes with the first case at which it matters; `generic` is returned if none explains
        them.
        """
        cases = [case for case in cases if self.run(case)[0] is not None]

        def explains(twists, case):
            return all(map(_close, self.run(case)[0], self.formula(case, twists)))

        known = [twist for twist in TWISTS if self._applies(twist)]
        for twists in [*((twist,) for twist in known), *combinations(known, 2)]:
            if not all(explains(twists, case) for case in cases):
                continue
            named: dict[str, Found] = {}
            for twist in twists:
                convention, detail = TWISTS[twist]
                others = tuple(other for other in twists if other != twist)
                case = next((case for case in cases if not explains(others, case)), cases[0])
                if convention in named:
                    detail = f"{named[convention][0].detail}; {detail}"
                named[convention] = self.fault(case, convention, detail), case
            return named
        return {"wrong step": generic}

    def _applies(self, twist):
        others = EAGER if self.lazy else LAZY
        adam = TWISTS[twist][0] in ("bias correction", "epsilon", "moments")
        levels = twist == "squared" and isinstance(self.r, ProxFunction)  # needs the nearest level
        return twist not in others and (self.adam or not adam) and not levels

    def formula(self, case: dict[str, Any], twists: tuple[str, ...] = ()) -> tuple[Floats, ...]:
        """What fn should return, in float64, or what it would return with these mistakes."""
        point, gradient, lr, *rest = self.arguments(case, "float64").values()
        strength = 0.0 if self.lazy else rest.pop(0)
        low, high = -np.inf, np.inf
        if not isinstance(self.r, ProxFunction):  # which does not tell its levels
            low, *_, high = self.r.levels(np.zeros(1))

        def at_zero(w, u):
            u = np.where((w == 0) & ("sign(0)" in twists), 0, u)
            return np.where((w == 0) & ("low" in twists), -1, u)

        def prox(w):
            factors = {"lr twice": lr, "over lr": 1 / lr, "doubled": 2, "halved": 0.5}
            s = strength * math.prod(f for twist, f in factors.items() if twist in twists)
            if "squared" in twists:
                return at_zero(w, (w + s * self.r.project(w)) / (1 + s))
            return at_zero(w, self.r.prox(w, np.inf if "projects" in twists else s))

        def project(w):
            return at_zero(w, self.r.prox(w, np.inf))

        if "clipped first" in twists:
            point = point.clip(low, high)
        image = project(point) if self.lazy else point
        at = prox(point) if "at mapped" in twists else point if "at latent" in twists else image
        at = project(point) if "at projected" in twists else at
        g = -gradient(at) if "ascent" in twists else gradient(at)
        if "saturated" in twists:
            g = np.where((point < low) | (point > high), 0, g)
        d, *moments = _adam(g, *rest, twists) if self.adam else [g]
        if "map first" in twists:
            return prox(point) - lr * d, *moments
        moved = (image if {"from image", "no latent"} & {*twists} else point) - lr * d
        if "clipped" in twists and self.lazy:
            moved = moved.clip(low, high)
        if not self.lazy:
            mapped = moved if "unmapped" in twists else prox(moved)
            return mapped.clip(low, high) if "clipped" in twists else mapped, *moments
        mapped = moved if "unmapped" in twists else image if "stale" in twists else project(moved)
        if "sign(0) at last" in twists:
            mapped = np.where(moved == 0, 0, mapped)
        latent = project(moved) if {"image kept", "no latent"} & {*twists} else moved
        return latent, mapped, *moments


def _close(u, e):
    eps = 512 * float(np.finfo(u.dtype).eps)
    return np.allclose(u, e, eps, eps)


def _adam(g, m, v, t, twists):
    """Adam's direction and its moments."""
    b1, b2 = (0.999, 0.9) if "swapped" in twists else (0.9, 0.999)
    new_m = b1 * m + (1 if "plain sum" in twists else 1 - b1) * g
    new_v = b2 * v + (1 - b2) * (np.abs(g) if "unsquared" in twists else g * g)
    k = max(1, t - 1) if "late" in twists else t + 1 if "early" in twists else t
    c1, c2 = (1.0, 1.0) if "uncorrected" in twists else (1 - b1**k, 1 - b2**k)
    root = np.sqrt(new_v / c2) + 1e-8 / (math.sqrt(c2) if "eps hat" in twists else 1)
    if "eps inside" in twists:
        root = np.sqrt(new_v / c2 + 1e-8)
    if "no root" in twists:
        root = new_v / c2 + 1e-8
    d = (g if "no momentum" in twists else new_m / c1) / root
    return (d, m, v) if "old moments" in twists else (d, new_m, new_v)


TWISTS = {
    "at latent": ("gradient point", "the gradient is taken at the latent, not at its image"),
    "at mapped": ("gradient point", "the gradient is taken at the mapped weights"),
    "at projected": ("gradient point", "the gradient is taken at P(w), not at the weights w"),
    "from image": ("latent overwritten", "the step starts from the image P(z), not from z"),
    "no latent": ("latent overwritten", "there is no latent: the image P(z) is moved and mapped"),
    "image kept": ("latent overwritten", "the image replaces the new latent"),
    "stale": ("stale weights", "the weights returned are the image of the latent before the step"),
    "clipped": ("clipped", "what is moved is clipped to the levels' range after the step"),
    "clipped first": ("clipped", "the latent is clipped to the levels' range before the step"),
    "saturated": ("clipped", "the gradient is 0 where the latent lies beyond the levels"),
    "unmapped": ("not quantized", "the weights returned are not mapped"),
    "sign(0)": ("sign(0)", "0 stays 0, as with numpy.sign"),
    "sign(0) at last": ("sign(0)", "0 stays 0 in the weights returned, as with numpy.sign"),
    "low": ("sign(0)", "0 goes to the lower level"),
    "squared": ("not optimal", "the prox is that of the squared distance: (x + s q) / (1 + s)"),
    "map first": ("order", "the weights are mapped before the base step, not after it"),
    "lr twice": ("wrong strength", "the strength is multiplied by lr once more"),
    "over lr": ("wrong strength", "the strength is divided by lr, but is lr * lambda_t already"),
    "projects": ("wrong strength", "projects, whatever the strength"),
    "doubled": ("factor of two", "the strength is doubled"),
    "halved": ("factor of two", "the strength is halved"),
    "ascent": ("direction", "the step goes along the gradient"),
    "uncorrected": ("bias correction", "no division by 1 - beta^t"),
    "late": ("bias correction", "t is counted from 0, so corrected as in the previous step"),
    "early": ("bias correction", "corrected as in the next step: t is incremented once too often"),
    "eps inside": ("epsilon", "eps is added under the root"),
    "eps hat": ("epsilon", "eps is added to the root of v before its correction"),
    "plain sum": ("moments", "m <- beta1 m + g, without the factor 1 - beta1"),
    "swapped": ("moments", "beta1 and beta2 are exchanged"),
    "unsquared": ("moments", "v averages |g|, not g^2"),
    "old moments": ("moments", "the moments before the step are returned"),
    "no root": ("moments", "the step is divided by v, not by its root"),
    "no momentum": ("moments", "the gradient is used in place of m"),
}
"""Mistakes that `_Step.formula` can make, and which convention they break, and how."""

LAZY = {"at latent", "from image", "no latent", "image kept", "stale", "low", "clipped first"}
LAZY |= {"saturated", "sign(0) at last"}
EAGER = {"at mapped", "map first", "lr twice", "over lr", "projects", "doubled", "halved"}
EAGER |= {"at projected", "squared"}
