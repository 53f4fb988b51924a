"""Where cells run: in this process, in processes of this machine, or on a Dask cluster.

After Ctrl-C or an error the workers are asked to end, which lets training finish and save its step.
Once the context is left, nothing is running any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from typing import Any

from proxquant_np.training.progress import say

GRACE = 10.0  # seconds that a worker has to finish its step and save it
_POLL = 0.2  # seconds between two looks at whether to stop
_SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
_ONE_THREAD = ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR")


class Workers(ABC):
    """Where calls run: a context that ends the workers when it is left."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: B027  # not all have something to end
        pass

    @abstractmethod
    def room(self) -> int:
        """How many more calls can be started now."""

    @abstractmethod
    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin function(*arguments)."""

    @abstractmethod
    def finished(self) -> Iterator[Any]:
        """Wait until a call has ended; what the calls that have ended returned.

        Raises:
            OSError: a worker was lost, or all of them; the message says what to do.
        """

    @abstractmethod
    def stop(self) -> Iterator[Any]:
        """Ask the workers to end; what those calls returned that succeeded in GRACE seconds."""


class Here(Workers):
    """One call at a time, in this process."""

    def __init__(self) -> None:
        self._returned: list[Any] = []

    def room(self) -> int:
        return 1 - len(self._returned)

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._returned.append(function(*arguments))

    def finished(self) -> Iterator[Any]:
        while self._returned:
            yield self._returned.pop()

    def stop(self) -> Iterator[Any]:
        return iter(())


class Processes(Workers):
    """Processes of this machine, each in a session of its own, so that a terminal's Ctrl-C reaches
    this process alone, which stops them in good order. They end when this process ends, however.
    """

    def __init__(self, n: int) -> None:
        from multiprocessing import resource_tracker

        from joblib.externals import loky  # here: the command line starts sooner

        if hasattr(signal, "pthread_sigmask"):
            # Python's starts with the first worker, and would let signals through again.
            resource_tracker.ensure_running()
        stop = loky.backend.get_context("loky").Semaphore(0)
        self._stop, self._size, self._running = stop, n, set()
        self._pool = loky.ProcessPoolExecutor(
            n,
            initializer=_begin_worker,
            initargs=(os.getpid(), stop),
            env={f"{name}_NUM_THREADS": "1" for name in _ONE_THREAD},
        )
        self._broken = loky.BrokenProcessPool

    def __exit__(self, kind: type | None, *error: Any) -> None:
        self._pool.shutdown(wait=True, kill_workers=not all(f.done() for f in self._running))

    def room(self) -> int:
        return self._size - len(self._running)

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        with _signals_wait(), self._told():  # a process that is just starting would be hit
            self._running.add(self._pool.submit(_busy, function, *arguments))

    def finished(self) -> Iterator[Any]:
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            with self._told():
                returned = future.result()
            self._running.remove(future)
            yield returned

    def stop(self) -> Iterator[Any]:
        self._stop.release()
        for future in wait(self._running, GRACE).done:
            if future.exception() is None:
                yield future.result()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Replaces loky's error for a lost process by one that says what to do."""
        try:
            yield
        except self._broken:
            raise OSError(
                "a process that ran cells was killed (the system does so when memory runs out: "
                "use fewer jobs); what is finished is kept, run again to go on"
            ) from None


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that ask this process to end wait for the end of the block.

    The mask is for processes started in the block, which inherit it (Windows has none). In this
    process it is not enough: another thread may take a signal, which Python then handles in this
    one.
    """
    came: list[int] = []
    handlers, mask = {}, None
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                handlers[number] = signal.signal(number, lambda signum, frame: came.append(signum))
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


# In a worker process -----------------------------------------------------------------------------

_is_busy = False


def _busy(function: Callable[..., Any], *arguments: Any) -> Any:
    global _is_busy
    _is_busy = True
    try:
        return function(*arguments)
    finally:
        _is_busy = False


def _begin_worker(parent: int, stop: Any) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_watch, args=(parent, stop), daemon=True).start()


def _interrupt(signum: int, frame: Any) -> None:
    if _is_busy:  # else there is nothing to interrupt
        raise KeyboardInterrupt


def _watch(parent: int, stop: Any) -> None:
    """Interrupt what runs here when the parent says so or is gone, then end; at once if it is."""
    ended = _parent_ended(parent)
    while not ended() and not _is_asked(stop):
        time.sleep(_POLL)
    until = time.monotonic() + GRACE
    if _is_busy:
        if hasattr(signal, "pthread_kill"):  # which wakes a sleeping main thread, too
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        else:
            signal.raise_signal(signal.SIGINT)
    while time.monotonic() < until and (_is_busy or not ended()):
        time.sleep(_POLL)
    os._exit(1)


def _is_asked(stop: Any) -> bool:
    """Whether the semaphore was released; it stays released for the other workers."""
    if stop.acquire(False):
        stop.release()
        return True
    return False


def _parent_ended(parent: int) -> Callable[[], bool]:
    if os.name == "posix":  # an orphan gets another parent
        return lambda: os.getppid() != parent
    from multiprocessing import connection, parent_process

    return lambda: bool(connection.wait([parent_process().sentinel], 0))


# On a cluster ------------------------------------------------------------------------------------


class Dask(Workers):
    """As many calls at a time as the workers of a Dask scheduler have threads.

    The calls of a lost worker run again on another one. A call that has ended is released at once,
    so that it does not run again if its worker is lost later. A worker finishes what it has begun
    even if this process is gone.
    """

    def __init__(self, address: str) -> None:
        from distributed import Client

        self._address, self._running, self._waits = address, set(), False
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_without_logs("distributed"))
        try:
            self._client = Client(address)
        except (OSError, ValueError) as error:
            self._quiet.close()
            raise OSError(f"no Dask scheduler at {address}: {error}") from error

    def __exit__(self, *error: Any) -> None:
        for future in self._running:
            future.release()
        self._client.close(timeout=5)
        self._quiet.close()

    def room(self) -> int:
        return self._threads() - len(self._running)

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._running.add(self._client.submit(function, *arguments, pure=False))

    def finished(self) -> Iterator[Any]:
        from distributed import wait as wait_for

        done: set[Any] = set()
        while self._running and not done:
            with self._told():
                with contextlib.suppress(TimeoutError):
                    done = wait_for(list(self._running), 1.0, FIRST_COMPLETED).done
                    break
                self._threads()
        for future in done:
            try:
                with self._told():
                    returned = future.result()
            finally:
                self._running.remove(future)
                future.release()
            yield returned

    def stop(self) -> Iterator[Any]:
        for future in self._running:
            if self._client.status == "running" and future.status == "finished":
                yield future.result()

    def _threads(self) -> int:
        """How many threads the workers have; tells the user when there are none."""
        with self._told():
            if self._client.status != "running":
                raise CancelledError
            n = sum(self._client.nthreads().values())
        if not n and not self._waits:
            say(f"waiting for a worker: the Dask scheduler at {self._address} has none")
        self._waits = not n
        return n

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Replaces Dask's errors by one that says what to do."""
        from distributed import KilledWorker

        kept = "what is finished is kept, run again to go on"
        try:
            yield
        except KilledWorker as error:
            raise OSError(
                "a cell was given up: each worker that ran it was lost on the way (does it need "
                f"more memory than they have?); {kept}"
            ) from error
        except (OSError, CancelledError, TimeoutError) as error:
            gone = f"the Dask scheduler at {self._address} is gone, or has cancelled the runs"
            raise OSError(f"{gone}; {kept}") from error
        except (ImportError, AttributeError, RuntimeError) as error:
            raise OSError(
                "a Dask worker cannot run a cell (does it have this version of the package?): "
                f"{error}"
            ) from error


@contextlib.contextmanager
def _without_logs(package: str) -> Iterator[None]:
    """Silences a package's loggers, for what they would say at length is said in one line."""
    known = logging.root.manager.loggerDict
    names = [name for name in known if name.split(".")[0] == package]
    loggers = [logger for logger in map(logging.getLogger, names) if not logger.disabled]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger in loggers:
            logger.disabled = False
