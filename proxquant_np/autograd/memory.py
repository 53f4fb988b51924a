"""How much of the memory that it has freed the process keeps.

Every training step allocates the same arrays and frees them at its end. GNU's C library returns
such memory to the system, which hands it out again page by page, filled with zeros: some 30,000
page faults per step of a ResNet, a seventh of the step's time unless something else holds the
memory.

How much the library keeps grows with what the process does: once an array of up to 32 MB has been
freed, it keeps up to twice as much. So this file frees one, untouched, on import: with the 64 MB
steps of small networks run without page faults, and the process is as if it had once read a file of
that size. `keep_memory` makes it keep everything. The process's memory then stays at its peak,
whatever else runs in it, so that is an explicit choice; only this package's own commands make it
unasked.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import warnings

import numpy as np

VARIABLE = "PROXQUANT_KEEP_MEMORY"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MOST = 1 << 25  # bytes; the largest second threshold that older versions of the library accept


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, to reuse it; returns whether it does.

    Without GNU's C library nothing changes, and the result is False. It cannot be undone.
    PROXQUANT_KEEP_MEMORY=1 does the same on import of this package. PROXQUANT_KEEP_MEMORY=0 keeps
    the command `proxquant-np` from doing it, and the import from raising what is kept to 64 MB. If
    it is empty, it counts as not set; so does anything else, with a RuntimeWarning on import.

    Examples:
        >>> pq.keep_memory() in (True, False)
        True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not GNU's, or no dlopen of oneself (Windows)
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    large = mallopt(_M_MMAP_THRESHOLD, 1 << 30) or mallopt(_M_MMAP_THRESHOLD, _MOST)
    return bool(kept and large)


_value = os.environ.get(VARIABLE, "")
if _value not in ("", "0", "1"):
    warnings.warn(
        f"the environment variable {VARIABLE} must be 1, to keep all freed memory, 0, to leave the "
        f"process alone, or not set, got {_value!r}: it counts as not set",
        RuntimeWarning,
        stacklevel=2,
    )
if _value == "1":
    keep_memory()
elif _value != "0" and sys.platform == "linux":
    with contextlib.suppress(MemoryError):  # where a process may have no more
        np.empty(_MOST - (1 << 16), np.uint8)  # with the allocator's own bytes, within its limit
