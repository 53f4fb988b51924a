"""What every loader of this package returns: three splits, each a pair of inputs and targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Inputs `x`, targets `y`, one example per entry of the first axis: `x, y = splits.train`."""

    x: np.ndarray
    y: np.ndarray


class Splits(NamedTuple):
    """`train` fits the weights, `validation` chooses hyperparameters, `test` is read once, last."""

    train: Split
    validation: Split
    test: Split
