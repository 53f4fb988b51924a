"""Which check a name asks for, with its options: what the command line says in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from proxquant_np.conformance.checks import check_prox, check_quantizer
from proxquant_np.conformance.definitions import PROXES, QUANTIZERS, STEPS
from proxquant_np.conformance.estimators import ESTIMATORS
from proxquant_np.conformance.penalties import PENALTIES, penalty
from proxquant_np.conformance.report import Report
from proxquant_np.conformance.rules import RULES, rule
from proxquant_np.conformance.steps import check_step
from proxquant_np.conformance.stochastic import check_stochastic, grid

NAMES = (*PROXES, *PENALTIES, *QUANTIZERS, *RULES, "stochastic", *STEPS, *ESTIMATORS)
"""All that `proxquant-np check --as` knows."""


def check_of(
    definition: str, options: Mapping[str, Any], dtypes: Sequence[str], exact: bool = False
) -> Callable[[Any], Report]:
    """The check of a function by a name that is no estimator's, with the options of the command.

    ValueError, in one line, for an option that this name has not, or a value that is refused.

    Examples:
        >>> from proxquant_np.conformance.by_name import check_of
        >>> shrink = lambda x: np.copysign(np.maximum(abs(x) - 0.5, 0), x)
        >>> bool(check_of("soft_threshold", {"strength": 0.5}, ["float64"])(shrink))
        True
    """
    chosen = dict(options)
    if definition in RULES:
        any_tie = chosen.get("ties") == "any" and bool(chosen.pop("ties"))
        q = rule(definition, **chosen)
        return lambda fn: _titled(
            check_quantizer(fn, q, exact=exact, any_tie=any_tie, dtypes=dtypes),
            f"quantizer {definition!r}: {q!r}",
        )
    if exact and definition in (*PENALTIES, "stochastic"):
        raise ValueError(f"--exact must be left out for {definition}, which is judged exactly")
    if definition in PENALTIES:
        said = {key: chosen.pop(key, None) for key in ("strength", "ties")}
        said["ties"] = None if said["ties"] == "any" else said["ties"]
        r = penalty(definition, **chosen)
        return lambda fn: check_prox(fn, r, **said, dtypes=dtypes)
    if definition == "stochastic":
        q = grid(**chosen)
        return lambda fn: check_stochastic(fn, q, dtypes=dtypes)
    if options:
        raise ValueError(f"{flags(options)} is for {_whose(options)}; got {definition}")
    if definition in STEPS:
        return lambda fn: check_step(fn, definition, dtypes=dtypes)
    check = check_prox if definition in PROXES else check_quantizer
    return lambda fn: check(fn, definition, exact=exact, dtypes=dtypes)


def _titled(report, title):
    return replace(report, definition=title)


def _whose(options: Collection[str]) -> str:
    of_gradients = {"gradient", *chain(*ESTIMATORS.values())} - {"scale"}
    if set(options) <= of_gradients:
        return f"gradients through quantizers: {', '.join(ESTIMATORS)}"
    if set(options) <= {"strength", "gamma"}:
        return f"penalties: {', '.join(PENALTIES)}"
    return f"published rules: {', '.join((*RULES, 'stochastic'))}"


def flags(names: Collection[str]) -> str:
    """Options as they are written on the command line.

    Examples:
        >>> from proxquant_np.conformance.by_name import flags
        >>> flags(["bits", "step_scale"])
        '--bits, --step-scale'
    """
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
