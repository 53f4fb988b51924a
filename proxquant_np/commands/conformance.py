"""The commands of the conformance kit: `check` and `vectors`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from proxquant_np.commands.arguments import Mistake, as_path
from proxquant_np.files import shown


def add_check(commands: Any) -> None:
    """Add `check`."""
    command = commands.add_parser(
        "check",
        help="check anyone's prox, quantizer, gradient through one, or training step",
        description="Check whether package.module:function, found from the current folder, is "
        "what it should be, and print a report. Exit code 0: passed, 1: failed, 2: not checked.",
    )
    command.add_argument(
        "function",
        metavar="MODULE:FUNCTION",
        help="or an expression in the module's names, such as 'module:Sign()', 'module:lambda w: "
        "quantize(w, 4)'",
    )
    command.add_argument("--as", dest="definition", metavar="NAME", required=True)
    command.add_argument("--exact", action="store_true", help="it claims to find the optimum")
    command.add_argument("--dtype", choices=["float32", "float64"], help="default: both")
    command.add_argument(
        "--adapter",
        choices=["torch", "jax", "tensorflow", "keras"],
        help="the library whose arrays it takes, if that is not found out rightly",
    )
    _add_rule_options(command)
    _add_penalty_options(command)
    _add_gradient_options(command)
    command.set_defaults(run=_check, mistakes=(ValueError,))


RULE_OPTIONS = ("bits", "axis", "block", "range", "scale", "divisor", "ties", "levels")
RULE_OPTIONS += ("thresholds", "format", "powers", "zero", "fraction", "overflow", "step")
FORMATS = ("e4m3", "e5m2", "e2m1", "e2m3", "e3m2", "e4m3ieee", "e4m3fnuz", "e5m2fnuz", "nf4")
PENALTY_OPTIONS = ("strength", "gamma")  # and levels, ties
GRADIENT_OPTIONS = ("gradient", "clip", "ends", "step_scale", "maximum")  # and scale


def _add_rule_options(command):
    rules = command.add_argument_group(
        "published rules",
        "names absmax, absmean, absmedian, affine, nf4, fp4, fp8, mxfp4, mxfp8, powers_of_two, "
        "dorefa, centred_binary, rounded, lsq, fixed_point, and stochastic, for rounding by chance "
        "to integers, --levels, --fraction or --format; with, as far as they have them:",
    )
    rules.add_argument("--bits", type=int, metavar="N")
    rules.add_argument("--axis", type=int, metavar="N", help="a scale for each index along it")
    rules.add_argument("--block", type=int, metavar="N", help="a scale for so many weights each")
    rules.add_argument("--range", choices=["narrow", "full", "unsigned"])
    rules.add_argument("--scale", help="max, mean, median or least-squares")
    rules.add_argument("--divisor", type=float, metavar="X", help="the scale is max|w| / X")
    rules.add_argument("--ties", choices=["even", "away", "zero", "up", "down", "any"])
    rules.add_argument("--levels", type=_numbers, metavar="A,B,...", help="as --levels=-1,0,1")
    rules.add_argument("--thresholds", type=_numbers, metavar="A,B,...")
    rules.add_argument("--format", choices=FORMATS, help="of fp8, mxfp8 and stochastic")
    rules.add_argument("--powers", type=int, metavar="N", help="how many, of powers_of_two")
    rules.add_argument("--no-zero", dest="zero", action="store_const", const=False)
    rules.add_argument("--step", type=float, metavar="X", help="of lsq, the step that was learned")
    rules.add_argument("--fraction", type=int, metavar="N", help="bits behind the point")
    rules.add_argument("--overflow", choices=["saturate", "wrap"])


def _add_penalty_options(command):
    penalties = command.add_argument_group(
        "penalties",
        "proxes soft_threshold, hard_threshold, ridge, huber, mcp, elastic_net, of the distance to "
        "0 or to --levels; --ties zero or away for the jump of the hard threshold:",
    )
    penalties.add_argument(
        "--strength", type=float, metavar="X", help="built into the function, which is fn(x)"
    )
    penalties.add_argument("--gamma", type=float, metavar="X")


def _add_gradient_options(command):
    gradients = command.add_argument_group(
        "gradients through quantizers",
        "names straight_through (alone: says which it is), dorefa_gradient, lsq_gradient, "
        "pact_gradient; a function of tensors is differentiated by its library; --scale X, mean "
        "or max is a factor of the gradient:",
    )
    gradients.add_argument(
        "--gradient", metavar="MODULE:FUNCTION", help="backward (w, g) of a function of arrays"
    )
    gradients.add_argument(
        "--clip", type=_ends, metavar="C", help="1, inf, or both ends as --clip=-8,7"
    )
    gradients.add_argument("--ends", choices=["inside", "outside", "lower", "upper"])
    gradients.add_argument("--step-scale", metavar="X", help='a number, or as "1/sqrt(n q)"')
    gradients.add_argument("--maximum", choices=["differentiated", "constant"])


def _ends(text: str) -> float | tuple[float, ...]:
    try:
        numbers = _numbers(text)
    except Mistake:
        raise Mistake(f"must be a number or two, as 1 or -8,7, got {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise Mistake(f"must be numbers with commas between them, got {text!r}") from None


def _check(options: argparse.Namespace) -> int:
    from proxquant_np.conformance import command

    dtypes = {} if options.dtype is None else {"dtypes": [options.dtype]}
    names = (*RULE_OPTIONS, *PENALTY_OPTIONS, *GRADIENT_OPTIONS)
    chosen = {name: getattr(options, name) for name in names}
    if chosen["scale"] == "least-squares":
        chosen["scale"] = "least_squares"
    report = command.check_by_name(
        options.function,
        options.definition,
        exact=options.exact,
        adapter=options.adapter,
        progress=sys.stderr is not None and sys.stderr.isatty(),
        **dtypes,
        **{name: value for name, value in chosen.items() if value is not None},
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
