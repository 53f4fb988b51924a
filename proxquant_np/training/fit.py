"""The training loop, for any of the optimizers, resumable to the bit.

Everything random either is a function of the seed and the step (the data order of epoch e comes
from a generator seeded with [seed, e]) or is saved with the checkpoint (generators inside the
model). So a run that was interrupted and resumed takes exactly the steps of one that was not,
provided that both use the same number of threads and the same BLAS kernel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from proxquant_np.checks import check_callable, check_instance, check_integer
from proxquant_np.data import Split
from proxquant_np.files import shown
from proxquant_np.nn import Module
from proxquant_np.optim import Optimizer, QuantizedOptimizer
from proxquant_np.prox import QuantizedSet, Regularizer, as_set
from proxquant_np.training import metrics, resume
from proxquant_np.training.history import HISTOGRAM_EDGES as HISTOGRAM_EDGES
from proxquant_np.training.history import History as History
from proxquant_np.training.history import Recorder
from proxquant_np.training.interrupt import finish_step_first
from proxquant_np.training.progress import progress_bar
from proxquant_np.training.run import Batches, Prepare, Run
from proxquant_np.training.saved_run import SavedRun
from proxquant_np.training.schedules import Plateau


def fit(
    model: Module,
    optimizer: Optimizer | QuantizedOptimizer,
    train: Split,
    *,
    steps: int,
    batch_size: int,
    validation: Split | None = None,
    regularizer: QuantizedSet | Regularizer | None = None,
    schedule: Callable[[int], float] | Plateau | None = None,
    length: int | None = None,
    max_norm: float | None = None,
    prepare: Prepare | None = None,
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
            (length, n) and a state to logits (length, n, classes) and the next state. It is
            trained in place and left in training mode.
        optimizer: holds parameters of the model, any of them.
        train: inputs and integer classes. Each epoch is one pass in a new random order, in full
            batches (examples left over are not used in that epoch).
        steps: the total number of steps, also when resuming.
        validation: measured after every epoch.
        regularizer: its Q defines the quantization gap and the quantized validation error; by
            default it is the optimizer's, if it has one.
        schedule: maps step 0, 1, ... to the learning rate; or a `Plateau`, which lowers it when the
            validation loss stops falling. By default the optimizer's is kept.
        length: declares that `train` and `validation` are streams, such as `load_text` returns.
            They are cut into `batch_size` columns, and these into chunks (`data.chunks`), which
            are used in order, one per step. The state is carried from chunk to chunk, but not the
            gradient (truncated backpropagation through time); each epoch starts without a state.
        max_norm: bound for `optim.clip_grad_norm` before each step, over all parameters of the
            model, including those that the optimizer does not hold.
        prepare: (inputs, generator) -> inputs, applied to each batch of `train` with a generator
            of its own that depends on seed and step; for augmentation, say. With `checkpoint` it
            is also called once on a copy of the first batch.
        seed: determines the data order and what `prepare` draws.
        checkpoint: a file. If it exists, the run resumes from it; the other arguments, including
            the data, must be as they were, except that `steps` may grow. It is rewritten every
            `checkpoint_every` steps and at the end, together with the random generators that
            modules hold as attributes. On resuming, all that can be compared is compared:
            arguments, hyperparameters, what is frozen, the modules and their plain attributes, and
            functions by their values at some steps before and after (see resume.py). So a
            function `schedule` and the homotopy must depend on the step alone.
        changed: names of what differs on purpose from the run in the checkpoint, as the error
            message gives them, say `["schedule"]` or `["lr", "frozen"]`; the new values are used.
        progress: whether to show a progress bar, labelled `description`.

    A resumed run takes, to the bit, the steps of one that was not interrupted, if it computes as
    before: with the same number of threads (`set_num_threads`), BLAS kernel and NumPy. Otherwise
    its steps agree only up to rounding, which training amplifies; a UserWarning says so.

    Returns:
        The history of all steps since step 0, also when resuming.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the step is finished and, with `checkpoint`, saved. A
            second Ctrl-C interrupts at once.
        FloatingPointError: the run diverged: the loss, or after the step a weight, a running
            statistic or the optimizer's state, is no longer finite. Such a state is never saved:
            the checkpoint stays as it was, and the message says at which step it is.
        CheckpointError: the checkpoint is damaged, or belongs to another run.
        OSError: the checkpoint cannot be read or written.
        ValueError, TypeError: an argument is invalid.

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
    _check_objects(model, optimizer, regularizer, prepare, schedule, validation)
    _check_data(train=train, validation=train if validation is None else validation)
    _check_checkpoint(checkpoint, checkpoint_every, changed)
    steps = check_integer("steps", steps, 1)
    batches = Batches(train, batch_size, length, prepare, seed)
    if regularizer is None and len(getattr(optimizer, "mapped", ())) == 1:
        regularizer = optimizer.regularizer
    recorder = Recorder(model, optimizer, regularizer, validation, batches.reading)
    run = Run(model, optimizer, recorder, max_norm)
    saved, done = None, 0
    if checkpoint is not None:
        saved = SavedRun(checkpoint, run, batches, schedule, regularizer)
        done = saved.restore(steps, changed) if Path(checkpoint).exists() else 0

    model.train()
    with (
        progress_bar(progress, desc=description, initial=done, total=steps, leave=False) as bar,
        finish_step_first() as interrupted,
    ):
        for step in range(done, steps):
            inputs, targets = batches(step)
            if schedule is not None:
                optimizer.lr = _rate(schedule, step, recorder.history)
            with _diverging(step, saved):
                run.step(inputs, targets)
                if batches.end_epoch(step):
                    run.end_epoch(batches.per_epoch)
                    bar.set_postfix_str(recorder.summary(), refresh=False)
                bar.update()
                done, stop = step + 1, bool(interrupted)
                due = stop or done == steps or done % checkpoint_every == 0
                if due:
                    run.check_finite()
            if due and saved:
                saved.save(done, steps)
            if stop:
                break
    if interrupted:
        kept = f"run again to resume from {checkpoint}" if saved else "nothing is saved"
        raise KeyboardInterrupt(f"stopped after step {done} of {steps}; {kept}")
    return recorder.history


def _rate(schedule: Callable[[int], float] | Plateau, step: int, history: History) -> float:
    if isinstance(schedule, Plateau):
        return schedule.after(history.epochs.get("validation_loss", ()))
    return schedule(step)


@contextlib.contextmanager
def _diverging(step: int, saved: SavedRun | None) -> Iterator[None]:
    """Add to a FloatingPointError the step where it occurred and that of the checkpoint."""
    try:
        yield
    except FloatingPointError as error:
        kept = f"; {shown(saved.path)} holds step {saved.step}" if saved and saved.step else ""
        raise FloatingPointError(f"{error} at step {step}: it diverged{kept}") from None


def _check_objects(model, optimizer, regularizer, prepare, schedule, validation):
    check_instance("model", model, Module, "a Module")
    kinds = (Optimizer, QuantizedOptimizer)
    check_instance("optimizer", optimizer, kinds, "one of proxquant_np.optim")
    if not {*getattr(optimizer, "base", optimizer).params} <= {*model.parameters()}:
        raise ValueError("optimizer must hold parameters of model, got one that is not the model's")
    if regularizer is not None:
        as_set(regularizer)  # nothing but the set is needed
    if prepare is not None:
        check_callable("prepare", prepare, "a function or None")
    if isinstance(schedule, Plateau):
        if validation is None:
            raise ValueError(f"validation must be given for schedule={schedule}, got None")
    elif schedule is not None:
        check_callable("schedule", schedule, "a function, a Plateau or None")


def _check_data(**splits):
    for name, pair in splits.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{name} must be a Split, (inputs, targets), got {type(pair).__name__}")
        metrics.check_examples(name, *pair)


def _check_checkpoint(checkpoint, checkpoint_every, changed):
    check_integer("checkpoint_every", checkpoint_every, 1)
    if isinstance(changed, str) or set(changed) & set(resume.KEPT):
        raise ValueError(
            f"changed must be a list of names other than {', '.join(resume.KEPT)}, got {changed!r}"
        )
    if checkpoint is not None and not Path(checkpoint).parent.is_dir():  # now, not after training
        raise FileNotFoundError(f"checkpoint: the folder of {checkpoint} does not exist")
