"""Hypothesis, where installed, finds and shrinks counterexamples."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from proxquant_np.conformance.report import Fault

Case = Any
"""The arguments of one call: a tuple of weights and, perhaps, a strength; or a step's, by name."""

MISSING = (
    "no further search: hypothesis is not installed, it comes with the extra proxquant-np[test]"
)
SECONDS = 12.0  # after so many a search, of a slow function, ends
FEW = 1  # so many weights are as easily read as can be: no need to look for fewer


class Judge(Protocol):
    """What is searched with."""

    def faults(self, case: Case) -> list[Fault]:
        """All that is wrong at this case."""

    def strategy(self, st: Any) -> Any:
        """From the module hypothesis.strategies, a strategy of cases."""

    def size(self, case: Case) -> int:
        """How many weights it has."""

    def key(self, case: Case) -> Any:
        """The same for the same case, bit for bit."""


def collect(judge: Judge, cases: Iterable[Case]) -> tuple[str, dict[str, tuple[Fault, Case]]]:
    """(what was done, in words; for each convention that is broken the smallest case found).

    First the cases, then a search for conventions that they do not show broken, again and again
    until it finds none; then one for each convention, for a smaller case that breaks this very one.
    """
    seen: dict[Any, dict[str, Fault]] = {}
    found: dict[str, tuple[Fault, Case]] = {}
    end = time.monotonic() + SECONDS

    def broken(case):
        """The faults at a case by convention, found out once; none when the time is up."""
        key = judge.key(case)
        if key not in seen:
            if time.monotonic() > end:
                return {}
            seen[key] = {fault.convention: fault for fault in reversed(judge.faults(case))}
        return seen[key]

    def keep(convention, fault, case):
        if convention not in found or judge.size(case) < judge.size(found[convention][1]):
            found[convention] = fault, case

    for case in cases:
        for fault in judge.faults(case):
            keep(fault.convention, fault, case)
    while True:
        words, case = smallest(lambda c: not broken(c).keys() <= found.keys(), judge.strategy)
        if case is None:
            break
        for convention, fault in broken(case).items():
            keep(convention, fault, case)
    for convention in [kind for kind, (_, case) in found.items() if judge.size(case) > FEW]:
        _, case = smallest(lambda c: convention in broken(c), judge.strategy)  # noqa: B023
        if case is not None:
            keep(convention, broken(case)[convention], case)
    if found and words != MISSING:
        words = "then a search, which shrank what is shown"
    return words + f", stopped after {SECONDS:g} s" * (time.monotonic() > end), found


def smallest(
    fails: Callable[[Case], bool], build: Callable[[Any], Any], examples: int = 150
) -> tuple[str, Case | None]:
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


def _plainest_first(numbers):
    """Whole numbers, then halves, and so on; a tenth is the nearest binary fraction."""
    distinct = {repr(x): x for x in numbers}.values()
    return sorted(distinct, key=lambda x: (x.as_integer_ratio()[1], abs(x), np.signbit(x)))


SIXTEENTHS = _plainest_first([-0.0, *(i / 16 for i in range(-96, 97))])
NUMBERS = _plainest_first([*SIXTEENTHS, *(i / 10 for i in range(-60, 61))])
FAR = [sign * x for x in (7.0, 12.5, 100.0, 1000.0, 2.0**20) for sign in (1, -1)]


def weights(st: Any, dtypes: Sequence[str]) -> Any:
    """Vectors of up to five numbers that are easily read, on ties and off them, also -0.0.

    Half of them are up to halves; now and then one is far from every level.
    """
    values = st.lists(st.sampled_from(NUMBERS[:26] * 8 + NUMBERS + FAR), min_size=1, max_size=5)
    return st.tuples(values, st.sampled_from(dtypes)).map(lambda drawn: np.array(*drawn))


def strengths(st: Any) -> Any:
    """From 0 to 6."""
    return st.sampled_from([x for x in NUMBERS if not np.signbit(x)])
