"""Quantizers held against a published rule: each weight goes where the rule sends it.

Nearly: within rounding of a threshold both levels are right, and exactly on one only where all ways
to compute agree, as the levels around it are short binary numbers. What is wrong is then named: the
mistakes of `twists.py`, alone and in pairs, are held against all that came.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from proxquant_np.conformance import search, vectors
from proxquant_np.conformance.fixed import EPS, ROUNDED, SINGLE, Found, MapJudge
from proxquant_np.conformance.form import VALUES, Subject
from proxquant_np.conformance.least import excess
from proxquant_np.conformance.report import Fault
from proxquant_np.conformance.twists import Twist, degenerate, twisted, twists
from proxquant_np.prox import (
    Affine,
    CentredBinary,
    Codebook,
    DoReFa,
    FixedPoint,
    PowersOfTwo,
    QuantizedSet,
    Rounded,
)
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.codebook import FLOATS, codebook
from proxquant_np.prox.ties import middles

Map = Callable[..., Floats]
"""Of weights and, perhaps, of a shift that is added to them once their scale was taken."""


SQUARE = 64  # blocks up to so many weights are looked at in a square matrix


class RuleSubject(Subject):
    """The function under test, for weights whose groups lie along an axis, or are blocks."""

    def __init__(self, fn: Callable[..., Any], rule: QuantizedSet):
        super().__init__(fn, False)
        self.rule, self.axis, self.block = rule, rule.axis, rule.block
        if self.axis is not None:
            matrix = (2, 3)
            self.shapes = [matrix, (1, 1, *matrix) if self.axis < 0 else (*matrix, 1, 1)]
            self.tells_beyond = False
            if self.axis < 0:
                self.shape_of_rank = {2: "-1, {w}.shape[-1]", 4: "1, 1, -1, {w}.shape[-1]"}
        elif self.block is not None:
            rows = self.block if 2 < self.block <= SQUARE else 2
            self.shapes = [(rows * self.block,), (rows, self.block)]
            sizes = np.resize([1, 4, 0.5, 2, 0.25], rows)
            self.values = np.outer(sizes, np.resize(VALUES, self.block)).ravel().tolist()
            self.any_rank = self.tells_beyond = False

    def of_another_shape(self, w: Floats, u: Floats) -> tuple[str, str]:
        """(convention, detail) if the same weights in this shape give another result, u."""
        if self.block is not None and w.shape == (self.block, self.block):
            across = twisted(self.rule, w, across=True)
            if np.abs(across - u).max() <= 64 * EPS[w.dtype] * np.abs(w).max():
                return (
                    "wrong reduction",
                    "blocks of a matrix run along its first axis, not the last",
                )
        kind, detail = super().of_another_shape(w, u)
        if self.block is None and "axis" in getattr(self.rule, "__dataclass_fields__", {}):
            detail = f"{detail.partition('?')[0]}? Then check it with axis=0, on the command line "
            detail += "--axis 0)"
        return kind, detail

    def shaped(self, x: Floats) -> Floats:
        """The weights of a case in the rank that fn takes."""
        if self.axis is not None and self.rank > 2:
            return x.reshape(1, 1, *x.shape) if self.axis < 0 else x.reshape(*x.shape, 1, 1)
        if self.block is not None and self.rank > 1:
            return x.reshape(-1, self.block)
        return x if self.axis is not None else super().shaped(x)


class RuleJudge(MapJudge):
    """Judges maps that should be rule.quantize; any_tie: wherever a tie goes."""

    valid: frozenset[str] = frozenset()
    optimum_known = True
    until = math.inf  # of time.monotonic(): no further mistakes are tried after this time

    def __init__(self, subject: Subject, rule: QuantizedSet, dtypes: Sequence[str], any_tie: bool):
        super().__init__(subject, dtypes)
        self.rule, self.any_tie = rule, any_tie
        self.right = partial(twisted, rule)
        self.divisible = rule.axis is None and rule.block is None

    def grouped(self, v: Floats) -> Floats:
        """A vector as the weights of two groups, the second one of other size."""
        if self.rule.axis is not None:
            rows = np.stack([v, -2 * v[::-1]])
            return np.ascontiguousarray(rows if self.rule.axis == 0 else rows.T)
        if self.rule.block is not None:
            v = np.resize(v, self.rule.block)
            rows = self.subject.shapes[0][0] // len(v) if self.subject.rank > 1 else 2
            sizes = np.resize(np.array([1, -2, 0.5, 4], v.dtype), rows)
            return np.concatenate([size * (v if size > 0 else v[::-1]) for size in sizes])
        return v

    def strategy(self, st: Any) -> Any:
        """Of cases, for `search`."""
        return st.tuples(search.weights(st, self.dtypes).map(self.grouped))

    def kind(self) -> Hashable:
        """What the strategy depends on."""
        return super().kind(), "groups", self.rule.axis, self.rule.block, self.subject.rank > 1

    def key(self, case: search.Case) -> Any:
        """The case, hashable."""
        return case[0].dtype.str, case[0].shape, case[0].tobytes()

    def cases(self) -> Iterator[search.Case]:
        """Tensors with weights on ties, tiny ones, also of other sizes; and large random ones."""
        base = [*tie_tensors(self.rule), *_small(self.rule), *vectors.TINY]
        large = [w[:512] for key, w in vectors.large().items() if key.startswith("weights.")]
        sizes = (1.0,) if self.rule.elementwise else (1.0, 8.0, 0.125)
        for dtype in self.dtypes:
            for w, size in product(base, sizes):
                yield (self.grouped(size * np.array(w, dtype)),)
            for w in large:
                yield (self.grouped(np.array(w, dtype)),)

    def faults(self, case: search.Case) -> list[Fault]:
        """All that is wrong at this case, each kind once."""
        x = case[0]
        u, faults = self.subject.run(x)
        if u is None:
            return faults
        q = self.rule.quantize(x)
        inputs = {"w": x}
        wrong = self._unlike(self.right, x, u, EPS[x.dtype])
        if wrong and x.dtype == np.float64:
            wrong = self._unlike(self.right, x, u, SINGLE)
            if not wrong:
                faults = [*faults, Fault("precision", ROUNDED, inputs, u, q)]
        kinds = dict(self._kind(x, u, q, i) for i in wrong)
        kinds |= self._moved(x, u)
        return faults + [Fault(*kind, inputs, u, q) for kind in kinds.items()]

    def _kind(self, x, u, q, i):
        at, got, right = float(x[i]), float(u[i]), float(q[i])
        if got == 0 and right != 0 and not self.rule.contains_zero:
            return "sign(0)", f"{at:.6g} went to 0, which is not among the levels"
        close = 64 * EPS[x.dtype] * max(abs(at), abs(right))
        if abs(at - got / 2 - right / 2) <= close and got != at:
            return "wrong tie", f"{at:.6g}, halfway between {right:.6g} and {got:.6g}, went to that"
        return "not the rule", f"{at:.6g} went to {got:.6g}; the rule sends it to {right:.6g}"

    def _moved(self, x, u):
        """What a second call does, where the rule does nothing, and not what the rule does then."""
        q = self.rule.quantize(x)
        near = 64 * EPS[x.dtype] * max(np.abs(x).max(), np.abs(u).max(), np.abs(q).max())
        if np.abs(self.rule.quantize(q) - q).max() > near:
            return {}
        again, _ = self.subject.run(u)
        if again is None or np.abs(again - u).max() <= near:
            return {}
        if not self._unlike(self.right, u, again, EPS[x.dtype]):
            return {}
        i = np.unravel_index(np.abs(again - u).argmax(), u.shape)
        return {"not idempotent": f"a second call moves {u[i]:.6g} on to {again[i]:.6g}"}

    def _unlike(self, function: Map, x: Floats, u: Floats, eps: float) -> list[tuple[int, ...]]:
        """The first of the weights that the map would not send there, however it is computed."""
        with np.errstate(all="ignore"):
            q = function(x)
            top = max(float(np.abs(x).max()), float(np.abs(q).max()))
            near = 64 * eps * top
            bad = np.argwhere(~(np.abs(u - q) <= near))
            for i in map(tuple, bad.tolist()):
                low, high = (self._at(function, x, i, by * 16 * eps * top) for by in (-1, 1))
                excused = min(abs(low - float(u[i])), abs(high - float(u[i]))) <= 2 * near
                if not excused or (self._exact(x[i], low, high) and not self.any_tie):
                    return [i]
        return []

    def _at(self, function, x, i, by):
        """What the map makes of weight i if that is a little larger or smaller."""
        shift = np.zeros_like(x)
        shift[i] = by
        return float(function(x, shift=shift)[i])

    def _exact(self, x, low, high):
        """Whether x is on the threshold between two levels, and every way to compute sees it."""
        if abs(high - low) < 1e-30 or abs(high - low) == np.inf:
            return False
        x = float(x)
        cuts = getattr(self.rule, "thresholds", None)
        step = np.ldexp(1.0, int(np.rint(np.log2(abs(high - low)))))
        short = abs(abs(high - low) - step) <= 1e-5 * step and step * 64 > abs(x)
        on = abs(low / 2 + high / 2 - x) <= 1e-6 * step and x / step * 16 % 1 == 0
        return (short and on) or (cuts is not None and x in cuts)

    def named(self, found: Found, cases: list[search.Case]) -> Found:
        """What is found wrong, as the mistake or the two that explain every result."""
        if not found.keys() - {"not idempotent"}:
            return found
        cases = [case for case in cases if self.subject.run(case[0])[0] is not None]
        cases = list({self.key(case): case for case in cases}.values())
        single = twists(self.rule)
        pairs = [
            (a, b)
            for a, b in combinations(single, 2)
            if a.convention != b.convention and not a.changes.keys() & b.changes.keys()
        ]
        # The least floats of a format may be below the rounding of the largest in float32.
        for least in (0.0, SINGLE) if found.keys() - {"not idempotent", "precision"} else (0.0,):
            for chosen in [*((twist,) for twist in single), *pairs]:
                if time.monotonic() > self.until:
                    return found
                if all(self._like(case[0], chosen, least) for case in cases):
                    return self._explained(chosen, found, cases, least)
        return found

    def _like(self, x, chosen, least):
        u, _ = self.subject.run(x)
        changes = {k: v for twist in chosen for k, v in twist.changes.items()}
        if degenerate(self.rule, x, **changes):
            return True
        try:
            function = partial(twisted, self.rule, **changes)
            return not self._unlike(function, x, u, max(least, EPS[x.dtype]))
        except (ValueError, np.exceptions.AxisError):  # a rule that these parameters do not make
            return False

    def _explained(
        self, chosen: tuple[Twist, ...], found: Found, cases: Any, least: float
    ) -> Found:
        hidden = ("not idempotent", "precision") if least else ("not idempotent",)
        kept = {k: v for k, v in found.items() if k in hidden}
        for twist in chosen:
            others = tuple(other for other in chosen if other is not twist)
            case = next((c for c in cases if not self._like(c[0], others, least)), cases[0])
            u, _ = self.subject.run(case[0])
            q = self.rule.quantize(case[0])
            kept[twist.convention] = (
                Fault(twist.convention, twist.detail, {"w": case[0]}, u, q),
                case,
            )
        return kept

    def excess(self) -> dict[str, float]:
        """By how much the rule's squared error exceeds the least, where it is a heuristic."""
        return excess(self.rule)


def tie_tensors(rule: QuantizedSet) -> list[list[float]]:
    """Tensors with weights exactly on the thresholds of the rule, as far as there are such."""
    if isinstance(rule, CentredBinary):
        return [[0.0, 2.0, -2.0, 0.0], [1.0, 3.0, 2.0, 2.0], [4.0, 0.0, 2.0, 2.0]]
    if isinstance(rule, DoReFa):
        return [[0.0, 1.0, -0.5, 0.25]]
    if isinstance(rule, Rounded | FixedPoint):
        levels = rule.levels(np.zeros(1))
        cuts = getattr(rule, "thresholds", None) or middles(levels)
        step = levels[-1] - levels[-2] if len(levels) > 1 else 1.0
        beyond = [levels[-1] + k * step / 2 for k in range(1, 8)]
        beyond += [levels[0] - k * step / 2 for k in range(1, 8)]
        return [[float(c)] for c in [*_some(cuts), *beyond, *levels[:8]]]
    if isinstance(rule, Affine):
        last = 2**rule.n_bits - 1
        halves = [k + 0.5 for k in range(last)]
        return [
            [-z, last - z, *_some([h - z for h in halves])] for z in {0, last // 2, last // 2 + 1}
        ]
    if isinstance(rule, PowersOfTwo):
        ties = middles(rule._grid()).tolist()
        return [[1.0, *ties], [-1.0, *ties], [1.5], [-0.75, 0.25]]
    if isinstance(rule, Codebook):
        values = codebook(rule.format)
        if rule.format == "nf4":  # halfway is no short number: a quarter of the way
            quarters = (0.75 * values[:-1] + 0.25 * values[1:]).astype(np.float32)
            return [[1.0, *quarters.tolist()], [-1.0, *(-quarters).tolist()]]
        return [[end * values[-1], *_some(middles(values))] for end in (1, -1)]
    codes = rule._codes()
    ties = _some(middles(codes))
    if rule.scale == "max" and rule.divisor in (None, *range(1, 257)):
        end = rule.divisor or codes[-1]
        return [[sign * end, *ties] for sign in (1, -1)]
    if rule.scale in ("mean", "median") and rule.n_bits == 2:
        return [[0.5, -0.5, 1.5, -1.5, 1.0, -1.0], [-0.5, 1.5, 1.0, 1.0]]
    return []


def _small(rule):
    """Tensors of a float format with weights between its least values, normal or not."""
    if not isinstance(rule, Codebook) or rule.format == "nf4":
        return []
    values = codebook(rule.format)
    above = values[len(values) // 2 :]
    least = above[: 2 + 2 ** FLOATS[rule.format][1]]
    between = [*(0.6875 * least[:-1] + 0.3125 * least[1:]), *least[1:]]
    power = 2.0 ** np.floor(np.log2(above[-1]))
    return [[float(x) for x in (top, *between)] for top in (above[-1], -power, 1.9375 * power)]


def _some(values, count=24):
    """At most so many of them, both ends and the middle ones among them."""
    values = [float(v) for v in values]
    if len(values) <= count:
        return values
    middle, third = len(values) // 2, count // 3
    return [*values[:third], *values[middle - third // 2 : middle + third // 2], *values[-third:]]
