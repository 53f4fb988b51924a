"""Layer 1, differentiate: the elementary operations, each beside its vector-Jacobian products.

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
`where(x > 0, sqrt(x), 0)` and `where(x > 0, x * log(x), 0)` have the gradient 0 at x = 0, not NaN.
The other way round, a slope of 0 (relu, abs, clip, where) gives 0 even if the incoming gradient is
infinite, so `sqrt(relu(x))` has the gradient 0 at x < 0. Values at these edges (`log(0)` is -inf)
come without NumPy's warning, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np.autograd.summation import pairwise_sum
from proxquant_np.autograd.tensor import VJP, Array, Tensor, Traced, differentiable

Dim = int | tuple[int, ...] | None
_at_edges = np.errstate(divide="ignore", invalid="ignore")


def _idle_is_zero(vjp: VJP) -> VJP:
    """The same VJP, but 0 wherever the incoming gradient is 0: there, 0 * inf means 0."""

    @_at_edges
    def quiet(g: Array) -> Array:
        return np.where(g == 0, 0, vjp(g))

    return quiet


def _times(g: Array, slope: Array) -> Array:
    """g * slope, the same way. Quicker: it looks only if the processor has noted a 0 * inf."""
    try:
        with np.errstate(invalid="raise"):
            return g * slope
    except FloatingPointError:
        return _idle_is_zero(lambda g: g * slope)(g)


def _only(g: Array, where: Array) -> Array:
    """g where it holds, else exactly 0. On integers, since inf * 0 is NaN; np.where is slower."""
    return (g.view(f"i{g.itemsize}") * where).view(g.dtype)


def _promoted(a: Any, b: Any) -> tuple[Any, Any]:
    """The operands under the rule of `Tensor`: a number takes the dtype of floats with axes."""
    own, other = getattr(a, "dtype", None), getattr(b, "dtype", None)  # None: Python's numbers
    if own is not other and own is not None and other is not None:
        if a.ndim and not b.ndim and own.kind == "f" and other.kind in "biuf":
            return a, b.astype(own)
        if b.ndim and not a.ndim and other.kind == "f" and own.kind in "biuf":
            return a.astype(other), b
    return a, b


# Arithmetic ------------------------------------------------------------------------------------


@differentiable
def add(a: Array, b: Array) -> Traced:
    """a + b.

    Examples:
        >>> F.add(pq.Tensor([1, 2]), 10)
        Tensor([11, 12], dtype=int64)
    """
    a, b = _promoted(a, b)
    return a + b, (lambda g: g, lambda g: g)


@differentiable
def sub(a: Array, b: Array) -> Traced:
    """a - b.

    Examples:
        >>> F.sub(pq.Tensor([1, 2]), 10)
        Tensor([-9, -8], dtype=int64)
    """
    a, b = _promoted(a, b)
    return a - b, (lambda g: g, lambda g: -g)


@differentiable
@_at_edges
def mul(a: Array, b: Array) -> Traced:
    """a * b, entry by entry.

    Examples:
        >>> x = pq.Tensor([2.0, 3.0], requires_grad=True)
        >>> F.mul(x, x).sum().backward()
        >>> x.grad
        array([4., 6.])
    """
    a, b = _promoted(a, b)
    return a * b, (lambda g: _times(g, b), lambda g: _times(g, a))


@differentiable
@_at_edges
def div(a: Array, b: Array) -> Traced:
    """a / b.

    Examples:
        >>> F.div(pq.Tensor([1.0, 3.0]), 2)
        Tensor([0.5, 1.5], dtype=float64)
    """
    a, b = _promoted(a, b)
    y = a / b
    return y, (_idle_is_zero(lambda g: g / b), _idle_is_zero(lambda g: -g * (y / b)))


@differentiable
def neg(x: Array) -> Traced:
    """-x.

    Examples:
        >>> F.neg(pq.Tensor([1, -2]))
        Tensor([-1,  2], dtype=int64)
    """
    return -x, lambda g: -g


@differentiable
@_at_edges
def pow(a: Array, b: Array) -> Traced:
    """a ** b. The gradient in b, y log(a), is defined for a > 0; at a = 0 it is taken as 0.

    Examples:
        >>> F.pow(pq.Tensor([2.0, 3.0]), 2)
        Tensor([4., 9.], dtype=float64)
    """
    a, b = _promoted(a, b)
    y = a**b
    return y, (
        _idle_is_zero(lambda g: g * np.where(np.equal(b, 0), 0, b * a ** (b - 1))),
        _idle_is_zero(lambda g: g * np.where(np.equal(a, 0), 0, y * np.log(a))),
    )


@differentiable
def matmul(a: Array, b: Array) -> Traced:
    """Matrix product a @ b; leading axes are batch axes and broadcast; vectors as in NumPy.

    Examples:
        >>> F.matmul(pq.Tensor([[1, 2], [3, 4]]), pq.Tensor([1, 1]))
        Tensor([3, 7], dtype=int64)
    """
    if a.ndim > 1 and b.ndim > 1:
        return a @ b, (lambda g: g @ b.mT, lambda g: a.mT @ g)
    y = a @ b
    row = a[None, :] if a.ndim == 1 else a  # a vector is a matrix with one row (or one column)
    col = b[:, None] if b.ndim == 1 else b
    full = np.broadcast_shapes(row.shape[:-2], col.shape[:-2]) + (row.shape[-2], col.shape[-1])

    def to_b(g: Array) -> Array:
        gb = row.mT @ g.reshape(full)
        return gb[..., 0] if b.ndim == 1 else gb

    return y, (lambda g: g.reshape(full) @ col.mT, to_b)


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
    return y.reshape(input.shape[:-1] + (n_out,)), (
        lambda g: (g.reshape(n, n_out) @ weight).reshape(input.shape),
        lambda g: g.reshape(n, n_out).T @ rows,
        lambda g: pairwise_sum(g.reshape(n, n_out), 0),
    )


# Elementwise functions -------------------------------------------------------------------------


@differentiable
def exp(x: Array) -> Traced:
    """e ** x.

    Examples:
        >>> F.exp(pq.Tensor([0.0, -np.inf]))
        Tensor([1., 0.], dtype=float64)
    """
    y = np.exp(x)
    return y, lambda g: _times(g, y)


@differentiable
@_at_edges
def log(x: Array) -> Traced:
    """Natural logarithm.

    Examples:
        >>> F.log(pq.Tensor([1.0, 0.0]))
        Tensor([  0., -inf], dtype=float64)
    """
    return np.log(x), _idle_is_zero(lambda g: g / x)


@differentiable
@_at_edges
def sqrt(x: Array) -> Traced:
    """Square root.

    Examples:
        >>> F.sqrt(pq.Tensor([4.0, 9.0]))
        Tensor([2., 3.], dtype=float64)
    """
    y = np.sqrt(x)
    return y, _idle_is_zero(lambda g: g / (2 * y))


@differentiable
def abs(x: Array) -> Traced:
    """|x|.

    Examples:
        >>> x = pq.Tensor([-2.0, 0.0, 2.0], requires_grad=True)
        >>> F.abs(x).sum().backward()
        >>> x.grad
        array([-1.,  0.,  1.])
    """
    return np.abs(x), lambda g: _only(g, x > 0) - _only(g, x < 0)


@differentiable
def maximum(a: Array, b: Array) -> Traced:
    """The larger of a and b, entry by entry.

    Examples:
        >>> F.maximum(pq.Tensor([1, 5]), pq.Tensor([3, 2]))
        Tensor([3, 5], dtype=int64)
    """
    a, b = _promoted(a, b)
    return np.maximum(a, b), (
        lambda g: (_only(g, a > b) + _only(g, a >= b)) / 2,
        lambda g: (_only(g, a < b) + _only(g, a <= b)) / 2,
    )


@differentiable
def minimum(a: Array, b: Array) -> Traced:
    """The smaller of a and b, entry by entry.

    Examples:
        >>> F.minimum(pq.Tensor([1, 5]), pq.Tensor([3, 2]))
        Tensor([1, 2], dtype=int64)
    """
    a, b = _promoted(a, b)
    return np.minimum(a, b), (
        lambda g: (_only(g, a < b) + _only(g, a <= b)) / 2,
        lambda g: (_only(g, a > b) + _only(g, a >= b)) / 2,
    )


@differentiable
def clip(input: Array, min: Any = None, max: Any = None) -> Traced:
    """`input` limited to [min, max]; None leaves a side open. The limits take no gradient.

    Examples:
        >>> x = pq.Tensor([-2.0, 0.5, 1.0], requires_grad=True)
        >>> y = F.clip(x, -1, 1)
        >>> y.sum().backward()
        >>> y.numpy(), x.grad
        (array([-1. ,  0.5,  1. ]), array([0., 1., 1.]))
    """
    min, max = _promoted(input, min)[1], _promoted(input, max)[1]
    above = True if min is None else input >= min
    below = True if max is None else input <= max
    # NumPy 2.0's own clip refuses to have no limit at all.
    y = input.copy() if min is None and max is None else np.clip(input, min, max)
    return y, (lambda g: _only(g, above & below), None, None)


@differentiable
def where(condition: Array, a: Array, b: Array) -> Traced:
    """a where condition holds, else b.

    Examples:
        >>> F.where(np.array([True, False]), pq.Tensor([1, 2]), pq.Tensor([3, 4]))
        Tensor([1, 4], dtype=int64)
    """
    condition = np.asarray(condition, bool)
    y = np.where(condition, *_promoted(a, b))
    return y, (None, lambda g: _only(g, condition), lambda g: _only(g, ~condition))


@differentiable
def relu(x: Array) -> Traced:
    """max(x, 0).

    Examples:
        >>> F.relu(pq.Tensor([-1.0, 2.0]))
        Tensor([0., 2.], dtype=float64)
    """
    y = np.maximum(x, 0)
    return y, lambda g: _only(g, y > 0)


@differentiable
def tanh(x: Array) -> Traced:
    """Hyperbolic tangent.

    Examples:
        >>> F.tanh(pq.Tensor([0.0, np.inf]))
        Tensor([0., 1.], dtype=float64)
    """
    y = np.tanh(x)
    return y, lambda g: g * (1 - y * y)


def _sigmoid(x: Array) -> Array:
    # Neither exponential can overflow, and the left tail keeps its relative precision.
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


@differentiable
def sigmoid(x: Array) -> Traced:
    """1 / (1 + e**-x).

    Examples:
        >>> F.sigmoid(pq.Tensor([-np.inf, 0.0, np.inf]))
        Tensor([0. , 0.5, 1. ], dtype=float64)
    """
    y = _sigmoid(x)
    return y, lambda g: g * (y * (1 - y))


@differentiable
def softplus(x: Array) -> Traced:
    """log(1 + e**x), whose derivative is the sigmoid.

    Examples:
        >>> F.softplus(pq.Tensor([-np.inf, 1000.0]))
        Tensor([   0., 1000.], dtype=float64)
    """
    return np.logaddexp(x, 0), lambda g: g * _sigmoid(x)


# Reductions ------------------------------------------------------------------------------------
# Each is computed with its reduced axes kept at length 1, which is also the shape in which the
# gradient comes back: broadcasting does the rest.


def _drop(y: Array, dim: Dim, keepdim: bool) -> Array:
    return y if keepdim else np.squeeze(y, axis=dim)


def _mean(name: str, input: Array, dim: Dim) -> tuple[Array, int]:
    """The mean with reduced axes kept, and how many entries each mean is of."""
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
    y = pairwise_sum(input, dim, keepdims=True)
    return _drop(y, dim, keepdim), lambda g: np.broadcast_to(g.reshape(y.shape), input.shape)


@differentiable
def mean(input: Array, dim: Dim = None, keepdim: bool = False) -> Traced:
    """Mean over `dim`.

    Examples:
        >>> F.mean(pq.Tensor([[1.0, 2.0], [3.0, 4.0]]), dim=1)
        Tensor([1.5, 3.5], dtype=float64)
    """
    y, n = _mean("mean", input, dim)
    return _drop(y, dim, keepdim), lambda g: np.broadcast_to(g.reshape(y.shape) / n, input.shape)


@differentiable
def var(input: Array, dim: Dim = None, correction: int = 1, keepdim: bool = False) -> Traced:
    """Variance over `dim`, sum (x - mean)^2 / (n - correction): unbiased by default, as PyTorch.

    Examples:
        >>> x = pq.Tensor([1.0, 2.0, 3.0])
        >>> F.var(x).item(), round(F.var(x, correction=0).item(), 4)
        (1.0, 0.6667)
    """
    mean, n = _mean("var", input, dim)
    if n <= correction:
        raise ValueError(
            f"var: needs more than correction={correction} entries along dim={dim}, "
            f"got shape {input.shape}"
        )
    freedom = float(n - correction)
    centred = input - mean
    centred -= pairwise_sum(centred, dim, keepdims=True) / n  # which the mean was rounded by
    y = pairwise_sum(centred * centred, dim, keepdims=True) / freedom
    return _drop(y, dim, keepdim), lambda g: g.reshape(y.shape) * (2 / freedom) * centred


def _extremum(reduce: Callable, input: Array, dim: Dim, keepdim: bool) -> Traced:
    y = reduce(input, axis=dim, keepdims=True)

    def vjp(g: Array) -> Array:
        ties = input == y
        count = np.sum(ties, dim, keepdims=True).astype(g.dtype)  # summed as integers: exact
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
    return _extremum(np.max, input, dim, keepdim)


@differentiable
def min(input: Array, dim: Dim = None, keepdim: bool = False) -> Traced:
    """Smallest entry over `dim` (the value only).

    Examples:
        >>> F.min(pq.Tensor([[1, 2], [4, 3]]), dim=1)
        Tensor([1, 3], dtype=int64)
    """
    return _extremum(np.min, input, dim, keepdim)


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
    return np.swapaxes(input, dim0, dim1), lambda g: np.swapaxes(g, dim0, dim1)


@differentiable
def permute(input: Array, dims: tuple[int, ...]) -> Traced:
    """Reorder all axes: axis k of the result is axis dims[k] of the input.

    Examples:
        >>> F.permute(pq.Tensor(np.zeros((2, 3, 4))), (1, 2, 0)).shape
        (3, 4, 2)
    """
    inverse = np.argsort([d % input.ndim for d in dims])
    return np.transpose(input, dims), lambda g: np.transpose(g, inverse)


@differentiable
def getitem(input: Array, index: Any) -> Traced:
    """input[index], any NumPy indexing; entries taken twice get both gradients.

    Examples:
        >>> x = pq.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> F.getitem(x, [0, 0, 2]).sum().backward()
        >>> x.grad
        array([2., 0., 1.])
    """
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(p.data if isinstance(p, Tensor) else p for p in parts)
    basic = all(p is None or p is ... or isinstance(p, int | np.integer | slice) for p in parts)

    def vjp(g: Array) -> Array:
        # One entry after the other, and an entry may be taken often: summed in float64.
        full = np.zeros(input.shape, g.dtype if basic else np.float64)
        if basic:
            full[parts] = g
        else:
            np.add.at(full, parts, g.astype(np.float64))
        return full

    return input[parts], vjp


@differentiable
def _concatenate(*arrays: Array, dim: int = 0) -> Traced:
    ends = np.cumsum([a.shape[dim] for a in arrays])[:-1]
    return np.concatenate(arrays, axis=dim), lambda g: tuple(np.split(g, ends, axis=dim))


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
    """Surround with `value`. `pad` = (before, after) of the last axis, then of the one before...

    Examples:
        >>> F.pad(pq.Tensor([[1, 2]]), (1, 0))
        Tensor([[0, 1, 2]], dtype=int64)
    """
    if mode != "constant":
        raise ValueError(f"pad: mode must be 'constant', got {mode!r}")
    if len(pad) % 2 or len(pad) > 2 * input.ndim or any(p < 0 for p in pad):
        raise ValueError(
            f"pad: pad must hold two non-negative lengths for each of at most {input.ndim} axes, "
            f"got {tuple(pad)}"
        )
    padded = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (input.ndim - len(padded)) + padded
    sizes = [(before, n, after) for (before, after), n in zip(pairs, input.shape, strict=True)]
    inside = tuple(slice(before, before + n) for before, n, _ in sizes)
    y = np.full([before + n + after for before, n, after in sizes], value, input.dtype)
    y[inside] = input
    return y, lambda g: g[inside]


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

    `rng` is required whenever something is drawn (training and p > 0). Integers become float64
    then, since 1 / (1 - p) is no integer.

    Examples:
        >>> y = F.dropout(pq.Tensor(np.ones(1000)), p=0.75, rng=np.random.default_rng(0))
        >>> np.unique(y.numpy())
        array([0., 4.])
        >>> F.dropout(pq.Tensor([1.0, 2.0]), p=0.75, training=False)
        Tensor([1., 2.], dtype=float64)
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must lie in [0, 1], got {p}")
    if not training or p == 0:
        return input, lambda g: g
    if rng is None:
        raise ValueError("dropout: rng must be a numpy.random.Generator when training, got None")
    dtype = input.dtype if input.dtype.kind in "fc" else np.dtype(np.float64)
    scale = dtype.type(1 / (1 - p) if p < 1 else 0)
    keep = (rng.random(input.shape, np.float32) >= p) * scale
    return input * keep, lambda g: g * keep


@differentiable
def straight_through(
    w: Array,
    projection: Callable[[Array], Array],
    backward: Callable[[Array], Array] | None = None,
) -> Traced:
    """projection(w) going forward; coming back, the gradient times backward(w), or as it is.

    The result has the dtype of w, whatever the projection's. This is no derivative: that of the
    projection is 0 almost everywhere. Without `backward` it is as if the projection were the
    identity (Bengio et al. 2013); that is what BinaryConnect does, and with SGD the same as dual
    averaging (optim/dual_averaging.py). With `backward=lambda w: abs(w) <= 1` it is the clipped
    straight-through estimator (Hubara et al. 2016). In general the pair is a forward and a backward
    quantizer of ProxConnect++ (Lu et al. 2023; theory/forward_backward.py).

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
    y = np.asarray(projection(w), w.dtype)  # integers or booleans could hold no gradient
    if y.shape != w.shape:
        raise ValueError(f"straight_through: projection gave {y.shape} for w of shape {w.shape}")
    if backward is None:
        return y, lambda g: g
    factor = np.asarray(backward(w), w.dtype)
    if factor.shape != w.shape:
        raise ValueError(f"straight_through: backward gave {factor.shape} for w of shape {w.shape}")
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
    permute,
):
    setattr(Tensor, _op.__name__, _op)
