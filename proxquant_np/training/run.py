"""What a run of `fit` consists of: batches, which depend only on the step, and the step itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_integer, check_number
from proxquant_np.data import Split, chunks
from proxquant_np.libraries import as_array, moved, numbers, on_host, together
from proxquant_np.nn import Module
from proxquant_np.nn.module import beside
from proxquant_np.optim import Optimizer, QuantizedOptimizer, clip_grad_norm
from proxquant_np.training import metrics
from proxquant_np.training.history import Recorder

Prepare = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Batches:
    """The batch of each step, which depends only on the seed and the step.

    The arguments are those of `fit`. `per_epoch` is the number of batches per epoch, `first` holds
    the inputs of the first, and `reading` says how a stream is cut (it is empty for examples).
    """

    def __init__(
        self, train: Split, batch_size: int, length: int | None, prepare: Prepare | None, seed: int
    ) -> None:
        self.x, self.y = train
        self.batch_size = check_integer("batch_size", batch_size, 1, len(self.x))
        self.length = None if length is None else check_integer("length", length, 1)
        self.prepare, self.seed = prepare, check_integer("seed", seed, 0)
        self.reading = (
            {} if length is None else {"batch_size": self.batch_size, "length": self.length}
        )
        self._chunks = chunks(Split(*train), **self.reading) if self.reading else []
        self.per_epoch = len(self._chunks) or len(self.x) // self.batch_size
        self.first = self._chunks[0].x if self._chunks else self.x[: self.batch_size]
        self._epoch, self._order = -1, np.empty(0, int)

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of step 0, 1, ..."""
        epoch, position = divmod(step, self.per_epoch)
        if self._chunks:
            inputs, targets = self._chunks[position]
        else:
            if epoch != self._epoch:
                order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))
                self._epoch, self._order = epoch, order
            chosen = self._order[position * self.batch_size : (position + 1) * self.batch_size]
            inputs, targets = (a[moved(chosen, a)] for a in (self.x, self.y))
        if self.prepare is not None:  # 1 + position, since trailing zeros of a seed are ignored
            rng = np.random.default_rng([self.seed, epoch, 1 + position])
            inputs = self.prepare(inputs, rng)
        return inputs, targets

    def end_epoch(self, step: int) -> bool:
        """Whether `step` is the last of its epoch."""
        return (step + 1) % self.per_epoch == 0


class Run:
    """A network in training: the model, its optimizer, the recurrent state, and the recorder."""

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | QuantizedOptimizer,
        recorder: Recorder,
        max_norm: float | None,
    ) -> None:
        self.model, self.optimizer, self.recorder = model, optimizer, recorder
        self.max_norm = max_norm
        if max_norm is not None:
            self.max_norm = check_number("max_norm", max_norm, 0, below=math.inf)
        self.state: metrics.State | None = None  # None at the start of an epoch
        self._parameters = list(model.parameters())
        self._buffers = [
            (owner, name)
            for _, owner, name in model._named()
            if name in owner.buffers and getattr(owner, name).dtype.kind == "f"
        ]

    def step(self, x: np.ndarray, y: np.ndarray) -> None:
        """Forward, backward, step; FloatingPointError if the loss or the model is not finite."""
        for p in self._parameters:  # all, even if the optimizer lacks them: clipping counts them
            p.grad = None
        x = beside(x, self._parameters)
        logits, y, self.state = metrics.predict(self.model, x, y, self.state)
        loss = F.cross_entropy(logits, y)
        if on_host(loss.data):  # a device is waited for only once, at the end
            _check_loss(loss.item())
        loss.backward()
        if self.max_norm is not None:
            clip_grad_norm(self._parameters, self.max_norm)
        strength = getattr(self.optimizer, "strength", 0.0)
        self._move(loss)
        measured = self.recorder.measure(loss.data, logits.data, y)
        self.recorder.step(self._finite(measured), strength)

    def _move(self, loss: Tensor) -> None:
        """The optimizer's step. What it refuses is named by what is not finite, if anything."""
        try:
            self.optimizer.step()
        except ValueError:  # a wrapper checks gradients and weights itself
            _check_loss(loss.item())
            self.check_finite()
            for name, p in self.model.named_parameters():
                _check_finite(f"the gradient of {name}", p.grad)
            raise

    def _finite(self, measured: list[Any]) -> list[float]:
        """The numbers measured, the loss first, once they and all of the model are finite."""
        held = [p.data for p in self._parameters]
        held += [getattr(owner, name) for owner, name in self._buffers]
        found = numbers(measured + [np.vdot(a, a) for a in together(held)])
        if not all(map(math.isfinite, found)):  # squares may overflow
            _check_loss(found[0])
            for path, owner, name in self.model._named():
                value = getattr(owner, name)
                _check_finite(path, value.data if isinstance(value, Tensor) else value)
        return found[: len(measured)]

    def place(self) -> np.ndarray:
        """An array of the network's library."""
        return next((p.data for p in self._parameters), np.empty(0))

    def end_epoch(self, length: int) -> None:
        """Measure the epoch of `length` steps; the next one starts without a recurrent state."""
        self.state = None
        self.recorder.epoch(length)

    def arrays(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint must contain; all of it must be finite."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": {str(i): s.data for i, s in enumerate(self.state or ())},
        }

    def check_finite(self) -> None:
        """FloatingPointError if anything that a checkpoint must contain is no longer finite."""
        for part, entries in self.arrays().items():
            for name, value in entries.items():
                _check_finite(name if part == "model" else f"{part}/{name}", as_array(value))


def _check_loss(loss: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")


def _check_finite(name: str, a: Any) -> None:
    if a is None or a.dtype.kind != "f" or math.isfinite(np.vdot(a, a)):  # fast, but may overflow
        return
    if not np.isfinite(a).all():
        raise FloatingPointError(f"{name} has NaN or infinite entries")
