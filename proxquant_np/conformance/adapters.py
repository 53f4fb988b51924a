"""Adapters from functions on torch or JAX arrays to functions on NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np


def from_torch(fn: Callable[..., Any]) -> Callable[..., Any]:
    """fn on CPU tensors, as a function on NumPy arrays, which share memory with the tensors.

    Arrays go in as tensors and tensors come out as arrays, also in tuples; anything else, such as a
    strength, is passed on unchanged. A function given as an argument (the gradient in `check_step`)
    then takes and returns tensors. ImportError, naming the extra, if torch is not installed.

    Examples:
        >>> import torch
        >>> prox = pq.conformance.from_torch(lambda x, strength: torch.relu(x - strength))
        >>> prox(np.array([0.5, 2.0]), 1.0)
        array([0., 1.])
    """
    torch = _module("torch", "proxquant-np[bench]")
    return _adapted(
        fn, torch.Tensor, torch.from_numpy, lambda tensor: tensor.detach().cpu().numpy()
    )


def from_jax(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The same for JAX arrays, which are immutable copies.

    Unless jax_enable_x64 is set, JAX turns float64 into float32; then check with
    dtypes=["float32"]. (`check_gradient` notices this and takes wider steps.) ImportError if jax is
    not installed.

    Examples:
        >>> import jax
        >>> prox = pq.conformance.from_jax(lambda x, strength: jax.nn.relu(x - strength))
        >>> prox(np.array([0.5, 2.0], np.float32), 1.0)
        array([0., 1.], dtype=float32)
    """
    jax = _module("jax", "jax")
    return _adapted(fn, jax.Array, jax.numpy.asarray, np.array)


def _module(name, package):
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: install {package}") from error


def _adapted(fn, kind, theirs, ours):
    def convert(value, cls, to, back):
        if isinstance(value, cls):
            return to(value)
        if isinstance(value, tuple | list):
            return tuple(convert(part, cls, to, back) for part in value)
        if callable(value):
            return lambda *args: convert(value(*[back(a) for a in args]), cls, to, back)
        return value

    def into(value):
        return convert(value, np.ndarray, theirs, out_of)

    def out_of(value):
        return convert(value, kind, ours, into)

    def adapted(*args: Any) -> Any:
        return out_of(fn(*map(into, args)))

    functools.update_wrapper(adapted, fn)
    adapted.adapted_from = fn
    return adapted


ADAPTERS: dict[str, Callable[[Any], Any]] = {"torch": from_torch, "jax": from_jax}
"""The adapters, by the name of the library."""
