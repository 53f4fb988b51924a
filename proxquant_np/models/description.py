"""What a network was constructed with, so that a file can say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def remembered(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A constructor's `locals()`, before it has any of its own, in values that JSON can hold.

    All but self and rng: weights are saved elsewhere. A dtype becomes its name, a sequence a list.
    """
    chosen = {k: v for k, v in arguments.items() if k not in ("self", "rng")}
    chosen["dtype"] = np.dtype(chosen["dtype"]).name
    return {name: np.asarray(value).tolist() for name, value in chosen.items()}
