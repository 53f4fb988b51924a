"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def finish_step_first() -> Iterator[list[int]]:
    """A list that the first Ctrl-C fills, and nothing more; a second Ctrl-C interrupts at once.

    Outside the main thread, the only one that may handle signals, it stays empty.

    Examples:
        >>> import signal
        >>> from proxquant_np.training.interrupt import finish_step_first
        >>> with finish_step_first() as interrupted:
        ...     signal.raise_signal(signal.SIGINT)
        ...     print("the step goes on,", bool(interrupted))
        ...
        the step goes on, True
    """
    interrupted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted.append(signum)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
