"""state_dicts as safetensors files, as PyTorch and others use. Needs the extra `interop`.

    pq.interop.safetensors.load(model, "weights.safetensors")   # a torch state_dict, saved there
    pq.interop.safetensors.save(pq.load_packed("net.npz"), "deployed.safetensors")

Names, shapes and layouts are PyTorch's, as everywhere in this package. A packed file is
something else, whatever its suffix: it holds codes (`pq.pack`).
"""

from __future__ import annotations

import os

import numpy as np

from proxquant_np.files import read_json, read_whole, shown, written_whole
from proxquant_np.interop import require
from proxquant_np.interop.names import as_here
from proxquant_np.nn import Module
from proxquant_np.nn.module import StateKeys


def load(model: Module, path: str | os.PathLike, strict: bool = True) -> StateKeys:
    """Copy a state_dict saved as safetensors, in BF16 or any dtype that NumPy has, into the model.

    Names are matched as in `from_torch`.

    Returns:
        The keys that are missing and those that are unexpected, as `Module.load_state_dict`.

    Raises:
        OSError: the file cannot be read.
        ModuleNotFoundError: safetensors is not installed (extra `interop`).
        ValueError: not a safetensors file, a truncated one, or one with an array of another dtype,
            such as F8_E4M3. KeyError and others as in `Module.load_state_dict`. The model is then
            unchanged.

    Examples:
        >>> a, b = pq.nn.Linear(3, 2, rng=0), pq.nn.Linear(3, 2, rng=1)
        >>> pq.interop.safetensors.save(a, "linear.safetensors")
        >>> pq.interop.safetensors.load(b, "linear.safetensors")
        <All keys matched successfully>
        >>> np.array_equal(a.weight.data, b.weight.data)
        True
    """
    content = read_whole(path)
    deserialize = require("safetensors").deserialize
    try:
        entries = deserialize(content)
        read_json(content[8 : 8 + int.from_bytes(content[:8], "little")])  # refuses duplicate names
    except Exception as error:  # the package has an exception of its own
        raise ValueError(
            f"{shown(path)} is not a whole safetensors file that can be read: {shown(error)}"
        ) from error
    for name, told in entries:
        if told["dtype"] not in (*_DTYPES, "BF16"):
            raise ValueError(
                f"{shown(path)}: {shown(name)} has dtype {told['dtype']}, which NumPy lacks; "
                f"readable are BF16, {', '.join(_DTYPES)}"
            )
    state = {name: _array(**told) for name, told in entries}
    return model.load_state_dict(as_here(model, state), strict)


def save(model: Module, path: str | os.PathLike) -> None:
    """Write the model's state_dict, whole or not at all.

    Deployed weights are those of `metrics.quantized_copy(model, regularizer)` or of
    `load_packed`. Written as floats, they serve for exchange, not to save space.

    Raises:
        OSError: the folder is missing, read-only or full.
        ModuleNotFoundError: safetensors is not installed (extra `interop`).

    Examples:
        >>> pq.interop.safetensors.save(pq.nn.Linear(3, 2), "linear.safetensors")
        >>> import safetensors.numpy
        >>> sorted(safetensors.numpy.load_file("linear.safetensors"))
        ['bias', 'weight']
    """
    content = require("safetensors.numpy").save(model.state_dict())
    with written_whole(path) as file:
        file.write(content)


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"}
_DTYPES |= {f"{sign}{8 * n}": f"<{sign.lower()}{n}" for n in (8, 4, 2, 1) for sign in "IU"}


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype == "BF16":  # not in NumPy: the upper half of a float32
        upper = np.frombuffer(data, "<u2").astype(np.uint32)
        return (upper << 16).view(np.float32).reshape(shape)
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
