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


def dequantized(fn: Callable[..., Any], rule: QuantizedSet) -> Callable[..., Any]:
    """fn; where it returns (codes, scale) or (codes, scale, zero point), (codes - zero) * scale.

    codes: of an integer dtype, in the shape of the weights. scale, zero point: numbers, arrays that
    broadcast, or one number for each index of the rule's axis, each of its blocks. Anything else
    comes back as it is.

    Examples:
        >>> from proxquant_np.conformance.dequantized import dequantized
        >>> fn = dequantized(lambda w: (np.rint(w).astype(np.int8), 1.0), pq.prox.Integers(4))
        >>> fn(np.array([0.75, -2.0]))
        array([ 1., -2.])
    """

    @functools.wraps(fn)
    def values(w: Floats) -> Any:
        out = fn(w)
        if not isinstance(out, tuple | list) or len(out) not in (2, 3):
            return out
        codes, *rest = map(np.asarray, out)
        if codes.dtype.kind not in "iu" or codes.shape != w.shape:
            return out
        scale, zero = (_spread(part, w.shape, rule) for part in [*rest, np.zeros(1)][:2])
        return ((codes.astype(np.float64) - zero) * scale).astype(w.dtype)

    return values


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
