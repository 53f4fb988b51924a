"""Do the tests notice? Changes one token of the package at a time and runs the tests of its file.

    pip install cosmic-ray coverage
    python benchmarks/mutants.py [--mutants 600] [--seed 0] [--only autograd/ops.py] [--jobs 1]
        --out RESULTS

An operator is swapped, a comparison loosened, a constant changed, a condition negated: at places
drawn at random from all that the package has, annotations aside. Each mutant lives in a copy of the
checkout, one at a time, and is killed by a failing test or by taking too long, in processor time or
on the clock. The tests must pass on the unchanged copy first, where it is noted which of them reach
which lines: a mutant is given those that reach its own. RESULTS is a file of JSON lines that grows
with every mutant: run again to go on. At the end a table counts, for each package, the killed, the
equivalent (listed in mutants_equivalent.json, each with its reason) and the survivors, which are
printed as diffs; the exit code is 1 if there are any.
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
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

import cosmic_ray.plugins
import coverage

# What many tests import is imported once, before forking.
import hypothesis.extra.numpy  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import pytest
import scipy.optimize
import scipy.signal
import scipy.stats  # noqa: F401
from cosmic_ray.commands import init as list_mutations
from cosmic_ray.mutating import use_mutation
from cosmic_ray.work_db import WorkDB, use_db
from tqdm import tqdm

with suppress(ImportError):
    import torch  # noqa: F401

ROOT = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.json")
OPERATORS = re.compile(  # arithmetic becomes arithmetic: bits of floats would be no test at all
    r"core/(ReplaceBinaryOperator_(Add|Sub|Mul|Div|Pow|FloorDiv)_(Add|Sub|Mul|Div|Pow|FloorDiv)"
    r"|ReplaceBinaryOperator_(BitOr|BitAnd|BitXor|LShift|RShift)_(BitOr|BitAnd|LShift|RShift)"
    r"|ReplaceComparisonOperator_\w+|ReplaceUnaryOperator_\w+|Replace(And|Or|True|False)\w+"
    r"|NumberReplacer|AddNot)"
)
TESTS = {  # the longest prefix of a file's path decides which tests are its own, quick ones first
    "__init__.py": ["provenance"],
    "autograd/": ["autograd", "ops"],
    "autograd/conv.py": ["conv"],
    "autograd/pooling.py": ["conv"],
    "autograd/windows.py": ["conv"],
    "autograd/winograd.py": ["conv"],
    "autograd/gradcheck.py": ["gradcheck"],
    "autograd/losses.py": ["losses", "ops"],
    "autograd/memory.py": ["memory"],
    "autograd/norm.py": ["norm", "ops"],
    "autograd/recurrent.py": ["recurrent"],
    "autograd/summation.py": ["summation", "autograd", "ops"],
    "autograd/tensor.py": ["autograd", "nn", "ops", "changed_in_place"],
    "autograd/threads.py": ["conv"],
    "checks.py": ["checks", "prox", "bad_arguments", "optim"],
    "cli.py": ["cli", "bad_commands", "binary_digits", "experiments"],
    "commands/": ["bad_commands", "cli", "binary_digits", "experiments", "claims"],
    "conformance/": [
        "conformance_judges",
        "conformance_faults",
        "checkers_conformance",
        "conformance",
    ],
    "data/": ["data_*", "bad_files"],
    "experiments/": ["experiments", "claims", "binary_digits"],
    "experiments/binary_digits.py": ["binary_digits", "experiments"],
    "experiments/quantizer_gaps.py": ["quantizer_gaps"],
    "experiments/runner.py": ["runner", "experiments"],
    "experiments/settling.py": ["settling"],
    "experiments/statistics.py": ["statistics"],
    "experiments/theorems.py": ["claims"],
    "experiments/trials.py": ["claims"],
    "experiments/workers.py": ["runner_signals", "runner"],
    "files.py": ["checkpoint", "bad_files", "full_disk", "runner"],
    "interop/": ["interop_*", "bad_files"],
    "models/": ["models_*"],
    "nn/": ["nn", "bad_arguments", "models_mlp"],
    "nn/recurrent.py": ["recurrent"],
    "nn/trained_ternary.py": ["trained_ternary"],
    "optim/": ["optim", "prox_gradient", "dual_averaging", "checkers_optim"],
    "optim/askew.py": ["askew"],
    "optim/bop.py": ["bop"],
    "packing/": ["packing", "packing_product", "bad_files"],
    "plotting/": ["plotting", "figures"],
    "provenance.py": ["provenance"],
    "prox/": ["prox", "prox_*", "checkers_prox"],
    "prox/homotopy.py": ["homotopy"],
    "theory/": ["theory_*"],
    "theory/convergence.py": ["theory_convergence"],
    "theory/dual_averaging.py": ["theory_dual_averaging"],
    "theory/fixed_points.py": ["theory_fixed_points"],
    "theory/stability.py": ["theory_stability"],
    "theory/toys.py": ["theory_toys", "theory_convergence"],
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


def statement_at(source: str, line: int) -> tuple[range, bool]:
    """The lines of the innermost statement at a line, and whether a call runs it, not the import.

    Of a statement with a body, such as `if`, the lines up to the body.
    """
    lines, inside = range(line, line + 1), False

    def visit(node: ast.AST, within: bool) -> None:
        nonlocal lines, inside
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and child.lineno <= line <= child.end_lineno:
                body = getattr(child, "body", None)
                end = body[0].lineno - 1 if body else child.end_lineno
                lines, inside = range(child.lineno, max(end, child.lineno) + 1), within
                visit(child, within or isinstance(child, ast.FunctionDef))
            elif not isinstance(child, ast.stmt):
                visit(child, within)  # handlers and cases hold statements, too

    visit(ast.parse(source), False)
    return lines, inside


class Reach:
    """A plugin for the tests of the unchanged copy: which of them reach which lines, how quickly.

    What a shared fixture runs is reached by all tests of its file.
    """

    def __init__(self, package: Path, file: Path):
        self.package, self.file, self.seconds, self.current = package, file, {}, ""
        self.cover = coverage.Coverage(data_file=None, source=[str(package)], config_file=False)
        self.cover.start()
        self.cover.switch_context("")
        self.start_processes = set()
        sys.addaudithook(self.heard)

    def heard(self, event: str, arguments: tuple) -> None:
        if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec"):
            self.start_processes.add(self.current)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.current = item.nodeid
        self.cover.switch_context(item.nodeid)
        yield
        self.cover.switch_context("")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Iterator[None]:
        if fixturedef.scope != "function":
            self.cover.switch_context(self.current.partition("::")[0])
        yield
        self.cover.switch_context(self.current)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration

    def pytest_sessionfinish(self) -> None:
        self.cover.stop()
        data, lines = self.cover.get_data(), {}
        for path in data.measured_files():
            module = Path(path).relative_to(self.package).as_posix()
            lines[module] = data.contexts_by_lineno(path)
        found = {"seconds": self.seconds, "lines": lines, "processes": [*self.start_processes]}
        self.file.write_text(json.dumps(found), "utf-8")


class Chosen:
    """A plugin that runs only some tests, all if None, and those that take long at the end."""

    def __init__(self, seconds: dict[str, float], only: set[str] | None):
        self.seconds, self.only = seconds, only

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.only is not None:
            items[:] = [item for item in items if item.nodeid in self.only]
        slow = (0.03, 0.2, 1, 5)
        items.sort(key=lambda item: bisect(slow, self.seconds.get(item.nodeid, 0)))


def run_tests(files: list[str], limit: int, plugin: Callable[[], object]) -> tuple[str, float]:
    """What a process of its own says of these tests, and the processor time that it took.

    "survived" if all pass, "killed" if one fails, "slow" if it takes more than `limit` seconds of
    processor time, or five times as many on the clock.
    """

    def run() -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 10))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        options = ["-x", "-q", "-n0", "-p", "no:cacheprovider"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of hypothesis, see above
        sys.exit(pytest.main([*options, *files], plugins=[plugin()]))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(5 * limit)
    slow = child.exitcode in (None, -signal.SIGXCPU, -signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # whatever it has left running, too
    child.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # 5: no test was chosen, for none reaches the mutation
    passed = child.exitcode in (0, 5)
    return "slow" if slow else "survived" if passed else "killed", took


@contextmanager
def checkout() -> Iterator[Path]:
    """A copy of the checkout, the only place that the package is imported from."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for name in names.splitlines():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = str(copy)
        yield copy
        os.chdir(ROOT)
        sys.path.remove(str(copy))


def bytecode(write: bool) -> None:
    """Whether this process and its children may write any: of the unchanged copy, not of mutants.

    A mutant may have the size and the second of the original, all that Python compares.
    """
    sys.dont_write_bytecode = not write
    os.environ["PYTHONDONTWRITEBYTECODE"] = "" if write else "1"


def reaching(reach: dict, source: str, module: str, line: int) -> set[str] | None:
    """The tests that run the statement at a line of a module; None: all, as it runs before them."""
    lines, inside = statement_at(source, line)
    contexts = reach["lines"].get(module, {})
    found = {context for n in lines for context in contexts.get(str(n), [])}
    if not inside or "" in found:
        return None
    return {
        test
        for test in reach["seconds"]
        if test in found or test.partition("::")[0] in found or test in reach["processes"]
    }


def work(mutants: list[Mutant], out: Path) -> None:
    """Try these mutants, all of which have the same tests."""
    with checkout() as copy:
        files, package, file = tests_of(mutants[0].module, copy), copy / "proxquant_np", "reach"
        bytecode(write=True)
        outcome, usual = run_tests(files, 3600, lambda: Reach(package, Path(file)))
        if outcome != "survived":
            raise RuntimeError(f"the tests of {mutants[0].module} fail without a mutation: {files}")
        bytecode(write=False)
        reach = json.loads(Path(file).read_text("utf-8"))
        for mutant in mutants:
            path = package / mutant.module
            only = reaching(reach, path.read_text("utf-8"), mutant.module, mutant.line)
            needed = {str(copy / test.partition("::")[0]) for test in only or reach["seconds"]}
            operator = cosmic_ray.plugins.get_operator(mutant.operator)()
            Path(cache_from_source(str(path))).unlink(missing_ok=True)
            with use_mutation(path, operator, mutant.occurrence) as texts:
                plugin = partial(Chosen, reach["seconds"], only)
                outcome, took = run_tests(sorted(needed), 60 + round(4 * usual), plugin)
            diff = difflib.unified_diff(*(t.splitlines() for t in texts), n=0, lineterm="")
            result = {
                "key": mutant.key,
                "outcome": outcome,
                "change": [line.strip() for line in list(diff)[3:]],
                "tests": None if only is None else len(only),
                "took": round(took, 1),
            }
            with out.open("a", encoding="utf-8") as results:
                results.write(json.dumps(result) + "\n")


class Mutant(NamedTuple):
    """One change of one place: the operator's n-th in a module, and the line of it."""

    module: str
    operator: str
    occurrence: int
    line: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self[:3]


def mutations(copy: Path, only: str) -> list[Mutant]:
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
                module = Path(m.module_path).relative_to(package).as_posix()
                found.append(Mutant(module, m.operator_name, m.occurrence, m.start_pos[0]))
    return sorted(found)


def read(out: Path) -> dict[tuple, dict]:
    """What RESULTS says of each mutant tried; of one that was tried twice, the last."""
    lines = out.read_text("utf-8").splitlines() if out.exists() else []
    return {tuple(r["key"]): r for r in map(json.loads, lines)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only files whose path contains this")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    out = options.out.resolve()
    equivalent = {tuple(e["change"]) for e in json.loads(EQUIVALENT.read_text("utf-8"))}
    with checkout() as copy:
        found = mutations(copy, options.only)
        drawn = random.Random(options.seed).sample(found, min(options.mutants, len(found)))
        done, groups = read(out), {}
        for mutant in drawn:
            if mutant.key not in done:
                groups.setdefault(tuple(tests_of(mutant.module, copy)), []).append(mutant)
    pool = ProcessPoolExecutor(options.jobs, multiprocessing.get_context("fork"))
    largest_first = sorted(groups.values(), key=len, reverse=True)
    with pool, tqdm(total=len(drawn), initial=len(done)) as bar:
        for group in as_completed([pool.submit(work, group, out) for group in largest_first]):
            group.result()
            bar.update(len(read(out)) - bar.n)
    done = read(out)
    return report([done[mutant.key] for mutant in drawn], equivalent)


def report(results: list[dict], equivalent: set[tuple[str, ...]]) -> int:
    """Print the table and the survivors; 1 if there are any, else 0."""
    counts: dict[str, Counter] = {}
    for r in results:
        outcome = r["outcome"].replace("slow", "killed")
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
