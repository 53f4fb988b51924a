"""The commands that draw: `figures`, from seeds, and `claims`, from the committed records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from proxquant_np.commands.arguments import (
    Mistake,
    as_path,
    check_matplotlib,
    margin,
    one_of,
    seeds,
)
from proxquant_np.experiments.statistics import CORRECTIONS, TESTS
from proxquant_np.files import shown


def add_claims(commands: Any) -> None:
    """Add `claims`."""
    command = commands.add_parser(
        "claims",
        help="write CLAIMS.md from the committed records, and draw their figures",
        description="Write the ledger of claims, each with the verdict that its records give. "
        "Their figures are drawn into the folder `figures` beside it. With --against, write "
        "nothing: compute the verdicts again by another test, correction, margin or choice of "
        "seeds, and print those that change.",
    )
    command.add_argument(
        "--records",
        type=as_path,
        default=Path("figures/records"),
        help="folder with the records (default figures/records)",
    )
    command.add_argument("--out", type=as_path, help="file to write (default CLAIMS.md)")
    attack = command.add_argument_group("an attack on the verdicts")
    attack.add_argument(
        "--against",
        type=as_path,
        nargs="*",
        metavar="RECORD",
        help="record or folder of records whose verdicts to compute (default --records)",
    )
    attack.add_argument(
        "--test",
        choices=[*TESTS, "resampled"],
        help="in place of Student's t; resampled: t corrected for the overlap of splits that each "
        "seed draws from the same examples, to speak of new ones",
    )
    attack.add_argument(
        "--correction",
        choices=CORRECTIONS,
        help="Holm's, over each experiment's comparisons of a family or over all (default none)",
    )
    attack.add_argument(
        "--margin",
        type=margin,
        metavar="M",
        help="differences below it count as equal, and as on par: 0.5 (points of error, say), or "
        "2%% of the rival's mean",
    )
    attack.add_argument("--seeds", type=seeds, metavar="0,2,5-8", help="those that count")
    attack.add_argument("--all", action="store_true", help="print also what does not change")
    command.set_defaults(run=_claims, mistakes=(ValueError,))


def _claims(options: argparse.Namespace) -> None:
    asked = [k for k in ("test", "correction", "margin", "seeds", "all") if getattr(options, k)]
    if options.against is not None:
        if options.out is not None:
            raise Mistake("--out does not go with --against, which writes no file")
        _attack(options)
        return
    if asked:
        raise Mistake(f"--{asked[0]} goes with --against")
    options.out = options.out or Path("CLAIMS.md")
    check_matplotlib()
    from proxquant_np.experiments import claims
    from proxquant_np.experiments.origins import lacking
    from proxquant_np.experiments.records import read_records
    from proxquant_np.training import written_whole
    from proxquant_np.training.progress import say

    if not options.records.is_dir():
        raise NotADirectoryError(f"there is no folder {options.records} with records")
    figures = options.out.parent / "figures"
    with written_whole(options.out) as file:  # first: nothing is drawn if it cannot be written
        for path in claims.draw(options.records, figures):
            print(f"wrote {shown(path)}")
        file.write(claims.ledger(options.records, figures).encode())
    for missing in lacking(read_records(options.records)):
        say(f"proxquant-np: {shown(missing)}")
    print(f"wrote {shown(options.out)}")


def _attack(options: argparse.Namespace) -> None:
    from proxquant_np.experiments.attack import attack, read
    from proxquant_np.experiments.verdicts import LEDGER, Rules

    given = read(options.against or [options.records])
    ledger = {}
    if options.against and options.records.is_dir():
        ledger = read([options.records])
    elif options.against:
        print(
            f"proxquant-np: no ledger at {shown(options.records)} (--records): its verdicts are "
            "those of these records alone",
            file=sys.stderr,
        )
    test, correction = options.test or LEDGER.test, options.correction or LEDGER.correction
    rules = Rules(test, correction, options.margin, options.seeds)
    print(attack(given, rules, every=options.all, ledger=ledger))


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
