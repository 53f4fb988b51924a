"""Layer 1, differentiate: batch normalization, with the residual sum and the ReLU after it.

Once convolutions are quick, a network spends as long in between, carrying activations to and from
memory. So `_batch_norm_blocks` goes over them as seldom as it can, twice forward and twice
backward, block by block, so that its steps find their data in the cache; and takes the sum and
the ReLU along. `_batch_norm_small` is the definition, and quicker while everything fits the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from proxquant_np.autograd.tensor import Array, Traced, differentiable
from proxquant_np.autograd.threads import parallel

_WIDTH = 512  # entries of a row: NumPy's inner loop must be long to be quick
_BLOCK = 1 << 20  # entries of a block
_SMALL = 1 << 14  # entries that fit the cache anyhow


@differentiable
def batch_norm(
    input: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Array | None = None,
    relu: bool = False,
) -> Traced:
    """y = weight * (x - mean) / sqrt(var + eps) + bias, for each channel (axis 1) of the input.

    In training, mean and (biased) var are those of the batch, the gradient flows through them,
    and the running statistics (NumPy arrays, changed in place; or None) move by
    `running += momentum * (batch - running)`, the variance with its unbiased estimate. Otherwise
    the running statistics are used, as constants. Input (n, c) or (n, c, ...); everything else
    (c,). Source: Ioffe and Szegedy 2015.

    Beyond PyTorch's arguments: `residual`, of the input's shape, is added to y, and `relu` then
    replaces y by max(y, 0), with the gradient 0 at 0.

    Raises:
        ValueError: no channel axis, statistics or a residual of another shape, evaluation without
            running statistics, one value a channel in training (its variance says nothing), or
            a momentum or an eps that makes no sense.

    Examples:
        >>> x = pq.Tensor([[1.0], [3.0]])
        >>> mean, var = np.zeros(1), np.ones(1)
        >>> F.batch_norm(x, mean, var, training=True, eps=0.0).numpy().ravel()
        array([-1.,  1.])
        >>> mean, var
        (array([0.2]), array([1.1]))
    """
    if input.ndim < 2:
        raise ValueError(f"batch_norm: input must have shape (n, c, ...), got {input.shape}")
    channels = input.shape[1]
    named = dict(running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    for name, value in named.items():
        if value is not None and value.shape != (channels,):
            raise ValueError(f"batch_norm: {name} must have shape ({channels},), got {value.shape}")
    if not (0 <= momentum <= 1 and eps >= 0):
        raise ValueError(
            f"batch_norm: momentum must lie in [0, 1] and eps be >= 0, got {momentum} and {eps}"
        )
    if residual is not None and residual.shape != input.shape:
        raise ValueError(
            f"batch_norm: residual must have shape {input.shape}, got {residual.shape}"
        )
    n = input.size // channels if channels else 0
    if training and n < 2:
        raise ValueError(
            f"batch_norm: training needs more than one value a channel, got shape {input.shape}"
        )
    if not training and (running_mean is None or running_var is None):
        raise ValueError("batch_norm: evaluation needs running_mean and running_var, got None")

    fixed = None if training else (running_mean, running_var)
    small = input.size <= _SMALL
    normalize = _batch_norm_small if small else _batch_norm_blocks
    y, vjp, mean, var = normalize(input, fixed, weight, bias, eps, residual, relu)
    if training and running_mean is not None:
        running_mean += momentum * (mean - running_mean)
    if training and running_var is not None:
        running_var += momentum * (var * (n / (n - 1)) - running_var)
    return y, vjp


Fixed = tuple[Array, Array] | None
"""Mean and variance to use; None for the batch's own."""


def _batch_norm_small(
    x: Array,
    fixed: Fixed,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    residual: Array | None,
    relu: bool,
) -> tuple:
    """Output, VJP, mean and variance, line by line as defined."""
    axes = (0, *range(2, x.ndim))
    across = (-1,) + (1,) * (x.ndim - 2)  # a channel vector, shaped to meet the input
    n = x.size // x.shape[1] if x.size else 1
    mean = fixed[0] if fixed else np.add.reduce(x, axes) / n
    centred = x - mean.reshape(across)
    var = fixed[1] if fixed else np.add.reduce(centred * centred, axes) / n
    inverse = 1 / np.sqrt(var + eps)
    normal = np.multiply(centred, inverse.reshape(across), out=centred)
    y = normal if weight is None else normal * weight.reshape(across)
    if bias is not None:
        y = y + bias.reshape(across)
    if residual is not None:
        y = y + residual
    if relu:
        y = np.maximum(y, 0)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        if relu:
            g = g * (y > 0)
        to_bias = np.add.reduce(g, axes)
        to_weight = np.add.reduce(g * normal, axes)
        slope = (inverse if weight is None else inverse * weight).reshape(across)
        dx = g
        if not fixed:  # the batch's own mean and variance move with it
            dx = g - (to_bias / n).reshape(across) - normal * (to_weight / n).reshape(across)
        return dx * slope, None, None, to_weight, to_bias, None, None, None, g

    return y, vjp, mean, var


def _batch_norm_blocks(
    input: Array,
    fixed: Fixed,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    residual: Array | None,
    relu: bool,
) -> tuple:
    """The same. Channels lie last in memory, several pixels in a row; vectors repeat to match."""
    channels = input.shape[1]
    n = input.size // channels
    repeats = math.gcd(n, max(1, _WIDTH // channels))
    width = repeats * channels
    step = max(1, _BLOCK // width)
    x = _rows(input, width)

    def wide(vector: Array) -> Array:
        return np.concatenate([vector] * repeats)

    def over_blocks(task: Callable[[slice], Array | None]) -> Array | None:
        """Do task(rows) for every block; if the tasks give two rows of sums, those by channel."""

        def part(start: int, stop: int) -> Array | None:
            total = task(slice(start, min(start + step, stop)))
            for i in range(start + step, stop, step):
                sums = task(slice(i, min(i + step, stop)))
                if sums is not None:
                    total += sums
            return total

        # An entry, in several passes over memory, takes as long as some 32 multiply-adds.
        total, *others = parallel(part, len(x), 32 * x.size)
        if total is None:
            return None
        return np.add.reduce(sum(others, total).reshape(2, repeats, channels), 1)

    if fixed:
        mean, var = fixed[0].copy(), fixed[1]
    else:
        # Moments about a guess of the mean: about 0, their difference would lose digits.
        guess = np.add.reduce(x[:step].reshape(-1, channels), 0) / x[:step].size * channels
        about = wide(guess)

        def moments(block: slice) -> Array:
            d = x[block] - about
            return np.array([np.add.reduce(d, 0), np.add.reduce(np.multiply(d, d, out=d), 0)])

        first, second = over_blocks(moments) / n
        mean, var = guess + first, second - first * first

    inverse = 1 / np.sqrt(var + eps)
    slope = inverse if weight is None else inverse * weight
    wide_slope = wide(slope)
    shift = wide(-mean * slope if bias is None else bias - mean * slope)
    other = None if residual is None else _rows(residual, width)
    y = np.empty_like(x)
    zeros = np.zeros(width, x.dtype)  # to an array, unlike to a number, `maximum` is quick

    def apply(block: slice) -> None:
        out = np.multiply(x[block], wide_slope, out=y[block])
        out += shift
        if other is not None:
            out += other[block]
        if relu:
            np.maximum(out, zeros, out=out)

    over_blocks(apply)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = _rows(g, width)
        passed = np.empty_like(x) if relu else g  # what the ReLU lets through
        about = wide(mean)

        def sums(block: slice) -> Array:
            if relu:
                np.multiply(g[block], y[block] > 0, out=passed[block])
            d = x[block] - about
            d *= passed[block]
            return np.array([np.add.reduce(passed[block], 0), np.add.reduce(d, 0)])

        to_bias, to_slope = over_blocks(sums)
        to_weight = to_slope * inverse
        # dx = slope * (g - to_bias / n - normal * to_weight / n) = slope * g + tilt * x + level
        tilt = -slope * inverse * to_weight / n
        level = wide(-slope * to_bias / n - tilt * mean)
        tilt = wide(tilt)
        dx = passed if relu and residual is None else np.empty_like(x)

        def to_input(block: slice) -> None:
            scaled = np.multiply(passed[block], wide_slope, out=dx[block])
            if not fixed:
                d = x[block] * tilt
                d += level
                scaled += d

        over_blocks(to_input)
        to_residual = None if residual is None else _unrows(passed, input.shape)
        to_x = _unrows(dx, input.shape)
        return to_x, None, None, to_weight, to_bias, None, None, None, to_residual

    return _unrows(y, input.shape), vjp, mean, var


def _rows(x: Array, width: int) -> Array:
    """(n, c, ...) as a contiguous matrix of this width, channels last; copied if need be."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(-1, width)


def _unrows(rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `_rows`, a view."""
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
