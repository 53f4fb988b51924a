"""Products with packed weights against the float product: time and memory.

    python benchmarks/packed.py [--rounds N] [--json OUT]

The float product x @ W^T has its matrix ready. `PackedMatrix` unpacks it anew for every product,
some rows at a time; `sign_product` gets inputs that are binary as well, packs them (which is timed)
and counts bits. Memory is that of the weights, and the most that a call needs beside them.
"""

import argparse
from collections.abc import Callable

import harness  # first: it sets the number of threads
import numpy as np

from proxquant_np import prox
from proxquant_np.packing import Codes, PackedMatrix, pack_signs, sign_product

SHAPES = {  # outputs, inputs
    "digits layer": (64, 64),
    "1024 x 1024": (1024, 1024),
    "4096 x 4096": (4096, 4096),
}
BATCHES = (1, 8, 64, 512)
FLOAT = "float32"


def contest(outputs: int, inputs: int, batch: int) -> tuple[dict[str, Callable], dict[str, int]]:
    """The contestants, checked against each other, and the bytes of their weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, inputs)).astype(np.float32)
    signs = prox.sign_pm(x)
    drawn = rng.normal(size=(outputs, inputs)).astype(np.float32)
    runs: dict[str, Callable] = {}
    sizes = {}
    for name, regularizer in (
        ("1 bit", prox.BinaryL1()),
        ("2 bits", prox.TernaryL2()),
        ("4 bits", prox.UniformL2(4)),
        ("1 bit, scaled rows", prox.MultiBitL2(1, axis=0)),
    ):
        matrix = PackedMatrix(Codes.of(drawn, regularizer))
        w = regularizer.project(drawn)
        if not np.allclose(matrix.product(x), x @ w.T, rtol=1e-3, atol=1e-3 * inputs**0.5):
            raise SystemExit(f"{name} disagrees with the float product")
        runs[name], sizes[name] = (lambda m=matrix: m.product(x)), matrix.nbytes
    binary = prox.sign_pm(drawn)
    packed = pack_signs(binary)
    if not np.array_equal(sign_product(pack_signs(signs), packed, inputs), signs @ binary.T):
        raise SystemExit("the product of signs disagrees with the float product")
    runs["signs"] = lambda: sign_product(pack_signs(signs), packed, inputs)
    sizes["signs"] = packed.nbytes
    return {FLOAT: lambda: x @ binary.T, **runs}, {FLOAT: binary.nbytes, **sizes}


def main() -> None:
    """Time everything, print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns for every contestant")
    parser.add_argument("--json", metavar="OUT", help="also write the report to this file")
    args = parser.parse_args()

    where = harness.machine()
    print(f"{where['processor']}, {harness.THREADS} threads, {where['blas']}, {args.rounds} rounds")
    print(
        "time divided by that of the float product; (bytes of weights + most a call needs, in kB)"
    )
    rows = []
    for task, (outputs, inputs) in SHAPES.items():
        for batch in BATCHES:
            runs, sizes = contest(outputs, inputs, batch)
            times = harness.take_turns(runs, args.rounds)
            ratios = {name: harness.ratio(times, name, FLOAT) for name in runs}
            medians = {name: float(np.median(t)) for name, t in times.items()}
            extra = {name: harness.peak_bytes(run) for name, run in runs.items()}
            print(f"\n{task}, batch {batch}: {1e3 * medians[FLOAT]:.4g} ms")
            for name in runs:
                memory = f"({sizes[name] / 1e3:,.0f} + {extra[name] / 1e3:,.0f})"
                print(f"  {name:20}{ratios[name]:8.2f}  {memory:>20}")
            row = {"task": task, "batch": batch, "seconds": medians, "ratios": ratios}
            rows.append({**row, "weight_bytes": sizes, "call_bytes": extra})
    if args.json:
        harness.write_json(args.json, {"machine": where, "rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
