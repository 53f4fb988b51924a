"""Exchange with other frameworks (above training). Nothing is imported before it is asked for:
`pq.interop.torch` imports PyTorch when it is first named.

torch.py        states, to PyTorch and back
safetensors.py  states as files that PyTorch and others read and write
onnx.py         networks as graphs that ONNX Runtime and others run
names.py        what a state from elsewhere calls things
"""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if name in ("torch", "safetensors", "onnx", "names"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def require(module: str) -> ModuleType:
    """Import a module of the extra `interop`; ModuleNotFoundError that says how to get it.

    Examples:
        >>> pq.interop.require("json").__name__
        'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ModuleNotFoundError(
            f"{package} is not installed: pip install 'proxquant-np[interop]'", name=package
        ) from error
