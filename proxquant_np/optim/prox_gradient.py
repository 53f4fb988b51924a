"""Eager quantization. The lazy sibling is dual_averaging.py; diff the two."""

from __future__ import annotations

from proxquant_np.optim.quantized import QuantizedOptimizer


class ProxGradient(QuantizedOptimizer):
    r"""Eager: w <- prox_{lr lambda_t R}(w - lr * grad L(w)).

    The gradient is taken at the weights, the base moves the weights, and the weights are mapped
    in place. With a W-shaped R and lambda_t = rate * t this is ProxQuant (Bai, Wang, Liberty 2019,
    Algorithm 1). With `homotopy=None` the map is the projection, and this is projected gradient
    descent, which stalls because a small step never flips a sign.

    Examples:
        >>> w = pq.nn.Parameter([0.25, -0.5])
        >>> R, homotopy = pq.prox.BinaryL1(), pq.prox.Linear(1.0)
        >>> eager = pq.optim.ProxGradient(pq.optim.SGD([w], lr=0.5), [w], R, homotopy)
        >>> for t in range(3):
        ...     eager.zero_grad()
        ...     w.sum().backward()
        ...     eager.step()
        ...     print(w.data)
        ...
        [-0.25 -1.  ]
        [-1. -1.]
        [-1. -1.]
    """

    def step(self) -> None:
        """Move the weights, then map them."""
        self.check_step()
        strength = self.strength
        self.base.step()
        self.map_([p.data for p in self.params], strength)
        self.steps += 1
