"""The verdicts on all claims, computed from records; by rules that a reader may change.

The ledger shows the verdicts by the rules of its own, `LEDGER`. What they become by other rules is
what `proxquant-np claims --against` prints.

The same two methods are measured on the same task in several records, of one experiment or of
several, and under several CONDITIONS. If two of them lead to different verdicts, and a test tells
their differences apart, the claim has neither: it depends on that in which the two records differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from proxquant_np.experiments import summary
from proxquant_np.experiments.catalog import EXPERIMENTS
from proxquant_np.experiments.experiment import Claim, Experiment, checked_tasks
from proxquant_np.experiments.statistics import (
    DEPENDS,
    LEVEL,
    MIN_PAIRS,
    Comparison,
    Equality,
    compare,
    corrected,
    holm,
)
from proxquant_np.experiments.tasks import FIXED, split_of
from proxquant_np.experiments.wording import scaled

NOT_YET = "not yet measured"
RESAMPLED = "resampled"
CONDITIONS = ("search", "split", "schedule", "rate", "strengths", "budget", "code", "machine")
"""What two records of the same comparison can differ in: the search that chose the hyperparameters,
whether each seed draws its own split, whether the schedule is the published one (its rate
included), whose rate both methods have, whether the sum of ProxQuant's strengths changed with the
rate, the number of steps, the version of the code, or the machine (its BLAS kernel and device). Of
old records neither code nor machine is known, which counts as others."""


@dataclass(frozen=True)
class Rules:
    """The rules by which verdicts are computed from the measurements.

    Args:
        test: of `statistics.compare`, or RESAMPLED: Student's t with a correction for splits that
            overlap, where each seed draws its own; elsewhere without.
        correction: Holm's for no comparisons, for those of each "experiment" (on all of its data,
            family by family) or for "all" together.
        equal: what counts as equal, in place of each claim's own; its margin, unless relative, in
            the unit in which the ledger shows differences, so percentage points of an error. A
            claim of being on par allows so much.
        seeds: those that count; None for all of a record.
        narrowed: what the margin of each claim's own `equal` is multiplied by.
    """

    test: str = "t"
    correction: str = "none"
    equal: Equality | None = None
    seeds: tuple[int, ...] | None = None
    narrowed: float = 1.0

    def compare(self, claim: Claim, task: Mapping[str, Any]) -> Comparison:
        """`Claim.compare` by these rules, on a task of a record."""
        equal = self.equal
        if equal is None and claim.equal is not None and not claim.margin:
            equal = claim.equal._replace(margin=self.narrowed * claim.equal.margin)
        elif equal is not None and not equal.relative:
            equal = equal._replace(margin=equal.margin / scaled(claim.measure).factor)
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


class Witness(NamedTuple):
    """What a record says of two methods, and under which CONDITIONS."""

    record: str
    conditions: Mapping[str, Any]
    found: Comparison
    differences: Sequence[float]

    def differs_in(self, other: Witness) -> tuple[str, ...]:
        """The conditions in which two records differ."""
        one, two = self.conditions, other.conditions
        return tuple(name for name in CONDITIONS if one.get(name) != two.get(name))

    def agrees_with(self, other: Witness) -> bool:
        """Whether the verdicts are the same, or neither of the differences matters."""
        one, two = self.found, other.found
        return one.verdict == two.verdict or (one.is_small and two.is_small)


class Dependence(NamedTuple):
    """Two records whose verdicts differ, and the conditions of which one or several decide.

    `change` compares their differences, seed by seed; its p-value is corrected for the number of
    records that were compared.
    """

    on: tuple[str, ...]
    one: Witness
    other: Witness
    change: Comparison


class Verdict(NamedTuple):
    """A claim on a task of a record, and the comparison; None if it was not measured.

    `depends` has what the verdict depends on, if it does, and the records that show it; `searches`
    is the number of searches after which the same was compared, by records of enough pairs (the
    same runs in two records are from one).
    """

    experiment: Experiment
    record: str
    claim: Claim
    task: str
    found: Comparison | None
    depends: tuple[Dependence, ...] = ()
    searches: int = 1

    @property
    def text(self) -> str:
        """The verdict in words."""
        return depends_on(shown.on for shown in self.depends) if self.depends else self.alone

    @property
    def alone(self) -> str:
        """What this record says by itself, whatever others say."""
        return NOT_YET if self.found is None else self.found.text

    @property
    def kind(self) -> str:
        """The verdict, or DEPENDS whatever it depends on."""
        return DEPENDS if self.depends else self.kind_alone

    @property
    def kind_alone(self) -> str:
        """The verdict of this record by itself, whether the difference matters or not."""
        return NOT_YET if self.found is None else self.found.verdict


def verdicts(records: Mapping[str, Mapping[str, Any]], rules: Rules = LEDGER) -> list[Verdict]:
    """Every claim on every task, experiment by experiment, record by record.

    On what a verdict depends is found before the correction, which must not add to it.

    records: by name, as `records.read_records` gives them. An experiment without a record has the
    tasks that it would measure, under its own name.

    Examples:
        >>> from proxquant_np.experiments.verdicts import verdicts
        >>> {verdict.text for verdict in verdicts({})}
        {'not yet measured'}
    """
    made = _over_conditions(list(_verdicts(records, rules)), records, rules)
    families: dict[Any, list[int]] = {}
    for i, one in enumerate(made):
        if rules.correction != "none" and one.found is not None:
            whole = rules.correction == "all"
            own = one.claim.family or one.experiment.family
            name = "all" if whole else (one.experiment.name, own)
            families.setdefault(name, []).append(i)
    for family in families.values():
        for i, found in zip(family, _corrected([made[i] for i in family]), strict=True):
            made[i] = made[i]._replace(found=found)
    return made


def _over_conditions(
    made: list[Verdict], records: Mapping[str, Mapping[str, Any]], rules: Rules
) -> list[Verdict]:
    """Each verdict with what it depends on, by all records that hold its two methods."""
    chosen = {one.record: one.experiment for one in made if one.record in records}
    claims = {
        (claim.measure, claim.first, claim.second, claim.margin): claim
        for one in made
        if (claim := one.claim) and one.experiment.families
    }
    witnesses: dict[Any, list[Witness]] = {}
    for name, experiment in chosen.items():
        for task in records[name]["tasks"] if experiment.families else ():
            for claim in claims.values():
                seen = _witness(experiment, name, records[name], task, claim, rules)
                if seen is not None:
                    key = _compared(experiment, records[name], task, claim)
                    witnesses.setdefault(key, []).append(seen)
    depends = {key: tuple(dependences(seen)) for key, seen in witnesses.items()}
    for i, one in enumerate(made):
        if one.found is not None and one.found.n >= MIN_PAIRS and one.experiment.families:
            key = _compared(one.experiment, records[one.record], one.task, one.claim)
            runs = {tuple(w.differences): w.conditions["search"] for w in witnesses.get(key, ())}
            made[i] = one._replace(depends=depends.get(key, ()), searches=len({*runs.values()}))
    return made


def _compared(
    experiment: Experiment, record: Mapping[str, Any], task: str, claim: Claim
) -> tuple[Any, ...]:
    """What a claim compares on a task, in whatever experiment, and at whatever rate."""
    held = record["tasks"][task]
    data = [held[kind]["sha256"] for kind in ("text", "images") if kind in held]
    pair = (name.split("_at_")[0] for name in (claim.first, claim.second))
    return claim.measure, claim.margin, *pair, experiment.tasks[task].title, *data


def _witness(
    experiment: Experiment,
    name: str,
    record: Mapping[str, Any],
    task: str,
    claim: Claim,
    rules: Rules,
) -> Witness | None:
    """What a record says of a claim that may be another experiment's; None if it says too little.

    A record of several versions or machines is not of the code or machine of a record of one.
    """
    held, pair = record["tasks"][task], (claim.first, claim.second)
    if task not in experiment.tasks or not experiment.methods.keys() >= {*pair}:
        return None
    if not claim.is_held(held["methods"], record["seeds"]):
        return None
    found = rules.compare(claim, held)
    if found.n < MIN_PAIRS:
        return None
    first, second = (experiment.methods[method] for method in pair)
    runs = [group["environment"] or {} for group in summary.runs_of(record)]
    conditions = {
        "search": (record.get("stream"), experiment.tasks[task].choice),
        "split": split_of(held["setting"]),
        "schedule": record.get("family") == "published",
        "rate": first.rate_of or second.rate_of,
        "strengths": first.rate_of is not None and not first.keeps_sum,
        "budget": held["setting"]["quantizing_steps"],
        "code": {run.get("proxquant_np") for run in runs},
        "machine": {(run.get("blas"), run.get("device")) for run in runs},
    }
    return Witness(name, conditions, found, claim.differences(held["methods"], rules.seeds))


def dependences(witnesses: Iterable[Witness]) -> Iterator[Dependence]:
    """On what a verdict depends: pairs of records whose verdicts differ, and that a test separates.

    Two verdicts can differ because one p-value is 0.04 and the other is 0.06. So what is tested is
    whether the paired differences of two records differ (Student's t, seed by seed), with Holm's
    correction for the number of pairs of records. A condition is judged by records that differ in
    it alone; where there are none, by those that differ in others, too: then one of them decides,
    and nothing tells which, unless fewer of them are known to decide. Of several such pairs the
    clearest is given.
    """
    once: list[Witness] = []  # the same runs can be in the records of two experiments
    for one in witnesses:
        if all(one.differences != other.differences or one.differs_in(other) for other in once):
            once.append(one)
    pairs = [(a, b, on) for a, b in combinations(once, 2) if (on := a.differs_in(b))]
    alone = {on[0] for *_, on in pairs if len(on) == 1}
    pairs = [(a, b, on) for a, b, on in pairs if len(on) == 1 or not alone.issuperset(on)]
    changes = []
    for a, b, _ in pairs:
        n = min(len(a.differences), len(b.differences))
        changes.append(compare(a.differences[:n], b.differences[:n]))
    found: dict[tuple[str, ...], Dependence] = {}
    for (a, b, on), change, p in zip(pairs, changes, holm([c.p for c in changes]), strict=True):
        clearest = found.get(on)
        if p < LEVEL and not a.agrees_with(b) and (clearest is None or p < clearest.change.p):
            found[on] = Dependence(on, a, b, change._replace(p=float(p)))
    for on, shown in found.items():
        if not any({*others} < {*on} for others in found):
            yield shown


def any_of(on: Iterable[str]) -> str:
    """One condition, or several of which nothing tells which decides, in words.

    Examples:
        >>> from proxquant_np.experiments.verdicts import any_of
        >>> any_of(["split", "code"])
        'the split or the code'
    """
    return " or ".join(f"the {name}" for name in on)


def depends_on(found: Iterable[Sequence[str]]) -> str:
    """In words; of conditions that were only varied together, any can be the one that decides.

    Examples:
        >>> from proxquant_np.experiments.verdicts import depends_on
        >>> depends_on([["search"], ["rate"]])
        'depends on the search and the rate'
        >>> depends_on([["search"], ["split", "code"]])
        'depends on the search, and on the split or the code'
    """
    of_each = sorted(found, key=lambda on: (len(on), [CONDITIONS.index(name) for name in on]))
    alone = [any_of(on) for on in of_each if len(on) == 1]
    joint = [any_of(on) for on in of_each if len(on) > 1]
    first = [" and ".join([", ".join(alone[:-1]), alone[-1]][len(alone) < 2 :])] if alone else []
    return f"{DEPENDS} {', and on '.join([*first, *joint])}"


def over_budgets(row: Iterable[Verdict], record: Mapping[str, Any]) -> tuple[Dependence, ...]:
    """Two budgets, if a row of a grid has several verdicts: of tasks that differ in that alone.

    Each number of steps has a search of its own, which is part of what it costs.
    """
    seen = (
        _witness(one.experiment, one.task, record, one.task, one.claim, LEDGER)
        for one in row
        if one.task in record["tasks"]
    )
    alike = [one._replace(conditions=one.conditions | {"search": None}) for one in seen if one]
    return tuple(dependences(alike))


def _corrected(family: Sequence[Verdict]) -> list[Comparison]:
    """Holm's correction; the same pairs, compared by two experiments, count once."""
    once = dict.fromkeys((one.claim.measure, one.found) for one in family)
    adjusted = dict(zip(once, corrected([found for _, found in once]), strict=True))
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
