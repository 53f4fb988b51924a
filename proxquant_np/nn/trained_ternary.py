"""Trained ternary weights, an example of straight-through training with trained levels."""

from __future__ import annotations

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_number
from proxquant_np.nn.layers import Linear
from proxquant_np.nn.module import Parameter


def _codes(w, threshold):
    cut = threshold * np.abs(w).max()
    return (w > cut).astype(w.dtype) - (w < -cut)


def trained_ternary(weight: Tensor, pos: Tensor, neg: Tensor, threshold: float = 0.05) -> Tensor:
    """pos b_i where b_i = 1, neg b_i where b_i = -1, and 0, for the codes b_i in {-1, 0, 1}.

    b_i = 1 where w_i > threshold * max|w|, -1 where w_i < -threshold * max|w|. The derivatives with
    respect to pos and neg are exact: sums of b_i g_i over the weights on that level. The codes pass
    the gradient straight through, so w_i receives pos g_i, neg g_i or, at 0, g_i itself.

    weight: any shape; pos and neg: scalars. Source: Zhu et al. 2017, trained ternary quantization.

    Examples:
        >>> w = pq.Tensor([-0.8, 0.01, 0.5], requires_grad=True)
        >>> pos, neg = pq.Tensor(2.0), pq.Tensor(3.0)
        >>> pq.nn.trained_ternary(w, pos, neg).numpy()
        array([-3.,  0.,  2.])
    """
    codes = F.straight_through(weight, lambda w: _codes(w, threshold))
    b = codes.data
    return codes * F.where(b > 0, pos, F.where(b < 0, neg, b.dtype.type(1)))


class TrainedTernaryLinear(Linear):
    """y = x @ q^T + bias, q = trained_ternary(weight, pos, neg); starts as a copy of `linear`.

    Initially pos and neg are the mean magnitudes of the weights with their codes, the best fit.
    Then a plain optimizer trains everything: the layer quantizes its weight itself, so none of it
    is among the `quantizable_parameters`. Nothing prevents a level from changing sign.

    Examples:
        >>> layer = pq.nn.TrainedTernaryLinear(pq.nn.Linear(8, 4, rng=0), threshold=0.5)
        >>> np.unique(layer.ternary().numpy()).size
        3
    """

    quantizable = ()

    def __init__(self, linear: Linear, threshold: float = 0.05) -> None:
        check_number("threshold", threshold, least=0, below=1)
        w = linear.weight.data
        self.weight = Parameter(w)
        self.bias = None if linear.bias is None else Parameter(linear.bias.data)
        self.threshold = threshold
        sides = [_codes(w, threshold) == sign for sign in (1, -1)]
        self.pos, self.neg = (
            Parameter((np.abs(w[side]).sum() / max(1, int(side.sum()))).astype(w.dtype))
            for side in sides
        )

    def ternary(self) -> Tensor:
        """The ternary weights that the forward pass uses."""
        return trained_ternary(self.weight, self.pos, self.neg, self.threshold)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.linear(x, self.ternary(), self.bias)
