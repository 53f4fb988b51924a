"""Checks of stochastic rounding: right neighbours, right frequencies, draws that are independent.

Nothing random can be judged for certain. Every test has an exact or Hoeffding's bound, and all of
one check together call a right function wrong with a probability of at most ALARM.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from proxquant_np.checks import check_callable, check_instance
from proxquant_np.conformance import vectors
from proxquant_np.conformance.adapters import recognised
from proxquant_np.conformance.calls import Misuse, run
from proxquant_np.conformance.checks import check_dtypes
from proxquant_np.conformance.dequantized import dequantized
from proxquant_np.conformance.form import DTYPES, form_faults
from proxquant_np.conformance.judge_of_chance import Seen, chance_faults, neighbours
from proxquant_np.conformance.judge_of_rules import RuleSubject
from proxquant_np.conformance.report import Fault, Report, in_order
from proxquant_np.conformance.rules import GROUPS, Named, made
from proxquant_np.prox import Codebook, FixedPoint, Integers, Levels, QuantizedSet
from proxquant_np.prox.arrays import Floats

ALARM = 1e-6
CALLS, SIZE = 64, 64  # calls in each dtype, of about SIZE^2 weights

GRIDS: dict[str, Named] = {
    "": Named(Integers, {"n_bits": 8}, ("bits", "range", "scale", "divisor", *GROUPS)),
    "levels": Named(Levels, {}, ("levels",)),
    "fraction": Named(FixedPoint, {"n_bits": 8}, ("bits", "fraction")),
    "format": Named(Codebook, {}, ("format", "scale", *GROUPS)),
}
"""By the option that tells them, the grids of "stochastic"; without any of these, integers."""


def grid(**options: Any) -> QuantizedSet:
    """The set whose levels are rounded to, by the options of the command.

    Examples:
        >>> from proxquant_np.conformance.stochastic import grid
        >>> grid(bits=4, axis=0), grid(levels=(-1, 1))
        (Integers(axis=0, n_bits=4), Levels(values=(-1.0, 1.0)))
    """
    told = [name for name in GRIDS if name in options]
    known = {"stochastic": GRIDS[told[0] if told else ""]}
    return made(known, {"bits": "n_bits", "levels": "values"}, "stochastic", options)


def check_stochastic(
    fn: Callable[..., Any], definition: QuantizedSet, *, dtypes: Sequence[str] = DTYPES
) -> Report:
    """Does fn(w) round stochastically to the levels of a set, as `pq.prox.stochastic_round`?

    Each weight must go to one of the levels l <= w <= h next to it, to h with probability (w - l) /
    (h - l), with a draw of its own, new in each call. fn takes its draws from where it likes, or,
    as fn(w, rng), from a numpy.random.Generator that it is given. The levels are definition's, for
    these weights: of `Integers`, `FixedPoint`, `Levels`, `Codebook`, .... Codes with a scale, form
    and dtypes as in `check_quantizer`.

    fn is called 64 times in each dtype on about 4096 weights, many of them equal. How often equal
    weights go up is compared with the binomial distribution; the products of the deviations of
    neighbours, and of two calls, with Hoeffding's bound for their mean, which is 0. All tests
    together find fault with a right function once in a million checks, at most.

    Raises:
        TypeError: fn is not callable, or definition is no QuantizedSet.
        ValueError: dtypes are others.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> Q = pq.prox.FixedPoint(4, fraction=0)
        >>> def by_chance(w):
        ...     return np.clip(np.floor(w + rng.random(w.shape)), -8, 7).astype(w.dtype)
        ...
        >>> pq.conformance.check_stochastic(by_chance, Q).verdict
        'right'
        >>> report = pq.conformance.check_stochastic(lambda w: np.clip(np.round(w), -8, 7), Q)
        >>> report.convention, report.fault.detail
        ('not random', 'each weight goes to the nearest level, in every call')
    """
    check_callable("fn", fn)
    check_instance("definition", definition, QuantizedSet, "a QuantizedSet")
    dtypes = check_dtypes(dtypes)
    named = getattr(fn, "__name__", repr(fn)), f"stochastic rounding to {definition!r}"
    subject = RuleSubject(dequantized(recognised(_with_rng(fn)), definition), definition)
    subject.repeats = False
    try:
        found, goes_on = form_faults(subject, dtypes)
        if not goes_on:
            return Report(*named, "wrong", False, "the form of the result", in_order(found))
        size = 0
        for dtype in dtypes:
            seen = _seen(subject, definition, dtype)
            size += seen.results.size
            found += seen.form or chance_faults(seen, ALARM / len(dtypes))
    except Misuse as misuse:
        fault = Fault("misuse", str(misuse), {})
        return Report(*named, "misuse", False, "nothing", (fault,))
    faults = in_order({fault.convention: fault for fault in reversed(found)}.values())
    checked = (
        f"{size} results in {CALLS} calls for each of {', '.join(dtypes)}; a right one fails in "
        f"{ALARM:g} of all checks at most"
    )
    gaps = {} if faults else _excess(definition)
    return Report(*named, "wrong" if faults else "right", not faults, checked, faults, gaps)


def _with_rng(fn):
    """fn(w), with a generator for the second argument if fn must have one."""
    try:
        inspect.signature(getattr(fn, "adapted_from", fn)).bind(0)
        return fn
    except ValueError:  # some functions written in C have no signature
        return fn
    except TypeError:
        rng = np.random.default_rng(0)
        drawing: Callable[[Floats], Any] = lambda w: fn(w, rng)  # noqa: E731
        drawing.__name__ = getattr(fn, "__name__", repr(fn))
        return drawing


def weights(q: QuantizedSet, dtype: str) -> Floats:
    """About SIZE^2 weights on, between and beyond the levels; in each group its largest, twice."""
    rng = np.random.default_rng(0)
    axis, block = getattr(q, "axis", None), getattr(q, "block", None)
    ends = _ends(q)
    whole = q if axis is block is None else replace(q, axis=None, block=None)
    levels = whole.levels(np.array(ends))
    gaps = np.unique(np.linspace(0, max(len(levels) - 2, 0), 12).astype(int))
    low, high = levels[gaps], levels[np.minimum(gaps + 1, len(levels) - 1)]
    parts = np.array([0, 1 / 16, 0.15, 0.25, 0.3, 0.4, 0.5, 0.6875, 0.75, 0.8125, 0.95])
    values = (low + np.multiply.outer(parts, high - low)).ravel()
    if q.elementwise:
        values = np.append(values, [levels[-1] + 1, levels[0] - 1])
    width = block or SIZE
    count = max(2, SIZE * SIZE // width)
    w = rng.choice(values, (count, width))
    if not q.elementwise:
        w[:, : len(ends)] = np.array(ends)[:width]
        if axis is not None or block is not None:
            w *= 2.0 ** rng.integers(-2, 3, (count, 1))
    w = np.ascontiguousarray(w.T if axis in (1, -1) else w)
    return w.astype(dtype)


def _ends(q):
    """Weights that a scale is taken from, such that the levels are short numbers, if possible."""
    if q.elementwise:
        return [0.0]
    if isinstance(q, Integers) and q.scale == "max":
        last = q.divisor or 2 ** (q.n_bits - 1) - 1
        return [float(last), -float(last)]
    if isinstance(q, Codebook):
        top = float(q._grid()[-1])
        return [top, -top] if q.scale == "power" else [6.0 * 2**7, -6.0 * 2**7]
    return [-1.5, 2.0]


def _seen(subject, q, dtype):
    """What came of CALLS calls; the fault if one has another form."""
    x = weights(q, dtype)
    given = x
    if subject.rank == 1 and run(subject.fn, subject.named(x), x)[0] is None:  # no matrices
        given = x.reshape(-1)
    elif subject.rank > 2:
        given = x.reshape(*x.shape, *[1] * (subject.rank - 2))
        if q.axis is not None and q.axis < 0:
            given = x.reshape(*[1] * (subject.rank - 2), *x.shape)
    results = []
    for _ in range(CALLS):
        u, faults = run(subject.fn, subject.named(given), given)
        if u is None or faults:
            return Seen(q, x, np.zeros((0, *x.shape)), neighbours(q, x), faults)
        results.append(u.reshape(x.shape).astype(np.float64))
    return Seen(q, x, np.array(results), neighbours(q, x), [])


def _excess(q):
    """By how much the mean squared error exceeds that of the nearest levels."""
    if q.axis is not None or q.block is not None:
        return {}
    found = {}
    for key, w in vectors.large().items():
        group, _, name = key.partition(".")
        if group == "weights":
            x = w.astype(np.float64)
            low, high, _ = neighbours(q, x)
            inside = np.clip(x, low, high)
            beyond = np.square(x - inside).sum()
            chance = beyond + ((inside - low) * (high - inside)).sum()
            least = beyond + np.square(np.minimum(inside - low, high - inside)).sum()
            if least:
                found[f"the nearest levels, {len(w)} {name} weights"] = float(chance / least - 1)
    return found
