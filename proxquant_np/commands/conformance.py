"""The commands of the conformance kit: `check` and `vectors`."""

from __future__ import annotations

import argparse
from typing import Any

from proxquant_np.commands.arguments import as_path
from proxquant_np.files import shown


def add_check(commands: Any) -> None:
    """Add `check`."""
    command = commands.add_parser(
        "check",
        help="check anyone's prox, quantizer or training step",
        description="Check whether package.module:function, found from the current folder, is "
        "what it should be, and print a report. Exit code 0: passed, 1: failed, 2: not checked.",
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


def add_vectors(commands: Any) -> None:
    """Add `vectors`."""
    command = commands.add_parser(
        "vectors",
        help="write the golden vectors, for tests in any language",
        description="Write the golden vectors and SCHEMA.md, which describes them.",
    )
    command.add_argument("--out", type=as_path, required=True, help="folder to write to")
    command.set_defaults(run=_vectors)


def _vectors(options: argparse.Namespace) -> None:
    from proxquant_np.conformance import write_vectors

    for path in write_vectors(options.out):
        print(f"wrote {shown(path)}")
