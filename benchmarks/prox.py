"""Times the prox maps and the projections, as ratios to peers measured in the same process.

    python benchmarks/prox.py [--json OUT] [--runs N]

Binary on 10,000,000 float32 weights, as multiples of a memory copy; everything else on 4,194,304.
The runs of a group are interleaved and their medians compared, so that a busy machine disturbs all
alike. With PyTorch installed (the `bench` extra) the published formulas run beside ours: the same
arithmetic as the published code, written here from its description. Also printed: the error of
each heuristic relative to the exact projection, and how many arrays of its input's size it adds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import tracemalloc
from math import log2
from pathlib import Path

import numpy as np

from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, MultiBitL2, TernaryL2, UniformL2
from proxquant_np.prox.brute_force import excess_error

try:
    import torch
except ImportError:
    torch = None

BINARY, FITTED, STRENGTH = 10_000_000, 4_194_304, 0.1


def interleaved(functions, runs):
    """{name: median seconds}, after one run to warm up."""
    seconds = {name: [] for name in functions}
    for run in range(runs + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def torch_binary(w):
    """Soft threshold of w - sign(w), as published."""
    x, s = torch.from_numpy(w), STRENGTH

    def prox():
        q = torch.sign(x)
        d = x - q
        return q + torch.sign(d) * torch.clamp(torch.abs(d) - s, min=0)

    return prox


def torch_ternary(w):
    """Threshold 0.7 mean|w|, then two rounds of nearest levels and means over masks."""
    x = torch.from_numpy(w)

    def project():
        cut = 0.7 * x.abs().mean()
        low, high = -cut, cut
        for _ in range(3):
            pos, neg = x[x >= high].mean(), x[x <= low].mean()
            low, high = neg / 2, pos / 2
        return (x >= high).float() * pos + (x <= low).float() * neg

    return project


def torch_alternating(w, k):
    """Greedy start, then two rounds of least squares and greedy codes, on explicit code tensors."""
    x = torch.from_numpy(w)

    def codes(a):
        left, b = x.clone(), []
        for j in range(k):
            b.append(torch.sign(left))
            left = left - a[j] * b[j]
        return torch.stack(b, 1)

    def project():
        left, a = x.clone(), []
        for _ in range(k):
            a.append(left.abs().mean())
            left = left - a[-1] * torch.sign(left)
        for _ in range(2):
            b = codes(a)
            a = torch.linalg.solve(b.T @ b, b.T @ x)
        return codes(a) @ a

    return project


def extra_arrays(function, w):
    """Peak memory beyond what was there before, in arrays of the size of `w`."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / w.nbytes


def measure(runs):
    rng = np.random.default_rng(0)
    w = rng.normal(size=BINARY).astype(np.float32)
    out = np.empty_like(w)
    work = {
        "memory copy": lambda: np.copyto(out, w),
        "BinaryL1.prox, out=": lambda: BinaryL1().prox(w, STRENGTH, out=out),
        "BinaryL1.prox, in place": lambda: BinaryL1().prox(out, STRENGTH, out=out),
        "BinaryL2.prox, out=": lambda: BinaryL2().prox(w, STRENGTH, out=out),
        "plain NumPy": lambda: w - np.clip(w - np.copysign(1, w), -STRENGTH, STRENGTH),
    }
    if torch:
        work["PyTorch, published formula"] = torch_binary(w)
    binary = interleaved(work, runs)

    w, out = w[:FITTED], out[:FITTED]
    ours = {
        "ternary exact": (TernaryL2(), None),
        "ternary exact, symmetric": (TernaryL2(symmetric=True), None),
        "ternary threshold": (TernaryL2(projection="threshold"), TernaryL2()),
        "1 bit": (MultiBitL2(1), None),
        "2 bits exact": (MultiBitL2(2, "exact"), None),
        "2 bits greedy": (MultiBitL2(2, "greedy"), MultiBitL2(2, "exact")),
        "2 bits alternating": (MultiBitL2(2), MultiBitL2(2, "exact")),
        "3 bits alternating": (MultiBitL2(3), None),
        "8 bits alternating": (MultiBitL2(8), None),
        "8 bits uniform, least squares": (UniformL2(8, projection="least_squares"), None),
    }
    work = {"sort": lambda: np.sort(w)}
    work |= {name: lambda r=r: r.project(w, out=out) for name, (r, _) in ours.items()}
    levels = (2, 4, 16, 64, 256)
    for n in levels:
        r = LevelsL1(np.linspace(-2, 2, n))
        work[f"{n} levels, prox"] = lambda r=r: r.prox(w, STRENGTH, out=out)
    rows = {
        "ternary exact, 512 channels": TernaryL2(axis=0),
        "ternary exact, 8192 inner channels": TernaryL2(axis=-1),
        "3 bits alternating, 512 channels": MultiBitL2(3, axis=0),
        "ternary exact, blocks of 64": TernaryL2(block=64),
    }
    channels, target = w.reshape(512, -1), out.reshape(512, -1)
    work |= {name: lambda r=r: r.project(channels, out=target) for name, r in rows.items()}
    peers = {}
    if torch:
        work |= {
            "PyTorch: ternary threshold": torch_ternary(w),
            "PyTorch: 2 bits alternating": torch_alternating(w, 2),
            "PyTorch: 3 bits alternating": torch_alternating(w, 3),
        }
        peers = {name: f"PyTorch: {name}" for name in ours if f"PyTorch: {name}" in work}
    fitted = interleaved(work, max(3, runs // 3))
    return {
        "binary": {name: t / binary["memory copy"] for name, t in binary.items()},
        "milliseconds": {name: 1e3 * t for name, t in fitted.items()},
        "ratio to PyTorch": {name: fitted[name] / fitted[peer] for name, peer in peers.items()},
        "excess error": {
            name: excess_error(r, exact, w) for name, (r, exact) in ours.items() if exact
        },
        "extra arrays": {name: extra_arrays(work[name], w) for name in (*ours, *rows)},
        "levels": {f"{n} levels": fitted[f"{n} levels, prox"] / log2(n) * 1e3 for n in levels},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers here")
    parser.add_argument("--runs", type=int, default=15, help="runs of each, of which the median")
    args = parser.parse_args()
    if torch:
        torch.set_grad_enabled(False)
    result = measure(args.runs)
    titles = {
        "binary": "binary, 10,000,000 float32 weights: time as multiples of a memory copy",
        "milliseconds": "4,194,304 float32 weights: milliseconds",
        "ratio to PyTorch": "time as a part of the published PyTorch code's",
        "excess error": "squared error of a heuristic over that of the exact projection, less 1",
        "extra arrays": "memory added at the peak, in arrays of the input's size",
        "levels": "levels prox: milliseconds for each doubling of the levels",
    }
    for key, rows in result.items():
        print(f"\n{titles[key]}")
        for name, value in rows.items():
            print(f"  {name:36s} {value:10.4g}")
    if args.json:
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        versions["torch"] = torch.__version__ if torch else None
        args.json.write_text(json.dumps({"versions": versions, **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
