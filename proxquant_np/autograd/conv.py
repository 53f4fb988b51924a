r"""Layer 1, differentiate: convolution and pooling of images.

Shapes are PyTorch's, (n, c, h, w), over any memory order; results lie in memory as (n, h, w, c),
"channels last". There the values of one pixel are neighbours, and so are the pixels under one row
of the kernel: windows are copied in long runs.

**A convolution is a matrix product.** Output pixel q sees the pixels h = s q + d t - p of x, for
the taps t of the kernel (stride s, dilation d, padding p; the same on both axes). With these
windows as the rows of a matrix, y = columns(x) @ kernel. That matrix holds every pixel once for
every tap, so it never exists as a whole: a few rows at a time are built in a buffer that stays in
the cache, and used up there (`_columns`).

**Both gradients come from one other matrix**, the columns of g, the gradient in y. With stride 1,

    dx[h]      = sum_t g[h + p - d t] kernel[t]    dx      = columns(g) @ kernel, flipped
    dkernel[t] = sum_h g[h + p - d t] x[h]         dkernel = x^T @ columns(g), flipped.

With a larger stride only every s-th h + p - d t belongs to a q. Divide the taps into classes by the
remainder of d t by s, and the pixels by that of h + p: each class of taps meets just one class
of pixels, and those two form a convolution with stride 1 (`_classes`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from proxquant_np.autograd.tensor import Array, Traced, differentiable
from proxquant_np.autograd.threads import parallel

Pair = int | Sequence[int]
_kept = threading.local()
_COLUMNS = 1 << 21  # bytes of columns at a time: they stay in the cache, and calls are few


@differentiable
def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Traced:
    """y[n, o, q] = bias[o] + sum_{c, t} weight[o, c, t] * input[n, c, stride q + dilation t - pad].

    q and t are pairs (row, column); the input is 0 outside. Input (n, c, h, w) or (c, h, w), weight
    (out, c / groups, kh, kw), bias (out,); output (n, out, oh, ow) or (out, oh, ow) with
    oh = floor((h + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and ow alike. The channels of
    input and output are divided into `groups` parts, each seeing only its own. Padding "valid" is
    0; "same" keeps the size, for stride 1 only (where it is odd, the end gets the extra row).

    Raises:
        TypeError: data that are not float32 or float64, or not of one dtype.
        ValueError: shapes or options that do not fit.

    Examples:
        >>> image = pq.Tensor(np.arange(9.0).reshape(1, 3, 3))
        >>> F.conv2d(image, pq.Tensor(np.ones((1, 1, 2, 2)))).numpy()
        array([[[ 8., 12.],
                [20., 24.]]])
    """
    _check("conv2d", input, weight=weight, bias=bias)
    if weight.ndim != 4 or not weight.size:
        raise ValueError(f"conv2d: weight must be (out, in, kh, kw), none 0, got {weight.shape}")
    n_out, n_in, *kernel = weight.shape
    if not isinstance(groups, int | np.integer) or groups < 1 or n_out % groups:
        raise ValueError(f"conv2d: groups must be a divisor of {n_out} outputs, got {groups!r}")
    if input.shape[-3] != n_in * groups:
        raise ValueError(
            f"conv2d: input must have {n_in * groups} channels for weight of shape {weight.shape} "
            f"and groups={groups}, got shape {input.shape}"
        )
    if bias is not None and bias.shape != (n_out,):
        raise ValueError(f"conv2d: bias must have shape ({n_out},), got {bias.shape}")
    axes = _axes("conv2d", input.shape[-2:], kernel, stride, padding, dilation)
    # weight[o, c, t] as groups[i, c, t, o]: the inputs and the outputs of each group
    by_group = weight.reshape(groups, -1, n_in, *kernel).transpose(0, 2, 3, 4, 1)

    x = _channels_last(input)
    y = _convolve(x, by_group, axes)
    if bias is not None:
        y += bias
    known = {}  # the weight's gradient, once it has been found along with the input's

    def to_input(g: Array) -> Array:
        dx, known["weight"] = _convolve_vjp(_channels_last(g), x, by_group, axes)
        return _like(input, dx)

    def to_weight(g: Array) -> Array:
        if not known:  # nobody asked for the input's: a first layer
            known["weight"] = _convolve_vjp(_channels_last(g), x, by_group, axes, False)[1]
        return known["weight"].transpose(0, 4, 1, 2, 3).reshape(weight.shape)

    return _like(input, y), (to_input, to_weight, lambda g: _channels_last(g).sum((0, 1, 2)))


class _Axis(NamedTuple):
    """Output pixel q sees the input pixels stride q + dilation t - before, t < kernel."""

    out: int
    kernel: int
    stride: int
    dilation: int
    before: int


Axes = tuple[_Axis, _Axis]


def _convolve(x: Array, by_group: Array, axes: Axes) -> Array:
    groups, n_in, kh, kw, n_out = by_group.shape
    kernels = by_group.transpose(0, 2, 3, 1, 4).reshape(groups, -1, n_out)
    y = np.empty((len(x), axes[0].out, axes[1].out, groups * n_out), x.dtype)

    def part(start: int, stop: int) -> None:
        for i, kernel in enumerate(kernels):
            inputs = x[start:stop, ..., i * n_in : (i + 1) * n_in]
            outputs = y[start:stop, ..., i * n_out : (i + 1) * n_out]
            for at, columns in _columns(inputs, axes):
                _matmul(columns, kernel, outputs[at])

    parallel(part, len(x), y.size * n_in * kh * kw)
    return y


def _convolve_vjp(
    g: Array, x: Array, by_group: Array, axes: Axes, input_too: bool = True
) -> tuple[Array | None, Array]:
    """The gradients in x (None unless `input_too`) and in by_group."""
    dx = np.zeros(x.shape, x.dtype) if input_too else None
    dw = np.zeros_like(by_group)
    for (th, ph, ah), (tw, pw, aw) in product(*map(_classes, axes, x.shape[1:3])):
        dw[:, :, th, tw] = _stride_1_vjp(
            g, x[:, ph, pw], dx if dx is None else dx[:, ph, pw], by_group[:, :, th, tw], (ah, aw)
        )
    return dx, dw


def _stride_1_vjp(g: Array, x: Array, dx: Array | None, by_group: Array, axes: Axes) -> Array:
    """Fill dx, return the gradient in by_group; `axes` say which pixels of g a pixel of x sees."""
    groups, n_in, kh, kw, n_out = by_group.shape
    kernels = by_group[:, :, ::-1, ::-1].transpose(0, 2, 3, 4, 1).reshape(groups, -1, n_in)

    def part(start: int, stop: int) -> Array:
        total = np.zeros((groups, n_in, kh * kw * n_out), x.dtype)
        for i, kernel in enumerate(kernels):
            inputs = (slice(start, stop), ..., slice(i * n_in, (i + 1) * n_in))
            pixels = x[inputs]
            for at, columns in _columns(g[start:stop, ..., i * n_out : (i + 1) * n_out], axes):
                total[i] += pixels[at].reshape(-1, n_in).T @ columns
                if dx is not None:
                    _matmul(columns, kernel, dx[inputs][at])
        return total

    work = x[..., 0].size * by_group.size
    total = sum(parallel(part, len(x), work))
    return total.reshape(by_group.shape)[:, :, ::-1, ::-1]


def _matmul(columns: Array, kernel: Array, pixels: Array) -> None:
    """Fill the pixels (n, h, w, channels) with the rows of columns @ kernel."""
    if pixels.flags.c_contiguous:
        np.matmul(columns, kernel, out=pixels.reshape(len(columns), -1))
    else:
        pixels[...] = (columns @ kernel).reshape(pixels.shape)


def _classes(axis: _Axis, size: int) -> Iterator[tuple[slice, slice, _Axis]]:
    """The classes along one axis of `size` pixels: taps, pixels, and the axis that joins them.

    Taps are k, k + step, ...: those whose dilation * tap leaves the same remainder by the stride.
    Pixel h of x then sees the pixels (h + before - dilation * tap) / stride of g.
    """
    _, kernel, s, d, before = axis
    step = s // math.gcd(s, d)
    for k in range(min(step, kernel)):
        n_taps = len(range(k, kernel, step))
        first = (d * k - before) % s
        near = (first + before - d * k) // s  # the pixel of g that meets tap k at the first pixel
        reach = d * step // s
        pixels = len(range(first, size, s))
        if pixels:
            joined = _Axis(pixels, n_taps, 1, reach, reach * (n_taps - 1) - near)
            yield slice(k, None, step), slice(first, None, s), joined


def _columns(x: Array, axes: Axes) -> Iterator[tuple[tuple[slice, slice], Array]]:
    """The windows of x (n, h, w, c), some images or some rows of an image at a time.

    Yields where in the output they belong, and a matrix with one window (kh, kw, c) a row. The
    next one is built in the same memory.
    """
    (n, *size, c), (h, w) = x.shape, axes
    row = w.out * h.kernel * w.kernel * c * x.itemsize
    n_images = max(1, min(n, _COLUMNS // (h.out * row)))
    n_rows = -(-h.out // -(-h.out * row // _COLUMNS)) if n_images == 1 else h.out

    spans = [(a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + 1 for a in axes]
    padded = np.zeros((n_images, *spans, c), x.dtype)
    within = [  # the part of each axis that is inside x
        slice(max(0, a.before), max(0, a.before, min(span, a.before + length)))
        for a, span, length in zip(axes, spans, size, strict=True)
    ]
    inside = [
        slice(i.start - a.before, i.stop - a.before) for i, a in zip(within, axes, strict=True)
    ]
    # Without dilation, the pixels under a row of the kernel are neighbours: one item to copy.
    together = w.kernel if w.dilation == 1 else 1
    item = np.dtype((np.void, together * c * x.itemsize))
    by_image, by_row, by_pixel, _ = padded.strides
    windows = np.ndarray(
        (n_images, h.out, w.out, h.kernel, w.kernel // together),
        item,
        padded,
        strides=(by_image, h.stride * by_row, w.stride * by_pixel)
        + (h.dilation * by_row, w.dilation * by_pixel),
    )
    memory = _scratch(n_images * n_rows * row).view(item)
    for i in range(0, n, n_images):
        images = slice(i, min(i + n_images, n))
        count = images.stop - i
        padded[:count, *within] = x[images, *inside]
        for r in range(0, h.out, n_rows):
            rows = slice(r, r + n_rows)
            some = windows[:count, rows]
            columns = memory[: some.size].reshape(some.shape)
            columns[...] = some
            matrix = columns.reshape(-1).view(x.dtype).reshape(-1, h.kernel * w.kernel * c)
            yield (images, rows), matrix


def _scratch(size: int) -> Array:
    """Bytes to build columns in, the same in every call of a thread: new memory costs as much as
    copying into it, for the system fills it with zeros page by page."""
    if getattr(_kept, "size", -1) < size:
        _kept.memory, _kept.size = np.empty(size, np.uint8), size
    return _kept.memory[:size]


# Pooling ---------------------------------------------------------------------------------------


@differentiable
def max_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Traced:
    """The largest value in every window; of equal ones, the first gets the gradient.

    Input (n, c, h, w) or (c, h, w), windows and output size as in `conv2d`; the stride is
    kernel_size if not given. Padding is at most half the kernel, and is never the largest. With
    `ceil_mode`, the division by the stride rounds up: one more window may reach over the end, if
    it starts inside the input or the padding before it.

    Raises:
        TypeError: an input that is not float32 or float64.
        ValueError: shapes or options that do not fit.

    Examples:
        >>> F.max_pool2d(pq.Tensor(np.arange(16.0).reshape(1, 4, 4)), 2).numpy()
        array([[[ 5.,  7.],
                [13., 15.]]])
    """
    padded, inside, axes = _pooled(
        "max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode, -np.inf
    )
    y, *others = (tap.copy() if i == 0 else tap for i, tap in enumerate(_taps(padded, axes)))
    for tap in others:
        np.maximum(y, tap, out=y)

    def vjp(g: Array) -> Array:
        g = _channels_last(g)
        dx = np.zeros(padded.shape, padded.dtype)
        free = np.ones(y.shape, bool)  # windows whose largest value is still to come
        for tap, dtap in zip(_taps(padded, axes), _taps(dx, axes), strict=True):
            found = (tap == y) & free
            free ^= found
            dtap += g * found
        return _like(input, dx[inside])

    return _like(input, y), vjp


@differentiable
def avg_pool2d(
    input: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Traced:
    """The mean of every window, otherwise as `max_pool2d`: its sum divided by its pixels.

    Padded zeros count as pixels if `count_include_pad`; what `ceil_mode` adds beyond them never
    does. `divisor_override` is divided by instead.

    Examples:
        >>> F.avg_pool2d(pq.Tensor(np.arange(16.0).reshape(1, 4, 4)), 2).numpy()
        array([[[ 2.5,  4.5],
                [10.5, 12.5]]])
    """
    padded, inside, axes = _pooled(
        "avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode, fill=0
    )
    share = _share(input, axes, ceil_mode, count_include_pad, divisor_override)
    y = sum(_taps(padded, axes)) * share

    def vjp(g: Array) -> Array:
        g = _channels_last(g) * share
        dx = np.zeros(padded.shape, padded.dtype)
        for dtap in _taps(dx, axes):
            dtap += g
        return _like(input, dx[inside])

    return _like(input, y), vjp


def _share(
    input: Array, axes: Axes, ceil_mode: bool, count_include_pad: bool, divisor: int | None
) -> Array | float:
    """1 / what the sum of a window is divided by: one number, or (out, out, 1) where it varies."""
    if divisor is not None:
        if not isinstance(divisor, int | np.integer) or not divisor:
            raise ValueError(f"avg_pool2d: divisor_override must not be 0, got {divisor!r}")
        return 1 / divisor
    if count_include_pad and not ceil_mode:
        return 1 / (axes[0].kernel * axes[1].kernel)
    counts = []
    for axis, n in zip(axes, input.shape[-2:], strict=True):
        first = np.arange(axis.out) * axis.stride - axis.before
        margin = axis.before if count_include_pad else 0
        last = np.minimum(first + axis.kernel, n + margin)
        counts.append(last - np.maximum(first, -margin))
    return (1 / np.multiply.outer(*counts)).astype(input.dtype)[..., None]


def _pooled(
    op: str,
    input: Array,
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
    fill: float,
) -> tuple[Array, tuple[slice, ...], Axes]:
    """The input, channels last and padded; where in there it is; the axes."""
    _check(op, input)
    kernel = _pair(op, "kernel_size", kernel_size, 1)
    stride = kernel if stride is None or stride == () else stride
    axes = _axes(op, input.shape[-2:], kernel, stride, padding, dilation, ceil_mode)
    if any(a.before > a.kernel // 2 for a in axes):
        raise ValueError(
            f"{op}: padding must be at most half of kernel_size={kernel}, got {padding}"
        )
    x = _channels_last(input)
    (h, w), (rows, cols) = (a.before for a in axes), input.shape[-2:]
    ends = [
        max(a.before, (a.out - 1) * a.stride + a.dilation * (a.kernel - 1) + 1 - n - a.before)
        for a, n in zip(axes, (rows, cols), strict=True)
    ]
    if any(ends):
        x = np.pad(x, ((0, 0), (h, ends[0]), (w, ends[1]), (0, 0)), constant_values=fill)
    return x, (slice(None), slice(h, h + rows), slice(w, w + cols)), axes


def _taps(x: Array, axes: Axes) -> Iterator[Array]:
    """For each tap of the window, the pixels of x under it: (n, out, out, c), a view."""
    for offsets in product(*(range(a.kernel) for a in axes)):
        h, w = (
            slice(t * a.dilation, t * a.dilation + (a.out - 1) * a.stride + 1, a.stride)
            for t, a in zip(offsets, axes, strict=True)
        )
        yield x[:, h, w]


# Shapes and options ----------------------------------------------------------------------------


def _channels_last(x: Array) -> Array:
    """(n, c, h, w) or (c, h, w) as (n, h, w, c), a view."""
    return (x if x.ndim == 4 else x[None]).transpose(0, 2, 3, 1)


def _like(input: Array, y: Array) -> Array:
    """(n, h, w, c) as (n, c, h, w), or as (c, h, w) if that is what the input was; a view."""
    y = y.transpose(0, 3, 1, 2)
    return y if input.ndim == 4 else y[0]


def _check(op: str, input: Array, **parameters: Array | None) -> None:
    if input.ndim not in (3, 4):
        raise ValueError(f"{op}: input must be (n, c, h, w) or (c, h, w), got shape {input.shape}")
    if input.dtype not in (np.float32, np.float64):
        raise TypeError(f"{op}: input must be float32 or float64, got {input.dtype}")
    for name, value in parameters.items():
        if value is not None and value.dtype != input.dtype:
            raise TypeError(f"{op}: {name} must be {input.dtype} as input is, got {value.dtype}")


def _pair(op: str, name: str, value: Pair, least: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) and v >= least for v in pair):
        raise ValueError(f"{op}: {name} must be one or two integers >= {least}, got {value!r}")
    return pair


def _axes(
    op: str,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Pair,
    padding: Pair | str,
    dilation: Pair,
    ceil_mode: bool = False,
) -> Axes:
    stride, dilation = _pair(op, "stride", stride, 1), _pair(op, "dilation", dilation, 1)
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"{op}: padding='same' needs stride 1, got {stride}")
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before = [total // 2 for total in totals]
    else:
        before = _pair(op, "padding", 0 if padding == "valid" else padding, 0)
        totals = [2 * p for p in before]
    out = [
        (n + total - d * (k - 1) - 1) // s + 1
        for n, total, k, s, d in zip(size, totals, kernel, stride, dilation, strict=True)
    ]
    if ceil_mode:  # one more where something is left over, if it starts before the end
        out = [
            o + ((n + total - d * (k - 1) - 1) % s > 0 and o * s < n + p)
            for o, n, total, k, s, d, p in zip(
                out, size, totals, kernel, stride, dilation, before, strict=True
            )
        ]
    if min(out) < 1:
        raise ValueError(
            f"{op}: kernel {tuple(kernel)} with dilation {dilation} is larger than the input of "
            f"size {tuple(size)} with padding {padding!r}"
        )
    return tuple(map(_Axis, out, kernel, stride, dilation, before))
