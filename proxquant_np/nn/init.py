"""Layer 3, build: initialisers. Each draws an array of the given shape from the generator `rng`.

A weight's shape is (out, in, *kernel); its fan-in is the number of inputs that one output sums.
"""

from __future__ import annotations

import math

import numpy as np

Rng = np.random.Generator | int
"""A generator, or a seed for a new one."""


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape must be (out, in, ...), all positive, got {shape}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def uniform(
    shape: tuple[int, ...], bound: float, rng: np.random.Generator, dtype: type = np.float32
) -> np.ndarray:
    """Uniform on [-bound, bound].

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> bool((np.abs(pq.nn.init.uniform((100,), 0.5, rng)) <= 0.5).all())
        True
    """
    return rng.uniform(-bound, bound, shape).astype(dtype)


def fan_in_uniform(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: type = np.float32
) -> np.ndarray:
    """Uniform with bound 1/sqrt(fan_in), as PyTorch's linear and convolution layers start.

    Examples:
        >>> w = pq.nn.init.fan_in_uniform((8, 4), np.random.default_rng(0))
        >>> w.dtype, bool((np.abs(w) <= 0.5).all())
        (dtype('float32'), True)
    """
    return uniform(shape, 1 / math.sqrt(_fans(shape)[0]), rng, dtype)


def he_normal(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: type = np.float32
) -> np.ndarray:
    """Normal with variance 2 / fan_in, which keeps a ReLU network's variance. He et al. 2015.

    Examples:
        >>> w = pq.nn.init.he_normal((1000, 200), np.random.default_rng(0), np.float64)
        >>> round(float(w.var()), 3)
        0.01
    """
    deviation = math.sqrt(2 / _fans(shape)[0])
    return (rng.normal(size=shape) * deviation).astype(dtype)


def glorot_uniform(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: type = np.float32
) -> np.ndarray:
    """Uniform with variance 2 / (fan_in + fan_out). Glorot and Bengio 2010.

    Examples:
        >>> w = pq.nn.init.glorot_uniform((1000, 1000), np.random.default_rng(0), np.float64)
        >>> round(float(w.var()), 4)
        0.001
    """
    return uniform(shape, math.sqrt(6 / sum(_fans(shape))), rng, dtype)
