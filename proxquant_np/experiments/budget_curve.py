"""Claim: whether ProxQuant or BinaryConnect errs less turns with the budget, by what makes it turn.

The same network in full precision is quantized in few to many steps, by pairs that differ from
these in little:

    as searched                  each method with what a search chose for this budget,
    at equal rates               both at ProxQuant's rate, both at BinaryConnect's,
    with falling rates           the rival's rate falls as published, or both do.

If the verdict turns at the same budget, then it is the budget that turns it; if it does not, it is
what was changed. That is the rate alone where the rival's is another. Where ProxQuant's is another,
or falls, its strengths lr_t * lambda_t change with it, and one thing has to give:

    at BinaryConnect's rate      lambda stays, and the sum of strengths shrinks with the rate;
    ..., the sum of strengths kept    it stays as searched, and lambda grows as the rate shrinks;
    both rates falling           lambda stays, and 19% of the sum is left;
    ..., the sum kept            it stays as searched, and lambda is five times as large.

So the first and the third change how far the prox carries weights, too, and where it does not carry
them to their levels, they are projected from afar: `reading` says where. A verdict is one of rates
only if it is the same either way.

Three more pairs have the published rate at all budgets: ProxQuant keeps either the published mean
of lambda, and with it when signs stop moving, or the published sum of strengths, and with it how
far weights can be carried. At the published 78,000 steps the two are one.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np.experiments.bases import CONSTANT, FALLING, Base
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.families import (
    EQUAL_RATES,
    FAMILIES,
    LR,
    REACH,
    SUM_KEPT,
    as_published,
    at_rate_of,
)
from proxquant_np.experiments.protocol import FULL_PRECISION, METHODS, Method
from proxquant_np.experiments.statistics import (
    CONTRADICTED,
    SUPPORTED,
    Comparison,
    Equality,
    compare,
)
from proxquant_np.experiments.summary import runs_of
from proxquant_np.experiments.tasks import OF_PERPLEXITY, ON_DIGITS, TASKS, Task
from proxquant_np.experiments.wording import scaled

EAGER, LAZY = "prox_quant", "binary_connect"
BUDGETS = {
    "mlp": (200, 500, 1000, 2000, 4000, 8000),
    "cnn": (125, 250, 500, 1000, 2000),
    "lstm": (150, 450, 1350),
}
FAR = 0.1  # of the warm start's gap: where more is left, weights are projected from afar
START = Base(lr=1e-3)  # the same network in full precision for all budgets, so it is not searched


def _task(whole: Task, name: str, steps: int) -> Task:
    return replace(
        whole,
        title=f"{whole.title}, {steps:,} quantizing steps",
        chosen=(f"chosen/budget_curve-{name}-t{steps}.json",),
        setting=replace(whole.setting, quantizing_steps=steps),
        quick=replace(whole.quick, quantizing_steps=max(8, steps // 50)),
        warm_start=START,
    )


def _methods() -> dict[str, Method]:
    found = {name: METHODS[name] for name in (LAZY, EAGER)}
    found |= [at_rate_of(found, LAZY, EAGER), at_rate_of(found, EAGER, LAZY)]
    for name in (LAZY, EAGER):
        whose = found[name].label.split(" (")[0]
        found[f"{name}_falling"] = replace(
            found[name], label=f"{whose}, its rate falling", base=FALLING, shares=name
        )
    found |= [at_rate_of(found, EAGER, LAZY, keeps_sum=True)]
    falling = found[f"{EAGER}_falling"]
    found[f"{EAGER}_falling_reach"] = replace(
        falling, label=f"{falling.label}, {SUM_KEPT}", keeps_sum=True
    )
    rival = as_published(LAZY, METHODS[LAZY])
    found["binary_connect_published"] = replace(rival, label="BinaryConnect as published")
    found["binary_connect_constant"] = replace(
        rival, label="BinaryConnect at the published rate, constant", base=CONSTANT
    )
    eager = as_published(EAGER, METHODS[EAGER])
    found["prox_quant_mean"] = replace(eager, label="ProxQuant, the published mean of lambda")
    found["prox_quant_reach"] = replace(
        eager, label="ProxQuant, the published sum of strengths", default={"lr": LR, "reach": REACH}
    )
    return found


PAIRS = {
    "as searched": (EAGER, LAZY),
    "at ProxQuant's rate": (EAGER, f"{LAZY}_at_{EAGER}"),
    "at BinaryConnect's rate": (f"{EAGER}_at_{LAZY}", LAZY),
    f"at BinaryConnect's rate, {SUM_KEPT}": (f"{EAGER}_at_{LAZY}_reach", LAZY),
    "as searched, the rival's rate falling": (EAGER, f"{LAZY}_falling"),
    "as searched, both rates falling": (f"{EAGER}_falling", f"{LAZY}_falling"),
    "as searched, both rates falling, the sum kept": (
        f"{EAGER}_falling_reach",
        f"{LAZY}_falling",
    ),
    "as published, the mean of lambda kept": ("prox_quant_mean", "binary_connect_published"),
    "as published, the sum of strengths kept": ("prox_quant_reach", "binary_connect_published"),
    "as published, the sum kept, the rival's rate constant": (
        "prox_quant_reach",
        "binary_connect_constant",
    ),
}
"""What is changed, and the two methods that are compared: ProxQuant's first."""

PANELS = {
    "Is it the rate?": (
        "as searched",
        "at ProxQuant's rate",
        "at BinaryConnect's rate",
        f"at BinaryConnect's rate, {SUM_KEPT}",
    ),
    "Is it that the rates stay constant?": (
        "as searched",
        "as searched, the rival's rate falling",
        "as searched, both rates falling",
        "as searched, both rates falling, the sum kept",
    ),
    "And as published?": tuple(name for name in PAIRS if name.startswith("as published")),
}
"""The questions that the figure answers, and by which pairs."""

SHOWN = (EAGER, LAZY, "prox_quant_mean", "prox_quant_reach", "binary_connect_published")
"""The methods whose own measure the figure shows."""


def claims_in(measure: str, equal: Equality, tasks: Iterable[str] = ()) -> tuple[Claim, ...]:
    """A claim for each of PAIRS."""
    what = "errs less" if measure == "test_error" else "has a lower perplexity"
    return tuple(
        Claim(
            f"ProxQuant {what} than BinaryConnect, {how}",
            *pair,
            measure,
            source="ours",
            tasks=tuple(tasks),
            equal=equal,
            family=_family(how),
        )
        for how, pair in PAIRS.items()
    )


def _family(how: str) -> str:
    """The family of a pair: as searched, as published, or else at the rate of one of the two."""
    return next((name for name, words in FAMILIES.items() if how.startswith(words)), EQUAL_RATES)


def _found(claims: Iterable[Claim], result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By network, then by what is changed: the comparisons by number of steps.

    Pairs that a record lacks, which was made before they were here, are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for claim in claims:
        how = next(how for how, pair in PAIRS.items() if pair == (claim.first, claim.second))
        for name, task in result["tasks"].items():
            held = claim.is_held(task["methods"], result["seeds"])
            if held and (not claim.tasks or name in claim.tasks):
                network, steps = name.split("-t")
                by_steps = found.setdefault(network, {}).setdefault(how, {})
                by_steps[int(steps)] = claim.compare(task["methods"])
    return found


def draw(claims: Iterable[Claim], result: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw the differences and the measures themselves against the number of steps.

    One number of steps is no curve: then nothing is drawn.
    """
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    networks = {}
    for network, pairs in _found(claims, result).items():
        tasks = {steps: result["tasks"][f"{network}-t{steps}"] for steps in pairs["as searched"]}
        if len(tasks) == 1:
            continue
        measure = next(iter(tasks.values()))["measure"]
        scale = scaled(measure)
        networks[network] = {
            "measure": measure.replace("_", " ") + f", {scale.unit}" * bool(scale.unit),
            "unit": scale.points or "units of perplexity",
            "steps": list(tasks),
            "panels": {
                question: {
                    how: [_row(found, scale.factor) for found in pairs[how].values()]
                    for how in hows
                    if how in pairs
                }
                for question, hows in PANELS.items()
            },
            "labels": {
                name: method.label
                for name, method in _methods().items()
                if name in next(iter(tasks.values()))["methods"]
            },
            "levels": {
                method: [
                    scale.factor * float(np.mean(task["methods"][method][measure]))
                    for task in tasks.values()
                ]
                for method in (FULL_PRECISION, *SHOWN)
            },
        }
    if not networks:
        return []
    data = {"networks": networks, "seeds": result["seeds"], "runs": runs_of(result)}
    path = path.with_name(f"{path.name}_curve")
    plotting.save_figure(plotting.budget_curve(data), data, path)
    return [path.with_suffix(".png")]


def _row(found: Comparison, factor: float) -> dict[str, Any]:
    ends = {end: factor * getattr(found, end) for end in ("mean", "low", "high")}
    return {
        **{k: v if math.isfinite(v) else None for k, v in ends.items()},
        "verdict": found.verdict,
    }


def reading(claims: Iterable[Claim], result: Mapping[str, Any]) -> Iterable[str]:
    """In words, pair by pair: between which budgets the verdict turns, and all of them.

    And where ProxQuant is projected from afar, so that its error is one of the projection.
    """
    for network, pairs in _found(claims, result).items():
        for how, by_steps in pairs.items():
            verdicts = [(found.verdict, steps) for steps, found in by_steps.items()]
            runs = itertools.groupby(verdicts, operator.itemgetter(0))
            said = [f"{v} at {_listed([steps for _, steps in run])}" for v, run in runs]
            decided = [(v, steps) for v, steps in verdicts if v in (SUPPORTED, CONTRADICTED)]
            turns = [
                f"between {before:,} and {after:,}"
                for (a, before), (b, after) in itertools.pairwise(decided)
                if a != b
            ]
            where = f"it turns {' and '.join(turns)}" if turns else "no turn is shown"
            if len(decided) == len(verdicts) and not turns:
                where = "it does not turn"
            yield f"- {network}, {how}: {where}; {', '.join(said)} steps." + _from_afar(
                {n: result["tasks"][f"{network}-t{n}"]["methods"] for n in by_steps}, PAIRS[how][0]
            )
        yield from _missed(network, result)


BESIDE = {
    EAGER: ("prox_quant_mean", "prox_quant_reach"),
    LAZY: ("binary_connect_constant",),
}
"""The same methods at the published rate, which lies in the space of the search."""


def _missed(network: str, result: Mapping[str, Any]) -> Iterable[str]:
    """Where a search missed: what was published is better than the best of its trials."""
    labels, missed = {name: method.label for name, method in _methods().items()}, []
    for name, task in result["tasks"].items():
        own, measure = task["methods"], task["measure"]
        for searched, others in BESIDE.items():
            for other in others if name.startswith(f"{network}-") else ():
                found = compare(own[searched][measure], own[other][measure])
                if found.verdict == CONTRADICTED:
                    better = np.mean(own[other][measure]) / np.mean(own[searched][measure])
                    missed.append(
                        f"{labels[other]} at {int(name.split('-t')[1]):,} ({1 - better:.0%} lower)"
                    )
    if missed:
        yield (
            f"- {network}: the search missed better points, as the published rate shows: "
            f"{', '.join(missed)}. There a verdict as searched is one of that search."
        )


def _from_afar(by_steps: Mapping[int, Mapping[str, Any]], method: str) -> str:
    """A sentence on how much of the warm start's gap is left before projecting, where it is much.

    It says the sum of strengths, too, unless the record was made before that was measured.
    """
    said = []
    for steps, methods in by_steps.items():
        if (left := gap_left(methods, method)) > FAR:
            strengths = methods[method].get("strengths")
            by = f", strengths {np.mean(strengths):.2g}" if strengths else ""
            said.append(f"{left:.0%} (with {steps:,} steps{by})")
    if not said:
        return ""
    return f" ProxQuant is projected from afar, at {', '.join(said)} of the warm start's gap."


def gap_left(methods: Mapping[str, Any], method: str) -> float:
    """The part of the warm start's gap that is left when a method's weights are projected.

    0 if a record does not tell, and for a lazy method, whose weights are on Q.
    """
    before, after = (methods.get(n, {}).get("gap") or [0.0] for n in (FULL_PRECISION, method))
    return float(np.mean(after) / np.mean(before)) if np.any(before) and None not in after else 0.0


def _listed(steps: list[int]) -> str:
    return f"{steps[0]:,}" + (f" to {steps[-1]:,}" if len(steps) > 1 else "")


def tasks_of(whole: Mapping[str, Task], budgets: Mapping[str, tuple[int, ...]]) -> dict[str, Task]:
    """Each of these tasks with each of its numbers of steps, NETWORK-tSTEPS."""
    return {
        f"{name}-t{steps}": _task(whole[name], name, steps)
        for name in budgets
        for steps in budgets[name]
    }


def budget_experiment(claims: tuple[Claim, ...], **parts: Any) -> Experiment:
    """The experiment with these claims, of `claims_in`, on tasks of `tasks_of`."""
    return Experiment(
        methods=_methods(),
        claims=claims,
        draw=functools.partial(draw, claims),
        reading=functools.partial(reading, claims),
        grid=("network", "quantizing steps"),
        **parts,
    )


_ON_DIGITS, _ON_TEXT = (
    [f"{name}-t{steps}" for name in names for steps in BUDGETS[name]]
    for names in (("mlp", "cnn"), ("lstm",))
)
EXPERIMENT = budget_experiment(
    (
        *claims_in("test_error", ON_DIGITS, _ON_DIGITS),
        *claims_in("test_perplexity", OF_PERPLEXITY, _ON_TEXT),
    ),
    name="budget_curve",
    title="The budget: where the verdict turns, and by what",
    tasks=tasks_of(TASKS, BUDGETS),
    measured=tuple(f"mlp-t{steps}" for steps in BUDGETS["mlp"]),
)
