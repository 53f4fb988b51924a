"""Reading records: the files from which every verdict is computed, wherever they come from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxquant_np.checks import check_choice, check_instance, check_integer, check_number
from proxquant_np.experiments import summary
from proxquant_np.experiments.catalog import EXPERIMENTS
from proxquant_np.experiments.tasks import BY_SEED, FIXED, split_of
from proxquant_np.files import shown

FRACTIONS = "test_error", "sign_change", "flip_rate"
"""Measures that are fractions."""


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file.

    Raises:
        ValueError: the file is not a record of an experiment, or of the theorems; or what it says
            cannot have been measured.
        OSError: it cannot be read.
    """
    try:
        record = summary.read_summary(path, finite=True)
        name = record["experiment"]
        check_instance("quick", record["quick"], bool, "true or false")
        if name == "theorems":
            check_instance("theorems", record["theorems"], dict, "an object")
        elif name in EXPERIMENTS:
            _check_record(record)
    except KeyError as error:
        raise ValueError(f"{shown(path)} is not a whole record: it has no {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{shown(path)} is not a whole record: {error}") from error
    if name not in (*EXPERIMENTS, "theorems"):
        raise ValueError(
            f"{shown(path)} is a record of {name!r}; there are {', '.join(EXPERIMENTS)}"
        )
    return record


def _check_record(record: Mapping[str, Any]) -> None:
    """Check what verdicts are computed from."""
    experiment = EXPERIMENTS[record["experiment"]]
    experiment = experiment.of_family(record.get("family"))
    if "stream" in record:
        check_integer("stream", record["stream"], least=0)
    seeds = check_integer("seeds", record["seeds"], least=1)
    for name, task in check_instance("tasks", record["tasks"], dict, "an object").items():
        check_choice("a task", name, experiment.tasks)
        check_instance(name, task, dict, "an object")
        setting = check_instance(f"{name}: setting", task["setting"], dict, "an object")
        check_integer(f"{name}: quantizing_steps", setting["quantizing_steps"], least=1)
        if check_choice(f"{name}: split", split_of(setting), (FIXED, BY_SEED)) == BY_SEED:
            for part in ("train", "test"):
                check_integer(f"{name}: sizes of {part}", task["sizes"][part], least=1)
        methods = check_instance(f"{name}: methods", task["methods"], dict, "an object")
        for method, figures in methods.items():
            check_instance(f"{name}: {method}", figures, dict, "an object")
            for measure in (*FRACTIONS, "test_perplexity"):
                if measure in figures:
                    _check_values(f"{name}: {method}: {measure}", figures[measure], measure, seeds)
        _check_distinct(name, methods, seeds)


def _check_values(name: str, values: Any, measure: str, seeds: int) -> None:
    """One number per seed; a record of before may have one for all, or none."""
    check_instance(name, values, list, "a list")
    if len(values) not in (0, 1, seeds):
        raise ValueError(f"{name} must have a value for each of {seeds} seeds, got {len(values)}")
    bounds = dict(least=0, most=1) if measure in FRACTIONS else dict(least=1, below=math.inf)
    for value in values if values != [None] * len(values) else ():  # nothing was quantized
        check_number(name, value, **bounds)


def _check_distinct(task: str, methods: Mapping[str, Any], seeds: int) -> None:
    """ValueError if two seeds are one and the same run, which took the same time to the digit."""
    by_seed = [
        tuple(f["seconds"][seed] for f in methods.values() if len(f.get("seconds", ())) == seeds)
        for seed in range(seeds)
    ]
    for one, other in itertools.combinations(range(seeds), 2):
        if any(by_seed[one]) and by_seed[one] == by_seed[other]:  # no time is no sign of that
            raise ValueError(f"{task}: seeds {one} and {other} must be two runs, got one twice")


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records in a folder by name, sorted; those of --quick runs are left out.

    A record is called NAME[-FAMILY][-streamN]-record.json, as `experiment` writes it, with one more
    word if the same ran on other data, say. Old records have such names without "-record".

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
