"""Layer 1, differentiate: how convolution and batch normalization share out a batch over threads.

NumPy lets go of Python's lock while it computes, so threads that work on different images run side
by side. Inside, BLAS is held to one thread: its own compete with ours, for they spin long after a
product is done, waiting for the next; and products as small as these gain nothing from them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

VARIABLE = "PROXQUANT_NUM_THREADS"
_SMALL = 1 << 24  # multiply-adds that one thread does sooner than two: handing over takes 0.1 ms

_lock = threading.Lock()
_count: int | None = None
_holders = 0  # how many calls of `parallel` hold BLAS to one thread now,
_blas_before = 0  # and what to restore when the last one ends


def get_num_threads() -> int:
    """How many threads share a batch: what `set_num_threads` set, or the environment variable
    PROXQUANT_NUM_THREADS, or as many as NumPy's BLAS uses, or as there are processors.

    Examples:
        >>> pq.get_num_threads() >= 1
        True
    """
    if _count is not None:
        return _count
    if VARIABLE in os.environ:
        return _checked(VARIABLE, os.environ[VARIABLE])
    if _holders:
        return _blas_before
    controls = _blas_controls()
    return controls[0]() if controls else os.cpu_count() or 1


def set_num_threads(n: int) -> None:
    """Use n threads from now on, in this package's loops and in NumPy's BLAS.

    Results do not depend on n beyond rounding, and are the same bits for the same n.

    Examples:
        >>> before = pq.get_num_threads()
        >>> pq.set_num_threads(1)
        >>> pq.get_num_threads()
        1
        >>> pq.set_num_threads(before)
    """
    global _count
    _count = _checked("n", n)
    if controls := _blas_controls():
        controls[1](_count)


def _checked(name: str, value: Any) -> int:
    if not str(value).isdecimal() or int(value) < 1:
        raise ValueError(f"{name} must be a positive number of threads, got {value!r}")
    return int(value)


def parallel(task: Callable[[int, int], Any], n: int, work: int) -> list[Any]:
    """[task(start, stop), ...] for equal parts of range(n), each in a thread of its own.

    `work` estimates the total in multiply-adds; small work is not divided, and done here. The parts
    depend on nothing but n, work and the thread count, so the same count gives the same bits.
    """
    parts = 1 if work < _SMALL else max(1, min(get_num_threads(), n))
    ends = [n * i // parts for i in range(parts + 1)]
    with _blas_on_one_thread():
        if parts == 1:
            return [task(0, n)]
        pool = _pool(parts - 1, os.getpid())
        futures = [
            pool.submit(copy_context().run, task, *span)  # with the caller's np.errstate
            for span in pairwise(ends[1:])
        ]
        try:
            first = task(0, ends[1])
        finally:
            wait(futures)
        return [first, *(future.result() for future in futures)]


@functools.cache
def _pool(n: int, process: int) -> ThreadPoolExecutor:
    """One pool a size, and one a process: threads do not survive a fork."""
    return ThreadPoolExecutor(n, thread_name_prefix="proxquant_np")


@contextlib.contextmanager
def _blas_on_one_thread() -> Iterator[None]:
    global _holders, _blas_before
    controls = _blas_controls()
    if not controls:
        yield
        return
    get, set_ = controls
    with _lock:
        if not _holders:
            _blas_before = get()
            set_(1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders:
                set_(_blas_before)


@functools.cache
def _blas_controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """NumPy's BLAS's own functions that get and set its thread count; None for an unknown BLAS.

    Looked up in NumPy's extension module, which on Linux and macOS also finds what that module is
    linked with, and in the libraries that NumPy's wheels bring along.
    """
    home = Path(np.__file__).parent
    files = [*home.glob("_core/_multiarray_umath*"), *home.parent.glob("numpy.libs/*openblas*")]
    names = [
        ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
        ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
        ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
        ("openblas_get_num_threads", "openblas_set_num_threads"),
        ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ]
    for file in files:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(file))
            for get, set_ in names:
                if hasattr(library, get) and hasattr(library, set_):
                    return getattr(library, get), getattr(library, set_)
    return None
