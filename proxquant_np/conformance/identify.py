"""Which estimator explains the gradients that came through a quantizer?

Its numbers are measured: factors by least squares, the ends of a clip by bisection.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from proxquant_np.conformance.estimators import (
    ENDS,
    FACTORS,
    STEP_SCALES,
    Estimator,
    Passed,
    ThroughStep,
    ThroughTanh,
)


def identified(subject: Any, asked: Estimator | None, eps: float) -> Estimator | None:
    """The estimator that explains all gradients seen, simple ones first; None if none does."""
    for model in _candidates(subject, asked, eps):
        if subject.like(model, eps):
            subject.look(subject.shaped(subject.ends(model)))
            if subject.like(model, eps):
                return model
    return None


def _candidates(subject, asked, eps):
    if not subject.rest:
        for factor in FACTORS:
            model = _passed(subject, factor, eps)
            if model is not None:
                yield model
        for maximum in ("differentiated", "constant"):
            model = ThroughTanh(maximum)
            yield replace(model, scale=_multiple(subject, model, 0))
        return
    passed = _passed(subject, "", eps)
    if passed is None:
        return
    ends = [passed.ends, *(kind for kind in ENDS if kind != passed.ends)]
    spans = dict.fromkeys([passed.clip, getattr(asked, "step_clip", passed.clip)])
    finite = [span for span in spans if 0 < span[1] < math.inf and span[0] > -math.inf]
    codes = {(float(math.ceil(low)), float(math.floor(high))) for low, high in finite} | {*finite}
    for rest, span, of_step, step_ends in product((True, False), finite, sorted(codes), ends):
        if of_step[1] <= 0:
            continue
        step = ThroughStep(
            passed.clip, span, of_step, passed.ends, step_ends, passed.scale, rest=rest
        )
        for sign, scale in product((1.0, -1.0), STEP_SCALES):
            yield replace(step, step_scale=scale, step_factor=sign)
        step = replace(step, step_scale="1")
        yield replace(step, step_factor=_multiple(subject, step, 1))


def _multiple(subject, model, i):
    """The number by which gradient i of the model has to be multiplied, by least squares."""
    pairs = [
        (seen.got[i], model.gradients(seen.given, seen.q, seen.g)[i][0])
        for seen in subject.seen
        if model.judges(seen.given[0])
    ]
    up = sum(float(np.sum(np.multiply(d, e, dtype=np.float64))) for d, e in pairs)
    down = sum(float(np.sum(np.multiply(e, e, dtype=np.float64))) for _, e in pairs)
    return _plain(up / down if down else 0.0)


def _plain(number):
    """The number, or one with fewer digits that is as near as float32 is."""
    shorter = (float(f"{number:.{digits}g}") for digits in range(1, 7))
    return next((s for s in shorter if abs(s - number) <= 1e-6 * abs(number)), number)


def _passed(subject, factor, eps):
    """Passed(...) with this factor, if the gradient divided by g and it is 0 or one number."""
    at, ratios = [], []
    for seen in subject.seen:
        w, times = seen.given[0], FACTORS[factor](seen.given[0], seen.q)
        known = times != 0
        at.append(w[known].ravel())
        ratios.append((seen.got[0][known] / (seen.g * times)[known]).ravel())
    order = np.argsort(np.concatenate(at), kind="stable")
    at, ratios = np.concatenate(at)[order], np.concatenate(ratios)[order]
    size = np.abs(ratios).max(initial=0)
    if size == 0:
        return Passed(scale=0.0)
    on = np.flatnonzero(np.abs(ratios) > 1e-6 * size)
    scale = float(np.median(ratios[on]))
    if len(on) == 0 or np.abs(ratios[on] - scale).max() > 4 * eps * abs(scale):
        return None
    first, last = on[0], on[-1]
    if last - first + 1 != len(on):  # equal weights stand together: an end passes or not
        return None
    low = -math.inf if first == 0 else _end(subject, at[first], at[first - 1])
    high = math.inf if last == len(at) - 1 else _end(subject, at[last], at[last + 1])
    kind = tuple(abs(c) == math.inf or _passes(subject, c * subject.unit) for c in (low, high))
    ends = next(name for name, both in ENDS.items() if both == kind)
    return Passed((low, high), ends, _plain(scale), factor)


def _passes(subject, x):
    """Whether a weight x, among others, receives something."""
    w = subject.seen[0].given[0].copy()
    w.reshape(-1)[0] = x
    seen = subject.call(w)
    return seen is not None and bool(seen.got[0].reshape(-1)[0])


def _end(subject, passing, other):
    """The end of the clip between a weight that passes and one that does not, in units."""
    a, b = float(passing), float(other)
    while abs(a - b) > 4e-7 * max(abs(a), abs(b), 2.0**-6):
        middle = (a + b) / 2
        a, b = (middle, b) if _passes(subject, middle) else (a, middle)
    low, high = sorted((a / subject.unit, b / subject.unit))
    rounding = float(np.finfo(subject.dtype).eps) * max(-low, high)
    low, high = low - rounding, high + rounding
    if low <= 0 <= high:
        return 0.0
    shorter = (float(f"{(low + high) / 2:.{digits}g}") for digits in range(1, 9))
    return next((c for c in shorter if low <= c <= high), (low + high) / 2)
