"""Training steps and a prox on a GPU: here, with CuPy's arrays, and in PyTorch on the same card.

    python -m benchmarks.gpu [--rounds N] [--minutes M] [--json OUT]

ResNet-20 at batch 128, a language model with an LSTM of 300 units (10,000 words, 30 time steps,
batch 20), both with Adam, and BinaryL1's prox of 10 million weights, which is held against a copy
of the same array; all in float32, without TF32. Before the clock starts, the losses of three steps
are compared. Memory is what a library's pool has reserved at the peak. Then ResNet-20 is trained
for an epoch of 390 steps on images drawn around a centre for each class, once with each library
and, as far as the time goes, with NumPy on the processor; the report holds the three loss curves.
"""

# ruff: noqa: I001
from benchmarks import harness

import argparse
import gc
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import proxquant_np as pq
import proxquant_np.functional as F

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import torch_twins

HERE, PEER, HOST, COPY = "proxquant_np", "PyTorch", "NumPy", "copy"
TARGETS = {"step": 1.5, "memory": 1.5, "prox": 1.2}

Batch = tuple[np.ndarray, np.ndarray]
Step = Callable[[Batch], Any]  # takes a training step on a batch, and returns its loss, unread


class Device(NamedTuple):
    """Where a library computes: how arrays get there, how to wait, what its memory pool holds."""

    move: Callable[[np.ndarray], Any]
    wait: Callable[[], None] = lambda: None
    reserved: Callable[[], int] = lambda: 0
    free: Callable[[], None] = lambda: None  # gives back what is not used


class Task(NamedTuple):
    """A network here, its twin in PyTorch, and batches for both."""

    model: Callable[[], pq.nn.Module]
    twin: Callable[[], torch.nn.Module]
    batches: Callable[[], Iterator[Batch]]


def resnet(batch: int = 128, size: int = 32, **options: int) -> Task:
    """ResNet-20; images are drawn around a centre for each of ten classes."""

    def batches() -> Iterator[Batch]:
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(10, 3, size, size)).astype(np.float32)
        while True:
            y = rng.integers(0, 10, batch)
            noise = rng.standard_normal((batch, 3, size, size), np.float32)
            yield 0.1 * centres[y] + noise, y

    return Task(
        lambda: pq.models.ResNet(**options, rng=0), lambda: torch_twins.ResNet(**options), batches
    )


def language_model(
    words: int = 10_000, units: int = 300, length: int = 30, batch: int = 20
) -> Task:
    """An LSTM language model; words are drawn uniformly."""

    def batches() -> Iterator[Batch]:
        rng = np.random.default_rng(0)
        while True:
            tokens = rng.integers(0, words, (length + 1, batch))
            yield tokens[:-1], tokens[1:]

    return Task(
        lambda: pq.models.LSTMLanguageModel(words, units, units, rng=0),
        lambda: torch_twins.LSTMLanguageModel(words, units, units),
        batches,
    )


def step_here(task: Task, device: Device) -> Step:
    """A training step of a new network."""
    model = task.model().to(device.move)
    adam = pq.optim.Adam(model.parameters(), 1e-3)

    def step(batch: Batch) -> Any:
        x, y = batch
        adam.zero_grad()
        out = model(x if x.dtype.kind == "i" else pq.Tensor(device.move(x)))
        logits = out[0] if isinstance(out, tuple) else out
        loss = F.cross_entropy(F.reshape(logits, (-1, logits.shape[-1])), y.reshape(-1))
        loss.backward()
        adam.step()
        return loss.data

    return step


def step_of_peer(task: Task, device: Device) -> Step:
    """The same step in PyTorch, from the same weights."""
    twin = task.twin()
    weights = task.model().state_dict().items()
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in weights}, strict=False)
    twin = twin.to(device.move(np.zeros(1)).device)
    adam = torch.optim.Adam(twin.parameters(), 1e-3)

    def step(batch: Batch) -> Any:
        x, y = map(device.move, batch)
        adam.zero_grad()
        out = twin(x)
        logits = out[0] if isinstance(out, tuple) else out
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
        )
        loss.backward()
        adam.step()
        return loss.detach()

    return step


MAKE = {HERE: step_here, PEER: step_of_peer}


def measure(task: Task, devices: dict[str, Device], rounds: int) -> dict[str, Any]:
    """Seconds a step and peak memory of both, and their ratios; SystemExit if losses differ."""
    steps, losses, peaks = {}, {}, {}
    for name, device in devices.items():
        gc.collect()
        device.free()
        before = device.reserved()
        steps[name] = MAKE[name](task, device)
        losses[name] = [float(steps[name](b)) for b in itertools.islice(task.batches(), 3)]
        device.wait()
        peaks[name] = device.reserved() - before
    if not np.allclose(losses[HERE], losses[PEER], rtol=1e-3):
        raise SystemExit(f"{HERE} disagrees with {PEER}: losses {losses}")
    batch = next(task.batches())
    runs = {
        name: lambda step=steps[name], wait=device.wait: (step(batch), wait())
        for name, device in devices.items()
    }
    times = harness.take_turns(runs, rounds)
    return {
        "seconds": {name: float(np.median(t)) for name, t in times.items()},
        "peak_bytes": peaks,
        "ratio": harness.ratio(times, HERE, PEER),
        "memory_ratio": peaks[HERE] / peaks[PEER] if peaks[PEER] else None,
        "losses": losses,
    }


def measure_prox(devices: dict[str, Device], rounds: int, n: int, calls: int = 20) -> dict:
    """Seconds for BinaryL1's prox, here and in PyTorch, and for a copy; `calls` before a wait."""
    w = np.random.default_rng(0).normal(size=n).astype(np.float32)
    here, peer, R, s = devices[HERE], devices[PEER], pq.prox.BinaryL1(), 0.25
    ours, theirs = here.move(w), peer.move(w)
    out, peer_out = here.move(np.zeros_like(w)), torch.zeros_like(theirs)

    def prox_of_peer() -> None:
        sign = torch.where(theirs >= 0, 1.0, -1.0)
        torch.clamp(sign, theirs - s, theirs + s, out=peer_out)

    def several(run: Callable[[], object], wait: Callable[[], None]) -> Callable[[], None]:
        def all_of_them() -> None:
            for _ in range(calls):
                run()
            wait()

        return all_of_them

    runs = {
        HERE: several(lambda: R.prox(ours, s, out=out), here.wait),
        COPY: several(lambda: np.copyto(out, ours), here.wait),
        PEER: several(prox_of_peer, peer.wait),
    }
    times = harness.take_turns(runs, rounds)
    R.prox(ours, s, out=out)
    prox_of_peer()
    largest = abs(float(np.abs(out - here.move(peer_out.cpu().numpy())).max()))
    if largest > 1e-6:
        raise SystemExit(f"prox: {HERE} differs from {PEER} by {largest}")
    return {
        "seconds": {name: float(np.median(t)) / calls for name, t in times.items()},
        "ratio": harness.ratio(times, HERE, COPY),
        "ratio_to_peer": harness.ratio(times, HERE, PEER),
    }


def epoch(task: Task, make: Any, device: Device, steps: int, until: float = math.inf) -> dict:
    """The loss of every step, as far as the time `until` allows, and seconds for all of them."""
    step, losses, start = make(task, device), [], time.monotonic()
    for batch in itertools.islice(task.batches(), steps):
        losses.append(float(step(batch)))
        if time.monotonic() > until:
            break
    return {"losses": losses, "seconds": time.monotonic() - start}


def gpu() -> tuple[dict[str, Device], dict[str, Any]]:
    """The card as both libraries see it, and what it is; SystemExit if there is none."""
    from proxquant_np.provenance import environment

    try:
        move = pq.libraries.mover("cupy")
    except (ModuleNotFoundError, OSError) as error:
        raise SystemExit(f"benchmarks.gpu needs a GPU: {error}") from None
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a PyTorch that finds the GPU, got one that does not")
    import cupy

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    pool = cupy.get_default_memory_pool()
    devices = {
        HERE: Device(
            move, cupy.cuda.get_current_stream().synchronize, pool.total_bytes, pool.free_all_blocks
        ),
        PEER: Device(
            lambda a: torch.from_numpy(a).cuda(),
            torch.cuda.synchronize,
            torch.cuda.memory_reserved,  # never shrinks by itself
            torch.cuda.empty_cache,
        ),
    }
    return devices, environment("cupy")


def report(
    devices: dict[str, Device],
    tasks: dict[str, Task],
    rounds: int,
    weights: int,
    steps: int,
    until: float,
) -> dict[str, Any]:
    """Measure everything, and print the table; then `steps` steps of the first task, the curves."""
    rows = {}
    print(f"{'':16}{'ms':>9}{PEER:>10}{'ratio':>8}{'memory':>8}")
    for name, task in tasks.items():
        rows[name] = row = measure(task, devices, rounds)
        ms = [1e3 * row["seconds"][who] for who in (HERE, PEER)]
        memory = f"{row['memory_ratio']:8.2f}" if row["memory_ratio"] else ""
        print(f"{name:16}{ms[0]:9.3f}{ms[1]:10.3f}{row['ratio']:8.2f}{memory}")
    rows["prox"] = row = measure_prox(devices, rounds, weights)
    print(f"{'prox':16}{1e3 * row['seconds'][HERE]:9.3f}  {row['ratio']:.2f} times a copy")
    first = next(iter(tasks.values()))
    curves = {name: epoch(first, MAKE[name], device, steps) for name, device in devices.items()}
    curves[HOST] = epoch(first, step_here, Device(np.asarray), steps, until)
    for name, curve in curves.items():
        done, last = len(curve["losses"]), curve["losses"][-1]
        print(f"{name}: {done} steps in {curve['seconds']:.1f} s, the last loss {last:.4f}")
    return {"rows": rows, "epoch": curves, "targets": TARGETS, "rounds": rounds}


def main() -> None:
    """Time everything, print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns for both")
    parser.add_argument("--minutes", type=float, default=9, help="NumPy's epoch ends with them")
    parser.add_argument("--json", metavar="OUT", help="also write the report to this file")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    devices, made = gpu()
    tasks = {"ResNet-20": resnet(), "language model": language_model()}
    found = {"machine": harness.machine("torch"), "environment": made}
    found |= report(devices, tasks, args.rounds, 10_000_000, 390, until)
    if args.json:
        harness.write_json(args.json, found)


if __name__ == "__main__":
    main()
