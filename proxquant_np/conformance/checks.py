"""Checks of proxes and quantizers written by others.

A check has three parts: the form of the result (shape, dtype, input not modified, any rank), the
golden cases, and a search for the smallest counterexample. All broken conventions are listed, so
that one fault does not hide the others. Faults are then explained: the results are compared with
those that common mistakes would give.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from proxquant_np.checks import check_callable, check_choice, check_number
from proxquant_np.conformance import search
from proxquant_np.conformance.adapters import recognised
from proxquant_np.conformance.calls import Misuse
from proxquant_np.conformance.definitions import PROXES, QUANTIZERS, check_name, look_up
from proxquant_np.conformance.dequantized import dequantized
from proxquant_np.conformance.fitted import FittedJudge
from proxquant_np.conformance.fixed import FixedJudge
from proxquant_np.conformance.form import DTYPES, Subject, beyond, form_faults
from proxquant_np.conformance.judge_of_penalties import JUMPS, PenaltyJudge
from proxquant_np.conformance.judge_of_rules import RuleJudge, RuleSubject
from proxquant_np.conformance.penalties import PENALTIES, penalty
from proxquant_np.conformance.report import Fault, Report, in_order
from proxquant_np.conformance.rules import RULES, rule
from proxquant_np.prox import L0, L2, MCP, QuantizedSet, Regularizer, as_regularizer, as_set
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.penalties import ZERO, Penalty

# The conventions about the values of a result; the others are about its form.
VALUES = {
    "not quantized",
    "not a prox",
    "wrong strength",
    "wrong scale",
    "factor of two",
    "wrong reduction",
    "wrong range",
    "parameter",
    "not the rule",
    "not idempotent",
    "not nearest",
    "not optimal",
    "wrong tie",
    "sign(0)",
}


def check_prox(
    fn: Callable[[Floats, float], Floats],
    definition: str | Regularizer,
    *,
    exact: bool = False,
    strength: float | None = None,
    ties: str | None = None,
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Is fn(x, strength) = argmin_u 1/2 ||u - x||^2 + strength * R(u)?

    definition: R, by its name in `conformance.PROXES` or as a Regularizer. Ties go to the upper
    level. fn must keep shape and dtype for any rank and each of `dtypes`, and must not modify x.

    Or a penalty, by its name in `conformance.PENALTIES`, or as `pq.prox.L0` and the like. If it has
    its strength built in, as fn(x), say which. Where the prox jumps, at the hard threshold sqrt(2
    strength), the weight may stay or go, unless ties is "zero", it goes (a strict threshold), or
    "away", it stays.

    For levels fitted to x, a prox (x + s q) / (1 + s) whose q lies in the quantized set but is not
    nearest is a heuristic. It passes unless exact=True claims that it is exact. For a set with no
    known optimum nothing more is judged, and the verdict is "valid, optimum unknown".

    A function that cannot be called like this (one for tensors, a class, one that returns a tuple)
    is reported as misuse, with the remedy.

    Raises:
        ValueError: the name is unknown (the nearest known one is suggested), the regularizer has
            an axis or block, dtypes are other than float32 and float64, exact=True although no
            optimum is known, or strength or ties for what is no penalty, or has no jump.
        TypeError: fn is not callable, or definition is neither a name nor a Regularizer.

    Examples:
        >>> def prox(x, strength):
        ...     return x - np.clip(x - np.sign(x), -strength, strength)
        ...
        >>> report = pq.conformance.check_prox(prox, "binary_l1")
        >>> report.passed, report.fault.convention
        (False, 'sign(0)')
        >>> soft = lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0)
        >>> pq.conformance.check_prox(soft, "soft_threshold", strength=0.5).verdict
        'right'
    """
    name, r = look_up_prox(definition)
    if isinstance(r, Penalty) or r.set == ZERO:
        return _check_penalty(fn, f"prox of {name!r}", r, strength, ties, dtypes)
    for option, value in (("strength", strength), ("ties", ties)):
        if value is not None:
            raise ValueError(
                f"{option} must be None except for a penalty, got {value!r} for {name}"
            )
    if hasattr(r.set, "quantize"):
        raise ValueError(
            f"definition must not be a distance to a published rule, got {r!r}: check_quantizer "
            "checks the rule itself"
        )
    if not (r.elementwise or isinstance(r, L2)):
        raise ValueError(
            f"definition must have fixed levels, or be an L2 distance to fitted ones, got {r!r}"
        )
    return _check(fn, f"prox of {name!r}", r, True, exact, dtypes)


def check_quantizer(
    fn: Callable[[Floats], Floats],
    definition: str | QuantizedSet | Regularizer,
    *,
    exact: bool = False,
    any_tie: bool = False,
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Is fn(w) a nearest point to w in the quantized set, argmin_{q in Q} ||q - w||^2?

    definition: Q, by its name in `conformance.QUANTIZERS`, as a QuantizedSet, or as a Regularizer
    with that set; its own way to project does not matter. fn must return the quantized weights
    themselves, not codes. Otherwise as `check_prox`: for levels fitted to w, a point of Q that is
    not nearest, whatever its scale and thresholds, is a heuristic, which passes unless exact=True
    claims more. The exception is levels that are off by a factor of two everywhere: this is the
    lost 1/2, and wrong.

    Or is fn the published rule of a set that has one, `Integers` and others in pq.prox, by a name
    in `conformance.RULES` or as the set, also per axis and per block? Then each weight must go
    where its `quantize` sends it, ties too, unless any_tie=True. fn may return (codes, scale) or
    (codes, scale, zero point) with codes of an integer dtype: (codes - zero point) * scale is
    checked. Of a rule that is right the report says how far its squared error is from the least.

    Examples:
        >>> def int4(w):
        ...     a = np.abs(w).max() / 8 or 1
        ...     return (np.clip(np.round(w / a), -8, 7) * a).astype(w.dtype)
        ...
        >>> report = pq.conformance.check_quantizer(int4, pq.prox.Integers(4))
        >>> report.convention, report.fault.detail[:52]
        ('wrong range', 'asymmetric: codes from -8 to 7, the scale max|w| / 8')
        >>> pq.conformance.check_quantizer(int4, pq.prox.Integers(4, "full", divisor=8)).verdict
        'right'

        >>> def ternarize(w):
        ...     q = np.where(np.abs(w) > 0.7 * np.abs(w).mean(), w, 0)
        ...     scale = np.abs(q[q != 0]).mean() if q.any() else 0
        ...     return (np.where(q > 0, scale, 0) - np.where(q < 0, scale, 0)).astype(w.dtype)
        ...
        >>> print(pq.conformance.check_quantizer(ternarize, "ternary_symmetric").verdict)
        heuristic
    """
    name, r = look_up_quantizer(definition)
    if hasattr(as_set(r), "quantize"):
        return _check_rule(fn, f"quantizer {name!r}", as_set(r), any_tie, exact, dtypes)
    if any_tie:
        raise ValueError(f"any_tie must be False except for a published rule, got True for {name}")
    return _check(fn, f"quantizer {name!r}", L2(as_set(r)), False, exact, dtypes)


def check_dtypes(dtypes: Sequence[str]) -> list[str]:
    """The names of the dtypes; ValueError unless they are float32, float64 or both."""
    names = [dtype if isinstance(dtype, str) else np.dtype(dtype).name for dtype in dtypes]
    if not names or not set(names) <= set(DTYPES):
        raise ValueError(f"dtypes must be some of {', '.join(DTYPES)}, got {dtypes!r}")
    return names


def look_up_prox(definition: str | Regularizer) -> tuple[str, Regularizer]:
    """(name, definition), for names also those of PENALTIES."""
    if isinstance(definition, str):
        check_name(definition, [*PROXES, *PENALTIES], "definition")
        if definition in PENALTIES:
            return definition, penalty(definition)
    name, r = look_up(definition, PROXES, "definition")
    return name, as_regularizer(r)  # a set alone has no prox


def look_up_quantizer(
    definition: str | QuantizedSet | Regularizer,
) -> tuple[str, QuantizedSet | Regularizer]:
    """(name, definition), for names also those of RULES; a rule may be per axis or per block."""
    if isinstance(definition, str):
        check_name(definition, [*QUANTIZERS, *RULES], "definition")
        if definition in RULES:
            return definition, rule(definition)
    elif hasattr(definition, "quantize"):
        return repr(definition), definition
    return look_up(definition, QUANTIZERS, "definition")


def _check_rule(fn, title, r, any_tie, exact, dtypes):
    check_callable("fn", fn)
    if exact:
        raise ValueError(
            f"exact must be False for {r!r}, which is checked as published, not against an "
            "optimum, got True"
        )
    if r.axis not in (None, 0, 1, -1):
        raise ValueError(f"axis must be 0, 1 or -1 for a check, got {r.axis}")
    if r.block is not None and r.block > 1 << 16:
        raise ValueError(f"block must be at most 65536 for a check, got {r.block}")
    dtypes = check_dtypes(dtypes)
    fn = dequantized(recognised(fn), r)
    judge = RuleJudge(RuleSubject(fn, r), r, dtypes, any_tie)
    return _report(fn, title, judge, exact, dtypes)


def _check_penalty(fn, title, r, strength, ties, dtypes):
    check_callable("fn", fn)
    if strength is not None:
        strength = check_number("strength", strength, least=0, below=math.inf)
        title += f" at strength {strength:g}"
    if ties is not None:
        if not isinstance(r, L0 | MCP):
            raise ValueError(f"ties must be None for {r!r}, whose prox does not jump, got {ties!r}")
        check_choice("ties", ties, JUMPS)
    dtypes, fn = check_dtypes(dtypes), recognised(fn)
    judge = PenaltyJudge(Subject(fn, strength is None), r, dtypes, strength, ties)
    return _report(fn, title, judge, False, dtypes)


def _check(fn, title, r, with_strength, exact, dtypes):
    check_callable("fn", fn)
    dtypes = check_dtypes(dtypes)
    fn = recognised(fn) if with_strength else dequantized(recognised(fn), r.set)
    subject = Subject(fn, with_strength)
    judge = (FixedJudge if r.elementwise else FittedJudge)(subject, r, dtypes, exact)
    if exact and not judge.optimum_known:
        raise ValueError(
            f"exact must be False for {r.set!r}, whose least squared error is not known, got True: "
            "the check is only whether results lie in the set"
        )
    return _report(fn, title, judge, exact, dtypes)


def _report(fn, title, judge, exact, dtypes):
    named = getattr(fn, "__name__", repr(fn)), title
    try:
        report = _judged(*named, judge, exact, dtypes)
        return replace(report, notes=noted(fn, dtypes))
    except Misuse as misuse:
        fault = Fault("misuse", str(misuse), {})
        return Report(*named, "misuse", False, "nothing", (fault,))


def noted(fn: Callable[..., Any], dtypes: Sequence[str]) -> dict[str, str]:
    """What was done to fn so that it could be checked, for the report."""
    alone = {} if len(dtypes) == len(DTYPES) else {"dtype": f"{dtypes[0]} alone, as asked"}
    return {**getattr(fn, "notes", {}), **alone}


def _judged(name, title, judge, exact, dtypes):
    subject, end = judge.subject, time.monotonic() + search.LIMIT
    judge.until = end
    form, goes_on = form_faults(subject, dtypes)
    told = beyond(subject, dtypes[0]) | (judge.tells() if goes_on else {})
    if not goes_on:
        checked = "the form of the result"
        return Report(name, title, "wrong", False, checked, in_order(form), beyond=told)
    cases = list(judge.cases())
    words, found = search.collect(judge, cases, end)
    found = {kind: _fewer(judge, end, kind, *pair) for kind, pair in found.items()}
    if found.keys() & VALUES:
        smallest_first = sorted((case for _, case in found.values()), key=judge.size)
        values = judge.named(found, [*smallest_first, *cases])
        form_alone = found.keys() - VALUES - {"precision"}
        found = {kind: found[kind] for kind in form_alone} | values
    faults = {fault.convention: fault for fault in [*(f for f, _ in found.values()), *form]}
    if not faults.keys() <= judge.valid:
        in_turn = in_order(faults.values(), judge.valid)
        return Report(name, title, "wrong", False, words, in_turn, beyond=told)
    if faults:
        if exact and (least := faults.pop("not optimal", None)):
            faults["claimed"] = replace(least, convention="not optimal although claimed")
        in_turn = in_order(faults.values())
        return Report(
            name, title, "heuristic", not exact, words, in_turn, judge.gaps(), beyond=told
        )
    verdict = "right" if judge.optimum_known else "valid, optimum unknown"
    return Report(name, title, verdict, True, words, (), judge.excess(), told)


def _fewer(judge, end, convention, fault, case):
    """Leave out weights, first half of them, then fewer, while the same convention is broken.

    It stops at 1/64 of them at a time, so most superfluous weights are left out, but not all.
    Nothing more is left out when the time is up.
    """
    part = case[0].size // 2 if judge.divisible else 0
    while part > case[0].size // 64 and part:
        i = 0
        while i < case[0].size > part:
            if time.monotonic() > end:
                return fault, case
            smaller = (np.delete(case[0], slice(i, i + part)), *case[1:])
            less = {fault.convention: fault for fault in judge.faults(smaller)}
            if convention in less:
                fault, case = less[convention], smaller
            else:
                i += part
        part //= 2
    return fault, case
