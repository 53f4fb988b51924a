"""Learning rates that fall: against plain loops, PyTorch's, and on resuming."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kill_run import TRAIN, VALIDATION, run, start

from proxquant_np.training import CheckpointError, Plateau, fit

LOSSES = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, math.inf]) | st.floats(0.1, 9), max_size=12)


class Twin:
    """What a training script does by hand: a rate and a best loss, changed after each epoch."""

    def __init__(self, lr, factor):
        self.lr, self.factor, self.best = lr, factor, None

    def see(self, loss):
        if self.best is None or loss < self.best:
            self.best = loss
        else:
            self.lr = self.lr / self.factor


@given(LOSSES, st.sampled_from([1.0, 1.2, 2.0]))
def test_plateau_is_what_a_script_does_by_hand(losses, factor):
    twin, schedule = Twin(20.0, factor), Plateau(20.0, factor)
    for n in range(len(losses) + 1):
        assert schedule.after(losses[:n]) == pytest.approx(twin.lr, rel=1e-12)
        if n < len(losses) and losses[n] < math.inf:
            twin.see(losses[n])
        elif n < len(losses):
            twin.lr /= factor  # an infinite loss improves on nothing


@given(st.lists(st.floats(0.1, 9), max_size=12))
def test_plateau_is_pytorchs_without_patience(losses):
    torch = pytest.importorskip("torch")
    sgd = torch.optim.SGD([torch.zeros(1)], 20.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        sgd, factor=1 / 1.2, patience=0, threshold=0, eps=0
    )
    for loss in losses:
        theirs.step(loss)
    assert Plateau(20.0).after(losses) == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-9)


@pytest.mark.parametrize("case", ["sgd", "dual_averaging", "text"])
def test_fit_lowers_the_rate_after_an_epoch_without_progress(case):
    *_, history = run(case, steps=200, schedule=Plateau(0.3, factor=1.5))
    twin, rates, each = Twin(0.3, 1.5), [], 200 // len(history.epochs["loss"])
    for loss in history.epochs["validation_loss"]:
        rates += [twin.lr] * each
        twin.see(loss)
    rates += [twin.lr] * (200 - len(rates))
    assert history.steps["lr"] == pytest.approx(rates)
    assert len(set(rates)) > 2  # else nothing was tested


def test_another_schedule_is_noticed_on_resuming(tmp_path):
    file = tmp_path / "run.npz"
    run("adam", steps=20, schedule=Plateau(0.05), checkpoint=file)
    for other in (None, Plateau(0.05, factor=1.3), lambda step: 0.05):
        with pytest.raises(CheckpointError, match="schedule was Plateau"):
            run("adam", steps=30, schedule=other, checkpoint=file)
    *_, history = run(
        "adam", steps=30, schedule=lambda step: 0.01, checkpoint=file, changed=["schedule"]
    )
    assert history.steps["lr"][-1] == 0.01
    with pytest.raises(CheckpointError, match=r"schedule was function, is Plateau\(lr=0.05"):
        run("adam", steps=40, schedule=Plateau(0.05), checkpoint=file)


def test_a_plateau_needs_validation():
    model, optimizer = start("adam")
    with pytest.raises(ValueError, match="validation must be given for schedule=Plateau"):
        fit(model, optimizer, TRAIN, steps=1, batch_size=5, schedule=Plateau(0.1))
    with pytest.raises(TypeError, match="schedule must be a function, a Plateau or None"):
        fit(model, optimizer, TRAIN, steps=1, batch_size=5, schedule=0.1, validation=VALIDATION)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plateau(0.0), "lr must be a number > 0"),
        (lambda: Plateau(20.0, factor=0.5), "factor must be a number >= 1"),
    ],
)
def test_schedules_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("factor", [1e10, 10])
def test_a_rate_that_fell_below_all_numbers_is_zero(factor):
    assert Plateau(1.0, factor).after([1.0] * 500) == 0
