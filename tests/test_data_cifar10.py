"""The CIFAR-10 reader, on small files of its layout, and on real ones where they are at hand."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from proxquant_np.data import cifar10, load_cifar10
from proxquant_np.data.cifar10 import CLASSES, FILES, augment, normalize

REAL = Path(__file__).parents[2] / "shared" / "data" / "cifar10-jpeg.tar.xz"
N = 20
RNG = np.random.default_rng(0)
RECORDS = RNG.integers(0, 256, (6, N, 3073), dtype=np.uint8)
RECORDS[:, :, 0] %= 10


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(cifar10, "RECORDS", N)


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "source" / "cifar-10-batches-bin"
    inner.mkdir(parents=True)
    for name, records in zip(FILES, RECORDS, strict=True):
        (inner / name).write_bytes(records.tobytes())
    (inner / "batches.meta.txt").write_text("\n".join(CLASSES))
    return inner


def archive(folder, mode="w:gz"):
    path = folder.parents[1] / "cifar-10-binary.tar.gz"
    with tarfile.open(path, mode) as tar:
        tar.add(folder, "cifar-10-batches-bin")
    return path


def check(splits):
    x = RECORDS[:, :, 1:].reshape(-1, 3, 32, 32)
    y = RECORDS[:, :, 0].reshape(-1)
    for part, rows in zip(splits, (np.s_[:90], np.s_[90:100], np.s_[100:]), strict=True):
        assert np.array_equal(part.x, x[rows]) and np.array_equal(part.y, y[rows])
        assert part.x.dtype == np.uint8 and part.y.dtype == np.int64
        assert part.x.flags.writeable


@pytest.mark.parametrize("inner", [True, False])
def test_folder(folder, inner):
    check(load_cifar10(folder if inner else str(folder.parent), validation=10))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_archive_is_read_in_place(folder, mode):
    path = archive(folder, mode)
    shutil.rmtree(folder.parent)
    check(load_cifar10(path, validation=10))
    assert [p.name for p in path.parent.rglob("*")] == [path.name]


GET = "cifar-10-binary.tar.gz"


def test_damaged_files_are_named(folder):
    file = folder / FILES[2]
    file.write_bytes(file.read_bytes()[:-5])
    message = (
        rf"data_batch_3.bin must have 61,460 bytes, 20 records of 3,073, but has 61,455.*{GET}"
    )
    for source in (folder, archive(folder)):
        with pytest.raises(ValueError, match=message):
            load_cifar10(source, 0)
    file.write_bytes(bytes([10]) + bytes(3072) + RECORDS[2, 1:].tobytes())
    with pytest.raises(ValueError, match=rf"data_batch_3.bin has the label 10, .*{GET}"):
        load_cifar10(folder, 0)
    file.unlink()
    for source in (folder, archive(folder)):
        with pytest.raises(FileNotFoundError, match=rf"holds no data_batch_3.bin; .*{GET}"):
            load_cifar10(source, 0)


def test_damaged_archives_are_named(folder):
    path = archive(folder)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    for content in (whole[: len(whole) // 2], bytes(damaged), b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{path.name} must be a whole tar.*{GET}"):
            load_cifar10(path, 0)
    with pytest.raises(FileNotFoundError, match=rf"nowhere does not exist; .*{GET}"):
        load_cifar10(path.with_name("nowhere"), 0)


def test_pickled_version_is_refused(folder):
    (folder / "data_batch_1").write_bytes(b"\x80\x02")
    for source in (folder, archive(folder)):
        with pytest.raises(ValueError, match=rf"pickled Python version is not read.*{GET}"):
            load_cifar10(source, 0)


def test_two_files_of_one_name_in_an_archive(folder):
    path = archive(folder)
    with tarfile.open(path, "w:gz") as tar:
        for name in ("b", "a"):
            tar.add(folder, name)
    with pytest.raises(
        ValueError, match=r"must hold one file called \w+\.bin, got a/.*, b/"
    ) as said:
        load_cifar10(path, 0)
    assert "whole" not in str(said.value)


def test_links_and_paths_that_lead_outside_are_not_followed(folder):
    path = archive(folder)
    with tarfile.open(path, "w:gz") as tar:
        for name, records in zip(FILES[1:], RECORDS[1:], strict=True):
            entry = tarfile.TarInfo(f"../../{name}")
            entry.size = N * 3073
            tar.addfile(entry, io.BytesIO(records.tobytes()))
        link = tarfile.TarInfo(FILES[0])
        link.type, link.linkname = tarfile.SYMTYPE, str(folder / FILES[0])
        tar.addfile(link)
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(FileNotFoundError, match=r"holds no data_batch_1.bin"):
        load_cifar10(path, 0)
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize("validation", [-1, 101])
def test_validation_size_is_checked(folder, validation):
    with pytest.raises(
        ValueError, match=f"validation must be an integer >= 0 and <= 100, got {validation}"
    ):
        load_cifar10(folder, validation)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalize(dtype):
    images = RNG.integers(0, 256, (4, 3, 5, 6), dtype=np.uint8)
    desired = (images / 255 - np.reshape(cifar10.MEAN, (3, 1, 1))) / np.reshape(
        cifar10.STD, (3, 1, 1)
    )
    x = normalize(images, dtype)
    assert x.dtype == dtype
    np.testing.assert_allclose(x, desired, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-12)
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        normalize(images, np.float16)
    with pytest.raises(
        ValueError, match=r"images must be uint8 of shape \(n, 3, h, w\), got float"
    ):
        normalize(x)


def test_augment_shifts_and_mirrors():
    images = RNG.integers(1, 256, (400, 3, 6, 5), dtype=np.uint8)
    before = images.copy()
    out = augment(images, 7, pad=1)
    assert np.array_equal(images, before) and np.array_equal(out, augment(images, 7, pad=1))
    assert not np.array_equal(out, augment(images, 8, pad=1))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    counts = np.zeros((3, 3, 2), int)
    for image, source in zip(out, padded, strict=True):
        fits = [
            (t, s, m)
            for t, s, m in np.ndindex(3, 3, 2)
            if np.array_equal(image[:, :, :: -1 if m else 1], source[:, t : t + 6, s : s + 5])
        ]
        assert len(fits) == 1
        counts[fits[0]] += 1
    assert counts.min() > 400 / 18 / 3  # every one of the 18 outcomes, about equally often


def test_augment_without_padding_only_mirrors():
    images = RNG.integers(0, 256, (30, 3, 4, 4), dtype=np.uint8)
    out = augment(images, 0, pad=0)
    same = (out == images).all(axis=(1, 2, 3))
    assert same.any() and not same.all()
    assert np.array_equal(out[~same], images[~same, :, :, ::-1])


@pytest.mark.skipif(not REAL.exists(), reason="no CIFAR-10 images in shared/data")
def test_real_images(tmp_path):
    """Real images in the official layout, read and normalized: of about mean 0 and deviation 1."""
    image = pytest.importorskip("PIL.Image", reason="Pillow decodes the images")
    records = np.empty((6 * N, 3073), np.uint8)
    wanted = {f"test/{kind}/{i:04}.jpg" for kind in CLASSES for i in range(6 * N // len(CLASSES))}
    with tarfile.open(REAL) as archive:  # one solid stream: what comes after these is left packed
        chosen = (member for member in archive if member.name in wanted)
        for record, member in zip(records, chosen, strict=False):
            pixels = np.asarray(image.open(archive.extractfile(member)).convert("RGB"))
            record[0] = CLASSES.index(member.name.split("/")[1])
            record[1:] = pixels.transpose(2, 0, 1).ravel()
            wanted.remove(member.name)
    assert not wanted
    records = np.random.default_rng(0).permutation(records).reshape(6, N, 3073)
    for name, part in zip(FILES, records, strict=True):
        (tmp_path / name).write_bytes(part.tobytes())
    x, y = load_cifar10(tmp_path, 0).train
    assert set(y) == set(range(10))
    x = normalize(x)
    assert np.abs(x.mean()) < 0.3 and x.std() == pytest.approx(1, abs=0.2)
