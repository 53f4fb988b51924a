"""Checks of maps onto levels fitted to the weights, by their squared error.

Only the error is compared, since several answers may be best. The prox (x + s q) / (1 + s) reveals
its q, so a prox is checked as the quantizer it contains.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product

import numpy as np

from proxquant_np.conformance import search, vectors
from proxquant_np.conformance.definitions import QUANTIZERS
from proxquant_np.conformance.fixed import EPS, ROUNDED, SINGLE, Found, MapJudge
from proxquant_np.conformance.form import Subject
from proxquant_np.conformance.report import Fault
from proxquant_np.prox import L2

TINY = float(np.finfo(np.float32).tiny)  # below this, numbers lose digits and count as 0
CODES = 4096  # up to this many, all codes are tried if no better way to the optimum is known

# What rounding to float32 breaks in float64 (not optimality: squared errors are flat at a minimum).
ROUGH = {"not quantized", "not a prox", "wrong strength", "wrong scale"}

STRENGTHS = {
    1.0: ("", ""),
    2.0: ("factor of two", "the strength is doubled"),
    0.5: ("factor of two", "the strength is halved"),
    math.inf: ("wrong strength", "projects at every strength > 0"),
}
SCALES = {
    1.0: "",
    2.0: "the levels are twice as large as they should be",
    0.5: "the levels are half as large as they should be",
}


class FittedJudge(MapJudge):
    """Judges maps onto the fitted levels of r."""

    def __init__(self, subject: Subject, r: L2, dtypes: Sequence[str], exact: bool):
        super().__init__(subject, dtypes)
        self.r, self.set, self.best, self.exact = r, r.set, r.set.exactly(), exact
        # What a heuristic may break; but a map that claims to be exact leaves points of Q alone.
        self.valid = {"not nearest", "not optimal"} | (set() if exact else {"wrong scale"})

    @property
    def optimum_known(self) -> bool:
        """Whether the least squared error is known for all weights, or for four by trying codes."""
        return self.best is not None or _can_try_all(self.set, 4)

    def cases(self) -> Iterator[search.Case]:
        """Tiny tensors with known optima, some with far larger weights, and random tensors."""
        large = [w for key, w in vectors.large().items() if key.startswith("weights.")]
        large += [1000 * np.array(w) for w in vectors.TINY if len(w) > 2]
        large += [10 * np.random.default_rng(0).normal(size=5003)]
        rests = [(s,) for s in (0.0, 0.5, 2.0)] if self.subject.with_strength else [()]
        for dtype, w, rest in product(self.dtypes, [*vectors.TINY, *large], rests):
            yield np.array(w, dtype), *rest

    def faults(self, case: search.Case, strength: float = 1.0, scale: float = 1.0) -> list[Fault]:
        """All faults at this case, given that strength and levels are off by these factors."""
        u, faults = self.subject.run(*case)
        if u is None:
            return faults
        x, *rest = case
        w = x.astype(np.float64)
        least, best = self._least(w)
        expected = best
        if best is not None and rest:
            expected = (w + rest[0] * best) / (1 + rest[0])
        expected = None if best is None else expected.astype(x.dtype)
        found = self._explain(w, u, rest, least, EPS[x.dtype], strength, scale)
        if x.dtype == np.float64 and ROUGH & ({kind for kind, _ in found} - self.valid):
            found = self._explain(w, u, rest, least, SINGLE, strength, scale)
            found = found or [("precision", ROUNDED)]
        inputs = self.subject.named(*case)
        return faults + [Fault(*kind, inputs, u, expected) for kind in found]

    def _explain(self, w, u, rest, least, eps, strength, scale):
        """(convention, detail) of each fault, to the accuracy eps of a precision."""
        eps, top, q = 64 * eps, np.abs(w).max(), u.astype(np.float64)
        if rest:
            s = rest[0] * strength
            if rest[0] == 0:
                same = np.abs(q - w).max() <= eps * top
                return [] if same else [("wrong strength", "strength 0 changed the weights")]
            if math.isfinite(s):
                q, eps = ((1 + s) * q - w) / s, eps * (1 + s) / s
        close = eps * top + TINY
        q = np.where(np.abs(q) <= close, 0.0, q / scale)
        if least is not None and least < (eps * top) ** 2:
            least = 0.0  # rather than the rounding error of a search
        found = self._of_quantized(w, q, least, close)
        if rest and found and found[-1][0] == "not quantized":
            detail = f"not (x + s q) / (1 + s) with a quantized q: {found[-1][1]}"
            found[-1] = "not a prox", detail
        return found

    def _of_quantized(self, w, q, least, close):
        quantized, found = self.set, []
        zero, outside = quantized.contains_zero, quantized.why_not(q, close)
        if outside:
            zeros = (w == 0) & (q == 0)
            others = q[~zeros]
            if zero or quantized.offset or not zeros.any() or quantized.why_not(others, close):
                return [("not quantized", outside)]
            found = [("sign(0)", "a weight of 0 went to 0, which is not among the levels")]
            q = np.where(zeros, np.abs(others).min(), q)
        magnitudes = np.unique(np.abs(w))
        alike = len(magnitudes) == 1 or (zero and len(magnitudes) == 2 and magnitudes[0] == 0)
        if alike and np.abs(np.abs(q) - np.abs(w)).max() > close:
            if not magnitudes[-1]:
                detail = f"weights of 0 went to {np.abs(q).max():.6g}: a floor under the scale?"
                return [*found, ("wrong scale", detail)]
            ratio = np.abs(q).max() / magnitudes[-1]
            by = f"{ratio:.6g}"
            if abs(ratio - 1) < 1e-5:
                by = f"1 {ratio - 1:+.1g}: an epsilon, or computed in float32?"
            return [*found, ("wrong scale", f"weights of one magnitude are scaled by {by}")]
        error = 0.5 * np.square(q - w).sum()
        if least is not None and error <= least + close * (np.abs(w - q).sum() + close * w.size):
            return found
        levels = np.concatenate([q, -q if quantized.symmetric else [], [0.0] if zero else []])
        levels = np.unique(levels)
        nearest = levels[np.abs(np.subtract.outer(w, levels)).argmin(axis=1)]
        i = int(np.argmax(np.abs(w - q) - np.abs(w - nearest)))
        if np.abs(w - q)[i] > np.abs(w - nearest)[i] + close:
            detail = f"{w[i]:.6g} went to {q[i]:.6g}, although {nearest[i]:.6g}, a level of the "
            return [*found, ("not nearest", f"{detail}same tensor, is nearer")]
        if least is not None and not found:
            detail = f"1/2 ||q - w||^2 is {error:.6g}, but {least:.6g} is possible"
            return [("not optimal", detail)]
        return found

    def _least(self, w):
        """(the least 1/2 ||q - w||^2, a q that attains it), each None if it is not known."""
        if self.best is not None:
            q = self.best.project(w)
            return 0.5 * np.square(q - w).sum(), q
        if not (self.optimum_known and _can_try_all(self.set, len(w))):
            return None, None
        error, q = _exhaustive(self.set, w)
        if not (self.set.contains_zero or self.set.offset):
            q = np.where(w == 0, np.abs(q), q)  # equally good, and sign_pm(0) = +1
        return error, q

    def named(self, found: Found, cases: list[search.Case]) -> Found:
        """The faults in values, by the strength and scale that explain every result."""
        if not found.keys() & {"not a prox", "wrong strength", "wrong scale"}:
            return self._centred(found, cases)
        strengths = STRENGTHS if self.subject.with_strength else [1.0]
        for strength, scale in product(strengths, SCALES):
            if (strength, scale) == (1, 1):
                continue
            left: Found = {}
            for case in cases:
                if not left.keys() & ROUGH and (len(case) == 1 or case[1]):
                    for fault in self.faults(case, strength, scale):
                        left.setdefault(fault.convention, (fault, case))
            if left.keys() & ROUGH:
                continue
            named: Found = {}
            rows = [STRENGTHS[strength]] if strength != 1 else []
            rows += [("factor of two", SCALES[scale])] if scale != 1 else []
            shown = min(found.items(), key=lambda item: item[0] in ("not nearest", "not optimal"))
            fault, case = shown[1]
            for convention, detail in rows:
                if convention in named:
                    detail = f"{named[convention][0].detail}; {detail}"
                renamed = Fault(convention, detail, fault.inputs, fault.got, fault.expected)
                named[convention] = renamed, case
            return left | named
        return found

    def _centred(self, found, cases):
        """Explains signs that are those of w - mean(w): the weights were centred first."""
        if "not nearest" not in found or not self.set.symmetric or self.set.contains_zero:
            return found
        for x, *rest in cases:
            u = self.subject.run(x, *rest)[0]
            w = x.astype(np.float64)
            clear = np.abs(w - w.mean()) > 1e-3 * np.abs(w).max()
            if u is not None and not rest and ((u > 0) != (w > w.mean()))[clear].any():
                return found
        fault, case = found["not nearest"]
        detail = f"{fault.detail}: the sign is that of w - mean(w), the weights are centred first"
        renamed = Fault("not nearest", detail, fault.inputs, fault.got, fault.expected)
        return {**found, "not nearest": (renamed, case)}

    def gaps(self) -> dict[str, float]:
        """The relative excess error on the golden tensors, by name.

        It is over the least squared error or, if that is not known, over that of this package's own
        heuristic.
        """
        kind = next((k for k, r in QUANTIZERS.items() if r.set == self.best), None)
        found = {}
        for key, w in vectors.large().items():
            group, _, name = key.partition(".")
            if group != "weights":
                continue
            least = vectors.large().get(f"error.{kind}.{name}")
            other = "the least" if least is not None else repr(self.r)
            if least is None:
                least = 0.5 * np.square(np.subtract(self.r.project(w), w, dtype=np.float64)).sum()
            found[f"{other}, {len(w)} {name} weights"] = float(self._error(w) / least - 1)
        return found

    def _error(self, w):
        u, _ = self.subject.run(w, *self.subject.rest)
        if u is None:
            return np.nan
        q = 2 * u.astype(np.float64) - w if self.subject.with_strength else u
        return 0.5 * np.square(np.subtract(q, w, dtype=np.float64)).sum()


def _exhaustive(quantized, w):
    """(the least 1/2 ||q - w||^2, its q) over all codes, by least squares for all at once.

    As in `brute_force.exhaustive_prox`, codes with a coefficient < 0 can be skipped.
    """
    codes, inverses = _codes(quantized, len(w))
    a = inverses @ w
    q = np.einsum("cnk,ck->cn", codes, a)
    errors = 0.5 * np.square(q - w).sum(axis=1)
    errors[(a[:, : a.shape[1] - quantized.offset] < -1e-9 * np.abs(w).max()).any(axis=1)] = np.inf
    best = int(np.argmin(errors))
    return errors[best], np.where(np.abs(q[best]) < 1e-12 * np.abs(w).max(), 0, q[best])


@lru_cache
def _can_try_all(quantized, n):
    """Whether the codes of n weights are known and few enough."""
    codes = quantized.code_matrices(n)
    return codes is not None and len(quantized.levels(np.zeros(n))) ** n <= CODES


@lru_cache
def _codes(quantized, n):
    """All codes of n weights, with a column of ones for an offset, and their pseudo-inverses."""
    codes = np.stack(list(quantized.code_matrices(n)))
    if quantized.offset:
        codes = np.concatenate([codes, np.ones((len(codes), n, 1))], axis=2)
    return codes, np.linalg.pinv(codes)
