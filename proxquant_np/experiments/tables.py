"""The tables of the ledger: the claims of a record, grids of tasks, family by family."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.experiments.experiment import SEARCHED, Claim, Experiment
from proxquant_np.experiments.families import FAMILIES, SUM_KEPT, without_rate
from proxquant_np.experiments.statistics import (
    CONTRADICTED,
    DEPENDS,
    EQUAL,
    SUPPORTED,
    Comparison,
    detectable,
)
from proxquant_np.experiments.tasks import BY_SEED, split_of
from proxquant_np.experiments.verdicts import NOT_YET, Verdict, any_of, over_budgets
from proxquant_np.experiments.wording import in_words, scaled, signed

DECIDED = (SUPPORTED, CONTRADICTED, EQUAL)

COLUMNS = ["claim", "task", "verdict", "with Holm", "difference [95%]", "std", "rival"]
COLUMNS += ["detectable", "m", "seeds", "by"]


class Row(NamedTuple):
    """A verdict of the ledger, and the same by other rules.

    `corrected`: after Holm's correction within its experiment; `resampled`: by the test that speaks
    of new examples where each seed draws its own split, and `anew` after that correction, too;
    `overall`: after Holm's correction over all comparisons; `narrow`: corrected within its
    experiment, with half of m.
    """

    plain: Verdict
    corrected: Verdict
    resampled: Verdict
    overall: Verdict
    anew: Verdict
    narrow: Verdict

    @property
    def stands(self) -> bool:
        """Whether the correction leaves a verdict that decides something as it is."""
        return self.plain.kind in DECIDED and self.plain.kind == self.corrected.kind


def tables(chosen: Experiment, record: Mapping[str, Any] | None, rows: list[Row]) -> Iterable[str]:
    """One table of all claims or, if the tasks form a grid, a grid for each claim."""
    by_claim: dict[Claim, list[Row]] = {}
    for row in rows:
        by_claim.setdefault(row.plain.claim, []).append(row)
    if record is not None and chosen.grid is not None:
        if len(by_claim) > 1 and len({row.plain.task.split("-")[0] for row in rows}) == 1:
            yield from _row_of_claims(chosen, record, by_claim)
            return
        for i, (claim, of_claim) in enumerate(by_claim.items()):
            yield from [""] if i else []  # a paragraph right after a table would be its last row
            yield from _grid(chosen, record, claim, of_claim)
        return
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for claim, of_claim in by_claim.items():
        if record is None:
            names = of_claim[0].plain.task if len(of_claim) == 1 else f"{len(of_claim)} tasks"
            yield f"| {claim.text} | {names} | {NOT_YET} | | | | | | | | {claim.source} |"
            continue
        for row in of_claim:
            name, found = row.plain.task, row.plain.found
            cells = [""] * 7
            if found is not None:
                rival = np.mean(record["tasks"][name]["methods"][claim.second][claim.measure])
                cells = [row.corrected.text, *_shown(found, claim, rival), str(found.n)]
            text = record["tasks"].get(name, {}).get("text")
            where = f"{name}, {text['name']}" if text else name
            yield (
                f"| {claim.text} | {where} | {_bold(row.plain)} | {' | '.join(cells)} "
                f"| {claim.source} |"
            )


def _bold(verdict: Verdict) -> str:
    alone = f" ({verdict.alone})" if verdict.depends else ""
    return f"**{verdict.text}**{alone}"


def _shown(found: Comparison, claim: Claim, rival: float) -> list[str]:
    """The difference with its interval and its standard deviation, the rival's mean, what is
    detectable, and m.
    """
    factor, unit, _ = scaled(claim.measure)
    share = f" ({signed(100 * (found.mean / rival + claim.margin), 0)}%)" if rival else ""
    least = ""  # nothing to speak of where nothing varies
    if found.std:
        least = f"{factor * detectable(found):.2g}" if found.n > 1 else "none"
    return [
        in_words(found, claim.measure),
        f"{factor * found.std:.2g}" if found.n > 1 else "",
        f"{factor * rival:.3g}{unit}{share}",
        least,
        _margin(claim),
    ]


def _margin(claim: Claim) -> str:
    if claim.equal is None:
        return ""
    if claim.equal.relative:
        return f"{100 * claim.equal.margin:.3g}%"
    return f"{scaled(claim.measure).factor * claim.equal.margin:.3g}"


def _grid(
    chosen: Experiment, record: Mapping[str, Any], claim: Claim, of_claim: list[Row]
) -> Iterable[str]:
    """A claim over tasks ROW-COLUMN: the differences, in bold where there is a verdict."""
    cells = {row.plain.task: row for row in of_claim}
    pairs = [name.split("-") for name in cells]
    rows, columns = ([*dict.fromkeys(part)] for part in zip(*pairs, strict=True))
    scale = scaled(claim.measure).factor
    yield (
        f"**{claim.text}** (by: {claim.source}), on {len(cells)} tasks: "
        f"{_listed(row.plain for row in of_claim)}. With Holm: "
        f"{_listed(row.corrected for row in of_claim)}. {_about(record, claim, of_claim)}"
    )
    by_row = {
        r: [row.plain for name, row in cells.items() if name.split("-")[0] == r] for r in rows
    }
    yield from _turning(by_row, record)
    yield ""
    yield f"| {', '.join(chosen.grid or ())} | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for row in rows:
        shown = (_cell(cells.get(f"{row}-{column}"), scale) for column in columns)
        yield f"| {row} | {' | '.join(shown)} |"


def _about(record: Mapping[str, Any], claim: Claim, rows: Iterable[Row]) -> str:
    """What the numbers in a grid are."""
    scale, _, points = scaled(claim.measure)
    found = [row.plain.found for row in rows if row.plain.found is not None]
    std, least = ([scale * of(one) for one in found] for of in (attrgetter("std"), detectable))
    m = f"; m {_margin(claim)}" if claim.equal else ""
    return (
        f"{record['seeds']} seeds. Differences [95%] in {points or 'units'} of the "
        f"{claim.measure.replace('_', ' ')}, below zero as claimed: in bold with a verdict that "
        "stands after Holm's correction, with one in brackets if it does not stand or depends on "
        f"something; std {min(std):.2g} to {max(std):.2g}; detectable {min(least):.2g} to "
        f"{max(least):.2g}{m}."
    )


def _turning(rows: Mapping[str, list[Verdict]], record: Mapping[str, Any]) -> Iterable[str]:
    """For which rows of tasks the verdict depends on the budget, and between which two."""
    turning = {name: shown for name, row in rows.items() for shown in over_budgets(row, record)}
    if turning:
        between = (
            f"{name} ({shown.one.record.split('-')[1]} {shown.one.found.verdict}, "
            f"{shown.other.record.split('-')[1]} {shown.other.found.verdict})"
            for name, shown in turning.items()
        )
        yield ""
        yield f"The verdict depends on the budget for {'; '.join(between)}."


def _row_of_claims(
    chosen: Experiment, record: Mapping[str, Any], by_claim: Mapping[Claim, list[Row]]
) -> Iterable[str]:
    """Several claims over tasks of one ROW: a table with a claim in each of its rows."""
    first, of_first = next(iter(by_claim.items()))
    columns = [row.plain.task.split("-")[1] for row in of_first]
    scale = scaled(first.measure).factor
    yield _about(record, first, itertools.chain(*by_claim.values()))
    of_claim = {f'"{claim.text}"': [row.plain for row in rows] for claim, rows in by_claim.items()}
    yield from _turning(of_claim, record)
    yield ""
    _, column = chosen.grid or ("", "")
    yield f"| claim | {column}: {' | '.join(columns)} | by |"
    yield "|---" * (len(columns) + 2) + "|"
    for claim, rows in by_claim.items():
        cells = " | ".join(_cell(row, scale) for row in rows)
        yield f"| {claim.text} | {cells} | {claim.source} |"


def _cell(row: Row | None, scale: float) -> str:
    if row is None or row.plain.found is None:
        return NOT_YET
    found = row.plain.found
    mean, low, high = (signed(scale * x, 2) for x in (found.mean, found.low, found.high))
    if row.stands:
        return f"**{mean} {row.plain.text}** [{low}, {high}]"
    decided = row.plain.kind in (*DECIDED, DEPENDS)
    return f"{mean} ({row.plain.text}) [{low}, {high}]" if decided else f"{mean} [{low}, {high}]"


def _listed(found: Iterable[Verdict]) -> str:
    counts = Counter(verdict.kind.replace(DEPENDS, "dependent") for verdict in found)
    return ", ".join(f"{verdict} in {n}" for verdict, n in sorted(counts.items()))


def is_split_by_seed(one: Verdict, records: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether each seed of a measured verdict draws its own split of the data."""
    return split_of(records[one.record]["tasks"][one.task]["setting"]) == BY_SEED


def side_by_side(
    found: Iterable[Verdict], records: Mapping[str, Mapping[str, Any]]
) -> Iterable[str]:
    """The claims whose pairs are of several families, with the verdict in each of them.

    Of several records of a family one is shown, and how many others say what.
    """
    columns = ("as searched", "as published", "at ProxQuant's rate", "at the rival's rate")
    columns += (f"at the rival's rate, {SUM_KEPT}",)
    table: dict[tuple[str, str, str], dict[str, list[tuple[bool, Verdict]]]] = {}
    for one in found:
        if one.found is not None and one.experiment.families:
            text, rate, keeps_sum = without_rate(one.claim.text)
            how = FAMILIES[one.experiment.family or SEARCHED]
            if rate:
                how = columns[2 if rate == "ProxQuant" else 3 + keeps_sum]
            row = table.setdefault((one.experiment.name, text, one.task), {})
            row.setdefault(how, []).append((is_split_by_seed(one, records), one))
    several = {key: row for key, row in table.items() if len(row) > 1}
    if several:
        yield from ("## Family by family", "", FIRST, "")
        yield f"| claim | task | {' | '.join(columns)} |"
        yield "|---" * (len(columns) + 2) + "|"
        for (_, text, task), row in several.items():
            cells = (_first(row[how]) if how in row else "" for how in columns)
            yield f"| {text} | {task} | {' | '.join(cells)} |"
        yield ""


FIRST = """The verdict that a record says by itself. Of several records one is shown, the first in
which each seed draws its own split, if there is one; then what the others say."""


def _first(found: list[tuple[bool, Verdict]]) -> str:
    """A cell of that table: the record that is shown, and the others."""
    (_, shown), *others = sorted(found, key=lambda one: not one[0])  # the order is kept otherwise
    counts = Counter(one.alone for _, one in others)
    said = "; ".join(f"{verdict} in {n}" for verdict, n in counts.items())
    where = f"{shown.record}; others: {said}" if others else shown.record
    return f"{shown.alone}, {in_words(shown.found, shown.claim.measure)} ({where})"


def dependent(found: Iterable[Verdict]) -> Iterable[str]:
    """The claims that depend on something, with two records that show it."""
    table: dict[tuple[Any, ...], str] = {}
    for one in found:
        text = without_rate(one.claim.text)[0]
        for shown in one.depends:
            key = one.claim.measure, one.task, shown.one.record, shown.other.record, shown.on
            change = in_words(shown.change, one.claim.measure)
            sides = (
                f"{side.record}: {side.found.text}, {in_words(side.found, one.claim.measure)}"
                for side in (shown.one, shown.other)
            )
            row = f"{text} | {one.task} | {any_of(shown.on)} | {' | '.join(sides)} | {change}"
            table.setdefault(key, f"| {row} |")
    if table:
        yield from ("## What verdicts depend on", "", SHOWN, "")
        yield "| claim | task | on | one record | another | difference of the two [95%] |"
        yield "|---|---|---|---|---|---|"
        yield from table.values()
        yield ""


SHOWN = """Two records whose verdicts differ do not show that something decides between them: one
p-value can be 0.04, another 0.06. Here are those whose paired differences differ by a test of their
own (Student's t, seed by seed, with Holm's correction for the number of pairs of records)."""
