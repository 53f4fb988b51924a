"""The packed file: k bits per weight plus levels, and everything else unchanged.

It is one array of bytes, called "packed", in an .npz archive or, if its name ends in .safetensors,
in such a file (extra `interop`). The array consists of these parts, without gaps and with
little-endian numbers:

    4 bytes  the length of the header
    header   a JSON text, compressed by zlib: schema, CRC-32 of the data, the network's name and
             constructor arguments, the regularizer, and the entries by name in order
    data     for each quantized weight, its levels (without the lower half if it mirrors the upper
             one) and its codes; for any other parameter or buffer, its bytes

Nothing is ever unpickled, and a file is checked in full before any of it is used: a flipped bit or
a missing byte is an error.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proxquant_np import models
from proxquant_np.files import read_json, read_whole, shown, written_whole
from proxquant_np.interop import require
from proxquant_np.libraries import as_numpy
from proxquant_np.nn import Module, Parameter
from proxquant_np.optim.quantized import Targets, targets_in
from proxquant_np.packing.codes import MAX_BITS, Codes, count_sets, mirrored
from proxquant_np.packing.product import keep_packed
from proxquant_np.prox import QuantizedSet, Regularizer, parse
from proxquant_np.training.checkpoint import load_checkpoint, read_arrays, write_arrays

SCHEMA = 1
_ARRAY, _LENGTH = "packed", 4


class PackedError(ValueError):
    """A file that is not a complete packed network, or of a version or model that is unknown.

    Examples:
        >>> with open("net.npz", "wb") as file:
        ...     size = file.write(b"not a network")
        ...
        >>> try:
        ...     pq.load_packed("net.npz")
        ... except pq.packing.PackedError:
        ...     print("refused")
        refused
    """


class Packed(NamedTuple):
    """What a packed file holds: arrays by name, coded or plain; a str names an earlier, equal one.

    model: the result of `models.describe`. regularizer: the repr; several are separated by "; ".
    """

    model: dict[str, Any] | None
    regularizer: str
    entries: dict[str, Codes | np.ndarray | str]


def pack(
    model: Module,
    regularizer: QuantizedSet | Regularizer | Targets,
    path: str | os.PathLike,
    params: Iterable[Parameter] | None = None,
) -> None:
    """Write the deployed network, with `params` (default: the quantizable ones) as k-bit codes.

    The model is not changed. regularizer: the quantized set, or a regularizer with that set; or,
    for mixed precision and without `params`, a wrapper, its groups, or a mapping from parameters to
    sets or regularizers, as in `quantize_and_freeze`. Weights are projected as in
    `metrics.quantized_copy`, which does not change weights projected before; weights frozen on the
    levels of another regularizer are refused. The file is written whole or not at all, as
    .safetensors if `path` ends so, otherwise as .npz.

    Raises:
        OSError: the folder is missing, read-only or full.
        ModuleNotFoundError: safetensors is not installed (extra `interop`).
        ValueError, TypeError: the model has no parameters, weights or regularizer are invalid,
            frozen weights were quantized by another regularizer, something that is not coded is
            NaN or infinite, or `params` are not the model's.

    After any error, `path` is as it was before.

    Examples:
        >>> model = pq.models.MLP((64, 32, 10), rng=0)
        >>> pq.pack(model, pq.prox.BinaryL1(), "net.npz")
        >>> deployed = pq.load_packed("net.npz")
        >>> np.unique(dict(deployed.named_parameters())["layers.0.weight"].data)
        array([-1.,  1.], dtype=float32)
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {type(model).__name__}")
    chosen = {id(p): own for p, own in targets_in(model, regularizer, params)}
    if not any(True for _ in model.parameters()):
        raise ValueError(
            f"model must have parameters to pack, got a {type(model).__name__} with none"
        )
    if not chosen.keys() <= {id(p) for p in model.parameters()}:
        raise ValueError("params must be parameters of model, got one that is not the model's")
    entries: dict[str, Codes | np.ndarray | str] = {}
    seen: dict[int, str] = {}
    for name, array in model.state_dict().items():
        array, value = as_numpy(array), attrgetter(name)(model)
        if id(value) in seen:
            entries[name] = seen[id(value)]
        elif id(value) in chosen:
            try:
                entries[name] = Codes.of(array, chosen[id(value)], not value.requires_grad)
            except ValueError as error:
                raise ValueError(f"{name} cannot be packed: {error}") from error
        elif np.isfinite(array).all():
            entries[name] = array
        else:
            raise ValueError(f"{name} cannot be packed: it has NaN or infinite entries")
        seen.setdefault(id(value), name)
    named = "; ".join(dict.fromkeys(map(repr, chosen.values()))) or repr(regularizer)
    _write(path, models.describe(model), named, entries)


def pack_checkpoint(
    checkpoint: str | os.PathLike,
    path: str | os.PathLike,
    regularizer: QuantizedSet | Regularizer | None = None,
) -> None:
    """`pack` the network whose training `fit` saved in `checkpoint`.

    To make this possible, the checkpoint holds, besides the arrays "model/NAME", in its meta:
    "model", the name and constructor arguments of one of `proxquant_np.models`; "quantized", the
    names of the quantized parameters; and, in "identity", the regularizer of the run, which
    `regularizer` replaces (and must replace if the run had none).

    Raises:
        CheckpointError: the checkpoint is damaged.
        ValueError: it lacks one of these. OSError and others as for `pack`.

    Examples:
        >>> digits = pq.data.load_digits()
        >>> model = pq.models.MLP((64, 32, 10), rng=0)
        >>> weights = pq.quantizable_parameters(model)
        >>> adam = pq.optim.Adam(model.parameters())
        >>> lazy = pq.optim.DualAveraging(adam, weights, pq.prox.BinaryL1())
        >>> options = dict(steps=2, batch_size=8, progress=False)
        >>> history = pq.training.fit(model, lazy, digits.train, checkpoint="run.npz", **options)
        >>> pq.packing.pack_checkpoint("run.npz", "net.npz")
        >>> [layer.bits for layer in pq.packing.inspect("net.npz")][:2]
        [1, 0]
    """
    if Path(path).exists() and Path(path).samefile(checkpoint):
        raise ValueError(f"{shown(path)} is the checkpoint itself: choose another file to write")
    arrays, meta = load_checkpoint(checkpoint)
    origin = shown(checkpoint)
    try:
        description = meta["model"]
        quantized = set(meta["quantized"])
        identity = meta["identity"]
        named = identity["regularizer"]
        groups = [
            (identity[f"parameters.{k}"], identity[f"regularizer.{k}"])
            for k in range(len(quantized))
            if f"regularizer.{k}" in identity
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{origin} does not say which network it holds") from error
    if description is None:
        raise ValueError(
            f"{origin} holds a network that is not in proxquant_np.models, so it cannot be "
            "rebuilt: build it, load its state, and call proxquant_np.pack"
        )
    if regularizer is None and named == "None" and not groups:
        raise ValueError(f"{origin} is of a run without a regularizer: say which one to use")
    prefix = "model/"
    state = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    model = models.build(description, sum(v.size for v in state.values()))
    try:
        model.load_state_dict(state)
    except KeyError as error:
        raise ValueError(f"{origin}: {error.args[0]}") from error
    parameters = dict(model.named_parameters())
    if regularizer is None and named == "None":
        mapped = {parameters[name]: parse(own) for names, own in groups for name in names}
        return pack(model, mapped, path)
    params = [p for name, p in parameters.items() if name in quantized]
    pack(model, parse(named) if regularizer is None else regularizer, path, params)


def load_packed(
    path: str | os.PathLike, model: Module | None = None, *, unpack: bool = True
) -> Module:
    """The network of a packed file, in evaluation mode, its quantized weights frozen.

    Its outputs are those of the deployed network, bit for bit. It is rebuilt from the recorded
    constructor arguments; other changes to it (of an `eps`, say) are not recorded. A network that
    is not in `proxquant_np.models` must be given as `model`, which is filled in place. With
    unpack=False, linear layers and convolutions (see `keep_packed`) are replaced by layers that
    keep their weights packed and unpack parts of them as they run: the outputs are equal up to the
    rounding of sums, and less memory is used.

    Raises:
        OSError: the file cannot be read; FileNotFoundError if there is none.
        PackedError: the file is not a packed file, is truncated or corrupted, has another schema,
            or holds another network than `model`.
        ModuleNotFoundError: safetensors is not installed (extra `interop`).

    Examples:
        >>> model = pq.models.MLP((64, 32, 10), rng=0)
        >>> pq.pack(model, pq.prox.BinaryL1(), "net.npz")
        >>> small = pq.load_packed("net.npz", unpack=False)
        >>> small(pq.Tensor(np.ones((5, 64), np.float32))).shape
        (5, 10)
        >>> type(small.layers[0]).__name__
        'PackedLinear'
    """
    packed = read_packed(path)
    if model is None and packed.model is None:
        raise PackedError(
            f"{shown(path)} is of a network of your own: build it and give it as model"
        )
    arrays = arrays_of(packed)
    try:
        if model is None:
            model = models.build(packed.model, sum(a.size for a in arrays.values()))
        model.load_state_dict(arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise PackedError(f"{shown(path)} does not fit the network: {error.args[0]}") from error
    codes = {name: entry for name, entry in packed.entries.items() if isinstance(entry, Codes)}
    for name, p in model.named_parameters():
        p.requires_grad &= name not in codes
    if not unpack:
        keep_packed(model, codes)
    return model.eval()


def arrays_of(packed: Packed) -> dict[str, np.ndarray]:
    """All arrays by name, coded ones as floats."""
    arrays: dict[str, np.ndarray] = {}
    for name, entry in packed.entries.items():
        same = arrays[entry] if isinstance(entry, str) else entry
        arrays[name] = same.array() if isinstance(same, Codes) else same
    return arrays


def read_packed(path: str | os.PathLike) -> Packed:
    """What the file holds, checked in full; errors as for `load_packed`."""
    content = read_whole(path)
    read = require("safetensors.numpy").load if _is_safetensors(path) else read_arrays
    try:
        content = read(content)[_ARRAY].tobytes()
        end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
        header, data = read_json(zlib.decompress(content[_LENGTH:end])), content[end:]
        schema = header["schema"]
        if schema == SCHEMA and type(schema) is int:
            return _checked(header, data)
    except Exception as error:  # a damaged file can raise almost anything
        why = shown(error) or "not enough memory"  # for which Python's message is empty
        raise PackedError(f"{shown(path)} is not a whole packed file: {why}") from error
    raise PackedError(
        f"{shown(path)} has packed schema {schema!r}; this version reads schema {SCHEMA}"
    )


def _checked(header: dict[str, Any], data: bytes) -> Packed:
    """The content of header and data; raises any error if `_write` cannot have written them."""
    if zlib.crc32(data) != header["crc32"]:
        raise ValueError("its checksum is wrong")
    reader = _Reader(data)
    entries: dict[str, Codes | np.ndarray | str] = {}
    for entry in header["entries"]:
        name = _text(entry["name"])
        if name in entries:
            raise ValueError(f"{name!r} is there twice")
        if "same" in entry and isinstance(entries[entry["same"]], str):
            raise ValueError(f"{name!r} names no array")
        entries[name] = entry["same"] if "same" in entry else reader.entry(entry)
    reader.end()
    model = header["model"]
    if model is not None:
        model = {"name": _text(model["name"]), "arguments": {**model["arguments"]}}
    return Packed(model, _text(header["regularizer"]), entries)


def _write(
    path: str | os.PathLike,
    model: dict[str, Any] | None,
    regularizer: str,
    entries: dict[str, Codes | np.ndarray | str],
) -> None:
    listed: list[dict[str, Any]] = []
    parts: list[np.ndarray] = []
    for name, entry in entries.items():
        if isinstance(entry, str):
            listed.append({"name": name, "same": entry})
        elif isinstance(entry, Codes):
            told = {
                "bits": entry.bits,
                "levels": entry.levels.shape[1],
                **({"symmetric": True} if entry.symmetric else {}),
                **({"axis": entry.axis} if entry.axis is not None else {}),
                **({"block": entry.block} if entry.block is not None else {}),
            }
            dtype = entry.levels.dtype.name
            listed.append({"name": name, "dtype": dtype, "shape": entry.shape, **told})
            parts += [entry.stored_levels, entry.packed]
        else:
            listed.append({"name": name, "dtype": entry.dtype.name, "shape": entry.shape})
            parts.append(entry)
    data = b"".join(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)
    header = {
        "schema": SCHEMA,
        "crc32": zlib.crc32(data),
        "model": model,
        "regularizer": regularizer,
        "entries": listed,
    }
    text = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    content = len(text).to_bytes(_LENGTH, "little") + text + data
    arrays = {_ARRAY: np.frombuffer(content, np.uint8)}
    save = require("safetensors.numpy").save if _is_safetensors(path) else None
    with written_whole(path) as file:
        if save:
            file.write(save(arrays))
        else:
            write_arrays(file, arrays)


class _Reader:
    """Reads arrays from the data, and refuses what `_write` cannot have written."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, dtype: np.dtype, *shape: int) -> np.ndarray:
        count = math.prod(shape)
        if count * dtype.itemsize > len(self.data) - self.position:
            raise ValueError("its data end too soon")
        found = np.frombuffer(self.data, dtype.newbyteorder("<"), count, self.position)
        self.position += found.nbytes
        if not np.isfinite(found).all():
            raise ValueError("it has NaN or infinite entries")
        return found.astype(dtype).reshape(shape)

    def entry(self, told: dict[str, Any]) -> Codes | np.ndarray:
        dtype, shape = np.dtype(told["dtype"]), tuple(told["shape"])
        if dtype.name != told["dtype"] or dtype.kind not in "biuf":
            raise ValueError(f"dtype {told['dtype']!r}")
        if "bits" not in told:
            return self.take(dtype, *map(_natural, shape))
        bits, n_levels, symmetric = told["bits"], told["levels"], told.get("symmetric", False)
        axis, block = told.get("axis"), told.get("block")
        size = math.prod(map(_natural, shape))
        fits = (
            size > 0
            and dtype.kind == "f"
            and 1 <= _natural(bits) <= MAX_BITS
            and 1 <= _natural(n_levels) <= 2**bits
            and (axis is None or _natural(axis) < len(shape))
            and (block is None or (axis is None and _natural(block) and size % block == 0))
        )
        if not fits:
            raise ValueError(f"the codes of {told['name']!r} make no sense")
        stored = (n_levels + 1) // 2 if symmetric else n_levels
        levels = self.take(dtype, count_sets(shape, axis, block), stored)
        levels = mirrored(levels, n_levels) if symmetric else levels
        if (levels[:, :-1] > levels[:, 1:]).any():
            raise ValueError(f"the levels of {told['name']!r} do not ascend")
        packed = self.take(np.dtype(np.uint8), -(-size * bits // 8))
        found = Codes(shape, bits, levels, packed, axis, block)
        if found.codes().max(initial=0) >= n_levels:
            raise ValueError(f"the codes of {told['name']!r} are beyond its levels")
        return found

    def end(self) -> None:
        if self.position != len(self.data):
            raise ValueError(f"{len(self.data) - self.position} bytes too many")


def _natural(number: int) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is not a natural number")
    return number


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _is_safetensors(path: str | os.PathLike) -> bool:
    return Path(path).suffix == ".safetensors"
