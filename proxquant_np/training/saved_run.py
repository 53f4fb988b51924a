"""The checkpoint of a run, saved during the run and restored by an identical one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from proxquant_np import models
from proxquant_np.autograd import Tensor, threads
from proxquant_np.checks import check_integer
from proxquant_np.files import shown
from proxquant_np.libraries import as_array, as_numpy, moved
from proxquant_np.nn import Module
from proxquant_np.prox import Regularizer
from proxquant_np.training import resume
from proxquant_np.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from proxquant_np.training.history import LISTS
from proxquant_np.training.run import Batches, Run


class SavedRun:
    """The file of a run, which is saved during the run and restored if it belongs to this run.

    `step` is the number of steps that the file holds.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        run: Run,
        batches: Batches,
        schedule: Callable[[int], float] | None,
        regularizer: Regularizer | None,
    ) -> None:
        self.path, self.run, self.step = path, run, 0
        self.since: dict[str, int] = {}  # the step from which a deliberate change holds
        groups = getattr(run.optimizer, "mapped", None)
        homotopies = {f"homotopy{s}": g.homotopy for s, g in groups.items()} if groups else {}
        self.functions = {"schedule": schedule, **(homotopies or {"homotopy": None})}
        self.own = {
            "identity": resume.identity(run, batches, self.functions, regularizer),
            "settings": resume.settings(
                run.model, run.optimizer, regularizer, batches.prepare, batches.first
            ),
        }

    def save(self, step: int, steps: int) -> None:
        """Write the state after `step` of `steps` steps, whole or not at all."""
        taken = getattr(self.run.optimizer, "steps", step)
        starts = {name: step if name == "schedule" else taken for name in self.functions}
        meta = {
            **self.own,
            "ahead": {
                name: resume.ahead(function, starts[name], starts[name] + steps - step)
                for name, function in self.functions.items()
            },
            "since": self.since,
            "step": step,
            "generators": [g.bit_generator.state for g in _generators(self.run.model)],
            "computed with": self._computed_with(),
            "model": models.describe(self.run.model),
            "quantized": list(self.run.recorder.weights),
        }
        save_checkpoint(self.path, self._arrays(), meta)
        self.step = step

    def _arrays(self) -> dict[str, np.ndarray]:
        parts = {**self.run.arrays(), **self.run.recorder.arrays()}
        return {
            f"{part}/{name}": as_numpy(as_array(value))
            for part, entries in parts.items()
            for name, value in entries.items()
        }

    def restore(self, steps: int, changed: Collection[str]) -> int:
        """Take over what `save` saved, if it was a run like this one; the number of its steps."""
        arrays, meta = load_checkpoint(self.path)
        rounding = self._check(arrays, meta, changed)
        step = meta["step"]
        if step > steps:
            raise ValueError(
                f"steps must be >= {step}, the steps of the run in {shown(self.path)}, got {steps}"
            )
        parts: dict[str, dict[str, np.ndarray]] = {
            part: {} for part in ("model", "optimizer", "state", "signs", *LISTS)
        }
        for name, value in arrays.items():
            part, _, entry = name.partition("/")
            parts.setdefault(part, {})[entry] = value
        self._load(parts, meta["generators"], changed)
        if rounding:
            warnings.warn(
                f"{shown(self.path)} is resumed with different rounding: {'; '.join(rounding)}. "
                f"From step {step} on, steps will not equal those of an uninterrupted run to the "
                "bit",
                stacklevel=3,
            )
        self.run.recorder.restore(parts)
        state = (moved(s, self.run.place()) for s in parts["state"].values())
        self.run.state = tuple(map(Tensor, state)) or None
        self.since = {**meta.get("since", {}), **dict.fromkeys(changed, step)}
        self.step = step
        return step

    def _check(
        self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], changed: Collection[str]
    ) -> list[str]:
        """Refuse the checkpoint of another run; return what makes rounding differ."""
        kinds = [type(g.bit_generator).__name__ for g in _generators(self.run.model)]
        own = {"generators": kinds, **_layout(self._arrays())}
        try:
            saved_kinds = [state["bit_generator"] for state in meta["generators"]]
            saved = {"generators": saved_kinds, **_layout(arrays)}
            check_integer("step", meta["step"], 0)
            different = resume.differences(self.own, meta, arrays, self.functions)
            before, now = meta.get("computed with", {}), self._computed_with()
            rounding = [
                shown(f"{k} was {before[k]}, is {now[k]}")
                for k in now
                if before.get(k, now[k]) != now[k]
            ]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{shown(self.path)} belongs to another run or is not a run's checkpoint"
            ) from error
        layout = {
            k: f"{k} was {saved.get(k)}, is {own.get(k)}"
            for k in {**own, **saved}
            if own.get(k) != saved.get(k)
        }
        what = resume.refusal(different, layout, changed)
        if what:
            raise CheckpointError(f"{shown(self.path)} belongs to another run: {shown(what)}")
        return rounding

    def _computed_with(self) -> dict[str, Any]:
        """What the last bits of a step depend on, besides the code and its arguments."""
        arrays = type(self.run.place())
        return {**_computing(), "arrays": f"{arrays.__module__}.{arrays.__qualname__}"}

    def _load(
        self,
        parts: Mapping[str, Mapping[str, np.ndarray]],
        states: list[Any],
        changed: Collection[str],
    ) -> None:
        """Load model, optimizer and generators; hyperparameters in `changed` keep new values."""
        optimizer = self.run.optimizer
        meant = {
            (owner, name): getattr(owner, name)
            for owner in (optimizer, getattr(optimizer, "base", optimizer))
            for name in owner.hyperparameters
            if name in changed
        }
        try:
            self.run.model.load_state_dict(parts["model"])
            optimizer.load_state_dict(parts["optimizer"])
            for generator, state in zip(_generators(self.run.model), states, strict=True):
                generator.bit_generator.state = state
        except (KeyError, TypeError, ValueError) as error:  # it was saved after diverging, say
            raise CheckpointError(
                f"{shown(self.path)} cannot be resumed: {shown(error)}"
            ) from error
        for (owner, name), value in meant.items():
            setattr(owner, name, value)


def _generators(model: Module) -> list[np.random.Generator]:
    """The random generators held by the model's modules, each once."""
    found = {
        id(value): value
        for _, module in model.named_modules()
        for value in vars(module).values()
        if isinstance(value, np.random.Generator)
    }
    return list(found.values())


def _layout(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What must agree between a run and its checkpoint: all arrays except the history and the
    recurrent state, which comes and goes, and whose shape follows from the rest."""
    return {
        name: f"{value.dtype} {value.shape}" if value.ndim else "a number"
        for name, value in arrays.items()
        if not name.startswith((*LISTS, "state/"))
    }


def _computing() -> dict[str, Any]:
    kernel, count = threads.blas_kernel(), threads.get_num_threads()
    return {"threads": count, "BLAS kernel": kernel, "NumPy": np.__version__}
