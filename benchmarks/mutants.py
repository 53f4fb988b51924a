"""Do the tests notice? Changes one token of the package at a time and runs the tests of its file.

    pip install cosmic-ray
    python benchmarks/mutants.py [--mutants 600] [--seed 0] [--only autograd/ops.py] --out RESULTS

An operator is swapped, a comparison loosened, a constant changed, a condition negated: at places
drawn at random from all that the package has, annotations aside. Each mutant lives in a copy of the
checkout, one at a time, and is killed by a failing test or a timeout. RESULTS is a file of JSON
lines that grows with every mutant: run again to go on. At the end a table counts, for each package,
the killed, the equivalent (listed in mutants_equivalent.json, each with its reason) and the
survivors, which are printed as diffs; the exit code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import cosmic_ray.plugins
import numpy  # noqa: F401  (what all tests import is imported once, before forking)
import pytest
from cosmic_ray.commands import init as list_mutations
from cosmic_ray.mutating import use_mutation
from cosmic_ray.work_db import WorkDB, use_db
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.json")
OPERATORS = re.compile(  # arithmetic becomes arithmetic: bits of floats would be no test at all
    r"core/(ReplaceBinaryOperator_(Add|Sub|Mul|Div|Pow|FloorDiv)_(Add|Sub|Mul|Div|Pow|FloorDiv)"
    r"|ReplaceBinaryOperator_(BitOr|BitAnd|BitXor|LShift|RShift)_(BitOr|BitAnd|LShift|RShift)"
    r"|ReplaceComparisonOperator_\w+|ReplaceUnaryOperator_\w+|Replace(And|Or|True|False)\w+"
    r"|NumberReplacer|AddNot)"
)
TIMEOUT = 120  # seconds: an endless loop is noticed, too
TESTS = {  # the longest prefix of a file's path decides which tests are its own, quick ones first
    "autograd/": ["autograd", "ops"],
    "autograd/conv.py": ["conv"],
    "autograd/pooling.py": ["conv"],
    "autograd/windows.py": ["conv"],
    "autograd/winograd.py": ["conv"],
    "autograd/gradcheck.py": ["gradcheck"],
    "autograd/losses.py": ["losses", "ops"],
    "autograd/norm.py": ["norm", "ops"],
    "autograd/recurrent.py": ["recurrent"],
    "autograd/tensor.py": ["autograd", "nn"],
    "cli.py": ["cli", "bad_commands", "binary_digits"],
    "conformance/": ["conformance_faults", "checkers_conformance", "conformance"],
    "data/": ["data_*", "bad_files"],
    "experiments/": ["experiments", "claims", "binary_digits"],
    "experiments/quantizer_gaps.py": ["quantizer_gaps"],
    "experiments/runner.py": ["runner", "experiments"],
    "experiments/settling.py": ["settling"],
    "experiments/statistics.py": ["statistics"],
    "interop/": ["interop_*", "bad_files"],
    "models/": ["models_*"],
    "nn/": ["nn", "bad_arguments", "models_mlp"],
    "nn/recurrent.py": ["recurrent"],
    "nn/trained_ternary.py": ["trained_ternary"],
    "optim/": ["optim", "prox_gradient", "dual_averaging", "checkers_optim"],
    "optim/bop.py": ["bop"],
    "packing/": ["packing", "packing_product", "bad_files"],
    "plotting/": ["plotting"],
    "prox/": ["prox", "prox_*", "checkers_prox"],
    "prox/homotopy.py": ["homotopy"],
    "theory/": ["theory_*"],
    "theory/convergence.py": ["theory_convergence"],
    "theory/dual_averaging.py": ["theory_dual_averaging"],
    "theory/fixed_points.py": ["theory_fixed_points"],
    "theory/stability.py": ["theory_stability"],
    "theory/toys.py": ["theory_toys"],
    "training/": ["fit", "fit_text", "checkpoint"],
    "training/metrics.py": ["metrics", "fit"],
}


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where type hints begin and end: what they say is never run."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if hint is not None:
                spans.append(
                    ((hint.lineno, hint.col_offset), (hint.end_lineno, hint.end_col_offset))
                )
    return spans


def tests_of(module: str, copy: Path) -> list[str]:
    """The test files of a module, as paths in the copy."""
    prefix = max((p for p in TESTS if module.startswith(p)), key=len, default=None)
    names = TESTS[prefix] if prefix else ["autograd"]
    return [str(f) for name in names for f in sorted((copy / "tests").glob(f"test_{name}.py"))]


def run_tests(files: list[str]) -> str:
    """Whether a process of its own finds these tests "killed" or "survived"."""

    def run() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.exit(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *files]))

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(TIMEOUT)
    if child.exitcode is None:
        child.kill()
        child.join()
    return "survived" if child.exitcode == 0 else "killed"


def mutations(copy: Path, only: str) -> list:
    """Every mutation of the package, in a fixed order."""
    package, found = copy / "proxquant_np", []
    files = [f for f in sorted(package.rglob("*.py")) if only in f.as_posix()]
    hints = {str(f): annotations(f.read_text("utf-8")) for f in files}
    with use_db(":memory:", WorkDB.Mode.create) as db:
        list_mutations(files, db, {})
        for item in db.work_items:
            (m,) = item.mutations
            hinted = any(a <= m.start_pos < b for a, b in hints[str(m.module_path)])
            if OPERATORS.fullmatch(m.operator_name) and not hinted:
                found.append(m)
    return sorted(found, key=lambda m: (str(m.module_path), m.operator_name, m.occurrence))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only files whose path contains this")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    equivalent = {tuple(e["change"]) for e in json.loads(EQUIVALENT.read_text("utf-8"))}
    done = {}
    if options.out.exists():
        lines = options.out.read_text("utf-8").splitlines()
        done = {tuple(r["key"]): r for r in map(json.loads, lines)}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
        for name in names.splitlines():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True  # a mutant may be written within the same second
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        all_of_them = mutations(copy, options.only)
        drawn = random.Random(options.seed).sample(
            all_of_them, min(options.mutants, len(all_of_them))
        )
        results = []
        for m in tqdm(drawn, smoothing=0):
            module = Path(m.module_path).relative_to(copy / "proxquant_np").as_posix()
            key = (module, m.operator_name, m.occurrence)
            if key not in done:
                operator = cosmic_ray.plugins.get_operator(m.operator_name)()
                with use_mutation(m.module_path, operator, m.occurrence) as texts:
                    outcome = run_tests(tests_of(module, copy))
                diff = difflib.unified_diff(*(t.splitlines() for t in texts), n=0, lineterm="")
                changed = [line.strip() for line in list(diff)[3:]]
                done[key] = {"key": key, "outcome": outcome, "change": changed}
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[key]) + "\n")
            results.append(done[key])
    return report(results, equivalent)


def report(results: list[dict], equivalent: set[tuple[str, ...]]) -> int:
    """Print the table and the survivors; 1 if there are any, else 0."""
    counts: dict[str, Counter] = {}
    for r in results:
        outcome = r["outcome"]
        if outcome == "survived" and (r["key"][0], *r["change"]) in equivalent:
            outcome = "equivalent"
        r["outcome"] = outcome
        counts.setdefault(r["key"][0].partition("/")[0], Counter())[outcome] += 1
    print(f"{'':14}{'mutants':>9}{'killed':>9}{'equivalent':>12}{'survived':>10}")
    for name, count in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        row = f"{count['killed']:9}{count['equivalent']:12}{count['survived']:10}"
        print(f"{name:14}{count.total():9}{row}")
    survivors = [r for r in results if r["outcome"] == "survived"]
    for r in survivors:
        print("", r["key"][0], *r["change"], sep="\n  ")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
