"""The protocol by which each method trains a network.

It is the paper's: train a network in full precision; start from it and quantize; project,
freeze the quantized weights, re-estimate the batch-norm statistics, and fine-tune what stays in
full precision. Runs are paired: with one seed all methods start from the same full-precision
network and see the data in the same order.
"""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import nn, optim
from proxquant_np.data import Split, Splits
from proxquant_np.experiments.lazy_and_eager import FULL_PRECISION as FULL_PRECISION
from proxquant_np.experiments.lazy_and_eager import METHODS as METHODS
from proxquant_np.experiments.lazy_and_eager import Method as Method
from proxquant_np.experiments.lazy_and_eager import rounded as rounded
from proxquant_np.experiments.runner import OutOfTime
from proxquant_np.experiments.tasks import BY_SEED, Task, split_of
from proxquant_np.libraries import as_numpy, mover
from proxquant_np.training import History, fit, load_checkpoint, metrics

FULL_PRECISION_SPACE = {"lr": (3e-4, 3e-2)}
FULL_PRECISION_DEFAULT = {"lr": 1e-3}
FRAMES = 6  # how many histograms of the weights a record keeps
EVERY = 200  # steps between two checkpoints; the clock is read after each


def pack(arrays: Mapping[str, np.ndarray]) -> str:
    """Arrays as text that JSON can hold, exact to the bit: a compressed .npz archive in base64."""
    file = io.BytesIO()
    np.savez_compressed(file, **{name: as_numpy(a) for name, a in arrays.items()})
    return base64.b64encode(file.getvalue()).decode()


def unpack(text: str) -> dict[str, np.ndarray]:
    """The arrays that `pack` packed."""
    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as archive:
        return dict(archive)


@dataclass(frozen=True)
class Cell:
    """One run: a method on a task with one seed. `Experiment.cell` makes it from a record's names.

    Args:
        method: None trains the network in full precision.
        setting: numbers of steps by phase, and arguments of `fit`.
        keep_weights: whether the result holds the final weights, packed, for other cells to start
            from.
        start: the packed weights to begin with; by default those that the seed draws.
        data: the folder or file that the task loads, if it asks for one.
        device: what the network is trained on, one of `libraries.DEVICES`.
    """

    task: Task
    method: Method | None
    seed: int
    setting: Mapping[str, Any]
    hyperparameters: Mapping[str, float]
    keep_weights: bool = False
    start: str | None = None
    data: str | None = None
    device: str = "cpu"

    def splits(self) -> Splits:
        """The task's data: split by the seed if the setting says so, and cut to its numbers."""
        split = {"split": self.seed} if split_of(self.setting) == BY_SEED else {}
        return limited(self.task.load(*filter(None, [self.data]), **split), self.setting)

    def source(self) -> dict[str, Any]:
        """What has to be recorded about the data."""
        return self.task.about(self.data)

    def network(self, splits: Splits) -> nn.Module:
        """The network that this cell begins with, on its device."""
        network = self.task.build(self.seed, splits)
        if self.device != "cpu":
            network.to(mover(self.device))
        if self.start is not None:
            network.load_state_dict(unpack(self.start))
        return network

    def phases(self, checkpoint: str | None = None, deadline: float | None = None) -> Phases:
        """The phases of its training."""
        return Phases(self.task, self.splits(), self.setting, self.seed, checkpoint, deadline)


@dataclass
class Phases:
    """The phases of one run: calls of `fit` with what they have in common.

    With `checkpoint` each phase resumes from a file of its own. `seconds` and `steps` count what
    was trained in this process, `trained` the steps of all phases until now, wherever they were.
    `deadline` is a time of `time.monotonic`.
    """

    task: Task
    splits: Splits
    setting: Mapping[str, Any]
    seed: int
    checkpoint: str | None = None
    deadline: float | None = None
    seconds: float = field(default=0.0, init=False)
    steps: int = field(default=0, init=False)
    trained: int = field(default=0, init=False)

    @property
    def seconds_per_step(self) -> float | None:
        """In this process; None if it had no step left to train."""
        return self.seconds / self.steps if self.steps else None

    @property
    def time(self) -> float | None:
        """The seconds of all steps, at the pace of those in this process."""
        pace = self.seconds_per_step
        return None if pace is None else pace * self.trained

    def fit(self, phase: str, model: nn.Module, optimizer: Any, **options: Any) -> History:
        """Train for setting["PHASE_steps"] steps.

        Raises:
            OutOfTime: the deadline has passed; a checkpoint is written.
        """
        steps = self.setting[f"{phase}_steps"]
        others = ("_steps", "_images", "split")
        reading = {k: v for k, v in self.setting.items() if not k.endswith(others)}
        path = None if self.checkpoint is None else Path(f"{self.checkpoint}-{phase}.npz")
        done = load_checkpoint(path)[1]["step"] if path is not None and path.exists() else 0
        while True:
            until = steps if path is None else min(steps, done + EVERY)
            start = time.perf_counter()
            history = fit(
                model,
                optimizer,
                self.splits.train,
                steps=until,
                validation=self.splits.validation,
                prepare=self.task.prepare,
                seed=self.seed,
                checkpoint=path,
                progress=False,
                **reading,
                **options,
            )
            self.seconds += time.perf_counter() - start
            self.steps += until - done
            done = until
            if done == steps:
                self.trained += steps
                return history
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise OutOfTime(f"{phase}: {done} of {steps} steps are in {path}")

    def measure(self, model: nn.Module) -> dict[str, Any]:
        """The validation loss, and the error (or perplexity) on the validation and test split."""
        reading = {}
        if "length" in self.setting:
            reading = {name: self.setting[name] for name in ("batch_size", "length")}
        validation = metrics.evaluate(model, *self.splits.validation, **reading)
        test = metrics.evaluate(model, *self.splits.test, **reading)
        measure = self.task.measure
        return {
            "validation_loss": validation.loss,
            f"validation_{measure}": getattr(validation, measure),
            f"test_{measure}": getattr(test, measure),
        }


def limited(splits: Splits, setting: Mapping[str, Any]) -> Splits:
    """The first setting["PART_images"] examples of each part, or all where no number is given."""
    parts = zip(splits._fields, splits, strict=True)
    return Splits(*(Split(*(a[: setting.get(f"{n}_images")] for a in part)) for n, part in parts))


def train(
    cell: Cell, checkpoint: str | None = None, deadline: float | None = None
) -> dict[str, Any]:
    """Train the network of a cell and measure it: the result in its record.

    It holds what `Phases.measure` gives; "sizes", the examples of each split; "sign_change" and
    "flip_rate", fractions (None in full precision); "gap", the mean distance to the levels before
    they are projected on; "strengths", the sum of lr_t lambda_t of a soft map; "seconds" of all
    steps, and "seconds_per_step" at this process's pace; "epochs" and "layers", the history; and
    "weights", packed, if they are kept.

    Raises:
        OutOfTime: the deadline has passed; a checkpoint is written.
    """
    phases = cell.phases(checkpoint, deadline)
    network = cell.network(phases.splits)
    if cell.method is None:
        base, lr = cell.task.warm_start, cell.hyperparameters["lr"]
        history = phases.fit(
            FULL_PRECISION,
            network,
            base.make(network.parameters(), lr),
            regularizer=cell.task.regularizer,
            schedule=base.schedule(lr, cell.setting[f"{FULL_PRECISION}_steps"]),
        )
        result = {
            "sign_change": None,
            "flip_rate": None,
            "gap": history.epochs["quantization_gap"][-1] if history.epochs else None,
        }
    else:
        history, result = quantize(phases, network, cell.method, cell.hyperparameters)
    return {
        **phases.measure(network),
        **cell.source(),
        "sizes": {name: len(part.y) for name, part in phases.splits._asdict().items()},
        **result,
        "seconds_per_step": phases.seconds_per_step,
        "seconds": phases.time,
        "epochs": summarised_epochs(history),
        "layers": {
            "change_from_start": history.parameters,
            "change_from_last_epoch": history.flips,
        },
        **({"weights": pack(network.state_dict())} if cell.keep_weights else {}),
    }


def quantize(
    phases: Phases, network: nn.Module, method: Method, hyperparameters: Mapping[str, float]
) -> tuple[History, dict[str, Any]]:
    """Quantize the network and `finish` it: the history of quantizing, and what is measured."""
    steps = phases.setting["quantizing_steps"]
    optimizer = method.optimizer(network, steps, phases.task.regularizer, **hyperparameters)
    initial = [p.data.copy() for p in optimizer.params]
    schedule = method.base.schedule(hyperparameters["lr"], steps)
    history = phases.fit("quantizing", network, optimizer, schedule=schedule)
    gap = metrics.quantization_gap(optimizer)
    finish(phases, network, optimizer, method.fine_tuning)
    flips = history.steps["change_from_last_step"]
    return history, {
        "sign_change": metrics.sign_change(initial, optimizer.params),
        "flip_rate": float(np.mean(flips[-max(1, len(flips) // 10) :])),
        "gap": gap,
        **summed_strengths(history),
    }


def summed_strengths(history: History) -> dict[str, float]:
    """{"strengths": the sum of lr_t * lambda_t that a soft map was really given}, {} of a hard one.

    It is less than a method's `reach` where the rate falls. All groups have the same homotopy.
    """
    by_step = next(v for name, v in history.steps.items() if name.startswith("strength"))
    total = math.fsum(by_step)
    return {"strengths": total} if math.isfinite(total) else {}


def finish(
    phases: Phases, network: nn.Module, optimizer: optim.QuantizedOptimizer, lr: float = 1e-3
) -> None:
    """Project and freeze the weights, re-estimate batch-norm statistics, fine-tune the rest."""
    optim.quantize_and_freeze(optimizer)
    if any(isinstance(module, nn.BatchNorm1d) for _, module in network.named_modules()):
        x = phases.splits.train.x
        parts = np.array_split(x, max(8, len(x) // 1000))
        nn.recalibrate_batch_norm(network, (phases.task.plain(part) for part in parts))
    rest = [p for p in network.parameters() if p.requires_grad]
    if phases.setting["fine_tuning_steps"]:
        phases.fit("fine_tuning", network, optim.Adam(rest, lr))


def summarised_epochs(history: History) -> dict[str, Any]:
    """The history by epoch, rounded, with a few of its histograms as "frames"."""
    epochs = {k: v for k, v in history.epochs.items() if k != "histogram"}
    histograms = history.epochs.get("histogram", [])
    kept = np.geomspace(1, len(histograms), FRAMES).round().astype(int) if histograms else []
    frames = [{"epoch": int(n), "counts": histograms[n - 1]} for n in kept]
    return {**{k: [round(x, 6) for x in v] for k, v in epochs.items()}, "frames": frames}
