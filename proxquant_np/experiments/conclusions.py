"""What the ledger concludes: what holds and at which scale, and what is not yet measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from proxquant_np.experiments.catalog import EXPERIMENTS
from proxquant_np.experiments.experiment import Experiment
from proxquant_np.experiments.families import PUBLISHED, without_rate
from proxquant_np.experiments.origins import report_of
from proxquant_np.experiments.search import SCHEME
from proxquant_np.experiments.statistics import DEPENDS, EQUAL, INCONCLUSIVE, MIN_PAIRS, TOO_FEW
from proxquant_np.experiments.summary import runs_of
from proxquant_np.experiments.tables import DECIDED, Row, is_split_by_seed
from proxquant_np.experiments.verdicts import Verdict, any_of

Records = Mapping[str, Mapping[str, Any]]

COUNTED = """Comparisons are counted by what their record says by itself, one for each pair of
runs: a pair that is in two experiments counts once, a claim with several records several times. In
brackets are those that *stand*, with Holm's correction within their experiment and whatever other
records say, and those that *depend* on something. The intervals are not widened for the number of
comparisons: if no method differed from any other, about one in twenty of these {compared} would
still exclude zero. With Holm's correction over all of them at once, {overall} of the {stand} that
stand would. Of the {by_seed} that stand where each seed draws its own split, {anew} stand for new
examples, too (the test corrected for splits that overlap, and Holm's correction); the others speak
of the examples that are here. With half of m, {narrow} of the {equal} equalities would stand."""

SEARCHES = 3
"""So many searches of a task are wanted, for a verdict can depend on which points were drawn."""


def holds(records: Records, rows: list[Row]) -> Iterator[str]:
    """In five items, what holds and at which scale."""
    yield from ("## What holds, and at which scale", "")
    for verdict in DECIDED:
        found = [row.plain for row in rows if row.stands and row.plain.kind == verdict]
        measures = Counter(one.claim.measure.replace("_", " ") for one in found)
        of_each = ", ".join(f"{n} of {measure}" for measure, n in measures.most_common())
        said = f"{of_each}{_reserve(found, records)}" if found else "none"
        yield f"- **{verdict.capitalize()}**, with Holm's correction too: {said}."
    counts = Counter(row.plain.kind for row in rows)
    lost = sum(row.plain.kind in DECIDED and not row.stands for row in rows)
    on = Counter(any_of(shown.on) for row in rows for shown in row.plain.depends)
    what = f" ({', '.join(f'{name} in {n}' for name, n in on.items())})" if on else ""
    yield (
        f"- **Not decided**: {counts[INCONCLUSIVE]} comparisons inconclusive at this scale, {lost} "
        f"that Holm's correction takes away, {counts[DEPENDS]} that depend on something{what}, "
        f"{counts[TOO_FEW]} of fewer than {MIN_PAIRS} pairs."
    )
    tasks = [
        (record["seeds"], task["setting"]["quantizing_steps"])
        for record in records.values()
        for task in record.get("tasks", {}).values()
    ]
    scale = "nothing is measured"
    if tasks:
        seeds, steps = (sorted(numbers) for numbers in zip(*tasks, strict=True))
        scale = (
            f"{seeds[0]} to {seeds[-1]} seeds, {steps[0]:,} to {steps[-1]:,} quantizing steps, "
            "on the networks named below"
        )
    yield f"- **Scale**: {scale}. What is not yet measured is listed before the theorems."


def _reserve(found: list[Verdict], records: Records) -> str:
    """How many of these verdicts rest on little."""
    rest = {
        "in cells of budget curves, whose ten pairs share runs": sum(
            one.experiment.grid is not None and len(one.experiment.claims) > 1 for one in found
        ),
        "after one search alone": sum(_is_searched_once(one) for one in found),
        f"on {MIN_PAIRS} pairs": sum(one.found.n == MIN_PAIRS for one in found if one.found),
        "on runs whose code and machine were not recorded": sum(
            any(group["environment"] is None for group in runs_of(records[one.record]))
            for one in found
        ),
    }
    said = [f"{n} {what}" for what, n in rest.items() if n]
    return f" (of them {'; '.join(said)})" if said else ""


def _is_searched_once(one: Verdict) -> bool:
    """Whether hyperparameters of another search may say otherwise."""
    methods = (one.experiment.methods.get(name) for name in (one.claim.first, one.claim.second))
    return one.searches == 1 and not all(method and method.source for method in methods)


def standing(records: Records, rows: list[Row]) -> Iterator[str]:
    """The comparisons that stand, claim by claim; of grids how many of their cells."""
    cells = Counter(row.plain.record for row in rows if row.plain.found is not None)
    for verdict in DECIDED:
        found = [row.plain for row in rows if row.stands and row.plain.kind == verdict]
        single = [one for one in found if one.experiment.grid is None]
        grids = Counter(
            (one.claim.text.split(",")[0], one.record)
            for one in found
            if one.experiment.grid is not None
        )
        named = [f'  - "{text}": {where}' for text, where in _places(single).items()]
        for (text, name), n in grids.items():
            pairs = ", in whatever pair" * (
                len(EXPERIMENTS[records[name]["experiment"]].claims) > 1
            )
            named.append(f'  - "{text}"{pairs}: {n} of the {cells[name]} cells of {name}')
        if named:
            yield from (f"- {verdict.capitalize()}, and standing after the correction:", *named)


def _places(found: list[Verdict]) -> dict[str, str]:
    """By claim: on which tasks, in which records."""
    claims: dict[str, dict[str, dict[str, None]]] = {}
    for one in found:
        text = one.claim.text
        text = without_rate(text)[0] if one.experiment.families else text  # of one record, or more
        claims.setdefault(text, {}).setdefault(one.task, {})[one.record] = None
    places = {}
    for text, tasks in claims.items():
        of: dict[str, list[str]] = {}
        for task, names in tasks.items():
            of.setdefault(", ".join(names), []).append(task)
        places[text] = "; ".join(f"{', '.join(tasks)} in {names}" for names, tasks in of.items())
    return places


def missing(records: Records) -> Iterator[str]:
    """The commands for what is defined and in no record of enough pairs, or was searched too few
    times.
    """
    lines = [
        line
        for whole in EXPERIMENTS.values()
        for family in (None, *whole.families)
        for line in _unmeasured(whole, family, records)
    ]
    few = [line for whole in EXPERIMENTS.values() for line in _searched(whole, records)]
    if lines:
        yield from ("## Not yet measured", "", *lines, "")
    if few:
        yield from (FEW_SEARCHES, "", *few, "")


FEW_SEARCHES = f"""Searched fewer than {SEARCHES} times by the present rules ({SCHEME}, at least 16
for each method, three seeds), so that little is known of how a verdict depends on the search.
`--search --stream N` searches once more, and `--stream N` measures what that chose:"""


def _unmeasured(whole: Experiment, family: str | None, records: Records) -> Iterator[str]:
    """The command for the tasks of a family that no record of enough pairs holds."""
    held = {
        task
        for record in records.values()
        if (record["experiment"], record.get("family")) == (whole.name, family)
        for task in record["tasks"]
        if record["seeds"] >= MIN_PAIRS
    }
    tasks = [task for task in whole.tasks if task not in held]
    names = tasks
    if whole.grid is not None:  # by rows, where none of a row is there
        rows = {task.split("-")[0] for task in held}
        names = [*dict.fromkeys(t if (row := t.split("-")[0]) in rows else row for t in tasks)]
    if names:
        only = "" if not held and not whole.measured else f" --only {' --only '.join(names)}"
        of = "" if family is None else f" --family {family}"
        data = " --data DIR" if whole.needs_data else ""
        first = ""
        if family != PUBLISHED and not all(_is_searched(whole, task) for task in tasks):
            first = ", after the same with `--search`"
        yield f"- `proxquant-np experiment {whole.name}{of}{only}{data}`{first}"


def _is_searched(whole: Experiment, task: str) -> bool:
    """Whether a search by the present rules has chosen for all methods of a task."""
    report, own = whole.tasks[task].found(), whole.methods.items()
    named = {name for name, method in own if method.is_searched}
    return report is not None and "scheme" in report and named <= report["chosen"].keys()


def _searched(whole: Experiment, records: Records) -> Iterator[str]:
    """Which tasks in records were searched too few times by the present rules, and how often."""
    streams: dict[str, set[int]] = {}
    for record in records.values():
        if record["experiment"] == whole.name and record.get("family") is None:
            for name, task in record["tasks"].items():
                found = streams.setdefault(name, set())
                report = report_of(whole.of_stream(record.get("stream")), name, task) or {}
                if (
                    "scheme" in report
                    and report["chosen"].items() <= task["hyperparameters"].items()
                ):
                    found.add(report["stream"])
    few: dict[int, list[str]] = {}
    for name, found in streams.items():
        few.setdefault(len(found), []).append(name)
    said = (f"{n} for {', '.join(names)}" for n, names in sorted(few.items()) if n < SEARCHES)
    if told := "; ".join(said):
        yield f"- `proxquant-np experiment {whole.name}`: {told}"


def total(records: Records, rows: list[Row]) -> Iterator[str]:
    """How many comparisons have which verdict, how many chance alone would decide, and how many
    would stand by stricter rules.
    """
    order = (*DECIDED, INCONCLUSIVE, TOO_FEW)
    measured = [row for row in rows if row.plain.found is not None]
    yield f"| claims | {' | '.join(order)} |"
    yield "|---" * (len(order) + 1) + "|"
    for source, name in (("paper", "the paper's"), ("ours", "ours")):
        own = [row for row in measured if row.plain.claim.source == source]
        for measure in dict.fromkeys(row.plain.claim.measure for row in own):
            of_measure = [row for row in own if row.plain.claim.measure == measure]
            cells = (
                _counted([row for row in of_measure if row.plain.kind_alone == verdict])
                for verdict in order
            )
            yield f"| {name}: {measure.replace('_', ' ')} | {' | '.join(cells)} |"
    yield ""
    found = [row for row in measured if row.stands]
    by_seed = [row for row in found if is_split_by_seed(row.plain, records)]
    equal = [row for row in found if row.plain.kind == EQUAL]
    yield COUNTED.format(
        compared=sum(row.plain.kind_alone != TOO_FEW for row in measured),
        overall=sum(row.overall.kind == row.plain.kind for row in found),
        stand=len(found),
        by_seed=len(by_seed),
        anew=sum(row.anew.kind == row.plain.kind for row in by_seed),
        narrow=sum(row.narrow.kind == EQUAL for row in equal),
        equal=len(equal),
    )


def _counted(rows: list[Row]) -> str:
    counts = {
        "stand": sum(row.stands for row in rows),
        "depend": sum(row.plain.kind == DEPENDS for row in rows),
    }
    said = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    return f"{len(rows)} ({said})" if said else f"{len(rows)}"
