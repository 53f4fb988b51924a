"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from proxquant_np.autograd import Tensor
from proxquant_np.optim.optimizer import Number, Optimizer, Params


class SGD(Optimizer):
    r"""w <- w - lr * d, with

        g <- grad + weight_decay * w
        m <- momentum * m + g
        d  = g + momentum * m  (Nesterov)   or   m.

    This is PyTorch's SGD. Source: Sutskever et al. 2013.

    Examples:
        >>> w = pq.nn.Parameter([1.0])
        >>> sgd = pq.optim.SGD([w], lr=0.5)
        >>> (w * w).sum().backward()
        >>> sgd.step()
        >>> w.data
        array([0.])
    """

    momentum = Number(below=1.0)
    weight_decay = Number()
    hyperparameters = ("lr", "momentum", "weight_decay", "nesterov")

    def __init__(
        self,
        params: Params,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = bool(nesterov)
        if nesterov and momentum == 0:
            raise ValueError("momentum must be > 0 for nesterov=True, got 0")
        self.slots = ("momentum_buffer",) if momentum else ()
        super().__init__(params, lr)

    def step(self, points: Mapping[Tensor, np.ndarray | None] | None = None) -> None:
        """As `Optimizer.step`; ValueError if `momentum` is set now but was 0 at construction."""
        if self.momentum and not self.slots:
            raise ValueError(
                f"momentum must stay 0 as at construction, got {self.momentum}: construct SGD with "
                "momentum to have its buffer"
            )
        super().step(points)

    def update(
        self, w: np.ndarray, g: np.ndarray, state: list[np.ndarray], t: int, scratch: np.ndarray
    ) -> None:
        """The formula above."""
        if self.weight_decay:
            g = g + self.weight_decay * w
        d = g
        if self.momentum:
            (m,) = state
            m *= self.momentum
            m += g
            d = g + self.momentum * m if self.nesterov else m
        w -= np.multiply(d, self.lr, out=scratch)
