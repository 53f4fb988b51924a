"""Progress bars that never make a run fail; without a usable standard error there are none."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


class _Unfailing:
    """A stream to which writing never fails, even if it is closed or its disk is full."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def progress_bar(shown: bool, **options: Any) -> Any:
    """A tqdm bar with these options, on standard error."""
    from tqdm import tqdm  # here, so that importing the package stays fast

    usable = sys.stderr is not None and not getattr(sys.stderr, "closed", False)
    stream = _Unfailing(sys.stderr) if usable else None
    return tqdm(file=stream, disable=not (shown and usable), **options)


def say(text: str) -> None:
    """Write a line to standard error, if there is one, above any progress bar."""
    if sys.stderr is None:
        return
    from tqdm import tqdm

    with contextlib.suppress(OSError, ValueError):
        with tqdm.external_write_mode(file=sys.stderr):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
