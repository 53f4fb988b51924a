"""Lazy quantization. The eager sibling is prox_gradient.py; diff the two."""

from __future__ import annotations

from collections.abc import Sequence

from proxquant_np.optim.optimizer import Optimizer, Params
from proxquant_np.optim.quantized import Group, Homotopy, QuantizedOptimizer
from proxquant_np.prox import Regularizer


class DualAveraging(QuantizedOptimizer):
    r"""Lazy: z <- z - lr * grad L(w), w <- P_Q(z).

    The gradient is taken at the mapped weights w, the base moves the latent z, and the weights are
    its image. With plain SGD as base (no momentum, weight decay or clipping) this is Nesterov's
    dual averaging over Q; with BinaryL1 it is BinaryConnect (Courbariaux et al. 2015); with any
    base it is straight-through training (`F.straight_through`) written without that trick. With a
    homotopy, the map at each step is the prox of the latent instead of its projection. The
    parameters are mapped at construction, so the first gradient is taken at P_Q(z_0).

    `latent` holds z, one array per quantized parameter, and it is what is trained. Weights changed
    by anything else after construction (say, a model's load_state_dict) would be overwritten by the
    image of z, so `step` refuses them with a ValueError before anything changes. Load weights
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

    slots = ("latent",)

    def __init__(
        self,
        base: Optimizer,
        params: Params | Sequence[Group],
        regularizer: Regularizer | None = None,
        homotopy: Homotopy | None = None,
        *,
        clip: bool | float = False,
    ) -> None:
        super().__init__(base, params, regularizer, homotopy, clip=clip)
        self.latent = [p.data.copy() for p in self.params]
        # What map_ wrote last, by which check_step notices other writers.
        self._image = [p.data.copy() for p in self.params]
        self.map_(self.latent, self.strength)

    def step(self) -> None:
        """Move the latent, then map it to the weights."""
        self.check_step()
        strength = self.strength
        self.base.step(dict(zip(self.params, self.latent, strict=True)))
        self.map_(self.latent, strength)
        self.steps += 1
