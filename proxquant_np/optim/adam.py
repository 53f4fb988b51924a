"""Adam."""

from __future__ import annotations

import math

import numpy as np

from proxquant_np.optim.optimizer import Number, Optimizer, Params


class Adam(Optimizer):
    r"""At step t = 1, 2, ...

        g <- grad + weight_decay * w
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        w <- w - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps).

    Weight decay enters the gradient, as in PyTorch's Adam. Source: Kingma and Ba 2015.

    Examples:
        >>> w = pq.nn.Parameter([1.0, -2.0])
        >>> adam = pq.optim.Adam([w], lr=0.25)
        >>> (1000 * w).sum().backward()
        >>> adam.step()
        >>> w.data.round(4)
        array([ 0.75, -2.25])
    """

    beta1, beta2 = Number(below=1.0), Number(below=1.0)
    eps, weight_decay = Number(), Number()
    hyperparameters = ("lr", "beta1", "beta2", "eps", "weight_decay")
    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"betas must be a pair of numbers, got {betas!r}")
        self.beta1, self.beta2 = betas
        self.eps, self.weight_decay = eps, weight_decay
        super().__init__(params, lr)

    def update(
        self, w: np.ndarray, g: np.ndarray, state: list[np.ndarray], t: int, scratch: np.ndarray
    ) -> None:
        """The formula above, with the fraction in its last line expanded by sqrt(1 - beta2^t)."""
        m, v = state
        if self.weight_decay:
            g = g + self.weight_decay * w
        root = math.sqrt(1 - self.beta2**t)
        m *= self.beta1
        m += np.multiply(g, 1 - self.beta1, out=scratch)
        v *= self.beta2
        np.multiply(g, g, out=scratch)
        scratch *= 1 - self.beta2
        v += scratch
        d = np.sqrt(v, out=scratch)
        d += self.eps * root
        np.divide(m, d, out=d)
        d *= self.lr * root / (1 - self.beta1**t)
        w -= d
