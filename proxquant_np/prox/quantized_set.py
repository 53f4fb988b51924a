"""What a quantized set Q is: the levels that weights may have, and the projection onto them.

Rounding, packing and the quantization gap need nothing but Q. What pulls weights towards Q little
by little, a regularizer, is a distance to it (distances.py).

There are two kinds of sets. Some have fixed levels, the same for all weights (`QuantizedSet` with
`_levels`: binary.py, levels.py); the levels of others are fitted to the weights (`Fitted` with
`_fit`: ternary.py, multibit.py, uniform.py).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.libraries import moved
from proxquant_np.prox.arrays import Floats, as_output, as_weights, fill, quiet
from proxquant_np.prox.nearest import pick, thresholds


class QuantizedSet(ABC):
    """A set Q of quantized weights, with the projection P(w) = argmin_{q in Q} ||q - w||^2.

    Weights: float32 or float64 arrays (or nested lists of floats, read as float64) of any shape.
    Results keep shape and dtype; the input is never modified. Sets are pure, and equal if their
    parameters are. At a tie a weight goes to the upper of two levels.

    exact: whether `project` is P; if not, it is a heuristic that still gives a point of Q.
    contains_zero: whether 0 is a level, whatever the weights.
    axis, block: which weights share levels: those at one index along that axis, a run of that many
    weights in C order, or, if both are None, the whole array.

    A subclass defines its fields and `_levels(x)`, ascending and in the dtype of x. If the levels
    depend on the weights, derive from `Fitted`. Prox, packing and checks of other code then work.

    Raises, before anything is written:
        TypeError: weights or `out` have another dtype.
        ValueError: weights are NaN, infinite or missing; `out` does not fit.

    Examples:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class PowersOfTwo(pq.prox.QuantizedSet):
        ...     n: int
        ...
        ...     def _levels(self, x):
        ...         powers = 2.0 ** np.arange(1 - self.n, 1)
        ...         return np.concatenate([-powers[::-1], [0], powers]).astype(x.dtype)
        ...
        >>> Q = PowersOfTwo(3)
        >>> Q.levels([0.0])
        array([-1.  , -0.5 , -0.25,  0.  ,  0.25,  0.5 ,  1.  ])
        >>> Q.project([0.3, -0.8, 7.0]), Q.contains_zero
        (array([ 0.25, -1.  ,  1.  ]), True)
        >>> pq.prox.L1(Q).prox([0.3, -0.8, 7.0], strength=0.125)
        array([ 0.25 , -0.925,  6.875])
        >>> pq.packing.Codes.of(np.array([0.3, -0.8, 7.0]), Q).bits
        3
        >>> pq.conformance.check_quantizer(Q.project, Q).verdict
        'right'
    """

    elementwise: ClassVar[bool] = True  # entry i of the projection depends on entry i of w alone
    axis: ClassVar[int | None] = None
    block: ClassVar[int | None] = None
    exact: ClassVar[bool] = True

    def __post_init__(self):
        for field in fields(self):  # NumPy's scalars would show in the text of a set
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())

    @property
    def contains_zero(self) -> bool:
        """Whether 0 is a level, whatever the weights."""
        return bool((self._levels(np.zeros(1)) == 0).any())

    @property
    def fits_l1(self) -> bool:
        """Whether the prox of `L1` is exact: for fixed levels, and for some fitted ones."""
        return self.elementwise

    @quiet
    def project(self, w: ArrayLike, out: Floats | None = None) -> Floats:
        """P(w), in a fresh array or in `out`, which may overlap `w` or be `w`.

        Examples:
            >>> pq.prox.Levels([0, 1]).project([[0.25, 0.75]])
            array([[0., 1.]])
        """
        x = as_weights(w)
        out = as_output(out, x)
        return fill(lambda x, out, tmp: self._project(x, out), x, out, self.elementwise)

    @quiet
    def levels(self, w: ArrayLike) -> Floats:
        """The values that `project(w)` chooses from, ascending along the last axis.

        One row for each group of weights that share levels; a vector if the whole array does.

        Examples:
            >>> pq.prox.Ternary().levels([-1.0, 0.1, 0.0, 3.0, 5.0])
            array([-1.,  0.,  4.])
        """
        x = as_weights(w)
        return moved(self._levels(x), x)

    def codes(self, w: ArrayLike) -> np.ndarray:
        """For each weight, the index of `project(w)` among its `levels(w)`, as uint16.

        Examples:
            >>> pq.prox.Ternary().codes([-1.0, 0.1, 0.0, 3.0, 5.0])
            array([0, 1, 1, 2, 2], dtype=uint16)
        """
        return codes_of(self.project(w), np.atleast_2d(self.levels(w)), self.axis, self.block)

    def map_rows(self, x: Floats, out: Floats, function: Callable[..., None]) -> None:
        """Run function(weights, levels, out) on rows of `x` that share their levels."""
        levels = moved(self._levels(x), x)
        function(x.reshape(1, -1), levels[None], out.reshape(1, -1))

    # For subclasses to define. Arguments have been checked; `out` is like `x`, and fresh.

    @abstractmethod
    def _levels(self, x):
        """The levels, ascending along the last axis, in the dtype of `x`."""

    def _project(self, x, out):
        """Fill `out` with the projection of `x`: the nearest level."""
        self.map_rows(x, out, nearest)


def nearest(rows: Floats, levels: Floats, out: Floats) -> None:
    """Fill `out` with the level among levels[i] that is nearest to each weight of rows[i]."""
    pick(rows, levels, thresholds(levels), out)


def codes_of(q: Floats, levels: Floats, axis: int | None, block: int | None) -> np.ndarray:
    """The index of each entry of `q` among its levels, of which each group has a row."""
    chosen = moved(set_index(q.shape, axis, block), q)
    codes = np.zeros(q.shape, np.uint16 if levels.shape[1] <= 1 << 16 else np.uint32, like=q)
    for level in levels.T[1:]:
        codes += q >= level[chosen]
    return codes


def set_index(shape: tuple[int, ...], axis: int | None, block: int | None) -> np.ndarray:
    """Which row of levels each entry has, in a shape that broadcasts to `shape`."""
    if block is not None:
        return (np.arange(math.prod(shape)) // block).reshape(shape)
    if axis is None:
        return np.zeros((1,) * len(shape), np.intp)
    return np.arange(shape[axis]).reshape((-1,) + (1,) * (len(shape) - 1 - axis % len(shape)))
