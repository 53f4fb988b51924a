"""How convolution and batch normalization divide a batch among threads.

NumPy releases Python's lock while it computes, so threads that work on different images run in
parallel. Meanwhile BLAS is held to one thread: its own threads would compete with ours, because
after a product they keep spinning for the next one, and products as small as these gain nothing
from them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

VARIABLE = "PROXQUANT_NUM_THREADS"
_SMALL = 1 << 24  # multiply-adds below which one thread beats two: handing over takes 0.1 ms

_count: ContextVar[int | None] = ContextVar("proxquant_np threads", default=None)
_lock = threading.Lock()
_holders = 0  # how many callers now hold BLAS to one thread,
_blas_before = 0  # and the count to restore when the last of them ends


class _Mine(threading.local):
    holds = 0  # how many of the holders are in this thread
    works = False  # whether it takes jobs


_mine = _Mine()


def get_num_threads() -> int:
    """How many threads share a batch: the first of these that is known.

    What `set_num_threads` set in the running context; the environment variable
    PROXQUANT_NUM_THREADS; as many as NumPy's BLAS had when first asked; as many as there are
    processors.

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

    Results depend on n only through rounding, and have the same bits for the same n.

    The count belongs to the running context (`contextvars`): an asyncio task or thread that sets
    its own does not change another's, and one that starts without a context (any thread, before
    Python 3.14) has the default. BLAS has a single count for the whole process, the last one set.

    Examples:
        >>> before = pq.get_num_threads()
        >>> pq.set_num_threads(1)
        >>> pq.get_num_threads()
        1
        >>> pq.set_num_threads(before)
    """
    global _blas_before
    count = _checked("n", n)
    _blas_at_first()  # remembered before it changes
    _count.set(count)
    if controls := _blas_controls():
        with _lock:
            if _holders:  # applied when the last of them ends
                _blas_before = count
            else:
                controls[1](count)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside this block, this context computes with one thread, whatever other contexts do.

    BLAS, which has one count for the whole process, is held to one thread for as long as anybody is
    inside; so the results of concurrent threads do not depend on which of them ends first.

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
    if not str(value).isdecimal() or int(value) < 1:  # a string, from the environment
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    return int(value)


def parallel(task: Callable[[int, int], Any], n: int, work: int) -> list[Any]:
    """[task(start, stop), ...] for equal parts of range(n), each in a thread of its own.

    `work` is the estimated total in multiply-adds; if it is small, this thread does it all. The
    parts depend only on n, work and the thread count, so the same count gives the same bits.
    """
    alone = work < _SMALL or _mine.works  # a thread that takes jobs must not wait for another job
    parts = 1 if alone else max(1, min(get_num_threads(), n))
    ends = [n * i // parts for i in range(parts + 1)]
    with blas_on_one_thread():
        if parts == 1:
            return [task(0, n)]
        jobs, done = _jobs(parts - 1, os.getpid()), SimpleQueue()
        for span in pairwise(ends[1:]):
            jobs.put((done, copy_context(), task, span))  # with the caller's np.errstate
        try:
            first = task(0, ends[1])
        finally:
            others = [done.get() for _ in range(parts - 1)]
    others.sort(key=itemgetter(0))
    for _, _, error in others:
        if error is not None:
            raise error
    return [first, *(result for _, result, _ in others)]


@functools.cache
def _jobs(n: int, process: int) -> SimpleQueue:
    """The queue of n threads. Each process has its own, because threads do not survive a fork.

    Handing over takes 20 microseconds, where a `ThreadPoolExecutor` with its futures takes 75.
    """
    jobs: SimpleQueue = SimpleQueue()
    for i in range(n):
        threading.Thread(target=_work, args=(jobs,), name=f"proxquant_np_{i}", daemon=True).start()
    return jobs


def _work(jobs: SimpleQueue) -> None:
    _mine.works = True
    while True:
        done, context, task, span = jobs.get()
        try:
            outcome = (span, context.run(task, *span), None)
        except BaseException as error:  # raised again in the thread that waits
            outcome = (span, None, error)
        done.put(outcome)
        del done, context, task, outcome  # the arrays that they hold, before the next job comes


class blas_on_one_thread:
    """Inside this block, NumPy's BLAS computes with one thread, in the whole process."""

    def __enter__(self) -> None:
        global _holders, _blas_before
        if controls := _blas_controls():
            with _lock:
                if not _holders:
                    _blas_before = controls[0]()
                    controls[1](1)
                _holders += 1
            _mine.holds += 1

    def __exit__(self, *exc: object) -> None:
        global _holders
        if controls := _blas_controls():
            _mine.holds -= 1
            with _lock:
                _holders -= 1
                if not _holders:
                    controls[1](_blas_before)


def _after_fork() -> None:
    """A forked child has only this thread, so no other one holds BLAS or the lock any more."""
    global _lock, _holders
    _lock = threading.Lock()
    if _holders and not _mine.holds and (controls := _blas_controls()):
        controls[1](_blas_before)
    _holders = _mine.holds


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _blas_at_first() -> int:
    """How many threads BLAS had before anybody set or held it; 0 for an unknown BLAS."""
    with _lock:
        controls = _blas_controls()
        return _blas_before if _holders else controls[0]() if controls else 0


@functools.cache
def blas_kernel() -> str | None:
    """NumPy's BLAS, its version and the kernel it chose for this processor, if it reports them.

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
    """NumPy's extension module, through which Linux and macOS also find the libraries it is linked
    with, and the libraries bundled in NumPy's wheels.
    """
    home = Path(np.__file__).parent
    own, bundled = home.glob("_core/_multiarray_umath*"), home.parent.glob("numpy.libs/*openblas*")
    for file in (*own, *bundled):
        with contextlib.suppress(OSError):
            yield ctypes.CDLL(str(file))


@functools.cache
def _blas_controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """The functions of NumPy's BLAS that get and set its thread count; None for an unknown BLAS."""
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
