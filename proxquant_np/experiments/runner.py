"""Experiments: runs the cells of an experiment in parallel and keeps one JSON record of each.

A cell is a function call with JSON-able arguments. Its record is written whole or not at all, with
the arguments, the versions and the machine beside the result; a cell whose record is there with
the same arguments is not run again. Cells run through joblib: in processes of this machine or, by
the address of its scheduler, on a Dask cluster, which runs the cells of a lost worker elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

import proxquant_np
from proxquant_np.autograd import threads
from proxquant_np.files import json_text
from proxquant_np.training.checkpoint import CheckpointError, written_whole

_LONG = 200  # characters of an argument, from which on its record holds a digest


class OutOfTime(Exception):
    """The time was up before all was done; what is finished, or in a checkpoint, is kept."""


def environment() -> dict[str, Any]:
    """The versions and the machine that a record was made with."""
    return {
        "proxquant_np": proxquant_np.__version__,
        "revision": _revision(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


@functools.cache
def _revision() -> str | None:
    """The commit of the checkout this package is run from, marked if that was changed; or None."""
    root = Path(proxquant_np.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    with contextlib.suppress(OSError):  # no git
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        return done.stdout.strip() or None
    return None


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as file:
        file.write(text.encode())


def recorded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as a record holds them: JSON, a long string replaced by its SHA-256."""
    return {
        name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
        if isinstance(value, str) and len(value) > _LONG
        else json.loads(json.dumps(value))
        for name, value in arguments.items()
    }


def read_record(path: Path, arguments: Mapping[str, Any]) -> Any:
    """The result in a record made with these arguments and this version, else None."""
    try:
        record = json.loads(path.read_text("utf-8"))
        current = record["arguments"] == recorded(arguments)
        same_code = record["environment"]["proxquant_np"] == proxquant_np.__version__
        return record["result"] if current and same_code else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(path: Path, arguments: Mapping[str, Any], result: Any) -> None:
    """Write a record; JSON has no infinity, so results must be finite or None."""
    record = {"arguments": recorded(arguments), "environment": environment(), "result": result}
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
    description: str = "cells",
    progress: bool = True,
) -> dict[str, Any]:
    """{name: function(**arguments)} for all cells, `jobs` at a time in processes of their own.

    Each cell computes with one thread, so results do not depend on `jobs`.

    Args:
        function: importable by its name; its results are what JSON holds, None excepted.
        cells: name to arguments, which JSON must hold, too.
        jobs: at a time; 1 runs them in this process.
        out: a folder. Records go to out/NAME.json, and finished cells are read instead of run.
        starts: of some cells, the cell that must be finished before, whose result["weights"] is
            its argument `start`.
        resumable: the function also takes `checkpoint`, the path (without suffix) of files that
            are its to keep until it has returned, None without `out`; and `deadline`.
        deadline: in seconds as `time.time` counts them. No cell is started after it, and a
            resumable one is to raise OutOfTime soon.
        dask: the address of a Dask scheduler, "tcp://...", whose workers run the cells, as many at
            a time as they have threads; `jobs` is not used. Records are written here. To resume a
            lost worker's cells where they were, `out` must be a folder that all workers see.

    Raises:
        RuntimeError: a cell failed; it names the cell and has the cell's error as its cause. No
            cell is started after that, and those that run are finished and kept.
        OSError: the same, if the cell's error was one (a full disk, say) or a CheckpointError; or
            one of the processes was killed.
        BlockingIOError: another process is running cells with the same `out`; none is started.
        OutOfTime: the deadline came first.
        ValueError: jobs below 1, a start that is not a cell, or starts in a circle.
    """
    from joblib import Parallel, delayed  # here, as tqdm: the command line starts sooner
    from tqdm import tqdm

    starts = starts or {}
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    if unknown := set(starts.values()) - set(cells):
        raise ValueError(f"starts must name cells, got {sorted(unknown)}")
    results: dict[str, Any] = {}
    failed: list[tuple[str, Exception]] = []
    left = dict.fromkeys(cells)  # an ordered set
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if resumable:
            (out / "checkpoints").mkdir(exist_ok=True)

    def arguments_of(name: str) -> dict[str, Any]:
        start = {"start": results[starts[name]]["weights"]} if name in starts else {}
        return {**cells[name], **start}

    def calls(names: list[str]) -> Iterator[Any]:
        for name in names:  # asked for the next one only when it can run
            if failed or (deadline is not None and time.time() > deadline):
                return
            arguments = arguments_of(name)
            if resumable:
                stem = None if out is None else _checkpoint(out, name, arguments)
                arguments |= {"checkpoint": stem, "deadline": deadline}
            yield delayed(_attempt)(function, name, arguments)

    def ready() -> list[str]:
        return [name for name in left if starts.get(name) not in left]

    def read() -> None:
        """Take over the records of all cells that could be run now, and what could then be run."""
        found = {}
        for name in ready() if out is not None else ():
            result = read_record(out / f"{name}.json", arguments_of(name))
            if result is not None:
                found[name] = result
        if found:
            results.update(found)
            for name in found:
                del left[name]
            read()

    read()
    bar = tqdm(
        total=len(cells),
        initial=len(results),
        desc=description,
        disable=not progress,
        smoothing=0,  # the time left is estimated from all cells run
    )
    with bar, _alone(out), _backend(dask):
        while left and not failed:
            names = ready()
            if not names:
                raise ValueError(f"starts must not lead in a circle, got {starts}")
            parallel = Parallel(
                jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1
            )
            for name, result, error in _until_killed(parallel(calls(names))):
                if isinstance(error, OutOfTime):
                    continue
                try:
                    if error is not None:
                        raise error
                    if out is not None:
                        arguments = arguments_of(name)
                        write_record(out / f"{name}.json", arguments, result)
                        stem = Path(_checkpoint(out, name, arguments))
                        for path in stem.parent.glob(f"*{stem.name}*"):
                            path.unlink()
                    results[name] = result
                    del left[name]
                    bar.update()
                except Exception as problem:
                    failed.append((name, problem))
            if not failed and left.keys() & set(names):  # some were not run, or not to their end
                raise OutOfTime(
                    f"the time is up: {len(results)} of {len(cells)} runs are finished and kept; "
                    "run again to go on"
                )
            read()
            bar.update(len(results) - bar.n)
    if failed:
        name, error = failed[0]
        if isinstance(error, OSError | CheckpointError):  # of the user's files, not of the code
            raise OSError(f"cell {name!r} failed: {error}") from error
        raise RuntimeError(f"cell {name!r} failed: {error!r}") from error
    return {name: results[name] for name in cells}


def _checkpoint(out: Path, name: str, arguments: Mapping[str, Any]) -> str:
    """Where a cell with these arguments, and no others, keeps its checkpoints."""
    text = json.dumps(recorded(arguments), sort_keys=True)
    return str(out / "checkpoints" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}")


def _attempt(
    function: Callable[..., Any], name: str, arguments: Mapping[str, Any]
) -> tuple[str, Any, Exception | None]:
    """(name, result, None) or (name, None, error), computed with one thread."""
    before = threads.get_num_threads()
    threads.set_num_threads(1)
    try:
        return name, function(**arguments), None
    except Exception as error:
        return name, None, error
    finally:
        threads.set_num_threads(before)


def _until_killed(results: Iterator[Any]) -> Iterator[Any]:
    """The results; instead of joblib's error when one of its processes is lost, one that helps."""
    try:
        yield from results
    except BrokenProcessPool:
        raise OSError(
            "a process that ran cells was killed (the system does so when memory runs out: use "
            "fewer jobs); what is finished is kept, run again to go on"
        ) from None


@contextlib.contextmanager
def _alone(out: Path | None) -> Iterator[None]:
    """Refuses to run while another process runs cells with this folder.

    Two could not damage it, for every file is written whole, but would do all work twice and take
    each other's checkpoints away. SQLite's lock is on every system the system's own: it ends
    with the process, also one that is killed. (Its file stays; removing it would be a race.)
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


@contextlib.contextmanager
def _backend(dask: str | None) -> Iterator[None]:
    """Where joblib runs what it is given: here, or by a Dask scheduler."""
    if dask is None:
        yield
        return
    import joblib
    from distributed import Client

    try:
        client = Client(dask)
    except (OSError, ValueError) as error:
        raise OSError(f"no Dask scheduler at {dask}: {error}") from error
    with client, joblib.parallel_config("dask", client=client):
        yield
