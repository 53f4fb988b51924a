"""An attack on the ledger: its verdicts, computed again by other rules.

A reader who doubts a verdict names another test, correction, margin or subset of the seeds, and
sees which verdicts change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxquant_np.experiments.records import read_record, read_records
from proxquant_np.experiments.statistics import CONTRADICTED, LEVEL, SUPPORTED, Comparison
from proxquant_np.experiments.verdicts import LEDGER, RESAMPLED, Rules, Verdict, verdicts
from proxquant_np.experiments.wording import in_words, scaled
from proxquant_np.files import shown


def read(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """The records in these files, or in folders of them.

    Raises:
        ValueError: one is not a record, or holds no verdict: theorems are exact, and those of
            --quick conclude nothing; or one is given twice.
        OSError: there is no such file, or it cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        if path.is_dir():
            own = read_records(path)
            own.pop("theorems", None)
            if not own:
                raise ValueError(f"{shown(path)} holds no record of an experiment")
        else:
            own = {path.stem.removesuffix("-record"): read_record(path)}
            for record in own.values():
                if record["experiment"] == "theorems" or record["quick"]:
                    what = "of --quick" if record["quick"] else "of theorems"
                    raise ValueError(f"{shown(path)} is a record {what}, which has no verdict")
        if twice := found.keys() & own.keys():
            raise ValueError(f"the record {shown(min(twice))} must be given once, got two")
        found |= own
    return found


def attack(
    records: Mapping[str, Mapping[str, Any]],
    rules: Rules,
    *,
    every: bool = False,
    ledger: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Which verdicts on these records are others by these rules, or all of them; as text.

    ledger: the records beside which these stand: a verdict can depend on what others say. Of two
    of one name, that in `records` counts.

    Raises:
        ValueError: no record has all of the seeds, or none measures what is claimed.

    Examples:
        >>> from proxquant_np.experiments.attack import attack
        >>> from proxquant_np.experiments.verdicts import Rules
        >>> attack({}, Rules(test="sign"))
        '0 of 0 verdicts change with the test sign.'
    """
    whole = {**(ledger or {}), **records}
    last = max(rules.seeds) if rules.seeds else 0
    usable = {name: record for name, record in whole.items() if last < record["seeds"]}
    left_out = [name for name in records if name not in usable]
    if records and len(left_out) == len(records):
        most = max(record["seeds"] for record in records.values())
        raise ValueError(
            f"seeds must be in 0..{most - 1}, which {shown(left_out[0])} has, got {last}"
        )
    old, new = (
        {(one.record, one.claim, one.task): one for one in found if one.record in records}
        for found in (verdicts(whole), verdicts(usable, rules))
    )
    pairs = [(old[key], one) for key, one in new.items() if one.found is not None]
    if records and not pairs:
        raise ValueError(f"{shown(min(records))} must measure two methods of a claim, got none")
    changed = [pair for pair in pairs if pair[0].text != pair[1].text]
    lines = [line for old, new in (pairs if every else changed) for line in _told(old, new)]
    n = len(changed)
    verb = "changes" if n == 1 else "change"
    lines.append(f"{n} of {len(pairs)} verdicts {verb} with {_in_words(rules)}.")
    if powerless := sum(
        _decides_nothing(rules, new)
        for old, new in changed
        if old.kind_alone in (SUPPORTED, CONTRADICTED)
    ):
        lines.append(f"Of these {powerless} must: so few pairs are never significant by that test.")
    if left_out:
        lines.append(f"Left out, for they have fewer seeds: {', '.join(map(shown, left_out))}.")
    return "\n".join(lines)


def _decides_nothing(rules: Rules, verdict: Verdict) -> bool:
    """Whether no two-sided test of the signs of so few pairs can reach its level."""
    return rules.test not in (LEDGER.test, RESAMPLED) and 2 ** (1 - verdict.found.n) >= LEVEL


def _told(old: Verdict, new: Verdict) -> list[str]:
    """The claim, the task and the record; the ledger's verdict, and the other one."""
    width = max(len(old.text), len(new.text))
    return [
        shown(f'{old.record}, {old.task}: "{old.claim.text}"'),
        f"  ledger   {old.text:{width}}  {_numbers(old)}",
        f"  against  {new.text:{width}}  {_numbers(new)}",
        "",
    ]


def _numbers(verdict: Verdict) -> str:
    found: Comparison = verdict.found
    unit = f" {scaled(verdict.claim.measure).points}".rstrip()
    equal = "" if found.p_equal is None else f", for equality {found.p_equal:.2g}"
    said = in_words(found, verdict.claim.measure, unit)
    return f"{said}, p {found.p:.2g}{equal}, {found.n} seed{'s' * (found.n > 1)}"


def _in_words(rules: Rules) -> str:
    parts = []
    if rules.test != LEDGER.test:
        where = " (where each seed draws its own split)" if rules.test == RESAMPLED else ""
        parts.append(f"the test {rules.test}{where}")
    if rules.correction != LEDGER.correction:
        whole = {"experiment": "of each experiment, family by family", "all": "there are"}
        parts.append(f"Holm's correction over all comparisons {whole[rules.correction]}")
    if rules.equal is not None:
        m, relative = rules.equal.margin, rules.equal.relative
        parts.append(f"the margin {f'{100 * m:g}% of the rival' if relative else f'{m:g}'}")
    if rules.seeds is not None:
        parts.append(f"the seeds {', '.join(map(str, rules.seeds))}")
    return ", ".join(parts) or "the rules of the ledger"
