"""Conformance (layer 7): hypothesis, where installed, finds and shrinks counterexamples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Case = tuple[Any, ...]
"""The arguments of one call: weights, and a strength where one is needed."""

MISSING = (
    "no further search: hypothesis is not installed, it comes with the extra proxquant-np[test]"
)


def smallest(
    fails: Callable[[Any], bool], build: Callable[[Any], Any], examples: int = 300
) -> tuple[str, Any]:
    """(what was done, in words; the smallest case found for which `fails`, or None).

    build: from the module hypothesis.strategies to a strategy. The same examples in every run.
    """
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


def numbers(st: Any) -> Any:
    """Sixteenths in [-6, 6], tenths, and -0.0: easily read, on ties and off them."""
    sixteenths = st.integers(-96, 96).map(lambda i: i / 16)
    return sixteenths | st.integers(-60, 60).map(lambda i: i / 10) | st.just(-0.0)


def strengths(st: Any) -> Any:
    """Eighths and tenths in [0, 5]."""
    return st.integers(0, 40).map(lambda i: i / 8) | st.integers(0, 50).map(lambda i: i / 10)


def weights(st: Any, dtypes: Sequence[str]) -> Any:
    """Vectors of up to five `numbers`."""
    values = st.lists(numbers(st), min_size=1, max_size=5)
    return st.tuples(values, st.sampled_from(dtypes)).map(lambda drawn: np.array(*drawn))
