"""Conformance (layer 7): checks of other people's proxes and quantizers.

A check has three parts: the form of the result (shape, dtype, input left alone, any rank), the
golden cases, and a search for the smallest counterexample. What is wrong is then named: a list of
mistakes, each with the result it would give, is held against what came.

Fixed levels are checked weight by weight, against the regularizer of this package. An objective
alone would be blind: near its minimum it is flat, and half of the digits could be wrong. Only where
two answers are equally good, at ties and within rounding of them, objectives are compared.

Fitted levels are checked by their squared error alone, since several answers may be best. The prox
(x + s q) / (1 + s) tells its q, so a prox is checked as the quantizer that it contains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from proxquant_np.conformance import vectors
from proxquant_np.conformance.definitions import PROXES, QUANTIZERS, family, look_up
from proxquant_np.conformance.report import Fault, Report
from proxquant_np.conformance.search import Case, smallest, strengths, weights
from proxquant_np.prox import Parq, Regularizer, TernaryL2, UniformL2
from proxquant_np.prox.brute_force import exhaustive_prox, objective
from proxquant_np.prox.fitted import FittedL2
from proxquant_np.prox.regularizer import Floats, L1Distance

DTYPES = ("float32", "float64")

# Of several conventions that are broken the first is named: it may be the reason for the others.
ORDER = [
    "raised",
    "result",
    "shape changed",
    "dtype changed",
    "input mutated",
    "NaN",
    "not quantized",
    "not a prox",
    "wrong strength",
    "wrong scale",
    "factor of two",
    "not nearest",
    "not optimal",
    "wrong tie",
    "sign(0)",
]


def check_prox(
    fn: Callable[[Floats, float], Floats],
    definition: str | Regularizer,
    *,
    exact: bool = False,
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Is fn(x, strength) = argmin_u 1/2 ||u - x||^2 + strength * R(u)?

    definition: R, by its name in `conformance.PROXES` or as a Regularizer. Ties go to the upper
    level. fn must keep shape and dtype, for any rank and each of `dtypes`, and leave x alone.

    For levels that are fitted to x, a prox (x + s q) / (1 + s) with a quantized q that is not the
    nearest is a heuristic, which passes; with exact=True, the claim to be exact, it does not.

    Raises:
        ValueError: an unknown name, with the nearest known one; a regularizer per axis or block.
        TypeError: fn is not callable, definition is neither.

    Examples:
        >>> def prox(x, strength):
        ...     return x - np.clip(x - np.sign(x), -strength, strength)
        ...
        >>> report = pq.conformance.check_prox(prox, "binary_l1")
        >>> report.passed, report.fault.convention
        (False, 'sign(0)')
    """
    name, r = look_up(definition, PROXES, "definition")
    return _check(fn, f"prox of {name!r}", name, r, True, exact, dtypes)


def check_quantizer(
    fn: Callable[[Floats], Floats],
    definition: str | Regularizer,
    *,
    exact: bool = False,
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Is fn(w) a nearest point to w in the quantized set, argmin_{q in Q} ||q - w||^2?

    definition: Q, by its name in `conformance.QUANTIZERS` or as a Regularizer; fn returns the
    quantized weights themselves, not codes. Else as `check_prox`: for levels fitted to w, a point
    of Q that is not the nearest is a heuristic, which passes unless exact=True claims more.

    Examples:
        >>> def ternarize(w):
        ...     q = np.where(np.abs(w) > 0.7 * np.abs(w).mean(), w, 0)
        ...     scale = np.abs(q[q != 0]).mean() if q.any() else 0
        ...     return (np.where(q > 0, scale, 0) - np.where(q < 0, scale, 0)).astype(w.dtype)
        ...
        >>> print(pq.conformance.check_quantizer(ternarize, "ternary_symmetric").verdict)
        heuristic
    """
    name, r = look_up(definition, QUANTIZERS, "definition")
    return _check(fn, f"quantizer {name!r}", name, r, False, exact, dtypes)


def _check(fn, title, name, r, with_strength, exact, dtypes):
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; a callable is accepted")
    kind = _Fitted if isinstance(r, FittedL2) else _Fixed
    judge = kind(fn, name, r, with_strength)
    cases = list(judge.cases(dtypes))

    def report(verdict, passed, fault=None, search=None, gaps=()):
        called = getattr(fn, "__name__", repr(fn))
        checked = f"{len(cases)} golden cases, {search}" if search else "the form of the result"
        return Report(called, title, verdict, passed, checked, fault, dict(gaps))

    fault = form_fault(fn, (1.0,) if with_strength else (), dtypes)
    if fault is not None:
        return report("wrong", False, fault)

    def search(fails):
        def build(st):
            return st.tuples(weights(st, dtypes), *([strengths(st)] if with_strength else []))

        words, case = smallest(lambda c: (f := judge.fault(c)) is not None and fails(f), build)
        return words, [(judge.fault(case), case)] if case else []

    found = [(fault, case) for case in cases if (fault := judge.fault(case))]
    worst = min((fault.convention for fault, _ in found), key=ORDER.index, default=None)
    words, more = search(lambda fault: worst in (None, fault.convention))
    if not (found or more):
        return report("right", True, search=words)
    if all(fault.convention in judge.valid for fault, _ in found + more):
        more += search(lambda fault: fault.convention not in judge.valid)[1]
    fault, case = min(
        more + found, key=lambda pair: (ORDER.index(pair[0].convention), pair[1][0].size)
    )
    fault, case = _fewer(judge, fault, case)
    if fault.convention not in judge.valid:
        named = judge.named(fault, [case, *cases]) or (fault.convention, fault.detail)
        return report("wrong", False, _renamed(fault, *named), words)
    if exact and fault.convention == "not optimal":
        fault = _renamed(fault, "not optimal although claimed", fault.detail)
    return report("heuristic", not exact, fault, words, judge.gaps())


def _fewer(judge, fault, case):
    """Leave out weights, half of them, then fewer, as long as the same convention is broken."""
    part = case[0].size // 2
    while part:
        i = 0
        while i < case[0].size > part:
            smaller = (np.delete(case[0], slice(i, i + part)), *case[1:])
            less = judge.fault(smaller)
            if less is not None and less.convention == fault.convention:
                fault, case = less, smaller
            else:
                i += part
        part //= 2
    return fault, case


def _renamed(fault, convention, detail):
    return Fault(convention, detail, fault.inputs, fault.got, fault.expected)


def _rest(fault):
    return fault.inputs, fault.got, fault.expected


# The form of a result


def run(fn: Callable[..., Any], inputs: dict[str, Any], like: Floats) -> Floats | Fault:
    """fn of copies of the inputs, which must be an array like `like`; or what is wrong with it."""
    copies = {k: v.copy("K") if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    try:
        with np.errstate(all="ignore"):
            u = fn(*copies.values())
    except Exception as error:
        return Fault("raised", f"raised {type(error).__name__}: {error}", inputs)
    for key, before in inputs.items():
        if isinstance(before, np.ndarray) and copies[key].tobytes() != before.tobytes():
            return Fault("input mutated", f"{key} was modified", inputs, copies[key], before)
    if not isinstance(u, np.ndarray | np.floating):
        return Fault("result", f"returned a {type(u).__name__}, not a NumPy array", inputs)
    if u.shape != like.shape:
        detail = f"the result has shape {u.shape}, the weights have {like.shape}"
        return Fault("shape changed", detail, inputs, u)
    if u.dtype != like.dtype:
        detail = f"the result has dtype {u.dtype}, the weights have {like.dtype}"
        return Fault("dtype changed", detail, inputs, u)
    if not np.isfinite(u).all():
        return Fault("NaN", "the result holds NaN or infinity", inputs, u)
    return np.array(u)


def form_fault(
    fn: Callable[..., Any], rest: tuple[float, ...], dtypes: Sequence[str]
) -> Fault | None:
    """What is wrong with the form of fn(w, *rest), on a few tensors of different rank."""
    values = [0.75, -1.5, 0.25, 1.0, -0.5, 2.0]
    for dtype in dtypes:
        w = np.array(values, dtype)
        shapes = [(6,), (2, 3), (2, 1, 3, 1)]
        results = [run(fn, _named(w.reshape(shape), rest), w.reshape(shape)) for shape in shapes]
        faults = [result for result in results if isinstance(result, Fault)]
        for fault in faults:
            if len(faults) == len(shapes) or fault.convention in ("input mutated", "dtype changed"):
                return fault
        if faults:
            ranks = "- and ".join(
                str(len(shape))
                for shape, result in zip(shapes, results, strict=True)
                if not isinstance(result, Fault)
            )
            shape = next(iter(faults[0].inputs.values())).shape
            detail = f"only {ranks}-D: weights of shape {shape}: {faults[0].detail}"
            return Fault("rank", detail, *_rest(faults[0]))
        first, *others = results
        if any(run(fn, _named(w, rest), w).tobytes() != first.tobytes() for _ in range(4)):
            return Fault("not repeatable", "a second call gave another result", _named(w, rest))
        close = 64 * np.finfo(w.dtype).eps
        for shape, other in zip(shapes[1:], others, strict=True):
            if not np.allclose(other.reshape(-1), first, close, close):
                detail = "the same weights in another shape give another result (levels per row?)"
                inputs = _named(w.reshape(shape), rest)
                return Fault("rank", detail, inputs, other, first.reshape(shape))
        inputs = _named(w.reshape(3, 2).T, rest)  # not contiguous
        other = run(fn, inputs, w.reshape(3, 2).T)
        if isinstance(other, Fault):
            return Fault("memory layout", f"weights that are a transpose: {other.detail}", inputs)
        straight = run(fn, _named(np.ascontiguousarray(w.reshape(3, 2).T), rest), other)
        if not np.allclose(other, straight, close, close):
            detail = "a transpose and its contiguous copy give different results"
            return Fault("memory layout", detail, inputs, other, straight)
    return None


def _named(w, rest):
    return {"x": w, "strength": rest[0]} if rest else {"w": w}


# Fixed levels


class _Fixed:
    """Judges maps onto fixed levels, weight by weight."""

    valid: frozenset[str] = frozenset()

    def __init__(self, fn, name, r, with_strength):
        self.fn, self.r, self.with_strength = fn, r, with_strength

    def cases(self, dtypes):
        strengths = [(s,) for s in vectors.STRENGTHS] if self.with_strength else [()]
        for dtype in dtypes:
            for rest in strengths:
                for point in vectors.points(self.r):
                    yield (np.array([point], dtype), *rest)

    def fault(self, case: Case) -> Fault | None:
        x, *rest = case
        inputs = _named(x, rest)
        u = run(self.fn, inputs, x)
        if isinstance(u, Fault):
            return u
        s = rest[0] if rest else np.inf
        expected = self.r.prox(x, s)
        right = self._right(x, s, u, expected)
        if right.all():
            return None
        i = int(np.argmin(right))
        kind, detail = self._pointwise(x[i], u[i], expected[i])
        return Fault(kind, detail, inputs, u, expected)

    def _right(self, x, s, u, expected):
        levels = self.r.levels(x).astype(np.float64)
        scale = np.maximum(1, np.abs(x)) + np.abs(levels).max()
        close = 32 * np.finfo(x.dtype).eps * scale
        right = np.abs(u - expected) <= close

        def cost(v):
            if np.isfinite(s):
                return objective(self.r, v, x[i : i + 1], s)
            return 0.5 * np.square(v - x[i]) if np.abs(levels - v).min() <= close[i] else np.inf

        for i in np.flatnonzero(~right):  # within rounding of a tie, but not on it?
            v = float(x[i])
            ties = [abs(a / 2 + b / 2 - v) for a, b in pairwise(levels)]
            if ties and min(ties) <= close[i]:
                a, b = map(Fraction, levels[np.argmin(ties) :][:2].tolist())
                excess = cost(u[i : i + 1]) - cost(expected[i : i + 1])
                right[i] = a + b != 2 * Fraction(v) and excess <= close[i] * (1 + min(s, scale[i]))
        return right

    def _pointwise(self, x, u, expected):
        levels = self.r.levels(np.array([x]))
        ties = (levels[1:] + levels[:-1]) / 2
        if x in ties:
            kind = "sign(0)" if x == 0 else "wrong tie"
            return kind, f"{x}, halfway between two levels, went to {u}, not up to {expected}"
        if not self.with_strength:
            if np.abs(levels - u).min() > 1e-6 * (1 + np.abs(levels).max()):
                return "not quantized", f"{x} went to {u}, which is not among the levels"
            return "not nearest", f"{x} went to {u}, but {expected} is nearer"
        if (u - x) * (expected - x) < 0:
            return "not nearest", f"{x} went to {u}, away from its nearest level"
        return "not optimal", f"{x} went to {u}, but {expected} has a smaller objective"

    def named(self, fault: Fault, cases: list[Case]) -> tuple[str, str] | None:
        """The convention and the words of the mistake that explains every result, if one does."""
        results = [(run(self.fn, _named(x, rest), x), x, *rest) for x, *rest in cases]
        if any(isinstance(u, Fault) for u, *_ in results):
            return None
        for convention, detail, mistake in self._mistakes():
            if all(self._like(mistake, *result) for result in results):
                return convention, detail
        return None

    def _like(self, mistake, u, x, s=np.inf):
        close = 256 * np.finfo(x.dtype).eps * np.maximum(1, np.abs(x))
        with np.errstate(all="ignore"):
            return bool((np.abs(u - mistake(x.astype(np.float64), s)) <= close).all())

    def _mistakes(self) -> Iterator[tuple[str, str, Callable[[Floats, float], Floats]]]:
        r = self.r
        levels = r.levels(np.zeros(1))
        ties = (levels[1:] + levels[:-1]) / 2
        tie = "sign(0)" if 0 in ties and len(ties) == 1 else "wrong tie"
        where = "0" if tie == "sign(0)" else "a tie"

        def nearest(x, side="right"):
            return levels[np.searchsorted(ties, x, side)]

        def toward(q):
            def wrong(x, s):
                level = q(x)
                if np.isinf(s):
                    return level
                if isinstance(r, L1Distance):
                    return np.clip(level, x - s, x + s)
                return (x + s * level) / (1 + s)

            return wrong

        if not isinstance(r, Parq) or not self.with_strength:
            middle = toward(lambda x: np.where(np.isin(x, ties), x, nearest(x)))
            yield tie, f"{where} stays where it is, as with numpy.sign, whose sign(0) is 0", middle
            yield tie, f"{where} goes to the lower level", toward(lambda x: nearest(x, "left"))
            minus = toward(
                lambda x: np.where((x == 0) & np.signbit(x), nearest(x, "left"), nearest(x))
            )
            yield tie, "-0.0 goes to the lower level, as with numpy.copysign", minus
            floor = np.maximum
            down = toward(lambda x: levels[floor(np.searchsorted(levels, x, "right") - 1, 0)])
            yield "not nearest", "the greatest level below the weight is taken (greedy)", down
            up = toward(lambda x: levels[np.minimum(np.searchsorted(levels, x), len(levels) - 1)])
            yield "not nearest", "the least level above the weight is taken", up
            zero = toward(np.zeros_like)
            yield "not nearest", "shrinks towards 0, as soft thresholding", zero
        if not self.with_strength:
            yield "not quantized", "the weights come back as they are", lambda x, s: x
            return
        yield "factor of two", "the strength is doubled", lambda x, s: r.prox(x, 2 * s)
        yield "factor of two", "the strength is halved", lambda x, s: r.prox(x, s / 2)
        soft = r.prox
        yield "wrong strength", "projects at every strength > 0", lambda x, s: soft(x, s and np.inf)
        yield "wrong strength", "projects at every strength", lambda x, s: r.project(x)
        yield "wrong strength", "changes nothing at any strength", lambda x, s: x
        step = lambda x: np.where(nearest(x) > x, 1.0, np.where(nearest(x) < x, -1.0, 0.0))  # noqa: E731
        yield "not a prox", "steps over the level: no clip", lambda x, s: x + s * step(x)
        ahead = lambda x, s: x - s * (x - nearest(x))  # noqa: E731
        yield "not a prox", "a gradient step x - s (x - q), not the prox (x + s q) / (1 + s)", ahead
        yield "not a prox", "no division by 1 + s", lambda x, s: x + s * nearest(x)
        away = lambda x, s: x + np.clip(x - nearest(x), -s, s)  # noqa: E731
        yield "not nearest", "goes away from the nearest level", away
        ends = levels[0], levels[-1]
        yield (
            "not optimal",
            "clips to the levels' range afterwards",
            lambda x, s: soft(x, s).clip(*ends),
        )
        kept = lambda x, s: np.where((x < ends[0]) | (x > ends[1]), x, soft(x, s))  # noqa: E731
        yield "not optimal", "leaves weights beyond the levels alone", kept


# Fitted levels


class _Fitted:
    """Judges maps onto fitted levels, by the squared error of the quantized weights."""

    valid = frozenset({"not nearest", "not optimal"})  # what a heuristic may break

    def __init__(self, fn, name, r, with_strength):
        self.fn, self.r, self.with_strength = fn, r, with_strength
        self.family = family(r)
        entry = vectors.table("quantizers.json").get(name.removesuffix("_l2"), {"cases": []})
        self.least = {tuple(c["w"]): (c["error"], c["q"]) for c in entry["cases"]}

    def cases(self, dtypes):
        large = [w for key, w in vectors.large().items() if key.startswith("weights.")]
        for dtype in dtypes:
            for w in (*vectors.TINY, *large):
                for rest in [(s,) for s in (0.0, 0.5, 2.0)] if self.with_strength else [()]:
                    yield (np.array(w, dtype), *rest)

    def fault(self, case: Case) -> Fault | None:
        x, *rest = case
        inputs = _named(x, rest)
        u = run(self.fn, inputs, x)
        if isinstance(u, Fault):
            return u
        eps = 64 * float(np.finfo(x.dtype).eps)
        w, q = x.astype(np.float64), u.astype(np.float64)
        top = np.abs(w).max()
        if rest:
            (s,) = rest
            if s == 0:
                if np.abs(q - w).max() <= eps * top:
                    return None
                return Fault("wrong strength", "strength 0 changed the weights", inputs, u, x)
            q, eps = ((1 + s) * q - w) / s, eps * (1 + s) / s
        q = np.where(np.abs(q) <= eps * top, 0.0, q)
        least, best = self._least(w)
        if least is not None and least < eps * eps * top * top:
            least = 0.0  # not the rounding of a search
        if best is not None and rest:
            best = (w + s * best) / (1 + s)
        expected = None if best is None else best.astype(x.dtype)
        explained = self._explain(w, q, least, eps * top)
        if explained is None:
            return None
        kind, detail = explained
        if rest and kind == "not quantized":
            kind = "not a prox"
            detail = f"not (x + s q) / (1 + s) with a quantized q: {detail}"
        return Fault(kind, detail, inputs, u, expected)

    def _explain(self, w, q, least, close):
        fam = self.family
        outside = self.outside(q, close)
        if outside and not fam.zero and not fam.offset and self.outside(q[w != 0], close) is None:
            return "sign(0)", "a weight of 0 went to 0, which is not among the levels"
        if outside:
            return "not quantized", outside
        magnitudes = np.unique(np.abs(w))
        alike = len(magnitudes) == 1 or (fam.zero and len(magnitudes) == 2 and magnitudes[0] == 0)
        if alike and np.abs(q - w).max() > close:
            ratio = np.abs(q).max() / magnitudes[-1] if magnitudes[-1] else np.inf
            for factor, word in ((2, "twice"), (0.5, "half")):
                if abs(ratio - factor) <= 1e-3:
                    return "factor of two", f"the levels are {word} as large as they should be"
            return "wrong scale", f"weights of one magnitude are scaled by {ratio:.6g}"
        error = 0.5 * np.square(q - w).sum()
        if least is None or error > least + close * (np.abs(w - q).sum() + close * w.size):
            levels = np.unique(q)
            nearest = levels[np.abs(np.subtract.outer(w, levels)).argmin(axis=1)]
            i = int(np.argmax(np.abs(w - q) - np.abs(w - nearest)))
            if np.abs(w - q)[i] > np.abs(w - nearest)[i] + close:
                return "not nearest", (
                    f"{w[i]:.6g} went to {q[i]:.6g}, although {nearest[i]:.6g}, a level of the "
                    "same tensor, is nearer"
                )
            if least is not None:
                return "not optimal", (
                    f"1/2 ||q - w||^2 is {error:.6g}, but {least:.6g} is possible"
                )
        return None

    def outside(self, q: Floats, close: float) -> str | None:
        """Why the values of q cannot all be levels of one tensor; None if they can."""
        fam, r = self.family, self.r
        levels = _distinct(q, close)
        if isinstance(r, TernaryL2) and not fam.symmetric:
            for side, word in ((levels[levels > 0], "positive"), (levels[levels < 0], "negative")):
                if len(side) > 1:
                    return f"{len(side)} different {word} levels, one is possible"
            return None
        if fam.symmetric:
            levels = _distinct(np.abs(levels), close)
            levels = levels[levels > 0] if fam.zero else levels
        if len(levels) > fam.magnitudes:
            what = "magnitudes" if fam.symmetric else "levels"
            return f"{len(levels)} different {what}, {fam.magnitudes} are possible"
        if isinstance(r, UniformL2) and len(levels):
            start = 0 if fam.symmetric else levels[0]
            most = fam.magnitudes - (not fam.symmetric)
            steps = [(levels[-1] - start) / c for c in range(1, most + 1)]
            offsets = [(levels - start) / (a or 1) for a in steps]
            if not any(
                (np.abs(c - np.rint(c)) * (a or 1) <= close).all()
                for a, c in zip(steps, offsets, strict=True)
            ):
                return "the levels are not evenly spaced"
        if len(levels) == 4 and fam.magnitudes == 4 and not isinstance(r, UniformL2):
            a, b, c, d = levels  # the sums of three bits: a + d = b + c, or d - a = b + c
            if min(abs(a + d - b - c), abs(d - a - b - c)) > 4 * close:
                return "the magnitudes are not |a_1 +- a_2 +- a_3|"
        return None

    def _least(self, w):
        """(the least 1/2 ||q - w||^2, a q that has it), each None where it is not known."""
        if tuple(w) in self.least:
            error, q = self.least[tuple(w)]
            return error, np.array(q)
        if self.family.exact is not None:
            q = self.family.exact.project(w)
            return 0.5 * np.square(q - w).sum(), q
        if len(self.r.levels(w)) ** len(w) <= 32:
            return exhaustive_prox(w, np.inf, self.family.codes(len(w)), self.family.offset)
        return None, None

    def named(self, fault: Fault, cases: list[Case]) -> tuple[str, str] | None:
        """As `_Fixed.named`: the strength that explains every result, of a prox."""
        cases = [case for case in cases if self.with_strength and case[1]]
        for factor, convention, detail in (
            (2, "factor of two", "the strength is doubled"),
            (0.5, "factor of two", "the strength is halved"),
            (np.inf, "wrong strength", "projects at every strength > 0"),
        ):
            if cases and all(self._contains(case, factor * case[1]) for case in cases):
                return convention, detail
        return None

    def _contains(self, case, s):
        """Whether the result is (x + s q) / (1 + s) with a valid q."""
        x, u = case[0].astype(np.float64), run(self.fn, _named(case[0], case[1:]), case[0])
        if isinstance(u, Fault):
            return False
        q = u.astype(np.float64) if np.isinf(s) else ((1 + s) * u - x) / s
        close = 64 * float(np.finfo(case[0].dtype).eps) * np.abs(x).max() * (1 + 1 / s)
        explained = self._explain(x, np.where(np.abs(q) <= close, 0.0, q), None, close)
        return explained is None or explained[0] in self.valid

    def gaps(self):
        """The relative excess of the squared error on the golden tensors, by their names.

        Over the least; or, where that is not known, over the error of this package's own heuristic.
        """
        kind = next((k for k, r in QUANTIZERS.items() if r == self.family.exact), None)
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
        u = run(self.fn, _named(w, (1.0,) if self.with_strength else ()), w)
        if isinstance(u, Fault):
            return np.nan
        q = 2 * u.astype(np.float64) - w if self.with_strength else u
        return 0.5 * np.square(np.subtract(q, w, dtype=np.float64)).sum()


def _distinct(values, close):
    """The distinct values, ascending, those within `close` of the one before taken as one."""
    ordered = np.sort(values)
    return ordered[np.append(True, np.diff(ordered) > close)] if len(ordered) else ordered
