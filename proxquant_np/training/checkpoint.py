"""Training (layer 5): checkpoint files, and how this library writes any file.

A checkpoint is an .npz archive of plain arrays, one of which is a JSON text for everything that is
not an array. Nothing in it is ever unpickled, and it is read and checked in full (the archive
carries a checksum for each array, the text the names of all) before anything is returned.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

SCHEMA = 1
_TEXT = "__meta__"


class CheckpointError(ValueError):
    """A file that is not a whole checkpoint of a version this library reads, or of another run.

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


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of `path` once the block has ended well.

    It is a temporary file beside the target, flushed to disk and renamed: the target holds what it
    held before or all of the new content, never half of either, whenever the process dies. Only a
    process killed while it writes leaves its temporary file (.NAME.*.tmp) behind.

    Examples:
        >>> from pathlib import Path
        >>> with pq.training.written_whole("notes.txt") as file:
        ...     size = file.write(b"all or nothing")
        ...
        >>> Path("notes.txt").read_bytes()
        b'all or nothing'
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a folder or a device, and stays one: choose a file to write")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write named arrays and JSON-able `meta` (arrays in it become lists), whole or not at all.

    Raises:
        OSError: the folder is missing, read-only or full.
        ValueError: an array of Python objects.
        TypeError: meta that JSON cannot hold. In each case `path` is as it was before.

    Examples:
        >>> pq.training.save_checkpoint("run.npz", {"w": np.ones(3)}, {"step": 7})
        >>> arrays, meta = pq.training.load_checkpoint("run.npz")
        >>> arrays["w"], meta
        (array([1., 1., 1.]), {'step': 7})
    """
    text = json.dumps(
        {"schema": SCHEMA, "arrays": sorted(arrays), "meta": meta}, default=np.ndarray.tolist
    )
    with written_whole(path) as file:
        write_arrays(file, {_TEXT: text, **arrays})


def write_arrays(file: BinaryIO, arrays: Mapping[str, ArrayLike]) -> None:
    """Write an .npz archive; ValueError for an array of Python objects."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive, never unpickled. Damaged, it can raise almost anything.

    Not numpy.load: it reads what an array's header asks for, and checks the checksum only if that
    happens to be all. Here the whole member is read, and checked, before it is parsed.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    return {
        name: np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)
        for name, member in members.items()
    }


def load_checkpoint(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, meta) as given to `save_checkpoint`.

    Raises:
        OSError: the file cannot be read; FileNotFoundError if there is none.
        CheckpointError: not a checkpoint, truncated, corrupted, or of another schema.

    Examples:
        >>> pq.training.save_checkpoint("run.npz", {"w": np.ones(3)}, {"step": 7})
        >>> pq.training.load_checkpoint("run.npz")
        ({'w': array([1., 1., 1.])}, {'step': 7})
    """
    content = Path(path).read_bytes()
    try:
        arrays = read_arrays(content)
        text = json.loads(arrays.pop(_TEXT).item())
        schema = text["schema"]
    except Exception as error:  # a damaged archive can raise almost anything
        raise CheckpointError(f"{path} is not a whole checkpoint: {error}") from error
    if schema != SCHEMA:
        raise CheckpointError(
            f"{path} has checkpoint schema {schema!r}; this version reads schema {SCHEMA}"
        )
    if sorted(arrays) != text.get("arrays"):
        raise CheckpointError(f"{path} is not a whole checkpoint: arrays are missing")
    return arrays, text["meta"]
