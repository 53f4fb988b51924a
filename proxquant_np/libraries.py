"""Arrays of libraries other than NumPy, such as CuPy's on a GPU.

NumPy's functions dispatch to any library that implements `__array_ufunc__` and
`__array_function__`, so one code computes with NumPy arrays and with theirs. This file has what
NumPy has no name for: what such an array is, how to move one between libraries, which never happens
implicitly, and how to read numbers. Reading a number waits for a device that works asynchronously,
and every call has a cost, however little it does; so numbers are read together, and many arrays are
tested as one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from proxquant_np.checks import check_choice

Array = Any
"""An array of NumPy, or of a library that implements NumPy's functions."""

DEVICES = ("cpu", "cupy")
"""What the command line can compute on: NumPy's arrays on processors, CuPy's on a GPU."""

_NUMBERS = {bool, int, float, np.bool, np.intp, np.float32, np.float64, np.ndarray}


def is_array(x: Any) -> bool:
    """Whether x is a NumPy array, or one of a library that implements NumPy's functions.

    Examples:
        >>> from proxquant_np.libraries import is_array
        >>> is_array(np.ones(3)), is_array([1.0]), is_array(1.0), is_array(np.float32(1))
        (True, False, False, False)
    """
    return hasattr(type(x), "__array_function__")


def as_array(x: Any) -> Array:
    """x itself if it is an array of a library other than NumPy, else `np.asarray(x)`.

    TypeError for a masked array: nothing here computes with masks, which would be lost.

    Examples:
        >>> from proxquant_np.libraries import as_array
        >>> as_array([1.0, 2.0])
        array([1., 2.])
    """
    if type(x) is np.ndarray:
        return x
    for part in x if isinstance(x, list | tuple) else [x]:
        check_unmasked("arrays", part)
    return np.asarray(x) if isinstance(x, np.ndarray) or not is_array(x) else x


def check_unmasked(name: str, x: Any) -> Any:
    """x, unless it is a masked array: TypeError.

    Examples:
        >>> from proxquant_np.libraries import check_unmasked
        >>> try:
        ...     check_unmasked("grad", np.ma.masked_array([1.0, 2.0], mask=[False, True]))
        ... except TypeError as error:
        ...     print(str(error).partition(":")[0])
        grad must have no mask, got a masked array of shape (2,), 1 of it masked
    """
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must have no mask, got a masked array of shape {x.shape}, "
            f"{np.ma.count_masked(x)} of it masked: fill it, as by x.filled(0)"
        )
    return x


def on_host(x: Array) -> bool:
    """Whether x is a NumPy array, in the memory of a processor that can read it without waiting.

    On such a processor, blocks that fit into the cache pay off; on a device, few calls do, and not
    reading numbers.

    Examples:
        >>> from proxquant_np.libraries import on_host
        >>> on_host(np.ones(3))
        True
    """
    return isinstance(x, np.ndarray)


def as_numpy(x: Array) -> np.ndarray:
    """x itself if it is a NumPy array, else a copy, which waits for the device.

    Examples:
        >>> from proxquant_np.libraries import as_numpy
        >>> as_numpy(np.ones(3))
        array([1., 1., 1.])
    """
    if on_host(x):
        return x
    return np.frombuffer(bytearray(x.tobytes()), x.dtype).reshape(x.shape)


def mover(device: str) -> Callable[[Array], Array]:
    """The function from array to array that `model.to` takes for one of DEVICES.

    Raises:
        ModuleNotFoundError: the library is not installed; the message names the extra.
        OSError: it finds no device.

    Examples:
        >>> from proxquant_np.libraries import mover
        >>> mover("cpu") is np.asarray
        True
    """
    check_choice("device", device, DEVICES)
    if device == "cpu":
        return np.asarray
    try:
        move = importlib.import_module(device).asarray
    except ImportError:
        raise ModuleNotFoundError(
            f"device {device!r} needs {device}, which is not installed or cannot be loaded: "
            "pip install 'proxquant-np[gpu]'"
        ) from None
    try:
        move(np.zeros(1))
    except RuntimeError as error:
        raise OSError(f"device {device!r} cannot be used: {error}") from None
    return move


def moved(x: Array, where: Array) -> Array:
    """x as an array of the library of `where`; x itself if it already is one.

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
    """NumPy arrays unchanged; arrays of another library, all of one dtype, joined into a flat one.

    A condition on all of them then costs one pass over each, or few calls.

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
    """Numbers and arrays without axes as floats, waiting for a device only once.

    Examples:
        >>> from proxquant_np.libraries import numbers
        >>> numbers([np.float32(0.5), 2, np.array(True)])
        [0.5, 2.0, 1.0]
    """
    if _NUMBERS.issuperset(map(type, scalars)):
        return list(map(float, scalars))
    at = [i for i, x in enumerate(scalars) if is_array(x) and not on_host(x)]
    read = np.stack([scalars[i].astype(np.float64) for i in at]).tolist()
    found = dict(zip(at, read, strict=True))
    return [found[i] if i in found else float(x) for i, x in enumerate(scalars)]
