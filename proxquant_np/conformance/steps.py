"""Conformance (layer 7): checks of other people's training steps, lazy and eager, SGD and Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np.conformance import vectors
from proxquant_np.conformance.checks import DTYPES
from proxquant_np.conformance.definitions import PROXES, STEPS, check_name, look_up
from proxquant_np.conformance.report import Fault, Report
from proxquant_np.conformance.search import SIXTEENTHS, smallest
from proxquant_np.prox import Regularizer
from proxquant_np.prox.regularizer import Floats


def check_step(
    fn: Callable[..., Any],
    definition: str,
    *,
    regularizer: str | Regularizer = "binary_l1",
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Is fn one training step, with P and prox those of `regularizer`?

    With d = gradient(w) for SGD, or Adam's direction for that gradient,

        lazy_sgd    fn(latent, gradient, lr) -> (latent, weights)
                    w = P(latent),  latent <- latent - lr d,  weights = P(latent)
        lazy_adam   fn(latent, gradient, lr, m, v, t) -> (latent, weights, m, v)
        eager_sgd   fn(weights, gradient, lr, strength) -> weights
                    w = weights,  weights <- prox(weights - lr d, strength),  strength = lr lambda_t
        eager_adam  fn(weights, gradient, lr, strength, m, v, t) -> (weights, m, v)

    gradient is a function from weights to the gradient of the loss there. m and v are Adam's
    moments before the step, t = 1, 2, ... its number; beta1 = 0.9, beta2 = 0.999, eps = 1e-8.
    Arguments must be left alone; dtypes are kept.

    Raises:
        ValueError: an unknown name, with the nearest known one.
        TypeError: fn is not callable.

    Examples:
        >>> def step(weights, gradient, lr, strength):
        ...     return pq.prox.BinaryL1().prox(weights - lr * gradient(weights), strength)
        ...
        >>> bool(pq.conformance.check_step(step, "eager_sgd"))
        True
        >>> pq.conformance.check_step(step, "lazy_sgd").verdict
        'wrong'
    """
    check_name(definition, STEPS, "definition")
    _, r = look_up(regularizer, PROXES, "regularizer")
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; a callable is accepted")
    judge = _Step(fn, definition, r)
    golden = vectors.table("steps.json")[definition]["cases"]
    cases = [case | {"dtype": dtype} for dtype in dtypes for case in golden]
    found = [fault for case in cases if (fault := judge.fault(case))]
    worst = found[0].convention if found else None

    def fails(case):
        fault = judge.fault(case)
        return fault is not None and worst in (None, fault.convention)

    words, case = smallest(fails, lambda st: judge.smaller_cases(st, dtypes))
    checked = f"{len(cases)} golden cases, {words}"
    if case is not None:
        cases, found = [case, *cases], [judge.fault(case), *found]
    fault = found[0] if found else None
    if fault is not None and fault.convention == "wrong step":
        named = judge.named(cases) or (fault.convention, fault.detail)
        fault = Fault(*named, fault.inputs, fault.got, fault.expected)
    verdict = "wrong" if fault else "right"
    name, title = getattr(fn, "__name__", repr(fn)), f"step {definition!r} with {r!r}"
    return Report(name, title, verdict, fault is None, checked, fault)


class _Step:
    """Judges training steps, by the formula in float64. A case is one of golden/steps.json."""

    def __init__(self, fn, definition, r):
        self.fn, self.r = fn, r
        self.lazy, self.adam = definition.startswith("lazy"), definition.endswith("adam")
        self.names = ["latent"] * self.lazy + ["weights"] + ["m", "v"] * self.adam

    def arguments(self, case: dict[str, Any], dtype: str) -> dict[str, Any]:
        """Those of fn, by name and in order."""
        A, b = np.array(case["A"], dtype), np.array(case["b"], dtype)
        point = "latent" if self.lazy else "weights"
        named = {point: np.array(case["point"], dtype), "gradient": lambda w: A @ w - b}
        named |= {key: case[key] for key in ("lr", "strength") if key in case}
        if self.adam:
            moments = {key: np.array(case[key], dtype) for key in ("m", "v")}
            named |= {**moments, "t": case["t"]}
        return named

    def smaller_cases(self, st: Any, dtypes: Sequence[str]) -> Any:
        """A strategy: steps of one weight.

        Dyadic numbers, so that a step of SGD that ends on a tie does so exactly; Adam's, the first
        of which is nearly lr, may not come near one.
        """
        one = st.sampled_from(SIXTEENTHS).map(lambda x: [x])
        lr = st.sampled_from([0.37, 0.11] if self.adam else [0.5, 0.125])
        parts = {"A": st.just([[1.0]]), "b": one, "point": one, "lr": lr}
        if not self.lazy:
            parts["strength"] = st.sampled_from([0.0, 0.5, 0.25, 1.0, 2.0])
        if self.adam:
            squares = st.integers(0, 16).map(lambda i: [i / 4])
            parts |= {"m": one, "v": squares, "t": st.integers(1, 9)}
        return st.fixed_dictionaries({**parts, "dtype": st.sampled_from(dtypes)})

    def run(self, case: dict[str, Any]) -> tuple[Floats, ...] | Fault:
        """What fn returns, or what is wrong with its form."""
        given, copies = (self.arguments(case, case["dtype"]) for _ in range(2))
        shown = {**given, "gradient": f"A w - b, A = {case['A']}, b = {case['b']}"}
        try:
            with np.errstate(all="ignore"):
                out = self.fn(*copies.values())
        except Exception as error:
            return Fault("raised", f"raised {type(error).__name__}: {error}", shown)
        for key, before in given.items():
            if isinstance(before, np.ndarray) and copies[key].tobytes() != before.tobytes():
                return Fault("input mutated", f"{key} was modified", shown, copies[key], before)
        out = out if isinstance(out, tuple | list) else (out,)
        if len(out) != len(self.names) or not all(isinstance(u, np.ndarray) for u in out):
            came = ", ".join(type(u).__name__ for u in out)
            detail = f"returned ({came}), not arrays ({', '.join(self.names)})"
            return Fault("result", detail, shown)
        for name, u in zip(self.names, out, strict=True):
            if u.shape != (shape := np.shape(case["point"])):
                detail = f"the new {name} has shape {u.shape}, the old one {shape}"
                return Fault("shape changed", detail, shown, u)
            if u.dtype != case["dtype"]:
                return Fault("dtype changed", f"the new {name} has dtype {u.dtype}", shown, u)
        return tuple(out)

    def fault(self, case: dict[str, Any]) -> Fault | None:
        """What is wrong at this case, or None."""
        out = self.run(case)
        if isinstance(out, Fault):
            return out
        right = self.formula(case)
        wrong = [n for n, u, e in zip(self.names, out, right, strict=True) if not _close(u, e)]
        if not wrong:
            return None
        shown = self.arguments(case, case["dtype"])
        shown["gradient"] = f"A w - b, A = {case['A']}, b = {case['b']}"
        expected = tuple(e.astype(case["dtype"]) for e in right)
        detail = f"{' and '.join(wrong)}: the formula gives another result"
        return Fault("wrong step", detail, shown, out, expected)

    def named(self, cases: list[dict[str, Any]]) -> tuple[str, str] | None:
        """The convention and the words of the mistake that explains every result, if one does."""
        results = [(case, self.run(case)) for case in cases]
        if any(isinstance(out, Fault) for _, out in results):
            return None
        lazies = {"at latent", "from image", "no latent", "image kept", "stale", "low"}
        eagers = {"at mapped", "map first", "lr twice", "over lr", "projects", "doubled", "halved"}
        adams = {"bias correction", "epsilon", "moments"}
        for twist, (convention, detail) in TWISTS.items():
            if twist in (eagers if self.lazy else lazies) or (
                convention in adams and not self.adam
            ):
                continue
            if all(all(map(_close, out, self.formula(case, twist))) for case, out in results):
                return convention, detail
        return None

    def formula(self, case: dict[str, Any], twist: str = "") -> tuple[Floats, ...]:
        """What fn should return, in float64; with a twist, what that mistake returns."""
        point, gradient, lr, *rest = self.arguments(case, "float64").values()
        strength = 0.0 if self.lazy else rest.pop(0)

        def project(w):
            stays = {"sign(0)": 0, "low": -1}
            q = self.r.project(w)
            return np.where(w == 0, stays[twist], q) if twist in stays else q

        def prox(w):
            s = {"lr twice": strength * lr, "over lr": strength / lr, "projects": np.inf}
            s |= {"doubled": 2 * strength, "halved": strength / 2}
            u = self.r.prox(w, s.get(twist, strength))
            return np.where(w == 0, 0, u) if twist == "sign(0)" else u

        image = project(point) if self.lazy else point
        at = prox(point) if twist == "at mapped" else point if twist == "at latent" else image
        g = -gradient(at) if twist == "ascent" else gradient(at)
        d, *moments = _adam(g, *rest, twist) if self.adam else [g]
        if twist == "map first":
            return prox(point) - lr * d, *moments
        moved = (image if twist in ("from image", "no latent") else point) - lr * d
        if not self.lazy:
            return moved if twist == "unmapped" else prox(moved), *moments
        mapped = {"unmapped": moved, "stale": image}.get(twist, project(moved))
        latent = project(moved) if twist in ("image kept", "no latent") else moved
        return latent, mapped, *moments


def _close(u, e):
    eps = 512 * float(np.finfo(u.dtype).eps)
    return np.allclose(u, e, eps, eps)


def _adam(g, m, v, t, twist):
    """Adam's direction and its moments."""
    b1, b2 = (0.999, 0.9) if twist == "swapped" else (0.9, 0.999)
    new_m = b1 * m + (1 if twist == "plain sum" else 1 - b1) * g
    new_v = b2 * v + (1 - b2) * (np.abs(g) if twist == "unsquared" else g * g)
    k = {"late": max(1, t - 1), "early": t + 1}.get(twist, t)
    c1, c2 = (1.0, 1.0) if twist == "uncorrected" else (1 - b1**k, 1 - b2**k)
    root = np.sqrt(new_v / c2) + 1e-8 / (math.sqrt(c2) if twist == "eps hat" else 1)
    if twist == "eps inside":
        root = np.sqrt(new_v / c2 + 1e-8)
    d = (g if twist == "no momentum" else new_m / c1) / root
    return (d, m, v) if twist == "old moments" else (d, new_m, new_v)


TWISTS = {
    "at latent": ("gradient point", "the gradient is taken at the latent, not at its image"),
    "at mapped": ("gradient point", "the gradient is taken at the mapped weights"),
    "from image": ("latent overwritten", "the step starts from the image P(z), not from z"),
    "no latent": ("latent overwritten", "there is no latent: the image P(z) is moved and mapped"),
    "image kept": ("latent overwritten", "the image takes the place of the new latent"),
    "stale": ("stale weights", "the weights returned are the image of the latent before the step"),
    "unmapped": ("not quantized", "the weights returned are not mapped"),
    "sign(0)": ("sign(0)", "0 stays 0, as with numpy.sign"),
    "low": ("sign(0)", "0 goes to the lower level"),
    "map first": ("order", "the weights are mapped before the base step, not after it"),
    "lr twice": ("wrong strength", "the strength is multiplied by lr once more"),
    "over lr": ("wrong strength", "the strength is divided by lr: it is lr * lambda_t already"),
    "projects": ("wrong strength", "projects, whatever the strength"),
    "doubled": ("factor of two", "the strength is doubled"),
    "halved": ("factor of two", "the strength is halved"),
    "ascent": ("direction", "the step goes along the gradient"),
    "uncorrected": ("bias correction", "no division by 1 - beta^t"),
    "late": ("bias correction", "t is counted from 0: corrected as in the step before"),
    "early": ("bias correction", "corrected as in the step after: t is raised once too often"),
    "eps inside": ("epsilon", "eps is added under the root"),
    "eps hat": ("epsilon", "eps is added to the root of v before its correction"),
    "plain sum": ("moments", "m <- beta1 m + g, without the factor 1 - beta1"),
    "swapped": ("moments", "beta1 and beta2 are exchanged"),
    "unsquared": ("moments", "v averages |g|, not g^2"),
    "old moments": ("moments", "the moments before the step are returned"),
    "no momentum": ("moments", "the gradient is used in the place of m"),
}
"""Mistakes that `_Step.formula` can make: what they break, and how."""
