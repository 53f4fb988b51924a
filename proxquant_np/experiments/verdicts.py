"""The verdicts on all claims, computed from records; by rules that a reader may change.

The ledger shows the verdicts by the rules of its own, `LEDGER`. What they become by other rules is
what `proxquant-np claims --against` prints.

Records of the same claim and task can differ in one of CONDITIONS: in the stream of the search that
chose the hyperparameters, in the split, in the schedule, the rate or the number of steps. If they
lead to several verdicts, the claim has none of them: it depends on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from proxquant_np.checks import check_instance, check_integer
from proxquant_np.experiments import summary
from proxquant_np.experiments.catalog import EXPERIMENTS
from proxquant_np.experiments.experiment import Claim, Experiment, checked_tasks
from proxquant_np.experiments.families import without_rate
from proxquant_np.experiments.statistics import (
    DEPENDS,
    MIN_PAIRS,
    Comparison,
    Equality,
    corrected,
)
from proxquant_np.experiments.tasks import FIXED, split_of
from proxquant_np.files import shown

NOT_YET = "not yet measured"
RESAMPLED = "resampled"
CONDITIONS = ("search", "split", "schedule", "rate", "budget")


@dataclass(frozen=True)
class Rules:
    """By what verdicts are computed from the measurements.

    Args:
        test: of `statistics.compare`, or RESAMPLED: Student's t with a correction for splits that
            overlap, where each seed draws its own; elsewhere without.
        correction: Holm's for no comparisons, for those of each "experiment" (on all of its data)
            or for "all" together.
        equal: what counts as equal, in place of each claim's own; its margin, unless relative, in
            the unit in which the ledger shows differences, so percentage points of an error. A
            claim of being on par allows so much.
        seeds: those that count; None for all of a record.
    """

    test: str = "t"
    correction: str = "none"
    equal: Equality | None = None
    seeds: tuple[int, ...] | None = None

    def compare(self, claim: Claim, task: Mapping[str, Any]) -> Comparison:
        """`Claim.compare` by these rules, on a task of a record."""
        equal = self.equal
        if equal is not None and not equal.relative:
            equal = equal._replace(margin=equal.margin / summary.scaled(claim.measure).factor)
        how: dict[str, Any] = {"test": self.test}
        if self.test == RESAMPLED:
            how = {"test": LEDGER.test, "overlap": _overlap(task)}
        return claim.compare(task["methods"], equal=equal, seeds=self.seeds, **how)


def _overlap(task: Mapping[str, Any]) -> float:
    """Test examples over training examples, where each seed draws its own split of the same."""
    if split_of(task["setting"]) == FIXED:
        return 0.0
    return task["sizes"]["test"] / task["sizes"]["train"]


LEDGER = Rules()


class Verdict(NamedTuple):
    """A claim on a task of a record, and the comparison; None if it was not measured.

    `on` names those of CONDITIONS on which the verdict depends.
    """

    experiment: Experiment
    record: str
    claim: Claim
    task: str
    found: Comparison | None
    on: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The verdict in words."""
        return depends_on(self.on) if self.on else self.alone

    @property
    def alone(self) -> str:
        """What this record says by itself, whatever others say."""
        return NOT_YET if self.found is None else self.found.verdict

    @property
    def kind(self) -> str:
        """The verdict, or DEPENDS whatever it depends on."""
        return DEPENDS if self.on else self.alone


def verdicts(records: Mapping[str, Mapping[str, Any]], rules: Rules = LEDGER) -> list[Verdict]:
    """Every claim on every task, experiment by experiment, record by record.

    records: by name, as `read_records` gives them. An experiment without a record has the tasks
    that it would measure, under its own name.

    Examples:
        >>> from proxquant_np.experiments.verdicts import verdicts
        >>> {verdict.text for verdict in verdicts({})}
        {'not yet measured'}
    """
    made = list(_verdicts(records, rules))
    families: dict[Any, list[int]] = {}
    for i, one in enumerate(made):
        if rules.correction != "none" and one.found is not None:
            whole = rules.correction == "all"
            name = "all" if whole else (one.experiment.name, one.experiment.family)
            families.setdefault(name, []).append(i)
    for family in families.values():
        for i, found in zip(family, _corrected([made[i] for i in family]), strict=True):
            made[i] = made[i]._replace(found=found)
    return _over_conditions(made, records)


def _over_conditions(
    made: list[Verdict], records: Mapping[str, Mapping[str, Any]]
) -> list[Verdict]:
    """Where records of one claim, task and data set have several verdicts: on what they depend."""
    alike: dict[Any, list[int]] = {}
    for i, one in enumerate(made):
        if one.found is not None and one.found.n >= MIN_PAIRS:
            held = records[one.record]["tasks"][one.task]
            data = [held[kind]["sha256"] for kind in ("text", "images") if kind in held]
            key = one.experiment.name, _general(one)[0], one.claim.measure, one.task, *data
            alike.setdefault(key, []).append(i)
    for rows in alike.values():
        of_rows = [made[i] for i in rows]
        on = dependence((_conditions(one, records[one.record]), one.alone) for one in of_rows)
        for i in rows:
            made[i] = made[i]._replace(on=on)
    return made


def _general(one: Verdict) -> tuple[str, str]:
    """The claim as the experiment makes it, and at whose rate if not at those searched."""
    text = one.claim.text
    own = any(text == claim.text for claim in EXPERIMENTS[one.experiment.name].claims)
    return (text, "") if own else without_rate(text)


def _conditions(one: Verdict, record: Mapping[str, Any]) -> dict[str, Any]:
    """Under which of CONDITIONS a record was made."""
    setting = record["tasks"][one.task]["setting"]
    return {
        "search": record.get("stream"),  # None: the one that counts without --stream
        "split": split_of(setting),
        "schedule": record.get("family") == "published",
        "rate": _general(one)[1],
        "budget": setting["quantizing_steps"],
    }


def dependence(found: Iterable[tuple[Mapping[str, Any], str]]) -> tuple[str, ...]:
    """On which conditions a verdict depends, from pairs of (conditions, verdict).

    Two verdicts that differ tell that it depends on one of the conditions in which the two differ.
    Where another two tell so of some of these alone, that counts.

    Examples:
        >>> from proxquant_np.experiments.verdicts import dependence
        >>> a, b = {"search": 0, "rate": 1}, {"search": 1, "rate": 2}
        >>> dependence([(a, "supported"), (b, "contradicted")])
        ('search', 'rate')
        >>> dependence([(a, "supported"), (b, "contradicted"), (a | {"search": 1}, "supported")])
        ('rate',)
    """
    pairs = combinations(found, 2)
    differ = {
        frozenset(k for k in a if a[k] != b[k]) for (a, one), (b, other) in pairs if one != other
    }
    least = [these for these in differ if not any(others < these for others in differ)]
    return tuple(name for name in CONDITIONS if any(name in these for these in least))


def depends_on(names: Sequence[str]) -> str:
    """In words.

    Examples:
        >>> from proxquant_np.experiments.verdicts import depends_on
        >>> depends_on(["search", "split", "rate"])
        'depends on the search, the split and the rate'
    """
    *first, last = (f"the {name}" for name in names)
    return f"{DEPENDS} {' and '.join([', '.join(first), last] if first else [last])}"


def over_budgets(row: Iterable[Verdict], record: Mapping[str, Any]) -> bool:
    """Whether tasks of a record that differ in the number of steps alone have several verdicts."""
    enough = [one for one in row if one.found is not None and one.found.n >= MIN_PAIRS]
    return dependence((_conditions(one, record), one.alone) for one in enough) == ("budget",)


def _corrected(family: Sequence[Verdict]) -> list[Comparison]:
    """Holm's correction; the same pairs, compared by two experiments, count once."""
    once = dict.fromkeys((one.claim.measure, one.found) for one in family)
    adjusted = dict(zip(once, corrected([found for _, found in once if found]), strict=True))
    return [adjusted[one.claim.measure, one.found] for one in family]


def _verdicts(records: Mapping[str, Mapping[str, Any]], rules: Rules) -> Iterator[Verdict]:
    for name, whole in EXPERIMENTS.items():
        own = {stem: record for stem, record in records.items() if record["experiment"] == name}
        known = {task for record in own.values() for task in record["tasks"]}
        missing = [task for task in checked_tasks(whole, None) if task not in known]
        for stem, record in (own or {name: None}).items():
            measured = {} if record is None else record["tasks"]
            about = record or {}
            chosen = whole.of_stream(about.get("stream")).of_family(about.get("family"))
            for claim in chosen.claims:
                for task in [*measured, *missing]:
                    if claim.tasks and task not in claim.tasks:
                        continue
                    found, held = None, measured.get(task, {})
                    if record is not None and claim.is_held(
                        held.get("methods", {}), record["seeds"]
                    ):
                        found = rules.compare(claim, held)
                    yield Verdict(chosen, stem, claim, task, found)
            missing = []  # what no record holds is said once


# Records -----------------------------------------------------------------------------------------


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file.

    Raises:
        ValueError: the file is not a record of an experiment, or of the theorems.
        OSError: it cannot be read.
    """
    try:
        record = summary.read_summary(path, finite=True)
        check_instance("quick", record["quick"], bool, "true or false")
        if record["experiment"] == "theorems":
            check_instance("theorems", record["theorems"], dict, "an object")
        else:
            check_instance("tasks", record["tasks"], dict, "an object")
            check_integer("seeds", record["seeds"], least=1)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{shown(path)} is not a whole record: {error!r}") from error
    if record["experiment"] not in (*EXPERIMENTS, "theorems"):
        raise ValueError(
            f"{shown(path)} is a record of {record['experiment']!r}; there are "
            + ", ".join(EXPERIMENTS)
        )
    return record


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records in a folder by name, sorted; those of --quick runs are left out.

    A record is called NAME-record.json, as `experiment` writes it, or NAME-DATA-record.json if the
    same experiment ran on other data. Old records have these names without "-record".

    Raises:
        ValueError: a file that is not a record, or not named after its experiment; two files of the
            same record.
    """
    found = {}
    files = [(path.stem.removesuffix("-record"), path) for path in folder.glob("*.json")]
    for name, path in sorted(files):
        record = read_record(path)
        experiment, quick = record["experiment"], record["quick"]
        if name.split("-")[0] != experiment:
            raise ValueError(
                f"{shown(path)} is a record of {experiment!r}; its name must begin with that"
            )
        if name in found:
            raise ValueError(f"{shown(folder)} must hold one record of {name!r}, got two")
        if not quick:
            found[name] = record
    return found
