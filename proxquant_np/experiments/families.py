"""Three families of fair pairs, never mixed: what two methods are compared with is named.

    published     each method by its own published schedule, the rival's falling rate included
    searched      each method with what a search chose for it; what counts without --family
    equal-rates   both methods with the same base and rate: once ProxQuant's, once the rival's

A difference that is there as searched and gone at equal rates is one of rates.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from proxquant_np.experiments.bases import FALLING
from proxquant_np.experiments.experiment import SEARCHED, Claim, Experiment
from proxquant_np.experiments.protocol import Method

PUBLISHED, EQUAL_RATES = "published", "equal-rates"
FAMILIES = {
    PUBLISHED: "as published",
    SEARCHED: "as searched",
    EQUAL_RATES: "at equal rates",
}
"""The families in words."""

LR = 0.01
MEAN_LAMBDA = 1e-4 * sum(range(200)) / 200
"""Of lambda_t = 1e-4 * epoch over 200 epochs: 0.00995."""
REACH = LR * 1e-4 * 390 * sum(range(200))
"""The sum of lr * lambda_t over 200 epochs of 390 steps: 7.76."""

_CODE = "the authors' code, the rate and lambda; the last phase goes on with the rate"
_LAZY = dict(base=FALLING, default={"lr": LR}, source=_CODE, fine_tuning=LR * 0.1**2)
_EAGER = dict(default={"lr": LR, "mean_lambda": MEAN_LAMBDA}, source=_CODE, fine_tuning=LR)


def as_published(name: str, method: Method) -> Method:
    """A lazy or eager method by the published schedule of BinaryConnect or ProxQuant.

    BinaryConnect's rate falls twice and stays there in the last phase; ProxQuant's stays, and the
    mean of lambda is the published one, whatever the number of steps.
    """
    return replace(method, shares=None, **(_EAGER if name.startswith("prox_quant") else _LAZY))


def published(chosen: Experiment) -> Experiment:
    """The experiment with its methods as published; without those that have no published form."""
    methods = {
        name: as_published(name, method)
        for name, method in chosen.methods.items()
        if name.startswith(("prox_quant", "binary_connect", "straight_through"))
    }
    return replace(chosen, methods=methods, claims=_among(methods, chosen.claims))


def _among(methods: Mapping[str, Method], claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    return tuple(one for one in claims if {one.first, one.second} <= methods.keys())


def at_rate_of(methods: Mapping[str, Method], name: str, other: str) -> tuple[str, Method]:
    """A method at the rate of another one: its new name, and what it becomes."""
    method = methods[name]
    label = f"{method.label.split(' (')[0]}, at {_owner(methods[other])}'s rate"
    method = replace(method, label=label, shares=method.shares or name, rate_of=other)
    return f"{name}_at_{other}", method


def _owner(method: Method) -> str:
    return method.label.split(" (")[0].split(",")[0]


def equal_rates(chosen: Experiment, beside: Collection[str] = ()) -> Experiment:
    """Each claim twice: at the rate of its first method, and at its rival's.

    beside: rivals that are left out.
    """
    methods, claims = dict(chosen.methods), []
    for claim in (one for one in chosen.claims if one.second not in beside):
        first, second = claim.first, claim.second
        for moved, other, pair in (
            (second, first, lambda name: {"second": name}),
            (first, second, lambda name: {"first": name}),
        ):
            name, method = at_rate_of(chosen.methods, moved, other)
            methods[name] = method
            text = f"{claim.text}, at {_owner(chosen.methods[other])}'s rate"
            claims.append(replace(claim, text=text, **pair(name)))
    return replace(chosen, methods=methods, claims=tuple(claims))


def without_rate(text: str) -> tuple[str, str]:
    """A claim's text without the words that `equal_rates` adds, and whose rate they name.

    Examples:
        >>> from proxquant_np.experiments.families import without_rate
        >>> without_rate("ProxQuant errs less, at BinaryConnect's rate")
        ('ProxQuant errs less', 'BinaryConnect')
    """
    found = re.fullmatch(r"(.+), at (.+)'s rate", text)
    return (found[1], found[2]) if found else (text, "")


DEFAULT = {PUBLISHED: published, EQUAL_RATES: equal_rates}
"""Of an experiment that compares lazy and eager methods, and does nothing else."""
