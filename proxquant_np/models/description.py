"""The arguments that a network was constructed with, for files that describe it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def remembered(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A constructor's `locals()`, taken before it assigns any, as values that JSON can hold.

    Omits self and rng, because weights are saved elsewhere. A dtype becomes its name, a sequence a
    list.
    """
    chosen = {k: v for k, v in arguments.items() if k not in ("self", "rng")}
    chosen["dtype"] = np.dtype(chosen["dtype"]).name
    return {name: np.asarray(value).tolist() for name, value in chosen.items()}
