"""CIFAR-10 from the official binary files: 60,000 colour images of 32x32 pixels in ten classes.

Source: A. Krizhevsky (2009), *Learning Multiple Layers of Features from Tiny Images*,
https://www.cs.toronto.edu/~kriz/cifar.html. Not part of this package: download its "binary
version", or let `proxquant-np experiment resnet_cifar10 --download` do so (`data.download`).

A file holds 10,000 records of 3,073 bytes: the label, then the red, the green and the blue plane,
each row by row. Images stay uint8, at a quarter of the memory, until a batch of them is used:

    x, y = splits.train
    images = normalize(augment(x[batch], rng))
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from proxquant_np.checks import check_integer
from proxquant_np.data.archives import Refused, only_path, whole_tar
from proxquant_np.data.splits import Split, Splits
from proxquant_np.files import shown

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN = (0.4914, 0.4822, 0.4465)
"""Mean and standard deviation of each channel over the training images, in units of 255."""
STD = (0.2470, 0.2435, 0.2616)

FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
RECORDS = 10_000
_RECORD = 1 + 3 * 32 * 32
_GET = "get the binary version, https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"


def load_cifar10(source: str | Path, validation: int = 5000) -> Splits:
    """Read a folder with the .bin files (or with cifar-10-batches-bin/), or the .tar.gz in place.

    x is uint8 (n, 3, 32, 32) and y int64 (n,), with classes numbered as in `CLASSES`. The last
    `validation` of the 50,000 training images, whose order in the files is random, are set aside
    for validation. An archive is read without writing anything to disk. The pickled "Python
    version" is refused, because unpickling can run any code.

    Raises:
        FileNotFoundError: the source, or a file in it, is missing.
        ValueError: a file or archive is damaged or the wrong one, or `validation` is not in
            [0, 50,000].

    Examples:
        >>> try:
        ...     splits = pq.data.load_cifar10("no/such/folder")
        ... except FileNotFoundError as error:
        ...     print(str(error).split(";")[0])
        source no/such/folder does not exist
    """
    n_train = RECORDS * (len(FILES) - 1)
    validation = check_integer("validation", validation, least=0, most=n_train)
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"source {shown(source)} does not exist; {_GET}")
    if not (source.is_dir() or source.is_file()):
        raise ValueError(f"source must be a folder or a file, got {shown(source)}; {_GET}")
    found = dict(_from_folder(source) if source.is_dir() else _from_archive(source))
    for name in FILES:
        if name not in found:
            raise FileNotFoundError(f"{shown(source)} holds no {name}; {_GET}")
    x, y = _decode(source, [found[name] for name in FILES])
    ends = (0, n_train - validation, n_train, len(x))
    return Splits(*(Split(x[a:b], y[a:b]) for a, b in pairwise(ends)))


def normalize(images: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """(images / 255 - MEAN) / STD per channel, in float32 or float64, of uint8 (n, 3, h, w) images.

    Examples:
        >>> from proxquant_np.data import cifar10
        >>> cifar10.normalize(np.zeros((1, 3, 2, 2), np.uint8)).shape
        (1, 3, 2, 2)
    """
    _check(images)
    if dtype not in (np.float32, np.float64, "float32", "float64"):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (MEAN, STD))
    out = images * (1 / (255 * std)).astype(dtype)
    out -= (mean / std).astype(dtype)
    return out


def augment(images: np.ndarray, rng: np.random.Generator | int, pad: int = 4) -> np.ndarray:
    """Random crops of the images, padded with `pad` black pixels; half of them are mirrored.

    This is the usual augmentation (pad 4, random crop, random flip): the (2 pad + 1)^2 crops are
    equally likely, and each image is mirrored with probability 1/2. Takes uint8 (n, 3, h, w) and
    returns a new array like it.

    Examples:
        >>> from proxquant_np.data import cifar10
        >>> images = np.ones((5, 3, 32, 32), np.uint8)
        >>> cifar10.augment(images, rng=0).shape
        (5, 3, 32, 32)
    """
    _check(images)
    rng = np.random.default_rng(rng)
    n, _, h, w = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    crops = np.lib.stride_tricks.sliding_window_view(padded, (h, w), (2, 3))
    top, left = rng.integers(0, 2 * pad + 1, (2, n))
    out = crops[np.arange(n), :, top, left]
    mirrored = rng.random(n) < 0.5
    out[mirrored] = out[mirrored, :, :, ::-1]
    return out


def _check(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be uint8 of shape (n, 3, h, w), got {images.dtype} {images.shape}"
        )


def _from_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    inner = folder / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else folder
    for path in folder.iterdir():
        _refuse_pickles(folder, path.name)
    for name in FILES:
        path = folder / name
        if path.is_file():
            _check_size(path, path.stat().st_size)
            yield name, path.read_bytes()


def _from_archive(archive: Path) -> Iterator[tuple[str, bytes]]:
    with whole_tar(archive, "tar or tar.gz archive", f"; {_GET}") as tar:
        paths = []
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            _refuse_pickles(archive, name)
            if name in FILES and member.isfile():
                paths.append((name, member.name))
                only_path(archive, name, paths)
                _check_size(f"{archive}: {member.name}", member.size)
                yield name, tar.extractfile(member).read()


def _refuse_pickles(source: Path, name: str) -> None:
    if name in {"cifar-10-batches-py", *(file.removesuffix(".bin") for file in FILES)}:
        raise Refused(
            f"{shown(source)} holds {name}: the pickled Python version is not read, because "
            f"unpickling can run any code; {_GET}"
        )


def _check_size(file: Path | str, size: int) -> None:
    if size != RECORDS * _RECORD:
        raise Refused(
            f"{shown(file)} must have {RECORDS * _RECORD:,} bytes, {RECORDS:,} records of "
            f"{_RECORD:,}, but has {size:,}; {_GET}"
        )


def _decode(source: Path, contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of all files, in order."""
    x = np.empty((len(contents) * RECORDS, 3, 32, 32), np.uint8)
    y = np.empty(len(x), np.int64)
    for i, (name, content) in enumerate(zip(FILES, contents, strict=True)):
        if len(content) != RECORDS * _RECORD:
            raise ValueError(f"{shown(source)}: {name} ends after {len(content):,} bytes; {_GET}")
        records = np.frombuffer(content, np.uint8).reshape(RECORDS, _RECORD)
        rows = slice(i * RECORDS, (i + 1) * RECORDS)
        x[rows], y[rows] = records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]
        if y[rows].max() >= len(CLASSES):
            raise ValueError(
                f"{shown(source)}: {name} has the label {y[rows].max()}, but labels are 0..9: it "
                f"is damaged or not CIFAR-10; {_GET}"
            )
    return x, y
