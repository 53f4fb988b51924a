"""Runs the cells of an experiment in parallel, and keeps one JSON record of each.

A cell is a function call whose arguments JSON can hold. It is done, and not run again, when its
record is written: the result, the arguments and what it was made with (`provenance`). Cells run in
processes of this machine or on a Dask cluster, which replaces a lost worker (`workers`).
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxquant_np import libraries, provenance
from proxquant_np.autograd import threads
from proxquant_np.checks import check_choice, check_integer
from proxquant_np.experiments import workers
from proxquant_np.files import json_text, read_json, read_whole
from proxquant_np.provenance import environment as environment
from proxquant_np.training.checkpoint import CheckpointError, written_whole
from proxquant_np.training.progress import progress_bar, say

_LONG = 200  # characters; of a longer argument a record holds the digest


class OutOfTime(Exception):
    """Time ran out before everything was done; what is finished or in a checkpoint is kept."""


class Results(dict[str, Any]):
    """{cell: result}; `made` is {cell: the environment it was made with, None if unknown}."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, Mapping[str, Any] | None] = {}


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as file:
        file.write(text.encode())


def recorded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as a record holds them: in JSON, with long strings replaced by their SHA-256."""
    return {
        name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
        if isinstance(value, str) and len(value) > _LONG
        else json.loads(json.dumps(value))
        for name, value in arguments.items()
    }


def read_record(path: Path, arguments: Mapping[str, Any]) -> Any:
    """The result in a record, or None if it was made with other arguments or another version."""
    record = _current(path, arguments)
    return None if record is None else record["result"]


def _current(path: Path, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    record = _whole(path)
    if record is None or record["arguments"] != recorded(arguments):
        return None
    return record if record["environment"]["proxquant_np"] == provenance.__version__ else None


def _whole(path: Path) -> dict[str, Any] | None:
    """What a record holds; None if there is none or it is damaged.

    What cannot be read at all, such as a pipe, is an OSError: it could not be replaced either.
    """
    try:
        record = read_json(read_whole(path))
        whole = {"arguments", "environment", "result"} <= record.keys()
        return record if whole and record["environment"]["proxquant_np"] else None
    except (FileNotFoundError, ValueError, AttributeError, KeyError, TypeError):
        return None


def write_record(
    path: Path, arguments: Mapping[str, Any], result: Any, made: Mapping[str, Any] | None = None
) -> None:
    """Write a record. Results must be finite or None, for JSON has no infinity.

    made: the environment of the process that computed the result, by default of this one.
    """
    made = environment() if made is None else made
    record = {"arguments": recorded(arguments), "environment": made, "result": result}
    write_text(path, json_text(record, path))


def run_cells(
    function: Callable[..., Any],
    cells: Mapping[str, Mapping[str, Any]],
    *,
    jobs: int,
    out: Path | None = None,
    starts: Mapping[str, str] | None = None,
    resumable: bool = False,
    deadline: float | None = None,
    dask: str | None = None,
    rerun: str | None = None,
    device: str = "cpu",
    description: str = "cells",
    progress: bool = True,
) -> Results:
    """{name: function(**arguments)} for all cells, `jobs` at a time in processes of their own.

    Each cell computes with one thread, so results do not depend on `jobs`.

    Args:
        function: what JSON can hold, other than None, from a cell's arguments.
        cells: from names to arguments, which JSON must be able to hold, too.
        jobs: how many run at a time, at most as many as there are cells; 1 runs them in this
            process.
        out: a folder. Records go to out/NAME.json (or beside it, if that has other arguments:
            nothing is overwritten). Finished cells are read instead of run, including those that
            other code of the same version has made; `made` of the results says which.
        starts: for some cells, the name of a cell that has to be finished before: its
            result["weights"] becomes the argument `start`.
        resumable: whether the function also takes `checkpoint`, the path (without suffix) of files
            that it may keep until it returns, None without `out`; and `deadline`, a time of
            `time.monotonic` where it runs.
        deadline: a time of `time.monotonic` here. No cell is started after it, and a resumable one
            has to raise OutOfTime soon after it.
        dask: the address of a Dask scheduler, "tcp://...". Its workers run the cells, as many at a
            time as they have threads, and `jobs` is not used. Records are written here. To resume
            the cells of a lost worker where they were, all workers must see `out` under the same
            path; a worker that does not see it keeps no checkpoints.
        rerun: "stale" runs again what was made, or may have been made, by other code, NumPy or
            Python (`provenance.is_same_code`).
        device: one of `libraries.DEVICES`. If it is not "cpu", the function takes it, too. It is
            not one of a cell's arguments: a cell that was begun on one device goes on on another,
            and one that is done is done. Its record says where it ended.

    Raises:
        RuntimeError: a cell failed. The message names the cell, and the cell's error is the cause.
            No cell is started after that, but those that run are finished and kept.
        OSError: the same, if the cell's error was an OSError (such as a full disk) or a
            CheckpointError; or a process was killed; or the scheduler is gone or has given up a
            cell whose workers were lost.
        BlockingIOError: another process is running cells with the same `out`; none is started.
        OutOfTime: the deadline came first.
        ValueError: jobs below 1, an unknown rerun, a start that is not a cell, starts in a circle.
    """
    starts = starts or {}
    check_integer("jobs", jobs, least=1)
    check_choice("rerun", rerun, (None, "stale"))
    check_choice("device", device, libraries.DEVICES)
    if unknown := set(starts.values()) - set(cells):
        raise ValueError(f"starts must name cells, got {sorted(unknown)}")
    _check_circles(starts)
    if out is not None:
        out = out.absolute()  # workers may be in other folders
        out.mkdir(parents=True, exist_ok=True)
        if resumable:
            (out / "checkpoints").mkdir(exist_ok=True)
    grid = _Grid(function, cells, starts, out, resumable, deadline, rerun, device)
    with _alone(out):
        grid.read()
        with progress_bar(
            progress,
            total=len(cells),
            initial=len(grid.results),
            desc=description,
            smoothing=0,  # the time left is estimated from all finished cells
        ) as bar:
            if grid.left:
                with _pool(min(jobs, len(grid.left)), jobs, dask) as pool:
                    grid.run(pool, bar)
    return grid.whole()


def _check_circles(starts: Mapping[str, str]) -> None:
    for name in starts:
        seen = {name}
        while (name := starts.get(name)) is not None:
            if name in seen:
                raise ValueError(f"starts must not lead in a circle, got {dict(starts)}")
            seen.add(name)


def _pool(n: int, jobs: int, dask: str | None) -> workers.Workers:
    if dask is not None:
        return workers.Dask(dask)
    return workers.Here() if jobs == 1 else workers.Processes(n)


@dataclass
class _Grid:
    """The cells of one call of `run_cells`, and their progress."""

    function: Callable[..., Any]
    cells: Mapping[str, Mapping[str, Any]]
    starts: Mapping[str, str]
    out: Path | None
    resumable: bool
    deadline: float | None
    rerun: str | None
    device: str
    results: Results = field(default_factory=Results)
    running: set[str] = field(default_factory=set)
    failed: list[tuple[str, Exception]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = dict.fromkeys(self.cells)  # an ordered set: those neither done nor given up

    def arguments(self, name: str) -> dict[str, Any]:
        start = {}
        if name in self.starts:
            start["start"] = self.results[self.starts[name]]["weights"]
        return {**self.cells[name], **start}

    def ready(self) -> list[str]:
        done, starts = self.results, self.starts
        return [
            name
            for name in self.left
            if name not in self.running and (name not in starts or starts[name] in done)
        ]

    def record(self, name: str, arguments: Mapping[str, Any]) -> Path:
        """out/NAME.json, or a file beside it if that is the record of other arguments."""
        path = self.out / f"{name}.json"
        other = _whole(path)
        if other is None or other["arguments"] == recorded(arguments):
            return path
        return self.out / f"{name}-{_digest(recorded(arguments))}.json"

    def read(self, start: str | None = None) -> None:
        """Take over records: of the cells that start from none, or from this one, and so on."""
        for name in [name for name in self.left if self.starts.get(name) == start]:
            if self.out is not None and self.take(name):
                self.read(name)

    def take(self, name: str) -> bool:
        """Take over the record of a cell; whether there is one that counts."""
        arguments = self.arguments(name)
        record = _current(self.record(name, arguments), arguments)
        if record is None or record["result"] is None:
            return False
        if self.rerun == "stale" and not provenance.is_same_code(record["environment"]):
            return False
        self.done(name, arguments, record["result"], record["environment"])
        return True

    def done(self, name: str, arguments: Mapping[str, Any], result: Any, made: Any) -> None:
        """Note that a cell is done: its record is written, and its checkpoints are removed."""
        self.results[name], self.results.made[name] = result, made
        del self.left[name]
        if self.resumable and self.out is not None:
            stem = _checkpoint(self.out, name, arguments)
            for path in stem.parent.glob(f"*{stem.name}*"):
                path.unlink(missing_ok=True)

    def run(self, pool: Any, bar: Any) -> None:
        """Run all that is left, as far as time and errors allow; wait for those that run."""
        try:
            while True:
                names = [] if self.failed or self.is_late() else self.ready()
                for name in names:
                    if pool.room() < 1 or self.failed or self.is_late():
                        break
                    self.start(pool, name)
                if not self.running:
                    if not names:
                        return
                    time.sleep(0.5)  # for a cluster without workers
                for reply in pool.finished():
                    self.keep(*reply)
                bar.update(len(self.results) - bar.n)
        except BaseException:
            for reply in pool.stop():
                self.keep(*reply)
            raise

    def start(self, pool: Any, name: str) -> None:
        arguments = self.arguments(name)
        stem, seconds = None, None
        if self.resumable and self.out is not None:
            stem = str(_checkpoint(self.out, name, arguments))
            _tell_of_others(Path(stem), name)
        if self.deadline is not None:
            seconds = self.deadline - time.monotonic()
        files = (stem, seconds) if self.resumable else None
        self.running.add(name)
        pool.start(_attempt, self.function, name, arguments, files, self.device)

    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def keep(self, name: str, result: Any, error: Exception | None, made: Any) -> None:
        self.running.discard(name)
        if isinstance(error, OutOfTime):
            self.left.pop(name)
            return
        try:
            if error is not None:
                raise error
            arguments = self.arguments(name)
            if self.out is not None:
                write_record(self.record(name, arguments), arguments, result, made)
            self.done(name, arguments, result, made)
            self.read(name)
        except Exception as problem:
            self.left.pop(name, None)
            self.failed.append((name, problem))

    def whole(self) -> Results:
        """The results in the order of the cells; if some are missing, the error that says why."""
        if self.failed:
            name, error = self.failed[0]
            if isinstance(error, OSError | CheckpointError):  # of the user's files, not of the code
                raise OSError(f"cell {name!r} failed: {error}") from error
            raise RuntimeError(f"cell {name!r} failed: {error!r}") from error
        if len(self.results) < len(self.cells):
            raise OutOfTime(
                f"the time is up: {len(self.results)} of {len(self.cells)} runs are finished and "
                "kept; run again to go on"
            )
        ordered = Results()
        for name in self.cells:
            ordered[name], ordered.made[name] = self.results[name], self.results.made[name]
        return ordered


def _checkpoint(out: Path, name: str, arguments: Mapping[str, Any]) -> Path:
    """Where a cell keeps its checkpoints if this code runs it with these arguments."""
    made = environment()
    code = [made[key] for key in ("proxquant_np", "digest", "python", "numpy")]
    return out / "checkpoints" / f"{name}-{_digest([recorded(arguments), code])}"


def _tell_of_others(stem: Path, name: str) -> None:
    """Say so if a cell begins anew beside a checkpoint of it that this run cannot go on from."""
    held = [p.name for p in stem.parent.glob(f"{glob.escape(name)}-{'[0-9a-f]' * 12}*")]
    if held and not any(file.startswith(stem.name) for file in held):
        say(f"{name} begins anew: {held[0]} is of other arguments, code, Python or NumPy")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _attempt(
    function: Callable[..., Any],
    name: str,
    arguments: Mapping[str, Any],
    files: tuple[str | None, float | None] | None,
    device: str,
) -> tuple[str, Any, Exception | None, dict[str, Any] | None]:
    """(name, result, error, environment), where the result or the error is None; in one thread.

    files: for a resumable cell, its checkpoint and for how many seconds it may run.
    """
    if files is not None:
        stem, seconds = files
        if stem is not None and not Path(stem).parent.is_dir():
            stem = None  # a folder that this machine does not see
        until = None if seconds is None else time.monotonic() + seconds
        arguments = {**arguments, "checkpoint": stem, "deadline": until}
    if device != "cpu":
        arguments = {**arguments, "device": device}
    try:
        with threads.one_thread():
            return name, function(**arguments), None, environment(device)
    except Exception as error:
        return name, None, error, None


@contextlib.contextmanager
def _alone(out: Path | None) -> Iterator[None]:
    """Refuse to run while another process runs cells with this folder.

    Two processes could not damage it, for every file is written whole, but they would do all work
    twice and remove each other's checkpoints. SQLite uses each system's own locks, which end with
    the process, even if that is killed. (The file stays; removing it would be a race.)
    """
    if out is None:
        yield
        return
    with contextlib.ExitStack() as held:
        try:
            lock = held.enter_context(contextlib.closing(sqlite3.connect(out / ".lock", timeout=0)))
            lock.execute("PRAGMA journal_mode = MEMORY")  # no second file
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise BlockingIOError(f"{out} is in use by another process") from None
            raise OSError(f"{out / '.lock'}: {error}") from error
        yield
