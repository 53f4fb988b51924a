"""Checksums of proxes, which hold a later build to the bits of an earlier one.

    PYTHONPATH=EARLIER python tests/prox_bits.py > tests/frozen/prox_bits.json

writes those of the package that lies in EARLIER. test_prox_bits.py compares.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

import numpy as np

from proxquant_np import prox

STRENGTHS = (0.25, 7.5, np.inf)


def regularizers() -> Iterator[prox.Regularizer]:
    """Every regularizer with every option, by the names that all builds know."""
    uneven = (-1, 0, 0.25, 2)
    yield from (prox.BinaryL1(), prox.BinaryL2(), prox.LevelsL1(uneven), prox.LevelsL2(uneven))
    yield from (prox.LevelsL1(np.linspace(-2, 2, 65)), prox.LevelsL2(np.linspace(-2, 2, 65)))
    yield from (prox.BinaryRelax(prox.BinaryL1()), prox.BinaryRelax(prox.TernaryL2()))
    yield from (prox.Parq(prox.LevelsL1(uneven)), prox.Parq(prox.TernaryL2()))
    yield from (prox.Parq(prox.MultiBitL2(2, axis=0)), prox.PublishedTernary())
    yield from (prox.PublishedTernary(1), prox.TanhMirror())
    yield from (prox.PiecewiseAffine([0, 1, 2], [a, 1.5]) for a in (0, 0.5))
    for over in ({}, {"axis": 0}, {"axis": -1}, {"block": 8}):
        for symmetric in (False, True):
            yield prox.TernaryL1(symmetric, **over)
            yield prox.TernaryL2(symmetric, **over)
            for k in (2, 3, 4 if over else 8):
                for how in ("max", "least_squares"):
                    yield prox.UniformL2(k, symmetric, how, **over)
        yield prox.TernaryL2(projection="threshold", **over)
        for k in (1, 2, 3) if over else (1, 2, 3, 8):
            for how in ("greedy", "alternating", *["exact"] * (k < 3)):
                yield prox.MultiBitL2(k, how, **over)
        yield from (prox.MultiBitL1(k, **over) for k in (1, 2))


def arrays() -> Iterator[np.ndarray]:
    """Weights of either dtype: dyadic, quantized already, transposed, huge, and any."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        yield (rng.integers(-64, 64, size=(16, 8)) / 32).astype(dtype)
        yield np.array([[0.0, -0.0, 1, -1, 0.5, -0.5, 0.25, 3]], dtype)
        yield rng.choice([-2, 0, 1.5], size=(8, 16)).astype(dtype)
        yield rng.normal(size=(6, 4, 8)).astype(dtype)
        yield rng.standard_t(2, size=(4, 100)).astype(dtype)
        yield rng.normal(size=(8, 16)).astype(dtype).T
        yield (rng.normal(size=(8, 16)) * 1e20).astype(dtype)


def bits(r: prox.Regularizer, w: np.ndarray) -> str:
    """Checksum of the prox for some strengths, in place too, and of the levels."""
    found = 0
    in_place = w.copy()
    r.prox(in_place, 0.5, out=in_place)
    for u in (*(r.prox(w, s) for s in STRENGTHS), in_place, r.levels(w)):
        found = zlib.crc32(np.ascontiguousarray(u), found)
    return f"{found:08x}"


def moments(r: prox.Regularizer, w: np.ndarray) -> list[float]:
    """Sums over one prox and over its levels, which change little where sums round otherwise."""
    u, levels = r.prox(w, 0.25).astype(np.float64).ravel(), r.levels(w).astype(np.float64)
    ramp = np.arange(1, u.size + 1) / u.size
    return [float(x.sum()) for x in (np.abs(u), ramp * np.abs(u), levels**2)]


def rounds_everywhere_alike(r: prox.Regularizer) -> bool:
    """False for what BLAS kernels sum in orders of their own, the least squares of the heuristics
    of `Ternary` and `MultiBit`, and for tanh, which processors approximate in ways of their own.

    All else is comparing, sorting, single operations, and sums in NumPy's own order.
    """
    text = repr(r)
    products = "'threshold'" in text or ("MultiBitL2(" in text and "'exact'" not in text)
    return not (products or isinstance(r, prox.TanhMirror))


def record() -> dict[str, list]:
    """repr of a regularizer: for each of the arrays its bits, or else its moments."""
    return {
        repr(r): [(bits if rounds_everywhere_alike(r) else moments)(r, w) for w in arrays()]
        for r in regularizers()
    }


if __name__ == "__main__":
    rows = (f"{json.dumps(name)}: {json.dumps(found)}" for name, found in record().items())
    print("{" + ",\n".join(rows) + "}")
