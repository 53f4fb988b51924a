"""The golden vectors, read with their checksums; golden/SCHEMA.md describes them."""

from __future__ import annotations

import hashlib
import io
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np.checks import check_choice
from proxquant_np.files import written_whole
from proxquant_np.prox import Regularizer
from proxquant_np.prox.arrays import Floats

FOLDER = Path(__file__).parent / "golden"
VERSION = 1

# All of these are float32 numbers, so that both precisions see the same.
POINTS = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, -0.25, 0.1875, -0.8125, 1.125, 1.5, -3.0, 2.0**-40]
STRENGTHS = [0.0, 0.125, 0.875, 2.5]
TINY = [
    [0.75],
    [-0.75],
    [0.0],
    [1.0, -1.0],
    [0.0, 1.0],
    [0.5, 0.5, 0.5],
    [0.0, -0.0, 0.0],
    [0.0, 1.0, -1.0],
    [1.0, 0.25, -1.0],
    [2.0, 1.0, -0.125],
    [1.0, 3.0, 5.0, -1.0],
    [1.5, -1.25, 0.0, 0.25],
    [8.0, 0.125, -0.125, 0.25],
    [0.875, -1.375, 0.1875, 0.5],
]


def points(r: Regularizer) -> list[float]:
    """Weights to try on fixed levels: POINTS, the levels of `r` and the ties between them."""
    levels = r.levels(np.zeros(1))
    awkward = map(float, [*POINTS, *levels, *(levels[1:] + levels[:-1]) / 2])
    return list({repr(x): x for x in awkward}.values())  # 0.0 and -0.0 differ


def read(name: str, folder: Path = FOLDER) -> bytes:
    """The content of a file of golden vectors; ValueError if it contradicts the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    check_choice(f"version of {folder}", manifest["version"], (VERSION,))
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"][name]:
        raise ValueError(f"{folder / name} is damaged: its checksum differs from the manifest's")
    return content


@lru_cache
def table(name: str) -> dict[str, Any]:
    """A JSON file of golden vectors."""
    return json.loads(read(name))


@lru_cache
def large() -> dict[str, Floats]:
    """The arrays of large.npz."""
    with np.load(io.BytesIO(read("large.npz")), allow_pickle=False) as archive:
        return dict(archive)


def write_vectors(folder: str | os.PathLike) -> list[Path]:
    """Write all files and their schema into `folder`, creating it if missing; return their paths.

    Examples:
        >>> sorted({path.suffix for path in pq.conformance.write_vectors("golden")})
        ['.json', '.md', '.npz']
    """
    folder = Path(folder)
    manifest = json.loads((FOLDER / "manifest.json").read_text("utf-8"))
    contents = {name: read(name) for name in manifest["sha256"]}
    contents |= {name: (FOLDER / name).read_bytes() for name in ("manifest.json", "SCHEMA.md")}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with written_whole(folder / name) as file:
            file.write(content)
    return [folder / name for name in contents]
