"""The command line: `proxquant-np reproduce`, `search`, `figures`, `pack` and `inspect`."""

from __future__ import annotations

import argparse
import difflib
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
        description="Train full-precision and binary networks on the digits (lstm: on a text that "
        "Python brings along), by all four methods, with paired seeds; print the table, write "
        "records and figures. Finished runs are kept: run again to go on, or with more seeds.",
    )
    _add_model(command)
    command.add_argument("--seeds", type=_positive, default=3, help="paired seeds (default 3)")
    command.add_argument(
        "--out", type=Path, help="folder to write to (default results, or results-MODEL)"
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
    _add_model(command)
    command.add_argument("--trials", type=_positive, default=16, help="per method (default 16)")
    command.add_argument("--out", type=Path, default=None, help="file to write")
    command.add_argument("--jobs", type=_positive, default=2, help="processes (default 2)")
    command.set_defaults(run=_search)
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
        "--out", type=Path, default=Path("figures"), help="folder to write to (default figures)"
    )
    command.set_defaults(run=_figures)
    _add_packing(commands)
    options = parser.parse_args(arguments)
    return _guarded(options.run, options)


def _add_model(command: argparse.ArgumentParser) -> None:
    models = ("mlp", "cnn", "resnet", "lstm")  # those of experiments.tasks, which imports a lot
    command.add_argument("--model", choices=models, default="mlp", help="network (default mlp)")


def _guarded(run: Callable[[Any], None], options: argparse.Namespace) -> int:
    try:
        run(options)
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, run again to go on", file=sys.stderr)
        return 130
    except (OSError, *getattr(options, "mistakes", ())) as error:
        print(f"proxquant-np: {str(error).replace(chr(10), ' ')}", file=sys.stderr)
        return 2
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _figure_name(text: str) -> str:
    from proxquant_np.experiments.figures import FIGURES

    if text in FIGURES:
        return text
    close = difflib.get_close_matches(text, FIGURES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(FIGURES)}"
    raise argparse.ArgumentTypeError(f"no figure is called {text!r}; {hint}")


def _figures(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import figures

    for path in figures.draw(options.only or figures.FIGURES, options.out):
        print(f"wrote {path}")


def _search(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import binary_digits

    out = binary_digits.search(options.trials, options.out, model=options.model, jobs=options.jobs)
    print(f"wrote {out}")


def _reproduce(options: argparse.Namespace) -> None:
    from proxquant_np.experiments import binary_digits

    model = options.model
    out = options.out or Path("results" if model == "mlp" else f"results-{model}")
    result = binary_digits.reproduce(
        options.seeds, out, model=model, quick=options.quick, jobs=options.jobs
    )
    print(binary_digits.table(result))
    for path in binary_digits.draw(result, out):
        print(f"wrote {path}")


def _add_packing(commands: Any) -> None:
    command = commands.add_parser(
        "pack",
        help="write a trained network as a few bits a weight",
        description="Quantize the network that a training checkpoint holds and write it packed.",
    )
    command.add_argument("checkpoint", type=Path, help="file that training.fit saved")
    command.add_argument(
        "--out",
        type=Path,
        default=None,
        help="file to write, .npz or .safetensors "
        "(default: CHECKPOINT with .packed.npz for its suffix)",
    )
    command.add_argument(
        "--regularizer", metavar="R", help="such as 'MultiBitL2(n_bits=2)' (default: the run's)"
    )
    command.set_defaults(run=_pack, mistakes=(ValueError, ModuleNotFoundError))
    command = commands.add_parser(
        "inspect",
        help="what a packed file holds, layer by layer",
        description="Print, for every array of a packed file: shape, bits, levels, bytes, how many "
        "times smaller than as float32, and the entropy of the codes in bits.",
    )
    command.add_argument("file", type=Path, help="file that pack wrote")
    command.set_defaults(run=_inspect, mistakes=(ValueError, ModuleNotFoundError))


def _pack(options: argparse.Namespace) -> None:
    from proxquant_np import packing

    out = options.out or options.checkpoint.with_suffix(".packed.npz")
    chosen = options.regularizer and packing.parse_regularizer(options.regularizer)
    packing.pack_checkpoint(options.checkpoint, out, chosen)
    print(packing.table(out))
    print(f"wrote {out}")


def _inspect(options: argparse.Namespace) -> None:
    from proxquant_np import packing

    print(packing.table(options.file))


if __name__ == "__main__":
    sys.exit(main())
