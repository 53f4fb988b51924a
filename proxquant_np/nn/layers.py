"""The layers, one small class each.

Names, parameters and default initialisation are PyTorch's. Layers that draw take `rng`, a NumPy
generator or a seed; pass one generator through a whole network, so that its layers differ. Without
`rng` they differ as well (see init.py).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, MutableSequence
from typing import Any

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor, no_grad
from proxquant_np.checks import check_counts, check_number
from proxquant_np.nn import init
from proxquant_np.nn.module import Module, Parameter, beside


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


class ModuleList(Module, MutableSequence):
    """A list of modules, named "0", "1", ...; they are trained and saved, but you call them.

    It supports everything that a list does (append, insert, slices, ...); a slice is a ModuleList
    of the same modules. A plain list would hide its modules, so `Module` refuses it.

    Raises:
        TypeError: an entry cannot be called, or is a class instead of an instance.

    Examples:
        >>> layers = pq.nn.ModuleList(pq.nn.Linear(8, 8) for _ in range(3))
        >>> layers.append(pq.nn.Linear(8, 2))
        >>> len(layers), [name for name, _ in layers[2:].named_parameters()]
        (4, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._hold(modules)

    def _held(self) -> list[Module]:
        return [value for name, value in vars(self).items() if name.isdecimal()]

    def _hold(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        for i, module in enumerate(modules):
            if isinstance(module, type) or not callable(module):
                of_class = isinstance(module, type)
                what = f"the class {module.__name__}" if of_class else f"a {type(module).__name__}"
                raise TypeError(f"modules must be Modules, got {what} at position {i}")
        for name in [name for name in vars(self) if name.isdecimal()]:
            delattr(self, name)
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def __iter__(self):
        return iter(self._held())

    def __len__(self) -> int:
        return len(self._held())

    def __getitem__(self, i: int | slice) -> Module:
        found = self._held()[i]
        if not isinstance(i, slice):
            return found
        part = copy.copy(self)
        part._hold(found)
        return part

    def __setitem__(self, i: int | slice, module: Any) -> None:
        modules = self._held()
        modules[i] = module
        self._hold(modules)

    def __delitem__(self, i: int | slice) -> None:
        modules = self._held()
        del modules[i]
        self._hold(modules)

    def __add__(self, others: Iterable[Module]) -> ModuleList:
        joined = self[:]
        joined.extend(others)
        return joined

    def insert(self, i: int, module: Module) -> None:
        """Insert the module before the i-th."""
        self[i:i] = [module]


class Sequential(ModuleList):
    """Layers applied one after another, named "0", "1", ...; otherwise a `ModuleList`.

    A slice is a Sequential of the same layers, which keep their names, as in PyTorch.

    Examples:
        >>> net = pq.nn.Sequential(pq.nn.Linear(4, 8), pq.nn.ReLU(), pq.nn.Linear(8, 2))
        >>> net(pq.Tensor(np.ones((5, 4), np.float32))).shape
        (5, 2)
        >>> list(net.state_dict())
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    def __getitem__(self, i: int | slice) -> Module:
        if not isinstance(i, slice):
            return super().__getitem__(i)
        part, names = copy.copy(self), [name for name in vars(self) if name.isdecimal()]
        for name in names:
            delattr(part, name)
        for name in names[i]:
            setattr(part, name, getattr(self, name))
        return part

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers."""
        for layer in self:
            x = layer(x)
        return x


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
