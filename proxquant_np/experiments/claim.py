"""A claim: that one method's measure is smaller than another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proxquant_np.experiments.statistics import Comparison, Equality, compare


@dataclass(frozen=True)
class Claim:
    """A claim: the method `first` is smaller than `second` in `measure`, a key of the results.

    Args:
        text: the claim in words.
        source: who claims it, "paper" or "ours".
        margin: if positive, the claim is that `first` is at most this fraction larger: "on par".
        tasks: those on which it is tested; by default all of the experiment.
        equal: the difference that does not matter, within which the two count as equal. Without
            it, or with `margin`, the two are never found equal.
        family: of an experiment that has pairs of several families, the one of this claim.

    Examples:
        >>> from proxquant_np.experiments.claim import Claim
        >>> errors = {"eager": {"error": [1.0, 2, 3, 4, 5]}, "lazy": {"error": [3.0, 4, 6, 6, 9]}}
        >>> Claim("eager errs less", "eager", "lazy", "error").compare(errors).verdict
        'supported'
    """

    text: str
    first: str
    second: str
    measure: str
    source: str = "paper"
    margin: float = 0.0
    tasks: tuple[str, ...] = ()
    equal: Equality | None = None
    family: str | None = None

    def is_held(self, methods: Mapping[str, Mapping[str, Any]], seeds: int) -> bool:
        """Whether a task's part of a summary has both measurements for every seed."""
        values = (methods.get(name, {}).get(self.measure, ()) for name in (self.first, self.second))
        return all(len(by_seed) == seeds for by_seed in values)

    def compare(
        self,
        methods: Mapping[str, Mapping[str, Any]],
        *,
        test: str = "t",
        equal: Equality | None = None,
        seeds: Sequence[int] | None = None,
        overlap: float = 0.0,
    ) -> Comparison:
        """The paired comparison, from a task's part of a summary.

        Args:
            test, overlap: of `statistics.compare`.
            equal: in place of the claim's own and, where it has one, of `margin`.
            seeds: those that count, by default all.
        """
        first, second = self._measured(methods, seeds)
        how: dict[str, Any] = dict(test=test, overlap=overlap)
        if self.margin:
            relative, m = (True, self.margin) if equal is None else (equal.relative, equal.margin)
            return compare(first, second * (1 + m) if relative else second + m, **how)
        equal = equal or self.equal
        return compare(first, second, margin=None if equal is None else equal.of(second), **how)

    def differences(
        self, methods: Mapping[str, Mapping[str, Any]], seeds: Sequence[int] | None = None
    ) -> list[float]:
        """What is compared with zero, by seed."""
        first, second = self._measured(methods, seeds)
        return (first - second * (1 + self.margin)).tolist()

    def _measured(
        self, methods: Mapping[str, Mapping[str, Any]], seeds: Sequence[int] | None
    ) -> Iterator[np.ndarray]:
        for name in (self.first, self.second):
            values = np.array(methods[name][self.measure], float)
            yield values if seeds is None else values[list(seeds)]
