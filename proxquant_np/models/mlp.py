"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_counts
from proxquant_np.models.description import remembered
from proxquant_np.nn import BatchNorm1d, Linear, Module, ReLU, Sequential, init


class MLP(Module):
    """Linear, batch norm, ReLU, ..., linear: `sizes` lists the widths from input to output.

    The default is the network for the digits. With batch norm, which has its own bias, the hidden
    linear layers have none. Weights start He-normal.

    Examples:
        >>> model = pq.models.MLP(sizes=(64, 32, 10), rng=0)
        >>> model(pq.Tensor(np.ones((5, 64), np.float32))).shape
        (5, 10)
        >>> [path for path, _ in model.named_parameters()]
        ['layers.0.weight', 'layers.1.weight', 'layers.1.bias', 'layers.3.weight', 'layers.3.bias']
    """

    def __init__(
        self,
        sizes: Sequence[int] = (64, 64, 64, 10),
        batch_norm: bool = True,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        if len(sizes) < 2:
            raise ValueError(f"sizes must list at least two widths, got {tuple(sizes)}")
        check_counts(**{f"sizes[{i}]": n for i, n in enumerate(sizes)})
        self.arguments = remembered(locals())
        rng = init.generator(rng)
        layers: list[Module] = []
        for n_in, n_out in pairwise(sizes[:-1]):
            layers.append(Linear(n_in, n_out, bias=not batch_norm, rng=rng, dtype=dtype))
            layers += [BatchNorm1d(n_out, dtype=dtype)] if batch_norm else []
            layers.append(ReLU())
        layers.append(Linear(sizes[-2], sizes[-1], rng=rng, dtype=dtype))
        for layer in layers:
            if isinstance(layer, Linear):
                layer.weight.data[...] = init.he_normal(layer.weight.shape, rng, dtype)
        self.layers = Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(n, sizes[0]) to logits (n, sizes[-1])."""
        return self.layers(x)
