"""Checks of arguments, in one wording: "strength must be a number >= 0, got -1".

TypeError where the kind of thing is wrong, ValueError where its value is; both name the argument
and show what came. A check returns its argument, numbers as plain Python ones: a NumPy scalar would
draw float32 arithmetic to its own precision.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

_HOLDS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def check_integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """`value`, if it is an integer (not True or False) with least <= value <= most.

    Examples:
        >>> from proxquant_np.checks import check_integer
        >>> check_integer("steps", 0, least=1)
        Traceback (most recent call last):
        ValueError: steps must be an integer >= 1, got 0
    """
    return int(_check_real(name, value, Integral, "an integer", {">=": least, "<=": most}))


def check_counts(**counts: Any) -> None:
    """Check that each of the named arguments is an integer >= 1.

    Examples:
        >>> from proxquant_np.checks import check_counts
        >>> check_counts(in_features=2, out_features=0)
        Traceback (most recent call last):
        ValueError: out_features must be an integer >= 1, got 0
    """
    for name, value in counts.items():
        check_integer(name, value, least=1)


def check_number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """`value`, if it is a real number (not NaN) within all given bounds.

    Infinity passes unless a bound excludes it: `below=math.inf` says "finite".

    Examples:
        >>> from proxquant_np.checks import check_number
        >>> check_number("momentum", 1, least=0, below=1)
        Traceback (most recent call last):
        ValueError: momentum must be a number >= 0 and < 1, got 1
    """
    bounds = {">=": least, ">": above, "<=": most, "<": below}
    value = _check_real(name, value, Real, "a number", bounds)
    try:
        return float(value)
    except OverflowError:  # an integer or a fraction
        raise ValueError(f"{name} must be a number below 1.8e308, got {value!r:.20}...") from None


def _check_real(name, value, kind, what, bounds):
    known = isinstance(value, kind) and not isinstance(value, bool)
    if known and value == value:  # not NaN
        if all(bound is None or _HOLDS[sign](value, bound) for sign, bound in bounds.items()):
            return value
    limits = [f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None]
    accepted = f"{what} {' and '.join(limits)}".strip()
    if not known:
        raise TypeError(f"{name} must be {accepted}, got {value!r}")
    raise ValueError(f"{name} must be {accepted}, got {value}")


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """`value`, if it is one of `choices`.

    Examples:
        >>> from proxquant_np.checks import check_choice
        >>> check_choice("reduction", "max", ("mean", "sum", "none"))
        Traceback (most recent call last):
        ValueError: reduction must be one of 'mean', 'sum', 'none', got 'max'
    """
    try:
        known = bool(value in choices)
    except (TypeError, ValueError):  # a list is no key of a dictionary, an array equals nothing
        known = False
    if not known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_instance(name: str, value: Any, kind: type | tuple[type, ...], what: str) -> Any:
    """`value`, if it is an instance of `kind`, which `what` describes in words.

    Examples:
        >>> from proxquant_np.checks import check_instance
        >>> check_instance("model", 3, pq.nn.Module, "a Module")
        Traceback (most recent call last):
        TypeError: model must be a Module, got 3
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what}, got {value!r}")
    return value


def check_callable(name: str, value: Any, what: str = "a function") -> Any:
    """`value`, if it can be called; `what` says how.

    Examples:
        >>> from proxquant_np.checks import check_callable
        >>> check_callable("homotopy", 3, "a function of the step t")
        Traceback (most recent call last):
        TypeError: homotopy must be a function of the step t, got 3
    """
    if not callable(value):
        raise TypeError(f"{name} must be {what}, got {value!r}")
    return value
