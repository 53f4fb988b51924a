"""Exchange with other frameworks (above training). Nothing is imported before it is asked for:
`pq.interop.torch` imports PyTorch when it is first named.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if name == "torch":
        return importlib.import_module(f"{__name__}.torch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
