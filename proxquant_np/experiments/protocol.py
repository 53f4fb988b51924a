"""The methods, and the protocol by which each trains a network.

The protocol is the paper's: train a network in full precision; start from it and quantize; project,
freeze the quantized weights, re-estimate the batch-norm statistics, and fine-tune what stays in
full precision. Runs are paired: with one seed all methods start from the same full-precision
network and see the data in the same order.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import nn, optim, prox
from proxquant_np.data import Split, Splits
from proxquant_np.experiments.runner import OutOfTime
from proxquant_np.experiments.tasks import BY_SEED, Task, split_of
from proxquant_np.libraries import as_numpy, mover
from proxquant_np.training import History, fit, load_checkpoint, metrics

FULL_PRECISION = "full_precision"
FULL_PRECISION_SPACE = {"lr": (3e-4, 3e-2)}
FULL_PRECISION_DEFAULT = {"lr": 1e-3}
FRAMES = 6  # how many histograms of the weights a record keeps
EVERY = 200  # steps between two checkpoints; the clock is read after each

Wrap = Callable[..., optim.QuantizedOptimizer]
Groups = list[tuple[Mapping[str, nn.Parameter], prox.Regularizer | None]]


def rounded(x: float) -> float:
    """To three significant digits, as a search draws hyperparameters."""
    return float(f"{x:.3g}")


@dataclass(frozen=True)
class Method:
    """A way to quantize.

    Args:
        wrap: makes the optimizer of a base, groups of parameters (each with its regularizer, None
            for full precision), the number of steps and the hyperparameters.
        default: the hyperparameters, the base's lr among them, where no search was made.
        space: the ends between which a search draws (log-uniform): of each hyperparameter or, in
            place of the reach, of "mean_lambda", which is held against the base's step.
        reach: gives the reach, from lr times the mean of lambda and the number of steps.
        regularizer: the task's by default.
        ends: what becomes of the first and the last layer: True if they are quantized like the
            rest, False if they stay in full precision, or a regularizer of their own.
        start: the method whose network this one begins with.
        shares: the method whose hyperparameters this one uses; it is not searched itself.
    """

    label: str
    wrap: Wrap
    default: Mapping[str, float]
    space: Mapping[str, tuple[float, float]]
    regularizer: prox.Regularizer | None = None
    ends: prox.Regularizer | bool = True
    start: str = FULL_PRECISION
    shares: str | None = None
    reach: Callable[[float, int], float] | None = None

    def hyperparameters(self, point: Mapping[str, float], steps: int) -> dict[str, float]:
        """What `wrap` takes, from a point of the space; to three digits."""
        found = dict(point)
        if self.reach is not None and "mean_lambda" in found:
            found["reach"] = rounded(self.reach(found["lr"] * found.pop("mean_lambda"), steps))
        return found

    def optimizer(
        self, model: nn.Module, steps: int, regularizer: prox.Regularizer, lr: float, **rest: float
    ) -> optim.QuantizedOptimizer:
        """This method's optimizer, over Adam on all parameters of the model."""
        base, regularizer = optim.Adam(model.parameters(), lr), self.regularizer or regularizer
        return self.wrap(base, self.groups(model, regularizer), steps, **rest)

    def groups(self, model: nn.Module, regularizer: prox.Regularizer) -> Groups:
        """What of a model is quantized, and how."""
        every = nn.quantizable_parameters(model)
        if self.ends is True:
            return [(every, regularizer)]
        inner = nn.quantizable_parameters(model, first=False, last=False)
        ends = {name: p for name, p in every.items() if name not in inner}
        return [(inner, regularizer), (ends, self.ends or None)]


# All clip weights to [-1, 1], as published; Bop's are -1 and +1 anyway.


def _scheduled(
    groups: Groups,
    homotopy: Callable[[int], float] | None,
    of: Callable[[Any], prox.Regularizer] = lambda regularizer: regularizer,
) -> list[optim.Group]:
    """The groups with this homotopy, and `of` their regularizers; full precision stays so."""
    return [
        optim.Group(params, *((None, None) if own is None else (of(own), homotopy)))
        for params, own in groups
    ]


def _lazy(base: Any, groups: Groups, steps: int) -> optim.QuantizedOptimizer:
    return optim.DualAveraging(base, _scheduled(groups, None), clip=True)


def _eager_hard(base: Any, groups: Groups, steps: int) -> optim.QuantizedOptimizer:
    return optim.ProxGradient(base, _scheduled(groups, None), clip=True)


def _prox_quant(base: Any, groups: Groups, steps: int, reach: float) -> optim.QuantizedOptimizer:
    """lambda_t = rate * t; `reach` is the sum of all strengths.

    That is how far BinaryL1's prox alone can carry a weight (one at 0 has to travel 1). An L2 prox
    alone reduces the gap of a weight to about e^-reach of what it was.
    """
    homotopy = prox.LinearHomotopy.reaching(reach, base.lr, max(2, steps))
    return optim.ProxGradient(base, _scheduled(groups, homotopy), clip=True)


def _prox_connect(base: Any, groups: Groups, steps: int, reach: float) -> optim.QuantizedOptimizer:
    """lambda_t = rate * t; `reach` is the last strength, for each prox starts from the latent.

    From 1 on, BinaryL1 ends with binary weights; an L2 prox leaves 1 / (1 + reach) of the gap.
    """
    rate = reach / (base.lr * max(1, steps - 1))
    return optim.DualAveraging(base, _scheduled(groups, prox.Linear(rate)), clip=True)


def _parq(base: Any, groups: Groups, steps: int) -> optim.QuantizedOptimizer:
    homotopy = prox.Linear.to(1 / base.lr, steps)
    return optim.DualAveraging(base, _scheduled(groups, homotopy, of=prox.Parq), clip=True)


def _binary_relax(base: Any, groups: Groups, steps: int, last: float) -> optim.QuantizedOptimizer:
    """The strength grows from 1 to `last`, by the same factor in every step."""
    homotopy = prox.Geometric(1 / base.lr, last ** (1 / max(1, steps - 1)))
    return optim.DualAveraging(base, _scheduled(groups, homotopy, of=prox.BinaryRelax), clip=True)


def _bop(
    base: Any, groups: Groups, steps: int, threshold: float, adaptivity: float
) -> optim.QuantizedOptimizer:
    params = {name: p for part, own in groups if own is not None for name, p in part.items()}
    return optim.Bop(base, params, threshold, adaptivity)


# Adam moves a weight by 7.27 lr at most: once lambda is larger, signs stay, whatever the gradient.
_LR, _LAMBDA = (1e-4, 1e-1), (1e-3, 30.0)
METHODS = {
    "binary_connect": Method("BinaryConnect (lazy, hard)", _lazy, {"lr": 0.01}, {"lr": _LR}),
    "prox_quant": Method(
        "ProxQuant (eager, soft)",
        _prox_quant,
        {"lr": 0.01, "reach": 6.0},
        {"lr": _LR, "mean_lambda": _LAMBDA},
        reach=lambda strength, steps: strength * steps,
    ),
    "prox_connect": Method(
        "ProxConnect (lazy, soft)",
        _prox_connect,
        {"lr": 0.01, "reach": 10.0},
        {"lr": _LR, "mean_lambda": _LAMBDA},
        reach=lambda strength, steps: 2 * strength,  # lambda ends at twice its mean
    ),
    "projected_gradient": Method(
        "projected gradient (eager, hard)", _eager_hard, {"lr": 0.01}, {"lr": _LR}
    ),
    "parq": Method("PARQ (lazy, soft)", _parq, {"lr": 0.01}, {"lr": _LR}),
    "binary_relax": Method(
        "BinaryRelax (lazy, soft)",
        _binary_relax,
        {"lr": 0.01, "last": 100.0},
        {"lr": _LR, "last": (10.0, 1e4)},
    ),
    "bop": Method(
        "Bop (flips)",
        _bop,
        {"lr": 0.01, "threshold": 1e-5, "adaptivity": 1e-3},
        {"lr": _LR, "threshold": (1e-8, 1e-3), "adaptivity": (1e-5, 1e-2)},
    ),
}


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
        """The task's data, split by the seed if the setting says so, as much as it allows."""
        split = {"split": self.seed} if split_of(self.setting) == BY_SEED else {}
        return limited(self.task.load(*filter(None, [self.data]), **split), self.setting)

    def source(self) -> dict[str, Any]:
        """What has to be recorded about the data."""
        return self.task.source(*filter(None, [self.data]))

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
    was trained in this process. `deadline` is a time of `time.monotonic`.
    """

    task: Task
    splits: Splits
    setting: Mapping[str, Any]
    seed: int
    checkpoint: str | None = None
    deadline: float | None = None
    seconds: float = field(default=0.0, init=False)
    steps: int = field(default=0, init=False)

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
    """Train the network of a cell, and measure it. What it returns is the result in a record."""
    phases = cell.phases(checkpoint, deadline)
    network = cell.network(phases.splits)
    if cell.method is None:
        optimizer = optim.Adam(network.parameters(), **cell.hyperparameters)
        regularizer = cell.task.regularizer
        history = phases.fit(FULL_PRECISION, network, optimizer, regularizer=regularizer)
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
        "seconds_per_step": phases.seconds / max(1, phases.steps),
        "seconds": phases.seconds,
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
    optimizer = method.optimizer(
        network, phases.setting["quantizing_steps"], phases.task.regularizer, **hyperparameters
    )
    initial = [p.data.copy() for p in optimizer.params]
    history = phases.fit("quantizing", network, optimizer)
    gap = metrics.quantization_gap(optimizer)
    finish(phases, network, optimizer)
    flips = history.steps["change_from_last_step"]
    return history, {
        "sign_change": metrics.sign_change(initial, optimizer.params),
        "flip_rate": float(np.mean(flips[-max(1, len(flips) // 10) :])),
        "gap": gap,
    }


def finish(phases: Phases, network: nn.Module, optimizer: optim.QuantizedOptimizer) -> None:
    """Project and freeze the weights, re-estimate batch-norm statistics, fine-tune the rest."""
    optim.quantize_and_freeze(optimizer)
    if any(isinstance(module, nn.BatchNorm1d) for _, module in network.named_modules()):
        x = phases.splits.train.x
        parts = np.array_split(x, max(8, len(x) // 1000))
        nn.recalibrate_batch_norm(network, (phases.task.plain(part) for part in parts))
    rest = [p for p in network.parameters() if p.requires_grad]
    phases.fit("fine_tuning", network, optim.Adam(rest, 1e-3))


def summarised_epochs(history: History) -> dict[str, Any]:
    """The history by epoch, rounded, with a few of its histograms as "frames"."""
    epochs = {k: v for k, v in history.epochs.items() if k != "histogram"}
    histograms = history.epochs.get("histogram", [])
    kept = np.geomspace(1, len(histograms), FRAMES).round().astype(int) if histograms else []
    frames = [{"epoch": int(n), "counts": histograms[n - 1]} for n in kept]
    return {**{k: [round(x, 6) for x in v] for k, v in epochs.items()}, "frames": frames}
