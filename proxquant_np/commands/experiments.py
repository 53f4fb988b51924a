"""The commands that train and measure: `reproduce`, `search`, `experiment` and `theorems`."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from proxquant_np.commands.arguments import (
    Mistake,
    Unfinished,
    as_path,
    check_matplotlib,
    natural,
    one_of,
    positive,
)
from proxquant_np.files import shown
from proxquant_np.libraries import DEVICES, mover

TRIALS, JOBS = 16, 2


def _add_model(command: argparse.ArgumentParser) -> None:
    models = ("mlp", "cnn", "resnet", "lstm")  # those of experiments.tasks, which is slow to import
    command.add_argument("--model", choices=models, default="mlp", help="network (default mlp)")


def _add_jobs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--jobs",
        type=positive,
        default=JOBS,
        help=f"processes, at most one per run (default {JOBS})",
    )


def _add_rerun(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--rerun",
        choices=["stale"],
        help="stale: run again what other code, NumPy or Python than this has finished",
    )


def _add_stream(command: argparse.ArgumentParser, more: str) -> None:
    command.add_argument(
        "--stream",
        type=natural,
        metavar="N",
        help=f"search with other points, into a file of their own (NAME-streamN.json); {more}",
    )


def _add_trials(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trials",
        type=positive,
        help="per method, and more for all where the best of one lies at an end of its range "
        f"(default {TRIALS})",
    )
    command.add_argument(
        "--halving",
        action="store_true",
        help="search with short runs of all trials, longer ones of the better half, whole ones of "
        "the best quarter",
    )


def _search_into(
    file: Path, options: argparse.Namespace, chosen: Any, task: str, **how: Any
) -> None:
    """Search; print what was written, and where a range was, or still may be, too narrow."""
    from proxquant_np.experiments.search import write_search
    from proxquant_np.files import read_json, read_whole

    try:
        how |= dict(stream=options.stream or 0, halving=options.halving)
        write_search(chosen, task, options.trials or TRIALS, file, **how)
    except OSError as error:
        failed = Path(os.fsdecode(error.filename or ""))
        if options.out is None and file.parent in (failed, failed.parent):
            raise Mistake(
                f"{file} cannot be written ({error.strerror}): write elsewhere with --out"
            ) from None
        raise
    print(f"wrote {shown(file)}")
    report = read_json(read_whole(file))
    for method, ranges in report["extended"].items():
        for name, (low, high) in ranges.items():
            print(f"  the range of {name} of {method} was extended to {low:g}..{high:g}")
    for method, edges in report["at_edge"].items():
        for name, end in edges.items():
            print(f"  the best {name} of {method} is the {end} that was tried")


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="cupy: train on a GPU, by the extra gpu (default cpu); what was begun on one device "
        "goes on on another, equal to rounding",
    )


def add_reproduce(commands: Any) -> None:
    """Add `reproduce`."""
    command = commands.add_parser(
        "reproduce",
        help="ProxQuant against BinaryConnect on handwritten digits (about a minute)",
        description="Train full-precision and binary networks on the digits (lstm: on a text that "
        "comes with Python) by all four methods, with paired seeds. Prints the table, and writes "
        "records, a summary and figures. Finished runs are kept: run again to go on, or with more "
        "seeds.",
    )
    _add_model(command)
    command.add_argument("--seeds", type=positive, default=3, help="paired seeds (default 3)")
    command.add_argument(
        "--out", type=as_path, help="folder to write to (default results[-MODEL][-quick])"
    )
    command.add_argument("--quick", action="store_true", help="far fewer steps: a smoke test")
    _add_jobs(command)
    _add_rerun(command)
    _add_device(command)
    command.set_defaults(
        run=_reproduce,
        mistakes=(ValueError, ModuleNotFoundError),
        stopped="; finished runs are kept, run again to go on",
    )


def _reproduce(options: argparse.Namespace) -> None:
    check_matplotlib()
    mover(options.device)  # now, in one line, if there is none
    from proxquant_np.experiments import binary_digits

    model = options.model
    out = options.out or _default_out(options, *([] if model == "mlp" else [model]))
    summary, results = binary_digits.reproduce(
        options.seeds,
        out,
        model=model,
        quick=options.quick,
        jobs=options.jobs,
        rerun=options.rerun,
        device=options.device,
    )
    _tell(binary_digits.EXPERIMENT, summary, out, lambda: binary_digits.draw(model, results, out))


def _tell(chosen: Any, summary: Any, out: Path, draw: Callable[[], list[Path]]) -> None:
    """Print the table, then draw; print what was written."""
    from proxquant_np.experiments.summary import summary_file, table

    print(table(chosen, summary))
    for written in (summary_file(chosen.stem, out), *draw()):
        print(f"wrote {shown(written)}")


def _default_out(options: argparse.Namespace, *names: str) -> Path:
    """A folder of its own for each network, experiment and kind of run."""
    return Path("-".join(["results", *names, *(["quick"] if options.quick else [])]))


def add_search(commands: Any) -> None:
    """Add `search`."""
    command = commands.add_parser(
        "search",
        help="choose the hyperparameters that reproduce uses (tens of minutes)",
        description="Search on the validation split, with the same number of trials for every "
        "method. Unless --out or --stream names another file, the one that reproduce reads is "
        "overwritten.",
    )
    _add_model(command)
    _add_trials(command)
    command.add_argument("--out", type=as_path, default=None, help="file to write")
    _add_stream(command, "experiment binary_digits --stream N reads it")
    _add_jobs(command)
    command.set_defaults(run=_search, mistakes=(ValueError,))


def _search(options: argparse.Namespace) -> None:
    from proxquant_np.experiments.binary_digits import EXPERIMENT

    out = options.out or EXPERIMENT.of_stream(options.stream).tasks[options.model].choice
    _search_into(out, options, EXPERIMENT, options.model, jobs=options.jobs)


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        type=as_path,
        metavar="DIR",
        help="folder or file of data that are not part of this package",
    )
    command.add_argument(
        "--download", action="store_true", help="get the data (CIFAR-10) if --data does not exist"
    )


def add_experiment(commands: Any) -> None:
    """Add `experiment`."""
    command = commands.add_parser(
        "experiment",
        help="run one of the experiments behind CLAIMS.md",
        description="Run every task, method and seed of an experiment. Prints the table, and "
        "writes records, a summary and figures. Finished runs are kept and interrupted ones "
        "resume: run again to go on.",
    )
    command.format_help = functools.partial(_with_names, command)
    command.add_argument("name", type=_experiment_name, metavar="NAME")
    command.add_argument("--seeds", type=positive, help="paired seeds (default: its own)")
    _add_jobs(command)
    _add_rerun(command)
    _add_device(command)
    command.add_argument(
        "--out",
        type=as_path,
        help="folder to write to (default results-NAME[-FAMILY][-streamN][-quick])",
    )
    command.add_argument(
        "--budget", type=positive, metavar="MINUTES", help="stop in good order after this time"
    )
    command.add_argument("--quick", action="store_true", help="two seeds, few steps: a smoke test")
    command.add_argument(
        "--only", action="append", metavar="TASK", help="this task alone (repeatable)"
    )
    _add_data(command)
    command.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="run on the cluster of this Dask scheduler, tcp://..., whose workers have the data at "
        "the same absolute path",
    )
    command.add_argument(
        "--search",
        action="store_true",
        help="choose hyperparameters instead, on the validation split, with the same number of "
        "trials for every method; writes the files that the experiment reads or, with --out or "
        "--quick, files in OUT/chosen, which it reads first with the same --out",
    )
    _add_trials(command)
    _add_stream(command, "or, without --search, run with what that search chose")
    command.add_argument(
        "--family",
        choices=("published", "searched", "equal-rates"),
        help="published: each method by its published schedule; searched (default): as a search "
        "chose for each; equal-rates: both at the rate of one of them",
    )
    command.set_defaults(
        jobs=None,  # to tell whether it was given
        run=_experiment,
        mistakes=(ValueError, ModuleNotFoundError),
        stopped="; finished runs are kept, run again to go on",
    )


def _with_names(command: argparse.ArgumentParser) -> str:
    """The help, with the names of all experiments, which are slow to import."""
    from proxquant_np.experiments.catalog import EXPERIMENTS

    command.epilog = f"The experiments are {', '.join(EXPERIMENTS)}."
    return argparse.ArgumentParser.format_help(command)


def _experiment_name(text: str) -> str:
    from proxquant_np.experiments.catalog import EXPERIMENTS

    return one_of("experiment", text, EXPERIMENTS)


def _experiment(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import experiment as experiments
    from proxquant_np.experiments import summary as summaries
    from proxquant_np.experiments.catalog import experiment_named
    from proxquant_np.experiments.runner import OutOfTime
    from proxquant_np.experiments.search import stages

    _check_together(options)
    if not options.search:
        check_matplotlib()
    chosen = experiment_named(options.name).of_stream(options.stream).of_family(options.family)
    if options.dask is not None and find_spec("distributed") is None:
        raise ModuleNotFoundError("--dask needs Dask: pip install 'proxquant-np[sweep]'")
    if options.dask is None:
        mover(options.device)  # now, in one line, if there is none; on a cluster workers have it
    if options.download:
        options.data = experiments.downloaded(chosen, options.data)
    data = experiments.checked_data(chosen, options.data)
    tasks = experiments.checked_tasks(chosen, options.only)
    out = options.out or _default_out(options, chosen.stem)
    running = dict(
        quick=options.quick,
        data=data,
        jobs=options.jobs or JOBS,
        dask=options.dask,
        rerun=options.rerun,
        device=options.device,
        deadline=experiments.deadline(options.budget),
    )
    try:
        if options.search:
            stages(chosen)  # an error if there is nothing to search
            if options.quick or options.out is not None:  # not into the package
                chosen = chosen.searched_in(out)
                (out / "chosen").mkdir(parents=True, exist_ok=True)
            for task in tasks:
                file = chosen.tasks[task].choice
                _search_into(file, options, chosen, task, out=out / "search", **running)
            return
        seeds = options.seeds or (2 if options.quick else chosen.seeds)
        summary, _ = summaries.measure(chosen, seeds, out, tasks=tasks, **running)
    except OutOfTime as unfinished:
        raise Unfinished(unfinished) from None
    _tell(chosen, summary, out, lambda: summaries.draw(chosen, summary, out / chosen.stem))


def _check_together(options: argparse.Namespace) -> None:
    """Mistake, if one option would do nothing beside another, or without it."""
    if not options.search:
        for name in ("trials", "halving"):
            if getattr(options, name):
                raise Mistake(f"--{name} goes with --search")
    elif options.seeds:
        raise Mistake("--seeds does not go with --search, which has seeds of its own")
    if options.dask is not None and options.jobs:
        raise Mistake("--jobs does not go with --dask, whose workers decide how many run")


def add_theorems(commands: Any) -> None:
    """Add `theorems`."""
    command = commands.add_parser(
        "theorems",
        help="try every theorem on random problems (a few minutes)",
        description="Try every theorem on random problems, and write a record of the largest "
        "violation of each.",
    )
    command.add_argument("--instances", type=positive, default=500, help="each (default 500)")
    _add_jobs(command)
    command.add_argument(
        "--out", type=as_path, default=Path("results-theorems"), help="folder to write to"
    )
    command.set_defaults(run=_theorems)


def _theorems(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import theorems
    from proxquant_np.experiments.summary import keep_summary, summary_file, write_summary

    keep_summary(
        summary_file("theorems", options.out),
        lambda held: (max(tried["instances"] for tried in held["theorems"].values()), ()),
        options.instances,
    )
    record = theorems.measure(options.instances, jobs=options.jobs)
    print(theorems.table(record))
    print(f"wrote {shown(write_summary(record, options.out))}")
