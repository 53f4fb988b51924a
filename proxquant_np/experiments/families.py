"""Three families of fair pairs, never mixed: what two methods are compared with is named.

    published     each method by its own published schedule, the rival's falling rate included
    searched      each method with what a search chose for it; what counts without --family
    equal-rates   both methods with the same base and rate: once ProxQuant's, once the rival's

A difference that is there as searched and gone at equal rates is one of rates, unless something
else changed with the rate. At the rival's, ProxQuant keeps either the mean of its lambda, and with
it when signs stop moving, or the sum of its strengths, and with it how far weights are carried. The
mean alone does not do: at a smaller rate it leaves weights so far from their levels that what is
compared is a projection.
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

SUM_KEPT = "the sum of strengths kept"

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


def at_rate_of(
    methods: Mapping[str, Method], name: str, other: str, *, keeps_sum: bool = False
) -> tuple[str, Method]:
    """A method at the rate of another one: its new name, and what it becomes.

    It keeps the mean of its lambda or, with `keeps_sum`, the sum of its strengths.
    """
    moved = replace(
        methods[name],
        label=f"{methods[name].label.split(' (')[0]}{_at_rate(methods[other], keeps_sum)}",
        shares=methods[name].shares or name,
        rate_of=other,
        keeps_sum=keeps_sum,
    )
    return f"{name}_at_{other}" + "_reach" * keeps_sum, moved


def _at_rate(other: Method, keeps_sum: bool) -> str:
    """In words, which `without_rate` takes off again."""
    return f", at {_owner(other)}'s rate" + f", {SUM_KEPT}" * keeps_sum


def _owner(method: Method) -> str:
    return method.label.split(" (")[0].split(",")[0]


def equal_rates(chosen: Experiment, beside: Collection[str] = ()) -> Experiment:
    """Each claim at the rate of its first method, and at its rival's.

    The latter twice where the first method has a reach: with the mean of its lambda kept, and with
    the sum of its strengths.

    beside: rivals that are left out.
    """
    methods, claims = dict(chosen.methods), []
    for claim in (one for one in chosen.claims if one.second not in beside):
        has_reach = chosen.methods[claim.first].reach is not None
        for place, moved, other, keeps_sum in (
            ("second", claim.second, claim.first, False),
            ("first", claim.first, claim.second, False),
            *[("first", claim.first, claim.second, True)] * has_reach,
        ):
            name, method = at_rate_of(chosen.methods, moved, other, keeps_sum=keeps_sum)
            methods[name] = method
            text = claim.text + _at_rate(chosen.methods[other], keeps_sum)
            claims.append(replace(claim, text=text, **{place: name}))
    return replace(chosen, methods=methods, claims=tuple(claims))


def without_rate(text: str) -> tuple[str, str, bool]:
    """A claim's text without the words that `equal_rates` adds, and what they say.

    That is whose rate it is, "" if there are no such words, and whether ProxQuant keeps the sum of
    its strengths there.

    Examples:
        >>> from proxquant_np.experiments.families import without_rate
        >>> without_rate("ProxQuant errs less, at BinaryConnect's rate")
        ('ProxQuant errs less', 'BinaryConnect', False)
        >>> without_rate("ProxQuant errs less, at PARQ's rate, the sum of strengths kept")
        ('ProxQuant errs less', 'PARQ', True)
    """
    found = re.fullmatch(rf"(.+), at (.+)'s rate(, {SUM_KEPT})?", text)
    return (found[1], found[2], found[3] is not None) if found else (text, "", False)


DEFAULT = {PUBLISHED: published, EQUAL_RATES: equal_rates}
"""Of an experiment that compares lazy and eager methods, and does nothing else."""
