"""Initialisers. Each draws an array of the given shape from the generator `rng`.

A weight's shape is (out, in, *kernel); its fan-in is the number of inputs that one output sums.

**Layers and models made without `rng`** are counted: the n-th in a process draws from a generator
seeded by n alone. So no two of them share weights or dropout masks, and a script that makes them in
the same order gives the same bits in every run. But whatever the process made earlier counts, too:
a notebook cell that runs again, or a worker that is reused, goes on counting. If a network must not
depend on what was made before it, pass `rng`, as all experiments here do.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

Rng = np.random.Generator | int | None
"""A generator, a seed for a new one, or None for the next counted one."""

_counted = itertools.count()


def generator(rng: Rng = None) -> np.random.Generator:
    """`rng` itself, a generator with the seed `rng`, or, for None, the next counted one.

    Examples:
        >>> a, b = pq.nn.init.generator(7), pq.nn.init.generator(7)
        >>> a.random() == b.random(), pq.nn.init.generator(a) is a
        (True, True)
        >>> pq.nn.init.generator().random() == pq.nn.init.generator().random()
        False
    """
    # The seed is a pair, whose first number is a paper's year and month: users will not choose it.
    return np.random.default_rng([1810, next(_counted)] if rng is None else rng)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape must be (out, in, ...), all at least 1, got {shape}")
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
    """Uniform with bound 1/sqrt(fan_in), the default of PyTorch's linear and convolution layers.

    Examples:
        >>> w = pq.nn.init.fan_in_uniform((8, 4), np.random.default_rng(0))
        >>> w.dtype, bool((np.abs(w) <= 0.5).all())
        (dtype('float32'), True)
    """
    return uniform(shape, 1 / math.sqrt(_fans(shape)[0]), rng, dtype)


def he_normal(
    shape: tuple[int, ...], rng: np.random.Generator, dtype: type = np.float32
) -> np.ndarray:
    """Normal with variance 2 / fan_in, which preserves variance in ReLU networks. He et al. 2015.

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
