"""AskewSGD, which steers the weights into narrowing intervals around -1 and +1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proxquant_np.optim.optimizer import Number, Optimizer, Params
from proxquant_np.optim.quantized import QuantizedOptimizer
from proxquant_np.prox import BinaryL1


class AskewSGD(QuantizedOptimizer):
    r"""Where e = (w^2 - 1)^2 - width > 0, replaces the gradient g by -v, where v is nearest to -g
    among the directions in which e falls at least at the rate `pull`: 4 w (w^2 - 1) v <= -pull e.

    Weights are neither projected nor mapped, only clipped to [-1, 1]; as `width`, a homotopy, goes
    to 0, the allowed intervals shrink to {-1, +1}. At w = 0 the constraint has no slope, and the
    gradient is kept. With SGD as base, a step leaves at most (1 - lr pull) e + 4 lr^2 v^2 of e > 0,
    since the second derivative of (w^2 - 1)^2 is at most 8 on [-1, 1] (ours).
    Source: Leconte, Schechtman, Moulines 2023, ASkewSGD, following their published code, where
    width starts at 1 and then falls by a factor.

    Examples:
        >>> w = pq.nn.Parameter([0.5])
        >>> sgd, narrow = pq.optim.SGD([w], lr=0.5), pq.prox.Constant(0.25)
        >>> askew = pq.optim.AskewSGD(sgd, [w], width=narrow, pull=0.5)
        >>> (0 * w).sum().backward()
        >>> askew.step()
        >>> w.data.round(4)
        array([0.5521])
    """

    pull = Number()

    def __init__(
        self, base: Optimizer, params: Params, width: Callable[[int], float], pull: float = 0.2
    ) -> None:
        super().__init__(base, params, BinaryL1(), width, clip=True)
        self.pull = pull

    def step(self) -> None:
        """Turn the gradients, let the base take its step, and clip."""
        self.check_step()
        width = self.homotopy(self.steps)
        turned = [self.params[i] for i in self.trained() if self.params[i].grad is not None]
        for p in turned:
            w = p.data
            excess, slope = (w * w - 1) ** 2 - width, 4 * w * (w * w - 1)
            outside = (excess > 0) & (slope != 0)
            v = -self.pull * excess / np.where(outside, slope, 1)  # the least move allowed
            g = p.grad
            g[...] = np.where(~outside | (-g * v > v * v), g, -v)
        self.base.step()
        for p in turned:
            np.clip(p.data, -1, 1, out=p.data)
        self.steps += 1
