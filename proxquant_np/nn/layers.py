"""The layers, one small class each.

Names, parameters and default initialisation are PyTorch's. Layers that draw take `rng`, a NumPy
generator or a seed; pass one generator through a whole network, so that its layers differ. Without
`rng` they differ as well (see init.py).
"""

from __future__ import annotations

import math

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_counts, check_number
from proxquant_np.nn import init
from proxquant_np.nn.module import Module, Parameter


class Linear(Module):
    """y = x @ weight^T + bias; x (..., in_features), weight (out_features, in_features).

    Examples:
        >>> layer = pq.nn.Linear(3, 2, rng=0)
        >>> layer(pq.Tensor(np.ones((5, 3), np.float32))).shape, layer.weight.shape
        ((5, 2), (2, 3))
    """

    quantizable = ("weight",)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        check_counts(in_features=in_features, out_features=out_features)
        rng = init.generator(rng)
        self.weight = Parameter(init.fan_in_uniform((out_features, in_features), rng, dtype))
        self.bias = None
        if bias:
            self.bias = Parameter(init.uniform((out_features,), in_features**-0.5, rng, dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """Convolution of (n, in_channels, h, w) images; see `F.conv2d`.

    The weight is (out_channels, in_channels / groups, kh, kw).

    Examples:
        >>> layer = pq.nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
        >>> layer(pq.Tensor(np.zeros((1, 3, 32, 32), np.float32))).shape, layer.weight.shape
        ((1, 8, 16, 16), (8, 3, 3, 3))
    """

    quantizable = ("weight",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        kernel = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,) * 2
        check_counts(in_channels=in_channels, out_channels=out_channels, groups=groups)
        check_counts(**{f"kernel_size[{i}]": k for i, k in enumerate(kernel)})
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups must divide in_channels={in_channels} and out_channels={out_channels}, "
                f"got {groups}"
            )
        rng = init.generator(rng)
        shape = (out_channels, in_channels // groups, *kernel)
        self.weight = Parameter(init.fan_in_uniform(shape, rng, dtype))
        self.bias = None
        if bias:
            bound = math.prod(shape[1:]) ** -0.5
            self.bias = Parameter(init.uniform((out_channels,), bound, rng, dtype))
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class MaxPool2d(Module):
    """The largest value in every window; see `F.max_pool2d`.

    Examples:
        >>> pq.nn.MaxPool2d(2)(pq.Tensor([[[1.0, 2.0], [3.0, 4.0]]])).item()
        4.0
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self.options = (kernel_size, stride, padding, dilation, ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.max_pool2d(x, *self.options)


class AvgPool2d(Module):
    """The mean of every window; see `F.avg_pool2d`.

    Examples:
        >>> pq.nn.AvgPool2d(2)(pq.Tensor([[[1.0, 2.0], [3.0, 4.0]]])).item()
        2.5
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.options = (kernel_size, stride, padding)
        self.options += (ceil_mode, count_include_pad, divisor_override)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.avg_pool2d(x, *self.options)


class GlobalAvgPool2d(Module):
    """The mean of every image, channel by channel: (n, c, h, w) to (n, c).

    Examples:
        >>> pq.nn.GlobalAvgPool2d()(pq.Tensor(np.ones((2, 3, 4, 4)))).shape
        (2, 3)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.mean(x, (2, 3))


class Dropout(Module):
    """In training, zero each entry with probability p and scale the others by 1 / (1 - p).

    Examples:
        >>> layer = pq.nn.Dropout(0.5, rng=0)
        >>> np.unique(layer(pq.Tensor(np.ones(100))).numpy())
        array([0., 2.])
        >>> layer.eval()(pq.Tensor([1.0, 2.0])).numpy()
        array([1., 2.])
    """

    def __init__(self, p: float = 0.5, *, rng: init.Rng = None) -> None:
        self.p = check_number("p", p, least=0, most=1)
        self.rng = init.generator(rng)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.dropout(x, self.p, self.training, rng=self.rng)


class ReLU(Module):
    """max(x, 0).

    Examples:
        >>> pq.nn.ReLU()(pq.Tensor([-1.0, 2.0])).numpy()
        array([0., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.relu(x)


class Tanh(Module):
    """Hyperbolic tangent.

    Examples:
        >>> pq.nn.Tanh()(pq.Tensor([0.0, np.inf])).numpy()
        array([0., 1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.tanh(x)


class Flatten(Module):
    """(n, ...) to (n, product of the rest).

    Examples:
        >>> pq.nn.Flatten()(pq.Tensor(np.ones((2, 3, 4, 4)))).shape
        (2, 48)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return F.reshape(x, (x.shape[0], -1))
