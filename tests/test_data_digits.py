"""The digits: the arrays in the file, how they were made, and what `load_digits` hands out."""

import hashlib
import itertools
import runpy

import numpy as np
import pytest

from proxquant_np.data import digits, load_digits
from proxquant_np.data import make_digits as made
from proxquant_np.data.digits import FILE
from proxquant_np.data.make_digits import make_digits

SHA256 = {
    "images": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
    "labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
    "split": "b0474bb9a2472d4a9eea8ec552ebf6c28b226359577553ea0be326f198acc0e8",
}


@pytest.fixture(scope="module")
def stored():
    with np.load(FILE, allow_pickle=False) as file:
        return dict(file)


def test_checksums(stored):
    assert all(array.dtype == np.uint8 for array in stored.values())
    assert stored["images"].shape == (1797, 8, 8) and stored["images"].max() == 16
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in stored.items()}
    assert digests == SHA256


def test_made_from_csv(stored, tmp_path):
    csv = tmp_path / "digits.csv"
    table = np.column_stack([stored["images"].reshape(-1, 64), stored["labels"]])
    np.savetxt(csv, table, fmt="%d", delimiter=",")
    for name, array in make_digits(csv).items():
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, stored[name], strict=True)


def test_split_is_stratified():
    splits = load_digits()
    assert [len(split.y) for split in splits] == [1077, 360, 360]
    counts = np.array([np.bincount(split.y, minlength=10) for split in splits])
    assert (abs(counts[1:] - counts.sum(0) / 5) < 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32", np.dtype("float64")])
@pytest.mark.parametrize(("flat", "shape"), [(True, (64,)), (False, (1, 8, 8))])
def test_shapes_and_dtypes(dtype, flat, shape):
    for x, y in load_digits(dtype, flat):
        assert x.shape == (len(y), *shape) and x.dtype == dtype
        assert y.ndim == 1 and y.dtype == np.int64 and set(y) == set(range(10))
        assert x.flags.c_contiguous


def test_scaling_undone_gives_the_pixels(stored):
    train = stored["images"][stored["split"] == 0]
    for part, (x, y) in enumerate(load_digits(np.float64, flat=False)):
        mine = stored["split"] == part
        pixels = x[:, 0] * train.std() + train.mean()
        np.testing.assert_allclose(pixels, stored["images"][mine], atol=1e-12)
        np.testing.assert_array_equal(y, stored["labels"][mine])
    x = load_digits(np.float64).train.x
    assert abs(x.mean()) < 1e-12 and abs(x.std() - 1) < 1e-12
    assert -0.82 < x.min() < x.max() < 1.85


def test_arrays_are_fresh():
    first = load_digits()
    for x, y in first:
        x[:], y[:] = 0, 0
    for (x, y), (x0, y0) in zip(load_digits(), first, strict=True):
        assert x.any() and y.any() and not np.shares_memory(x, x0) and not np.shares_memory(y, y0)


@pytest.mark.parametrize("dtype", [np.int64, np.float16, "float", ">f4", "pixels", None])
def test_refuses_other_dtypes(dtype):
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got"):
        load_digits(dtype)


def images_of(splits):
    """For each part, the images as a sorted list of bytes; every image of the source is another."""
    pixels = np.concatenate([part.x for part in splits])
    scale = (pixels.max() - pixels.min()) / 16
    return [sorted(row.tobytes() for row in np.rint((x - pixels.min()) / scale)) for x, _ in splits]


def test_a_seed_draws_another_split_of_the_same_images():
    """Of the same sizes by class; scaled by its own training pixels."""
    stored, first, again, second = (load_digits(np.float64, split=s) for s in (None, 0, 0, 1))
    every = sorted(itertools.chain(*images_of(stored)))
    tests = []
    for splits in (first, second):
        for part, other in zip(splits, stored, strict=True):
            assert np.bincount(part.y).tolist() == np.bincount(other.y).tolist()
        parts = images_of(splits)
        assert sorted(itertools.chain(*parts)) == every
        assert abs(splits.train.x.mean()) < 1e-12 and abs(splits.train.x.std() - 1) < 1e-12
        tests.append({*parts[2]})
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part.x, same.x)
        np.testing.assert_array_equal(part.y, same.y)
    assert 40 < len(tests[0] & tests[1]) < 110  # about a fifth of 360, as two such draws have


def test_every_image_is_as_likely_a_test_image_as_any_other(stored):
    counts = np.zeros(1797)
    for seed in range(200):
        counts += digits._permuted(stored["split"], stored["labels"], seed) == 2
    assert abs(counts - 40).max() < 5 * np.sqrt(200 * 0.16)
    assert counts.std() == pytest.approx(np.sqrt(200 * 0.16), rel=0.1)


@pytest.mark.parametrize("split", [-1, 0.5, "fixed"])
def test_refuses_other_splits(split):
    with pytest.raises((ValueError, TypeError), match="split must be an integer"):
        load_digits(split=split)


def test_the_program_writes_the_file(stored, tmp_path, monkeypatch):
    table = np.column_stack([stored["images"].reshape(-1, 64), stored["labels"]])
    np.savetxt(tmp_path / "digits.csv", table, "%d", ",")
    monkeypatch.setattr(digits, "FILE", tmp_path / "digits.npz")
    monkeypatch.setattr("sys.argv", ["make_digits", str(tmp_path / "digits.csv")])
    runpy.run_path(made.__file__, run_name="__main__")
    with np.load(tmp_path / "digits.npz") as file:
        assert all((file[name] == array).all() for name, array in stored.items())
