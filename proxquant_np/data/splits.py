"""What every loader of this package returns: three splits, each a pair of inputs and targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Inputs `x` and targets `y`, one example per entry of the first axis: `x, y = splits.train`.

    Examples:
        >>> x, y = pq.data.Split(np.zeros((3, 2)), np.array([0, 1, 0]))
        >>> x.shape, y.shape
        ((3, 2), (3,))
    """

    x: np.ndarray
    y: np.ndarray


class Splits(NamedTuple):
    """`train` fits the weights, `validation` selects hyperparameters, `test` is read once, last.

    Examples:
        >>> train, validation, test = pq.data.load_digits()
        >>> len(train.y), len(validation.y), len(test.y)
        (1077, 360, 360)
    """

    train: Split
    validation: Split
    test: Split
