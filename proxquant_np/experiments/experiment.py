"""An experiment: what it is made of, and how it is run.

It is a grid of tasks, methods and seeds, and the claims that it tests. Its module defines it as
EXPERIMENT and has its name. `search` chooses its hyperparameters, `summary` sums it up.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from proxquant_np.checks import check_choice
from proxquant_np.data.download import Download, fetch
from proxquant_np.experiments import protocol
from proxquant_np.experiments.claim import Claim
from proxquant_np.experiments.protocol import (
    FULL_PRECISION,
    FULL_PRECISION_DEFAULT,
    FULL_PRECISION_SPACE,
    Cell,
    Method,
)
from proxquant_np.experiments.runner import run_cells
from proxquant_np.experiments.tasks import Task, chosen_by, same_steps
from proxquant_np.files import written_whole

SEARCHED = "searched"


@dataclass(frozen=True)
class Experiment:
    """A grid of tasks x methods x seeds.

    Args:
        tasks: each a network, its data and how long it is trained.
        measured: the tasks that are run unless others are asked for; by default all.
        train: `protocol.train`, or a function of the same arguments.
        data: what --data must name, if it is taken at all; with `needs_data` the experiment cannot
            do without it, and `download` gets it.
        draw: makes further figures of a summary, at a path without suffix or with more behind it,
            and returns their paths.
        reading: what a summary says, in lines for the ledger.
        grid: what rows and columns are, if tasks are named ROW-COLUMN: the ledger shows a grid.
        stream: which of several searches chose the hyperparameters, see `of_stream`.
        families: by name, what makes of it the experiment with pairs of another family, see
            families.py.
        family: the one that this is; None as searched.
    """

    name: str
    title: str
    tasks: Mapping[str, Task]
    methods: Mapping[str, Method]
    claims: tuple[Claim, ...]
    seeds: int = 10
    measured: tuple[str, ...] = ()
    train: Callable[..., dict[str, Any]] = protocol.train
    data: str | None = None
    needs_data: bool = False
    download: Download | None = None
    draw: Callable[[Mapping[str, Any], Path], list[Path]] | None = None
    reading: Callable[[Mapping[str, Any]], Iterable[str]] | None = None
    grid: tuple[str, str] | None = None
    stream: int | None = None
    families: Mapping[str, Callable[[Experiment], Experiment]] = field(default_factory=dict)
    family: str | None = None

    @property
    def stem(self) -> str:
        """The name of its files, and of its record, without suffix: NAME[-FAMILY][-streamN]."""
        return stem(self.name, self.family, self.stream)

    def of_family(self, family: str | None) -> Experiment:
        """The same experiment with pairs of another family, "published" or "equal-rates".

        None and "searched" are the one that counts without --family.

        Raises:
            ValueError: it has no such family.
        """
        if family in (None, SEARCHED):
            return self
        check_choice("family", family, (SEARCHED, *self.families))
        return replace(self.families[family](self), family=family)

    def of_stream(self, stream: int | None) -> Experiment:
        """The same experiment with the hyperparameters of another search, `search --stream N`.

        Searches draw their points in streams; None is the one that counts without --stream. What
        depends on the stream depends on the luck of a search.
        """
        if stream is None:
            return self
        tasks = {name: task.of_stream(stream) for name, task in self.tasks.items()}
        return replace(self, tasks=tasks, stream=stream)

    def searched_in(self, out: Path) -> Experiment:
        """The same experiment, for which searches in out/chosen count first."""
        tasks = {name: task.searched_in(out / "chosen") for name, task in self.tasks.items()}
        return replace(self, tasks=tasks)

    def hyperparameters(
        self, task: str, method: str, found: Mapping[str, Mapping[str, float]] | None = None
    ) -> dict[str, float]:
        """What a search chose for this task, or else the method's default.

        found: the task's `hyperparameters()`, where they are read already.
        """
        found = self.tasks[task].hyperparameters() if found is None else found
        if method == FULL_PRECISION:
            fixed = self.tasks[task].warm_start.lr
            return {"lr": fixed} if fixed else dict(found.get(method, FULL_PRECISION_DEFAULT))
        own = self.methods[method]
        chosen = own.default if own.source else found.get(own.shares or method, own.default)
        if own.rate_of is not None:
            return own.at_rate(self.hyperparameters(task, own.rate_of, found)["lr"], chosen)
        return dict(chosen)

    def space(self, method: str) -> Mapping[str, tuple[float, float]]:
        """The bounds between which a search draws each coordinate of its points."""
        return FULL_PRECISION_SPACE if method == FULL_PRECISION else self.methods[method].space

    @property
    def rival(self) -> str | None:
        """The method that all claims compare with; None if they have several."""
        rivals = {claim.second for claim in self.claims}
        return rivals.pop() if len(rivals) == 1 else None

    def arguments(
        self,
        task: str,
        method: str,
        seed: int,
        setting: Mapping[str, Any],
        hyperparameters: Mapping[str, float],
        data: str | None = None,
    ) -> dict[str, Any]:
        """A cell as its record describes it: by names, in what JSON can hold.

        data: the path of data; the cell is described by what they hold, wherever they are.
        """
        described: dict[str, Any] = dict(
            experiment=self.name,
            task=task,
            method=method,
            seed=seed,
            setting=dict(setting),
            hyperparameters=dict(hyperparameters),
        )
        if self.family is not None:
            described["family"] = self.family
        if data is not None:
            described["data"] = self.tasks[task].about(data)["data"]
        if method in {FULL_PRECISION, *(m.start for m in self.methods.values())}:
            described["keep_weights"] = True  # others start from them
        return described

    def cell(
        self,
        task: str,
        method: str,
        experiment: str | None = None,
        family: str | None = None,
        **rest: Any,
    ) -> Cell:
        """The cell that such arguments describe: here names become the objects that they name.

        rest: of `Cell`, its `device` among them.

        Raises:
            ValueError: the experiment has another name or family, or no such task or method.
        """
        check_choice("experiment", experiment, (None, self.name))
        check_choice("family", family, (self.family,))
        check_choice("task", task, self.tasks)
        check_choice("method", method, (FULL_PRECISION, *self.methods))
        return Cell(self.tasks[task], self.methods.get(method), **rest)


def stem(name: str, family: str | None = None, stream: int | None = None) -> str:
    """The name of an experiment's files without suffix, from its own and what it was run with.

    Examples:
        >>> from proxquant_np.experiments.experiment import stem
        >>> stem("binary_digits", "equal-rates", 1)
        'binary_digits-equal-rates-stream1'
    """
    parts = [name, family, None if stream is None else f"stream{stream}"]
    return "-".join(part for part in parts if part is not None)


def train(
    experiment: Experiment,
    path: str | None = None,
    /,
    checkpoint: str | None = None,
    deadline: float | None = None,
    data: str | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """The result of the cell that a record's arguments describe. Workers call this function.

    path: where `data`, which the arguments name by their digest, are.

    Raises:
        OSError: other data are there.
    """
    cell = experiment.cell(**arguments, data=path)
    if cell.source().get("data") != data:
        raise OSError(f"{path} holds other data here than where the run was started")
    return experiment.train(cell, checkpoint, deadline)


def downloaded(experiment: Experiment, data: Path | None) -> Path:
    """The path of --data, by default the file's name at its source; downloaded unless it exists.

    Raises:
        ValueError: the experiment has nothing to download.
        OSError: there is no such folder, or an error of `fetch`; nothing is left behind.
    """
    wanted = experiment.download
    if wanted is None:
        raise ValueError(f"{experiment.name} has nothing to --download")
    path = data or Path(wanted.url.rpartition("/")[-1])
    if not path.exists():
        with written_whole(path) as file:
            fetch(wanted, file)
    return path


def checked_data(experiment: Experiment, data: str | Path | None) -> str | None:
    """The absolute path of --data, which the experiment can read; None if there are none.

    Raises:
        ValueError: data are needed but not given, given but not taken, or of the wrong kind.
        FileNotFoundError: there are no data at that path.
    """
    if data is None:
        if experiment.needs_data:
            raise ValueError(f"{experiment.name} needs --data: {experiment.data}")
        return None
    if experiment.data is None:
        raise ValueError(f"{experiment.name} takes no --data, got {data}")
    path = str(Path(data).resolve())
    try:
        next(iter(experiment.tasks.values())).load(path)
    except FileNotFoundError as error:
        if experiment.download is None or Path(path).exists():
            raise
        raise FileNotFoundError(f"{error}, or let --download do so") from None
    return path


def searches(
    experiment: Experiment, tasks: Iterable[str], quick: bool = False
) -> dict[str, dict[str, Any] | None]:
    """The report of the search that counts for each task; None if there is none.

    Raises:
        ValueError: hyperparameters of a stream are asked for, but were not searched for a task; or
            they were searched with other numbers of steps than the task's, as by --quick.
    """
    found, setting = {}, settings(experiment, quick=False)
    for name in tasks:
        task = experiment.tasks[name]
        report = found[name] = task.found()
        if report is None:
            if experiment.stream is not None:
                raise ValueError(
                    f"{experiment.name} has no search of stream {experiment.stream} for {name}: "
                    f"--search --stream {experiment.stream} makes {task.choice.name}"
                )
        elif not quick and report["task"] == task.title:
            if not same_steps(report["setting"], setting[name]):
                steps = report["setting"]["quantizing_steps"]
                raise ValueError(
                    f"{report['file']} must hold a search with the setting of {name}, got one of "
                    f"{steps:,} quantizing steps: move it away, or choose another --out"
                )
    return found


def told(report: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a record keeps of the search that its hyperparameters are from."""
    if report is None:
        return None
    kept = {key: report[key] for key in ("scheme", "stream", "sha256") if key in report}
    return {**kept, "trials": {method: len(trials) for method, trials in report["trials"].items()}}


def checked_tasks(experiment: Experiment, tasks: Iterable[str] | None) -> list[str]:
    """The names of tasks to run, by default those that count; ValueError if one is unknown.

    In a grid of tasks ROW-COLUMN the name of a row stands for all of it.
    """
    names: list[str] = []
    for name in tasks or experiment.measured or experiment.tasks:
        row = [task for task in experiment.tasks if task.startswith(f"{name}-")]
        names += row if experiment.grid is not None and row else [name]
    if unknown := [name for name in names if name not in experiment.tasks]:
        raise ValueError(
            f"{experiment.name} has no task {unknown[0]!r}; there are "
            + ", ".join(experiment.tasks)
        )
    return names


def settings(experiment: Experiment, quick: bool) -> dict[str, dict[str, Any]]:
    """The setting of each task, in what JSON can hold."""
    tasks = experiment.tasks.items()
    return {name: asdict(task.quick if quick else task.setting) for name, task in tasks}


def run(
    experiment: Experiment,
    seeds: int,
    out: Path,
    *,
    tasks: Iterable[str],
    quick: bool = False,
    data: str | None = None,
    **running: Any,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Run (or read) every cell for seeds 0..seeds-1: {task: {method: [result by seed]}}.

    Each result has the "environment" it was made with, its "hyperparameters" and, under "search",
    what is `told` of the search that they are from. running: arguments of `run_cells`.
    """
    cells, starts, methods = {}, {}, [FULL_PRECISION, *experiment.methods]
    names, setting = list(tasks), settings(experiment, quick)
    searched = searches(experiment, names, quick)  # once: a search may end while this runs
    for seed in range(seeds):  # seed by seed, so that a part of the grid is a part of the seeds
        for task in names:
            found = chosen_by(searched[task])
            for method in methods:
                name = f"{task}-{method}-seed{seed}"
                h = experiment.hyperparameters(task, method, found)
                cells[name] = experiment.arguments(task, method, seed, setting[task], h, data)
                if method != FULL_PRECISION:
                    starts[name] = f"{task}-{experiment.methods[method].start}-seed{seed}"
    results = run_cells(
        functools.partial(train, experiment, data),
        cells,
        out=out / "records",
        starts=starts,
        resumable=True,
        description=experiment.name,
        **running,
    )

    def result(task: str, method: str, seed: int) -> dict[str, Any]:
        name = f"{task}-{method}-seed{seed}"
        return {
            **results[name],
            "environment": results.made[name],
            "hyperparameters": cells[name]["hyperparameters"],
            "search": told(searched[task]),
        }

    return {
        task: {method: [result(task, method, seed) for seed in range(seeds)] for method in methods}
        for task in names
    }


def deadline(minutes: float | None) -> float | None:
    """The time of `time.monotonic` that is so many minutes away; None without a limit."""
    return None if minutes is None else time.monotonic() + 60 * minutes
