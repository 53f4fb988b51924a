r"""Lazy prox-gradient need not converge where the eager one does.

    lazy     z_{t+1} = z_t - lr grad L(w_t),  w_t = prox_{s R}(z_t)      (`by_projection`)
    eager    w_{t+1} = prox_{s R}(w_t - lr grad L(w_t))                  (`prox_gradient`)

**Theorem.** Let L(w) = w^2/2, so beta = 1, and 0 < lr <= 1/2. For each R below and strength s the
lazy latent can alternate forever between +z and -z, and the weight between +w and -w, where
z = lr w / 2:

    BinaryL2    z = lr s / (2 (1 + s) - lr)       for every s > 0
    BinaryL1    z = lr min(s / (2 - lr), 1/2)     for every s > 0; 1/2 is BinaryConnect's cycle
    SmoothW     w^2 = 1 - (1 - lr/2) / s          for s > 1 - lr/2; there is none otherwise

A run that starts on the cycle stays there, and nearby starts converge to it; for BinaryL2 every
start does. (From s = 1 - lr/2 on, BinaryL1 is BinaryConnect: each start has its own two-cycle.)
Where R has a gradient, F = L + (s / lr) R has grad F(w) = (3/2 - 1/lr) w. Its size is at least w/2
at every step, so neither its last value, nor its smallest, nor its mean tends to 0. The eager
iterates for the same L, R, lr and s converge to a point where grad F = 0.

Proof. A latent alternates if -z = z - lr w, that is z = lr w / 2, and w is the prox of z > 0. Solve
for each prox. Since the prox is stationary, s grad R(w) = z - w = -(1 - lr/2) w; divide by lr
and add grad L(w) = w to get grad F(w). Nearby, |z| goes to lr prox(|z|) - |z|, whose slope,
lr prox' - 1, lies in (-1, 1) if 0 < lr prox' < 2. For BinaryL2 prox' = 1/(1 + s); for BinaryL1 it
is 1, or 0 at +-1. For SmoothW it is 1/(1 - s + 3 s w^2) = 1/(2 (s - 1) + 3/2 lr), below 2/lr for
the given s; for a smaller s, |z| falls to 0, as lr prox' <= lr/(1 - s) <= 2. For BinaryL2 let
a = 1 - lr/(1 + s), b = lr s / (1 + s): z > 0 goes to a z - b, which falls until it is in [-b, 0);
from there on the sign changes at every step and |z| goes to b - a |z|.

With this library's strength lr * lambda and a fixed lambda, BinaryL2 cycles at every lr, however
small; the smooth W cycles only if lr (lambda + 1/2) > 1, because its curvature at 0 is bounded. A
prox whose strength s does not shrink with lr, as in BinaryRelax, cycles at every lr if s >= 1.
Letting lr fall to 0 does not help: z falls with it, and w keeps alternating between +-s / (1 + s).

Source: Bai, Wang, Liberty 2019, equation 13 (lazy prox-gradient), Theorem 5.2 and Remark 5.2
(L = theta^2/2 and a smoothed W). The cycles, their thresholds and their attraction are derived
here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from proxquant_np.checks import check_number
from proxquant_np.prox import L1, L2, Binary, Regularizer
from proxquant_np.theory.toys import SmoothW


class TwoCycle(NamedTuple):
    """The latent alternates between +-latent, the weight between +-weight.

    Examples:
        >>> connect = pq.theory.lazy_two_cycle(pq.prox.BinaryL1(), lr=0.5, strength=np.inf)
        >>> connect.latent, connect.weight
        (0.25, 1.0)
    """

    latent: float
    weight: float


def lazy_two_cycle(regularizer: Regularizer, lr: float, strength: float) -> TwoCycle | None:
    """The two-cycle of lazy prox-gradient on L(w) = w^2/2 with constant strength, or None.

    regularizer: BinaryL1(), BinaryL2() or SmoothW(), else TypeError. ValueError unless
    0 < lr <= 1/2 and strength > 0. BinaryL1 with infinite strength is BinaryConnect.

    Examples:
        >>> L, R, lr = pq.theory.Quadratic(np.eye(1), np.zeros(1)), pq.prox.BinaryL2(), 0.5
        >>> cycle = pq.theory.lazy_two_cycle(R, lr, strength=0.25)
        >>> cycle
        TwoCycle(latent=0.0625, weight=0.25)
        >>> run = pq.theory.by_projection(
        ...     L.gradient, np.array([cycle.latent]), [lr] * 3, lambda z: R.prox(z, 0.25)
        ... )
        >>> run.iterates.ravel()
        array([ 0.25, -0.25,  0.25, -0.25])
        >>> pq.theory.lazy_two_cycle(pq.theory.SmoothW(), lr, strength=0.75) is None
        True
    """
    check_number("lr", lr, above=0, most=0.5)  # 1/(2 beta)
    check_number("strength", strength, above=0)
    match regularizer:
        case L2(set=Binary()):
            weight = 2 / (2 + (2 - lr) / strength)
        case L1(set=Binary()):
            weight = min(2 * strength / (2 - lr), 1.0)
        case SmoothW():
            square = 1 - (1 - lr / 2) / strength
            if square <= 0:
                return None
            weight = float(np.sqrt(square))
        case _:
            raise TypeError(
                f"regularizer must be BinaryL1(), BinaryL2() or SmoothW(), got {regularizer!r}"
            )
    return TwoCycle(lr * weight / 2, weight)
