"""Gradients checked against numerical differentiation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np.autograd.tensor import Array, Tensor, no_grad
from proxquant_np.checks import check_choice
from proxquant_np.libraries import as_numpy, is_array, moved

_EPS = float(np.finfo(np.float64).eps)
# Relative tolerance, and the part f of it that applies to the size of the largest entry.
_TOLERANCE = {"central": (1e-6, 1e-3), "complex": (1e-10, 1e-3), "float32": (1e-3, 1e-2)}


class GradcheckError(AssertionError):
    """A gradient differs from the numerical one; the message says where and by how much.

    `input` is the number of the input concerned; `gradient` and `numerical` are both gradients in
    full.

    Examples:
        >>> @pq.autograd.differentiable
        ... def cube(x):
        ...     return x**3, lambda g: g * x**2
        ...
        >>> try:
        ...     pq.gradcheck(cube, np.array([1.0]))
        ... except pq.GradcheckError as error:
        ...     print(error.input, (error.numerical / error.gradient).round(4))
        0 [3.]
    """

    input: int
    gradient: Array
    numerical: Array


@np.errstate(all="ignore")  # infinite and NaN entries are reported as such
def gradcheck(
    fn: Callable[..., Tensor],
    inputs: Tensor | Array | Sequence[Any],
    *,
    method: str = "central",
    rtol: float | None = None,
    seed: int = 0,
) -> bool:
    """True if the gradients of fn at the inputs are right; otherwise raises GradcheckError.

    Checks the derivative of s = sum(v * fn(*inputs)) with respect to every entry of every float
    input; v is random, fixed by `seed`, so that errors that would cancel in a plain sum show.

    - `method="central"`: (s(x + h) - s(x - h)) / 2h, h = 6e-6 max(1, |x|); default rtol 1e-6.
    - `method="complex"`: Im s(x + ih) / h, h = 1e-30 |x| (1e-30 at 0). It subtracts nothing and so
      is exact to rounding, but fn must be analytic, and every operation in it must accept complex
      numbers (no relu, abs, maximum, sigmoid, softplus...); default rtol 1e-10.

    Differences are always taken in float64. For float32 inputs the gradient is computed in float32,
    as in training, and compared with default rtol 1e-3.

    An entry passes if |gradient - numerical| <= rtol (|numerical| + f max |numerical|) + noise,
    where the maximum is over the same input, f is 1e-3 (float32: 1e-2), and the noise is fn's
    rounding error as amplified by the difference quotient.

    Args:
        fn: a deterministic function of tensors that returns one tensor.
        inputs: tensors or arrays. Float32 and float64 ones are differentiated; anything else is
            passed to fn unchanged. fn computes with arrays of the library that they are of; what is
            compared, and what a GradcheckError holds, are NumPy's.

    Raises:
        GradcheckError: names the worst entry of the first wrong input (its index, both values).
        TypeError: fn does not return a tensor.
        ValueError: the method is unknown, or there is no input to differentiate.

    Examples:
        >>> pq.gradcheck(F.tanh, np.array([0.0, 0.5, -2.0]))
        True
        >>> pq.gradcheck(F.tanh, np.array([0.0, 0.5, -2.0]), method="complex")
        True
    """
    check_choice("method", method, ("central", "complex"))
    if not isinstance(inputs, list | tuple):
        inputs = (inputs,)
    arrays = {}
    for i, x in enumerate(inputs):
        x = x.data if isinstance(x, Tensor) else x
        if is_array(x) and x.dtype in (np.float32, np.float64):
            arrays[i] = x
    if not arrays:
        kinds = ", ".join(str(getattr(x, "dtype", type(x).__name__)) for x in inputs) or "none"
        raise ValueError(f"inputs must hold a float32 or float64 array or tensor, got {kinds}")

    places = {**arrays}
    arrays = {i: as_numpy(x) for i, x in arrays.items()}
    leaves = {
        i: Tensor(moved(x.copy("K"), places[i]), requires_grad=True) for i, x in arrays.items()
    }
    out = fn(*(leaves.get(i, x) for i, x in enumerate(inputs)))
    if not isinstance(out, Tensor):
        raise TypeError(f"fn must return a Tensor, got {type(out).__name__}")
    v = np.random.default_rng(seed).normal(size=out.shape)
    if out.requires_grad:
        out.backward(v)

    for i, x in arrays.items():

        def value(shifted: Array, i: int = i) -> Array:
            point = {j: a.astype(np.float64) for j, a in arrays.items()} | {i: shifted}
            at = {j: Tensor(moved(a, places[j])) for j, a in point.items()}
            with no_grad():
                return as_numpy(fn(*(at.get(j, a) for j, a in enumerate(inputs))).data)

        gradient = leaves[i].grad
        gradient = np.zeros_like(x) if gradient is None else as_numpy(gradient)
        numerical, noise = _DIFFERENCES[method](value, x, v)
        relative, floor = _TOLERANCE["float32" if x.dtype == np.float32 else method]
        size = np.abs(numerical)
        size += floor * np.max(size, where=np.isfinite(size), initial=0)
        allowed = (relative if rtol is None else rtol) * size + noise
        excess = np.nan_to_num(np.abs(gradient - numerical) - allowed, nan=np.inf)
        if np.any(excess > 0):
            worst = np.unravel_index(np.argmax(excess), x.shape)
            error = GradcheckError(
                f"input {i}, entry {tuple(map(int, worst))} of shape {x.shape}: gradient "
                f"{gradient[worst]:.12g}, numerically ({method}) {numerical[worst]:.12g}; "
                f"{np.sum(excess > 0)} of {x.size} entries differ"
            )
            error.input, error.gradient, error.numerical = i, gradient, numerical
            raise error
    return True


def _central(value: Callable[[Array], Array], x: Array, v: Array) -> tuple[Array, Array]:
    """The gradient of sum(v * value(x)), entry by entry, and the noise in it."""
    numerical, noise = np.zeros(x.shape), np.zeros(x.shape)
    for entry in np.ndindex(x.shape):
        h = 6e-6 * max(1, abs(float(x[entry])))
        up, down = x.astype(np.float64), x.astype(np.float64)
        up[entry] += h
        down[entry] -= h
        above, below = value(up), value(down)
        moved = above != below  # the others contribute nothing, and may be infinite
        rise = np.sum(v * (above - below), where=moved)
        numerical[entry] = rise / (up[entry] - down[entry])
        noise[entry] = 4 * _EPS * np.sum(np.abs(v * above), where=moved) / h
    return numerical, noise


def _complex(value: Callable[[Array], Array], x: Array, v: Array) -> tuple[Array, float]:
    """The same by the complex step, which has no noise."""
    numerical = np.zeros(x.shape)
    for entry in np.ndindex(x.shape):
        h = 1e-30 * (abs(float(x[entry])) or 1)
        up = x.astype(np.complex128)
        up[entry] += 1j * h
        numerical[entry] = np.sum(v * value(up).imag) / h
    return numerical, 0.0


_DIFFERENCES = {"central": _central, "complex": _complex}
