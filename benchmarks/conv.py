"""One training step of ResNet-20 and of SmallCNN: here and in PyTorch, time and peak memory.

    python benchmarks/conv.py [--rounds N] [--old PATH] [--no-memory] [--no-scaling] [--json OUT]

A step is forward, cross-entropy, backward and Adam, in float32. ResNet-20 sees 128 images of
3x32x32, SmallCNN 64 of 1x8x8. PyTorch appears twice: in its default layout, which is the one to
beat, and channels last. Before the clock starts, all gradients are compared. A second table has
every contestant in a process of its own: ours also with `pq.keep_memory`, and as another checkout
has it (--old). Those take turns, too, and the ratios are of processor time.

Peak memory is that of a process which does nothing but two steps, less what it held before
the first; each library has a process of its own. The scaling tables are ResNets of ours over batch,
width, depth and threads, with peak memory by tracemalloc, and the slopes of the logarithms: 1 is
proportional.
"""

# ruff: noqa: I001
import harness

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import proxquant_np as pq
import proxquant_np.functional as F

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import torch_twins

torch.set_num_threads(harness.THREADS)
pq.set_num_threads(harness.THREADS)
HERE, PEER, LAST = "proxquant_np", "PyTorch", "channels last"
KEEPS, OLD = "keeping memory", "old build"
TASKS = {  # name: (images, the ratio to reach)
    "ResNet": ((128, 3, 32, 32), 0.85),
    "SmallCNN": ((64, 1, 8, 8), 0.6),
}
SCALING = {
    "batch": (8, 32, 128),
    "width": (8, 16, 32),
    "depth": (8, 20, 32),
    "threads": tuple(sorted({1, 2, harness.THREADS})),
}

Step = Callable[[], object]


def batch(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=shape).astype(np.float32), rng.integers(0, 10, shape[0])


def our_step(model: pq.nn.Module, shape: tuple[int, ...]) -> Step:
    """A training step here."""
    x, y = batch(shape)
    optimizer = pq.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def peer_step(model: torch.nn.Module, shape: tuple[int, ...], layout: torch.memory_format) -> Step:
    """A training step in PyTorch."""
    x, y = map(torch.from_numpy, batch(shape))
    model, x = model.to(memory_format=layout), x.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def contestants(name: str, shape: tuple[int, ...]) -> dict[str, Step]:
    """All three, from one state, their gradients compared."""
    model = getattr(pq.models, name)(rng=0)
    twins = [getattr(torch_twins, name)() for _ in range(2)]
    for twin in twins:
        twin.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    steps = {
        HERE: our_step(model, shape),
        PEER: peer_step(twins[0], shape, torch.contiguous_format),
        LAST: peer_step(twins[1], shape, torch.channels_last),
    }
    for step in steps.values():
        step()
    for twin in twins:
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            theirs = q.grad.numpy()
            # Rounding moves a few activations across the kinks of 19 ReLUs: PyTorch's own float32
            # gradients are per cents off its float64 ones. (The tests compare in float64.)
            if np.linalg.norm(p.grad - theirs) > 0.05 * np.linalg.norm(theirs):
                raise SystemExit(f"{name}: {HERE} disagrees with {PEER}")
    return steps


def peak_megabytes_of_process(name: str, library: str) -> float:
    """Two steps in a fresh process."""
    code = f"import conv; conv.report_peak({name!r}, {library!r})"
    where = Path(__file__).parent
    run = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, check=True)
    return float(run.stdout)


def report_peak(name: str, library: str) -> None:
    """Print how many megabytes two steps take at most, beyond what the process held before."""
    shape = TASKS[name][0]
    if library == HERE:
        step = our_step(getattr(pq.models, name)(rng=0), shape)
    else:
        step = peer_step(getattr(torch_twins, name)(), shape, torch.contiguous_format)
    before = memory("VmRSS")
    step()
    step()
    print((memory("VmHWM") - before) / 1024)


def serve(name: str, who: str) -> None:
    """In a process of its own: for every line that comes in, the seconds of a step go out."""
    shape = TASKS[name][0]
    if who in (PEER, LAST):
        layout = torch.channels_last if who == LAST else torch.contiguous_format
        step = peer_step(getattr(torch_twins, name)(), shape, layout)
    else:
        if who == KEEPS:
            pq.keep_memory()
        step = our_step(getattr(pq.models, name)(rng=0), shape)
    step()
    start = time.perf_counter()
    step()
    calls = max(1, int(0.2 / (time.perf_counter() - start)))
    print("ready", flush=True)
    for _ in sys.stdin:
        step()
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(calls):
            step()
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(wall / calls, busy / calls, (after.ru_minflt - before.ru_minflt) / calls, flush=True)


def own_processes(name: str, rounds: int, old: str | None) -> dict[str, np.ndarray]:
    """Of every contestant and round: seconds, seconds of the processor, page faults of a step."""
    workers = {}
    for who in (HERE, KEEPS, *([OLD] if old else []), PEER, LAST):
        environment = os.environ | ({"PYTHONPATH": old} if who == OLD else {})
        workers[who] = subprocess.Popen(
            [sys.executable, "-c", f"import conv; conv.serve({name!r}, {who!r})"],
            cwd=Path(__file__).parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    for worker in workers.values():
        worker.stdout.readline()
    times: dict[str, list[list[float]]] = {who: [] for who in workers}
    for _ in range(rounds):
        for who, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            times[who].append([float(value) for value in worker.stdout.readline().split()])
    for worker in workers.values():
        worker.communicate()
    return {who: np.array(values) for who, values in times.items()}


def print_own_processes(rounds: int, old: str | None) -> list[dict[str, object]]:
    """The table of `own_processes`, and its rows for the report."""
    rows = []
    title = "in processes of their own"
    print(f"\n{title:34}{'ms':>9}{'processor ms':>14}{'faults':>9}{'of ' + PEER:>14}{'of old':>9}")
    for name in TASKS:
        times = own_processes(name, rounds, old)
        for who, values in times.items():
            wall, busy, faults = np.median(values, 0)
            of = {
                peer: float(np.median(values[:, 1] / times[peer][:, 1]))
                for peer in (PEER, LAST, OLD)
                if peer in times
            }
            print(
                f"{name + ', ' + who:34}{1e3 * wall:9.4g}{1e3 * busy:14.4g}{faults:9.0f}"
                f"{of[PEER]:14.2f}" + (f"{of[OLD]:9.2f}" if old else "")
            )
            rows.append(
                dict(task=name, who=who, seconds=wall, processor=busy, faults=faults, ratios=of)
            )
    return rows


def memory(field: str) -> int:
    """Kilobytes that this process holds (VmRSS) or has held at most (VmHWM); Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0])


def scaling(rounds: int) -> list[dict[str, object]]:
    """Seconds and peak memory of our step over batch, width, depth, threads; prints all."""
    rows: list[dict[str, object]] = []
    print(f"\n{'ResNet-depth, width, batch, threads':40}{'ms':>9}{'peak MB':>12}")
    for axis, values in SCALING.items():
        part = []
        for value in values:
            size = {"batch": 32, "width": 16, "depth": 20, "threads": harness.THREADS}
            size[axis] = value
            pq.set_num_threads(size["threads"])
            step = our_step(
                pq.models.ResNet(size["depth"], size["width"]), (size["batch"], 3, 32, 32)
            )
            seconds = float(np.median(harness.take_turns({HERE: step}, rounds)[HERE]))
            peak = harness.peak_bytes(step) / 1e6
            name = "{depth:>6}, {width:>5}, {batch:>5}, {threads:>7}".format(**size)
            print(f"{name:40}{1e3 * seconds:9.4g}{peak:12.4g}")
            part.append(dict(axis=axis, **size, seconds=seconds, peak_megabytes=peak))
        slopes = harness.slopes(values, part) if len(values) > 1 else {}
        if slopes:
            print(f"{'slope over ' + axis:40}" + "{:9.2f}{:12.2f}".format(*slopes.values()))
        rows += [*part, dict(axis=axis, slopes=slopes)]
    pq.set_num_threads(harness.THREADS)
    return rows


def main() -> None:
    """Time everything, print the tables, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns for all")
    parser.add_argument("--old", metavar="PATH", help="also time the package of this checkout")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the scaling tables")
    parser.add_argument("--json", metavar="OUT", help="also write the report to this file")
    args = parser.parse_args()

    where = harness.machine("torch")
    harness.print_machine(where, args.rounds)
    print("our time divided by the peer's, medians of the rounds\n")
    print(f"{'training step':34}{'ms':>9}{PEER:>18}{LAST:>18}")
    rows = []
    for name, (shape, target) in TASKS.items():
        times = harness.take_turns(contestants(name, shape), args.rounds)
        ratios = {peer: harness.ratio(times, HERE, peer) for peer in (PEER, LAST)}
        medians = {who: float(np.median(t)) for who, t in times.items()}
        print(
            f"{name + ', ' + 'x'.join(map(str, shape)):34}{1e3 * medians[HERE]:9.4g}"
            f"{ratios[PEER]:8.2f} (<= {target:.2f}){ratios[LAST]:18.2f}"
        )
        rows.append(dict(task=name, seconds=medians, ratios=ratios, target=target))
    report = {"machine": where, "rounds": args.rounds, "rows": rows}
    report["own_processes"] = print_own_processes(args.rounds, args.old)
    if not args.no_memory:
        peaks = {who: peak_megabytes_of_process("ResNet", who) for who in (HERE, PEER)}
        ratio = peaks[HERE] / peaks[PEER]
        print(f"\npeak memory, ResNet: {peaks[HERE]:.0f} MB, {ratio:.2f} of {PEER}'s (<= 0.75)")
        report["peak_megabytes"] = peaks
    if not args.no_scaling:
        report["scaling"] = scaling(max(3, args.rounds // 5))
    if args.json:
        harness.write_json(args.json, report)


if __name__ == "__main__":
    main()
