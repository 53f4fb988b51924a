"""The command line: `proxquant-np reproduce`, `search`, `check` and `vectors`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import proxquant_np


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 2 on a user's mistake, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="proxquant-np", description="Quantized training from first principles, in NumPy."
    )
    parser.add_argument("--version", action="version", version=proxquant_np.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "reproduce",
        help="ProxQuant against BinaryConnect on handwritten digits (about a minute)",
        description="Train full-precision and binary networks on the digits, by all four methods, "
        "with paired seeds; print the table, write records and figures. Finished runs are kept: "
        "run again to go on, or with more seeds.",
    )
    command.add_argument("--seeds", type=_positive, default=3, help="paired seeds (default 3)")
    command.add_argument(
        "--out", type=Path, default=Path("results"), help="folder to write to (default results)"
    )
    command.add_argument("--quick", action="store_true", help="far fewer steps: a smoke test")
    command.add_argument("--jobs", type=_positive, default=2, help="processes (default 2)")
    command.set_defaults(run=_reproduce)
    command = commands.add_parser(
        "search",
        help="choose the hyperparameters that reproduce uses (tens of minutes)",
        description="Random search on the validation split, the same number of trials for every "
        "method; overwrites the file that reproduce reads unless --out names another.",
    )
    command.add_argument("--trials", type=_positive, default=16, help="per method (default 16)")
    command.add_argument("--out", type=Path, default=None, help="file to write")
    command.add_argument("--jobs", type=_positive, default=2, help="processes (default 2)")
    command.set_defaults(run=_search)
    _add_conformance(commands)
    options = parser.parse_args(arguments)
    return _guarded(options.run, options)


def _guarded(run: Callable[[Any], None], options: argparse.Namespace) -> int:
    try:
        run(options)
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, run again to go on", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"proxquant-np: {error}", file=sys.stderr)
        return 2
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _search(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import binary_digits

    out = binary_digits.CHOSEN if options.out is None else options.out
    binary_digits.search(options.trials, out, jobs=options.jobs)
    print(f"wrote {out}")


def _reproduce(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import binary_digits

    result = binary_digits.reproduce(
        options.seeds, options.out, quick=options.quick, jobs=options.jobs
    )
    print(binary_digits.table(result))
    for path in binary_digits.draw(result, options.out):
        print(f"wrote {path}")


def _add_conformance(commands: Any) -> None:
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
    command.set_defaults(run=_conformance)
    command = commands.add_parser(
        "vectors",
        help="write the golden vectors, for tests in any language",
        description="Write the golden vectors and SCHEMA.md, which describes them.",
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.set_defaults(run=_conformance)


def _conformance(options: argparse.Namespace) -> None:
    from proxquant_np.conformance import command, write_vectors

    if options.command == "vectors":
        for path in write_vectors(options.out):
            print(f"wrote {path}")
        return
    try:
        dtypes = {} if options.dtype is None else {"dtypes": [options.dtype]}
        report = command.check_by_name(
            options.function,
            options.definition,
            exact=options.exact,
            adapter=options.adapter,
            **dtypes,
        )
    except ValueError as error:
        print(f"proxquant-np: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(report)
    if not report:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
