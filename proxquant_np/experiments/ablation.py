"""Claims: what published code does differently matters. One switch at a time, all else equal.

ProxQuant on the digits MLP, in its corrected form, is compared with itself with one thing done as
in published code. The switches exist only in this file:

    zero       sign(0) = 0, which is a third level, for weights that are exactly 0
    rebuilt    a new optimizer in every epoch, so that Adam's moments start again at 0
    unclipped  weights are not clipped to [-1, 1] before the prox (clipping is what was published)
    stepped    lambda grows once per epoch instead of once per step
    peeking    the best epoch is picked by the test error (`validated`: by the validation error)
    threshold  ternary levels come from the threshold heuristic (`exact`: the best levels)

The network of the last epoch is the one measured, except by peeking and validated, which pick an
epoch and skip fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from proxquant_np import optim, prox
from proxquant_np.data import Splits
from proxquant_np.experiments import protocol
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.protocol import METHODS, Cell, Method, Phases
from proxquant_np.experiments.tasks import ON_DIGITS, TASKS
from proxquant_np.prox.homotopy import Homotopy

EPOCH = 33  # steps: 1,077 examples in batches of 32


@dataclass(frozen=True)
class Picked(Method):
    """A method measured at its best epoch: the one with the least error on the split `by`."""

    by: str = "validation"


@dataclass(frozen=True)
class ZeroSign(prox.Binary):
    """Binary with the published sign(0) = 0."""

    def _project(self, x, out):
        at_zero = x == 0
        super()._project(x, out)
        out[at_zero] = 0


class ZeroSignL1(prox.L1):
    """The L1 distance to that set."""

    of = ZeroSign


class RebuiltAdam(optim.Adam):
    """Adam that forgets its moments and its step count after every epoch, as a new one would."""

    def step(self) -> None:
        """Adam's step; after every EPOCH steps, the first step of a new Adam."""
        if self._steps.max() == EPOCH:
            self.load_state_dict(type(self)(self.params, self.lr).state_dict())
        super().step()


@dataclass(frozen=True)
class Stepped(Homotopy):
    """lambda_t = rate * (the number of steps before this epoch)."""

    rate: float

    def _at(self, t):
        return self.rate * (t // EPOCH * EPOCH)


def _rebuilt(base: optim.Adam, *arguments: Any, **reach: float) -> optim.QuantizedOptimizer:
    return METHODS["prox_quant"].wrap(RebuiltAdam(base.params, base.lr), *arguments, **reach)


def _unclipped(*arguments: Any, **reach: float) -> optim.QuantizedOptimizer:
    optimizer = METHODS["prox_quant"].wrap(*arguments, **reach)
    optimizer.clip = False
    return optimizer


def _stepped(*arguments: Any, **reach: float) -> optim.QuantizedOptimizer:
    optimizer = METHODS["prox_quant"].wrap(*arguments, **reach)
    optimizer.homotopy = Stepped(optimizer.homotopy.rate)
    return optimizer


def train(
    cell: Cell, checkpoint: str | None = None, deadline: float | None = None
) -> dict[str, Any]:
    """As `protocol.train`, but a `Picked` method is measured at the epoch that it picks."""
    picking = isinstance(cell.method, Picked)
    return (_picked if picking else protocol.train)(cell, checkpoint, deadline)


def _picked(cell: Cell, checkpoint: str | None, deadline: float | None) -> dict[str, Any]:
    """Trains twice, in the same steps: once measured on the validation split after each epoch, once
    on the test split. Measuring does not affect the training.
    """
    splits, curves, seconds = cell.splits(), {}, []
    for name in ("validation", "test"):
        network, steps = cell.network(splits), cell.setting["quantizing_steps"]
        optimizer = cell.method.optimizer(
            network, steps, cell.task.regularizer, **cell.hyperparameters
        )
        measured = Splits(splits.train, getattr(splits, name), splits.test)
        path = None if checkpoint is None else f"{checkpoint}-{name}"
        phases = Phases(cell.task, measured, cell.setting, cell.seed, path, deadline)
        curves[name] = phases.fit("quantizing", network, optimizer).epochs["quantized_error"]
        seconds.append(phases.time)
    epoch = int(np.argmin(curves[cell.method.by]))
    return {
        **{f"{name}_error": curve[epoch] for name, curve in curves.items()},
        "picked_epoch": epoch + 1,
        "seconds": None if None in seconds else sum(seconds),
        "epochs": {"quantized_error": curves["validation"]},
    }


_CORRECTED = replace(METHODS["prox_quant"], label="ProxQuant, corrected", shares="prox_quant")


def _switched(label: str, **changes: Any) -> Method:
    return replace(_CORRECTED, label=label, **changes)


def _picking(label: str, by: str) -> Picked:
    return Picked(**vars(_switched(label)), by=by)


def _claim(text: str, first: str, second: str) -> Claim:
    return Claim(text, first, second, "test_error", source="ours", equal=ON_DIGITS)


EXPERIMENT = Experiment(
    name="ablation",
    title="What published code did differently",
    tasks={"mlp": TASKS["mlp"]},
    methods={
        "corrected": _CORRECTED,
        "zero": _switched("sign(0) = 0", regularizer=ZeroSignL1()),
        "rebuilt": _switched("optimizer rebuilt every epoch", wrap=_rebuilt),
        "unclipped": _switched("no clip", wrap=_unclipped),
        "stepped": _switched("lambda grows once an epoch", wrap=_stepped),
        "validated": _picking("best epoch by the validation split", "validation"),
        "peeking": _picking("best epoch by the test split", "test"),
        "exact": _switched("ternary, best levels", regularizer=prox.TernaryL2()),
        "threshold": _switched(
            "ternary, levels by threshold", regularizer=prox.TernaryL2(projection="threshold")
        ),
    },
    claims=(
        _claim("A sign without a zero errs less than sign(0) = 0", "corrected", "zero"),
        _claim(
            "Keeping the optimizer errs less than a new one every epoch", "corrected", "rebuilt"
        ),
        _claim("Clipping weights to [-1, 1] errs less than not", "corrected", "unclipped"),
        _claim(
            "lambda growing every step errs less than growing every epoch", "corrected", "stepped"
        ),
        _claim(
            "Picking the epoch by the test split flatters (it can do nothing else: by how much?)",
            "peeking",
            "validated",
        ),
        _claim("Best ternary levels err less than the threshold's", "exact", "threshold"),
    ),
    train=train,
)
