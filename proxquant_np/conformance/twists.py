"""Rules as they are easily mistaken: what differs, and the map that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.prox import (
    Affine,
    CentredBinary,
    Codebook,
    DoReFa,
    FixedPoint,
    Integers,
    PowersOfTwo,
    QuantizedSet,
    Rounded,
)
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.codebook import FLOATS
from proxquant_np.prox.nearest import pick, thresholds
from proxquant_np.prox.rule import CutRule, Rule, Scaled
from proxquant_np.prox.ties import TIES


class Twist(NamedTuple):
    """A mistake: the convention that it breaks, in words, and the arguments for `twisted`."""

    convention: str
    detail: str
    changes: dict[str, Any]


MEASURES = {
    "max(w)": lambda rows: rows.max(axis=1),
    "half the range of w": lambda rows: (rows.max(axis=1) - rows.min(axis=1)) / 2,
    "the mean of |w|": lambda rows: np.abs(rows).mean(axis=1),
    "the median of |w|": lambda rows: np.median(np.abs(rows), axis=1),
    "the root mean square of w": lambda rows: np.sqrt(np.square(rows).mean(axis=1)),
    "the standard deviation of w": lambda rows: rows.std(axis=1),
    "max|w|": lambda rows: np.abs(rows).max(axis=1),
}
POWERS = {
    "the power of two above max|w|": lambda top: 2 ** np.ceil(np.log2(top)),
    "the power of two nearest to max|w|": lambda top: 2 ** np.rint(np.log2(top)),
}
"""Of MX scales: exponents that are rounded up, or to nearest, not down."""

CLIPS_NOTHING = "the least power of two that clips nothing"

EPSILONS = (1e-5, 1e-6, 1e-8)
ROUNDINGS = {
    "floor": "rounds down: floor, not round",
    "truncate": "rounds towards 0: a cast to an integer, not round",
    "ceil": "rounds up: ceil, not round",
}
WAYS = {
    "up": "to the upper one",
    "down": "to the lower one",
    "even": "to the even one",
    "away": "away from 0",
    "zero": "towards 0",
}


def twisted(
    rule: QuantizedSet,
    x: Floats,
    *,
    measure: str | None = None,
    rounding: str | None = None,
    factor: float = 1,
    epsilon: float = 0,
    out: float = 1,
    zeros: bool = False,
    flushed: bool = False,
    across: bool = False,
    shift: Floats | None = None,
    **changes: Any,
) -> Floats:
    """What the rule gives with these mistakes; what `quantize` gives with none.

    shift: what is added to the weights after their scale was taken.

    measure: what the scale is taken from, of MEASURES. factor: how large the scale is. epsilon:
    added to what it is taken from. rounding: of ROUNDINGS. out: what the results are multiplied
    by. zeros: 0 stays 0, as with numpy.sign. flushed: subnormal values of a float format become 0.
    across: blocks of a square matrix run along its first axis. changes: fields of the rule that
    are others.
    """
    r = replace(rule, **changes) if changes else rule
    if across:
        if x.size != rule.block**2:
            raise ValueError("weights must be a square matrix of blocks")
        square = (rule.block, rule.block)
        shift = None if shift is None else shift.reshape(square).T
        q = twisted(rule, x.reshape(square).T.copy(), shift=shift)
        return q.T.reshape(x.shape)
    moved = x if shift is None else x + shift
    plain = measure is rounding is None and factor == 1 and not epsilon and not flushed
    if plain and (shift is None or isinstance(r, CutRule) or not isinstance(r, Rule)):
        q = r.quantize(moved)
    else:
        rows = r._rows(x).astype(np.float64)
        levels = r._fit(rows)
        if measure is not None:
            levels = _scale(r, measure, rows)[:, None] * r._grid()
        levels = (levels + epsilon * r._grid() if epsilon else levels) * factor
        first = thresholds(levels, r._up(levels)) if rounding is None else _first(levels, rounding)
        q = np.empty_like(rows)
        pick(r._rows(moved).astype(np.float64), levels, first, q)
        if flushed:
            normal = levels[:, _first_normal(r), None]
            q = np.where(np.abs(q) < normal * (1 - 1e-9), 0, q)
        q = _as_rows_of(r, q, x)
    if zeros:
        centre = x.mean(dtype=np.float64) if isinstance(r, CentredBinary) else 0
        q = np.where(x == centre, 0, q)
    return q * out


def degenerate(rule: QuantizedSet, x: Floats, measure: str | None = None, **others: Any) -> bool:
    """Whether a mistaken scale is no number > 0: who makes it may take anything instead."""
    if measure is None:
        return False
    return bool((_scale(rule, measure, rule._rows(x)) <= 0).any())


def _scale(rule, measure, rows):
    """The scale of each row as it is mistaken; 0 for a row of zeros."""
    if measure in MEASURES:
        return MEASURES[measure](rows)
    top = np.abs(rows).max(axis=1)
    some = np.where(top > 0, top, 1)
    if measure == CLIPS_NOTHING:
        largest = rule._grid()[-1]
        return np.where(top > 0, 2 ** np.ceil(np.log2(some / largest)), 0)
    return np.where(top > 0, POWERS[measure](some), 0)


def _first_normal(rule):
    """The index of a float format's least normal number among its values."""
    mantissa = FLOATS[rule.format][1]
    return len(rule._grid()) // 2 + 2**mantissa


def _first(levels, rounding):
    up = levels[:, 1:]
    above = np.nextafter(levels[:, :-1], np.inf)
    if rounding == "truncate":
        return np.where(up > 0, up, above)
    return up if rounding == "floor" else above


def _as_rows_of(rule, q, x):
    if rule.axis is None:
        return q.reshape(x.shape)
    moved = np.moveaxis(x, rule.axis, 0).shape
    return np.moveaxis(q.reshape(moved), 0, rule.axis)


def twists(rule: QuantizedSet) -> list[Twist]:
    """The mistakes that are easily made with a rule, the plainest first.

    Examples:
        >>> from proxquant_np.conformance.twists import twists
        >>> twists(pq.prox.Integers(4))[0].detail
        'the scale is half as large as it should be'
    """
    found = [*_of_scale(rule), *_of_groups(rule), *_of_range(rule), *_of_levels(rule)]
    if isinstance(rule, PowersOfTwo):  # twice the scale is the same as one power less
        found = [*_of_levels(rule), *_of_scale(rule), *_of_groups(rule)]
    found += [
        Twist("factor of two", "the results are half as large as they should be", {"out": 0.5}),
        Twist("factor of two", "the results are twice as large as they should be", {"out": 2.0}),
        *_of_ties(rule),
    ]
    return found


def _of_scale(rule) -> Iterator[Twist]:
    if not isinstance(rule, Scaled | Affine):
        return
    yield Twist("factor of two", "the scale is half as large as it should be", {"factor": 0.5})
    yield Twist("factor of two", "the scale is twice as large as it should be", {"factor": 2.0})
    if isinstance(rule, Integers | Codebook) and rule.scale in ("max", "mean", "median"):
        right = "max|w|" if rule.scale == "max" else f"the {rule.scale} of |w|"
        for name in MEASURES:
            if name != right:
                detail = f"the scale is that of {name}, not of {right}"
                yield Twist("wrong reduction", detail, {"measure": name})
        for epsilon in EPSILONS:
            detail = f"{epsilon:g} is added to {right} in the scale"
            yield Twist("wrong scale", detail, {"epsilon": epsilon})
    if isinstance(rule, Codebook) and rule.scale == "power":
        for name in (*POWERS, CLIPS_NOTHING):
            detail = f"the scale is that of {name}, not of the power of two below: floor"
            yield Twist("wrong reduction", detail, {"measure": name})
    if isinstance(rule, Codebook) and rule.format != "nf4":
        other = {"max": "power", "power": "max"}[rule.scale]
        what = {"power": "a power of two", "max": "max|w| over the largest value"}
        detail = f"the scale is {what[other]}, not {what[rule.scale]}"
        yield Twist("wrong reduction", detail, {"scale": other})
    for name, detail in ROUNDINGS.items():
        yield Twist("not nearest", detail, {"rounding": name})


def _of_groups(rule) -> Iterator[Twist]:
    if rule.axis is not None:
        yield Twist("wrong reduction", "one scale for the whole array", {"axis": None})
        other = 0 if rule.axis % 2 else 1
        detail = f"a scale for each index of axis {other}, not of {rule.axis}"
        yield Twist("wrong reduction", detail, {"axis": other})
    if rule.block is not None:
        yield Twist("wrong reduction", "one scale for the whole array", {"block": None})
        detail = "blocks run along the first axis of a matrix, not along the last"
        yield Twist("wrong reduction", detail, {"across": True})


def _of_range(rule) -> Iterator[Twist]:
    if isinstance(rule, Integers):
        last = 2 ** (rule.n_bits - 1) - 1
        lost = "the largest weight is clipped if it is positive"
        if rule.scale == "max":
            for steps in (last + 1, last + 0.5):
                if (rule.range, rule.divisor) != ("full", steps):
                    detail = f"asymmetric: codes from {-last - 1} to {last}, the scale max|w| / "
                    changes = {"range": "full", "divisor": steps}
                    yield Twist("wrong range", f"{detail}{steps:g}, so that {lost}", changes)
            if rule.divisor is not None:
                detail = f"the scale is max|w| / {last}, not / {rule.divisor:g}"
                yield Twist("wrong range", detail, {"divisor": None})
                detail = f"codes from {-last} to {last}, the scale max|w| / {last}"
                yield Twist("wrong range", detail, {"divisor": None, "range": "narrow"})
        other = {"narrow": "full", "full": "narrow"}[rule.range]
        first = -last - (other == "full")
        yield Twist("wrong range", f"codes from {first} to {last}", {"range": other})
    if hasattr(rule, "n_bits") and not isinstance(rule, FixedPoint):
        for bits in range(2, 9):
            if bits != rule.n_bits:
                yield Twist("wrong range", f"codes of {bits} bits", {"n_bits": bits})
    if isinstance(rule, FixedPoint):
        other = {"saturate": "wrap", "wrap": "saturate"}[rule.overflow]
        yield Twist("wrong range", f"beyond the range it {other}s", {"overflow": other})
        for by in (-1, 1):
            detail = f"{rule.fraction + by} bits behind the point"
            yield Twist("wrong range", detail, {"fraction": rule.fraction + by})


def _of_levels(rule) -> Iterator[Twist]:
    if isinstance(rule, PowersOfTwo):
        there = "0 is a level" if not rule.zero else "0 is no level"
        yield Twist("sign(0)" if not rule.zero else "wrong range", there, {"zero": not rule.zero})
        for n in (rule.n - 1, rule.n + 1):
            if n:
                yield Twist("wrong range", f"{n} powers, not {rule.n}", {"n": n})
    if not rule.contains_zero:
        detail = "0 stays 0, as with numpy.sign: one more level"
        yield Twist("sign(0)", detail, {"zeros": True})
    if isinstance(rule, CentredBinary):
        other = {"mean": "centred", "centred": "mean"}[rule.scale]
        what = {"mean": "mean|w|", "centred": "mean|w - mean(w)|"}
        detail = f"the scale is {what[other]}, not {what[rule.scale]}"
        yield Twist("wrong reduction", detail, {"scale": other})
    if isinstance(rule, Codebook):
        for name in ("nf4", *FLOATS):
            if name != rule.format and not (name == "nf4" and rule.scale == "power"):
                yield Twist("wrong range", f"the values are those of {name}", {"format": name})
        if rule.format != "nf4":
            yield Twist("wrong range", "subnormal values are flushed to 0", {"flushed": True})
    if isinstance(rule, Rounded) and rule.thresholds is None and len(rule.values) > 2:
        for by, word in ((0.5, "half"), (2.0, "twice")):
            changes = {"values": tuple(by * v for v in rule.values)}
            detail = f"the step is {word} as large as it should be"
            yield Twist("factor of two", detail, changes)
        for values in (rule.values[1:], rule.values[:-1]):
            detail = f"the levels go from {values[0]:g} to {values[-1]:g}"
            yield Twist("wrong range", detail, {"values": values})
    if isinstance(rule, Rounded) and rule.thresholds is not None:
        yield Twist("not the rule", "the nearest level is taken", {"thresholds": None})


def _of_ties(rule) -> Iterator[Twist]:
    known = {field.name for field in fields(rule)}
    if "ties" not in known or isinstance(rule, DoReFa):
        return
    offered = TIES[:2] if isinstance(rule, CentredBinary) else TIES
    if isinstance(rule, Rounded) and rule.ties != "even":
        offered = [ties for ties in TIES if ties != "even"]
    for ties in offered:
        if ties != rule.ties:
            detail = f"halfway between two levels it goes {WAYS[ties]}, not {WAYS[rule.ties]}"
            yield Twist("wrong tie", detail, {"ties": ties})
