"""What a quantizing regularizer is, and the two shapes that those here have. Layer 2: NumPy only.

A regularizer R is zero exactly on a quantized set Q. Nearly all here measure the distance to Q,

    L1Distance    R(w) = ||w - P(w)||_1          prox = the point of [w - s, w + s] nearest to P(w)
    L2Distance    R(w) = 1/2 ||w - P(w)||_2^2    prox = (w + s P(w)) / (1 + s)

where P projects on Q, so that a concrete regularizer only says what its Q is: `_project` and
`_levels`. The first line needs a Q of fixed levels, the same for each weight. The second holds for
every closed Q, also for levels fitted to the tensor: of the minimum over u and q in Q of
1/2 ||u - w||^2 + s/2 ||u - q||^2 take the one over u first; it is at a weighted mean of w and q,
and what is left, s / (2 (1 + s)) ||w - q||^2, is least at q = P(w). BinaryRelax has this map (Yin
et al. 2018), as the prox of the squared distance.

Where two minimisers tie (a weight halfway between two levels, a tensor that two fits suit equally)
the prox is a set. Each map takes one of its points, always the same: *the* prox here.

`Regularizer` checks every argument, once, at the public boundary, and walks through large arrays
in blocks; subclasses see clean arrays and hold nothing but mathematics.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[Any]

DTYPES = np.dtype(np.float32), np.dtype(np.float64)

# Numbers may overflow on the way to a right result: x + s, say, when s is near the largest float.
quiet = np.errstate(over="ignore", under="ignore")

BLOCK_BYTES = 1 << 18  # of an elementwise map: what it reads and writes then stays in the cache


def as_weights(w: ArrayLike) -> Floats:
    """`w` as a finite, non-empty array of float32 or float64, else TypeError or ValueError."""
    x = np.asarray(w)
    if x.dtype not in DTYPES:
        raise TypeError(f"w has dtype {x.dtype}; float32 or float64 is accepted")
    if x.size == 0:
        raise ValueError(f"w is empty (shape {x.shape}); at least one weight is needed")
    # One pass instead of two: a sum is finite unless an entry is not, or the sum itself overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = math.isfinite(x.sum()) or np.isfinite(x).all()
    if not finite:
        bad = np.argwhere(~np.isfinite(x))
        first = tuple(bad[0].tolist())
        raise ValueError(
            f"w (shape {x.shape}) has {len(bad)} entries that are NaN or infinite, the first at "
            f"index {first}: {x[first]}; finite weights are accepted"
        )
    return x


def as_strength(strength: float, dtype: np.dtype[Any]) -> Any:
    """`strength`, in [0, inf], as a scalar of `dtype`, else TypeError or ValueError."""
    if isinstance(strength, bool) or not isinstance(strength, Real):
        raise TypeError(f"strength is {strength!r}; a real number is accepted")
    if not strength >= 0:  # also refuses NaN
        raise ValueError(f"strength is {strength}; a number >= 0 is accepted (infinity projects)")
    s = dtype.type(strength)
    return s if s or not strength else np.nextafter(s, dtype.type(1))  # 0 is a case of its own


def check_integer(name: str, number: int, least: float = -math.inf, most: float = math.inf) -> None:
    """TypeError unless it is an integer, ValueError unless least <= number <= most."""
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise TypeError(f"{name} is {number!r}; an integer is accepted")
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}; an integer in [{least}, {most}] is accepted")


def check_choice(name: str, choice: str, choices: tuple[str, ...]) -> None:
    """ValueError unless `choice` is one of `choices`."""
    if choice not in choices:
        raise ValueError(f"{name} is {choice!r}; one of {choices} is accepted")


def as_output(out: Floats | None, x: Floats) -> Floats:
    """`out`, if it is writeable and has the shape and dtype of `x`; a fresh array if it is None."""
    if out is None:
        return np.empty(x.shape, x.dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}; a NumPy array is accepted")
    if out.dtype != x.dtype:
        raise TypeError(f"out has dtype {out.dtype}; that of the weights, {x.dtype}, is accepted")
    if out.shape != x.shape:
        raise ValueError(f"out has shape {out.shape}; that of the weights, {x.shape}, is accepted")
    if not out.flags.writeable:
        raise ValueError("out is read-only; a writeable array is accepted")
    return out


class Regularizer(ABC):
    """A function R of the weights, zero exactly on the quantized set Q, with prox and projection.

    Weights: float32 or float64 arrays (or nested lists of floats, read as float64) of any shape.
    Results keep shape and dtype; the input is never modified. Regularizers are pure, and equal when
    their parameters are.

    TypeError: weights or `out` of another dtype. ValueError: NaN, infinite or no weights, strength
    < 0 or NaN, an `out` that does not fit. All is checked before anything is written.

    Examples:
        >>> [pq.prox.TernaryL2(), pq.prox.BinaryL1()]
        [TernaryL2(), BinaryL1()]
        >>> pq.prox.BinaryL1() == pq.prox.BinaryL1()
        True
        >>> pq.prox.BinaryL1().prox([0.5], strength=-1)
        Traceback (most recent call last):
            ...
        ValueError: strength is -1; a number >= 0 is accepted (infinity projects)
    """

    elementwise: ClassVar[bool] = True  # entry i of prox and project depends on entry i of w alone

    @quiet
    def value(self, w: ArrayLike) -> float:
        """R(w), computed in float64 whatever the dtype of `w`.

        Examples:
            >>> pq.prox.BinaryL1().value([-1.0, 0.75])
            0.25
        """
        return float(self._value(as_weights(w)))

    @quiet
    def prox(self, w: ArrayLike, strength: float, out: Floats | None = None) -> Floats:
        """argmin_u 1/2 ||u - w||^2 + strength * R(u).

        Strength 0 gives the weights, bit for bit; infinity gives the projection. The result is a
        fresh array, or `out`, which may overlap `w` and may be `w`.

        Examples:
            >>> w = np.array([0.5, -1.5], np.float32)
            >>> out = pq.prox.BinaryL1().prox(w, strength=0.25, out=w)
            >>> out is w, w
            (True, array([ 0.75, -1.25], dtype=float32))
        """
        x = as_weights(w)
        s = as_strength(strength, x.dtype)

        def kernel(x, out, tmp):
            if s == 0:
                np.copyto(out, x)
            else:
                self._prox(x, s, out, tmp)

        return self._fill(kernel, x, as_output(out, x))

    @quiet
    def project(self, w: ArrayLike, out: Floats | None = None) -> Floats:
        """P(w) = argmin_{u in Q} ||u - w||^2, in a fresh array or in `out`, as for `prox`.

        Examples:
            >>> pq.prox.LevelsL2([0, 1]).project([[0.25, 0.75]])
            array([[0., 1.]])
        """
        x = as_weights(w)
        return self._fill(lambda x, out, tmp: self._project(x, out), x, as_output(out, x))

    @quiet
    def levels(self, w: ArrayLike) -> Floats:
        """The values that `project(w)` chooses from, ascending along the last axis.

        Examples:
            >>> pq.prox.TernaryL2().levels([-1.0, 0.1, 0.0, 3.0, 5.0])
            array([-1.,  0.,  4.])
        """
        return self._levels(as_weights(w))

    def _fill(self, kernel, x, out):
        """Run kernel(x, out, tmp), in blocks if it treats each entry alone, and return `out`.

        A kernel reads `x`, fills `out` and may use `tmp`: C-contiguous, one shape, no overlap.
        """
        if not out.flags.c_contiguous:
            out[...] = self._fill(kernel, x, np.empty(x.shape, x.dtype))
            return out
        in_place = self.elementwise and out is x
        if not x.flags.c_contiguous or (np.may_share_memory(x, out) and not in_place):
            x = x.copy()
        if not self.elementwise:
            kernel(x, out, np.empty_like(x))
            return out
        source, target = x.reshape(-1), out.reshape(-1)
        step = min(x.size, BLOCK_BYTES // x.itemsize)
        tmp, held = np.empty((2, step), x.dtype)  # once: fresh memory costs page faults
        for start in range(0, x.size, step):
            block, n = slice(start, start + step), min(step, x.size - start)
            if in_place:
                np.copyto(held[:n], source[block])
            kernel(held[:n] if in_place else source[block], target[block], tmp[:n])
        return out

    # What a subclass says. All arguments have passed the checks; `out` and `tmp` are like `x`.

    @abstractmethod
    def _value(self, x):
        """R(x)."""

    @abstractmethod
    def _prox(self, x, s, out, tmp):
        """Fill `out` with the prox of `x`, 0 < s <= inf, a scalar of the same dtype."""

    @abstractmethod
    def _project(self, x, out):
        """Fill `out` with the projection of `x`."""

    @abstractmethod
    def _levels(self, x):
        """The levels of `_project`, ascending along the last axis."""


class _Distance(Regularizer):
    def _residual(self, x):
        return np.subtract(x, self.project(x), dtype=np.float64)


class L1Distance(_Distance):
    """R(w) = ||w - P(w)||_1, for fixed levels: draws each weight to its level at constant speed."""

    def _value(self, x):
        return np.abs(self._residual(x)).sum()

    def _prox(self, x, s, out, tmp):
        # P(x) clipped to [x - s, x + s]. This is x - clip(x - P(x), -s, s), but a weight within s
        # of its level lands on it exactly, where x - (x - level) would miss it by a rounding error.
        self._project(x, out)
        np.maximum(out, np.subtract(x, s, out=tmp), out=out)
        np.minimum(out, np.add(x, s, out=tmp), out=out)


class L2Distance(_Distance):
    """R(w) = 1/2 ||w - P(w)||_2^2, for any closed Q: draws each weight in proportion."""

    def _value(self, x):
        return 0.5 * np.square(self._residual(x)).sum()

    def _prox(self, x, s, out, tmp):
        self._project(x, out)
        weighted_mean(x, s, out, tmp)


def weighted_mean(x: Floats, s: Any, q: Floats, tmp: Floats) -> None:
    """Overwrite q with (x + s q) / (1 + s), 0 <= s <= inf, as a step from the heavier of the two.

    So s * q cannot overflow, x = q gives q exactly, and the error is a rounding of the heavier one.
    """
    if s < 1:  # x + (q - x) * s / (1 + s)
        q -= x
        q *= s / (1 + s)
        q += x
    else:  # q + (x - q) / (1 + s)
        np.subtract(x, q, out=tmp)
        tmp /= 1 + s
        q += tmp
