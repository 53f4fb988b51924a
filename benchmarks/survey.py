"""What published quantizers and proxes do: the record behind notebook 13 and figures/survey.*.

    python -m benchmarks.survey [--only NAME ...] [--shared SITE-PACKAGES] [--list]

Outside of CI. For each entry of survey_entries.py, pip installs the pinned packages into a
throw-away environment; a process there answers, and survey_measures.py asks. The conformance kit
then says what it makes of the same function. A new entry is put into figures/survey.json, where the
others stay, and the pictures are drawn anew. --shared names a folder of site-packages in which
large packages, such as torch, are installed already.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import proxquant_np as pq
from benchmarks.survey_entries import ENTRIES, Entry, read, write
from benchmarks.survey_measures import Quantizer, Refused, prox_record, quantizer_record
from proxquant_np import conformance, plotting

FIGURE = Path(__file__).parents[1] / "figures/survey"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 600  # for pip, and for a process to end
TRIED = ("fastprox==1.0.1", "proxlib==0.0.1", "proxalgs==0.2.4")
"""Packages that belong here, but could not be installed with Python 3.11."""


class Died(Exception):
    """The process is gone: the function ended it."""


class Process:
    """An entry in a process of its own; called, it is the entry's function."""

    def __init__(self, python: Path, name: str):
        command = [python, "-W", "ignore", Path(__file__).parent / "survey_entries.py", name]
        self.errors = tempfile.TemporaryFile()
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.process = subprocess.Popen(command, **pipes)
        self.mutated = False

    def greet(self) -> tuple[list[str], bool]:
        """The versions of its packages, and whether it has a gradient; Died if it did not start."""
        return [str(v) for v in self._read()], bool(self._read())

    def __call__(self, *arguments: Any) -> np.ndarray:
        return self.ask("q", *arguments)

    def gradient(self, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """What w receives if the result receives g."""
        return self.ask("g", w, g)

    def ask(self, which: str, *arguments: Any) -> np.ndarray:
        """The result; Refused with the name of the error, Died if there is no answer."""
        try:
            for part in (which, len(arguments), *arguments):
                write(self.process.stdin, part)
        except BrokenPipeError:
            raise Died from None
        error, after, out = (self._read() for _ in range(3))
        self.mutated |= np.asarray(arguments[0]).tobytes() != after.tobytes()
        if str(error):
            raise Refused(str(error))
        return out

    def end(self) -> None:
        """Let the process end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            stream.close()

    def last_words(self) -> str:
        """The last line that the process wrote as an error."""
        self.process.wait(timeout=SECONDS)
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def _read(self):
        try:
            return read(self.process.stdout)
        except ValueError:
            raise Died from None


@contextmanager
def environment(requires: tuple[str, ...], shared: str | None) -> Iterator[Path]:
    """The Python of a throw-away environment with these packages.

    SubprocessError if pip does not install them, or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        if shared:
            (packages / "zz_shared.pth").write_text(f"{shared}\n", "utf-8")
        python = Path(folder) / "bin/python"
        index = ["--extra-index-url", TORCH_INDEX] * (
            not shared and any("torch" in r for r in requires)
        )
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-cache-dir"]
        told = dict(capture_output=True, text=True, timeout=SECONDS)
        subprocess.run([*pip, *index, *requires], check=True, **told)
        yield python


def measured(python: Path, name: str, entry: Entry) -> dict[str, Any]:
    """The measurements of one entry, and the kit's words; or how it failed."""
    process = Process(python, name)
    try:
        versions, has_gradient = process.greet()
        found = {"versions": versions}
        if entry.penalty is None:
            found |= {"measured": quantizer_record(process, entry.width, entry.peak)}
        else:
            found |= {"measured": prox_record(process, entry.penalty)}
        found["measured"]["input changed"] = process.mutated
        found["kit"] = kit(process, entry, dtypes(found["measured"]["dtypes"]))
        if has_gradient:
            found["gradient"] = gradient(process, entry)
        return found
    except Died:
        return {"failed": "it does not start, or its process ended", "said": process.last_words()}
    finally:
        process.end()


def dtypes(told: dict[str, str]) -> list[str]:
    """Those in which the kit checks: float64 only where it comes back."""
    return ["float32"] + ["float64"] * (told["float64"] == "float64")


def kit(process: Process, entry: Entry, dtypes: list[str]) -> dict[str, Any] | None:
    """What the conformance kit says of it; None if it knows no such definition."""
    if entry.definition is None and entry.penalty is None:
        return None
    matrix = on_matrices(process)
    name, given = entry.definition or (entry.penalty, {})
    if entry.penalty is not None:
        chosen = conformance.penalty(name, **given) if name in conformance.PENALTIES else name
        report = conformance.check_prox(process, chosen, dtypes=dtypes)
    elif name in conformance.RULES:
        chosen = conformance.rule(name, **given)
        report = conformance.check_quantizer(matrix, chosen, dtypes=dtypes)
    else:
        report = conformance.check_quantizer(matrix, name, dtypes=dtypes)
    return {
        "as": " ".join([name, *(f"--{k} {_option(v)}" for k, v in given.items())]),
        "verdict": report.verdict,
        "conventions": [fault.convention for fault in report.faults],
        "first": report.fault.detail.replace("Refused: ", "") if report.fault else "",
    }


def _option(value: Any) -> str:
    return ",".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)


def on_matrices(fn: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """fn of matrices, for weights of any rank: a vector is one row."""

    def of_any_rank(*arrays):
        shape = arrays[0].shape
        rows = shape[0] if len(shape) > 1 else 1
        return fn(*(a.reshape(rows, -1) for a in arrays)).reshape(shape)

    return of_any_rank


def gradient(process: Process, entry: Entry) -> str:
    """Which estimator explains the gradient that passes through it."""
    w = Quantizer(process, entry.width, entry.peak).weights[:1]
    report = conformance.check_gradient(
        process, process.gradient, w, as_="straight_through", dtypes=["float32"]
    )
    return (
        report.definition.partition(" as ")[2]
        if report
        else report.fault.detail.replace("Refused: ", "")
    )


def survey(names: list[str], shared: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The record of each entry, those that need the same packages in one environment."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(ENTRIES[name].requires, []).append(name)
    for requires, together in groups.items():
        try:
            with environment(requires, shared) as python:
                for name in together:
                    yield name, told(name) | measured(python, name, ENTRIES[name])
        except subprocess.SubprocessError as error:
            for name in together:
                yield name, told(name) | {"failed": "pip does not install it", "said": said(error)}


def refused(pins: tuple[str, ...], shared: str | None) -> dict[str, str]:
    """Of these packages, those that pip does not install here, with its last word."""
    found = {}
    for pin in pins:
        try:
            with environment((pin,), shared):
                pass
        except subprocess.SubprocessError as error:
            found[pin] = said(error)
    return found


def said(error: subprocess.SubprocessError) -> str:
    """The last error of pip; or that it took too long."""
    lines = [line for line in str(getattr(error, "stderr", "")).splitlines() if "ERROR" in line]
    return lines[-1][:200] if lines else f"{type(error).__name__} of pip"


def told(name: str) -> dict[str, Any]:
    """What is known of an entry before it runs."""
    entry = ENTRIES[name]
    return {
        "title": entry.title,
        "requires": list(entry.requires),
        "kind": entry.kind,
        "penalty": entry.penalty,
        "note": entry.note,
        "width": entry.width,
        "peak": entry.peak,
        "date": datetime.date.today().isoformat(),
    }


def main() -> None:
    """Measure, and write the record and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ENTRIES, metavar="NAME", help="these entries")
    parser.add_argument("--shared", metavar="SITE-PACKAGES", help="where large packages are")
    parser.add_argument("--list", action="store_true", help="print the names of the entries")
    options = parser.parse_args()
    if options.list:
        print(*(f"{name:24} {entry.title}" for name, entry in ENTRIES.items()), sep="\n")
        return
    path = FIGURE.with_suffix(".json")
    record = json.loads(path.read_text("utf-8")) if path.exists() else {}
    entries = record.get("entries", {})
    for name, found in survey(options.only or [*ENTRIES], options.shared):
        entries[name] = found
        print(name, found.get("failed", "measured"), flush=True)
        path.write_text(json.dumps(record | {"entries": entries}, indent=1) + "\n", "utf-8")
    ordered = {name: entries[name] for name in ENTRIES if name in entries}
    failed = record.get("not installed", {}) if options.only else refused(TRIED, options.shared)
    record = {"proxquant_np": pq.__version__, "entries": ordered, "not installed": failed}
    plotting.save_figure(plotting.survey(record), record, FIGURE)


if __name__ == "__main__":
    main()
