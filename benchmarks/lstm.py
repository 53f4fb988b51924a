"""One training step of an LSTM language model, and one LSTM layer: here and in PyTorch.

    python benchmarks/lstm.py [--rounds N] [--no-scaling] [--json OUT]

The language model is the paper's: embedding, one LSTM of 300 units, linear, 10,000 words, 30 time
steps, batch 20; a step is forward, cross-entropy, backward and Adam, in float32. The layer alone
is forward and backward from a given gradient, the input's gradient included. Before the clock
starts, both libraries' results are compared. The scaling table is the layer over sequence length
and batch, with our peak memory (the process's arrays, by tracemalloc) and the slopes of log time
and log memory: 1 is proportional.
"""

# ruff: noqa: I001
import harness

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import proxquant_np as pq
import proxquant_np.functional as F

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import torch_twins

torch.set_num_threads(harness.THREADS)
HERE, PEER = "proxquant_np", "PyTorch"
VOCABULARY, UNITS, LENGTH, BATCH = 10_000, 300, 30, 20
LENGTHS, BATCHES = (10, 30, 100, 300), (1, 5, 20, 80)

Step = Callable[[], object]


def agree(what: str, pairs: list[tuple[np.ndarray, torch.Tensor]]) -> None:
    """Stop the program if the two libraries' arrays differ by more than 1e-4 of the largest."""
    for ours, theirs in pairs:
        theirs = theirs.detach().numpy()
        if np.abs(ours - theirs).max() > 1e-4 * np.abs(theirs).max():
            raise SystemExit(f"{what}: {HERE} disagrees with {PEER}")


def copy_weights(model: pq.nn.Module, twin: torch.nn.Module) -> None:
    """From here to PyTorch, by name."""
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})


def language_model() -> dict[str, Step]:
    """A training step of the language model."""
    sizes = (VOCABULARY, UNITS, UNITS)
    model, twin = pq.models.LSTMLanguageModel(*sizes), torch_twins.LSTMLanguageModel(*sizes)
    copy_weights(model, twin)
    optimizer = pq.optim.Adam(model.parameters())
    peer_optimizer = torch.optim.Adam(twin.parameters())
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (LENGTH + 1, BATCH))
    x, y = tokens[:-1], tokens[1:].reshape(-1)
    peer_x, peer_y = torch.from_numpy(x), torch.from_numpy(y)

    def backward() -> None:
        optimizer.zero_grad()
        logits, _ = model(x)
        F.cross_entropy(F.reshape(logits, (-1, VOCABULARY)), y).backward()

    def peer_backward() -> None:
        peer_optimizer.zero_grad()
        logits, _ = twin(peer_x)
        torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), peer_y).backward()

    backward()
    peer_backward()
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    agree("language model", [(p.grad, q.grad) for p, q in pairs])
    return {
        HERE: lambda: (backward(), optimizer.step()),
        PEER: lambda: (peer_backward(), peer_optimizer.step()),
    }


def layer(length: int = LENGTH, batch: int = BATCH) -> dict[str, Step]:
    """Forward and backward of the LSTM layer."""
    model, twin = pq.nn.LSTM(UNITS, UNITS), torch.nn.LSTM(UNITS, UNITS)
    copy_weights(model, twin)
    x, g = np.random.default_rng(0).normal(size=(2, length, batch, UNITS)).astype(np.float32)
    ours, theirs = pq.Tensor(x, True), torch.tensor(x, requires_grad=True)
    peer_g = torch.from_numpy(g)

    def step() -> None:
        ours.grad = None
        model.zero_grad()
        model(ours)[0].backward(g)

    def peer_step() -> None:
        theirs.grad = None
        twin.zero_grad()
        twin(theirs)[0].backward(peer_g)

    step()
    peer_step()
    pairs = zip((ours, *model.parameters()), (theirs, *twin.parameters()), strict=True)
    agree("LSTM layer", [(p.grad, q.grad) for p, q in pairs])
    return {HERE: step, PEER: peer_step}


def scaling(rounds: int) -> list[dict[str, object]]:
    """The layer over sequence length, then over batch; prints each row and each slope."""
    rows: list[dict[str, object]] = []
    print(f"\n{'layer, length x batch':34}{'ms':>9}{PEER:>18}{'peak MB':>12}")
    for axis, values in (("length", LENGTHS), ("batch", BATCHES)):
        part = []
        for value in values:
            sizes = {"length": LENGTH, "batch": BATCH} | {axis: value}
            steps = layer(**sizes)
            times = harness.take_turns(steps, rounds)
            seconds, ratio = float(np.median(times[HERE])), harness.ratio(times, HERE, PEER)
            peak = harness.peak_bytes(steps[HERE]) / 1e6
            name = f"{sizes['length']} x {sizes['batch']}"
            print(f"{name:34}{1e3 * seconds:9.4g}{ratio:8.2f}{'':10}{peak:12.4g}")
            part.append(dict(axis=axis, **sizes, seconds=seconds, ratio=ratio, peak_megabytes=peak))
        slopes = harness.slopes(values, part)
        print(
            f"slope over {axis:23}{slopes['seconds']:9.2f}{'':18}{slopes['peak_megabytes']:12.2f}"
        )
        rows += [*part, dict(axis=axis, slopes=slopes)]
    return rows


def main() -> None:
    """Time everything, print the tables, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="turns for both")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the scaling table")
    parser.add_argument("--json", metavar="OUT", help="also write the report to this file")
    args = parser.parse_args()

    where = harness.machine("torch")
    harness.print_machine(where, args.rounds)
    print(f"our time divided by the peer's, medians of the rounds\n\n{'':34}{'ms':>9}{PEER:>18}")
    rows = []
    tasks = [
        (f"language model, T={LENGTH}, batch {BATCH}", language_model(), 0.9),
        (f"LSTM layer, {UNITS} units", layer(), 1.1),
    ]
    for name, steps, target in tasks:
        times = harness.take_turns(steps, args.rounds)
        ratio = harness.ratio(times, HERE, PEER)
        medians = {who: float(np.median(t)) for who, t in times.items()}
        print(f"{name:34}{1e3 * medians[HERE]:9.4g}{ratio:8.2f} (<= {target:.2f})")
        rows.append(dict(task=name, seconds=medians, ratio=ratio, target=target))
    report = {"machine": where, "rounds": args.rounds, "rows": rows}
    if not args.no_scaling:
        report["scaling"] = scaling(max(3, args.rounds // 3))
    if args.json:
        harness.write_json(args.json, report)


if __name__ == "__main__":
    main()
