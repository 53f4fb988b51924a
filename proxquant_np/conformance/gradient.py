"""Conformance (layer 7): anyone's hand-written gradient against numerical differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np.autograd import GradcheckError, gradcheck
from proxquant_np.autograd.tensor import differentiable
from proxquant_np.conformance.report import Fault, Report
from proxquant_np.prox.regularizer import Floats


def check_gradient(
    fn: Callable[..., Any], grad_fn: Callable[..., Any], inputs: Floats | Sequence[Any]
) -> Report:
    """Is grad_fn the gradient of fn at these inputs, one array or a sequence of arrays?

    If fn(*inputs) is one number, grad_fn(*inputs) is its gradient. If it is an array y, then
    grad_fn(*inputs, g) is the vector-Jacobian product, the gradient of sum(g * y) for a constant g
    of the shape of y. For several inputs it returns a tuple, with None for those that are not
    floats. Shapes and dtypes are those of the inputs, which must be left alone.

    Held against central differences in float64, entry by entry, as `gradcheck`; so fn must take
    float64, and the inputs keep away from its kinks.

    Raises:
        TypeError: fn or grad_fn is not callable.
        ValueError: no input is a float32 or float64 array.

    Examples:
        >>> x = np.array([0.5, -1.0, 2.0])
        >>> check = pq.conformance.check_gradient
        >>> check(lambda x: np.mean(x**2), lambda x: 2 * x / x.size, x).verdict
        'right'
        >>> check(lambda x: np.mean(x**2), lambda x: 2 * x, x).fault.convention
        'not averaged'
    """
    for name, f in (("fn", fn), ("grad_fn", grad_fn)):
        if not callable(f):
            raise TypeError(f"{name} is {f!r}; a callable is accepted")
    inputs = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    floats = [isinstance(x, np.ndarray) and x.dtype.kind == "f" for x in inputs]
    if not any(floats):
        raise ValueError("inputs must hold a float32 or float64 array, got none")
    shown = {f"input {i}": x for i, x in enumerate(inputs)}

    def report(fault=None):
        name = getattr(grad_fn, "__name__", repr(grad_fn))
        title = f"gradient of {getattr(fn, '__name__', repr(fn))!r}"
        size = sum(x.size for x, is_float in zip(inputs, floats, strict=True) if is_float)
        verdict = "wrong" if fault else "right"
        return Report(name, title, verdict, fault is None, f"{size} entries", fault)

    y = np.asarray(fn(*[np.copy(x) if isinstance(x, np.ndarray) else x for x in inputs]))
    g = np.random.default_rng(0).normal(size=y.shape)

    def gradients(*arrays, g):
        out = grad_fn(*arrays, *([g] if y.ndim else []))
        return out if isinstance(out, tuple | list) else (out,)

    copies = [np.copy(x) if isinstance(x, np.ndarray) else x for x in inputs]
    given = g.astype(y.dtype if y.dtype.kind == "f" else np.float64)
    try:
        got = gradients(*copies, g=given.copy())
    except Exception as error:
        return report(Fault("raised", f"raised {type(error).__name__}: {error}", shown))
    if len(got) != len(inputs):
        detail = f"returned {len(got)} gradients for {len(inputs)} inputs"
        return report(Fault("result", detail, shown))
    for i, (x, copy, d, is_float) in enumerate(zip(inputs, copies, got, floats, strict=True)):
        if isinstance(x, np.ndarray) and copy.tobytes() != x.tobytes():
            return report(Fault("input mutated", f"input {i} was modified", shown, copy, x))
        if not is_float:
            continue
        d = np.asarray(d)
        if d.shape != x.shape:
            kind = "not summed" if d.ndim >= x.ndim and d.size > x.size else "shape changed"
            detail = f"the gradient of input {i} has shape {d.shape}, the input has {x.shape}"
            return report(Fault(kind, detail, shown, d))
        if d.dtype != x.dtype:
            detail = f"the gradient of input {i} has dtype {d.dtype}, the input has {x.dtype}"
            return report(Fault("dtype changed", detail, shown, d))

    @differentiable
    def traced(*arrays):
        def vjp(g):
            found = gradients(*arrays, g=np.asarray(g, given.dtype))
            scale = 1 if y.ndim else g
            return tuple(d * scale if f else None for d, f in zip(found, floats, strict=True))

        return fn(*arrays), vjp

    try:
        gradcheck(traced, inputs)
    except GradcheckError as error:
        kind, detail = _diagnose(error.gradient, error.numerical, y.shape)
        detail = f"{detail}; {error}" if detail else str(error)
        return report(Fault(kind, detail, shown, error.gradient, error.numerical))
    return report()


def _diagnose(gradient, numerical, shape):
    """The convention that is broken, and how: by comparison with the true gradient."""

    def like(other):
        size = np.abs(numerical).max()
        return np.allclose(gradient, other, 1e-3, 1e-4 * (size or 1))

    sizes = {math.prod(shape), numerical.size, *shape, *numerical.shape} - {0, 1, 2}
    for factor, kind, detail in (
        (-1, "direction", "its sign is wrong"),
        (2, "factor of two", "twice the gradient"),
        (0.5, "factor of two", "half the gradient"),
        *((n, "not averaged", f"{n} times the gradient") for n in sizes),
        *((1 / n, "not averaged", f"1/{n} of the gradient") for n in sizes),
    ):
        if like(factor * numerical):
            return kind, detail
    if gradient.ndim == 2 and gradient.shape == gradient.T.shape and like(numerical.T):
        return "transposed", "the gradient is transposed"
    if not gradient.any():
        return "wrong gradient", "the gradient is zero"
    return "wrong gradient", ""
