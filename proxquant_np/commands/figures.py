"""The commands that draw: `figures`, from seeds, and `claims`, from the committed records."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from proxquant_np.commands.arguments import as_path, check_matplotlib, one_of
from proxquant_np.files import shown


def add_claims(commands: Any) -> None:
    """Add `claims`."""
    command = commands.add_parser(
        "claims",
        help="write CLAIMS.md from the committed records, and draw their figures",
        description="Write the ledger of claims, each with the verdict that its records give. "
        "Their figures are drawn into the folder `figures` beside it.",
    )
    command.add_argument("--records", type=as_path, default=Path("figures/records"))
    command.add_argument("--out", type=as_path, default=Path("CLAIMS.md"), help="file to write")
    command.set_defaults(run=_claims, mistakes=(ValueError,))


def _claims(options: argparse.Namespace) -> None:
    check_matplotlib()
    from proxquant_np.experiments import claims
    from proxquant_np.training import written_whole

    if not options.records.is_dir():
        raise NotADirectoryError(f"there is no folder {options.records} with records")
    figures = options.out.parent / "figures"
    with written_whole(options.out) as file:  # first: nothing is drawn if it cannot be written
        for path in claims.draw(options.records, figures):
            print(f"wrote {shown(path)}")
        file.write(claims.ledger(options.records, figures).encode())
    print(f"wrote {shown(options.out)}")


def add_figures(commands: Any) -> None:
    """Add `figures`."""
    command = commands.add_parser(
        "figures",
        help="draw the figures of the theory (about a minute)",
        description="Compute every figure of the theory from fixed seeds, and write it as PNG and "
        "SVG beside the JSON that it was drawn from.",
    )
    command.add_argument(
        "--only", type=_figure_name, action="append", metavar="NAME", help="this one (repeatable)"
    )
    command.add_argument(
        "--out", type=as_path, default=Path("figures"), help="folder to write to (default figures)"
    )
    command.set_defaults(run=_figures)


def _figure_name(text: str) -> str:
    check_matplotlib()
    from proxquant_np.experiments.figures import FIGURES

    return one_of("figure", text, FIGURES)


def _figures(options: argparse.Namespace) -> None:
    check_matplotlib()
    from proxquant_np.experiments import figures

    for path in figures.draw(options.only or figures.FIGURES, options.out):
        print(f"wrote {shown(path)}")
