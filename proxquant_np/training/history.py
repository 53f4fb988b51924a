"""The history of a run: what `fit` measures, and how."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from proxquant_np.autograd import Tensor
from proxquant_np.data import Split
from proxquant_np.libraries import as_numpy, moved
from proxquant_np.nn import Module, quantizable_parameters
from proxquant_np.optim import Optimizer, QuantizedOptimizer
from proxquant_np.prox import Regularizer
from proxquant_np.training import metrics

HISTOGRAM_EDGES = np.linspace(-2.025, 2.025, 82)  # with -1, 0 and +1 in the middle of their bins
LISTS = ("steps", "epochs", "parameters", "flips")
"""The fields of a History, under which a checkpoint stores them."""


@dataclass(repr=False)
class History:
    """What `fit` measured, in plain lists.

    `steps`, one entry per step: loss and error on the batch (before the step), lr, strength (of the
    step's map; infinite for a projection, 0 for a base optimizer), sign change since the start and
    since the last step. `epochs`, one entry per epoch: mean training loss and error, validation
    loss and error of the weights in use, error of the quantized weights (in a copy; for a language
    model also the loss; perplexity is exp(loss)), sign change since the start and since the last
    epoch, quantization gap, and a histogram of the weights (the latent ones if there are any) over
    HISTOGRAM_EDGES, with outliers in the end bins. `parameters` and `flips`: sign change since the
    start and since the last epoch, per epoch, for each parameter.

    With several groups there are a strength and a quantization gap for each, by its position in the
    optimizer's list ("strength.0", "quantization_gap.0"), and the gap of all of them together.

    All this concerns the weights that the optimizer quantizes or, with a base optimizer, all that
    are quantizable. What a run does not have (validation split, regularizer) is absent.

    Examples:
        >>> history = pq.training.History(steps={"strength": [0.5, np.inf]})
        >>> history.to_dict()["steps"], history
        ({'strength': [0.5, None]}, History(2 steps, 0 epochs, strength 0.5 -> inf))
    """

    steps: dict[str, list[float]] = field(default_factory=dict)
    epochs: dict[str, list[Any]] = field(default_factory=dict)
    parameters: dict[str, list[float]] = field(default_factory=dict)
    flips: dict[str, list[float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """The length of the run, and the first and last values of some entries."""
        groups = {"steps": self.steps, "epochs": self.epochs}
        counts = [f"{len(next(iter(g.values()), ()))} {name}" for name, g in groups.items()]
        shown = {name: self.steps.get(name) for name in ("loss", "error", "lr", "strength")}
        for name in ("validation_error", "quantized_error", "quantization_gap"):
            shown[name] = self.epochs.get(name)
        told = [f"{name} {v[0]:.3g} -> {v[-1]:.3g}" for name, v in shown.items() if v]
        return f"History({', '.join(counts + told)})"

    def to_dict(self) -> dict[str, dict[str, list[Any]]]:
        """In strict JSON terms: None stands for infinity, the strength of a projection."""
        return {
            group: {
                name: [None if v in (math.inf, -math.inf) else v for v in values]
                for name, values in entries.items()
            }
            for group, entries in asdict(self).items()
        }


class Recorder:
    """Fills a history during a run. `signs` are the references for sign changes.

    reading: batch_size and length of a language model's stream, for `metrics.evaluate`, or {}.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | QuantizedOptimizer,
        regularizer: Regularizer | None,
        validation: Split | None,
        reading: Mapping[str, int],
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.validation, self.reading = validation, reading
        self.weights = quantizable_parameters(model)
        self.targets: dict[str, dict[Tensor, Regularizer]] = {}
        if isinstance(optimizer, QuantizedOptimizer):
            chosen = {id(p) for p in optimizer.params}
            self.weights = {k: p for k, p in model.named_parameters() if id(p) in chosen}
            for suffix, (params, mapped_by, _) in optimizer.mapped.items():
                if mapped_by.set is None:  # a plain function, whose Q is not known
                    continue
                params = {*params}
                self.targets[suffix] = {p: mapped_by for p in self.weights.values() if p in params}
        if getattr(regularizer, "set", regularizer) is not None:
            self.targets = {"": dict.fromkeys(self.weights.values(), regularizer)}
        self.history = History()
        now = _joined(p.data for p in self.weights.values()) >= 0
        self.signs = {"initial": now, "before_step": now, "before_epoch": now}

    def measure(self, loss: np.ndarray, logits: np.ndarray, y: np.ndarray) -> list[Any]:
        """The numbers that `step` records; loss and logits are from before the step."""
        signs = _joined(p.data for p in self.weights.values()) >= 0  # sign_pm, True for +1
        wrong = np.count_nonzero(logits.argmax(1) != moved(y, logits)) / y.size
        changes = [_changed(signs, self.signs[name]) for name in ("initial", "before_step")]
        self.signs["before_step"] = signs
        return [loss, wrong, *changes]

    def step(self, measured: list[float], strength: Any) -> None:
        """Record a step: the numbers `measured` at it, and the strength of its map."""
        loss, wrong, since_start, since_last = measured
        suffixes = getattr(self.optimizer, "mapped", ("",))
        strengths = strength if isinstance(strength, tuple) else (strength,)
        now = {
            "loss": loss,
            "error": wrong,
            "lr": self.optimizer.lr,
            **{f"strength{s}": value for s, value in zip(suffixes, strengths, strict=True)},
            "change_from_start": since_start,
            "change_from_last_step": since_last,
        }
        _append(self.history.steps, now)

    def epoch(self, length: int) -> None:
        """Record an epoch after the last of its `length` steps."""
        now: dict[str, Any] = {
            name: float(np.mean(self.history.steps[name][-length:])) for name in ("loss", "error")
        }
        if self.validation is not None:
            result = metrics.evaluate(self.model, *self.validation, **self.reading)
            now["validation_loss"], now["validation_error"] = result
        if self.targets:
            now |= self._quantized()
        signs = self.signs["before_step"]
        now["change_from_start"] = float(_changed(signs, self.signs["initial"]))
        now["change_from_last_epoch"] = float(_changed(signs, self.signs["before_epoch"]))
        _append(self.history.parameters, self._by_parameter(signs != self.signs["initial"]))
        _append(self.history.flips, self._by_parameter(signs != self.signs["before_epoch"]))
        self.signs["before_epoch"] = signs
        points = getattr(self.optimizer, "latent", None) or [p.data for p in self.weights.values()]
        counts, _ = np.histogram(np.clip(as_numpy(_joined(points)), -2, 2), HISTOGRAM_EDGES)
        now["histogram"] = counts.tolist()
        _append(self.history.epochs, now)

    def _quantized(self) -> dict[str, float]:
        """The gap of each group and of all, and the quality of the network once quantized."""
        pooled = {p: r for group in self.targets.values() for p, r in group.items()}
        now = {}
        for suffix, group in {"": pooled, **self.targets}.items():
            moved = {p: r for p, r in group.items() if p.requires_grad}  # others are deployed as is
            gap = metrics.quantization_gap(moved) if moved else 0.0
            now[f"quantization_gap{suffix}"] = gap
        if self.validation is not None:
            copied = metrics.quantized_copy(self.model, pooled)
            result = metrics.evaluate(copied, *self.validation, **self.reading)
            now["quantized_error"] = result.error
            if self.reading:
                now["quantized_loss"] = result.loss
        return now

    def _by_parameter(self, changed: np.ndarray) -> dict[str, float]:
        ends = np.cumsum([p.size for p in self.weights.values()], dtype=int)
        parts = zip(self.weights, np.split(as_numpy(changed), ends), strict=False)
        return {name: float(part.mean()) for name, part in parts}

    def summary(self) -> str:
        """The last epoch in a few words."""
        prefix = "" if self.validation is None else "validation_"
        loss, error = (self.history.epochs[f"{prefix}{name}"][-1] for name in ("loss", "error"))
        value = metrics.Evaluation(loss, error).perplexity if self.reading else error
        shown = f"{prefix}{'perplexity' if self.reading else 'error'} {value:.3f}"
        return f"loss {self.history.epochs['loss'][-1]:.3f}, {shown.replace('_', ' ')}"

    def arrays(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps of the recorder."""
        signs = {name: np.packbits(as_numpy(value)) for name, value in self.signs.items()}
        return {"signs": signs, **{name: getattr(self.history, name) for name in LISTS}}

    def restore(self, parts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Restore what `arrays` returned."""
        size = self.signs["initial"].size
        for name, packed in parts["signs"].items():
            unpacked = np.unpackbits(packed, count=size).astype(bool)
            self.signs[name] = moved(unpacked, self.signs[name])
        self.history = History(*({k: v.tolist() for k, v in parts[name].items()} for name in LISTS))


def _joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    flat = [a.reshape(-1) for a in arrays]
    return np.concatenate(flat) if flat else np.empty(0)


def _changed(a: np.ndarray, b: np.ndarray) -> Any:
    return np.count_nonzero(a != b) / max(1, a.size)


def _append(lists: dict[str, list[Any]], entries: Mapping[str, Any]) -> None:
    for name, value in entries.items():
        lists.setdefault(name, []).append(value)
