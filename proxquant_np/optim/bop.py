"""Layer 4, train: Bop, which has binary weights only: nothing is projected, signs are flipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from proxquant_np.autograd import mark_changed
from proxquant_np.optim.optimizer import Number, Optimizer, Params, QuantizedOptimizer
from proxquant_np.prox import BinaryL1


class Bop(QuantizedOptimizer):
    r"""From weights w in {-1, +1}^d, with m = 0 at first,

        m <- (1 - adaptivity) * m + adaptivity * grad L(w)
        w_i <- -w_i   where |m_i| > threshold and m_i w_i > 0, that is, m asks for the other sign.

    The base steps what else it holds, but not `params`, which are projected at construction. It is
    neither of the table's rows: there is no point that moves, only evidence against each sign.
    Source: Helwegen et al. 2019, Latent weights do not exist; tau and gamma there.

    Examples:
        >>> w = pq.nn.Parameter([0.25, -0.5])
        >>> bop = pq.optim.Bop(pq.optim.SGD([w], lr=0.5), [w], threshold=0.1, adaptivity=0.5)
        >>> w.sum().backward()
        >>> bop.step()
        >>> w.data
        array([-1., -1.])
    """

    threshold, adaptivity = Number(), Number(below=1.0)

    def __init__(
        self, base: Optimizer, params: Params, threshold: float = 1e-8, adaptivity: float = 1e-4
    ) -> None:
        super().__init__(base, params, BinaryL1(), None)
        self.threshold, self.adaptivity = threshold, adaptivity
        self.momentum = [np.zeros_like(p.data) for p in self.params]
        self.map_([p.data for p in self.params], self.strength)

    def step(self) -> None:
        """Step what is not quantized, then flip signs."""
        self.check_gradients()
        moved = [i for i in self.trained() if self.params[i].grad is not None]
        gradients = [self.params[i].grad for i in moved]
        for i in moved:
            self.params[i].grad = None  # the base does not move what has no gradient
        try:
            self.base.step()
        finally:
            for i, g in zip(moved, gradients, strict=True):
                self.params[i].grad = g
        for i, g in zip(moved, gradients, strict=True):
            m, w = self.momentum[i], self.params[i].data
            m *= 1 - self.adaptivity
            m += self.adaptivity * g
            np.negative(w, out=w, where=m * w > self.threshold)  # |w| = 1
        mark_changed(self.params[i] for i in moved)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """The evidence m, the hyperparameters, and the base's state (under "base.")."""
        momentum = {f"momentum.{i}": m.copy() for i, m in enumerate(self.momentum)}
        numbers = {"threshold": self.threshold, "adaptivity": self.adaptivity}
        return {**super().state_dict(), **numbers, **momentum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, after the model's; see `Optimizer`."""
        super().load_state_dict(state)
        self.threshold, self.adaptivity = float(state["threshold"]), float(state["adaptivity"])
        for i, m in enumerate(self.momentum):
            m[...] = state[f"momentum.{i}"]
