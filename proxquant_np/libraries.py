"""Arrays of other libraries than NumPy, such as CuPy's on a GPU.

NumPy's functions hand over to whoever implements `__array_ufunc__` and `__array_function__`, so
that one code computes with NumPy's arrays and with theirs. What NumPy does not give a name to is
here: what such an array is, how to bring one here or there, which never happens implicitly, and how
to ask for numbers. A device that works on its own has to be waited for then, and each call costs,
however little it does; so numbers are asked for together, and many arrays are looked at as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Array = Any
"""NumPy's, or one that answers to NumPy's functions."""


def is_array(x: Any) -> bool:
    """Whether it is NumPy's array or one of a library that answers to NumPy's functions.

    Examples:
        >>> from proxquant_np.libraries import is_array
        >>> is_array(np.ones(3)), is_array([1.0]), is_array(1.0), is_array(np.float32(1))
        (True, False, False, False)
    """
    return hasattr(type(x), "__array_function__")


def as_array(x: Any) -> Array:
    """x itself, if it is an array of another library than NumPy; else as `np.asarray` makes it.

    Examples:
        >>> from proxquant_np.libraries import as_array
        >>> as_array([1.0, 2.0])
        array([1., 2.])
    """
    return np.asarray(x) if isinstance(x, np.ndarray) or not is_array(x) else x


def on_host(x: Array) -> bool:
    """Whether x is NumPy's: in the memory of a processor with caches, which can look at it at once.

    There blocks pay that fit a cache; elsewhere few calls do, and not to ask for numbers.

    Examples:
        >>> from proxquant_np.libraries import on_host
        >>> on_host(np.ones(3))
        True
    """
    return isinstance(x, np.ndarray)


def as_numpy(x: Array) -> np.ndarray:
    """x itself, if it is NumPy's; else a copy, for which the device is waited for.

    Examples:
        >>> from proxquant_np.libraries import as_numpy
        >>> as_numpy(np.ones(3))
        array([1., 1., 1.])
    """
    if on_host(x):
        return x
    return np.frombuffer(bytearray(x.tobytes()), x.dtype).reshape(x.shape)


def moved(x: Array, where: Array) -> Array:
    """x as an array of the library of `where`; itself, if it is one already.

    Examples:
        >>> from proxquant_np.libraries import moved
        >>> x = np.ones(3)
        >>> moved(x, where=np.zeros(1)) is x
        True
    """
    if type(x) is type(where) or (on_host(x) and on_host(where)):
        return x
    return as_numpy(x) if on_host(where) else np.asarray(as_numpy(x), like=where)


def together(arrays: Iterable[Array]) -> list[Array]:
    """NumPy's arrays as they are; those of another library, of one dtype, as a flat one.

    So that a condition for all costs one pass over each, or few calls.

    Examples:
        >>> from proxquant_np.libraries import together
        >>> together([np.ones(1), np.zeros(2)])
        [array([1.]), array([0., 0.])]
    """
    arrays = list(arrays)
    if not arrays or on_host(arrays[0]):
        return arrays
    return [np.concatenate([a.reshape(-1) for a in arrays])]


def numbers(scalars: Sequence[Any]) -> list[float]:
    """Numbers and arrays without axes as floats, for which a device is waited for once.

    Examples:
        >>> from proxquant_np.libraries import numbers
        >>> numbers([np.float32(0.5), 2, np.array(True)])
        [0.5, 2.0, 1.0]
    """
    kinds = {kind for kind in set(map(type, scalars)) if hasattr(kind, "__array_function__")}
    if kinds <= {np.ndarray}:
        return list(map(float, scalars))
    at = [i for i, x in enumerate(scalars) if type(x) in kinds and not on_host(x)]
    read = np.stack([scalars[i].astype(np.float64) for i in at]).tolist()
    found = dict(zip(at, read, strict=True))
    return [found[i] if i in found else float(x) for i, x in enumerate(scalars)]
