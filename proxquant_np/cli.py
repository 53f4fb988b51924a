"""The command line, `proxquant-np COMMAND`: its parser, and how it ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import proxquant_np
from proxquant_np.autograd import memory
from proxquant_np.commands import conformance, experiments, figures, packing
from proxquant_np.commands.arguments import Mistake, Unfinished
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
    if os.environ.get(memory.VARIABLE) != "0":
        os.environ[memory.VARIABLE] = "1"  # for the processes it starts, too
        proxquant_np.keep_memory()
    with _as_ctrl_c() as received:
        try:
            return options.run(options) or 0
        except Unfinished as unfinished:
            say(f"proxquant-np: {shown(unfinished)}")
            return 1
        except KeyboardInterrupt:
            say(f"\nstopped{options.stopped}")
            return 128 + (received or [signal.SIGINT])[0]
        except (OSError, Mistake, *getattr(options, "mistakes", ())) as error:  # of the user
            said = str(error)
            if isinstance(error, OSError):
                said = _of_a_file(error, options, commands.choices[options.command])
            say(f"proxquant-np: {shown(' '.join(said.split()))}")
            return 2


_OF_PATHS = (  # the other errors, a full disk, say, are not the argument's fault
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def _of_a_file(
    error: OSError, options: argparse.Namespace, command: argparse.ArgumentParser
) -> str:
    """What went wrong with a file, and with which argument of the command it was named."""
    for action in command._actions:
        given = getattr(options, action.dest, None)
        for path in given if isinstance(given, list) else [given]:
            if not isinstance(path, Path):
                continue
            argument = action.option_strings[-1] if action.option_strings else action.dest
            if error.filename is None:  # with a message of our own
                named = str(path) in str(error)
            else:
                named = _belongs(Path(os.fsdecode(error.filename)), path)
            if named and error.filename is not None and isinstance(error, _OF_PATHS):
                wanted = str(action.help).partition(" (")[0]
                return f"argument {argument} must be a {wanted}, got {path}: {error.strerror}"
            if named:
                return f"argument {argument}: {error}"
    return str(error)


def _belongs(failed: Path, path: Path) -> bool:
    """Whether a path that failed is `path`, or in it, or above it, or its temporary file."""
    beside = failed.parent == path.parent and failed.name.startswith(f".{path.name}.")
    return failed == path or beside or path in failed.parents or failed in path.parents


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


COMMANDS = (
    experiments.add_reproduce,
    experiments.add_search,
    experiments.add_experiment,
    experiments.add_theorems,
    figures.add_claims,
    figures.add_figures,
    conformance.add_check,
    conformance.add_vectors,
    packing.add_pack,
    packing.add_inspect,
    packing.add_deploy,
)

if __name__ == "__main__":
    sys.exit(main())
