"""The script that made `digits.npz`, kept to show how. Nothing imports it.

    python -m proxquant_np.data.make_digits CSV

CSV has one image per line: 64 pixels row by row, then the label, separated by commas, as in
scikit-learn's `sklearn/datasets/data/digits.csv.gz`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from proxquant_np.data.digits import FILE


def make_digits(source: str | Path) -> dict[str, np.ndarray]:
    """The arrays `images`, `labels` and `split` (all uint8) of the CSV file `source`, in its order.

    Split: the images are sorted by label, and by position within a label. Of every five, the first
    goes to validation, the second to test, the rest to training. This is stratified and needs no
    random generator.
    """
    table = np.loadtxt(source, delimiter=",").astype(np.uint8)
    images, labels = table[:, :64].reshape(-1, 8, 8), table[:, 64]
    split = np.empty_like(labels)
    split[np.argsort(labels, kind="stable")] = np.resize([1, 2, 0, 0, 0], len(labels))
    return {"images": images, "labels": labels, "split": split}


if __name__ == "__main__":
    np.savez_compressed(FILE, **make_digits(sys.argv[1]))
