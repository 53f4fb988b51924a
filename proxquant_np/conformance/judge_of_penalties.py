"""Proxes held against a penalty's, and the mistakes that are easily made with it.

The prox of some penalties jumps, where two minimisers are equally good: then both are right, unless
one is asked for. Within rounding of a jump both are right in any case.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from proxquant_np.conformance import search, vectors
from proxquant_np.conformance.fixed import EPS, FixedJudge, Mistake
from proxquant_np.conformance.form import Subject
from proxquant_np.conformance.mistakes_of_penalties import mistakes
from proxquant_np.prox import L0, MCP, Huber, Regularizer
from proxquant_np.prox.arrays import Floats

JUMPS = {"zero": "to its level", "away": "nowhere: it stays"}
STRENGTHS = (*vectors.STRENGTHS, 0.5, 2.0, 4.0)


def jump(r: Regularizer, s: float) -> float | None:
    """The distance from a level at which the prox jumps; None if it does not."""
    if isinstance(r, L0):
        return math.sqrt(2 * s)
    return math.sqrt(s * r.knee) if isinstance(r, MCP) and s >= r.knee else None


def seen_exactly(r: Regularizer, s: float) -> float | None:
    """The same where it is a short number, so that every way to compute sees who lies on it."""
    at = jump(r, s)
    return at if at is not None and np.float32(at) == at else None


def corners(r: Regularizer, s: float) -> list[float]:
    """The distances from a level at which the formula of the prox changes."""
    at = jump(r, s)
    if at is not None:
        return [at]
    if isinstance(r, Huber):
        return [r.knee, r.knee * (1 + s)]
    return [s, r.knee] if isinstance(r, MCP) else [s]


class PenaltyJudge(FixedJudge):
    """Judges proxes of the penalty r. ties: where a weight goes at a jump, None for anywhere.

    strength: of fn(w); if it is None, fn is called with one.
    """

    def __init__(
        self,
        subject: Subject,
        r: Regularizer,
        dtypes: Sequence[str],
        strength: float | None,
        ties: str | None,
    ):
        super().__init__(subject, r, dtypes, False)
        self.strength = np.inf if strength is None else strength
        self.at_jump = ties

    def cases(self) -> Iterator[search.Case]:
        """Single weights on, near and far from corners and levels, and all of them in a tensor."""
        strengths = STRENGTHS if self.subject.with_strength else (self.strength,)
        strengths = strengths if self._takes_zero() else [s for s in strengths if s]
        for dtype, s in product(self.dtypes, strengths):
            rest = (s,) if self.subject.with_strength else ()
            near = [c * by for c in corners(self.r, s) for by in (0.9375, 1, 1.0625, 1.25, 2)]
            around = [sign * d for d in (*near, 1 / 16, 0.5, 7.0, 100.0) for sign in (1, -1)]
            points = np.add.outer(self.levels, [0.0, *around]).ravel()
            points = np.unique(np.concatenate([points, self.ties, vectors.POINTS]).astype(dtype))
            yield from ((points[i : i + 1], *rest) for i in range(len(points)))
            yield np.resize(points, 5003), *rest

    def strategy(self, st: Any) -> Any:
        """A strategy of cases, for `search`."""
        cases = super().strategy(st)
        return cases if self._takes_zero() else cases.filter(lambda case: case[1] > 0)

    def kind(self) -> Hashable:
        """What the strategy depends on."""
        return super().kind(), "zero" if self._takes_zero() else "no zero"

    def _takes_zero(self):
        """Whether fn takes the strength 0, which many libraries refuse."""
        if not self.subject.with_strength:
            return True
        return self.subject.run(np.ones(1, self.dtypes[0]), 0.0)[0] is not None

    def expected(self, x: Floats, s: float) -> Floats:
        """The right result, at a jump as it is asked for."""
        return self._right(x, s, self.r.project(x))

    def _right(self, x, s, q):
        """The prox, at a jump as it is asked for."""
        u = self._prox(self.r, x, s, q)
        at = seen_exactly(self.r, s)
        return (
            np.where(np.abs(x - q) == at, x, u) if at is not None and self.at_jump == "away" else u
        )

    def _prox(self, r, x, s, q):
        return r.towards(x, s, q)

    def _close(self, x, s, u, function, eps):
        """Where u is what the function of x gives, or would give for weights that are near."""
        steep = 1.0
        if isinstance(self.r, MCP) and 0.5 * self.r.knee < s < self.r.knee:
            steep = 1 / (1 - s / self.r.knee)
        scale = np.maximum(1, np.abs(x)) + np.abs(self.levels).max()
        near = [np.abs(u - function(x + k * 16 * eps * scale)) for k in (0, -1, 1)]
        at = seen_exactly(self.r, s)
        exactly = np.isin(x, self.ties)
        if at is not None and self.at_jump is not None:
            exactly |= np.isin(np.abs(np.subtract.outer(x, self.levels)), at).any(axis=-1)
        return np.where(exactly, near[0], np.minimum.reduce(near)) <= 64 * eps * steep * scale

    def _wrong(self, x, s, u, expected, eps):
        def function(x):
            return self._right(x, s, self._nearest(x))

        bad = np.flatnonzero(~self._close(x.astype(np.float64), s, u, function, eps))
        _, first = np.unique(x[bad] + 1j * u[bad], return_index=True)
        return bad[first]

    def _like(self, case, choice, move, least):
        x, s = self.split(case)
        wide, u = x.astype(np.float64), self.subject.run(*case)[0]
        with np.errstate(all="ignore"):

            def function(x):
                return move.function(x, s, choice.function(x))

            return bool(self._close(wide, s, u, function, max(least, EPS[x.dtype])).all())

    def _nearest(self, x):
        return self.levels.astype(np.float64)[np.searchsorted(self.ties, x, "right")]

    def _pointwise(self, x, u, expected):
        at_jump = self.at_jump is not None and x != expected and u in (x, *self.levels)
        if x in self.ties or (at_jump and expected in (x, *self.levels)):
            return "wrong tie", f"{x}, where two points are equally good, went to {u}"
        if (u - x) * (expected - x) < 0:
            return "not nearest", f"{x} went to {u}, away from its level"
        return "not optimal", f"{x} went to {u}, but {expected} has a smaller objective"

    def tells(self) -> dict[str, str]:
        """Where a weight goes that lies exactly on the jump; whether strength 0 is refused."""
        told = {}
        if not self._takes_zero():
            _, faults = self.subject.run(np.ones(1, self.dtypes[0]), 0.0)
            told["strength 0"] = f"is refused: {faults[0].detail}" if faults else "has no result"
        s = self.strength if not self.subject.with_strength else 0.5
        at = seen_exactly(self.r, s)
        if at is None:
            return told
        x = np.array([self.levels[-1] + at], self.dtypes[0])
        u, _ = self.subject.run(x, *((s,) if self.subject.with_strength else ()))
        if u is None or u[0] not in (x[0], self.levels[-1]):
            return told
        return told | {"at a jump": f"{x[0]:g} goes {JUMPS['away' if u[0] == x[0] else 'zero']}"}

    def _moves(self):
        right = Mistake(None, "", self._right)
        found = list(mistakes(self.r))
        if self.at_jump is not None:
            found.append(("wrong tie", _tie_words(self.at_jump), self._other_tie))
        return [right, *(Mistake(*row) for row in found)]

    def _other_tie(self, x, s, q):
        other = {"zero": x, "away": q}[self.at_jump]
        at = seen_exactly(self.r, s)
        u = self._right(x, s, q)
        return u if at is None else np.where(np.abs(x - q) == at, other, u)

    def _choices(self):
        return super()._choices() if len(self.levels) > 1 else [Mistake(None, "", self._nearest)]


def _tie_words(tie):
    other = {"zero": "inclusive: kept at |w| >= the threshold", "away": "strict: kept beyond it"}
    asked = {"zero": "strict", "away": "inclusive"}
    return f"the threshold is {other[tie]}, where {asked[tie]} is asked"
