"""Functions of tensors as functions on NumPy arrays, with the gradient their library computes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np.autograd import Tensor
from proxquant_np.conformance.adapters import _adapted, from_jax, from_tensorflow, from_torch
from proxquant_np.conformance.calls import Misuse, said
from proxquant_np.prox.arrays import Floats


def differentiated(
    fn: Callable[..., Any], inputs: Sequence[Floats]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(fn on NumPy arrays, its vector-Jacobian product), by the library whose tensors fn takes.

    These are the Tensors of this package, torch's or TensorFlow's, or JAX arrays; fn may be adapted
    already. An input that no gradient reaches has the gradient 0. Misuse if fn cannot be
    differentiated.
    """
    original = getattr(fn, "adapted_from", fn)
    if isinstance(original, type):
        raise Misuse(
            f"{original.__name__} is a class; pass an instance, or its apply if it has one"
        )
    errors = []
    for library, (adapter, vjp) in LIBRARIES.items():
        if library in sys.modules:
            try:
                vjp(original, *map(np.copy, inputs), np.ones_like(inputs[0]))
            except Exception as error:  # perhaps it is made for another library
                errors.append(f"with {library}: {said(error)}")
            else:
                return adapter(original), functools.partial(vjp, original)
    raise Misuse(
        f"fn cannot be differentiated ({'; '.join(errors)}): without grad_fn it must be a function "
        "of Tensors of this package, torch, JAX or TensorFlow; for one of NumPy arrays, pass its "
        "backward grad_fn(w, g), on the command line --gradient MODULE:FUNCTION"
    )


def _from_tensors(fn):
    return _adapted(fn, Tensor)


def _vjp(fn, *arrays):
    leaves = [Tensor(x, requires_grad=True) for x in arrays[:-1]]
    y = fn(*leaves)
    if not isinstance(y, Tensor):
        raise TypeError(f"the result is a {type(y).__name__}")
    if y.requires_grad:
        y.backward(arrays[-1])
    return tuple(np.zeros_like(x.data) if x.grad is None else x.grad for x in leaves)


def _torch_vjp(fn, *arrays):
    torch = sys.modules["torch"]
    *leaves, g = map(torch.from_numpy, arrays)
    leaves = [x.requires_grad_() for x in leaves]
    y = fn(*leaves)
    if not y.requires_grad:
        return tuple(map(np.zeros_like, arrays[:-1]))
    got = torch.autograd.grad(y, leaves, g, allow_unused=True)
    return tuple(
        np.zeros_like(x) if d is None else d.numpy() for d, x in zip(got, arrays, strict=False)
    )


def _jax_vjp(fn, *arrays):
    jax = sys.modules["jax"]
    y, back = jax.vjp(fn, *map(jax.numpy.asarray, arrays[:-1]))
    return tuple(map(np.array, back(jax.numpy.asarray(arrays[-1], y.dtype))))


def _tensorflow_vjp(fn, *arrays):
    tf = sys.modules["tensorflow"]
    *leaves, g = map(tf.convert_to_tensor, arrays)
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        y = fn(*leaves)
    got = tape.gradient(y, leaves, tf.cast(g, y.dtype))
    return tuple(
        np.zeros_like(x) if d is None else d.numpy() for d, x in zip(got, arrays, strict=False)
    )


LIBRARIES = {
    "proxquant_np": (_from_tensors, _vjp),
    "torch": (from_torch, _torch_vjp),
    "jax": (from_jax, _jax_vjp),
    "tensorflow": (from_tensorflow, _tensorflow_vjp),
}
