"""What the benchmarks share: equal threads, contestants that take turns, ratios, a JSON report.

Import this before NumPy: the number of threads is read when the numerical libraries load. It is
OMP_NUM_THREADS if that is set, else the number of processors.
"""

import os

THREADS = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = str(THREADS)

import gc  # noqa: E402
import importlib.metadata  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import tracemalloc  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402


def take_turns(
    contestants: dict[str, Callable[[], object]], rounds: int, seconds: float = 0.05
) -> dict[str, np.ndarray]:
    """Seconds per call, one number a round, for every contestant.

    In each round every contestant runs for about `seconds`, after an untimed call that brings its
    data into the cache and lets the other library's threads go to sleep. The order turns from
    round to round, and garbage collection waits until the clock has stopped.
    """
    calls = {}
    for name, run in contestants.items():
        run()
        start = time.perf_counter()
        run()
        calls[name] = max(1, int(seconds / (time.perf_counter() - start)))
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            run = contestants[name]
            time.sleep(0.002)
            run()
            gc.collect()
            gc.disable()
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - start) / calls[name])
            gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def ratio(times: dict[str, np.ndarray], a: str, b: str) -> float:
    """The median over the rounds of a's time divided by b's in the same round."""
    return float(np.median(times[a] / times[b]))


def machine(*packages: str) -> dict[str, object]:
    """Where this ran: processor, threads, and the versions of Python, NumPy and `packages`."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = named[0].split(":")[1].strip() if named else processor
    from proxquant_np.autograd.threads import blas_kernel  # an old build may have none

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = {name: importlib.metadata.version(name) for name in ("numpy", *packages)}
    return {
        "processor": processor,
        "processors": os.cpu_count(),
        "threads": THREADS,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": blas_kernel() or f"{blas['name']} {blas['version']}",
        "versions": versions,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def print_machine(where: dict[str, object], rounds: int) -> None:
    """A line that says so, and how many rounds there are."""
    versions = (f"{package} {version}" for package, version in where["versions"].items())
    print(
        where["processor"],
        where["blas"],
        f"{THREADS} threads",
        f"{rounds} rounds",
        *versions,
        sep=", ",
    )


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that a call holds at one time, its result included, by tracemalloc."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def slopes(values: Sequence[float], rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of seconds and peak memory, the slopes of the logarithms over log(values)."""
    return {
        what: float(np.polyfit(np.log(values), np.log([row[what] for row in rows]), 1)[0])
        for what in ("seconds", "peak_megabytes")
    }


def write_json(path: str | Path, report: dict[str, object]) -> None:
    """Write the report."""
    Path(path).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
