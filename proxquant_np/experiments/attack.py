"""An attack on the ledger: its verdicts, computed again by other rules.

A reader who doubts a verdict names another test, correction, margin or subset of the seeds, and
sees which verdicts change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxquant_np.experiments.statistics import Comparison
from proxquant_np.experiments.summary import in_words, scaled
from proxquant_np.experiments.verdicts import (
    LEDGER,
    RESAMPLED,
    Rules,
    Verdict,
    read_record,
    read_records,
    verdicts,
)
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


def attack(records: Mapping[str, Mapping[str, Any]], rules: Rules, *, every: bool = False) -> str:
    """Which verdicts of the ledger are others by these rules, or all of them; as text.

    Raises:
        ValueError: a record does not have one of the seeds.

    Examples:
        >>> from proxquant_np.experiments.attack import attack
        >>> from proxquant_np.experiments.verdicts import Rules
        >>> attack({}, Rules(test="sign"))
        '0 of 0 verdicts change with the test sign.'
    """
    for name, record in records.items():
        if rules.seeds and max(rules.seeds) >= record["seeds"]:
            raise ValueError(
                f"seeds must be in 0..{record['seeds'] - 1}, which {shown(name)} has, "
                f"got {max(rules.seeds)}: name the records that count after --against"
            )
    pairs = [
        pair
        for pair in zip(verdicts(records), verdicts(records, rules), strict=True)
        if pair[0].found is not None
    ]
    changed = [pair for pair in pairs if pair[0].text != pair[1].text]
    lines = [line for old, new in (pairs if every else changed) for line in _told(old, new)]
    n = len(changed)
    verb = "changes" if n == 1 else "change"
    lines.append(f"{n} of {len(pairs)} verdicts {verb} with {_in_words(rules)}.")
    return "\n".join(lines)


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
    equal = f", for equality {found.p_equal:.2g}" if found.p_equal < 1 else ""
    said = in_words(found, verdict.claim.measure, unit)
    return f"{said}, p {found.p:.2g}{equal}, {found.n} seed{'s' * (found.n > 1)}"


def _in_words(rules: Rules) -> str:
    parts = []
    if rules.test != LEDGER.test:
        where = " (where each seed draws its own split)" if rules.test == RESAMPLED else ""
        parts.append(f"the test {rules.test}{where}")
    if rules.correction != LEDGER.correction:
        whole = {"experiment": "each experiment", "all": "all of them"}[rules.correction]
        parts.append(f"Holm's correction over {whole}")
    if rules.equal is not None:
        m, relative = rules.equal.margin, rules.equal.relative
        parts.append(f"the margin {f'{100 * m:g}% of the rival' if relative else f'{m:g}'}")
    if rules.seeds is not None:
        parts.append(f"the seeds {', '.join(map(str, rules.seeds))}")
    return ", ".join(parts) or "the rules of the ledger"
