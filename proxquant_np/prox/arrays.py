"""What goes into and comes out of a map of weights: checked once, processed in blocks.

The public methods of sets and regularizers check their arguments here. What they then call sees
clean arrays and contains nothing but mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proxquant_np.checks import check_instance, check_number
from proxquant_np.libraries import as_array, check_unmasked, on_host

Floats = NDArray[Any]

DTYPES = np.dtype(np.float32), np.dtype(np.float64)

# Intermediate numbers may overflow though the result is right: x + s, say, near the largest float.
quiet = np.errstate(over="ignore", under="ignore")

BLOCK_BYTES = 1 << 18  # per block of an elementwise map, small enough to stay in the cache


def as_weights(w: ArrayLike) -> Floats:
    """`w` as a finite, non-empty array of float32 or float64; otherwise TypeError or ValueError.

    Arrays of another library are not searched for NaN, as that would wait for their device: a map
    is NaN where they are not finite.
    """
    x = as_array(w)
    if x.dtype not in DTYPES:
        raise TypeError(f"w must be of dtype float32 or float64, got {x.dtype}")
    if x.size == 0:
        raise ValueError(f"w must hold at least one weight, got shape {x.shape}")
    if on_host(x):
        check_finite("w", x)
    return x


def check_finite(name: str, x: Floats) -> None:
    """ValueError unless all of `x` is finite."""
    # One pass instead of two: a sum is finite unless an entry is not, or the sum overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = math.isfinite(x.sum()) or np.isfinite(x).all()
    if not finite:
        bad = np.argwhere(~np.isfinite(x))
        first = tuple(bad[0].tolist())
        raise ValueError(
            f"{name} must be finite, got {len(bad)} entries that are NaN or infinite in shape "
            f"{x.shape}, the first at index {first}: {x[first].item()}"
        )


def as_strength(strength: float, dtype: np.dtype[Any]) -> Any:
    """`strength`, in [0, inf], as a scalar of `dtype`; otherwise TypeError or ValueError."""
    s = dtype.type(check_number("strength", strength, least=0))
    return s if s or not strength else np.nextafter(s, dtype.type(1))  # 0 is a case of its own


def as_output(out: Floats | None, x: Floats) -> Floats:
    """`out`, checked to be writeable and like `x`; a fresh array if it is None."""
    if out is None:
        return np.empty(x.shape, x.dtype, like=x)
    here = on_host(x)
    if here:
        check_instance("out", check_unmasked("out", out), np.ndarray, "a NumPy array")
    else:
        check_instance("out", out, type(x), f"a {type(x).__name__} like the weights")
    if out.dtype != x.dtype:
        raise TypeError(f"out must have the dtype of the weights, {x.dtype}, got {out.dtype}")
    if out.shape != x.shape:
        raise ValueError(f"out must have the shape of the weights, {x.shape}, got {out.shape}")
    if here and not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    return out


def fill(
    kernel: Callable[[Floats, Floats, Floats], None], x: Floats, out: Floats, elementwise: bool
) -> Floats:
    """Run kernel(x, out, tmp), in blocks if it is elementwise, and return `out`.

    A kernel reads `x`, fills `out` and may use `tmp`; they are C-contiguous, equal in shape, and do
    not overlap.
    """
    if not out.flags.c_contiguous:
        out[...] = fill(kernel, x, np.empty(x.shape, x.dtype, like=x), elementwise)
        return out
    if not on_host(x):
        return _fill_elsewhere(kernel, x, out)
    in_place = elementwise and out is x
    if not x.flags.c_contiguous or (np.may_share_memory(x, out) and not in_place):
        x = x.copy()
    if not elementwise:
        kernel(x, out, np.empty_like(x))
        return out
    source, target = x.reshape(-1), out.reshape(-1)
    step = min(x.size, BLOCK_BYTES // x.itemsize)
    tmp, held = np.empty((2, step), x.dtype)  # only once, since fresh memory costs page faults
    for start in range(0, x.size, step):
        block, n = slice(start, start + step), min(step, x.size - start)
        if in_place:
            np.copyto(held[:n], source[block])
        kernel(held[:n] if in_place else source[block], target[block], tmp[:n])
    return out


def _fill_elsewhere(kernel, x, out):
    """All in one call, as calls are what costs; NaN where `x`, unchecked, is not finite."""
    if not x.flags.c_contiguous or np.may_share_memory(x, out):
        x = x.copy()
    kernel(x, out, np.empty_like(x))
    np.copyto(out, np.nan, where=~np.isfinite(x))
    return out
