"""Trained ternary quantization: lazy, with levels that are trained beside the latent."""

from __future__ import annotations

from typing import Any

import numpy as np

from proxquant_np.autograd import mark_changed
from proxquant_np.optim.dual_averaging import DualAveraging
from proxquant_np.optim.optimizer import Number, Optimizer, Params
from proxquant_np.prox import TernaryL2


class TrainedTernary(DualAveraging):
    r"""Lazy with trained levels: w = pos, 0 or -neg, by the codes of a latent z.

        b_i = 1 where z_i > threshold * max|z|,  -1 where z_i < -threshold * max|z|,  else 0
        w_i = pos, -neg or 0 where b_i = 1, -1 or 0

    The base moves pos along the sum of grad L(w) where b_i = 1, neg along minus the sum where
    b_i = -1, and z along pos, neg or 1 times the gradient. It is `nn.trained_ternary` with the same
    base for everything, written without straight-through. Each parameter has levels of its own,
    which start at the mean magnitudes of its weights with these codes. A level that would change
    sign stops at 0 (ours), so that the weights stay in the set of `TernaryL2`. Source: Zhu et
    al. 2017, trained ternary quantization.

    Examples:
        >>> w = pq.nn.Parameter([1.0, -0.5, 0.25])
        >>> ttq = pq.optim.TrainedTernary(pq.optim.SGD([w], lr=0.5), [w], threshold=0.25)
        >>> w.data, ttq.levels
        (array([ 1. , -0.5,  0. ]), [array([1. , 0.5])])
        >>> w.sum().backward()
        >>> ttq.step()
        >>> ttq.latent, ttq.levels
        ([array([ 0.5 , -0.75, -0.25])], [array([0.5, 1. ])])
    """

    threshold = Number(below=1.0)
    hyperparameters, slots = ("threshold",), ("latent", "levels", "moments")

    def __init__(self, base: Optimizer, params: Params, threshold: float = 0.05) -> None:
        self.threshold = threshold
        self.levels: list[np.ndarray] = []
        super().__init__(base, params, TernaryL2(), None)
        # What the base keeps of each pair of levels, as it does of each weight.
        self.moments = [np.zeros((len(base.slots), 2), p.dtype) for p in self.params]

    def step(self) -> None:
        """Move the latent and the levels, then map the one by the others."""
        self.check_step()
        for i in self.trained():
            p, g, codes = self.params[i], self.params[i].grad, self._codes(self.latent[i])
            if g is not None:
                pos, neg = self.levels[i]
                sums = np.array([g[codes > 0].sum(), -g[codes < 0].sum()], p.dtype)
                state, scratch = [*self.moments[i]], np.empty_like(sums)
                p.grad = g * np.where(codes > 0, pos, np.where(codes < 0, neg, p.dtype.type(1)))
                self.base.update(self.levels[i], sums, state, self.steps + 1, scratch)
                np.maximum(self.levels[i], 0, out=self.levels[i])
        self.base.step(dict(zip(self.params, self.latent, strict=True)))
        self.map_(self.latent, self.strength)
        self.steps += 1

    def map_(self, points: list[np.ndarray], strength: Any) -> None:
        """w <- pos, -neg or 0, by the codes of the point."""
        if not self.levels:  # at construction
            for z in points:
                sides = [self._codes(z) == sign for sign in (1, -1)]
                sums = [np.abs(z[side]).sum() / max(1, int(side.sum())) for side in sides]
                self.levels.append(np.array(sums, z.dtype))
        for i in self.trained():
            codes, (pos, neg) = self._codes(points[i]), self.levels[i]
            self.params[i].data[...] = np.where(codes > 0, pos, np.where(codes < 0, -neg, 0))
            np.copyto(self._image[i], self.params[i].data)
        mark_changed(self.params[i] for i in self.trained())

    def _codes(self, z: np.ndarray) -> np.ndarray:
        cut = self.threshold * np.abs(z).max()
        return (z > cut).astype(np.int8) - (z < -cut)
