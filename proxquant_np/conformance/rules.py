"""Quantizers that people use, by name, with their parameters: sets with a published rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
