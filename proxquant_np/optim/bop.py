"""Bop, which has only binary weights: it projects nothing and flips signs."""

from __future__ import annotations

from typing import Any

import numpy as np

from proxquant_np.autograd import mark_changed
from proxquant_np.libraries import together
from proxquant_np.optim.optimizer import Number, Optimizer, Params
from proxquant_np.optim.quantized import QuantizedOptimizer
from proxquant_np.prox import BinaryL1


class Bop(QuantizedOptimizer):
    r"""From weights w in {-1, +1}^d and m = 0,

        m <- (1 - adaptivity) * m + adaptivity * grad L(w)
        w_i <- -w_i   where |m_i| > threshold and m_i w_i > 0, that is, m asks for the other sign.

    `params` are projected at construction; the base steps only its other parameters. Bop is neither
    lazy nor eager: no point moves, and only evidence against each sign accumulates. `step` refuses
    weights other than -1 and +1 (ValueError, before anything changes), such as those of a state
    loaded since, or weights that were frozen at construction.
    Source: Helwegen et al. 2019, Latent weights do not exist, with tau and gamma for these names.

    Examples:
        >>> w = pq.nn.Parameter([0.25, -0.5])
        >>> bop = pq.optim.Bop(pq.optim.SGD([w], lr=0.5), [w], threshold=0.1, adaptivity=0.5)
        >>> w.sum().backward()
        >>> bop.step()
        >>> w.data
        array([-1., -1.])
    """

    threshold, adaptivity = Number(), Number(below=1.0)
    hyperparameters, slots = ("threshold", "adaptivity"), ("momentum",)

    def __init__(
        self, base: Optimizer, params: Params, threshold: float = 1e-8, adaptivity: float = 1e-4
    ) -> None:
        super().__init__(base, params, BinaryL1(), None)
        self.threshold, self.adaptivity = threshold, adaptivity
        self.momentum = [np.zeros_like(p.data) for p in self.params]
        self.map_([p.data for p in self.params], self.strength)

    def step(self) -> None:
        """Step the parameters that are not quantized, then flip signs."""
        self.check_step()
        self.base.step(dict.fromkeys(self.params))  # None means that they stay
        moved = [i for i in self.trained() if self.params[i].grad is not None]
        for i in moved:
            m, w = self.momentum[i], self.params[i].data
            m *= 1 - self.adaptivity
            m += self.adaptivity * self.params[i].grad
            np.copyto(w, -w, where=m * w > self.threshold)  # |w| = 1
        mark_changed(self.params[i] for i in moved)
        self.steps += 1

    def _holds(self) -> list[Any]:
        weights = together(self.params[i].data for i in self.trained())
        return [(np.abs(w) == 1).all() for w in weights]

    def _refuse(self) -> None:
        super()._refuse()
        for i in self.trained():
            p = self.params[i]
            if not (np.abs(p.data) == 1).all():
                raise ValueError(
                    f"params[{i}] (shape {p.shape}) must be -1 or +1 everywhere, as Bop made it, "
                    "but has changed since: load weights before constructing Bop, or project them "
                    "(BinaryL1().project)"
                )
