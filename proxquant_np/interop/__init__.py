"""Exchange with other frameworks. Each is imported only on use: the first mention of
`pq.interop.torch` imports PyTorch.

torch.py        state_dicts, to PyTorch and back
safetensors.py  state_dicts as files that PyTorch and others read and write
onnx.py         networks as graphs that ONNX Runtime and others run
names.py        how the names in a state_dict from elsewhere are matched to ours
"""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    if name in ("torch", "safetensors", "onnx", "names"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def require(module: str) -> ModuleType:
    """Import a module of the extra `interop`; the ModuleNotFoundError says how to install it.

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
