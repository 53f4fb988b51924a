"""What the survey measures of a quantizer and of a prox, whatever is behind the function.

A quantizer is a function of a matrix of weights, one row for each output. Where its scale depends
on the weights, one of them is watched while the largest and the sum of the absolute values in its
row stay as they are. Every answer is a word or a number that goes into the record.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Map = Callable[..., np.ndarray]
ROWS = 8
GRID = 4097  # weights that are looked at between the smallest and the largest
SHOWN = 129  # of which these are drawn
STRENGTH = 0.5


class Refused(Exception):
    """The function raised an error, or gave no array of the same shape: the message says which."""


def called(fn: Map, *args: Any) -> np.ndarray:
    """fn(*args); Refused unless it is an array in the shape of the first argument."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            out = np.asarray(fn(*args))
        except Refused:
            raise
        except Exception as error:  # another library's, of any kind
            raise Refused(type(error).__name__) from error
    if out.shape != args[0].shape:
        raise Refused(f"an array of shape {out.shape} for weights of shape {args[0].shape}")
    return out


class Quantizer:
    """A function of matrices with `width` columns, and weights to try on it.

    peak: the largest weight that is tried.
    """

    def __init__(self, fn: Map, width: int, peak: float):
        self.fn, self.width, self.peak = fn, width, peak
        rng = np.random.default_rng(0)
        self.weights = (rng.normal(size=(ROWS, width)) * peak / 3).clip(-peak, peak)
        self.weights = self.weights.astype(np.float32)

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return called(self.fn, w)

    def rows(self, x: np.ndarray) -> np.ndarray:
        """A row for each watched weight, |x| <= peak: its largest and its sum of |w| are fixed."""
        w = np.full((len(x), self.width), self.peak / 2, np.float32)
        w[:, ::2] *= -1
        w[:, -4], w[:, -3] = self.peak, -self.peak
        w[:, -2], w[:, -1] = self.peak - np.abs(x), x
        return w

    def at(self, x: np.ndarray) -> np.ndarray:
        """What becomes of the watched weight, for each of its values."""
        x = np.asarray(x, np.float32)
        filled = np.resize(x, -(-len(x) // ROWS) * ROWS)  # whole batches of rows
        return self(self.rows(filled))[: len(x), -1]

    def grid(self, points: int) -> np.ndarray:
        """Weights from -peak to peak."""
        return np.linspace(-self.peak, self.peak, points, dtype=np.float32)

    def fine_grid(self) -> np.ndarray:
        """More of them, and more and more towards 0, for levels that are floats themselves."""
        towards = self.peak * 2.0 ** -np.linspace(0, 20, 641)
        both = np.concatenate([self.grid(GRID), towards, -towards]).astype(np.float32)
        return np.unique(both)


def quantizer_record(fn: Map, width: int, peak: float) -> dict[str, Any]:
    """All that is measured of a quantizer; a measurement that it refuses has the word "refused"."""
    q, found = Quantizer(fn, width, peak), {}
    for measure in QUANTIZER_MEASURES:
        try:
            with np.errstate(all="ignore"):  # infinity is an answer, too
                found[measure.__name__] = measure(q)
        except Refused as refused:
            found[measure.__name__] = {"refused": str(refused)}
    return found


def map_on_grid(q: Quantizer) -> dict[str, Any]:
    """The picture, in units of the largest weight."""
    x = q.grid(SHOWN)
    return {"x": short(x / q.peak), "q": short(q.at(x) / q.peak)}


def zero(q: Quantizer) -> dict[str, Any]:
    """What becomes of 0 and of -0.0 among other weights, in units of the largest."""
    plus, minus = (float(v) for v in q.at(np.array([0.0, -0.0])))
    signs = {"0": plus, "-0": minus}
    return {k: short(v / q.peak) for k, v in signs.items()} | {
        "keeps the sign of -0": bool(minus == 0 and np.signbit(minus))
    }


def levels(q: Quantizer) -> dict[str, Any]:
    """How many, the smallest and largest in units of the largest weight, and the ties between.

    Values that differ by rounding are one level.
    """
    x = q.fine_grid()
    y = q.at(x)
    values = np.unique(y)
    found = values[[True, *~_same(q, values[1:], values[:-1])]]
    ends = {"from": short(found[0] / q.peak), "to": short(found[-1] / q.peak)}
    if len(found) > 600:
        return {"count": "more than 600"} | ends
    several = {"count": len(found), "values": len(values)} | ends
    jumps = np.flatnonzero(~_same(q, y[1:], y[:-1]))
    if len(jumps) == 0:
        return several
    below, above = _bisected(q, x[jumps], x[jumps + 1])
    return several | _ties(below, above, q.at(below), q.at(above))


def _same(q, a, b):
    """Whether values are equal but for rounding."""
    return np.isclose(a, b, rtol=4e-6, atol=1e-9 * q.peak)


def _bisected(q, below, above):
    """Neighbouring floats of which the first goes to one level and the second to another."""
    left = q.at(below)
    while True:
        middle = ((below.astype(np.float64) + above) / 2).astype(np.float32)
        if ((middle == below) | (middle == above)).all():
            return below, above
        same = _same(q, q.at(middle), left)
        below, above = np.where(same, middle, below), np.where(same, above, middle)


def _ties(below, above, low, high):
    """Whether thresholds lie halfway, and where weights exactly halfway go."""
    low, high = low.astype(np.float64), high.astype(np.float64)
    middle = (low + high) / 2
    gap = np.where(high == low, 1, high - low)
    halfway = np.abs((below - low) / gap - 0.5) < 1e-3
    tied = halfway & (middle == middle.astype(np.float32))
    up = np.where(middle >= above, 1, np.where(middle <= below, 0, -1))[tied]
    at = middle[tied]
    known = up >= 0  # else the threshold is further off than rounding explains
    shares = {"thresholds": len(low), "halfway": int(halfway.sum()), "ties": int(known.sum())}
    first = np.flatnonzero(below > 0)[:1]
    where = (
        {"first positive threshold": short((below[first[0]] - low[first[0]]) / gap[first[0]])}
        if (len(first) and not halfway.all())
        else {}
    )
    return shares | {"ties go": direction(at[known], up[known] == 1)} | where


def direction(at: np.ndarray, up: np.ndarray) -> str:
    """The convention by which ties at these weights go up, or down."""
    if len(at) == 0:
        return "no tie is a float"
    positive = at > 0
    if up.all():
        return "up"
    if not up.any():
        return "down"
    if (up == positive).all():
        return "away from zero"
    alternate = len(up) > 2 and (up[1:] != up[:-1]).mean() > 0.98
    if (up != positive).all():
        return "to zero"
    return "to even" if alternate else "up and down"


def largest(q: Quantizer) -> dict[str, Any]:
    """What becomes of a row's largest weight, positive or negative, over itself."""
    found = {}
    for name, sign in (("positive", 1), ("negative", -1)):
        w = q.weights.copy() * np.float32(0.9)
        w[:, 5] = sign * q.peak
        found[name] = short(float(q(w)[0, 5]) / (sign * q.peak))
    return found


def binary_already(q: Quantizer) -> dict[str, Any]:
    """What becomes of weights that are all 0.7 or -0.7 of the largest, over 0.7."""
    a = np.float32(0.7 * q.peak)
    w = np.where(q.weights < 0, -a, a)
    out = q(w)
    return {
        "positive": distinct(out[w > 0] / a),
        "negative": distinct(out[w < 0] / a),
        "kept to the bit": bool((out == w).all()),
    }


def constant(q: Quantizer) -> dict[str, Any]:
    """What becomes of a tensor whose weights are all 0.7 of the largest, or all its negative."""
    a = np.float32(0.7 * q.peak)
    both = (("positive", a), ("negative", -a))
    return {name: distinct(q(np.full_like(q.weights, c)) / c) for name, c in both}


def one_sided(q: Quantizer) -> dict[str, Any]:
    """What becomes of the smallest and the largest weight, over themselves, if all are positive."""
    w = np.linspace(0.25, 1, q.weights.size, dtype=np.float32).reshape(q.weights.shape)
    w = np.ascontiguousarray(w[:, ::-1] * np.float32(q.peak))
    w[:, 0], w[:, -1] = q.peak, q.peak / 4  # in each row, the largest first and the smallest last
    out = q(w) / w
    return {"smallest": short(float(out[0, -1])), "largest": short(float(out[0, 0]))}


def zeros(q: Quantizer) -> list[float] | str:
    """What becomes of a tensor of zeros."""
    return distinct(q(np.zeros_like(q.weights)) / q.peak)


def scaled(q: Quantizer) -> dict[str, Any]:
    """How far q(c w) / c is from q(w), over the largest weight, for small and for large c."""
    size = np.abs(q.weights).max()
    found = {}
    for name, c in (("2^-20", np.float32(2.0**-20)), ("2^20", np.float32(2.0**20))):
        found[name] = short(np.abs(q(c * q.weights) / c - q(q.weights)).max() / size, 2)
    return found


def one_element(q: Quantizer) -> dict[str, Any]:
    """What becomes of a matrix with one weight, 0.7 of the largest, over itself."""
    a = np.float32(0.7 * q.peak)
    return {"becomes": distinct(q(np.full((1, 1), a)) / a)}


def one_output(q: Quantizer) -> dict[str, Any]:
    """Whether the first row alone gives what it gives among the others."""
    alone, among = q(q.weights[:1].copy()), q(q.weights)[:1]
    return {"as among others": bool(np.array_equal(alone, among))}


def scale_shared_by(q: Quantizer) -> str:
    """Which other weights move if one of them grows beyond all."""
    w = q.weights.copy()
    before = q(w)
    w[0, 0] = 5 * q.peak
    moved = q(w) != before
    moved[0, 0] = False
    if not moved.any():
        return "none: fixed levels"
    if moved[1:, 1:].any():
        return "the tensor"
    if moved[1:, 0].any():
        return "the column"
    last = int(np.flatnonzero(moved[0]).max()) + 1
    block = next(b for b in (2**k for k in range(20)) if b >= last)
    return "the row" if block >= q.width else f"blocks of {block}"


def dtypes(q: Quantizer) -> dict[str, Any]:
    """Which dtypes come back, and whether from float64 more than float32 numbers."""
    found: dict[str, Any] = {}
    for dtype in ("float32", "float64"):
        try:
            out = q(q.weights.astype(dtype) * (1 + 1e-9))
            found[dtype] = str(out.dtype)
        except Refused as refused:
            found[dtype] = f"refused: {refused}"
    if found["float64"] == "float64":
        found["more than float32"] = bool((out != out.astype(np.float32)).any())
    return found


def again(q: Quantizer) -> dict[str, Any]:
    """How far a second call moves the result, and which call is the first that moves nothing."""
    out = first = q(q.weights)
    size, moves = float(np.abs(q.weights).max()), []
    for _ in range(20):
        out, before = q(out.astype(np.float32)), out
        moves.append(float(np.abs(out - before).max()) / size)
        if moves[-1] == 0:
            break
    still = len(moves) + 1 if moves[-1] == 0 else "none of 20"
    drift = float(np.abs(out - first).max()) / size
    return {"second call moves": short(moves[0], 2), "still from": still, "drift": short(drift, 2)}


def odd(q: Quantizer) -> dict[str, Any]:
    """The largest |q(-w) + q(w)| over the largest weight: 0 if q(-w) = -q(w)."""
    both = np.abs(q(-q.weights) + q(q.weights)).max() / np.abs(q.weights).max()
    return {"differs by": short(both, 2)}


def same_twice(q: Quantizer) -> bool:
    """Whether two calls on the same weights agree."""
    return bool(np.array_equal(q(q.weights), q(q.weights)))


QUANTIZER_MEASURES = (
    map_on_grid,
    zero,
    levels,
    largest,
    binary_already,
    constant,
    one_sided,
    zeros,
    scaled,
    one_element,
    one_output,
    scale_shared_by,
    dtypes,
    again,
    odd,
    same_twice,
)

PENALTIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "soft_threshold": np.abs,
    "hard_threshold": lambda u: (u != 0).astype(float),
    "ridge": lambda u: u**2 / 2,
    "huber": lambda u: np.where(np.abs(u) <= 1, u**2 / 2, np.abs(u) - 0.5),
    "mcp": lambda u: np.where(np.abs(u) <= 3, np.abs(u) - u**2 / 6, 1.5),
    "binary_relax": lambda u: (np.abs(u) - 1) ** 2 / 2,
}
"""R of the proxes in the survey, under the name of its definition: |u|, the number of u that are
not zero, u^2/2, Huber's function with delta = 1, the minimax concave penalty with gamma = 3, and
half the squared distance to -1 and 1."""

FACTORS = (1.0, 2.0, 0.5, 4.0, 0.25)


def prox_record(fn: Map, penalty: str) -> dict[str, Any]:
    """All that is measured of fn(x, strength), meant to be the prox of a penalty of PENALTIES."""
    found = {}
    measures = (
        lambda: prox_map(fn),
        lambda: objective(fn, PENALTIES[penalty]),
        lambda: prox_zero(fn),
        lambda: threshold(fn),
        lambda: prox_dtypes(fn),
        lambda: prox_one_element(fn),
        lambda: prox_odd(fn),
        lambda: strength_zero(fn),
    )
    for name, measure in zip(PROX_MEASURES, measures, strict=True):
        try:
            found[name] = measure()
        except Refused as refused:
            found[name] = {"refused": str(refused)}
    return found


PROX_MEASURES = (
    "map_on_grid",
    "objective",
    "zero",
    "threshold",
    "dtypes",
    "one_element",
    "odd",
    "strength_zero",
)


def prox_map(fn: Map) -> dict[str, Any]:
    """The picture, at strength 1/2."""
    x = np.linspace(-4, 4, SHOWN)
    return {"x": short(x), "q": short(called(fn, x, STRENGTH))}


def objective(fn: Map, penalty: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """The factor c for which fn(x, s) minimises 1/2 (u - x)^2 + c s R(u), and by how much not.

    For two strengths, on weights that are no ties; the excess is that over the least objective
    found on a fine grid of u, for c = 1.
    """
    x = np.linspace(-4.03, 4.07, 101)
    grid = np.linspace(-5, 5, 20001)
    excess = {c: 0.0 for c in FACTORS}
    for s in (STRENGTH, 0.2):
        u = called(fn, x, s)
        for c in FACTORS:
            values = (grid[None] - x[:, None]) ** 2 / 2 + c * s * penalty(grid)[None]
            at_zero = x**2 / 2 + c * s * penalty(np.zeros(1))
            least = np.minimum(values.min(axis=1), at_zero)
            reached = (u - x) ** 2 / 2 + c * s * penalty(u)
            excess[c] = max(excess[c], float((reached - least).max()))
    fits = next((c for c in FACTORS if excess[c] < 1e-5), None)
    return {
        "factor": fits if fits is not None else "none of those tried",
        "excess": short(excess[1.0], 2),
    }


def prox_zero(fn: Map) -> dict[str, Any]:
    """What becomes of 0 and -0.0 among other weights."""
    out = called(fn, np.array([0.0, -0.0, 1.0]), STRENGTH)
    return {
        "0": short(out[0]),
        "-0": short(out[1]),
        "keeps the sign of -0": bool(np.signbit(out[1])),
    }


def threshold(fn: Map) -> dict[str, Any]:
    """The largest weight that becomes 0 at strength 1/2, and whether the boundary does, too."""
    zero_at = lambda x: called(fn, np.array([x, 3.0]), STRENGTH)[0] == 0  # noqa: E731
    if zero_at(3.5) or not zero_at(2.0**-40):
        return {"at": None}
    low, high = 2.0**-40, 3.5
    while np.nextafter(low, high) < high and (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if zero_at(middle) else (low, middle)
    boundary = float(f"{low:.5g}")
    where = "to 0" if zero_at(boundary) else "kept"
    return {"at": boundary, "a weight there goes": where}


def prox_dtypes(fn: Map) -> dict[str, Any]:
    """The dtypes that come back for float32 and for float64."""
    found = {}
    for dtype in ("float32", "float64"):
        try:
            found[dtype] = str(called(fn, np.array([0.3, -2.1, 1.0], dtype), STRENGTH).dtype)
        except Refused as refused:
            found[dtype] = f"refused: {refused}"
    return found


def prox_one_element(fn: Map) -> dict[str, Any]:
    """Whether one weight alone goes where it goes among others."""
    x = np.array([1.75, -0.3, 3.0])
    return {"as among others": bool(called(fn, x[:1], STRENGTH)[0] == called(fn, x, STRENGTH)[0])}


def prox_odd(fn: Map) -> dict[str, Any]:
    """The largest |p(-x) + p(x)|: 0 if p(-x) = -p(x)."""
    x = np.linspace(0.01, 4.01, 101)
    return {
        "differs by": short(np.abs(called(fn, -x, STRENGTH) + called(fn, x, STRENGTH)).max(), 2)
    }


def strength_zero(fn: Map) -> dict[str, Any]:
    """Whether strength 0 changes nothing."""
    x = np.array([0.25, -2.125, 1.0])  # also in float32
    return {"changes nothing": bool(np.array_equal(called(fn, x, 0.0), x))}


def short(values: Any, digits: int = 6) -> Any:
    """Floats with a few digits; what is not finite as a word."""
    if np.ndim(values):
        return [short(v, digits) for v in np.asarray(values).tolist()]
    v = float(values)
    return float(f"{v:.{digits}g}") if np.isfinite(v) else str(v)


def distinct(values: np.ndarray) -> list[float] | str:
    """The values that occur, or how many."""
    found = np.unique(np.asarray(values, np.float64).round(12))
    return (
        short(found)
        if len(found) <= 4
        else f"{len(found)} values from {short(found[0])} to {short(found[-1])}"
    )
