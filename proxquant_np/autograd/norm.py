"""Batch normalization, with the residual sum and the ReLU that follow it.

Once convolutions are fast, a network spends as much time between them, moving activations to and
from memory. So `_batch_norm_blocks` passes over them only twice forward and twice backward, block
by block, so that each step finds its data in the cache, and it includes the sum and the ReLU.
`_batch_norm_small` follows the definition, and is faster if everything fits into the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from proxquant_np.autograd.tensor import Array, Traced, differentiable
from proxquant_np.autograd.threads import parallel
from proxquant_np.checks import check_number

_WIDTH = 1 << 13  # entries per row: NumPy's inner loop must be long to be fast
_BLOCK = 1 << 17  # entries per block
_SMALL = 1 << 14  # entries that fit into the cache in any case


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

    In training, mean and (biased) var are the batch's, the gradient flows through them, and the
    running statistics (arrays, changed in place; or None) move by
    `running += momentum * (batch - running)`, where the variance is the unbiased estimate.
    Otherwise the running statistics are used, as constants. Input (n, c) or (n, c, ...); everything
    else (c,). Source: Ioffe and Szegedy 2015.

    Beyond PyTorch's arguments, `residual`, of the input's shape, is added to y, and `relu` then
    replaces y by max(y, 0), with gradient 0 at 0.

    Raises:
        TypeError: momentum or eps is not a number.
        ValueError: the input has no channel axis, statistics or a residual have another shape,
            evaluation lacks running statistics, training has one value per channel (which has no
            variance), or momentum or eps is out of range.

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
    check_number("batch_norm: momentum", momentum, least=0, most=1)
    check_number("batch_norm: eps", eps, least=0)
    if residual is not None and residual.shape != input.shape:
        raise ValueError(
            f"batch_norm: residual must have shape {input.shape}, got {residual.shape}"
        )
    n = input.size // channels if channels else 0
    if training and n < 2:
        raise ValueError(
            "batch_norm: input must have more than one value per channel in training, "
            f"got shape {input.shape}"
        )
    if not training and (running_mean is None or running_var is None):
        raise ValueError(
            "batch_norm: running_mean and running_var must be arrays in evaluation, got None"
        )

    # Copies, because the statistics may be re-estimated before the backward pass.
    fixed = None if training else (running_mean.copy(), running_var.copy())
    # Blocks pay off for NumPy, on a processor with caches; the definition works for any array.
    small = input.size <= _SMALL or not isinstance(input, np.ndarray)
    normalize = _batch_norm_small if small else _batch_norm_blocks
    y, vjp, mean, var = normalize(input, fixed, weight, bias, eps, residual, relu)
    if training and running_mean is not None:
        running_mean += momentum * (mean - running_mean)
    if training and running_var is not None:
        running_var += momentum * (var * (n / (n - 1)) - running_var)
    return y, vjp


Fixed = tuple[Array, Array] | None
"""The mean and variance to use; None for the batch's own."""


def _batch_norm_small(
    x: Array,
    fixed: Fixed,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    residual: Array | None,
    relu: bool,
) -> tuple:
    """Output, VJP, mean and variance, following the definition line by line."""
    axes = (0, *range(2, x.ndim))
    across = (-1,) + (1,) * (x.ndim - 2)  # the shape of a channel vector that meets the input
    n = x.size // x.shape[1] if x.size else 1
    exact = np.result_type(x.dtype, np.float64)  # for sums: it costs nothing for so few entries

    def total(terms: Array) -> Array:
        return np.add.reduce(terms, axes, exact)

    mean = fixed[0] if fixed else total(x) / n
    rounded = mean.astype(x.dtype)
    centred = x - rounded.reshape(across)
    var = fixed[1] if fixed else total(centred * centred) / n - (mean - rounded) ** 2
    inverse = (1 / np.sqrt(var + eps)).astype(x.dtype)
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
        to_bias = total(g).astype(x.dtype)
        to_weight = total(g * normal).astype(x.dtype)
        slope = (inverse if weight is None else inverse * weight).reshape(across)
        dx = g
        if not fixed:  # the batch's own mean and variance depend on x
            dx = g - (to_bias / n).reshape(across) - normal * (to_weight / n).reshape(across)
        return dx * slope, None, None, to_weight, to_bias, None, None, None, g

    return y, vjp, mean, var


class _Blocks:
    """Access to an array (n, c, ...) block by block, in its memory order.

    That order is pixels by channels by the rest: (h w, c, n) for images last, (n h w, c, 1) for
    channels last, (n, c, h w) for PyTorch's. Consecutive pixels form rows of `_WIDTH` entries, and
    consecutive rows a block; pixels that do not fill a row are a block of one shorter row.
    """

    def __init__(self, x: Array) -> None:
        spatial = tuple(range(2, x.ndim))
        orders = (*spatial, 1, 0), (0, *spatial, 1), (0, 1, *spatial)
        found = [order for order in orders if x.transpose(order).flags.c_contiguous]
        self.order = found[0] if found else orders[0] if spatial else orders[1]
        self.shape = tuple(x.shape[axis] for axis in self.order)
        self.channels = x.shape[1]
        self.pixel = self.channels, math.prod(self.shape[self.order.index(1) + 1 :])
        self.exact = np.result_type(x.dtype, np.float64)  # of sums
        pixel = math.prod(self.pixel)
        self.width = min(x.size // pixel, max(1, _WIDTH // pixel)) * pixel
        rows = x.size // self.width * self.width
        self.ends = [*range(0, rows, max(1, _BLOCK // self.width) * self.width), rows]
        if rows < x.size:
            self.ends.append(x.size)

    def flat(self, x: Array) -> Array:
        """The entries of an array of this shape in this order, copied if its own is another."""
        return x.transpose(self.order).reshape(-1)

    def unflat(self, entries: Array) -> Array:
        """The inverse of `flat`, a view."""
        return entries.reshape(self.shape).transpose(np.argsort(self.order))

    def wide(self, vector: Array) -> Array:
        """A vector of one entry per channel, repeated to match a row."""
        row = np.empty((self.width // math.prod(self.pixel), *self.pixel), vector.dtype)
        row[...] = vector[:, None]
        return row.reshape(-1)

    def rows(self, entries: Array, block: int) -> Array:
        """A view of one block of flat entries, as rows."""
        part = entries[self.ends[block] : self.ends[block + 1]]
        return part.reshape(-1, min(self.width, len(part)))

    def by_channel(self, rows: Array, times: Array | None = None) -> Array:
        """The sum of each channel over a block, or over its product with another, in float64.

        Only a few rows are added one after another, the rest pairwise or in float64: the error is
        that of a short sum.
        """
        sums = np.add.reduce(rows, 0) if times is None else np.einsum("ij,ij->j", rows, times)
        return np.add.reduce(np.add.reduce(sums.reshape(-1, *self.pixel), -1), 0, self.exact)

    def each(self, task: Callable[[int], Array | None]) -> Array | None:
        """Run the task on every block; return the sum of the results, if there are any."""
        if len(self.ends) == 2:
            return task(0)

        def part(start: int, stop: int) -> list[Array | None]:
            return [task(block) for block in range(start, stop)]

        # With several passes over memory, an entry takes as long as some 32 multiply-adds.
        parts = parallel(part, len(self.ends) - 1, 32 * self.ends[-1])
        results = [result for part in parts for result in part]
        return None if results[0] is None else sum(results)


def _batch_norm_blocks(
    input: Array,
    fixed: Fixed,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    residual: Array | None,
    relu: bool,
) -> tuple:
    """The same, block by block."""
    blocks, dtype = _Blocks(input), input.dtype
    n = input.size // input.shape[1]
    x = blocks.flat(input)
    mean, var = fixed or _moments(x, blocks)
    inverse = 1 / np.sqrt(var + eps)
    slope = (inverse if weight is None else inverse * weight).astype(dtype)
    shift = (-mean * slope if bias is None else bias - mean * slope).astype(dtype)
    other = None if residual is None else blocks.flat(residual)
    y = np.empty_like(x)
    rows, wide = blocks.rows, blocks.wide
    wide_slope, wide_shift = wide(slope), wide(shift)
    zeros = np.zeros(blocks.width, dtype)  # `maximum` is faster with an array than with a number

    def apply(block: int) -> None:
        out = rows(y, block)
        width = out.shape[1]
        np.multiply(rows(x, block), wide_slope[:width], out=out)
        out += wide_shift[:width]
        if other is not None:
            out += rows(other, block)
        if relu:
            np.maximum(out, zeros[:width], out=out)

    blocks.each(apply)

    def vjp(g: Array) -> tuple[Array | None, ...]:
        g = blocks.flat(g)
        passed = np.empty_like(x) if relu else g  # what the ReLU lets through
        about = mean.astype(dtype)
        wide_about = wide(about)

        def sums(block: int) -> Array:
            let = rows(passed, block)
            if relu:
                _let_through(rows(g, block), rows(y, block) > 0, let)
            d = rows(x, block) - wide_about[: let.shape[1]]
            return np.array([blocks.by_channel(let), blocks.by_channel(d, let)])

        to_bias, to_slope = blocks.each(sums)
        to_slope -= to_bias * (mean - about)
        to_weight = to_slope * inverse
        # dx = slope * (g - to_bias / n - normal * to_weight / n) = slope * g + tilt * x + level
        tilt = (-slope * inverse * to_weight / n).astype(dtype)
        wide_tilt, wide_level = wide(tilt), wide((-slope * to_bias / n - tilt * mean).astype(dtype))
        dx = passed if relu and residual is None else np.empty_like(x)

        def to_input(block: int) -> None:
            out = rows(dx, block)
            width = out.shape[1]
            np.multiply(rows(passed, block), wide_slope[:width], out=out)
            if not fixed:
                out += rows(x, block) * wide_tilt[:width] + wide_level[:width]

        blocks.each(to_input)
        to_residual = None if residual is None else blocks.unflat(passed)
        of_channels = to_weight.astype(dtype), to_bias.astype(dtype)
        return blocks.unflat(dx), None, None, *of_channels, None, None, None, to_residual

    return blocks.unflat(y), vjp, mean, var


def _let_through(g: Array, positive: Array, out: Array) -> None:
    """g where positive, else 0 even if g is infinite: hence the product of its bits."""
    bits = f"i{g.itemsize}"
    np.multiply(g.view(bits), positive, out=out.view(bits))


def _moments(x: Array, blocks: _Blocks) -> tuple[Array, Array]:
    """Mean and variance of each channel, in float64, from the sums of d and d^2, d = x - about.

    With about = 0 the difference would lose all digits where the mean is large. With the mean of a
    sample it loses none that the variance needs: if that mean is off by D, the sample has missed
    values as far away, and the variance is at least D^2 times the sample's share of the data.
    """
    n = x.size // blocks.channels
    whole = x[: len(x) // blocks.width * blocks.width].reshape(-1, blocks.width)
    sample = whole[:: max(1, len(whole) // 16)]
    mean = blocks.by_channel(sample) * (blocks.channels / sample.size)
    about = mean.astype(x.dtype)
    wide_about = blocks.wide(about)

    def sums(block: int) -> Array:
        rows = blocks.rows(x, block)
        d = rows - wide_about[: rows.shape[1]]
        return np.array([blocks.by_channel(d), blocks.by_channel(d, d)])

    first, second = blocks.each(sums) / n
    return about + first, second - first * first
