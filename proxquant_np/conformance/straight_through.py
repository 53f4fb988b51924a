"""Checks of the gradients that training passes through quantizers: which estimator is it?

The gradients at weights on, near and far from the ends are compared with what is asked. If they
differ, or nothing is asked, the estimator that explains all of them is looked for (identify.py),
and what is wrong is where that one differs from what is asked.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.conformance.calls import Misuse, called, first_call, gradient_form, run
from proxquant_np.conformance.differentiated import differentiated
from proxquant_np.conformance.estimators import (
    ENDS,
    SIGNED,
    Estimator,
    ThroughStep,
    ThroughTanh,
    published,
)
from proxquant_np.conformance.form import DTYPES
from proxquant_np.conformance.identify import identified
from proxquant_np.conformance.report import Fault, Report, in_order
from proxquant_np.prox.arrays import Floats

PLAIN = [0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 0.25, -0.25, 0.75, -0.75, 1.5, -1.5]
PLAIN += [sign * x for x in (3.0, 4.0, 8.0, 16.0, 100.0, 1000.0, 0.125, 1 / 64) for sign in (1, -1)]
SIZE = 24  # weights in a tensor, unless the caller gives some
STEP = 0.5
NEAR = 2.0**-10  # how far beside an end the gradient is looked at, relative to it
SINGLE = 64 * float(np.finfo(np.float32).eps)  # rounding errors that are not to be float64's


def check_straight_through(
    fn: Callable[..., Any],
    grad_fn: Callable[..., Any] | None,
    inputs: Sequence[Any] | None,
    asked: Estimator | None,
    dtypes: Sequence[str] | None,
) -> Report:
    """Whether the gradient is the one that is asked, or which it is. Called by `check_gradient`."""
    named = fn if grad_fn is None else grad_fn
    name = getattr(named, "__name__", repr(named))
    title = f"gradient through {getattr(fn, '__name__', repr(fn))!r}"
    if inputs is None:
        steps = [np.array(STEP)] * (isinstance(asked, ThroughStep) or _takes_step(fn))
        inputs, dtypes = [np.random.default_rng(1).normal(size=SIZE), *steps], dtypes or DTYPES
    found: list[Fault] = []
    count, is_it = 0, None
    dtypes = dtypes or [inputs[0].dtype.name]
    for dtype in dtypes:
        try:
            subject = _Subject(fn, grad_fn, [np.asarray(x, dtype) for x in inputs])
            faults, is_it = _values(subject, asked or is_it)
        except Misuse as misuse:
            fault = Fault("misuse", str(misuse), {})
            return Report(name, title, "misuse", False, "nothing", (fault,))
        found += [*subject.form, *faults]
        count += sum(seen.given[0].size for seen in subject.seen)
    faults = in_order({fault.convention: fault for fault in reversed(found)}.values())
    title += f" as {asked or is_it or 'straight-through'}"
    checked = f"{count} weights, on, near and far from the ends, in {' and '.join(dtypes)}"
    verdict = "wrong" if faults else "right"
    return Report(name, title, verdict, not faults, checked, faults, notes=subject.notes)


def _takes_step(fn):
    """Whether fn must be given two arguments."""
    try:
        signature = inspect.signature(getattr(fn, "adapted_from", fn))
        signature.bind(0, 0)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(0)
    except TypeError:
        return True
    return False


class Seen(NamedTuple):
    """One call: the weights (and the step), q of them, g, and the gradients that came."""

    given: tuple[Floats, ...]
    q: Floats
    g: Floats
    got: tuple[Floats, ...]

    def unlike(self, model: Estimator, eps: float) -> list[np.ndarray]:
        """For each gradient, where it is not the estimator's."""
        if not model.judges(self.given[0]):
            return [np.zeros(d.shape, bool) for d in self.got]
        with np.errstate(all="ignore"):
            expected = model.gradients(self.given, self.q, self.g)
        return [
            ~(np.abs(d - e) <= eps * (size + np.abs(e)))
            for d, (e, size) in zip(self.got, expected, strict=True)
        ]

    def named(self) -> dict[str, Any]:
        """The arguments of the gradient, as a report shows them."""
        return dict(zip(("w", "step"), self.given, strict=False)) | {"g": self.g}


class _Subject:
    """The quantizer and its gradient, called on tensors of one shape and dtype.

    seen: the calls; form: the faults in form; usable: whether each call gave gradients. unit: what
    the ends of a clip are counted in, the step if that is learned.
    """

    def __init__(self, fn, grad_fn, inputs):
        self.w, *self.rest = inputs
        self.dtype, self.rng = self.w.dtype, np.random.default_rng(0)
        self.unit = float(self.rest[0].reshape(-1)[0]) if self.rest else 1.0
        self.fn, self.grad_fn = differentiated(fn, inputs) if grad_fn is None else (fn, grad_fn)
        self.notes = getattr(self.fn, "notes", {})
        start = self._named(self.w)
        self.form = first_call(self.fn, start)
        self.form += first_call(self.grad_fn, start | {"g": np.ones_like(self.w)})
        self.seen: list[Seen] = []
        self.usable = True

    def _named(self, w):
        return dict(zip(("w", "step"), (w, *self.rest), strict=False))

    def call(self, w: Floats) -> Seen | None:
        """The gradients at these weights; None, with a fault, if there are none."""
        names = self._named(w)
        q, faults = run(self.fn, names, w)
        self.form += faults
        g = self.rng.uniform(0.5, 2, w.shape) * self.rng.choice([-1.0, 1.0], w.shape)
        names["g"] = g = g.astype(w.dtype)
        out, faults = called(self.grad_fn, names) if q is not None else (None, [])
        self.form += faults
        got = out if isinstance(out, tuple | list) else (out,)
        given = (w, *self.rest)
        if out is None or len(got) != len(given):
            if out is not None:
                detail = f"returned {len(got)} gradients for {len(given)} inputs"
                self.form.append(Fault("result", detail, names))
            elif not self.form:
                raise Misuse("the gradient is None: is there a return?")
            self.usable = False
            return None
        got = tuple(map(np.asarray, got))
        for i, (d, x) in enumerate(zip(got, given, strict=True)):
            if fault := gradient_form(i, d, x, names):
                self.form.append(fault)
                self.usable &= fault.convention == "dtype changed"
        if not self.usable:
            return None
        return Seen(given, q, g, tuple(d.astype(x.dtype) for d, x in zip(got, given, strict=True)))

    def look(self, tensors: Iterable[Floats]) -> None:
        """Calls at these, kept in `seen`."""
        for w in tensors:
            seen = self.call(w)
            if seen is None:
                return
            self.seen.append(seen)

    def tensors(self, asked: Estimator | None) -> Iterator[Floats]:
        """Weights on, near and far from the ends; the caller's; random ones of three sizes."""
        yield from self.shaped([*self.ends(asked), *(self.unit * x for x in PLAIN)])
        yield self.w
        for size in (0.5, 0.05, 3.0):
            yield (self.unit * self.rng.normal(0, size, self.w.shape)).astype(self.dtype)

    def shaped(self, values: Sequence[float]) -> Iterator[Floats]:
        """Tensors of the shape of w that hold the values, some of them again."""
        for start in range(0, len(values), self.w.size):
            rolled = np.roll(np.array(values, self.dtype), -start)
            yield np.resize(rolled, self.w.size).reshape(self.w.shape)

    def ends(self, model: Estimator | None) -> list[float]:
        """Both ends, if they are short enough to be met exactly, and weights beside them."""
        ends = [c * self.unit for c in getattr(model, "clip", ()) if abs(c) < math.inf]
        on = [c for c in ends if float(f"{c:.6g}") == c]
        return [*on, *(c + by * NEAR * max(abs(c), 0.125) for c in ends for by in (-1, 1))]

    def like(self, model: Estimator, eps: float) -> bool:
        """Whether all gradients seen are the estimator's."""
        return not any(bad.any() for seen in self.seen for bad in seen.unlike(model, eps))


def _values(subject, asked):
    """(faults in the values, the estimator that it is, or None)."""
    subject.look(subject.tensors(asked))
    if not subject.usable:
        return [], None
    eps = 64 * float(np.finfo(subject.dtype).eps)
    for least in sorted({eps, SINGLE}):
        known = asked is not None and subject.like(asked, least)
        is_it = asked if known else identified(subject, asked, least)
        if is_it is not None:
            break
    else:
        return [_unknown(subject, asked, least)], None
    expected = asked or published(is_it)
    faults = [] if is_it == expected else _differences(subject, expected, is_it, least)
    if least > eps:
        faults.append(Fault("precision", "the gradient has the digits of float32 only", {}))
    return faults, is_it


PARTS: dict[str, tuple[str, ...]] = {
    "wrong factor": ("factor", "scale"),
    "wrong clip": ("clip", "step_clip"),
    "wrong ends": ("ends", "step_ends"),
    "gradient scale": ("step_scale", "step_factor"),
    "wrong estimator": ("maximum", "rest"),
}
"""Of which parts of an estimator each convention speaks; "direction" is of the signs."""

WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    **dict.fromkeys(("factor", "scale"), ("w receives", lambda model: model.passed)),
    **dict.fromkeys(("clip", "ends"), ("it passes", lambda model: model.where)),
    "step_clip": ("the step's gradient has its ends at", lambda model: str(model.step_clip)),
    "step_ends": ("the step's gradient has its ends", lambda model: model.step_ends),
    **dict.fromkeys(
        ("step_scale", "step_factor"),
        ("the step's gradient is multiplied by", lambda model: model.step_words),
    ),
    "maximum": ("the maximum is", lambda model: model.maximum),
    "rest": (
        "of weights between the ends the step receives the sum of g times",
        lambda model: "(q(w) - w)/s" if model.rest else "0",
    ),
}
"""How a report names a part, and what it is."""


def _differences(subject, asked, is_it, eps):
    """A fault for each convention in which the two differ, with weights that show it."""
    if is_it.scale == 0:
        detail = "no gradient reaches the weights: rounding without a straight-through gradient?"
        return [_shown(subject, asked, asked, "wrong factor", detail, eps)]
    if type(asked) is not type(is_it):
        return [_shown(subject, asked, asked, "wrong estimator", f"it is {is_it}", eps)]
    turned = {
        k: -getattr(is_it, k) for k in SIGNED if getattr(asked, k, 0) * getattr(is_it, k, 0) < 0
    }
    upright = replace(is_it, **turned)
    found = []
    if turned:
        whose = "step's gradient" if "scale" not in turned else "gradient"
        found.append(("direction", turned, f"the sign of the {whose} is wrong"))
    for convention, parts in PARTS.items():
        changed = {k: getattr(asked, k) for k in parts if _differ(k, asked, upright, subject)}
        if changed:
            part = next(iter(changed))
            what, said = WORDS[part]
            detail = f"{what} {said(upright)}, not {said(asked)}"
            found.append((convention, changed, detail))
    return [
        _shown(subject, asked, replace(is_it, **changed), convention, detail, eps)
        for convention, changed, detail in found
    ] or [_unknown(subject, asked, eps)]


def _differ(part, asked, is_it, subject):
    """Whether the two differ in this part; ends only where both have one, at the same place."""
    if not hasattr(asked, part) or getattr(asked, part) == getattr(is_it, part):
        return False
    if part in ("ends", "step_ends"):
        place = "clip" if part == "ends" else "step_clip"
        at, other = getattr(asked, place), getattr(is_it, place)
        pairs = zip(ENDS[getattr(asked, part)], ENDS[getattr(is_it, part)], at, strict=True)
        return at == other and any(a != b and abs(c) < math.inf for a, b, c in pairs)
    if part in ("step_scale", "step_factor"):
        a, b = (model.step_number(subject.w.size) for model in (asked, is_it))
        return abs(a - b) > 1e-6 * abs(a)
    return True


def _shown(subject, asked, without, convention, detail, eps):
    """The fault at the first weight that shows it: where the gradient is not `without` it."""
    for seen in subject.seen:
        if not asked.judges(seen.given[0]):
            continue
        pairs = zip(seen.unlike(without, eps), seen.unlike(asked, eps), strict=True)
        for i, wrong in enumerate(a & b for a, b in pairs):
            if not wrong.any():
                continue
            inputs, got = seen.named(), seen.got[i]
            expected = asked.gradients(seen.given, seen.q, seen.g)[i][0].astype(got.dtype)
            if i == 0:
                at = np.unravel_index(np.flatnonzero(wrong)[0], wrong.shape)
                got, expected = got[at], expected[at]
                if isinstance(asked, ThroughTanh):  # the other weights matter
                    detail += f"; first at entry {', '.join(map(str, at))}"
                else:
                    inputs |= {"w": seen.given[0][at], "g": seen.g[at]}
            return Fault(convention, detail, inputs, got, expected)
    return Fault(convention, detail, {})


def _unknown(subject, asked, eps):
    """That it is no known estimator, with weights that show it."""
    detail = "it is none of the estimators known"
    first = subject.seen[0]
    again = subject.call(first.given[0])
    if again is not None and all(map(np.array_equal, first.got, again.got)):
        detail += ": it does not depend on g"
    if asked is not None:
        return _shown(subject, asked, asked, "wrong estimator", detail, eps)
    return Fault("wrong estimator", detail, first.named(), first.got)
