"""The elementary operations, each beside its vector-Jacobian products.

Names, argument order and conventions are PyTorch's (`dim`, `keepdim`, unbiased `var`, `pad` from
the last axis), so that a line here can be checked against the same line there.

At a kink an operation has many subgradients. The one taken here:

| operation         | at                        | gradient taken                         |
|-------------------|---------------------------|----------------------------------------|
| relu(x)           | x = 0                     | 0                                      |
| abs(x)            | x = 0                     | 0                                      |
| max, min          | k entries tie             | 1/k to each                            |
| maximum, minimum  | a = b                     | 1/2 to each                            |
| clip(x, lo, hi)   | x = lo or x = hi          | 1 (the ends belong to the inside)      |
| sqrt(x)           | x = 0                     | infinite; 0 where nothing flows back   |
| log(x), a / x     | x = 0                     | infinite; 0 where nothing flows back   |
| a ** b            | a = 0, b < 1              | infinite; 0 where nothing flows back   |
| a * b, exp(x)     | b, exp(x) infinite        | infinite; 0 where nothing flows back   |
| where(c, a, b)    | any                       | exactly 0 to the branch not taken      |

"0 where nothing flows back": an incoming gradient of 0 gives 0 even if the slope is infinite, so
`where(x > 0, sqrt(x), 0)` and `where(x > 0, x * log(x), 0)` have gradient 0 at x = 0, not NaN.
Conversely, a slope of 0 (relu, abs, clip, where) gives 0 even if the incoming gradient is infinite,
so `sqrt(relu(x))` has gradient 0 at x < 0. Values at these edges (`log(0)` is -inf) raise no NumPy
warning, as in PyTorch.
"""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np.autograd.summation import pairwise_sum
from proxquant_np.autograd.tensor import (
    Array,
    Tensor,
    Traced,
    as_array,
    differentiable,
    is_array,
)
from proxquant_np.checks import check_number

Dim = int | tuple[int, ...] | None
_at_edges = np.errstate(divide="ignore", invalid="ignore")


def _idle_is_zero(g: Array, gradient: Callable[[], Array]) -> Callable[[], Array]:
    """The same gradient, but 0 wherever the incoming one is 0: here 0 * inf means 0."""
    return _at_edges(lambda: np.where(g == 0, 0, gradient()))


def _times(g: Array, slope: Array) -> Array:
    """g * slope under the same rule; faster, since it looks only if the processor saw a 0 * inf."""
    if not isinstance(g, np.ndarray):  # other libraries do not report it
        return _idle_is_zero(g, lambda: g * slope)()
    try:
        with np.errstate(invalid="raise"):
            return g * slope
    except FloatingPointError:
        return _idle_is_zero(g, lambda: g * slope)()


def _only(g: Array, where: Array) -> Array:
    """g where the condition holds, else exactly 0. Multiplies the bits as integers, for inf * 0 is
    NaN; np.where is slower."""
    return (g.view(f"i{g.itemsize}") * where).view(g.dtype)


def _promoted(a: Any, b: Any) -> tuple[Any, Any]:
    """The operands under `Tensor`'s rule: a scalar takes the dtype of a float array with axes."""
    own, other = getattr(a, "dtype", None), getattr(b, "dtype", None)  # None: Python's numbers
    if own is not other and own is not None and other is not None:
        if a.ndim and not b.ndim and own.kind == "f" and other.kind in "biuf":
            return a, b.astype(own)
        if b.ndim and not a.ndim and other.kind == "f" and own.kind in "biuf":
            return a.astype(other), b
    return a, b


def check_floats(op: str, input: Array) -> None:
    """Refuse anything but an array of floats, in the operation's name."""
    dtype = getattr(input, "dtype", None)
    if dtype is None or dtype.kind not in "fc":
        got = type(input).__name__ if dtype is None else dtype
        raise TypeError(f"{op}: input must be an array or a tensor of floats, got {got}")


def axes_of(op: str, input: Array, dim: Dim) -> Dim:
    """PyTorch's `dim` as NumPy takes it: () means all axes, like None; lists are allowed; and a
    number counts as a vector of length 1, so that it has the axes 0 and -1."""
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return None
    dims = tuple(dim) if isinstance(dim, Sequence) else (dim,)
    for d in dims:
        if isinstance(d, bool) or not isinstance(d, int | np.integer):
            raise TypeError(f"{op}: dim must be an axis, several axes or None, got {dim!r}")
        n = builtins.max(1, input.ndim)
        if not -n <= d < n:
            raise np.exceptions.AxisError(f"{op}: dim={dim} is not an axis of shape {input.shape}")
    if input.ndim == 0:
        return ()
    return dims if isinstance(dim, Sequence) else dim


# Arithmetic ------------------------------------------------------------------------------------


@differentiable
def add(input: Array, other: Array, *, alpha: float = 1) -> Traced:
    """input + alpha * other.

    Examples:
        >>> F.add(pq.Tensor([1, 2]), 10)
        Tensor([11, 12], dtype=int64)
    """
    input, other = _promoted(input, other)
    if alpha == 1:
        return input + other, lambda g: (g, g)
    return input + alpha * other, lambda g: (g, lambda: alpha * g)


@differentiable
def sub(input: Array, other: Array, *, alpha: float = 1) -> Traced:
    """input - alpha * other.

    Examples:
        >>> F.sub(pq.Tensor([1, 2]), 10)
        Tensor([-9, -8], dtype=int64)
    """
    input, other = _promoted(input, other)
    if alpha == 1:
        return input - other, lambda g: (g, lambda: -g)
    return input - alpha * other, lambda g: (g, lambda: -alpha * g)


@differentiable
@_at_edges
def mul(input: Array, other: Array) -> Traced:
    """input * other, elementwise.

    Examples:
        >>> x = pq.Tensor([2.0, 3.0], requires_grad=True)
        >>> F.mul(x, x).sum().backward()
        >>> x.grad
        array([4., 6.])
    """
    input, other = _promoted(input, other)
    return input * other, lambda g: (lambda: _times(g, other), lambda: _times(g, input))


@differentiable
@_at_edges
def div(input: Array, other: Array) -> Traced:
    """input / other.

    Examples:
        >>> F.div(pq.Tensor([1.0, 3.0]), 2)
        Tensor([0.5, 1.5], dtype=float64)
    """
    input, other = _promoted(input, other)
    y = input / other
    return y, lambda g: (
        _idle_is_zero(g, lambda: g / other),
        _idle_is_zero(g, lambda: -g * (y / other)),
    )


@differentiable
def neg(input: Array) -> Traced:
    """-input.

    Examples:
        >>> F.neg(pq.Tensor([1, -2]))
        Tensor([-1,  2], dtype=int64)
    """
    return -input, lambda g: -g


@differentiable
@_at_edges
def pow(input: Array, exponent: Array) -> Traced:
    """a ** b, for input a and exponent b.

    The gradient in b, y log(a), is defined for a > 0; at a = 0 it is taken as 0.

    Examples:
        >>> F.pow(pq.Tensor([2.0, 3.0]), 2)
        Tensor([4., 9.], dtype=float64)
    """
    a, b = _promoted(input, exponent)
    y = a**b
    return y, lambda g: (
        _idle_is_zero(g, lambda: g * np.where(np.equal(b, 0), 0, b * a ** (b - 1))),
        _idle_is_zero(g, lambda: g * np.where(np.equal(a, 0), 0, y * np.log(a))),
    )


@differentiable
def matmul(input: Array, other: Array) -> Traced:
    """Matrix product input @ other; leading axes broadcast as batch axes; vectors as in NumPy.

    Examples:
        >>> F.matmul(pq.Tensor([[1, 2], [3, 4]]), pq.Tensor([1, 1]))
        Tensor([3, 7], dtype=int64)
    """
    a, b = input, other
    if a.ndim > 1 and b.ndim > 1:
        return a @ b, lambda g: (lambda: g @ b.mT, lambda: a.mT @ g)
    y = a @ b
    row = a[None, :] if a.ndim == 1 else a  # a vector is a matrix with one row (or one column)
    col = b[:, None] if b.ndim == 1 else b
    full = np.broadcast_shapes(row.shape[:-2], col.shape[:-2]) + (row.shape[-2], col.shape[-1])

    def to_b(g: Array) -> Array:
        gb = row.mT @ g.reshape(full)
        return gb[..., 0] if b.ndim == 1 else gb

    return y, lambda g: (lambda: g.reshape(full) @ col.mT, lambda: to_b(g))


@differentiable
def linear(input: Array, weight: Array, bias: Array | None = None) -> Traced:
    """y = input @ weight^T + bias: input (..., n_in), weight (n_out, n_in), bias (n_out,).

    Examples:
        >>> F.linear(pq.Tensor([1, 2]), pq.Tensor([[1, 0], [0, 1], [1, 1]]), pq.Tensor([0, 0, 10]))
        Tensor([ 1,  2, 13], dtype=int64)
    """
    if weight.ndim != 2 or input.ndim == 0 or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: input must have shape (..., n_in) and weight (n_out, n_in), "
            f"got {input.shape} and {weight.shape}"
        )
    n_out, n_in = weight.shape
    if bias is not None and bias.shape != (n_out,):
        raise ValueError(f"linear: bias must have shape ({n_out},), got {bias.shape}")
    n = math.prod(input.shape[:-1])
    rows = input.reshape(n, n_in)
    y = rows @ weight.T
    if bias is not None:
        y = np.add(y, bias, out=y if y.dtype == bias.dtype else None)
    return y.reshape(input.shape[:-1] + (n_out,)), lambda g: (
        lambda: (g.reshape(n, n_out) @ weight).reshape(input.shape),
        lambda: g.reshape(n, n_out).T @ rows,
        lambda: pairwise_sum(g.reshape(n, n_out), 0),
    )


# Elementwise functions -------------------------------------------------------------------------


@differentiable
def exp(input: Array) -> Traced:
    """e ** x.

    Examples:
        >>> F.exp(pq.Tensor([0.0, -np.inf]))
        Tensor([1., 0.], dtype=float64)
    """
    y = np.exp(input)
    return y, lambda g: _times(g, y)


@differentiable
@_at_edges
def log(input: Array) -> Traced:
    """Natural logarithm.

    Examples:
        >>> F.log(pq.Tensor([1.0, 0.0]))
        Tensor([  0., -inf], dtype=float64)
    """
    return np.log(input), lambda g: _idle_is_zero(g, lambda: g / input)


@differentiable
@_at_edges
def sqrt(input: Array) -> Traced:
    """Square root.

    Examples:
        >>> F.sqrt(pq.Tensor([4.0, 9.0]))
        Tensor([2., 3.], dtype=float64)
    """
    y = np.sqrt(input)
    return y, lambda g: _idle_is_zero(g, lambda: g / (2 * y))


@differentiable
def abs(input: Array) -> Traced:
    """|x|.

    Examples:
        >>> x = pq.Tensor([-2.0, 0.0, 2.0], requires_grad=True)
        >>> F.abs(x).sum().backward()
        >>> x.grad
        array([-1.,  0.,  1.])
    """
    return np.abs(input), lambda g: _only(g, input > 0) - _only(g, input < 0)


@differentiable
def maximum(input: Array, other: Array) -> Traced:
    """The larger of input and other, elementwise.

    Examples:
        >>> F.maximum(pq.Tensor([1, 5]), pq.Tensor([3, 2]))
        Tensor([3, 5], dtype=int64)
    """
    input, other = _promoted(input, other)
    return np.maximum(input, other), lambda g: (
        lambda: (_only(g, input > other) + _only(g, input >= other)) / 2,
        lambda: (_only(g, input < other) + _only(g, input <= other)) / 2,
    )


@differentiable
def minimum(input: Array, other: Array) -> Traced:
    """The smaller of input and other, elementwise.

    Examples:
        >>> F.minimum(pq.Tensor([1, 5]), pq.Tensor([3, 2]))
        Tensor([1, 2], dtype=int64)
    """
    input, other = _promoted(input, other)
    return np.minimum(input, other), lambda g: (
        lambda: (_only(g, input < other) + _only(g, input <= other)) / 2,
        lambda: (_only(g, input > other) + _only(g, input >= other)) / 2,
    )


@differentiable
def clip(input: Array, min: Any = None, max: Any = None) -> Traced:
    """`input` limited to [min, max]; None leaves a side open; where min > max, the result is max.

    Limits may be tensors; each receives the gradient of the entries it replaces.

    Examples:
        >>> x = pq.Tensor([-2.0, 0.5, 1.0], requires_grad=True)
        >>> y = F.clip(x, -1, 1)
        >>> y.sum().backward()
        >>> y.numpy(), x.grad
        (array([-1. ,  0.5,  1. ]), array([0., 1., 1.]))
    """
    min, max = _promoted(input, min)[1], _promoted(input, max)[1]
    if input.dtype.kind == "f":  # as in PyTorch, integer limits do not widen floats
        min, max = (
            v.astype(input.dtype) if getattr(v, "dtype", input.dtype).kind in "iu" else v
            for v in (min, max)
        )
    above = np.True_ if min is None else input >= min
    below = np.True_ if max is None else input <= max
    ordered = np.True_ if min is None or max is None else np.less_equal(min, max)
    # NumPy 2.0's own clip needs at least one limit.
    y = input.copy() if min is None and max is None else np.clip(input, min, max)
    return y, lambda g: (
        lambda: _only(g, above & below),
        lambda: _only(g, ~above & ordered),
        lambda: _only(g, ~(below & ordered)),
    )


@differentiable
def where(condition: Array, input: Array, other: Array) -> Traced:
    """input where the condition holds, else other.

    Examples:
        >>> F.where(np.array([True, False]), pq.Tensor([1, 2]), pq.Tensor([3, 4]))
        Tensor([1, 4], dtype=int64)
    """
    condition = as_array(condition).astype(bool, copy=False)
    y = np.where(condition, *_promoted(input, other))
    return y, lambda g: (None, lambda: _only(g, condition), lambda: _only(g, ~condition))


@differentiable
def relu(input: Array) -> Traced:
    """max(x, 0).

    Examples:
        >>> F.relu(pq.Tensor([-1.0, 2.0]))
        Tensor([0., 2.], dtype=float64)
    """
    y = np.maximum(input, 0)
    return y, lambda g: _only(g, y > 0)


@differentiable
def tanh(input: Array) -> Traced:
    """Hyperbolic tangent.

    Examples:
        >>> F.tanh(pq.Tensor([0.0, np.inf]))
        Tensor([0., 1.], dtype=float64)
    """
    y = np.tanh(input)
    return y, lambda g: g * (1 - y * y)


def _sigmoid(x: Array) -> Array:
    # Neither exponential can overflow, and the left tail keeps its relative precision.
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


@differentiable
def sigmoid(input: Array) -> Traced:
    """1 / (1 + e**-x).

    Examples:
        >>> F.sigmoid(pq.Tensor([-np.inf, 0.0, np.inf]))
        Tensor([0. , 0.5, 1. ], dtype=float64)
    """
    y = _sigmoid(input)
    return y, lambda g: g * (y * (1 - y))


@differentiable
def softplus(input: Array, beta: float = 1.0, threshold: float = 20.0) -> Traced:
    """log(1 + e**(beta x)) / beta, with the derivative sigmoid(beta x).

    Where beta x > threshold, the result is x itself, as in PyTorch. With the default 20 it is then
    up to 2e-9 too small, which shows only in float64; `threshold=np.inf` avoids that.

    Examples:
        >>> F.softplus(pq.Tensor([-np.inf, 30.0]), beta=2)
        Tensor([ 0., 30.], dtype=float64)
    """
    check_number("softplus: beta", beta, above=0, below=math.inf)
    z = input if beta == 1 else beta * input
    linear = z > threshold
    y = np.logaddexp(z, 0)
    return (
        np.where(linear, input, y if beta == 1 else y / beta),
        lambda g: np.where(linear, g, g * _sigmoid(z)),
    )


# Reductions ------------------------------------------------------------------------------------
# Each is computed with the reduced axes kept at length 1. The gradient comes back in that shape,
# too, and broadcasting does the rest.


def _drop(y: Array, dim: Dim, keepdim: bool) -> Array:
    return y if keepdim else np.squeeze(y, axis=dim)


def _mean(name: str, input: Array, dim: Dim) -> tuple[Array, int]:
    """The mean with reduced axes kept, and the number of entries in each mean."""
    dims = range(input.ndim) if dim is None else (dim,) if np.isscalar(dim) else dim
    n = math.prod(input.shape[d] for d in dims)
    if n == 0:
        raise ValueError(f"{name}: nothing to average along dim={dim} of shape {input.shape}")
    return pairwise_sum(input, dim, keepdims=True) / n, n


@differentiable
def sum(input: Array, dim: Dim = None, keepdim: bool = False) -> Traced:
    """Sum over `dim` (an axis, several, or None for all).

    Examples:
        >>> F.sum(pq.Tensor([[1, 2], [3, 4]]), dim=0)
        Tensor([4, 6], dtype=int64)
    """
    dim = axes_of("sum", input, dim)
    y = pairwise_sum(input, dim, keepdims=True)
    return _drop(y, dim, keepdim), lambda g: np.broadcast_to(g.reshape(y.shape), input.shape)


@differentiable
def mean(input: Array, dim: Dim = None, keepdim: bool = False) -> Traced:
    """Mean over `dim`.

    Examples:
        >>> F.mean(pq.Tensor([[1.0, 2.0], [3.0, 4.0]]), dim=1)
        Tensor([1.5, 3.5], dtype=float64)
    """
    dim = axes_of("mean", input, dim)
    y, n = _mean("mean", input, dim)
    return _drop(y, dim, keepdim), lambda g: np.broadcast_to(g.reshape(y.shape) / n, input.shape)


@differentiable
def var(
    input: Array, dim: Dim = None, correction: float | None = 1, keepdim: bool = False
) -> Traced:
    """Variance over `dim`, sum (x - mean)^2 / (n - correction); unbiased by default, as in PyTorch.

    `correction=None` means the default 1. PyTorch's older `unbiased` means correction 1 or 0.

    Examples:
        >>> x = pq.Tensor([1.0, 2.0, 3.0])
        >>> F.var(x).item(), round(F.var(x, correction=0).item(), 4)
        (1.0, 0.6667)
    """
    dim, correction = axes_of("var", input, dim), 1 if correction is None else correction
    mean, n = _mean("var", input, dim)
    if n <= correction:
        raise ValueError(
            f"var: dim={dim} must have more than correction={correction} entries, "
            f"got shape {input.shape}"
        )
    freedom = float(n - correction)
    centred = input - mean
    centred -= pairwise_sum(centred, dim, keepdims=True) / n  # the rounding error of the mean
    y = pairwise_sum(centred * centred, dim, keepdims=True) / freedom
    return _drop(y, dim, keepdim), lambda g: g.reshape(y.shape) * (2 / freedom) * centred


def _extremum(reduce: Callable, input: Array, dim: Dim, keepdim: bool) -> Traced:
    name = reduce.__name__.removeprefix("a")
    if is_array(dim):
        raise TypeError(f"{name}: dim must be an axis; for two tensors use F.{name}imum")
    dim = axes_of(name, input, dim)
    y = reduce(input, axis=dim, keepdims=True)

    def vjp(g: Array) -> Array:
        ties = input == y
        count = np.sum(ties, dim, keepdims=True).astype(g.dtype)  # exact: a sum of integers
        return _only(g.reshape(y.shape) / count, ties)

    return _drop(y, dim, keepdim), vjp


@differentiable
def max(input: Array, dim: Dim = None, keepdim: bool = False) -> Traced:
    """Largest entry over `dim` (the value only).

    Examples:
        >>> x = pq.Tensor([1.0, 3.0, 3.0], requires_grad=True)
        >>> F.max(x).backward()
        >>> x.grad
        array([0. , 0.5, 0.5])
    """
    return _extremum(np.amax, input, dim, keepdim)


@differentiable
def min(input: Array, dim: Dim = None, keepdim: bool = False) -> Traced:
    """Smallest entry over `dim` (the value only).

    Examples:
        >>> F.min(pq.Tensor([[1, 2], [4, 3]]), dim=1)
        Tensor([1, 3], dtype=int64)
    """
    return _extremum(np.amin, input, dim, keepdim)


# Shapes ----------------------------------------------------------------------------------------


@differentiable
def reshape(input: Array, shape: int | tuple[int, ...]) -> Traced:
    """The same entries in C order with another shape; one length may be -1.

    Examples:
        >>> F.reshape(pq.Tensor([1, 2, 3, 4]), (2, -1)).shape
        (2, 2)
    """
    return np.reshape(input, shape), lambda g: g.reshape(input.shape)


@differentiable
def transpose(input: Array, dim0: int, dim1: int) -> Traced:
    """Swap two axes.

    Examples:
        >>> F.transpose(pq.Tensor(np.zeros((2, 3, 4))), 0, 2).shape
        (4, 3, 2)
    """
    dim0, dim1 = (axes_of("transpose", input, d) for d in (dim0, dim1))
    if input.ndim == 0:
        return input, lambda g: g
    return np.swapaxes(input, dim0, dim1), lambda g: np.swapaxes(g, dim0, dim1)


@differentiable
def permute(input: Array, dims: tuple[int, ...]) -> Traced:
    """Reorder all axes: axis k of the result is axis dims[k] of the input.

    Examples:
        >>> F.permute(pq.Tensor(np.zeros((2, 3, 4))), (1, 2, 0)).shape
        (3, 4, 2)
    """
    inverse = np.argsort([d % input.ndim for d in dims]).tolist()
    return np.transpose(input, dims), lambda g: np.transpose(g, inverse)


@differentiable
def getitem(input: Array, index: Any) -> Traced:
    """input[index], any NumPy indexing; an entry taken several times gets the sum of its gradients.

    Examples:
        >>> x = pq.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> F.getitem(x, [0, 0, 2]).sum().backward()
        >>> x.grad
        array([2., 0., 1.])
    """
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(p.data if isinstance(p, Tensor) else p for p in parts)
    basic = all(p is None or p is ... or isinstance(p, int | np.integer | slice) for p in parts)
    if not basic and not isinstance(input, np.ndarray):  # indices must lie where the entries do
        listed = list, np.ndarray
        parts = tuple(np.asarray(p, like=input) if isinstance(p, listed) else p for p in parts)

    def vjp(g: Array) -> Array:
        # `add.at` adds one entry after the other, many to the same place perhaps: in float64.
        full = np.zeros(input.shape, g.dtype if basic else np.float64, like=g)
        if basic:
            full[parts] = g
        else:
            np.add.at(full, parts, g.astype(np.float64))
        return full

    return input[parts], vjp


@differentiable
def _concatenate(*arrays: Array, dim: int = 0) -> Traced:
    if len({a.ndim for a in arrays}) > 1:
        shapes = [a.shape for a in arrays]
        raise ValueError(f"concatenate: tensors must have the same number of axes, got {shapes}")
    y = np.concatenate(arrays, axis=dim)
    ends = list(itertools.accumulate(a.shape[dim] for a in arrays))[:-1]
    return y, lambda g: tuple(np.split(g, ends, axis=dim))


def concatenate(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Join tensors along an existing axis.

    Examples:
        >>> F.concatenate([pq.Tensor([1, 2]), pq.Tensor([3])])
        Tensor([1, 2, 3], dtype=int64)
    """
    return _concatenate(*tensors, dim=dim if axis is None else axis)


@differentiable
def _stack(*arrays: Array, dim: int = 0) -> Traced:
    return np.stack(arrays, axis=dim), lambda g: tuple(np.moveaxis(g, dim, 0))


def stack(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Join tensors of one shape along a new axis.

    Examples:
        >>> F.stack([pq.Tensor([1, 2]), pq.Tensor([3, 4])], dim=1).shape
        (2, 2)
    """
    return _stack(*tensors, dim=dim if axis is None else axis)


@differentiable
def pad(input: Array, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Traced:
    """Surround with `value`; `pad` is (before, after) for the last axis, then the one before it...

    A negative length removes entries.

    Examples:
        >>> F.pad(pq.Tensor([[1, 2]]), (1, 0))
        Tensor([[0, 1, 2]], dtype=int64)
    """
    if mode != "constant":
        raise ValueError(f"pad: mode must be 'constant', got {mode!r}")
    padded = list(zip(pad[::2], pad[1::2], strict=False))[::-1]
    pairs = [(0, 0)] * (input.ndim - len(padded)) + padded
    sizes = [before + n + after for (before, after), n in zip(pairs, input.shape, strict=False)]
    if len(pad) % 2 or len(pad) > 2 * input.ndim or builtins.min(sizes, default=0) < 0:
        raise ValueError(
            f"pad: pad must hold two lengths for each of at most {input.ndim} axes, and remove "
            f"no more than the shape {input.shape} has, got {tuple(pad)}"
        )
    kept = tuple(slice(*_less(-b, -a, n)) for (b, a), n in zip(pairs, input.shape, strict=True))
    inside = tuple(slice(*_less(b, a, n)) for (b, a), n in zip(pairs, sizes, strict=True))
    y = np.full_like(input, 0 if value is None else value, order="C", shape=tuple(sizes))
    y[inside] = input[kept]

    def vjp(g: Array) -> Array:
        if builtins.min(pad, default=0) >= 0:
            return g[inside]
        full = np.zeros(input.shape, g.dtype, like=g)
        full[kept] = g[inside]
        return full

    return y, vjp


def _less(before: int, after: int, n: int) -> tuple[int, int]:
    """Start and stop of an axis of length n without its ends; negative ends count as 0."""
    start = builtins.max(0, before)
    return start, builtins.max(start, n - builtins.max(0, after))


# Randomness and quantization -------------------------------------------------------------------


@differentiable
def dropout(
    input: Array,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: np.random.Generator | None = None,
) -> Traced:
    """Zero each entry with probability p and divide the others by 1 - p; identity if not training.

    `rng` is required whenever something is drawn (training and p > 0). Integers then become
    float64, because 1 / (1 - p) is not an integer.

    Examples:
        >>> y = F.dropout(pq.Tensor(np.ones(1000)), p=0.75, rng=np.random.default_rng(0))
        >>> np.unique(y.numpy())
        array([0., 4.])
        >>> F.dropout(pq.Tensor([1.0, 2.0]), p=0.75, training=False)
        Tensor([1., 2.], dtype=float64)
    """
    check_number("dropout: p", p, least=0, most=1)
    if not training or p == 0:
        return input, lambda g: g
    if rng is None:
        raise ValueError("dropout: rng must be a numpy.random.Generator when training, got None")
    dtype = input.dtype if input.dtype.kind in "fc" else np.dtype(np.float64)
    scale = dtype.type(1 / (1 - p) if p < 1 else 0)
    kept = rng.random(input.shape, np.float32) >= p  # drawn on the host: equal on every device
    keep = np.asarray(kept, like=input) * scale
    return input * keep, lambda g: g * keep


@differentiable
def straight_through(
    w: Array,
    projection: Callable[[Array], Array],
    backward: Callable[[Array], Array] | None = None,
) -> Traced:
    """projection(w) forward; backward, the gradient unchanged, or times backward(w) if given.

    The result has the dtype of w, whatever the projection's. The backward pass is not a derivative,
    since that of a projection is 0 almost everywhere. Without `backward` it treats the projection
    as the identity (Bengio et al. 2013): this is what BinaryConnect does, and with SGD it equals
    dual averaging (optim/dual_averaging.py). With `backward=lambda w: abs(w) <= 1` it is the
    clipped straight-through estimator (Hubara et al. 2016). In general the pair is a forward and a
    backward quantizer of ProxConnect++ (Lu et al. 2023; theory/forward_backward.py).

    Examples:
        >>> w = pq.Tensor([-0.3, 1.7], requires_grad=True)
        >>> q = F.straight_through(w, pq.prox.sign_pm)
        >>> (q * pq.Tensor([5.0, 6.0])).sum().backward()
        >>> q.numpy(), w.grad
        (array([-1.,  1.]), array([5., 6.]))
        >>> w.grad = None
        >>> clipped = F.straight_through(w, pq.prox.sign_pm, backward=lambda w: abs(w) <= 1)
        >>> (clipped * pq.Tensor([5.0, 6.0])).sum().backward()
        >>> w.grad
        array([5., 0.])
    """
    # Integers or booleans could carry no gradient.
    y = as_array(projection(w)).astype(w.dtype, copy=False)
    if y.shape != w.shape:
        raise ValueError(
            f"straight_through: projection must keep the shape {w.shape}, got {y.shape}"
        )
    if backward is None:
        return y, lambda g: g
    factor = as_array(backward(w)).astype(w.dtype, copy=False)
    if factor.shape != w.shape:
        raise ValueError(
            f"straight_through: backward must keep the shape {w.shape}, got {factor.shape}"
        )
    return y, lambda g: g * factor


# The operators and methods of Tensor -----------------------------------------------------------

Tensor.__add__ = Tensor.__radd__ = add
Tensor.__sub__, Tensor.__rsub__ = sub, lambda a, b: sub(b, a)
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__truediv__, Tensor.__rtruediv__ = div, lambda a, b: div(b, a)
Tensor.__pow__, Tensor.__rpow__ = pow, lambda a, b: pow(b, a)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, lambda a, b: matmul(b, a)
Tensor.__neg__ = neg
Tensor.__abs__ = Tensor.abs = abs
Tensor.__getitem__ = getitem
Tensor.reshape = lambda x, *shape: reshape(x, shape[0] if len(shape) == 1 else shape)
Tensor.permute = lambda x, *dims: permute(x, dims[0] if len(dims) == 1 else dims)
Tensor.T = property(lambda x: permute(x, tuple(range(x.ndim))[::-1]))
Tensor.mT = property(lambda x: transpose(x, -1, -2))
for _op in (
    sum,
    mean,
    var,
    max,
    min,
    exp,
    log,
    sqrt,
    relu,
    tanh,
    sigmoid,
    clip,
    transpose,
):
    setattr(Tensor, _op.__name__, _op)
