"""Results of stochastic rounding: neighbours, frequencies, independence, and the mistakes.

Equal weights are counted together, and how often they go up is held against the binomial
distribution. The products of the deviations of two weights have the mean 0 if their draws are
independent; Hoeffding's inequality bounds how far from it they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.conformance.fixed import EPS
from proxquant_np.conformance.report import Fault
from proxquant_np.conformance.twists import twists
from proxquant_np.prox import QuantizedSet
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.stochastic import upper_part


def neighbours(q: QuantizedSet, x: Floats, factor: float = 1) -> tuple[Floats, Floats, Floats]:
    """(l, h, the probability of h) of each weight, in float64, for levels times a factor."""
    wide = x.astype(np.float64)
    parts = [np.empty_like(wide) for _ in range(3)]
    for k, part in enumerate(parts):
        q.map_rows(
            wide,
            part,
            lambda w, levels, out, k=k: np.copyto(out, upper_part(w, factor * levels)[k]),
        )
    return tuple(parts)


class Seen(NamedTuple):
    """The weights, what came in each call, and the set with its right neighbours."""

    q: QuantizedSet
    x: Floats
    results: Floats
    right: tuple[Floats, Floats, Floats]
    form: list[Fault]

    def fault(self, convention: str, detail: str, i: Any = None) -> Fault:
        """The fault; i: the weight that shows it."""
        i = np.unravel_index(0 if i is None else i, self.x.shape)
        low, high, p = (float(part[i]) for part in self.right)
        expected = f"{high:.6g} with probability {p:.6g}, else {low:.6g}"
        got = f"{self.results[:, *i][:8]} in the first calls"
        return Fault(convention, detail, {"w": f"{self.x[i]} among others"}, got, expected)


def chance_faults(seen: Seen, alarm: float) -> list[Fault]:
    """What is wrong; of a right function anything at all, with a probability of at most `alarm`."""
    right = _near(seen, seen.right)
    if right is None:
        return [_off_the_neighbours(seen, alarm)]
    found = _not_random(seen) or _dependent(seen, right, alarm / 4)
    return found or _biased(seen, right, alarm / 2)


def _near(seen, parts, out=1.0):
    """Which results are the upper neighbour, as booleans; None if some are neither."""
    low, high, _ = (out * part for part in parts)
    eps = EPS[seen.x.dtype]
    close = 64 * eps * (np.abs(low) + np.abs(high) + np.abs(seen.x))
    at_low, at_high = np.abs(seen.results - low) <= close, np.abs(seen.results - high) <= close
    return at_high if (at_low | at_high).all() else None


def _off_the_neighbours(seen, alarm):
    for convention, detail, q, factor, out in _grids(seen.q):
        try:
            parts = neighbours(q, seen.x, factor)
        except (ValueError, np.exceptions.AxisError):
            continue
        ups = _near(seen, parts, out)
        if ups is not None and not _biased(seen._replace(right=parts), ups, alarm):
            return seen.fault(convention, detail, _first_off(seen))
    low, high, _ = seen.right
    moved = np.mean((seen.results - seen.x) / np.where(high > low, high - low, np.inf), axis=0)
    i = _first_off(seen)
    inner = (seen.x > low) & (seen.x < high)
    drift = float(moved[inner].mean()) if inner.any() else 0.0
    at = seen.results[:, *np.unravel_index(i, seen.x.shape)]
    off = at[(np.abs(at - low.flat[i]) > 1e-5) & (np.abs(at - high.flat[i]) > 1e-5)]
    came = off[0] if off.size else at[0]
    detail = f"{seen.x.flat[i]:.6g} went to {came:.6g}, not to a neighbouring level"
    if abs(abs(drift) - 0.5) < 0.05:
        way = "up" if drift > 0 else "down"
        detail += f"; on average weights go half a step {way}: noise with mean 0 then round, or "
        detail += "noise between 0 and 1 then floor, not one with the other"
    return seen.fault("not a neighbour", detail, i)


def _first_off(seen):
    low, high, _ = seen.right
    close = 64 * EPS[seen.x.dtype] * (np.abs(low) + np.abs(high) + np.abs(seen.x))
    off = (np.abs(seen.results - low) > close) & (np.abs(seen.results - high) > close)
    return int(off.any(axis=0).argmax())


def _grids(q) -> Iterator[tuple[str, str, QuantizedSet, float, float]]:
    """(convention, detail, set, factor of its levels, factor of results) of other grids."""
    if not is_dataclass(q):
        return
    own = {field.name for field in fields(q)}
    for twist in twists(q):
        changes: Mapping[str, Any] = twist.changes
        if changes.keys() <= own - {"ties", "overflow"}:
            try:
                yield twist.convention, twist.detail, replace(q, **changes), 1.0, 1.0
            except ValueError:
                continue
        elif changes.keys() <= {"factor", "out"}:
            factor, out = changes.get("factor", 1.0), changes.get("out", 1.0)
            yield twist.convention, twist.detail, q, factor, out


ALWAYS: Sequence[tuple[str, Callable[..., Floats]]] = (
    ("to the nearest level", lambda x, p: np.where(p == 0.5, np.nan, p > 0.5)),
    ("down: floor", lambda x, p: p == 1),
    ("up: ceil", lambda x, p: p > 0),
    ("towards 0", lambda x, p: np.where(x < 0, p > 0, p == 1)),
)


def _not_random(seen):
    p = seen.right[2]
    if (seen.results != seen.results[0]).any() or not ((p > 0) & (p < 1)).any():
        return []
    up = _near(seen, seen.right)[0]
    for words, function in ALWAYS:
        would = function(seen.x, p)
        if (np.isnan(would) | (would == up) | (p == 0) | (p == 1)).all():
            return [
                seen.fault("not random", f"each weight goes {words}, in every call", _between(p))
            ]
    detail = "every call gives the same result: is the generator made, or seeded, in the call?"
    return [seen.fault("not independent", detail, _between(p))]


def _between(p):
    return int(np.abs(p - 0.5).argmin())


def _dependent(seen, up, alarm):
    """A draw that serves several weights or calls, judged by the products of deviations.

    Deviations are from the probabilities; and also from the rates seen, so that a bias does not
    pass for this.
    """
    which, _ = _alike(seen)
    rate = np.bincount(which, up.mean(axis=0).ravel()) / np.bincount(which)
    found = [_products(up - p, alarm) for p in (seen.right[2], rate[which].reshape(seen.x.shape))]
    shared = found[0] & found[1]
    said = {
        ("row", "column"): "one draw serves the whole tensor",
        ("row",): "one draw serves all weights of a row, along the last axis",
        ("column",): "one draw serves all weights of a column, along the first axis",
    }.get(tuple(name for name in ("row", "column") if name in shared))
    said = said or ("two calls in turn have the same draws" if shared else None)
    return [seen.fault("not independent", said, _between(seen.right[2]))] if said else []


def _products(z, alarm):
    """Along what the products of two neighbouring deviations have not the mean 0.

    Hoeffding: with M products between -1 and 1, it exceeds t with probability 2 exp(-M t^2 / 2).
    """
    rows, columns = (n // 2 * 2 for n in z.shape[1:])
    pairs = {
        "row": z[:, :, 0:columns:2] * z[:, :, 1:columns:2],
        "column": z[:, 0:rows:2] * z[:, 1:rows:2],
        "call": z[0::2] * z[1::2],
    }
    return {
        name
        for name, product in pairs.items()
        if product.size
        and abs(product.mean()) > math.sqrt(2 * math.log(2 * len(pairs) / alarm) / product.size)
    }


BIASES: Sequence[tuple[str, Callable[..., Floats]]] = (
    ("both neighbours are equally likely, however far they are", lambda x, p: p * 0 + 0.5),
    ("goes up with the probability of going down", lambda x, p: 1 - p),
    (
        "weights below 0 go up always: is the level below taken by a cast, not by floor?",
        lambda x, p: np.where(x < 0, np.ceil(p), p),
    ),
    (
        "weights below 0 go down always: is the part above the level taken of |w|?",
        lambda x, p: np.where(x < 0, np.floor(p), p),
    ),
    *(
        (
            f"the draw has {2**bits} values only, of {bits} random bits",
            lambda x, p, n=2**bits, rounded=rounded: rounded(p * n) / n,
        )
        for bits in range(1, 6)
        for rounded in (np.floor, np.ceil, np.rint)
    ),
)


def _biased(seen, up, alarm):
    p = seen.right[2]
    i, rate = _unlikely(seen, up, p, alarm)
    if i is None:
        return []
    inner = (p > 0) & (p < 1)
    for words, function in BIASES:
        other = np.where(inner, function(seen.x, p), p)
        if _unlikely(seen, up, other, alarm)[0] is None:
            return [seen.fault("biased", words, i)]
    detail = f"{seen.x.flat[i]:.6g} went up in {rate:.4g} of its draws, not in {p.flat[i]:.4g}"
    return [seen.fault("biased", detail, i)]


def _alike(seen):
    """(for each weight, which group of equal ones it belongs to; the first of each group)."""
    low, high, _ = seen.right
    _, alike = np.unique(seen.x.ravel() + 1j * low.ravel(), return_inverse=True)
    _, first, which = np.unique(
        alike.ravel() + 1j * high.ravel(), return_index=True, return_inverse=True
    )
    return which.ravel(), first


def _unlikely(seen, up, p, alarm):
    """(a weight that goes up too often or too rarely, how often), or (None, 0).

    Equal weights are counted together; the probability is known up to rounding.
    """
    from scipy.stats import binom  # here, because it takes as long to load as all else together

    low, high, _ = seen.right
    step = np.where(high > low, high - low, 1)
    rounding = 64 * EPS[seen.x.dtype] * (1 + (np.abs(seen.x) + np.abs(low)) / step) + 2.0**-23
    which, first = _alike(seen)
    trials = np.bincount(which) * len(up)
    ups = np.bincount(which, up.sum(axis=0).ravel())
    p, rounding = p.ravel()[first], rounding.ravel()[first]
    many = binom.sf(ups - 1, trials, np.minimum(p + rounding, 1))
    few = binom.cdf(ups, trials, np.maximum(p - rounding, 0))
    least = np.minimum(many, few)
    # and all of them together, by Hoeffding, which sees a bias that is small everywhere
    drift = abs(np.sum(ups - trials * p)) / trials.sum() - rounding.max()
    together = 2 * math.exp(-2 * trials.sum() * max(drift, 0) ** 2)
    if least.min() >= alarm / (4 * len(first)) and together >= alarm / 4:
        return None, 0.0
    worst = int(least.argmin())
    return int(first[worst]), float(ups[worst] / trials[worst])
