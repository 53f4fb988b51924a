"""The definitions known by name, and those given as objects."""

from __future__ import annotations

import difflib

from proxquant_np.prox import (
    BinaryL1,
    BinaryL2,
    BinaryRelax,
    Fitted,
    LevelsL1,
    LevelsL2,
    MultiBitL2,
    Parq,
    QuantizedSet,
    Regularizer,
    TernaryL2,
    UniformL2,
    as_set,
)

LEVELS = (-1.0, 0.0, 0.25, 2.0)  # uneven, so that misplaced thresholds show

FITTED: dict[str, Regularizer] = {
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
"""What `check_quantizer` knows by name; it checks the map `project`."""

PROXES: dict[str, Regularizer] = {
    "binary_l1": BinaryL1(),
    "binary_l2": BinaryL2(),
    "levels_l1": LevelsL1(LEVELS),
    "levels_l2": LevelsL2(LEVELS),
    "binary_relax": BinaryRelax(BinaryL1()),
    "parq": Parq(LevelsL1(LEVELS)),
    **{f"{name}_l2": regularizer for name, regularizer in FITTED.items()},
}
"""What `check_prox` knows by name; it checks the map `prox`."""

STEPS = ("lazy_sgd", "lazy_adam", "eager_sgd", "eager_adam")
"""What `check_step` knows by name."""


def look_up(
    definition: str | Regularizer | QuantizedSet, known: dict[str, Regularizer], what: str
) -> tuple[str, Regularizer | QuantizedSet]:
    """(name, definition) for a name in `known`, or for a set or regularizer over the whole array.

    ValueError for an unknown name, suggesting the nearest known one; TypeError for anything else.
    """
    if isinstance(definition, str):
        check_name(definition, list(known), what)
        return definition, known[definition]
    if not isinstance(definition, Regularizer | QuantizedSet):
        raise TypeError(
            f"{what} must be a name, a Regularizer or a QuantizedSet, got {definition!r}"
        )
    quantized = as_set(definition)
    if quantized.axis is not None or quantized.block is not None:
        raise ValueError(
            f"{what} must have axis=None and block=None, got {definition!r}: a quantizer is "
            "checked on weights that share their levels"
        )
    if not (quantized.elementwise or isinstance(quantized, Fitted)):
        raise ValueError(f"{what} must have fixed levels or a Fitted set, got {definition!r}")
    return repr(definition), definition


def check_name(name: str, known: list[str] | tuple[str, ...], what: str) -> None:
    """ValueError unless `name` is known."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{what} must be one of {', '.join(known)}, got {name!r}{hint}")
