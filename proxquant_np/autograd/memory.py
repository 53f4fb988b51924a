"""What becomes of memory that is given back, an explicit choice.

A training step asks for the same large arrays every time and gives them back at its end. GNU's C
library returns such memory to the system, which hands it out anew page by page, filled with zeros:
some 30,000 interruptions a step of a ResNet, a seventh of its time where nothing else holds the
memory. `keep_memory` makes the process keep it. Its memory then stays at its peak, for whatever
else runs in it, too: so it is not done unasked, except by this package's own commands.
"""

from __future__ import annotations

import ctypes
import os

VARIABLE = "PROXQUANT_KEEP_MEMORY"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MOST = 1 << 25  # bytes; the largest that older versions of the library accept for the second


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, for what it allocates next.

    Whether it does: False without GNU's C library, where nothing changes. It cannot be undone.
    PROXQUANT_KEEP_MEMORY=1 does it when this package is imported; PROXQUANT_KEEP_MEMORY=0 keeps
    the command `proxquant-np` from doing it.

    Examples:
        >>> pq.keep_memory() in (True, False)
        True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not GNU's; no dlopen of oneself (Windows)
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    large = mallopt(_M_MMAP_THRESHOLD, 1 << 30) or mallopt(_M_MMAP_THRESHOLD, _MOST)
    return bool(kept and large)


if os.environ.get(VARIABLE) == "1":
    keep_memory()
