"""What a quantizer returned as codes, with their scale and zero point, as weights again."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from proxquant_np.conformance.calls import Misuse
from proxquant_np.prox import QuantizedSet
from proxquant_np.prox.arrays import Floats

FORMS: dict[str, Callable[..., Any]] = {
    "(codes - zero) * scale": lambda codes, scale, zero: (codes - zero) * scale,
    "(codes - zero) / scale": lambda codes, scale, zero: (codes - zero) / scale,
    "codes * scale + zero": lambda codes, scale, zero: codes * scale + zero,
    "codes / scale + zero": lambda codes, scale, zero: codes / scale + zero,
}
"""How codes are meant; the first one, unless another one fits far better."""


def dequantized(fn: Callable[..., Any], rule: QuantizedSet) -> Callable[..., Any]:
    """fn; where it returns (codes, scale) or (codes, scale, zero point), (codes - zero) * scale.

    codes: whole numbers in the shape of the weights, of an integer dtype or, from the first call
    on, of a float one. scale, zero point: numbers, arrays that broadcast, or one number for each
    index of the rule's axis, each of its blocks. Where another one of FORMS is at least four times
    nearer to the weights when it first makes a difference, that one is meant, and fn.notes says so.
    Anything else comes back as it is.

    Examples:
        >>> from proxquant_np.conformance.dequantized import dequantized
        >>> fn = dequantized(lambda w: (np.rint(w).astype(np.int8), 1.0), pq.prox.Integers(4))
        >>> fn(np.array([0.75, -2.0]))
        array([ 1., -2.])
    """
    if isinstance(fn, type):
        return fn
    notes = getattr(fn, "notes", {})
    whole: bool | None = None  # whether floats are codes, too
    form: str | None = None

    @functools.wraps(fn)
    def values(w: Floats) -> Any:
        nonlocal whole, form
        out = fn(w)
        if not isinstance(out, tuple | list) or len(out) not in (2, 3):
            return out
        codes, *rest = map(np.asarray, out)
        if codes.dtype.kind in "iu" and codes.shape != w.shape and codes.size:
            raise Misuse(
                f"fn returned codes of shape {codes.shape} for weights of shape {w.shape}; if "
                "several are packed into one, pass a function that unpacks them"
            )
        if codes.dtype.kind not in "iuf" or codes.shape != w.shape:
            return out
        if whole is None:
            whole = bool((np.rint(codes) == codes).all())
        if not whole:
            return out
        scale, zero = (_spread(part, w.shape, rule) for part in [*rest, np.zeros(1)][:2])
        codes = codes.astype(np.float64)
        if form is None:
            meant, told = _meant(codes, scale, zero, w)
            form = meant if told and (len(out) == 2 or np.any(zero)) else None
            notes["result"] = meant if len(out) == 3 else meant.replace("(codes - zero)", "codes")
        with np.errstate(all="ignore"):
            return FORMS[form or meant](codes, scale, zero).astype(w.dtype)

    return values


def _meant(codes, scale, zero, w):
    """(the one of FORMS that is meant, whether these codes tell it from the others)."""
    with np.errstate(all="ignore"):
        errors = {k: float(np.abs(f(codes, scale, zero) - w).sum()) for k, f in FORMS.items()}
    default, best = (
        next(iter(FORMS)),
        min(errors, key=lambda k: np.nan_to_num(errors[k], nan=np.inf)),
    )
    far = not errors[best] >= errors[default] / 4
    return best if far else default, len(set(errors.values())) > 1


def _spread(part, shape, rule):
    """One number for each weight, from one for each group."""
    part = part.astype(np.float64)
    if part.size == 1:
        return part.reshape(())
    if rule.block is not None and part.size * rule.block == math.prod(shape):
        return np.repeat(part.ravel(), rule.block).reshape(shape)
    if rule.axis is not None and part.size == shape[rule.axis]:
        alone = [1] * len(shape)
        alone[rule.axis] = part.size
        return part.reshape(alone)
    try:
        return np.broadcast_to(part, shape)
    except ValueError:
        raise Misuse(
            f"fn returned codes with a scale or zero point of shape {part.shape}, which fits "
            f"neither weights of shape {shape} nor the groups of {rule!r}"
        ) from None
