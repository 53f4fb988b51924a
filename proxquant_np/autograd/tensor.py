"""The tensor, the recording of operations, and the backward pass.

An operation is a plain function on NumPy arrays that returns its value and its vector-Jacobian
products (VJPs). `differentiable` turns it into a function on tensors. What all operations share
(unwrapping, recording, undoing broadcasts, honouring `no_grad`) is written once, here. The
operations themselves are in the other files of this package.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import types
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from heapq import heappop, heappush
from typing import Any

import numpy as np

from proxquant_np.autograd.summation import pairwise_sum
from proxquant_np.libraries import as_array, check_unmasked, is_array

Array = np.ndarray
VJP = Callable[[Array], Any]
Traced = tuple[Array, Any]
"""What an operation's forward function returns: `(y, vjp)`.

`vjp` maps the gradient of the loss with respect to y, which it must not modify, to the gradients
with respect to the positional arguments: a tuple with one entry for each, or the bare entry if
there is only one argument. An entry is an array; a function of no arguments that returns it and is
called only if the gradient is wanted; or None if the argument takes no gradient. If the argument
was broadcast, that is undone afterwards. The array may be new, the incoming gradient itself, or a
view, but never one that something else still uses, nor the same new array for two arguments.
"""

_FLOATS = (np.float32, np.float64)
_NUMPY_SPELLING = {"axis": "dim", "keepdims": "keepdim"}  # PyTorch accepts both, so do we
_creation_order = itertools.count()
"""A single clock stamps each operation when it is recorded and each leaf when it changes."""
_last_change = -1  # the clock when any leaf last changed in place


_blocks: ContextVar[int] = ContextVar("no_grad blocks around the running code", default=0)


class no_grad(contextlib.ContextDecorator):
    """Operations inside `with no_grad():` are not recorded; `@no_grad()` decorates a function.

    It applies to the thread or asyncio task that enters it, and ends however the block is left.
    Tasks started inside the block stay inside it until they end.

    Examples:
        >>> x = pq.Tensor([1.0], requires_grad=True)
        >>> with pq.no_grad():
        ...     y = 2 * x
        ...
        >>> y.requires_grad
        False
    """

    def __enter__(self) -> None:
        _blocks.set(_blocks.get() + 1)  # a count, not a flag: recursion may enter one object again

    def __exit__(self, *exc: object) -> None:
        _blocks.set(_blocks.get() - 1)


class Tensor:
    """An array that remembers how it was computed.

    `data` is a NumPy array (shared, not copied, if `data` already is one), or an array of another
    library that implements NumPy's functions through `__array_ufunc__` and `__array_function__`,
    such as CuPy on a GPU; everything computed from it is then an array of that library. With
    `requires_grad=True` (float32 or float64 only) the tensor is a *leaf*: `backward` on anything
    computed from it adds the gradient to `grad`, an array of the same shape and dtype, or None
    before the first call. Broadcasting and type promotion are NumPy's, except that a scalar (a
    Python or NumPy number, or an array without axes) takes the dtype of the float array it is
    combined with: float32 stays float32, as in PyTorch. Comparisons, including ==, are elementwise
    and return boolean arrays.

    A recorded operation keeps its arguments for the backward pass without copying them, so nothing
    may change in place between the forward pass and `backward`. Changes made by this library (an
    optimizer's step, `load_state_dict`, `quantize_and_freeze`, ...) are noticed, and `backward`
    raises an error. What you write into a NumPy array yourself, such as `data` or an input buffer
    that is refilled before `backward`, cannot be noticed: copy such a buffer
    (`Tensor(buffer.copy())`), or call `proxquant_np.autograd.mark_changed` after writing. `detach`,
    `numpy` and views of tensors that require no gradient share the array, but not this protection.

    Raises:
        TypeError: `data` is not numeric, or requires_grad=True with any other dtype.

    Examples:
        >>> x = pq.Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        array([2., 4.])
    """

    __slots__ = ("__weakref__", "_order", "_parents", "_vjp", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # `array + tensor` is left to the tensor, not looped over its entries

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self.data = as_array(data.data if isinstance(data, Tensor) else data)
        if self.data.dtype.kind not in "biufc":
            raise TypeError(f"data must be numeric, got dtype {self.data.dtype}")
        if requires_grad and self.data.dtype not in _FLOATS:
            raise TypeError(
                f"data must be float32 or float64 to require gradients, got dtype {self.data.dtype}"
            )
        self.grad: Array | None = None
        self.requires_grad = bool(requires_grad)
        self._parents: tuple = ()
        self._vjp = None

    shape = property(lambda self: self.data.shape, doc="Length of each axis.")
    dtype = property(lambda self: self.data.dtype, doc="Type of the entries.")
    ndim = property(lambda self: self.data.ndim, doc="Number of axes.")
    size = property(lambda self: self.data.size, doc="Number of entries.")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        # What np.asarray(tensor) calls, and NumPy's functions on tensors.
        if self.requires_grad:
            raise TypeError(
                "NumPy would lose the gradient of this tensor: use proxquant_np.functional, "
                "or tensor.data if no gradient is wanted"
            )
        return np.array(self.data, dtype, copy=copy)

    def numpy(self) -> Array:
        """The underlying array, not a copy, whichever library it belongs to.

        Examples:
            >>> x = pq.Tensor([1.0, 2.0])
            >>> x.numpy() is x.data
            True
        """
        return self.data

    def item(self) -> float:
        """The value of a tensor with one entry, as a Python number.

        Examples:
            >>> pq.Tensor([3.0]).item()
            3.0
        """
        return self.data.item()

    def detach(self) -> Tensor:
        """The same data, cut off from the graph.

        Examples:
            >>> x = pq.Tensor([1.0], requires_grad=True)
            >>> (2 * x).detach().requires_grad
            False
        """
        return Tensor(self.data)

    def backward(self, grad: Any = None) -> None:
        """Add d(sum(grad * self))/d(leaf) to `grad` of every leaf this tensor was computed from.

        `grad` has this tensor's shape; for a tensor with one entry it may be omitted and is then 1.
        Each recorded operation is visited once, without recursion, so deep graphs are fine. It is
        freed as it is visited, so a second backward pass through it is an error.

        Raises:
            RuntimeError: the tensor was not computed from a leaf that requires gradients, its
                graph has been freed by an earlier backward pass, or a leaf whose values are needed
                has since changed in place (see `mark_changed`). By then, leaves may already have
                received part of their gradient.
            ValueError: `grad` has the wrong shape, or is missing for a tensor with several entries.

        Examples:
            >>> x = pq.Tensor([1.0, 2.0], requires_grad=True)
            >>> (x**2).backward([1.0, 10.0])
            >>> x.grad
            array([ 2., 40.])
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward() was called on a tensor that depends on no leaf with requires_grad=True "
                "(or was computed under no_grad)"
            )
        if grad is None:
            if self.data.size != 1:
                raise ValueError(
                    f"grad must be given for a tensor of several entries, got shape {self.shape}"
                )
            grad = np.ones_like(self.data)
        else:
            grad = grad.data if isinstance(grad, Tensor) else grad
            grad = np.array(check_unmasked("grad", grad), self.dtype, like=self.data)
            if grad.shape != self.shape:
                raise ValueError(f"grad must have shape {self.shape}, got shape {grad.shape}")
        if self._vjp is None:
            _accumulate(self, grad)
            return
        # Creation order is a topological order: whatever uses a tensor is younger than it. So if
        # the youngest is visited first, every gradient is complete when its turn comes.
        queue, pending = [(-self._order, self)], {self: grad}
        changed = -_last_change
        while queue:
            age, node = heappop(queue)
            g = pending.pop(node)
            parents, vjp = node._parents, node._vjp
            node._parents, node._vjp = (), _freed
            parts = vjp(g)
            if type(parts) is not tuple:
                parts = (parts,)
            if age > changed:  # recorded before a leaf, perhaps one of these, changed
                _check_unchanged(parents, vjp, parts, -age)
            for i, parent in enumerate(parents):
                if not (isinstance(parent, Tensor) and parent.requires_grad):
                    continue
                part = parts[i]
                if type(part) is not np.ndarray:
                    if callable(part):
                        part = part()
                    if part is None:
                        raise _no_gradient(vjp, i)
                    part = as_array(part)  # NumPy turns arrays without axes into scalars
                if part.shape != parent.data.shape:
                    part = unbroadcast(part, parent.data.shape)
                if part.dtype != parent.data.dtype:
                    part = part.astype(parent.data.dtype)
                if parent._vjp is None:
                    owned = parent.grad is not None or (part is not g and part.base is None)
                    _accumulate(parent, part if owned else part.copy())
                elif parent in pending:
                    pending[parent] = as_array(pending[parent] + part)
                else:
                    pending[parent] = part
                    heappush(queue, (-parent._order, parent))
            del parts  # and what its functions enclose, before the next operation needs memory

    def __getstate__(self) -> object:  # called by copy.deepcopy and pickle
        if self._vjp is not None:
            raise RuntimeError("only leaves can be copied; detach() a computed tensor first")
        return super().__getstate__()

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.item())

    def __repr__(self) -> str:
        flag = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.data, separator=', ')}, dtype={self.dtype}{flag})"

    __hash__ = object.__hash__  # as keys, tensors are distinguished by identity

    def __eq__(self, other: Any) -> Array:
        return self.data == _data(other)

    def __ne__(self, other: Any) -> Array:
        return self.data != _data(other)

    def __gt__(self, other: Any) -> Array:
        return self.data > _data(other)

    def __ge__(self, other: Any) -> Array:
        return self.data >= _data(other)

    def __lt__(self, other: Any) -> Array:
        return self.data < _data(other)

    def __le__(self, other: Any) -> Array:
        return self.data <= _data(other)


def _data(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _freed(g: Array) -> None:
    raise RuntimeError(
        "this graph was freed by an earlier backward(); run the forward pass again "
        "(or sum the losses and call backward() once)"
    )


def mark_changed(tensors: Iterable[Tensor]) -> None:
    """Record that the arrays of these leaves have just been changed in place.

    If a leaf's values are needed by an operation recorded earlier, `backward` through it now raises
    a RuntimeError that names the leaf: the gradient would belong neither to the old values nor to
    the new ones. Optimizers, `load_state_dict` and the like call this function; so should you after
    writing into `data` yourself.

    Examples:
        >>> w = pq.nn.Parameter([2.0])
        >>> loss = (w * w).sum()
        >>> w.data[...] = 3.0
        >>> pq.autograd.mark_changed([w])
        >>> try:
        ...     loss.backward()
        ... except RuntimeError as error:
        ...     print(str(error)[:35])
        a leaf of shape (1,) changed in pla
    """
    global _last_change
    now = next(_creation_order)
    for tensor in tensors:
        tensor._order = now
    _last_change = now


def _check_unchanged(parents: tuple, vjp: VJP, parts: tuple, order: int) -> None:
    """Raise an error if gradients use an argument that changed after the operation of this order.

    A gradient given as a function uses what the function encloses; any other may use whatever the
    whole VJP encloses.
    """
    for changed in parents:
        if isinstance(changed, Tensor) and getattr(changed, "_order", -1) > order:
            pairs = zip(parts, parents, strict=False)
            wanted = [part for part, p in pairs if isinstance(p, Tensor) and p.requires_grad]
            used = wanted if all(map(callable, wanted)) else vjp
            if _holds(used, changed.data, set()):
                name = getattr(changed, "path", None) or "a leaf"
                raise RuntimeError(
                    f"{name} of shape {changed.shape} changed in place after the forward pass used "
                    "it, so the gradient would belong neither to its old values nor to the new "
                    "ones: call backward() before the step (or whatever changed it), or run the "
                    "forward pass again"
                )


_AS_THEY_ARE = {np.ndarray, float, int, np.float32, np.float64, bool, str, tuple, type(None)}
"""The types that ops need not look at: others may be lists, or arrays with a mask."""


def _holds(thing: Any, array: Array, seen: set[int]) -> bool:
    """Whether this object, or anything a function encloses, shares (or may share) the array."""
    if id(thing) in seen or thing is None or isinstance(thing, _PLAIN):
        return False
    seen.add(id(thing))
    if is_array(thing):
        return np.may_share_memory(thing, array)
    if isinstance(thing, types.FunctionType):
        thing = [c.cell_contents for c in thing.__closure__ or ()] + list(thing.__defaults__ or ())
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, tuple | list):
        return any(_holds(part, array, seen) for part in thing)
    return True


_PLAIN = (int, float, complex, str, slice, type, np.generic, np.dtype, np.errstate)


def _no_gradient(vjp: VJP, i: int) -> RuntimeError:
    name = vjp.__qualname__.split(".")[0]  # the operation in which the function was defined
    return RuntimeError(f"{name}: argument {i} requires grad, but has none: detach() it")


def _no_vjp(op: str, vjp: Any) -> TypeError:
    return TypeError(
        f"{op}: vjp must be one function of the incoming gradient, got a {type(vjp).__name__}; "
        "to compute gradients only if wanted, return functions of no arguments: "
        "lambda g: (lambda: g * b, lambda: g * a)"
    )


def _accumulate(leaf: Tensor, g: Array) -> None:
    if leaf.grad is None:
        leaf.grad = g
    else:
        leaf.grad += g


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum g over the axes along which an array of this shape was broadcast to g.shape."""
    leading = g.ndim - len(shape)
    stretched = (i for i, n in enumerate(shape, leading) if n == 1 and g.shape[i] != 1)
    total = pairwise_sum(g, (*range(leading), *stretched), keepdims=True)
    if leading < 0 or total.shape[leading:] != shape:
        raise ValueError(f"a VJP gave a gradient of shape {g.shape} for an argument of {shape}")
    return total.reshape(shape)


def differentiable(forward: Callable[..., Traced]) -> Callable[..., Tensor]:
    """Turn `forward(*arrays, **options) -> (y, vjp)` into a function on tensors.

    Arguments may be tensors, NumPy arrays or numbers, and also lists where `forward` is annotated
    to take an Array. The operation is recorded if an argument requires gradients, unless `no_grad`
    is active. `Traced` says what `vjp` may be.

    Examples:
        >>> @pq.autograd.differentiable
        ... def cube(x):
        ...     return x**3, lambda g: g * 3 * x**2
        ...
        >>> x = pq.Tensor(2.0, requires_grad=True)
        >>> cube(x).backward()
        >>> x.grad
        array(12.)
        >>> pq.gradcheck(cube, x)
        True
        >>> @pq.autograd.differentiable
        ... def product(a, b):
        ...     return a * b, lambda g: (lambda: g * b, lambda: g * a)
        ...
        >>> pq.gradcheck(product, [np.array([1.0, 2.0]), np.array(3.0)])
        True
    """
    signature = inspect.signature(forward)
    takes = [  # which positional arguments are arrays: those annotated as such, or all of *arrays
        itertools.repeat(True)
        if p.kind is p.VAR_POSITIONAL
        else (str(p.annotation)[:5] == "Array",)
        for p in signature.parameters.values()
    ]

    def without_lists(args: list[Any]) -> list[Any]:
        pairs = zip(args, itertools.chain.from_iterable(takes), strict=False)
        return [
            as_array(a) if takes_array and isinstance(a, list | np.ndarray) else a
            for a, takes_array in pairs
        ]

    @functools.wraps(forward)
    def op(*args: Any, **options: Any) -> Tensor:
        if options:
            options = {_NUMPY_SPELLING.get(k, k): v for k, v in options.items()}
            if any(isinstance(v, Tensor) for v in options.values()):
                bound = signature.bind(*args, **options)  # tensors given by name become positional
                bound.apply_defaults()
                args, options = bound.args, bound.kwargs
        arrays = [a.data if isinstance(a, Tensor) else a for a in args]
        if not _AS_THEY_ARE.issuperset(map(type, arrays)):
            arrays = without_lists(arrays)
        y, vjp = forward(*arrays, **options)
        out = Tensor.__new__(Tensor)
        out.data = y if type(y) is np.ndarray else as_array(y)
        out.grad = None
        if not _blocks.get():
            for a in args:
                if isinstance(a, Tensor) and a.requires_grad:
                    if not callable(vjp):
                        raise _no_vjp(op.__name__, vjp)
                    out.requires_grad = True
                    out._parents = args
                    out._vjp = vjp
                    out._order = next(_creation_order)
                    return out
        out.requires_grad = False
        out._parents = ()
        out._vjp = None
        return out

    op.__signature__ = signature.replace(return_annotation="Tensor")
    return op
