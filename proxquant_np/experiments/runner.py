"""Experiments: runs the cells of an experiment in parallel and keeps one JSON record of each.

A cell is a function call with JSON-able arguments. Its record is written whole or not at all, with
the arguments, the versions and the machine beside the result; a cell whose record is there with
the same arguments is not run again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import proxquant_np
from proxquant_np.autograd import threads
from proxquant_np.training.checkpoint import written_whole

_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", threads.VARIABLE)


def environment() -> dict[str, str]:
    """The versions and the machine that a record was made with."""
    return {
        "proxquant_np": proxquant_np.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
    }


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as file:
        file.write(text.encode())


def read_record(path: Path, arguments: Mapping[str, Any]) -> Any:
    """The result in a record made with these arguments and this version, else None."""
    try:
        record = json.loads(path.read_text("utf-8"))
        current = record["arguments"] == json.loads(json.dumps(dict(arguments)))
        same_code = record["environment"]["proxquant_np"] == proxquant_np.__version__
        return record["result"] if current and same_code else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(path: Path, arguments: Mapping[str, Any], result: Any) -> None:
    """Write a record; JSON has no infinity, so results must be finite or None."""
    record = {"arguments": dict(arguments), "environment": environment(), "result": result}
    write_text(path, json.dumps(record, allow_nan=False, indent=1) + "\n")


def run_cells(
    function: Callable[..., Any],
    cells: Mapping[str, Mapping[str, Any]],
    *,
    jobs: int,
    out: Path | None = None,
    description: str = "cells",
    progress: bool = True,
) -> dict[str, Any]:
    """{name: function(**arguments)} for all cells, `jobs` at a time in processes of their own.

    `function` is importable by its name, and its results are what JSON holds, None excepted. With
    `out`, records go to out/NAME.json and finished cells are read instead of run. Each process
    computes with one thread, so results do not depend on `jobs`.

    Raises:
        RuntimeError: a cell failed; it names the cell and has the cell's error as its cause. No
            cell is started after that, and those that run are finished and kept.
    """
    from tqdm import tqdm

    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    results: dict[str, Any] = {}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, arguments in cells.items():
            if (found := read_record(out / f"{name}.json", arguments)) is not None:
                results[name] = found
    waiting = [name for name in reversed(cells) if name not in results]
    running: dict[concurrent.futures.Future, str] = {}
    failed: tuple[str, Exception] | None = None
    bar = tqdm(total=len(cells), initial=len(results), desc=description, disable=not progress)
    with bar, _workers(jobs) as pool:
        while running or (waiting and not failed):
            # No more than can run: a cell once handed over could not be called back.
            while waiting and not failed and len(running) < jobs:
                name = waiting.pop()
                running[pool.submit(function, **cells[name])] = name
            done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                name = running.pop(future)
                try:
                    results[name] = future.result()
                    if out is not None:
                        write_record(out / f"{name}.json", cells[name], results[name])
                    bar.update()
                except Exception as error:
                    failed = failed or (name, error)
    if failed:
        name, error = failed
        raise RuntimeError(f"cell {name!r} failed: {error!r}") from error
    return {name: results[name] for name in cells}


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[concurrent.futures.Executor]:
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))  # read when a new process loads its BLAS
    try:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, context) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
