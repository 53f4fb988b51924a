"""Binary weights, Q = {-1, +1}^d, and the W-shaped regularizers that vanish on them.

    BinaryL1    R(w) = sum_i | |w_i| - 1 |            prox = w - clip(w - sign_pm(w), -s, s)
    BinaryL2    R(w) = 1/2 sum_i (|w_i| - 1)^2        prox = (w + s sign_pm(w)) / (1 + s)

At 0 both levels are equally near, and the prox has two values. This library always takes the one
towards +1, also at -0.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.prox.arrays import Floats, as_weights
from proxquant_np.prox.distances import L1, L2
from proxquant_np.prox.quantized_set import QuantizedSet


def sign_pm(w: ArrayLike) -> Floats:
    """+1 where w >= 0, also at -0.0, and -1 where w < 0, in the dtype of `w`.

    Errors as for the weights of a `QuantizedSet`. Never use numpy.sign: it is 0 at 0.

    Examples:
        >>> pq.prox.sign_pm([-0.2, -0.0, 3.0])
        array([-1.,  1.,  1.])
    """
    x = as_weights(w)
    out = np.empty_like(x)
    _sign_pm(x, out)
    return out


def _sign_pm(x, out):
    # copysign(1, x + 0.0), where + 0.0 turns -0.0 into 0.0. Keeping the sign bit and setting the
    # bits of 1.0 is equivalent and twice as fast, which dominates the time of BinaryL1.prox.
    zero, one = x.dtype.type(0), x.dtype.type(1)
    np.add(x, zero, out=out)
    bits = out.view(f"u{x.itemsize}")
    bits &= (-zero).view(bits.dtype)
    bits |= one.view(bits.dtype)


@dataclass(frozen=True)
class Binary(QuantizedSet):
    """Q = {-1, +1}^d, with the projection sign_pm.

    It equals Levels([-1, 1]), but is faster.

    Examples:
        >>> pq.prox.Binary().project([-0.2, -0.0, 3.0])
        array([-1.,  1.,  1.])
    """

    def _levels(self, x):
        return np.array([-1, 1], x.dtype)

    def _project(self, x, out):
        _sign_pm(x, out)


class BinaryL1(L1):
    """L1(Binary()): R(w) = sum_i | |w_i| - 1 |.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = w - clip(w - sign_pm(w), -s, s). Repeated, it
    reaches -1 and +1 exactly. Any shape, float32 or float64; errors as for `Regularizer`.
    Source: Bai, Wang, Liberty 2019, Section 3.1, equations 3 and 7, and Appendix A.1.

    Examples:
        >>> r = pq.prox.BinaryL1()
        >>> r.prox([-1.5, -0.5, 0.2, 1.1], strength=0.25)
        array([-1.25, -0.75,  0.45,  1.  ])
        >>> r.prox([-1.5, -0.5, 0.2, 1.1], strength=np.inf)
        array([-1., -1.,  1.,  1.])
    """

    of = Binary


class BinaryL2(L2):
    """L2(Binary()): R(w) = 1/2 sum_i (|w_i| - 1)^2.

    prox(w, s) = argmin_u 1/2 ||u - w||^2 + s R(u) = (w + s sign_pm(w)) / (1 + s). Any shape,
    float32 or float64; errors as for `Regularizer`.
    Source: Bai, Wang, Liberty 2019, Section 3.1 and Appendix A.1, the squared version.

    Examples:
        >>> r = pq.prox.BinaryL2()
        >>> r.value([0.0, 1.0]), r.prox([0.0, 3.0], strength=1.0)
        (0.5, array([0.5, 2. ]))
    """

    of = Binary
