"""Training (layer 5): the loop, for any of the optimizers, resumable to the bit.

Everything random is a function of the seed and the step (the data order of epoch e comes from a
generator seeded with [seed, e]) or is saved with the checkpoint (generators inside the model), so
a run that was interrupted and resumed takes exactly the steps of one that was not, if both compute
with as many threads and the same BLAS kernel.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

import proxquant_np.functional as F
from proxquant_np import models
from proxquant_np.autograd import Tensor, threads
from proxquant_np.data import Split, chunks
from proxquant_np.files import shown
from proxquant_np.nn import Module, quantizable_parameters
from proxquant_np.optim import Optimizer, QuantizedOptimizer, clip_grad_norm
from proxquant_np.optim.optimizer import check_number
from proxquant_np.prox import QuantizedSet, Regularizer, as_set
from proxquant_np.training import metrics, resume
from proxquant_np.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from proxquant_np.training.progress import progress_bar

HISTOGRAM_EDGES = np.linspace(-2.025, 2.025, 82)  # with -1, 0 and +1 in the middle of their bins


@dataclass(repr=False)
class History:
    """What `fit` measured, in plain lists.

    `steps`, one entry a step: loss and error on the batch (before the step), lr, strength (of the
    step's map; infinite for a projection, 0 for a base optimizer), sign change against the start
    and against the step before. `epochs`, one entry an epoch: mean training loss and error,
    validation loss and error of the weights in use, and the error with them quantized (in a copy;
    of a language model also the loss, the perplexity being exp of a loss),
    sign change against the start and the epoch before, quantization gap, and the histogram of the
    weights (of the latent ones where there are any) over HISTOGRAM_EDGES, outliers in the end bins.
    `parameters` and `flips`: sign change against the start and against the epoch before, after each
    epoch, by parameter.

    The weights meant are those that the optimizer quantizes; with a base optimizer, all that are
    quantizable. Entries that do not exist in a run (no validation split, no regularizer) are
    absent.

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
        """The length of the run, and how some of the entries began and ended."""
        groups = {"steps": self.steps, "epochs": self.epochs}
        counts = [f"{len(next(iter(g.values()), ()))} {name}" for name, g in groups.items()]
        shown = {name: self.steps.get(name) for name in ("loss", "error", "lr", "strength")}
        for name in ("validation_error", "quantized_error", "quantization_gap"):
            shown[name] = self.epochs.get(name)
        told = [f"{name} {v[0]:.3g} -> {v[-1]:.3g}" for name, v in shown.items() if v]
        return f"History({', '.join(counts + told)})"

    def to_dict(self) -> dict[str, dict[str, list[Any]]]:
        """As JSON can hold it, strictly: None stands for infinity, the strength of a projection."""
        return {
            group: {
                name: [None if v in (math.inf, -math.inf) else v for v in values]
                for name, values in entries.items()
            }
            for group, entries in asdict(self).items()
        }


def fit(
    model: Module,
    optimizer: Optimizer | QuantizedOptimizer,
    train: Split,
    *,
    steps: int,
    batch_size: int,
    validation: Split | None = None,
    regularizer: QuantizedSet | Regularizer | None = None,
    schedule: Callable[[int], float] | None = None,
    length: int | None = None,
    max_norm: float | None = None,
    prepare: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
    changed: Collection[str] = (),
    progress: bool = True,
    description: str = "fit",
) -> History:
    """Minimise the mean cross-entropy of a classifier or a language model for a number of steps.

    Args:
        model: maps a batch of inputs to logits (n, classes), or, with `length`, inputs
            (length, n) and a state to logits (length, n, classes) and the next state. Trained in
            place, and left in training mode.
        optimizer: over parameters of the model; what it does with them is its affair.
        train: inputs and integer classes. Each epoch is one pass in a new random order, in full
            batches (what is left over waits for another epoch's order).
        steps: how many steps in total, also when resuming.
        validation: measured after every epoch.
        regularizer: whose Q the quantization gap and the quantized validation error refer to; by
            default the optimizer's, if it has one.
        schedule: step 0, 1, ... -> learning rate; by default the optimizer's stays as it is.
        length: `train` and `validation` are streams, such as `load_text` returns. They are cut
            into `batch_size` columns and those into chunks (`data.chunks`), one a step, in their
            order. The state is carried from chunk to chunk, but not the gradient (truncated
            backpropagation through time); each epoch begins without a state.
        max_norm: `optim.clip_grad_norm` with this bound, before each step, of the gradient by all
            parameters of the model, those that the optimizer does not hold included.
        prepare: (inputs, generator) -> inputs, for each batch of `train` alone and with a
            generator of its own that depends on seed and step: augmentation, say. With
            `checkpoint` it is also tried once, on a copy of the first batch.
        seed: of the data order, and of what `prepare` draws.
        checkpoint: a file. If it exists the run resumes from it (the other arguments must be as
            they were, the data among them; `steps` may grow), and it is rewritten every
            `checkpoint_every` steps and at the end. Random generators that modules hold as
            attributes are saved with it. What can be compared is: arguments, hyperparameters,
            what is frozen, the modules with their plain attributes; functions by their values at
            some steps before and after that of resuming (resume.py says which). So `schedule` and
            the homotopy must be functions of the step alone.
        changed: names, as the refusal gives them, of what differs on purpose from the run in the
            checkpoint, say `["schedule"]` or `["lr", "frozen"]`; the run goes on with the new.
        progress: show a progress bar called `description`.

    A resumed run takes the very steps, to the bit, of one that was not interrupted, if it computes
    as before: with as many threads (`set_num_threads`), the same BLAS kernel and NumPy. Otherwise
    its steps are equal to rounding only, which training makes larger; a UserWarning says so.

    Returns:
        The history of all steps since step 0, also when resuming.

    Raises:
        KeyboardInterrupt: Ctrl-C; the step is finished and, with `checkpoint`, saved first. A
            second Ctrl-C interrupts at once.
        FloatingPointError: it diverged: the loss, or after the step a weight, a running statistic
            or the optimizer's state, is no longer finite. Such a state is never saved: the
            checkpoint stays as it was, and the message says how far that is.
        CheckpointError: the checkpoint is damaged, or belongs to another run.
        OSError: the checkpoint cannot be read or written.
        ValueError, TypeError: an argument that makes no sense.

    Examples:
        >>> digits = pq.data.load_digits()
        >>> model = pq.models.MLP(sizes=(64, 32, 10), rng=0)
        >>> adam = pq.optim.Adam(model.parameters(), lr=1e-2)
        >>> eager = pq.optim.ProxGradient(
        ...     adam, pq.quantizable_parameters(model), pq.prox.BinaryL1(), pq.prox.Linear(1e-3)
        ... )
        >>> history = pq.training.fit(
        ...     model, eager, digits.train, steps=50, batch_size=32, progress=False
        ... )
        >>> sorted(history.steps), history.steps["loss"][-1] < history.steps["loss"][0]
        (['change_from_last_step', 'change_from_start', 'error', 'loss', 'lr', 'strength'], True)
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {model!r}")
    if not isinstance(optimizer, Optimizer | QuantizedOptimizer):
        raise TypeError(f"optimizer must be one of proxquant_np.optim, got {optimizer!r}")
    for name, pair in {"train": train, "validation": validation or train}.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{name} must be a Split, (inputs, targets), got {type(pair).__name__}")
    for name, function in {"schedule": schedule, "prepare": prepare}.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function or None, got {function!r}")
    x, y = train
    metrics.check_examples("train", x, y)
    if validation is not None:
        metrics.check_examples("validation", *validation)
    _check_integer("steps", steps, 1)
    _check_integer("batch_size", batch_size, 1, len(x))
    if length is not None:
        _check_integer("length", length, 1)
        length = int(length)
    if max_norm is not None:
        max_norm = check_number("max_norm", max_norm)
    _check_integer("checkpoint_every", checkpoint_every, 1)
    if isinstance(changed, str) or set(changed) & set(resume.KEPT):
        raise ValueError(
            f"changed must be a list of names, none of {', '.join(resume.KEPT)}, got {changed!r}"
        )
    _check_integer("seed", seed, 0)
    base = getattr(optimizer, "base", optimizer)
    if not {id(p) for p in base.params} <= {id(p) for p in model.parameters()}:
        raise ValueError("optimizer must hold parameters of model, got one of something else")
    if regularizer is None:
        regularizer = getattr(optimizer, "regularizer", None)
    else:
        as_set(regularizer)  # only the set is needed
    if checkpoint is not None and not Path(checkpoint).parent.is_dir():  # not after many steps
        raise FileNotFoundError(f"checkpoint: the folder of {checkpoint} does not exist")

    run = _Run(model, optimizer, regularizer, validation, batch_size, length, max_norm)
    identity = {
        "seed": int(seed),
        "batch_size": int(batch_size),
        "examples": len(x),
        "validation examples": 0 if validation is None else len(validation[0]),
        "checksum of the data": None
        if checkpoint is None
        else _checksum(x, y, *(validation or ())),
        "schedule": _name(schedule),
        "length": length,
        "max_norm": max_norm,
        "prepare": None if prepare is None else _name(prepare),
        "regularizer": _name(regularizer),
        "optimizer": type(optimizer).__name__,
        "homotopy": _name(getattr(optimizer, "homotopy", None)),
        "clip": getattr(optimizer, "clip", None),
        "base": type(base).__name__,
        **{k: getattr(base, k) for k in base.hyperparameters if k != "lr" or schedule is None},
    }
    pieces = [] if length is None else chunks(Split(x, y), batch_size, length)
    done = saved = 0
    if checkpoint is not None:
        first = pieces[0][0] if pieces else x[:batch_size]
        settings = resume.settings(model, optimizer, regularizer, prepare, first)
        run.own, run.schedule = {"identity": identity, "settings": settings}, schedule
        if Path(checkpoint).exists():
            done = saved = run.restore(checkpoint, steps, changed)

    per_epoch = len(pieces) or len(x) // batch_size
    order = None
    model.train()
    with (
        progress_bar(progress, desc=description, initial=done, total=steps, leave=False) as bar,
        _finish_step_first() as interrupted,
    ):
        for step in range(done, steps):
            epoch, position = divmod(step, per_epoch)
            if pieces:
                inputs, targets = pieces[position]
            else:
                if position == 0 or order is None:
                    order = np.random.default_rng([seed, epoch]).permutation(len(x))
                batch = order[position * batch_size : (position + 1) * batch_size]
                inputs, targets = x[batch], y[batch]
            if prepare is not None:  # a seed's trailing zeros do not count, hence 1 + position
                inputs = prepare(inputs, np.random.default_rng([seed, epoch, 1 + position]))
            if schedule is not None:
                optimizer.lr = schedule(step)
            try:
                run.step(inputs, targets)
                if position == per_epoch - 1:
                    run.end_epoch(per_epoch)
                    bar.set_postfix_str(run.summary(), refresh=False)
                bar.update()
                done, stop = step + 1, bool(interrupted)
                due = stop or done == steps or done % checkpoint_every == 0
                if due:
                    run.check_all()
            except FloatingPointError as error:
                kept = f"; {shown(checkpoint)} holds step {saved}" if saved else ""
                raise FloatingPointError(f"{error} at step {step}: it diverged{kept}") from None
            if due and checkpoint is not None:
                run.save(checkpoint, done, steps)
                saved = done
            if stop:
                break
    if interrupted:
        raise KeyboardInterrupt(
            f"stopped after step {done} of {steps}; "
            + (f"run again to resume from {checkpoint}" if checkpoint else "nothing is saved")
        )
    return run.history


_SIGNS = ("initial", "before_step", "before_epoch")
_HISTORY = ("steps", "epochs", "parameters", "flips")


class _Run:
    """The state of a run beyond the model's and the optimizer's own: reference signs, history,
    and the recurrent state, None at the start of an epoch.
    """

    def __init__(self, model, optimizer, regularizer, validation, batch_size, length, max_norm):
        self.model, self.optimizer = model, optimizer
        self.regularizer, self.validation = regularizer, validation
        self.reading = {} if length is None else {"batch_size": batch_size, "length": length}
        self.max_norm = max_norm
        self.state: metrics.State | None = None
        self.weights = quantizable_parameters(model)
        if isinstance(optimizer, QuantizedOptimizer):
            chosen = {id(p) for p in optimizer.params}
            self.weights = {k: p for k, p in model.named_parameters() if id(p) in chosen}
        self.held = [(path, owner, name) for path, owner, name in model._named()]
        self.history = History()
        self.since: dict[str, int] = {}  # from which step on what was changed on purpose holds
        self.initial = self.before_step = self.before_epoch = self.signs()

    def signs(self) -> np.ndarray:
        """sign_pm of all the weights in one flat array, True for +1."""
        return _joined(p.data for p in self.weights.values()) >= 0

    def step(self, x: np.ndarray, y: np.ndarray) -> None:
        self.model.zero_grad()  # also what the optimizer does not hold: it is in the norm to clip
        logits, y, self.state = metrics.predict(self.model, x, y, self.state)
        loss = F.cross_entropy(logits, y)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()}")
        loss.backward()
        if self.max_norm is not None:
            clip_grad_norm(self.model.parameters(), self.max_norm)
        strength = getattr(self.optimizer, "strength", 0.0)
        try:
            self.optimizer.step()
        except ValueError:  # of a wrapper, which looks at gradients and weights itself
            self.check_all()
            for name, p in self.model.named_parameters():
                _check_finite(f"the gradient of {name}", p.grad)
            raise
        self.check_model()
        signs = self.signs()
        now = {
            "loss": loss.item(),
            "error": float(np.count_nonzero(logits.data.argmax(1) != y) / y.size),
            "lr": self.optimizer.lr,
            "strength": strength,
            "change_from_start": _changed(signs, self.initial),
            "change_from_last_step": _changed(signs, self.before_step),
        }
        self.before_step = signs
        _append(self.history.steps, now)

    def check_model(self) -> None:
        """FloatingPointError if a weight or a running statistic is no longer finite."""
        for path, owner, name in self.held:
            _check_finite(path, getattr(owner, name))

    def check_all(self) -> None:
        """FloatingPointError if anything is no longer finite that a checkpoint must hold."""
        for name, value in self.arrays().items():
            if not name.startswith(_HISTORY):
                _check_finite(name.removeprefix("model/"), value)

    def end_epoch(self, length: int) -> None:
        now: dict[str, Any] = {
            name: float(np.mean(self.history.steps[name][-length:])) for name in ("loss", "error")
        }
        weights = list(self.weights.values())
        self.state = None
        if self.validation is not None:
            result = metrics.evaluate(self.model, *self.validation, **self.reading)
            now["validation_loss"], now["validation_error"] = result
        if getattr(self.regularizer, "set", self.regularizer) is not None:  # else no Q is known
            moved = [p for p in weights if p.requires_grad]  # frozen ones are deployed as they are
            now["quantization_gap"] = (
                metrics.quantization_gap(moved, self.regularizer) if moved else 0.0
            )
            if self.validation is not None:
                copied = metrics.quantized_copy(self.model, self.regularizer, weights)
                result = metrics.evaluate(copied, *self.validation, **self.reading)
                now["quantized_error"] = result.error
                if self.reading:
                    now["quantized_loss"] = result.loss
        signs = self.before_step
        now["change_from_start"] = _changed(signs, self.initial)
        now["change_from_last_epoch"] = _changed(signs, self.before_epoch)
        ends = np.cumsum([p.size for p in weights], dtype=int)
        for lists, reference in (
            (self.history.parameters, self.initial),
            (self.history.flips, self.before_epoch),
        ):
            parts = zip(self.weights, np.split(signs != reference, ends), strict=False)
            _append(lists, {name: float(part.mean()) for name, part in parts})
        self.before_epoch = signs
        shown = getattr(self.optimizer, "latent", None) or [p.data for p in weights]
        counts, _ = np.histogram(np.clip(_joined(shown), -2, 2), HISTOGRAM_EDGES)
        now["histogram"] = counts.tolist()
        _append(self.history.epochs, now)

    def summary(self) -> str:
        """The last epoch in a few words."""
        prefix = "" if self.validation is None else "validation_"
        loss, error = (self.history.epochs[f"{prefix}{name}"][-1] for name in ("loss", "error"))
        value = metrics.Evaluation(loss, error).perplexity if self.reading else error
        shown = f"{prefix}{'perplexity' if self.reading else 'error'} {value:.3f}"
        return f"loss {self.history.epochs['loss'][-1]:.3f}, {shown.replace('_', ' ')}"

    def generators(self) -> list[np.random.Generator]:
        """The random generators that the model's modules hold, each once."""
        found = {
            id(value): value
            for _, module in self.model.named_modules()
            for value in vars(module).values()
            if isinstance(value, np.random.Generator)
        }
        return list(found.values())

    def arrays(self) -> dict[str, np.ndarray]:
        parts = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "signs": {name: np.packbits(getattr(self, name)) for name in _SIGNS},
            "state": {str(i): s.data for i, s in enumerate(self.state or ())},
            **{group: getattr(self.history, group) for group in _HISTORY},
        }
        return {
            f"{part}/{name}": np.asarray(value)
            for part, entries in parts.items()
            for name, value in entries.items()
        }

    def functions(self) -> dict[str, Callable[[int], float] | None]:
        return {
            "schedule": self.schedule,
            "homotopy": getattr(self.optimizer, "homotopy", None),
        }

    def save(self, path: str | os.PathLike, step: int, steps: int) -> None:
        states = [g.bit_generator.state for g in self.generators()]
        network = {"model": models.describe(self.model), "quantized": list(self.weights)}
        taken = {"schedule": step, "homotopy": getattr(self.optimizer, "steps", step)}
        ahead = {
            name: resume.ahead(function, taken[name], taken[name] + steps - step)
            for name, function in self.functions().items()
        }
        meta = {
            **self.own,
            "ahead": ahead,
            "since": self.since,
            "step": step,
            "generators": states,
            "computed with": _computing(),
            **network,
        }
        save_checkpoint(path, self.arrays(), meta)

    def restore(self, path: str | os.PathLike, steps: int, changed: Collection[str]) -> int:
        """Take over what `save` saved, if it was a run like this one; the number of its steps."""
        arrays, meta = load_checkpoint(path)
        try:
            states, step, before = meta["generators"], meta["step"], meta.get("computed with", {})
            kinds = {"generators": [state["bit_generator"] for state in states]}
            saved = {**kinds, **_layout(arrays)}
            _check_integer("step", step, 0)
            different = resume.differences(self.own, meta, arrays, self.functions())
            now = _computing()
            rounding = [k for k in now if before.get(k, now[k]) != now[k]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{shown(path)} belongs to another run, or to none") from error
        generators = self.generators()
        kinds = {"generators": [type(g.bit_generator).__name__ for g in generators]}
        own = {**kinds, **_layout(self.arrays())}
        layout = {
            k: f"{k} was {saved.get(k)}, is {own.get(k)}"
            for k in {**own, **saved}
            if own.get(k) != saved.get(k)
        }
        what = resume.refusal(different, layout, changed)
        if what:
            raise CheckpointError(f"{shown(path)} belongs to another run: {shown(what)}")
        self.since = {**meta.get("since", {}), **dict.fromkeys(changed, meta["step"])}
        if meta["step"] > steps:
            raise ValueError(
                f"steps is {steps}, but {shown(path)} holds a run of {meta['step']} steps"
            )

        def part(name: str) -> dict[str, np.ndarray]:
            prefix = f"{name}/"
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        base = getattr(self.optimizer, "base", self.optimizer)
        meant = {
            (owner, name): getattr(owner, name)
            for owner in (self.optimizer, base)
            for name in getattr(owner, "hyperparameters", ())
            if name in changed
        }
        try:
            self.model.load_state_dict(part("model"))
            self.optimizer.load_state_dict(part("optimizer"))
            for generator, state in zip(generators, states, strict=True):
                generator.bit_generator.state = state
        except (KeyError, TypeError, ValueError) as error:  # saved when it had diverged, say
            raise CheckpointError(f"{shown(path)} cannot be resumed: {shown(error)}") from error
        for (owner, name), value in meant.items():
            setattr(owner, name, value)
        if rounding:
            what = [shown(f"{k} was {before[k]}, is {now[k]}") for k in rounding]
            warnings.warn(
                f"{shown(path)} is resumed with other rounding: {'; '.join(what)}. The steps from "
                f"{step} on are not those, to the bit, of a run that was not interrupted",
                stacklevel=3,
            )
        for name, packed in part("signs").items():
            setattr(self, name, np.unpackbits(packed, count=self.initial.size).astype(bool))
        self.state = tuple(map(Tensor, part("state").values())) or None
        self.history = History(
            *({k: v.tolist() for k, v in part(group).items()} for group in _HISTORY)
        )
        return step


def _layout(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What must agree between a run and its checkpoint: all arrays but the history's and the
    recurrent state, which comes and goes; the shape of that follows from the rest."""
    return {
        name: f"{value.dtype} {value.shape}" if value.ndim else "a number"
        for name, value in arrays.items()
        if not name.startswith((*_HISTORY, "state/"))
    }


def _computing() -> dict[str, Any]:
    """What the last bits of a step depend on, beside the code and its arguments."""
    kernel, count = threads.blas_kernel(), threads.get_num_threads()
    return {"threads": count, "BLAS kernel": kernel, "NumPy": np.__version__}


def _name(thing: Any) -> str:
    """Something to recognise an argument by in another process: its values, if it can name them."""
    return repr(thing) if thing is None or is_dataclass(thing) else type(thing).__name__


def _check_finite(name: str, value: Any) -> None:
    a = value.data if isinstance(value, Tensor) else value
    if a is None or a.dtype.kind != "f" or math.isfinite(np.vdot(a, a)):  # quick, and may overflow
        return
    if not np.isfinite(a).all():
        raise FloatingPointError(f"{name} has NaN or infinite entries")


def _checksum(*arrays: np.ndarray) -> str:
    """Of types, shapes and contents: quick, and enough to notice that data are not the same."""
    found = 0
    for a in arrays:
        found = zlib.crc32(f"{a.dtype.str} {a.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(a), found)
    return f"{found:08x}"


def _joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    flat = [a.reshape(-1) for a in arrays]
    return np.concatenate(flat) if flat else np.empty(0)


def _changed(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.count_nonzero(a != b) / max(1, a.size))


def _append(lists: dict[str, list[Any]], entries: Mapping[str, Any]) -> None:
    for name, value in entries.items():
        lists.setdefault(name, []).append(value)


def _check_integer(name: str, value: Any, least: int, most: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be an integer in {least}..{most}, got {value}")


@contextlib.contextmanager
def _finish_step_first() -> Iterator[list[int]]:
    """A list, empty until the first Ctrl-C, which does nothing else; a second interrupts at once.

    Outside the main thread, which alone may handle signals, it stays empty.
    """
    interrupted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted.append(signum)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
