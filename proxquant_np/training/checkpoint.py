"""Checkpoint files.

A checkpoint is an .npz archive of plain arrays, one of which is a JSON text with everything that is
not an array. Nothing in it is ever unpickled. It is read and checked in full before anything is
returned: the archive has a checksum for each array, and the text lists their names.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from proxquant_np.files import read_json, read_whole, shown
from proxquant_np.files import written_whole as written_whole
from proxquant_np.libraries import check_unmasked

SCHEMA = 1
_TEXT = "__meta__"


class CheckpointError(ValueError):
    """A file that is not a complete checkpoint, has an unknown version, or is of another run.

    Examples:
        >>> with open("run.npz", "wb") as file:
        ...     size = file.write(b"not a checkpoint")
        ...
        >>> try:
        ...     pq.training.load_checkpoint("run.npz")
        ... except pq.training.CheckpointError:
        ...     print("refused")
        refused
    """


def save_checkpoint(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write named arrays and `meta`, which JSON must be able to hold, whole or not at all.

    In meta, NumPy arrays become lists and NumPy scalars numbers.

    Raises:
        OSError: the folder is missing, read-only or full.
        ValueError: something could not be read back: an array of Python objects; a name that is
            "__meta__", contains NUL or half of a surrogate pair, or is longer than 65,000 bytes;
            meta that is circular or nested too deeply, or has keys that coincide in JSON (1, "1").
        TypeError: a name is not a string, or JSON cannot hold meta.

    After any error, `path` is as it was before.

    Examples:
        >>> pq.training.save_checkpoint("run.npz", {"w": np.ones(3)}, {"step": 7})
        >>> arrays, meta = pq.training.load_checkpoint("run.npz")
        >>> arrays["w"], meta
        (array([1., 1., 1.]), {'step': 7})
    """
    for name in arrays:
        _check_name(name)
    try:
        text = json.dumps(
            {"schema": SCHEMA, "arrays": sorted(arrays), "meta": meta}, default=_plain
        )
        read_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"meta could not be read back from JSON: {shown(error)}") from None
    with written_whole(path) as file:
        write_arrays(file, {_TEXT: text, **arrays})


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"names of arrays must be strings, got {name!r}")
    try:
        readable = name != _TEXT and "\0" not in name and len(name.encode()) <= 65_000
    except UnicodeEncodeError:
        readable = False
    if not readable:
        raise ValueError(
            "names of arrays must be Unicode without NUL, of at most 65,000 bytes, and not "
            f"{_TEXT!r}, got {name[:100]!r}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
        return value.tolist()
    raise TypeError(
        "meta must consist of dicts, lists, strings, numbers, True, False, None, and arrays of "
        f"these, got {type(value).__name__} {value!r:.100}"
    )


def write_arrays(file: BinaryIO, arrays: Mapping[str, ArrayLike]) -> None:
    """Write an .npz archive; ValueError for an array of Python objects, TypeError for a mask."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            check_unmasked(name, array)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive, never unpickled. A damaged one can raise almost anything.

    numpy.load reads as much as an array's header asks for, verifies the checksum only if that
    happens to be everything, and of two members with the same name takes the last. Here the whole
    member is read and verified before it is parsed, and it must be what the header asks for.
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"it holds {name!r} twice")
            stream = io.BytesIO(archive.read(member))
            arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
            if stream.read(1):
                raise ValueError(f"{name!r} is longer than its header says")
    return arrays


def load_checkpoint(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, meta) as given to `save_checkpoint`.

    Raises:
        OSError: the file cannot be read; FileNotFoundError if there is none.
        CheckpointError: the file is not a checkpoint, is truncated or corrupted, or has another
            schema.

    Examples:
        >>> pq.training.save_checkpoint("run.npz", {"w": np.ones(3)}, {"step": 7})
        >>> pq.training.load_checkpoint("run.npz")
        ({'w': array([1., 1., 1.])}, {'step': 7})
    """
    content = read_whole(path)
    try:
        arrays = read_arrays(content)
        text = read_json(arrays.pop(_TEXT).item())
        schema = text["schema"]
    except Exception as error:  # a damaged archive can raise almost anything
        why = shown(error) or "not enough memory"  # for which Python's message is empty
        raise CheckpointError(f"{shown(path)} is not a whole checkpoint: {why}") from error
    if type(schema) is not int or schema != SCHEMA:
        raise CheckpointError(
            f"{shown(path)} has checkpoint schema {schema!r}; this version reads schema {SCHEMA}"
        )
    if sorted(arrays) != text.get("arrays") or "meta" not in text:
        raise CheckpointError(f"{shown(path)} is not a whole checkpoint: arrays are missing")
    return arrays, text["meta"]
