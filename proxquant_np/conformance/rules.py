"""Quantizers that people use, by name, with their parameters: sets with a published rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.checks import check_choice, check_integer, check_number
from proxquant_np.conformance.definitions import check_name
from proxquant_np.prox import (
    Affine,
    CentredBinary,
    Codebook,
    DoReFa,
    FixedPoint,
    Integers,
    PowersOfTwo,
    QuantizedSet,
    Rounded,
)


class Named(NamedTuple):
    """A kind of things under a name: what it is made with, and what may be chosen instead."""

    kind: Callable[..., Any]
    given: Mapping[str, Any]
    options: tuple[str, ...]


def lsq(step: float, n_bits: int, range: str = "full", ties: str = "even") -> Rounded:
    """Learned step size quantization, given its step: step * clip(round(w / step), first, last).

    range: "full", codes from -2^(n_bits-1) to 2^(n_bits-1) - 1, "narrow", without the first, or
    "unsigned", from 0 to 2^n_bits - 1; so PACT with the clip alpha has the step alpha / (2^n_bits -
    1). Source: Esser et al. 2020, arXiv:1902.08153, equations 1 and 2; Choi et al. 2018,
    arXiv:1805.06085.

    Examples:
        >>> from proxquant_np.conformance.rules import lsq
        >>> lsq(0.5, 2).values, lsq(0.5, 2, "unsigned").values
        ((-1.0, -0.5, 0.0, 0.5), (0.0, 0.5, 1.0, 1.5))
    """
    step = check_number("step", step, above=0, below=math.inf)
    n_bits = check_integer("bits", n_bits, least=1, most=8)
    half = 2 ** (n_bits - 1)
    ends = {"full": (-half, half), "narrow": (1 - half, half), "unsigned": (0, 2 * half)}
    codes = np.arange(*ends[check_choice("range", range, ends)])
    return Rounded(tuple((step * codes).tolist()), ties)


GROUPS = ("axis", "block")
INTEGERS = ("bits", "range", "scale", "divisor", "ties", *GROUPS)
FLOATS = ("ties", *GROUPS)

RULES: dict[str, Named] = {
    "absmax": Named(Integers, {"n_bits": 8}, INTEGERS),
    "absmean": Named(Integers, {"n_bits": 2, "scale": "mean"}, INTEGERS),
    "absmedian": Named(Integers, {"n_bits": 2, "scale": "median"}, INTEGERS),
    "affine": Named(Affine, {"n_bits": 8}, ("bits", "ties", *GROUPS)),
    "nf4": Named(Codebook, {"format": "nf4"}, FLOATS),
    "fp4": Named(Codebook, {"format": "e2m1"}, FLOATS),
    "fp8": Named(Codebook, {"format": "e4m3"}, ("format", *FLOATS)),
    "mxfp4": Named(Codebook, {"format": "e2m1", "scale": "power"}, FLOATS),
    "mxfp8": Named(Codebook, {"format": "e4m3", "scale": "power"}, ("format", *FLOATS)),
    "powers_of_two": Named(PowersOfTwo, {"n": 4}, ("powers", "zero", "ties", *GROUPS)),
    "dorefa": Named(DoReFa, {"n_bits": 2}, ("bits", "ties", *GROUPS)),
    "centred_binary": Named(CentredBinary, {}, ("scale", "ties", *GROUPS)),
    "rounded": Named(Rounded, {"values": (-1, 0, 1)}, ("levels", "thresholds", "ties")),
    "lsq": Named(lsq, {"step": 0.25, "n_bits": 4}, ("step", "bits", "range", "ties")),
    "fixed_point": Named(
        FixedPoint, {"n_bits": 4, "fraction": 2}, ("bits", "fraction", "overflow", "ties")
    ),
}
"""What `check_quantizer` knows beside QUANTIZERS; `quantize` is the map that is checked."""

FIELDS = {"bits": "n_bits", "powers": "n", "levels": "values"}
"""Of an option whose field has another name."""


def rule(name: str, **options: Any) -> QuantizedSet:
    """The set that a name of RULES says, with what is chosen.

    ValueError for an unknown name, an option that it has not, or a value that its set refuses.

    Examples:
        >>> pq.conformance.rule("absmax", bits=4, axis=0)
        Integers(axis=0, n_bits=4)
    """
    return made(RULES, FIELDS, name, options)


def made(
    known: Mapping[str, Named], fields: Mapping[str, str], name: str, options: Mapping[str, Any]
) -> Any:
    """What a name of `known` says, with these options; fields: of those that have another name.

    Examples:
        >>> from proxquant_np.conformance.rules import Named, made
        >>> made({"bits": Named(pq.prox.Affine, {}, ("n",))}, {"n": "n_bits"}, "bits", {"n": 3})
        Affine(n_bits=3)
    """
    check_name(name, list(known), "definition")
    kind, given, has = known[name]
    for option, value in options.items():
        if option not in has:
            raise ValueError(
                f"{option} is no option of {name}, which has {', '.join(has) or 'none'}; got "
                f"{value!r}"
            )
    return kind(**{**given, **{fields.get(k, k): v for k, v in options.items()}})
