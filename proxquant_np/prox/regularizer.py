"""What a quantizing regularizer R is: a set Q, and a function with a prox that is zero on Q.

Nearly all measure a distance to Q, see distances.py. `Regularizer` checks every argument once, at
the public boundary, and processes large arrays in blocks; subclasses see clean arrays and contain
nothing but mathematics.

If minimisers tie (a weight halfway between two levels, a tensor with two equally good fits), the
prox is a set. Each map always takes the same point of it: *the* prox here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.checks import check_callable, check_instance
from proxquant_np.libraries import on_host
from proxquant_np.prox.arrays import Floats, as_output, as_strength, as_weights, fill, quiet
from proxquant_np.prox.quantized_set import QuantizedSet


class Regularizer(ABC):
    """A function R of the weights, zero exactly on the quantized set Q, with its prox.

    Weights: float32 or float64 arrays (or nested lists of floats, read as float64) of any shape.
    Results keep shape and dtype; the input is never modified. Regularizers are pure, and equal if
    their parameters are. `set` is Q; `project` and `levels` are those of Q.

    TypeError: weights or `out` have another dtype. ValueError: weights are NaN, infinite or
    missing, strength is < 0 or NaN, or `out` does not fit. Nothing is written before all checks.

    A subclass has the attribute `set` and defines `_value(x)` and `_prox(x, s, out, tmp)`.

    Examples:
        >>> [pq.prox.TernaryL2(), pq.prox.BinaryL1()]
        [TernaryL2(), BinaryL1()]
        >>> pq.prox.BinaryL1().set
        Binary()
        >>> pq.prox.BinaryL1() == pq.prox.L1(pq.prox.Binary())
        True
        >>> pq.prox.BinaryL1().prox([0.5], strength=-1)
        Traceback (most recent call last):
            ...
        ValueError: strength must be a number >= 0, got -1
    """

    set: QuantizedSet

    @property
    def elementwise(self) -> bool:
        """Whether entry i of prox and project depends only on entry i of the weights."""
        return self.set.elementwise

    @quiet
    def value(self, w: ArrayLike) -> float:
        """R(w), computed in float64 for any dtype of `w`.

        Examples:
            >>> pq.prox.BinaryL1().value([-1.0, 0.75])
            0.25
        """
        return float(self._value(as_weights(w)))

    @quiet
    def prox(self, w: ArrayLike, strength: float, out: Floats | None = None) -> Floats:
        """argmin_u 1/2 ||u - w||^2 + strength * R(u).

        Strength 0 returns the weights bit for bit, infinity the projection. The result is a fresh
        array or `out`, which may overlap `w` or be `w`.

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

        return fill(kernel, x, as_output(out, x), self.elementwise)

    def project(self, w: ArrayLike, out: Floats | None = None) -> Floats:
        """P(w) = argmin_{q in Q} ||q - w||^2, in a fresh array or in `out`, as for `prox`.

        Examples:
            >>> pq.prox.LevelsL2([0, 1]).project([[0.25, 0.75]])
            array([[0., 1.]])
        """
        return self.set.project(w, out)

    def levels(self, w: ArrayLike) -> Floats:
        """The values that `project(w)` chooses from, ascending along the last axis.

        Examples:
            >>> pq.prox.TernaryL2().levels([-1.0, 0.1, 0.0, 3.0, 5.0])
            array([-1.,  0.,  4.])
        """
        return self.set.levels(w)

    # For subclasses to define. Arguments have been checked; `out` and `tmp` are like `x`.

    @abstractmethod
    def _value(self, x):
        """R(x)."""

    @abstractmethod
    def _prox(self, x, s, out, tmp):
        """Fill `out` with the prox of `x`; s is a scalar of its dtype, 0 < s <= inf."""


class ProxFunction(Regularizer):
    """A plain function (w, strength) -> w in place of a regularizer's prox.

    It receives a copy of the weights and, as a float, any strength >= 0, including infinity, which
    asks for the projection. It must return finite weights of the same shape and dtype. Since R and
    Q are not known, `value`, `project` and `levels` raise a TypeError; whatever needs only Q takes
    a set instead.

    Examples:
        >>> def soft_sign(w, strength):
        ...     q = np.where(w >= 0, 1, -1)
        ...     return np.clip(q, w - strength, w + strength).astype(w.dtype)
        ...
        >>> pq.prox.as_regularizer(soft_sign).prox([0.5, -3.0], strength=0.25)
        array([ 0.75, -2.75])
    """

    set: Any = None
    elementwise = False

    def __init__(self, function: Callable[[Floats, float], Floats]) -> None:
        self.function = check_callable("function", function, "a function (w, strength) -> w")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProxFunction) and self.function == other.function

    def __hash__(self) -> int:
        return hash((ProxFunction, self.function))

    def __repr__(self) -> str:
        f = self.function
        name = getattr(f, "__qualname__", type(f).__qualname__)
        return f"ProxFunction({getattr(f, '__module__', '')}.{name})"

    def prox(self, w: ArrayLike, strength: float, out: Floats | None = None) -> Floats:
        """function(w, strength), checked."""
        x = as_weights(w)
        as_strength(strength, x.dtype)
        out = as_output(out, x)
        u = self.function(x.copy(), float(strength))
        fits = isinstance(u, np.ndarray | np.generic) if on_host(x) else isinstance(u, type(x))
        if not fits or u.dtype != x.dtype or u.shape != x.shape:
            came = f"{np.shape(u)} of {getattr(u, 'dtype', type(u).__name__)}"
            raise TypeError(
                f"{self!r} must return an array of shape {x.shape} and dtype {x.dtype}, got "
                f"{came} (result.astype(w.dtype) keeps the dtype)"
            )
        if on_host(x) and not np.isfinite(u).all():
            raise ValueError(f"{self!r} must return finite weights, got NaN or infinity")
        np.copyto(out, u)
        return out

    def _prox(self, x, s, out, tmp):
        np.copyto(out, self.function(x.copy(), float(s)))

    def _value(self, x):
        raise self._unknown("R")

    def project(self, w: ArrayLike, out: Floats | None = None) -> Floats:
        """TypeError: Q is not known."""
        raise self._unknown("Q")

    def levels(self, w: ArrayLike) -> Floats:
        """TypeError: Q is not known."""
        raise self._unknown("Q")

    def _unknown(self, what):
        return TypeError(
            f"{self!r} is a plain function, whose {what} is not known: give a quantized set such "
            "as Binary(), or a regularizer such as L1(Binary())"
        )


Prox = Regularizer | Callable[[Floats, float], Floats]
"""What may be given wherever a prox is needed."""


def as_regularizer(thing: Prox | QuantizedSet, *, hard: bool = False) -> Regularizer:
    """A Regularizer unchanged, a function (w, strength) -> w as a `ProxFunction`.

    With hard=True, which means that only the projection will be used, a quantized set is accepted,
    too. TypeError for anything else.

    Examples:
        >>> pq.prox.as_regularizer(pq.prox.BinaryL1())
        BinaryL1()
        >>> pq.prox.as_regularizer(pq.prox.Binary(), hard=True)
        L2(Binary())
        >>> pq.prox.as_regularizer(pq.prox.Binary())
        Traceback (most recent call last):
            ...
        TypeError: regularizer must be a distance to a set, such as L1(Binary()), got Binary()
    """
    if isinstance(thing, QuantizedSet):
        from proxquant_np.prox.distances import L2  # imported here because it imports this file

        if hard:
            return L2(thing)
        raise TypeError(
            f"regularizer must be a distance to a set, such as L1({thing!r}), got {thing!r}"
        )
    if isinstance(thing, Regularizer):
        return thing
    if isinstance(thing, type) or not callable(thing):
        raise TypeError(
            f"regularizer must be a Regularizer or a function (w, strength) -> w, got {thing!r}"
        )
    return ProxFunction(thing)


def as_set(thing: QuantizedSet | Regularizer) -> QuantizedSet:
    """A quantized set unchanged, or a regularizer's set; TypeError for anything else.

    Examples:
        >>> pq.prox.as_set(pq.prox.BinaryL1()), pq.prox.as_set(pq.prox.Binary())
        (Binary(), Binary())
    """
    found = thing.set if isinstance(thing, Regularizer) else thing
    if found is None or (callable(thing) and not isinstance(thing, type)):
        raise TypeError(
            f"regularizer must have a quantized set, got the plain function {thing!r}: give a set "
            "such as Binary(), or a regularizer such as L1(Binary())"
        )
    return check_instance("regularizer", found, QuantizedSet, "a Regularizer or a QuantizedSet")
