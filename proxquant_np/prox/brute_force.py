"""Slow references that use no formula, which everything else is compared with.

Proxes are compared by *objective values*, 1/2 ||u - x||^2 + s R(u), never by minimisers, so neither
ties nor nonconvex regularizers need an exemption.

    search_prox        one weight at a time, using only `value`: for fixed levels
    prox_fault         what is wrong with a given prox map, in words, or None
    exhaustive_prox    all codes of a tiny tensor: for fitted levels
    excess_error       the relative excess error of a projection over an exact one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise, product

import numpy as np

from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.regularizer import Regularizer

GOLDEN = (math.sqrt(5) - 1) / 2


def objective(regularizer: Regularizer, u: Floats, x: Floats, strength: float) -> float:
    """1/2 ||u - x||^2 + strength * R(u), in float64; at strength 0, R may be infinite."""
    move = np.subtract(u, x, dtype=np.float64)
    return 0.5 * np.square(move).sum() + (strength and strength * regularizer.value(u))


def search_prox(regularizer: Regularizer, x: Floats, strength: float) -> Floats:
    """A minimiser of 1/2 ||u - x||^2 + strength * R(u), strength < inf, if R is a sum over weights.

    For each weight, all levels, x itself and a grid over them are tried. Then golden section
    searches the two cells around the best of these, and those around every other valley that may be
    as deep, judging by its neighbours. All candidates have the dtype of `x`. For a weight halfway
    between two levels both sides are equally good, and only the upper one is searched.
    """
    levels = regularizer.levels(x)
    u = np.array([_search(regularizer, v, levels, strength) for v in x.flat], x.dtype)
    return u.reshape(x.shape)


def _search(regularizer, x, levels, strength):
    def cost(u):
        return objective(regularizer, np.array([u], x.dtype), x, strength)

    low, high = min(x, levels[0]), max(x, levels[-1])  # beyond them both terms grow
    if x in (levels[:-1] + levels[1:]) / 2:
        low = x
    grid = np.linspace(low, high, 65, dtype=x.dtype)
    candidates = sorted({*grid.tolist(), *levels[levels >= low].tolist(), float(x)})
    costs = [math.inf, *(cost(u) for u in candidates), math.inf]
    found = [candidates[int(np.argmin(costs)) - 1]]
    for i, (left, here, right) in enumerate(zip(costs, costs[1:], costs[2:], strict=False)):
        rise = max((c - here for c in (left, right, here) if c < math.inf), default=0.0)
        if here <= min(left, right) and here - rise <= min(costs):
            found += [_golden(cost, *cell) for cell in pairwise(candidates[max(i - 1, 0) : i + 2])]
    return min(found, key=cost)


def _golden(cost, a, b):
    """A local minimiser of cost on [a, b], by golden section."""
    left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    costs = cost(left), cost(right)
    for _ in range(40):
        if costs[0] <= costs[1]:
            b, right = right, left
            left = b - GOLDEN * (b - a)
            costs = cost(left), costs[0]
        else:
            a, left = left, right
            right = a + GOLDEN * (b - a)
            costs = costs[1], cost(right)
    return (a + b) / 2


def prox_fault(
    prox: Callable[[Floats, float], Floats], regularizer: Regularizer, x: Floats, strength: float
) -> str | None:
    """What is wrong with `prox(x, strength)`, strength < inf, if R is a sum over weights; or None.

    It must not modify `x`, must keep shape and dtype, return finite weights, and be the identity at
    strength 0; the objective of each weight must be within rounding of that of `search_prox`; and a
    weight halfway between two levels must not go down.
    """
    before = x.copy()
    u = prox(x, strength)
    if x.tobytes() != before.tobytes():
        return "the input was modified"
    if not isinstance(u, np.ndarray) or u.shape != x.shape:
        return f"the result has shape {np.shape(u)}, the weights have {x.shape}"
    if u.dtype != x.dtype:
        return f"the result has dtype {u.dtype}, the weights have {x.dtype}"
    if not np.isfinite(u).all():
        return "the result holds NaN or infinity"
    if strength == 0:
        return None if u.tobytes() == x.tobytes() else "strength 0 changed the weights"

    levels = regularizer.levels(x)
    ties = (levels[:-1] + levels[1:]) / 2
    reference = search_prox(regularizer, x, strength)
    for got, best, v in zip(u.flat, reference.flat, x.flat, strict=True):
        cost, least = (objective(regularizer, np.array([c]), v, strength) for c in (got, best))
        scale = float(max(1, abs(v), abs(levels[0]), abs(levels[-1])))
        if cost > least + 32 * float(np.finfo(x.dtype).eps) * scale**2:
            return f"not optimal: {v} went to {got} (objective {cost}), but {best} has {least}"
        if v in ties and got < v:
            return f"wrong tie: {v}, halfway between two levels, went down to {got}"
    return None


def ternary_codes(n: int, symmetric: bool) -> Iterable[Floats]:
    """Every way to give n weights one of the levels -a, 0, a (or neg, 0, pos), as matrices B.

    The quantized weights are B @ a with coefficients a >= 0: a, or (-neg, pos).
    """
    for code in product([-1.0, 0.0, 1.0], repeat=n):
        c = np.array(code)[:, None]
        yield c if symmetric else np.hstack([np.minimum(c, 0), np.maximum(c, 0)])


def multibit_codes(n: int, n_bits: int) -> Iterable[Floats]:
    """Every n x n_bits matrix B of signs. The quantized weights are B @ a; a >= 0 loses nothing."""
    for code in product([-1.0, 1.0], repeat=n * n_bits):
        yield np.array(code).reshape(n, n_bits)


def uniform_codes(n: int, n_bits: int, symmetric: bool) -> Iterable[Floats]:
    """Every way to give n weights a code c of a uniform grid, as matrices of one column.

    The quantized weights are a c or, with `offset`, z + a c, where a >= 0 loses nothing.
    """
    end = 2 ** (n_bits - 1) - 1
    grid = np.arange(-end, end + 1.0) if symmetric else np.arange(2.0**n_bits)
    for code in product(grid, repeat=n):
        yield np.array(code)[:, None]


def threshold_codes(w: Floats, n_bits: int) -> Iterable[Floats]:
    """The codes of {-a, 0, a} (n_bits 0), or of 1 or 2 bits, that a threshold on |w| can give.

    The best code is one of them, because each weight has its nearest level; so they suffice for
    tensors that are too large to try all codes.
    """
    sign = np.where(w >= 0, 1.0, -1.0)
    for least in np.unique(np.abs(w)):
        above = np.abs(w) >= least
        code = sign * above if n_bits == 0 else sign
        yield np.stack([code, sign * np.where(above, 1, -1)][: max(1, n_bits)], axis=1)


def exhaustive_prox(
    x: Floats, strength: float, codes: Iterable[Floats], offset: bool = False
) -> tuple[float, Floats]:
    """The minimum of 1/2 ||u - x||^2 + strength/2 ||u - B a||^2 over u, a >= 0 and B in codes.

    Returns the minimum and its u. With `offset`, B a becomes B a + z for a number z. Infinite
    strength projects: u = B a. There is one least squares problem in (u, a, z) for each B; an a
    that is not >= 0 can be skipped, as a code with zeros in its place does better. Of equal minima
    the first counts on every machine, since a later one must be lower by more than rounding.
    """
    x = np.asarray(x, np.float64).reshape(-1)
    n, best, rounding = x.size, (math.inf, x), 1e-14 * np.square(x).sum()
    for b in codes:
        k = b.shape[1]
        if offset:
            b = np.hstack([b, np.ones((n, 1))])
        if math.isinf(strength):
            a = np.linalg.lstsq(b, x)[0]
            u, cost = b @ a, 0.5 * np.square(b @ a - x).sum()
        else:
            root = math.sqrt(strength)
            matrix = np.block([[np.eye(n), np.zeros_like(b)], [root * np.eye(n), -root * b]])
            solution = np.linalg.lstsq(matrix, np.append(x, np.zeros(n)))[0]
            u, a = solution[:n], solution[n:]
            cost = 0.5 * np.square(u - x).sum() + 0.5 * strength * np.square(u - b @ a).sum()
        if cost < best[0] - rounding and (a[:k] >= -1e-9 * np.abs(x).max()).all():
            best = cost, u
    return best


def excess_error(
    quantized: QuantizedSet | Regularizer, exact: QuantizedSet | Regularizer, w: Floats
) -> float:
    """The relative excess error of P: ||w - P(w)||^2 / ||w - P*(w)||^2 - 1, P* being exact's P.

    It is 0 if both errors are 0, and infinity if only that of `exact` is.
    """
    error, least = (
        np.square(np.subtract(w, r.project(w), dtype=np.float64)).sum() for r in (quantized, exact)
    )
    if least == 0:
        return 0.0 if error == 0 else math.inf
    return float(error / least - 1)
