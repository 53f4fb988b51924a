"""How convolution and batch normalization share out a batch over threads.

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
from contextvars import ContextVar, copy_context
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

VARIABLE = "PROXQUANT_NUM_THREADS"
_SMALL = 1 << 24  # multiply-adds that one thread does sooner than two: handing over takes 0.1 ms

_count: ContextVar[int | None] = ContextVar("proxquant_np threads", default=None)
_lock = threading.Lock()
_holders = 0  # how many hold BLAS to one thread now,
_blas_before = 0  # and what to restore when the last one ends


class _Mine(threading.local):
    holds = 0  # how many of the holders are in this thread


_mine = _Mine()


def get_num_threads() -> int:
    """How many threads share a batch: what `set_num_threads` set in the running context, or the
    environment variable PROXQUANT_NUM_THREADS, or as many as NumPy's BLAS had when it was first
    asked, or as there are processors.

    Examples:
        >>> pq.get_num_threads() >= 1
        True
    """
    count = _count.get()
    if count is not None:
        return count
    if VARIABLE in os.environ:
        return _checked(VARIABLE, os.environ[VARIABLE])
    return _blas_at_first() or os.cpu_count() or 1


def set_num_threads(n: int) -> None:
    """Use n threads from now on, in this package's loops and in NumPy's BLAS.

    Results do not depend on n beyond rounding, and are the same bits for the same n.

    The count belongs to the running context (`contextvars`): an asyncio task, or a thread, that
    sets its own does not change another's, and one started without a context (any thread, before
    Python 3.14) has the default. BLAS has one count for the whole process, the last that was set.

    Examples:
        >>> before = pq.get_num_threads()
        >>> pq.set_num_threads(1)
        >>> pq.get_num_threads()
        1
        >>> pq.set_num_threads(before)
    """
    global _blas_before
    count = _checked("n", n)
    _blas_at_first()  # looked up before it changes
    _count.set(count)
    if controls := _blas_controls():
        with _lock:
            if _holders:  # theirs until the last one ends
                _blas_before = count
            else:
                controls[1](count)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it everything of this context computes with one thread, whatever others do.

    BLAS, which has one count for the process, is held to one thread for as long as anybody is in
    here; so what several threads compute at the same time does not depend on who ends first.

    Examples:
        >>> from proxquant_np.autograd import threads
        >>> with threads.one_thread():
        ...     pq.get_num_threads()
        1
    """
    before = _count.set(1)
    try:
        with blas_on_one_thread():
            yield
    finally:
        _count.reset(before)


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
    with blas_on_one_thread():
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
def blas_on_one_thread() -> Iterator[None]:
    """Within it NumPy's BLAS computes with one thread, in the whole process."""
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
    _mine.holds += 1
    try:
        yield
    finally:
        _mine.holds -= 1
        with _lock:
            _holders -= 1
            if not _holders:
                set_(_blas_before)


def _after_fork() -> None:
    """In the child there is no thread but this one: no other holds BLAS, or the lock, any more."""
    global _lock, _holders
    _lock = threading.Lock()
    if _holders and not _mine.holds and (controls := _blas_controls()):
        controls[1](_blas_before)
    _holders = _mine.holds


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _blas_at_first() -> int:
    """How many threads BLAS had when nobody had set or held it yet; 0 for an unknown BLAS."""
    with _lock:
        controls = _blas_controls()
        return _blas_before if _holders else controls[0]() if controls else 0


@functools.cache
def blas_kernel() -> str | None:
    """NumPy's BLAS, its version and the kernel that it chose for this processor, if it says so.

    Examples:
        >>> from proxquant_np.autograd import threads
        >>> threads.blas_kernel() is None or " " in threads.blas_kernel()
        True
    """
    for library in _blas_libraries():
        for suffix in ("64_", ""):
            for prefix in ("scipy_openblas", "openblas"):
                config, core = (f"{prefix}_get_{what}{suffix}" for what in ("config", "corename"))
                if hasattr(library, config) and hasattr(library, core):
                    return f"OpenBLAS {_text(library, config).split()[1]} {_text(library, core)}"
    return None


def _text(library: ctypes.CDLL, function: str) -> str:
    getattr(library, function).restype = ctypes.c_char_p
    return getattr(library, function)().decode()


def _blas_libraries() -> Iterator[ctypes.CDLL]:
    """NumPy's extension module, which on Linux and macOS also finds what that module is linked
    with, and the libraries that NumPy's wheels bring along.
    """
    home = Path(np.__file__).parent
    own, bundled = home.glob("_core/_multiarray_umath*"), home.parent.glob("numpy.libs/*openblas*")
    for file in (*own, *bundled):
        with contextlib.suppress(OSError):
            yield ctypes.CDLL(str(file))


@functools.cache
def _blas_controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """NumPy's BLAS's own functions that get and set its thread count; None for an unknown BLAS."""
    names = [
        ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
        ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
        ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
        ("openblas_get_num_threads", "openblas_set_num_threads"),
        ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ]
    for library in _blas_libraries():
        for get, set_ in names:
            if hasattr(library, get) and hasattr(library, set_):
                return getattr(library, get), getattr(library, set_)
    return None
