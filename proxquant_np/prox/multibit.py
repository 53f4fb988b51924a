"""k-bit weights with fitted levels, {a_1 b_1 + ... + a_k b_k, each b_j in {-1, +1}}.

The levels come in pairs +-, so a weight has the sign of its level, and what remains is to fit
2^(k-1) magnitudes to |w|. For k = 1 the best is the mean. For k = 2 the magnitudes
|a_1 - a_2| <= a_1 + a_2 can be any two numbers, and the best two are the means of the lower and the
upper part of sorted |w|: two-means on a line, exact by prefix sums. From k = 3 on the magnitudes
depend on one another, and a greedy start is refined by alternating between nearest levels and least
squares for a.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations, permutations, product

import numpy as np

from proxquant_np.checks import check_integer
from proxquant_np.libraries import moved
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.brute_force import multibit_codes
from proxquant_np.prox.distances import L1, L2
from proxquant_np.prox.fitted import (
    Fitted,
    best_split,
    distinct,
    mean,
    sums_from,
    too_many_magnitudes,
)
from proxquant_np.prox.huber import locations
from proxquant_np.prox.nearest import thresholds


@dataclass(frozen=True, repr=False)
class MultiBit(Fitted):
    """Q = all w in {sum_j a_j b_j, b_j = +-1}^d for some a, which P fits to w.

    n_bits: 1 to 8. projection: "greedy", a_j = mean|r|, r being the residual of the terms before;
    "alternating", which starts there and `rounds` times takes nearest levels, then least squares
    for a, never raising the error; or "exact", for 1 and 2 bits only. Weights always go to their
    nearest level. Whether weights already lie on Q is decided exactly up to 4 bits; from 5 bits on,
    a row with at most 2^(n_bits-1) magnitudes counts as quantized, with these as its levels.

    One bit with `axis=0` is the exact form of binary weights with one scale per channel (BWN,
    XNOR-Net). Otherwise see `Fitted`. Sources: Guo et al. 2017, network sketching, for greedy; Xu
    et al. 2018, alternating multi-bit quantization; Rastegari et al. 2016 for one bit; Pouransari,
    Tu, Tuzel 2020 for optimal 2 bits, here by prefix sums.

    Examples:
        >>> w = np.array([-3.0, -1.0, 1.0, 3.25])
        >>> pq.prox.MultiBit(n_bits=1).project(w)
        array([-2.0625, -2.0625,  2.0625,  2.0625])
        >>> pq.prox.MultiBit(n_bits=2).levels(w)
        array([-3.125, -1.   ,  1.   ,  3.125])
    """

    n_bits: int
    projection: str = "alternating"
    rounds: int = 2

    projections = ("greedy", "alternating", "exact")
    symmetric = True

    def __post_init__(self):
        super().__post_init__()
        check_integer("n_bits", self.n_bits, least=1, most=8)
        check_integer("rounds", self.rounds, least=0)
        if self.projection == "exact" and self.n_bits > 2:
            raise ValueError(f"n_bits must be 1 or 2 for projection='exact', got {self.n_bits}")

    @property
    def exact(self) -> bool:
        """Whether `project` gives a nearest point of Q; with one bit it always does."""
        return self.projection == "exact" or self.n_bits == 1

    def _fit(self, rows):
        if self.projection == "exact" and self.n_bits == 2:
            ordered = np.abs(rows)
            ordered.sort(axis=1)
            magnitudes = _two_means(ordered)
        else:
            a = _greedy(rows, self.n_bits)
            if self.projection == "alternating" and self.n_bits > 1:  # one bit is exact already
                for _ in range(self.rounds):
                    a = _least_squares(rows, a)
            magnitudes = _codes(a)[0]
        return np.concatenate([-magnitudes[:, ::-1], magnitudes], axis=1)

    def _may_be_quantized(self, first, ulp):
        m = np.sort(np.abs(first), axis=1)[:, ::-1]
        new = np.insert(m[:, 1:] != m[:, :-1], 0, True, axis=1)
        rank = new.cumsum(axis=1)
        possible = rank[:, -1] <= 2 ** (self.n_bits - 1)
        if self.n_bits in (3, 4):  # with two bits the count suffices; see _are_sums
            i = np.flatnonzero(possible & (rank[:, -1] > self.n_bits))
            largest = m[i][new[i] & (rank[i] <= self.n_bits + 1)].reshape(-1, self.n_bits + 1)
            possible[i] = _nearly_related(largest.astype(np.float64), 256 * ulp[i])
        return possible

    def _own_levels(self, values, ulp):
        magnitudes = np.unique(np.abs(values))
        missing = 2 ** (self.n_bits - 1) - len(magnitudes)
        if missing < 0 or not _are_sums(magnitudes, self.n_bits, 16 * ulp):
            return None
        upper = np.pad(magnitudes, (0, missing), "edge")
        return np.concatenate([-upper[::-1], upper])

    def _fit_huber(self, rows, s):
        ordered = np.sort(np.abs(rows), axis=1).astype(np.float64)
        a, cost = locations(ordered[:, ::-1], s)  # of the upper parts, from the largest on
        magnitudes = a[:, -1:]
        if self.n_bits == 2:
            lower, rest = locations(-ordered, s)
            cost[:, :-1] += rest[:, -2::-1]
            m = np.argmin(cost, axis=1)[:, None]
            upper = np.take_along_axis(a, m, axis=1)
            left = np.maximum(ordered.shape[1] - 2 - m, 0)
            lower = np.where(m + 1 < ordered.shape[1], np.take_along_axis(-lower, left, 1), upper)
            magnitudes = np.concatenate([lower, upper], axis=1)
        return np.concatenate([-magnitudes[:, ::-1], magnitudes], axis=1)

    def exactly(self) -> MultiBit | None:
        """The same Q with its exact projection, which is known for 1 and 2 bits."""
        return replace(self, projection="exact") if self.n_bits <= 2 else None

    def code_matrices(self, n: int) -> Iterable[Floats]:
        """As `Fitted` says."""
        return multibit_codes(n, self.n_bits)

    def why_not(self, values: Floats, close: float) -> str | None:
        """As `Fitted` says; for more than 3 bits, magnitudes are only counted."""
        m = distinct(np.abs(values), close)
        if self.n_bits == 3 and len(m) == 4:
            a, b, c, d = m  # the sums of three bits: a + d = b + c, or d - a = b + c
            if min(abs(a + d - b - c), abs(d - a - b - c)) > 4 * close:
                return "the magnitudes are not |a_1 +- a_2 +- a_3|"
        return too_many_magnitudes(values, close, 2 ** (self.n_bits - 1), zero=False)


class MultiBitL2(L2):
    """L2(MultiBit(...)): R(w) = 1/2 ||w - P(w)||_2^2, with P(w) in {sum_j a_j b_j, b_j = +-1}^d.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s P(w)) / (1 + s), exact if P is. For the
    parameters see `MultiBit`.

    Examples:
        >>> w = np.array([-3.0, -1.0, 1.0, 3.25])
        >>> pq.prox.MultiBitL2(n_bits=2).prox(w, strength=1.0)
        array([-3.0625, -1.    ,  1.    ,  3.1875])
    """

    of = MultiBit


class MultiBitL1(L1):
    """L1(MultiBit(...)): R(w) = min of ||w - q||_1 over q in {sum_j a_j b_j, b_j = +-1}^d and a.

    n_bits: 1 or 2, since we know no exact search from 3 on. prox(w, s) = argmin_u
    1/2 ||u - w||^2 + s R(u), exact, by the search of `MultiBit` with Huber's loss in place of the
    square; see `L1`. Source: ours.

    Examples:
        >>> w = [-3.0, -1.0, 1.0, 3.0]
        >>> pq.prox.MultiBitL1(n_bits=1).value(w), pq.prox.MultiBitL1(n_bits=2).value(w)
        (4.0, 0.0)
    """

    of = MultiBit
    fixed = {"projection": "exact", "rounds": 2}


def _are_sums(magnitudes, n_bits, close):
    """Whether these are, to within `close`, among |+-a_1 +- ... +- a_k| for some a. True if k > 4.

    Up to k magnitudes always are. If there are more, k of them with independent signs determine a,
    and the three largest can be among these k, since three rows of signs are independent if no two
    are equal or opposite. So all ways to give them signs are tried.
    """
    if len(magnitudes) <= n_bits or n_bits > 4:
        return True
    m = magnitudes.astype(np.float64)[::-1]
    known = np.array([[*m[:3], *more] for more in combinations(m[3:], n_bits - 3)])
    signs, inverses = _sign_systems(n_bits)
    levels = np.abs(np.einsum("skj,bj,lk->sbl", inverses, known, signs, optimize=True))
    away = np.abs(levels[..., None] - m).min(axis=2).max(axis=2)
    return away.min() <= close


def _nearly_related(m, bound):
    """Whether k + 1 distinct magnitudes in each row are related as |+-a_1 +- ... +- a_k| must be.

    k + 1 rows of k signs are linearly dependent, and so are the numbers they give. By Cramer's rule
    the coefficients are minors of signs. For k = 3 all are +-1; for k = 4 one of the five is 0 or
    +-2 and the others are +-1. Magnitudes that differ only by rounding may share a row of signs.
    """
    related = (m[:, :-1] - m[:, 1:]).min(axis=1) <= bound
    for c in _relations(m.shape[1]):
        related |= np.abs(m @ c) <= bound
    return related


@cache
def _relations(n):
    """The coefficients of `_nearly_related`, up to sign, for n = k + 1 magnitudes."""
    sizes = {4: [(1, 1, 1, 1)], 5: [(1, 1, 1, 1, 2), (1, 1, 1, 1, 0)]}[n]
    signs = [(1, *s) for s in product((1, -1), repeat=n - 1)]
    found = {
        tuple(np.multiply(p, s).tolist()) for q in sizes for p in permutations(q) for s in signs
    }
    return np.array(sorted(found), float)


@lru_cache
def _sign_systems(n_bits):
    """The rows of k signs, up to sign; the inverses of the regular systems of k rows.

    Of systems that differ only in order and sign of columns, which are those of a, one is kept.
    """
    rows = list(product([1.0, -1.0], repeat=n_bits))
    systems = {
        tuple(sorted(zip(rows[0], *others, strict=True)))
        for others in permutations(rows[1:], n_bits - 1)
    }
    systems = np.array(sorted(systems)).mT
    return np.array(rows[: len(rows) // 2]), np.linalg.inv(
        systems[np.abs(np.linalg.det(systems)) > 0.5]
    )


def _codes(a):
    """The non-negative levels of each row of coefficients, ascending, and their codes b."""
    signs = moved(np.array(list(product([-1.0, 1.0], repeat=a.shape[1]))), a)
    levels = a @ signs.T
    order = np.argsort(levels, axis=1, kind="stable")[:, len(signs) // 2 :]
    return np.maximum(np.take_along_axis(levels, order, axis=1), 0), signs[order]


def _greedy(rows, n_bits):
    """a_j = mean|r|, r being the residual of the terms before; its sign is the code b_j."""
    a = np.empty((len(rows), n_bits), like=rows)
    left = np.abs(rows)
    for j in range(n_bits):
        a[:, j] = mean(left)
        left -= a[:, j : j + 1].astype(left.dtype)
        np.abs(left, out=left)
    return a


def _least_squares(rows, a):
    """The best coefficients if each weight keeps the code of its nearest level."""
    levels, codes = _codes(a)
    first = thresholds(levels.astype(rows.dtype))
    counts, sums = sums_from(
        rows,
        np.concatenate([np.zeros_like(first[:, :1]), first], axis=1),
        [np.abs] * levels.shape[1],
    )
    # From "at least this level" to "exactly this level": subtract the next one.
    counts[:, :-1] -= counts[:, 1:].copy()
    sums[:, :-1] -= sums[:, 1:].copy()
    gram = np.einsum("rm,rmj,rmk->rjk", counts, codes, codes)
    right = np.einsum("rm,rmj->rj", sums, codes)
    return np.abs(_pseudo_inverse(gram, 1e-12) @ right[..., None])[..., 0]


def _pseudo_inverse(gram, rcond):
    """As np.linalg.pinv, whose form for symmetric matrices other libraries lack."""
    values, vectors = (part[..., ::-1] for part in np.linalg.eigh(gram))
    kept = values > rcond * values[..., :1]
    inverse = np.where(kept, 1 / np.where(kept, values, 1), 0)
    return vectors @ (inverse[..., None] * vectors.mT)


def _two_means(ordered):
    """For each row, the means of its lower and upper part, split to minimise the squared error.

    There the variance between the parts, m (n - m) (upper - lower)^2 / n^2, is greatest.
    """
    n = ordered.shape[1]
    total = ordered.sum(axis=1, dtype=np.float64, keepdims=True)

    def deviation(i, sums, m):  # sqrt(m (n - m)) (upper - lower), over a common denominator
        return (m * total[i] - n * sums) / np.sqrt(np.maximum(m * (n - m), 1))

    m, sums = best_split(ordered, deviation)
    upper = (total - sums) / np.maximum(n - m, 1)
    # Each clipped to the range of its part, so that equal weights have exactly their mean.
    ends = [np.take_along_axis(ordered, k, axis=1) for k in (m - 1, np.minimum(m, n - 1))]
    lower = np.clip(sums / m, ordered[:, :1], ends[0])
    return np.concatenate([lower, np.clip(upper, ends[1], ordered[:, -1:])], axis=1)
