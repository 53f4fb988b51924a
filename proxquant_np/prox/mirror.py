"""Mirror descent on [-1, 1]^d as a lazy map: the latent is the dual point, mapped back by tanh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxquant_np.prox.binary import Binary
from proxquant_np.prox.regularizer import Regularizer


@dataclass(frozen=True)
class TanhMirror(Regularizer):
    """R(w) = sum_i h((1 + w_i)/2), h(p) = -p ln p - (1 - p) ln(1 - p): zero exactly on {-1, +1}^d.

    R is the entropy of signs with mean w, infinite outside [-1, 1]. Its `prox` is no proximal map:

        prox(z, s) = argmax_u s <z, u> + R(u) = tanh(s z),  s the inverse temperature,

    the mirror map of -R. So `DualAveraging` with it is mirror descent; as s grows, the map tends to
    the projection and the method to BinaryConnect. Strength 0 is the identity, as in every map.
    Source: Ajanthan et al. 2021, Mirror Descent View for Neural Network Quantization.

    Examples:
        >>> r = pq.prox.TanhMirror()
        >>> r.prox([-0.5, 0.0, 2.0], strength=1.0).round(3)
        array([-0.462,  0.   ,  0.964])
        >>> r.prox([-0.5, 0.0, 2.0], strength=np.inf)
        array([-1.,  1.,  1.])
        >>> round(r.value([1.0, 0.0]), 4)
        0.6931
    """

    set = Binary()

    def _value(self, x):
        p = (1 + x.astype(np.float64)) / 2
        if not ((p >= 0) & (p <= 1)).all():
            return np.inf
        odds = np.stack([p, 1 - p])
        return -(odds * np.log(np.where(odds > 0, odds, 1))).sum() + 0.0

    def _prox(self, x, s, out, tmp):
        if np.isinf(s):
            return self.set._project(x, out)
        np.multiply(x, s, out=tmp)
        np.tanh(tmp, out=out)
