"""Conformance (layer 7): hypothesis, where installed, finds and shrinks counterexamples."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Case = tuple[Any, ...]
"""The arguments of one call: weights, and a strength where one is needed."""

MISSING = (
    "no further search: hypothesis is not installed, it comes with the extra proxquant-np[test]"
)


def smallest(
    fails: Callable[[Any], bool], build: Callable[[Any], Any], examples: int = 150
) -> tuple[str, Any]:
    """(what was done, in words; the smallest case found for which `fails`, or None).

    build: from the module hypothesis.strategies to a strategy. The same examples in every run.
    """
    if "hypothesis" not in sys.modules:  # else it would leave a folder wherever this is run
        folder = Path(tempfile.gettempdir()) / "hypothesis"
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(folder))
    try:
        import hypothesis
        from hypothesis import strategies
    except ImportError:
        return MISSING, None
    settings = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        case = hypothesis.find(build(strategies), fails, settings=settings)
        return "then a search, which shrank this case", case
    except hypothesis.errors.NoSuchExample:
        return f"then a search of {examples} cases", None
    except hypothesis.errors.Flaky:
        return "then a search, stopped as the same input gave different results", None


def _plainest_first(numbers):
    """Whole numbers, then halves, and so on; a tenth is the nearest binary fraction."""
    distinct = {repr(x): x for x in numbers}.values()
    return sorted(distinct, key=lambda x: (x.as_integer_ratio()[1], abs(x), np.signbit(x)))


SIXTEENTHS = _plainest_first([-0.0, *(i / 16 for i in range(-96, 97))])
NUMBERS = _plainest_first([*SIXTEENTHS, *(i / 10 for i in range(-60, 61))])


def weights(st: Any, dtypes: Sequence[str]) -> Any:
    """Vectors of up to five numbers that are easily read, on ties and off them, also -0.0."""
    number = st.sampled_from(NUMBERS[:26]) | st.sampled_from(NUMBERS)  # the first: up to halves
    values = st.lists(number, min_size=1, max_size=5)
    return st.tuples(values, st.sampled_from(dtypes)).map(lambda drawn: np.array(*drawn))


def strengths(st: Any) -> Any:
    """From 0 to 6."""
    return st.sampled_from([x for x in NUMBERS if not np.signbit(x)])
