"""Batch normalization, and its statistics anew after the weights were quantized."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor, no_grad
from proxquant_np.checks import check_counts
from proxquant_np.nn.module import Module, Parameter, beside


class BatchNorm1d(Module):
    """Batch normalization of (n, features) inputs; see `F.batch_norm`.

    `momentum=None` makes the running statistics the plain average over the batches seen.

    Examples:
        >>> norm = pq.nn.BatchNorm1d(1, eps=0.0, dtype=np.float64)
        >>> norm(pq.Tensor([[1.0], [3.0]])).numpy().ravel()
        array([-1.,  1.])
        >>> norm.running_mean, norm.running_var
        (array([0.2]), array([1.1]))
    """

    buffers = ("running_mean", "running_var", "num_batches_tracked")
    relu = False
    _ndims: tuple[int, ...] = (2, 3)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        dtype: type = np.float32,
    ) -> None:
        check_counts(num_features=num_features)
        self.eps = eps
        self.momentum = momentum
        self.weight = Parameter(np.ones(num_features, dtype))
        self.bias = Parameter(np.zeros(num_features, dtype))
        self.running_mean = np.zeros(num_features, dtype)
        self.running_var = np.ones(num_features, dtype)
        self.num_batches_tracked = np.zeros((), np.int64)

    def reset_running_stats(self) -> None:
        """Forget the batches seen."""
        self.running_mean[...] = 0
        self.running_var[...] = 1
        self.num_batches_tracked[...] = 0

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalize, then add the residual, if any; in training, also update the statistics."""
        if len(x.shape) not in self._ndims:
            raise ValueError(
                f"{type(self).__name__}: input must have {' or '.join(map(str, self._ndims))} "
                f"axes, got shape {x.shape}"
            )
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / (1 + int(self.num_batches_tracked))
        y = F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            momentum,
            self.eps,
            residual,
            self.relu,
        )
        self.num_batches_tracked += self.training
        return y


class BatchNorm2d(BatchNorm1d):
    """Batch normalization of (n, features, h, w) images; see `F.batch_norm`.

    With `relu`, max(., 0) follows, and `forward` can add a residual before it: three layers in one
    pass over memory.

    Examples:
        >>> norm = pq.nn.BatchNorm2d(3)
        >>> norm(pq.Tensor(np.zeros((2, 3, 4, 4), np.float32))).shape
        (2, 3, 4, 4)
    """

    _ndims = (4,)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        relu: bool = False,
        dtype: type = np.float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, dtype=dtype)
        self.relu = relu


def recalibrate_batch_norm(model: Module, batches: Iterable[Any]) -> None:
    """Replace all running statistics by plain averages over `batches` (inputs of the model).

    Quantizing weights changes every activation, so statistics gathered earlier describe another
    network. Nothing else about the model changes; dropout stays off. The batches pass through a
    copy of it, so if one of them raises an error, the statistics remain as they were.

    Raises:
        ValueError: there is no batch.

    Examples:
        >>> norm = pq.nn.BatchNorm1d(1, dtype=np.float64)
        >>> pq.recalibrate_batch_norm(norm, [np.array([[1.0], [3.0]]), np.array([[5.0], [7.0]])])
        >>> norm.running_mean
        array([4.])
    """
    trial = copy.deepcopy(model).eval()
    norms, trials = (
        [m for _, m in net.named_modules() if isinstance(m, BatchNorm1d)] for net in (model, trial)
    )
    for norm in trials:
        norm.training, norm.momentum = True, None
        norm.reset_running_stats()
    seen = False
    with no_grad():
        for x in batches:
            trial(beside(x, trial.parameters()))
            seen = True
    if not seen:
        raise ValueError("batches must hold at least one batch, got none")
    for norm, new in zip(norms, trials, strict=True):
        for name in norm.buffers:
            getattr(norm, name)[...] = getattr(new, name)
