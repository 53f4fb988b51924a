"""Search for small counterexamples, with Hypothesis if it is installed."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from proxquant_np.conformance.report import Fault

Case = Any
"""The arguments of one call: a tuple of weights and maybe a strength, or a step's by name."""

MISSING = (
    "no further search: hypothesis is not installed, it comes with the extra proxquant-np[test]"
)
NOTHING = "then a search of {} cases"
SECONDS = 12.0  # after this time, a search with a slow function ends
LIMIT = 15.0  # after this time, no golden cases are tried any more, and nothing is made smaller
LEAST = 4  # golden cases, however slow the function
FEW = 1  # cases with at most this many weights need no further shrinking
EXAMPLES = 150
_tried: dict[Hashable, list[Case]] = {}  # what a search draws that finds nothing, by kind of judge
MOST = 1 << 20  # weights that are remembered of a kind


class Judge(Protocol):
    """What a search needs to know about a check."""

    def faults(self, case: Case) -> list[Fault]:
        """All faults at this case."""

    def strategy(self, st: Any) -> Any:
        """A strategy of cases, built with the module hypothesis.strategies."""

    def kind(self) -> Hashable:
        """Equal for judges whose strategies draw the same cases."""

    def size(self, case: Case) -> int:
        """The number of weights in the case."""

    def key(self, case: Case) -> Any:
        """A hashable key, equal for cases that are equal bit for bit."""


def collect(
    judge: Judge, cases: list[Case], limit: float
) -> tuple[str, dict[str, tuple[Fault, Case]]]:
    """(what was done, in words; for each broken convention, the smallest case found).

    The cases come first; those that are not tried until the time.monotonic() of limit are
    removed from the list. Then a search looks for further broken conventions until it finds none,
    and another one, for each convention, for a smaller case that breaks it.
    """
    seen: dict[Any, dict[str, Fault]] = {}
    found: dict[str, tuple[Fault, Case]] = {}
    end = time.monotonic() + SECONDS

    def broken(case):
        """The faults at a case by convention, determined once; none when the time is up."""
        key = judge.key(case)
        if key not in seen:
            if time.monotonic() > end:
                return {}
            seen[key] = {fault.convention: fault for fault in reversed(judge.faults(case))}
        return seen[key]

    def keep(convention, fault, case):
        if convention not in found or judge.size(case) < judge.size(found[convention][1]):
            found[convention] = fault, case

    whole = len(cases)
    for i, case in enumerate(cases):
        if i >= LEAST and time.monotonic() > limit:
            del cases[i:]
            break
        for fault in judge.faults(case):
            keep(fault.convention, fault, case)
    done = f"{len(cases)} golden cases"
    if len(cases) < whole:
        return f"{done} of {whole}, and no search: fn is slow, the time was up", found
    while True:
        words, case = _search(judge, lambda c: not broken(c).keys() <= found.keys())
        if case is None:
            break
        for convention, fault in broken(case).items():
            keep(convention, fault, case)
    for convention in [kind for kind, (_, case) in found.items() if judge.size(case) > FEW]:
        _, case = _search(judge, lambda c: convention in broken(c))  # noqa: B023
        if case is not None:
            keep(convention, broken(case)[convention], case)
    if found and words != MISSING:
        words = "then a search, which shrank what is shown"
    stopped = f", stopped after {SECONDS:g} s" * (time.monotonic() > end)
    return f"{done}, {words}{stopped}", found


def _search(judge: Judge, fails: Callable[[Case], bool]) -> tuple[str, Case | None]:
    """As `smallest`, but cases are drawn anew only to make one smaller.

    Every search draws the same cases until one fails, and drawing takes longer than judging: what
    a search that found nothing has drawn is tried before the next one, of this or a later check.
    """
    kind = judge.kind()
    known = _tried.get(kind) if sys.modules.get("hypothesis") else None
    if known and not any(map(fails, known)):
        return NOTHING.format(EXAMPLES), None
    drawn: dict[Any, Case] = {}

    def noted(case):
        drawn[judge.key(case)] = case
        return fails(case)

    words, case = smallest(noted, judge.strategy)
    if case is None and drawn and sum(map(judge.size, drawn.values())) <= MOST:
        _tried[kind] = list(drawn.values())
    return words, case


def smallest(
    fails: Callable[[Case], bool], build: Callable[[Any], Any], examples: int = EXAMPLES
) -> tuple[str, Case | None]:
    """(what was done, in words; the smallest case found for which `fails` holds, or None).

    build: makes a strategy from the module hypothesis.strategies. Every run tries the same
    examples.
    """
    if "hypothesis" not in sys.modules:  # otherwise it leaves a folder in the current one
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
        return NOTHING.format(examples), None


def _plainest_first(numbers):
    """Whole numbers, then halves, and so on; tenths, which are long binary fractions, come last."""
    distinct = {repr(x): x for x in numbers}.values()
    return sorted(distinct, key=lambda x: (x.as_integer_ratio()[1], abs(x), np.signbit(x)))


SIXTEENTHS = _plainest_first([-0.0, *(i / 16 for i in range(-96, 97))])
NUMBERS = _plainest_first([*SIXTEENTHS, *(i / 10 for i in range(-60, 61))])
FAR = [sign * x for x in (7.0, 12.5, 100.0, 1000.0, 2.0**20) for sign in (1, -1)]


def weights(st: Any, dtypes: Sequence[str]) -> Any:
    """Vectors of up to five numbers that are easy to read, on and off ties, including -0.0.

    Half of the numbers are multiples of 1/2; a few are far from every level.
    """
    values = st.lists(st.sampled_from(NUMBERS[:26] * 8 + NUMBERS + FAR), min_size=1, max_size=5)
    return st.tuples(values, st.sampled_from(dtypes)).map(lambda drawn: np.array(*drawn))


def strengths(st: Any) -> Any:
    """Strengths from 0 to 6."""
    return st.sampled_from([x for x in NUMBERS if not np.signbit(x)])
