"""Layer 4, train: lazy quantization. Its eager sibling is prox_gradient.py; diff the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from proxquant_np.optim.optimizer import Optimizer, Params, QuantizedOptimizer
from proxquant_np.prox import Regularizer


class DualAveraging(QuantizedOptimizer):
    r"""Lazy: z <- z - lr * grad L(w), w <- P_Q(z).

    The gradient is taken at the mapped weights w, the base moves the latent z, and the weights are
    its image. With plain SGD as base (no momentum, weight decay or clipping) this is Nesterov's
    dual averaging over Q; with BinaryL1 it is BinaryConnect (Courbariaux et al. 2015); with any
    base it is straight-through training (`F.straight_through`) written without the trick. With a
    homotopy the map is the prox instead of the projection, of the latent afresh each step. The
    parameters are mapped at construction: the first gradient is taken at P_Q(z_0).

    `latent` holds z, one array a quantized parameter. It is what is trained: weights that anything
    else changes after construction (say, a model's load_state_dict) would be overwritten by the
    image of z. So `step` refuses them, with a ValueError and before anything changes. Load weights
    before constructing the optimizer; when resuming, load the model's state, then the optimizer's.

    Examples:
        >>> w = pq.nn.Parameter([0.25, -0.5])
        >>> lazy = pq.optim.DualAveraging(pq.optim.SGD([w], lr=0.5), [w], pq.prox.BinaryL1())
        >>> w.data, lazy.latent
        (array([ 1., -1.]), [array([ 0.25, -0.5 ])])
        >>> w.sum().backward()
        >>> lazy.step()
        >>> w.data, lazy.latent
        (array([-1., -1.]), [array([-0.25, -1.  ])])
    """

    def __init__(
        self,
        base: Optimizer,
        params: Params,
        regularizer: Regularizer,
        homotopy: Callable[[int], float] | None = None,
        *,
        clip: bool = False,
    ) -> None:
        super().__init__(base, params, regularizer, homotopy, clip=clip)
        self.latent = [p.data.copy() for p in self.params]
        self._image = [p.data.copy() for p in self.params]
        self.map_(self.latent, self.strength)

    def step(self) -> None:
        """Move the latent, then map it to the weights."""
        self.check_gradients()
        self._check_image()
        strength = self.strength
        self._swap()
        try:
            self.base.step()
        finally:
            self._swap()
        self.map_(self.latent, strength)
        self.steps += 1

    def _swap(self) -> None:
        """Exchange weights and latent, so that the base moves the latent."""
        for i in self.trained():
            p = self.params[i]
            p.data, self.latent[i] = self.latent[i], p.data

    def map_(self, points: list[np.ndarray], strength: float) -> None:
        """As the base class, and remember the image."""
        super().map_(points, strength)
        for i in self.trained():
            np.copyto(self._image[i], self.params[i].data)

    def _check_image(self) -> None:
        for i in self.trained():
            if not np.array_equal(self.params[i].data, self._image[i]):
                raise ValueError(
                    f"params[{i}] (shape {self.params[i].shape}) was changed since the last step; "
                    "DualAveraging trains a latent of its own. Load weights before constructing "
                    "it; when resuming, load the model's state, then the optimizer's"
                )

    def state_dict(self) -> dict[str, Any]:
        """The latent, the position in the homotopy and the base's state (under "base.")."""
        latent = {f"latent.{i}": z.copy() for i, z in enumerate(self.latent)}
        return {**super().state_dict(), **latent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, after the model's; see `Optimizer`."""
        super().load_state_dict(state)
        for i, p in enumerate(self.params):
            self.latent[i][...] = state[f"latent.{i}"]
            self._image[i][...] = p.data
