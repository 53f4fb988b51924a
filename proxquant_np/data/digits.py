"""The UCI handwritten digits, kept inside the package: 1,797 images of 8x8 pixels, values 0..16.

Source: E. Alpaydin and C. Kaynak (1998), *Optical Recognition of Handwritten Digits*, UCI Machine
Learning Repository, doi:10.24432/C50P49; its test set, in scikit-learn's copy. Licence: CC BY 4.0.
Changes: the pixels are stored as uint8, and a split is added. `make_digits.py` made the file.

`digits.npz` holds three uint8 arrays, in the source's order: `images` (1797, 8, 8), `labels`
(1797,) and `split` (1797,), where 0 is training, 1 validation, 2 test. The split is stored, so it
does not depend on any random generator. It divides images, not writers: one person's digits may be
in all three parts. So do the other splits of the same sizes, which can be drawn by a seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from proxquant_np.checks import check_integer
from proxquant_np.data.splits import Split, Splits

FILE = Path(__file__).with_name("digits.npz")


def load_digits(
    dtype: DTypeLike = np.float32, flat: bool = True, split: int | None = None
) -> Splits:
    """x = (pixels - m) / s, with m and s the mean and standard deviation of all training pixels.

    There is one m and one s for all pixel positions, so border pixels that are always empty do no
    harm: x lies in [-0.82, 1.85] (or very near it, in another split than the stored one) and has
    mean 0 and standard deviation 1 over the training split.

    split: the stored split (None), or the seed of another: within each class, the places in the
    three parts are permuted among all images, so every image is as likely to be a test image as any
    other of its class, and the parts keep their sizes, also by class.

    Shapes: 1,077 training, 360 validation and 360 test examples; x is (n, 64), or (n, 1, 8, 8)
    (NCHW) if not `flat`; y is (n,), classes 0..9, each divided 3:1:1 among the splits.
    Dtypes: x has `dtype`, float32 or float64; y is int64. All arrays are newly allocated.

    Raises TypeError for any other `dtype`, ValueError for a `split` that is no integer >= 0.

    Examples:
        >>> digits = pq.data.load_digits()
        >>> digits.train.x.shape, digits.train.x.dtype, np.unique(digits.train.y)
        ((1077, 64), dtype('float32'), array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]))
        >>> pq.data.load_digits(flat=False).test.x.shape
        (360, 1, 8, 8)
        >>> np.array_equal(pq.data.load_digits(split=0).test.x, digits.test.x)
        False
    """
    if dtype not in (np.float32, np.float64, "float32", "float64"):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
    with np.load(FILE, allow_pickle=False) as file:
        images, labels, part = file["images"], file["labels"], file["split"]
    if split is not None:
        part = _permuted(part, labels, check_integer("split", split, least=0))
    train = images[part == 0]
    x = ((images - train.mean()) / train.std()).astype(dtype)
    x = x.reshape((-1, 64) if flat else (-1, 1, 8, 8))
    y = labels.astype(np.int64)
    return Splits(*(Split(x[part == i], y[part == i]) for i in range(3)))


def _permuted(part: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """The parts of the images, permuted within each class."""
    rng, permuted = np.random.default_rng([seed, *b"digits"]), part.copy()
    for label in range(10):
        permuted[labels == label] = rng.permutation(part[labels == label])
    return permuted
