"""Checks of maps onto fixed levels, weight by weight.

The objective alone would not do: it is flat near its minimum, so half of the digits could be wrong.
Objectives are compared only where two answers are equally good, at ties and within rounding of
them.

Then mistakes are named. A prox moves a weight towards a level, so a wrong one chooses another
level, or moves differently, or both. Each common mistake in choice or move, alone and in pairs, is
compared with all results.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.conformance import search, vectors
from proxquant_np.conformance.form import Subject
from proxquant_np.conformance.report import Fault
from proxquant_np.prox import Regularizer
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.brute_force import objective

EPS = {np.dtype(name): float(np.finfo(name).eps) for name in ("float32", "float64")}
SINGLE = EPS[np.dtype("float32")]
ROUNDED = (
    "right to the rounding of float32, not of float64: computed in float32, or with an epsilon? To "
    'check a function made for float32, pass dtypes=["float32"]'
)

NEAR = 8.0

Found = dict[str, tuple[Fault, search.Case]]


class Mistake(NamedTuple):
    """A choice of levels or a move towards them, and the convention it breaks, if any."""

    convention: str | None
    detail: str
    function: Callable[..., Floats]


class MapJudge:
    """What the judges of fn(w) and fn(x, strength) share. A case is (x,) or (x, strength)."""

    def __init__(self, subject: Subject, dtypes: Sequence[str]):
        self.subject, self.dtypes = subject, dtypes
        self.divisible = True  # whether any part of the weights of a case makes a case
        self.strength = np.inf  # of fn(w)

    def excess(self) -> dict[str, float]:
        """By how much the definition itself misses an optimum, in squared error; by what."""
        return {}

    def tells(self) -> dict[str, str]:
        """What fn does where the definition leaves it open, in words."""
        return {}

    def strategy(self, st: Any) -> Any:
        """A strategy of cases, for `search`."""
        rest = [search.strengths(st)] if self.subject.with_strength else []
        return st.tuples(search.weights(st, self.dtypes), *rest)

    def kind(self) -> Hashable:
        """What the strategy depends on."""
        return tuple(self.dtypes), self.subject.with_strength

    def split(self, case: search.Case) -> tuple[Floats, float]:
        """The weights and the strength."""
        return case[0], case[1] if len(case) > 1 else self.strength

    def size(self, case: search.Case) -> int:
        """The number of weights."""
        return case[0].size

    def key(self, case: search.Case) -> Any:
        """The case, hashable."""
        return case[0].dtype.str, case[0].tobytes(), *case[1:]


class FixedJudge(MapJudge):
    """Judges maps onto the fixed levels of r."""

    valid: frozenset[str] = frozenset()  # what a heuristic may break
    optimum_known = True

    def __init__(self, subject: Subject, r: Regularizer, dtypes: Sequence[str], exact: bool):
        super().__init__(subject, dtypes)
        self.r = r
        self.levels = r.levels(np.zeros(1))
        self.ties = (self.levels[1:] + self.levels[:-1]) / 2
        self.at_zero = "sign(0)" if len(self.levels) == 2 and 0 in self.ties else "wrong tie"

    def cases(self) -> Iterator[search.Case]:
        """Single weights, also beside ties, and a tensor larger than a typical block."""
        rests = [(s,) for s in vectors.STRENGTHS] if self.subject.with_strength else [()]
        beside = np.add.outer(self.ties, [-1 / 16, -1 / 64, 1 / 64, 1 / 16]).ravel().tolist()
        points = [*vectors.points(self.r), *beside, *search.FAR]
        for dtype, rest in product(self.dtypes, rests):
            yield from ((np.array([point], dtype), *rest) for point in points)
            yield np.resize(np.array(points, dtype), 5003), *rest

    def expected(self, x: Floats, s: float) -> Floats:
        """The right result."""
        return self.r.prox(x, s)

    def faults(self, case: search.Case) -> list[Fault]:
        """All faults at this case, each kind once."""
        u, faults = self.subject.run(*case)
        if u is None:
            return faults
        x, s = self.split(case)
        expected = self.expected(x, s)
        inputs = self.subject.named(*case)
        wrong = self._wrong(x, s, u, expected, EPS[x.dtype])
        if len(wrong) and x.dtype == np.float64:
            rounded = wrong[np.abs(x[wrong]) <= NEAR]  # farther off, any fault is small beside x
            wrong = self._wrong(x, s, u, expected, SINGLE)
            if not len(wrong) and len(rounded):
                faults = [*faults, Fault("precision", ROUNDED, inputs, u, expected)]
        kinds = dict(self._pointwise(x[i], u[i], expected[i]) for i in wrong)
        return faults + [Fault(*kind, inputs, u, expected) for kind in kinds.items()]

    def _wrong(self, x, s, u, expected, eps):
        """The indices of weights whose result is wrong by more than rounding, without repeats."""
        levels = self.levels.astype(np.float64)
        scale = np.maximum(1, np.abs(x)) + np.abs(levels).max()
        close = 32 * eps * scale
        right = np.abs(u - expected) <= close

        def cost(v):
            if np.isfinite(s):
                return objective(self.r, v, x[i : i + 1], s)
            return 0.5 * np.square(v - x[i]) if np.abs(levels - v).min() <= close[i] else np.inf

        wrong = []
        _, each_once = np.unique(x + 1j * u, return_index=True)
        for i in each_once[~right[each_once]]:
            v = float(x[i])
            ties = [abs(a / 2 + b / 2 - v) for a, b in pairwise(levels)]
            if ties and min(ties) <= close[i]:  # within rounding of a tie, but not on it?
                a, b = map(Fraction, levels[np.argmin(ties) :][:2].tolist())
                excess = cost(u[i : i + 1]) - cost(expected[i : i + 1])
                if a + b != 2 * Fraction(v) and excess <= close[i] * (1 + min(s, scale[i])):
                    continue
            wrong.append(i)
        return np.array(wrong, int)

    def _pointwise(self, x, u, expected):
        if x in self.ties:
            kind = self.at_zero if x == 0 else "wrong tie"
            return kind, f"{x}, halfway between two levels, went to {u}, not up to {expected}"
        if not self.subject.with_strength:
            if np.abs(self.levels - u).min() > 1e-6 * (1 + np.abs(self.levels).max()):
                return "not quantized", f"{x} went to {u}, which is not among the levels"
            return "not nearest", f"{x} went to {u}, but {expected} is nearer"
        if (u - x) * (expected - x) < 0:
            return "not nearest", f"{x} went to {u}, away from its nearest level"
        return "not optimal", f"{x} went to {u}, but {expected} has a smaller objective"

    def named(self, found: Found, cases: list[search.Case]) -> Found:
        """The faults in values, as the one or two mistakes that explain every result.

        They must do so in the precision of the weights, or in that of float32, itself a fault.
        """
        cases = [case for case in cases if self.subject.run(*case)[0] is not None]
        choices, moves = self._choices(), self._moves()
        pairs = [(choice, moves[0]) for choice in choices[1:]]
        pairs += [(choices[0], move) for move in moves[1:]]
        pairs += product(choices[1:], moves[1:])
        for least, (choice, move) in product((0.0, SINGLE), pairs):
            if not all(self._like(case, choice, move, least) for case in cases):
                continue
            named = {}
            for mistake, others in ((choice, (choices[0], move)), (move, (choice, moves[0]))):
                if mistake.convention is not None:
                    named |= self._first(mistake, cases, *others, least)
            if least:
                rounded = Mistake("precision", ROUNDED, choice.function)
                named |= self._first(rounded, cases, choice, move, 0.0)
            return named
        return found

    def _like(self, case, choice, move, least):
        """Whether this choice and move give the result, up to rounding of at least `least`."""
        x, s = self.split(case)
        close = 256 * max(least, EPS[x.dtype]) * np.maximum(1, np.abs(x))
        wide = x.astype(np.float64)
        with np.errstate(all="ignore"):
            u = move.function(wide, s, choice.function(wide))
            return bool((np.abs(self.subject.run(*case)[0] - u) <= close).all())

    def _first(self, mistake, cases, choice, move, least):
        """The mistake at the first case that needs it as an explanation, if there is one."""
        for case in cases:
            if not self._like(case, choice, move, least):
                inputs, u = self.subject.named(*case), self.subject.run(*case)[0]
                expected = self.expected(*self.split(case))
                fault = Fault(mistake.convention, mistake.detail, inputs, u, expected)
                return {mistake.convention: (fault, case)}
        return {}

    def _choices(self):
        """To which level a weight is pulled: the nearest, and the mistakes."""
        levels, ties = self.levels, self.ties

        def nearest(x, side="right"):
            return levels[np.searchsorted(ties, x, side)]

        right = Mistake(None, "", nearest)
        if not hasattr(self.r, "towards"):  # its prox, like Parq's, does not move to one level
            return [right]
        where = "0" if self.at_zero == "sign(0)" else "a tie"
        tie = self.at_zero
        low = lambda x: nearest(x, "left")  # noqa: E731
        last = len(levels) - 1
        return [
            right,
            Mistake(
                tie,
                f"{where} stays where it is, as with numpy.sign, whose sign(0) is 0",
                lambda x: np.where(np.isin(x, ties), x, nearest(x)),
            ),
            Mistake(tie, f"{where} goes to the lower level", low),
            Mistake(
                tie,
                "-0.0 goes to the lower level, as with numpy.copysign",
                lambda x: np.where((x == 0) & np.signbit(x), low(x), nearest(x)),
            ),
            Mistake(
                "not nearest",
                "the greatest level below the weight is taken (greedy)",
                lambda x: levels[np.maximum(np.searchsorted(levels, x, "right") - 1, 0)],
            ),
            Mistake(
                "not nearest",
                "the least level above the weight is taken",
                lambda x: levels[np.minimum(np.searchsorted(levels, x), last)],
            ),
            Mistake("not nearest", "shrinks towards 0, as soft thresholding", np.zeros_like),
        ]

    def _moves(self):
        """How a weight x is pulled to a level q: by the prox, and the mistakes."""
        r, ends = self.r, (self.levels[0], self.levels[-1])

        def prox(x, s, q):
            if np.isinf(s):
                return q
            return r.towards(x, s, q) if hasattr(r, "towards") else r.prox(x, s)

        def beyond_left_alone(x, s, q):
            return np.where((x < ends[0]) | (x > ends[1]), x, prox(x, s, q))

        right = Mistake(None, "", prox)
        if not self.subject.with_strength:
            kept = "the weights are returned unchanged"
            return [right, Mistake("not quantized", kept, lambda x, s, q: x)]
        table: list[tuple[str, str, Callable[..., Floats]]] = [
            ("factor of two", "the strength is doubled", lambda x, s, q: prox(x, 2 * s, q)),
            ("factor of two", "the strength is halved", lambda x, s, q: prox(x, s / 2, q)),
            (
                "wrong strength",
                "projects at every strength > 0",
                lambda x, s, q: prox(x, s and np.inf, q),
            ),
            ("wrong strength", "projects at every strength", lambda x, s, q: q),
            ("wrong strength", "changes nothing at any strength", lambda x, s, q: x),
            (
                "not a prox",
                "steps over the level: no clip",
                lambda x, s, q: np.where(q > x, x + s, np.where(q < x, x - s, x)),
            ),
            (
                "not a prox",
                "a gradient step x - s (x - q), not the prox (x + s q) / (1 + s)",
                lambda x, s, q: x - s * (x - q),
            ),
            ("not a prox", "no division by 1 + s", lambda x, s, q: x + s * q),
            (
                "not nearest",
                "goes away from the nearest level",
                lambda x, s, q: x + np.clip(x - q, -s, s),
            ),
            (
                "not optimal",
                "clips to the levels' range afterwards",
                lambda x, s, q: prox(x, s, q).clip(*ends),
            ),
            ("not optimal", "leaves weights beyond the levels alone", beyond_left_alone),
        ]
        return [right, *(Mistake(*row) for row in table)]
