"""The command line, `proxquant-np COMMAND`: each command is the function that adds it to the
parser and, below, the function that runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import proxquant_np
from proxquant_np.autograd import memory
from proxquant_np.experiments import EXPERIMENTS
from proxquant_np.files import shown
from proxquant_np.training.progress import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code.

    0 on success, 1 if a check failed or the time was up, 2 on a user's mistake; 130 after Ctrl-C,
    and as the system counts 128 + the signal's number, after SIGTERM (143) and SIGHUP (129), which
    are treated as Ctrl-C.
    """
    parser = _Parser(
        prog="proxquant-np", description="Quantized training from first principles, in NumPy."
    )
    parser.add_argument("--version", action="version", version=proxquant_np.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    parser.set_defaults(stopped="")
    options = parser.parse_args(arguments)
    if os.environ.setdefault(memory.VARIABLE, "1") == "1":  # for the processes it starts, too
        proxquant_np.keep_memory()
    with _as_ctrl_c() as received:
        try:
            return options.run(options) or 0
        except _Unfinished as unfinished:
            say(f"proxquant-np: {shown(unfinished)}")
            return 1
        except KeyboardInterrupt:
            say(f"\nstopped{options.stopped}")
            return 128 + (received or [signal.SIGINT])[0]
        except (OSError, _Mistake, *getattr(options, "mistakes", ())) as error:  # of the user
            say(f"proxquant-np: {shown(' '.join(str(error).split()))}")
            return 2


@contextlib.contextmanager
def _as_ctrl_c() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP, unless they are ignored (nohup), do what Ctrl-C does where it comes: in
    training, the step is finished and saved. The list holds the first of them.
    """
    received: list[int] = []

    def handle(signum: int, frame: Any) -> None:
        received.append(signum)
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:  # ignored, as in the background of a script
            raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, handle)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Parser(argparse.ArgumentParser):
    """Its errors repeat arguments, which may be the names of files from anywhere."""

    def error(self, message: str) -> NoReturn:
        super().error(shown(message))


class _Unfinished(Exception):
    """The command ended in good order before its work was done; its message says how to go on."""


_Mistake = argparse.ArgumentTypeError


def _check_matplotlib() -> None:
    """Does it like the environment? Asked by what will draw, before hours of work, not after."""
    try:
        import matplotlib  # noqa: F401
    except ValueError as error:  # an unknown MPLBACKEND
        raise _Mistake(f"matplotlib cannot be imported: {error}") from None


def _one_of(kind: str, text: str, names: Iterable[str]) -> str:
    """The text if it is one of the names, else an error with the nearest."""
    names = list(names)
    if text in names:
        return text
    close = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
    raise _Mistake(f"no {kind} is called {text!r}; {hint}")


def _positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 6 or int(text) < 1:  # so many runs would never end
        raise _Mistake(f"must be an integer in 1..999999, got {text[:20]!r}")
    return int(text)


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise _Mistake(f"must name a file or a folder, got {text!r}")
    return Path(text)


# Experiments -------------------------------------------------------------------------------------


def _add_model(command: argparse.ArgumentParser) -> None:
    models = ("mlp", "cnn", "resnet", "lstm")  # those of experiments.tasks, which imports a lot
    command.add_argument("--model", choices=models, default="mlp", help="network (default mlp)")


def _add_jobs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--jobs", type=_positive, default=2, help="processes, at most one a run (default 2)"
    )


def _add_rerun(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--rerun",
        choices=["stale"],
        help="stale: run again what was finished by other code, NumPy or Python than this",
    )


def _add_reproduce(commands: Any) -> None:
    command = commands.add_parser(
        "reproduce",
        help="ProxQuant against BinaryConnect on handwritten digits (about a minute)",
        description="Train full-precision and binary networks on the digits (lstm: on a text that "
        "Python brings along), by all four methods, with paired seeds; print the table, write "
        "records and figures. Finished runs are kept: run again to go on, or with more seeds.",
    )
    _add_model(command)
    command.add_argument("--seeds", type=_positive, default=3, help="paired seeds (default 3)")
    command.add_argument(
        "--out", type=_path, help="folder to write to (default results[-MODEL][-quick])"
    )
    command.add_argument("--quick", action="store_true", help="far fewer steps: a smoke test")
    _add_jobs(command)
    _add_rerun(command)
    command.set_defaults(run=_reproduce, stopped="; finished runs are kept, run again to go on")


def _reproduce(options: argparse.Namespace) -> None:
    _check_matplotlib()
    from proxquant_np.experiments import binary_digits

    model = options.model
    out = options.out or _default_out(options, *([] if model == "mlp" else [model]))
    result = binary_digits.reproduce(
        options.seeds,
        out,
        model=model,
        quick=options.quick,
        jobs=options.jobs,
        rerun=options.rerun,
    )
    print(binary_digits.table(result))
    for path in binary_digits.draw(result, out):
        print(f"wrote {shown(path)}")


def _default_out(options: argparse.Namespace, *names: str) -> Path:
    """A run of another setting is in another folder."""
    return Path("-".join(["results", *names, *(["quick"] if options.quick else [])]))


def _add_search(commands: Any) -> None:
    command = commands.add_parser(
        "search",
        help="choose the hyperparameters that reproduce uses (tens of minutes)",
        description="Random search on the validation split, the same number of trials for every "
        "method; overwrites the file that reproduce reads unless --out names another.",
    )
    _add_model(command)
    command.add_argument("--trials", type=_positive, default=16, help="per method (default 16)")
    command.add_argument("--out", type=_path, default=None, help="file to write")
    _add_jobs(command)
    command.set_defaults(run=_search)


def _search(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import experiment as experiments
    from proxquant_np.experiments.binary_digits import EXPERIMENT

    out = options.out or EXPERIMENT.tasks[options.model].choice
    experiments.write_search(EXPERIMENT, options.model, options.trials, out, jobs=options.jobs)
    print(f"wrote {shown(out)}")


def _add_experiment(commands: Any) -> None:
    command = commands.add_parser(
        "experiment",
        help="run one of the experiments behind CLAIMS.md",
        description="Run every method, seed and setting of an experiment; print the table, write "
        "records, a summary and figures. Finished runs are kept and interrupted ones resume: run "
        "again to go on. There are: " + ", ".join(EXPERIMENTS) + ".",
    )
    command.add_argument("name", type=_experiment_name, metavar="NAME")
    command.add_argument("--seeds", type=_positive, help="paired seeds (default: its own)")
    _add_jobs(command)
    _add_rerun(command)
    command.add_argument(
        "--out", type=_path, help="folder to write to (default results-NAME[-quick])"
    )
    command.add_argument(
        "--budget", type=_positive, metavar="MINUTES", help="stop in good order after so long"
    )
    command.add_argument("--quick", action="store_true", help="two seeds, few steps: a smoke test")
    command.add_argument(
        "--only", action="append", metavar="SETTING", help="this setting alone (repeatable)"
    )
    command.add_argument("--data", type=_path, metavar="DIR", help="data that are not included")
    command.add_argument(
        "--download", action="store_true", help="get the data (CIFAR-10) if --data is not there"
    )
    command.add_argument(
        "--dask", metavar="ADDRESS", help="run on the cluster of this Dask scheduler, tcp://..."
    )
    command.add_argument(
        "--search",
        action="store_true",
        help="instead, choose hyperparameters: random search on the validation split, the same "
        "number of trials for every method; writes the files that the experiment reads",
    )
    command.add_argument("--trials", type=_positive, default=16, help="per method (default 16)")
    command.set_defaults(
        run=_experiment,
        mistakes=(ValueError, ModuleNotFoundError),
        stopped="; finished runs are kept, run again to go on",
    )


def _experiment_name(text: str) -> str:
    return _one_of("experiment", text, EXPERIMENTS)


def _experiment(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import experiment as experiments
    from proxquant_np.experiments.catalog import experiment_named
    from proxquant_np.experiments.runner import OutOfTime

    if not options.search:
        _check_matplotlib()
    chosen = experiment_named(options.name)
    if options.dask is not None and find_spec("distributed") is None:
        raise ModuleNotFoundError("--dask needs Dask: pip install 'proxquant-np[sweep]'")
    if options.download:
        options.data = experiments.downloaded(chosen, options.data)
    data = experiments.checked_data(chosen, options.data)
    tasks = experiments.checked_tasks(chosen, options.only)
    out = options.out or _default_out(options, options.name)
    running = dict(
        quick=options.quick,
        data=data,
        jobs=options.jobs,
        dask=options.dask,
        rerun=options.rerun,
        deadline=experiments.deadline(options.budget),
    )
    try:
        if options.search:
            for task in tasks:
                path = chosen.tasks[task].choice
                if options.out is not None:
                    path = out / path.name
                path.parent.mkdir(parents=True, exist_ok=True)
                experiments.write_search(
                    chosen, task, options.trials, path, out=out / "search", **running
                )
                print(f"wrote {shown(path)}")
            return
        seeds = options.seeds or (2 if options.quick else chosen.seeds)
        experiments.check_out(chosen, out, seeds, tasks, options.quick)
        results = experiments.run(chosen, seeds, out, tasks=tasks, **running)
    except OutOfTime as unfinished:
        raise _Unfinished(unfinished) from None
    summary = experiments.summary(chosen, results, options.quick)
    print(experiments.table(chosen, summary))
    for path in (
        experiments.write_summary(summary, out),
        *experiments.draw(chosen, summary, out / chosen.name),
    ):
        print(f"wrote {shown(path)}")


def _add_theorems(commands: Any) -> None:
    command = commands.add_parser(
        "theorems",
        help="try every theorem on random problems (a few minutes)",
        description="Try every theorem on random problems, and write a record of the largest "
        "violation of each.",
    )
    command.add_argument("--instances", type=_positive, default=500, help="each (default 500)")
    _add_jobs(command)
    command.add_argument(
        "--out", type=_path, default=Path("results-theorems"), help="folder to write to"
    )
    command.set_defaults(run=_theorems)


def _theorems(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import theorems
    from proxquant_np.experiments.experiment import keep_summary, write_summary

    keep_summary(
        options.out / "theorems-record.json",
        lambda held: (max(tried["instances"] for tried in held["theorems"].values()), {}),
        options.instances,
        {},
    )
    record = theorems.measure(options.instances, jobs=options.jobs)
    print(theorems.table(record))
    print(f"wrote {shown(write_summary(record, options.out))}")


def _add_claims(commands: Any) -> None:
    command = commands.add_parser(
        "claims",
        help="write CLAIMS.md from the committed records, and draw their figures",
        description="Write the ledger of claims: each with its verdict, computed from the records. "
        "The records' figures are drawn into the folder `figures` beside it.",
    )
    command.add_argument("--records", type=_path, default=Path("figures/records"))
    command.add_argument("--out", type=_path, default=Path("CLAIMS.md"), help="file to write")
    command.set_defaults(run=_claims, mistakes=(ValueError,))


def _claims(options: argparse.Namespace) -> None:
    _check_matplotlib()
    from proxquant_np.experiments import claims
    from proxquant_np.training import written_whole

    if not options.records.is_dir():
        raise NotADirectoryError(f"there is no folder {options.records} with records")
    figures = options.out.parent / "figures"
    with written_whole(options.out) as file:  # now: nothing is drawn for a file that cannot be
        for path in claims.draw(options.records, figures):
            print(f"wrote {shown(path)}")
        file.write(claims.ledger(options.records, figures).encode())
    print(f"wrote {shown(options.out)}")


# Figures -----------------------------------------------------------------------------------------


def _add_figures(commands: Any) -> None:
    command = commands.add_parser(
        "figures",
        help="draw the figures of the theory (about a minute)",
        description="Compute every figure of the theory from its seeds, and write it as PNG and "
        "SVG beside the JSON it was drawn from.",
    )
    command.add_argument(
        "--only", type=_figure_name, action="append", metavar="NAME", help="this one (repeatable)"
    )
    command.add_argument(
        "--out", type=_path, default=Path("figures"), help="folder to write to (default figures)"
    )
    command.set_defaults(run=_figures)


def _figure_name(text: str) -> str:
    _check_matplotlib()
    from proxquant_np.experiments.figures import FIGURES

    return _one_of("figure", text, FIGURES)


def _figures(options: argparse.Namespace) -> None:
    _check_matplotlib()
    from proxquant_np.experiments import figures

    for path in figures.draw(options.only or figures.FIGURES, options.out):
        print(f"wrote {shown(path)}")


# Conformance -------------------------------------------------------------------------------------


def _add_check(commands: Any) -> None:
    command = commands.add_parser(
        "check",
        help="check anyone's prox, quantizer or training step",
        description="Is package.module:function, found from the current folder, what it should "
        "be? Prints a report. Exit code 0: passed; 1: failed; 2: there is nothing to check.",
    )
    command.add_argument("function", metavar="MODULE:FUNCTION")
    command.add_argument("--as", dest="definition", metavar="NAME", required=True)
    command.add_argument("--exact", action="store_true", help="it claims to find the optimum")
    command.add_argument("--dtype", choices=["float32", "float64"], help="default: both")
    command.add_argument("--adapter", choices=["torch", "jax"], help="for functions on tensors")
    command.set_defaults(run=_check, mistakes=(ValueError,))


def _check(options: argparse.Namespace) -> int:
    from proxquant_np.conformance import command

    dtypes = {} if options.dtype is None else {"dtypes": [options.dtype]}
    report = command.check_by_name(
        options.function,
        options.definition,
        exact=options.exact,
        adapter=options.adapter,
        **dtypes,
    )
    print(report)
    return 2 if report.verdict == "misuse" else 0 if report else 1


def _add_vectors(commands: Any) -> None:
    command = commands.add_parser(
        "vectors",
        help="write the golden vectors, for tests in any language",
        description="Write the golden vectors and SCHEMA.md, which describes them.",
    )
    command.add_argument("--out", type=_path, required=True, help="folder to write to")
    command.set_defaults(run=_vectors)


def _vectors(options: argparse.Namespace) -> None:
    from proxquant_np.conformance import write_vectors

    for path in write_vectors(options.out):
        print(f"wrote {shown(path)}")


# Packing -----------------------------------------------------------------------------------------


def _add_pack(commands: Any) -> None:
    command = commands.add_parser(
        "pack",
        help="write a trained network as a few bits a weight",
        description="Quantize the network that a training checkpoint holds and write it packed.",
    )
    command.add_argument("checkpoint", type=_path, help="file that training.fit saved")
    command.add_argument(
        "--out",
        type=_path,
        default=None,
        help="file to write, .npz or .safetensors "
        "(default: CHECKPOINT with .packed.npz for its suffix)",
    )
    command.add_argument(
        "--regularizer", metavar="R", help="such as 'MultiBitL2(n_bits=2)' (default: the run's)"
    )
    command.set_defaults(run=_pack, mistakes=(ValueError, ModuleNotFoundError))


def _pack(options: argparse.Namespace) -> None:
    from proxquant_np import packing

    out = options.out or options.checkpoint.with_suffix(".packed.npz")
    text = options.regularizer
    chosen = None if text is None else packing.parse_regularizer(text)
    packing.pack_checkpoint(options.checkpoint, out, chosen)
    print(packing.table(out))
    print(f"wrote {shown(out)}")


def _add_inspect(commands: Any) -> None:
    command = commands.add_parser(
        "inspect",
        help="what a packed file holds, layer by layer",
        description="Print, for every array of a packed file: shape, bits, levels, bytes, how many "
        "times smaller than as float32, and the entropy of the codes in bits.",
    )
    command.add_argument("file", type=_path, help="file that pack wrote")
    command.set_defaults(run=_inspect, mistakes=(ValueError, ModuleNotFoundError))


def _inspect(options: argparse.Namespace) -> None:
    from proxquant_np import packing

    print(packing.table(options.file))


COMMANDS = (
    _add_reproduce,
    _add_search,
    _add_experiment,
    _add_theorems,
    _add_claims,
    _add_figures,
    _add_check,
    _add_vectors,
    _add_pack,
    _add_inspect,
)

if __name__ == "__main__":
    sys.exit(main())
