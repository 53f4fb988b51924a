"""Makes the golden vectors; run it when a definition is added. No check imports it.

    python -m proxquant_np.conformance.make_vectors

All expected values come from the slow references of prox/brute_force.py, which use no formula, from
the definitions in plain Python of references.py, and from the textbook formulas of SGD and Adam
below, in float64. golden/SCHEMA.md describes the files.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import zipfile
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from proxquant_np.conformance.definitions import FITTED, LEVELS, PROXES, QUANTIZERS, STEPS
from proxquant_np.conformance.judge_of_penalties import corners, jump
from proxquant_np.conformance.judge_of_rules import tie_tensors
from proxquant_np.conformance.penalties import PENALTIES, penalty
from proxquant_np.conformance.references import FORMATS, by_chance, reference
from proxquant_np.conformance.references_of_gradients import clipped, dorefa, lsq, pact, scaled
from proxquant_np.conformance.rules import RULES, rule
from proxquant_np.conformance.vectors import FOLDER, STRENGTHS, TINY, VERSION, points
from proxquant_np.prox import (
    Binary,
    BinaryL1,
    Codebook,
    FixedPoint,
    Integers,
    Levels,
    QuantizedSet,
    Regularizer,
)
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.brute_force import (
    exhaustive_prox,
    objective,
    search_prox,
    threshold_codes,
)


def make() -> dict[str, bytes]:
    """The content of every file of golden vectors, by name."""
    files = {
        "prox.json": _json({name: _prox(r) for name, r in PROXES.items()}),
        "quantizers.json": _json({name: _quantizer(r) for name, r in QUANTIZERS.items()}),
        "rules.json": _json({name: _rule(rule(name)) for name in RULES}),
        "penalties.json": _json({name: _penalty(name) for name in PENALTIES}),
        "stochastic.json": _json({name: _stochastic(q) for name, q in GRIDS.items()}),
        "gradients.json": _json({name: _gradient(name) for name in GRADIENTS}),
        "steps.json": _json({name: _steps(name) for name in STEPS}),
        "sign_change.json": _json(_sign_changes()),
        "large.npz": _npz(large()),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {"format": "proxquant-np golden vectors", "version": VERSION, "sha256": sums}
    return {**files, "manifest.json": (json.dumps(manifest, indent=1) + "\n").encode()}


def _json(table):
    """One line per case: files are small, and diffs show what changed."""
    if isinstance(table, list):
        table = {"sign_change": {"cases": table}}
    parts = []
    for name, entry in table.items():
        cases = ",\n".join(f"   {json.dumps(case, allow_nan=False)}" for case in entry["cases"])
        rest = {k: v for k, v in entry.items() if k != "cases"}
        head = json.dumps(rest)[1:-1]
        parts.append(f' {json.dumps(name)}: {{{head + ", " if head else ""}"cases": [\n{cases}]}}')
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def _npz(arrays):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def prox_cases(r: Regularizer) -> list[dict[str, Any]]:
    """Cases of `r`: weights x, a strength, a minimiser u, and the least objective."""
    if not r.elementwise:
        codes, offset = r.set.code_matrices, r.set.offset
        return [
            {"x": x, "strength": s, "u": u.tolist(), "objective": float(cost)}
            for x in TINY
            if len(x) <= 3
            for s in (0.5, 2.0)
            for cost, u in [exhaustive_prox(np.array(x), s, codes(len(x)), offset)]
        ]
    x = np.array(points(r))
    cases = []
    for s in STRENGTHS:
        u = search_prox(r, x, s) if s else x
        cases.append({"x": x.tolist(), "strength": s, "u": u.tolist()})
        cases[-1]["objective"] = objective(r, u, x, s)
    return cases


def quantizer_cases(r: Regularizer) -> list[dict[str, Any]]:
    """Cases of `r`: weights w, a nearest quantized point q, and half its squared distance."""
    if not r.elementwise:
        return [
            {"w": w, "q": q.tolist(), "error": float(cost)}
            for w in TINY
            for cost, q in [_nearest(r.set, w)]
        ]
    levels = r.levels(np.zeros(1))
    cases = []
    for w in points(r):
        q = levels[::-1][np.abs(levels[::-1] - w).argmin()]  # the upper one at a tie
        cases.append({"w": [w], "q": [float(q)], "error": float(0.5 * (q - w) ** 2)})
    return cases


def _nearest(quantized, w):
    return exhaustive_prox(np.array(w), math.inf, quantized.code_matrices(len(w)), quantized.offset)


def _prox(r):
    return {"definition": repr(r), "cases": prox_cases(r)}


def _quantizer(r):
    return {"definition": repr(r), "cases": quantizer_cases(r)}


def rule_cases(q: QuantizedSet) -> list[dict[str, Any]]:
    """Cases of a published rule: weights w, and where it sends them, in fractions."""
    definition = reference(q)
    tiny = [w for w in TINY if not _on_threshold(definition, w)]
    return [
        {"w": w, "q": [float(x) + 0.0 for x in definition([Fraction(x) for x in w])]}
        for w in [*tie_tensors(q), *tiny]
    ]


def _on_threshold(definition, w):
    """Whether a weight is where rounding would decide, as the scale is no short number."""
    w = [Fraction(x) for x in w]
    q = definition(w)
    for i, by in itertools.product(range(len(w)), (-1, 1)):
        moved = definition([*w[:i], w[i] * (1 + Fraction(by, 2**18)), *w[i + 1 :]])
        if any(abs(a - b) > max(map(abs, w)) / 1000 for a, b in zip(q, moved, strict=True)):
            return True
    return False


def _rule(q):
    return {"definition": repr(q), "cases": rule_cases(q)}


def _penalty(name):
    """As prox_cases, each with its gamma; no weight lies on a jump."""
    gammas = [0.5, 2.0] if "gamma" in PENALTIES[name].options else [None]
    cases = []
    for gamma, s in itertools.product(gammas, (0.0, 0.125, 0.75, 2.5)):
        r = penalty(name) if gamma is None else penalty(name, gamma=gamma)
        knees = [k * (1 + 1 / 16) for k in corners(r, s)]
        x = np.float32([*points(r), *knees, *(-k for k in knees), 4.0]).astype(np.float64)
        x = x[np.abs(x) != jump(r, s)]
        u = search_prox(r, x, s) if s else x
        said = {"x": x.tolist(), "strength": s} | ({} if gamma is None else {"gamma": gamma})
        cases.append(said | {"u": u.tolist(), "objective": objective(r, u, x, s)})
    return {"definition": repr(penalty(name)), "cases": cases}


GRIDS = {
    "binary": Binary(),
    "levels": Levels(LEVELS),
    "fixed_point": FixedPoint(4, 2),
    "absmax": Integers(4),
    "fp4": Codebook("e2m1"),
}
FOUR_BITS = [Fraction(k) for k in range(-7, 8)]
STEPS_OF = {  # the levels for a largest weight of 1
    "binary": (False, [-1, 1]),
    "levels": (False, [Fraction(v) for v in LEVELS]),
    "fixed_point": (False, [Fraction(k, 4) for k in range(-8, 8)]),
    "absmax": (True, [k / 7 for k in FOUR_BITS]),
    "fp4": (True, [Fraction(v) / 6 for v in FORMATS["e2m1"]]),
}


def _stochastic(q):
    """Cases of stochastic rounding: weights w, their neighbours, the probability of the upper."""
    scaled, levels = STEPS_OF[next(name for name, other in GRIDS.items() if other is q)]
    cases = []
    for w in [w for w in [*TINY, [7.0, -6.5, 0.25, 1.0], [6.0, -3.5, 2.5, 0.125]] if any(w)]:
        x = [Fraction(v) for v in w]
        top = max(map(abs, x)) if scaled else 1
        low, high, p = zip(*by_chance(x, [top * v for v in levels]), strict=True)
        found = {"low": low, "high": high, "p": p}
        cases.append({"w": w} | {k: [float(v) for v in part] for k, part in found.items()})
    return {"definition": repr(q), "cases": cases}


GRADIENTS: dict[str, tuple[str, Any]] = {
    "identity": ("straight_through, clip=inf", lambda w, g: list(g)),
    "clipped": ("straight_through, clip=1", lambda w, g: clipped(w, g, -1, 1)),
    "clipped_outside": (
        "straight_through, clip=1, ends=outside",
        lambda w, g: clipped(w, g, -1, 1, True),
    ),
    "scaled": ("straight_through, scale=mean", scaled),
    "dorefa": ("dorefa_gradient", lambda w, g: dorefa(w, g, False)),
    "dorefa_constant": ("dorefa_gradient, maximum=constant", lambda w, g: dorefa(w, g, True)),
    "lsq": ("lsq_gradient, clip=(-8, 7)", lambda w, g, s: lsq(w, g, s, -8, 7)),
    "pact": ("pact_gradient", pact),
}
G = [0.5, -1.25, 2.0, 0.75, -0.375, 1.0, -3.0, 1.5]


def _gradient(name):
    """Cases of a gradient through a quantizer: w, g, the step s; what they receive, dw and ds."""
    definition, function = GRADIENTS[name]
    cases = []
    weights = [[0.75, -1.0, 1.0, 0.0, 1.0625, -0.9375, 2.5, -3.0], [0.25, -0.5, 2.0], [0.375]]
    for w, s in itertools.product(weights, (0.25, 0.375) if name in ("lsq", "pact") else (None,)):
        g = G[: len(w)]
        if s is None:
            cases.append({"w": w, "g": g, "dw": function(w, g)})
        else:
            dw, ds = function(w, g, s)
            cases.append({"w": w, "g": g, "s": s, "dw": dw, "ds": ds})
    return {"definition": definition, "cases": cases}


# Steps: gradient(w) = A w - b, and the map is BinaryL1's (lazy: sign_pm; eager: the prox)

A = [[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 2.0]]
POINT = [
    ([0.25, -0.5, 0.0], [1.0, -2.0, 0.0]),
    ([-0.0, 0.125, -1.5], [0.5, 0.25, -4.0]),
    ([1.0, -1.0, 0.0625], [3.0, -2.0, 0.25]),
    ([0.25, -0.5, 1.0], [-2.0, 1.0, 0.5]),  # with SGD and lr 0.125 the first weight ends on 0
    ([1.0, -1.0, 1.0], [1 - 2.0**-16, 2.0**-16 - 3, 2.0**-16 + 3]),  # a small gradient
]


def _steps(name):
    lazy, adam = name.startswith("lazy"), name.endswith("adam")
    cases = []
    for i, (point, b) in enumerate(POINT):
        for lr, lam in ((0.125, 4.0), (0.375, 0.5)):  # lr 0.5 would move Adam's first near 0
            case: dict[str, Any] = {"A": A, "b": b, "point": point, "lr": lr}
            if not lazy:
                case["strength"] = lr * lam
            if adam:
                k = i % 4  # the first and the last start with zero moments
                case |= {"m": [0.5 * k] * 3, "v": [0.25 * k, 0.5 * k, k], "t": 4 * k + 1}
            cases.append(case | _expected(case, lazy, adam))
    return {"cases": cases}


def _expected(case, lazy, adam):
    z = np.array(case["point"])
    plus_minus = lambda w: np.where(w >= 0, 1.0, -1.0)  # noqa: E731
    g = np.array(case["A"]) @ (plus_minus(z) if lazy else z) - case["b"]
    if adam:
        m = 0.9 * np.array(case["m"]) + 0.1 * g
        v = 0.999 * np.array(case["v"]) + 0.001 * g**2
        corrected = m / (1 - 0.9 ** case["t"]), v / (1 - 0.999 ** case["t"])
        moved = z - case["lr"] * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    else:
        moved = z - case["lr"] * g
    if lazy:
        out = {"latent": moved, "weights": plus_minus(moved)}
    else:
        out = {"weights": search_prox(BinaryL1(), moved, case["strength"])}
    out |= {"new_m": m, "new_v": v} if adam else {}
    return {k: a.tolist() for k, a in out.items()}


def _sign_changes():
    pairs: Iterable[tuple[list[float], list[float]]] = [
        ([1.0, -1.0, 0.5], [1.0, 1.0, 0.5]),
        ([0.0, -0.0, -1.0], [1.0, 1.0, 1.0]),
        ([0.0, 0.0], [-1.0, -0.5]),
        ([-1.0, -2.0], [0.0, -0.0]),
    ]
    return [
        {"a": a, "b": b, "changed": sum((x >= 0) != (y >= 0) for x, y in zip(a, b, strict=True))}
        for a, b in pairs
    ]


def large() -> dict[str, Floats]:
    """Random weights, and the least squared error of each set whose codes are thresholds."""
    rng = np.random.default_rng(0)
    weights = {
        "gaussian": rng.normal(size=512),
        "laplace": rng.laplace(size=512) + 0.25,
        "heavy_tails": rng.standard_t(2, size=512),
    }
    arrays = {}
    for name, w in weights.items():
        arrays[f"weights.{name}"] = w = w.astype(np.float32)
        for kind in FITTED:
            error = _threshold_error(kind, w.astype(np.float64))
            if error is not None:
                arrays[f"error.{kind}.{name}"] = np.float64(error)
    return arrays


def _threshold_error(kind, w):
    if kind == "ternary":  # the two sides do not interact
        return sum(_threshold_error("ternary_symmetric", w[w * side > 0]) for side in (-1, 1))
    bits = {"ternary_symmetric": 0, "multibit_1": 1, "multibit_2": 2}.get(kind)
    return None if bits is None else exhaustive_prox(w, math.inf, threshold_codes(w, bits))[0]


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_bytes(content)
