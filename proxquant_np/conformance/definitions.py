"""Conformance (layer 7): the definitions by name, and what belongs to a quantized set."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from proxquant_np.prox import (
    BinaryL1,
    BinaryL2,
    BinaryRelax,
    LevelsL1,
    LevelsL2,
    MultiBitL2,
    Parq,
    Regularizer,
    TernaryL2,
    UniformL2,
)
from proxquant_np.prox.brute_force import multibit_codes, ternary_codes, uniform_codes
from proxquant_np.prox.fitted import FittedL2
from proxquant_np.prox.regularizer import Floats

LEVELS = (-1.0, 0.0, 0.25, 2.0)  # uneven, so that thresholds at the wrong places show

FITTED: dict[str, FittedL2] = {
    "ternary": TernaryL2(),
    "ternary_symmetric": TernaryL2(symmetric=True),
    "multibit_1": MultiBitL2(1, "exact"),
    "multibit_2": MultiBitL2(2, "exact"),
    "multibit_3": MultiBitL2(3),
    "uniform_3": UniformL2(3, projection="least_squares"),
    "uniform_affine_2": UniformL2(2, symmetric=False, projection="least_squares"),
}
QUANTIZERS: dict[str, Regularizer] = {
    "binary": BinaryL1(),
    "levels": LevelsL1(LEVELS),
    **FITTED,
}
"""What `check_quantizer` knows; `project` is the map that is checked."""

PROXES: dict[str, Regularizer] = {
    "binary_l1": BinaryL1(),
    "binary_l2": BinaryL2(),
    "levels_l1": LevelsL1(LEVELS),
    "levels_l2": LevelsL2(LEVELS),
    "binary_relax": BinaryRelax(BinaryL1()),
    "parq": Parq(LevelsL1(LEVELS)),
    **{f"{name}_l2": regularizer for name, regularizer in FITTED.items()},
}
"""What `check_prox` knows; `prox` is the map that is checked."""

STEPS = ("lazy_sgd", "lazy_adam", "eager_sgd", "eager_adam")
"""What `check_step` knows."""


def look_up(
    definition: str | Regularizer, known: dict[str, Regularizer], what: str
) -> tuple[str, Regularizer]:
    """(name, regularizer) of a name in `known`, or of a regularizer, for all weights together.

    ValueError for an unknown name, with the nearest known one; TypeError for anything else.
    """
    if isinstance(definition, str):
        check_name(definition, list(known), what)
        return definition, known[definition]
    if not isinstance(definition, Regularizer):
        raise TypeError(f"{what} is {definition!r}; a name or a Regularizer is accepted")
    if isinstance(definition, FittedL2) and definition != replace(
        definition, axis=None, block=None
    ):
        raise ValueError(
            f"{what} is {definition!r}; axis=None and block=None are accepted: a quantizer is "
            "checked on the weights that share their levels"
        )
    if not definition.elementwise and not isinstance(definition, FittedL2):
        raise ValueError(f"{what} is {definition!r}; relaxations of fixed levels are accepted")
    return repr(definition), definition


def check_name(name: str, known: list[str] | tuple[str, ...], what: str) -> None:
    """ValueError unless `name` is known."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{what} is {name!r}; {hint}known are {', '.join(known)}")


class Family(NamedTuple):
    """The quantized set of a regularizer whose levels are fitted.

    exact: with the exact projection, None if none is known. codes(n): those that n weights can
    have, for `exhaustive_prox`, with an `offset` or not. symmetric: levels come in pairs.
    zero: 0 is always a level. magnitudes: how many |level| > 0 there are at most, a side.
    """

    exact: Regularizer | None
    codes: Callable[[int], Iterable[Floats]]
    offset: bool
    symmetric: bool
    zero: bool
    magnitudes: int


def family(r: FittedL2) -> Family:
    """The quantized set of `r`; ValueError for a class of regularizers that is not known here."""
    if isinstance(r, TernaryL2):
        exact = replace(r, projection="exact")
        return Family(exact, lambda n: ternary_codes(n, r.symmetric), False, r.symmetric, True, 1)
    if isinstance(r, MultiBitL2):
        exact = replace(r, projection="exact") if r.n_bits <= 2 else None
        count = 2 ** (r.n_bits - 1)
        return Family(exact, lambda n: multibit_codes(n, r.n_bits), False, True, False, count)
    if isinstance(r, UniformL2):
        count = 2 ** (r.n_bits - 1) - 1 if r.symmetric else 2**r.n_bits
        codes = lambda n: uniform_codes(n, r.n_bits, r.symmetric)  # noqa: E731
        return Family(None, codes, not r.symmetric, r.symmetric, r.symmetric, count)
    raise ValueError(f"regularizer is {r!r}; TernaryL2, MultiBitL2 and UniformL2 are accepted")
