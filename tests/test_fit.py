"""The training loop: resumed runs, signals, and every entry of the history against a plain loop."""

import contextlib
import importlib
import inspect
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import kill_run
import numpy as np
import pytest
from kill_run import OPTIMIZERS, STEPS, TRAIN, VALIDATION, decay, digest, run, start

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, models, nn, optim, prox
from proxquant_np.data import Split, load_digits
from proxquant_np.training import (
    CheckpointError,
    History,
    Plateau,
    fit,
    load_checkpoint,
    metrics,
    save_checkpoint,
)
from proxquant_np.training.fit import HISTOGRAM_EDGES

saved_run_module = importlib.import_module("proxquant_np.training.saved_run")
CASES = sorted(OPTIMIZERS)
FIT = {"steps": 7, "batch_size": 5, "progress": False}


# Interrupted and resumed = uninterrupted ---------------------------------------------------------


@pytest.mark.parametrize("case", [*CASES, "text"])
@pytest.mark.parametrize("schedule", [None, decay, Plateau(0.05, factor=1.5)])
def test_resumed_equals_uninterrupted(case, schedule, tmp_path):
    """Stopped within an epoch, at its first, before its last and after its last step."""
    whole = digest(*run(case, steps=50, schedule=schedule))
    for stop in (1, 13, 23, 24, 49):
        file = tmp_path / f"{stop}.npz"
        run(case, steps=stop, schedule=schedule, checkpoint=file)
        assert digest(*run(case, steps=50, schedule=schedule, checkpoint=file)) == whole, stop


def test_checkpoints_change_nothing(tmp_path):
    saved = run("adam", checkpoint=tmp_path / "run.npz", checkpoint_every=7)
    assert digest(*saved) == digest(*run("adam"))


def test_finished_run_is_returned_from_its_checkpoint(tmp_path):
    file = tmp_path / "run.npz"
    whole = run("dual_averaging", steps=20, checkpoint=file)
    before = file.read_bytes()
    assert digest(*run("dual_averaging", steps=20, checkpoint=file)) == digest(*whole)
    assert file.read_bytes() == before


def test_the_same_objects_may_go_on(tmp_path):
    model, optimizer = start("prox_gradient")
    for steps in (10, 30):
        history = fit(
            model,
            optimizer,
            TRAIN,
            steps=steps,
            batch_size=5,
            validation=VALIDATION,
            schedule=decay,
            checkpoint=tmp_path / "run.npz",
            progress=False,
        )
    whole = run("prox_gradient", steps=30, schedule=decay)
    assert digest(model, optimizer, history) == digest(*whole)


@pytest.mark.parametrize("kind", ["MT19937", "Philox", "SFC64", "PCG64DXSM"])
def test_any_bit_generator_is_restored(kind, tmp_path):
    def trained(**arguments):
        model, optimizer = start("adam")
        model[3].rng = np.random.Generator(getattr(np.random, kind)(3))
        fit(model, optimizer, TRAIN, batch_size=5, progress=False, **arguments)
        return model.state_dict()["4.weight"]

    trained(steps=4, checkpoint=tmp_path / "run.npz")
    resumed = trained(steps=9, checkpoint=tmp_path / "run.npz")
    np.testing.assert_array_equal(resumed, trained(steps=9))


class Subprocess:
    """kill_run.py in a process of its own: it says when a step begins and waits for an answer."""

    def __init__(self, case, file):
        root = Path(__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, kill_run.__file__, case, str(file)],
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # else readline reads ahead, and what it has read is lost to communicate
        )

    def wait_for_steps(self, n):
        """Let n steps begin; the number of the last, which waits."""
        for _ in range(n - 1):
            self.process.stdout.readline()
            self.go_on()
        return int(self.process.stdout.readline())

    def go_on(self):
        self.process.stdin.write(b"\n")

    def end(self):
        """Let it run to its end; the lines that are left, its complaint and the exit code."""
        out, err = self.process.communicate(timeout=120)
        return out.decode().split(), err.decode(), self.process.returncode


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("case", [*CASES, "text"])
def test_killed_at_random_moments(case, tmp_path):
    """SIGKILL at any moment, also while a checkpoint is being written (every third step)."""
    seed = random.randrange(1 << 30)  # other moments in each run of this test
    rng = random.Random(seed)
    file = tmp_path / "run.npz"
    for _ in range(3):
        child = Subprocess(case, file)
        last = child.wait_for_steps(rng.randint(8, 40))
        child.go_on()
        time.sleep(rng.random() * 0.004)
        child.process.kill()
        assert child.end()[2] == -signal.SIGKILL
        assert load_checkpoint(file)[1]["step"] >= last - 2
    out, err, code = Subprocess(case, file).end()
    assert code == 0, err
    assert len(out) - 1 < STEPS  # it did resume
    assert out[-1] == digest(*run(case, schedule=decay)), f"seed {seed}"


def test_ctrl_c_in_a_real_run(tmp_path):
    file = tmp_path / "run.npz"
    child = Subprocess("dual_averaging", file)
    step = child.wait_for_steps(20)
    child.process.send_signal(signal.SIGINT)
    out, err, code = child.end()
    assert code != 0
    done = load_checkpoint(file)[1]["step"]
    assert f"stopped after step {done} of {STEPS}; run again to resume from {file}" in err
    assert (done, out) == (step + 1, [])  # it finished the step
    out, err, code = Subprocess("dual_averaging", file).end()
    assert code == 0, err
    assert out[0] == str(done)
    assert out[-1] == digest(*run("dual_averaging", schedule=decay))


class CtrlC:
    """A schedule during which Ctrl-C is pressed."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def __call__(self, step):
        for _ in range(self.times if step == self.step else 0):
            signal.raise_signal(signal.SIGINT)
        return decay(step)


@pytest.mark.parametrize("step", [0, 7, 12, 29])
def test_ctrl_c_finishes_the_step_and_saves(step, tmp_path):
    file, handler = tmp_path / "run.npz", signal.getsignal(signal.SIGINT)
    schedule = CtrlC(step)
    with pytest.raises(KeyboardInterrupt, match=f"step {step + 1} of 30; run again .*run.npz"):
        run("adam", steps=30, schedule=schedule, checkpoint=file)
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_checkpoint(file)[1]["step"] == step + 1
    schedule.times = 0
    resumed = run("adam", steps=30, schedule=schedule, checkpoint=file)
    assert digest(*resumed) == digest(*run("adam", steps=30, schedule=decay))


def test_ctrl_c_without_checkpoint():
    with pytest.raises(KeyboardInterrupt, match="stopped after step 5 of 30; nothing is saved"):
        run("adam", steps=30, schedule=CtrlC(4))


def test_second_ctrl_c_interrupts_at_once(tmp_path):
    file, handler = tmp_path / "run.npz", signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run("adam", steps=30, schedule=CtrlC(7, times=2), checkpoint=file, checkpoint_every=3)
    assert "resume" not in str(stopped.value)
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_checkpoint(file)[1]["step"] == 6  # the last regular one
    assert os.listdir(tmp_path) == ["run.npz"]


def test_works_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run("adam", steps=9)))
    thread.start()
    thread.join()
    assert digest(*results[0]) == digest(*run("adam", steps=9))


def jitter(x, rng):
    return x + rng.normal(size=x.shape).astype(x.dtype)


def test_prepared_batches_are_the_same_after_resuming(tmp_path):
    whole = digest(*run("adam", steps=30, prepare=jitter))
    assert whole != digest(*run("adam", steps=30))
    for steps in (16, 30):
        resumed = run("adam", steps=steps, prepare=jitter, checkpoint=tmp_path / "run.npz")
    assert digest(*resumed) == whole


def test_each_batch_is_prepared_with_a_generator_of_its_own_and_validation_is_not():
    drawn = []

    def prepare(x, rng):
        drawn.append((len(x), rng.random()))
        return x * 0

    history = run("adam", steps=26, prepare=prepare)[2]
    assert [n for n, _ in drawn] == [5] * 26 and len({r for _, r in drawn}) == 26
    assert len(set(history.epochs["validation_loss"])) == 2
    first = np.random.default_rng([0, 0]).random()  # what the order of the epoch is drawn with
    assert first not in [r for _, r in drawn]


# Checkpoints of other runs -----------------------------------------------------------------------


def other_network():
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    return model, OPTIMIZERS["prox_gradient"](model, nn.quantizable_parameters(model))


def without_generator():
    model, optimizer = start("prox_gradient")
    model[3].rng = None
    return model, optimizer


def wrapped(base=None, regularizer=None, homotopy=None, clip=True):
    def make():
        model = kill_run.network()
        inner = base(model.parameters()) if base else optim.SGD(model.parameters(), 0.05, 0.9)
        return model, optim.ProxGradient(
            inner,
            nn.quantizable_parameters(model),
            regularizer or prox.BinaryL2(),
            homotopy or prox.Linear(0.01),
            clip=clip,
        )

    return make


@pytest.mark.parametrize(
    ("what", "make", "changes"),
    [
        ("seed was 0, is 1", None, {"seed": 1}),
        ("batch_size was 5, is 6", None, {"batch_size": 6}),
        ("examples was 65, is 64", None, {"train": Split(TRAIN.x[:64], TRAIN.y[:64])}),
        ("validation examples was 0, is 20", None, {"validation": VALIDATION}),
        ("checksum of the data was", None, {"train": Split(TRAIN.x + 0.001, TRAIN.y)}),
        ("checksum of the data was", None, {"train": Split(TRAIN.x, TRAIN.y[::-1])}),
        ("schedule was None, is function", None, {"schedule": decay}),
        (
            r"schedule was None, is Plateau\(lr=0.1, factor=1.2\)",
            None,
            {"schedule": Plateau(0.1), "validation": VALIDATION},
        ),
        ("max_norm was None, is 1.0", None, {"max_norm": 1.0}),
        ("prepare was None, is function", None, {"prepare": jitter}),
        ("optimizer was ProxGradient, is Adam", lambda: start("adam"), {}),
        ("base was SGD, is Adam", wrapped(lambda p: optim.Adam(p, 0.05)), {}),
        ("momentum was 0.9, is 0.5", wrapped(lambda p: optim.SGD(p, 0.05, 0.5)), {}),
        ("lr was 0.05, is 0.04", wrapped(lambda p: optim.SGD(p, 0.04, 0.9)), {}),
        (r"BinaryL2\(\), is BinaryL1\(\)", wrapped(regularizer=prox.BinaryL1()), {}),
        (r"Linear\(rate=0.01\), is Constant", wrapped(homotopy=prox.Constant(1.0)), {}),
        ("clip was True, is False", wrapped(clip=False), {}),
        (r"model/0.weight was float32 \(9, 6\), is", other_network, {}),
        (r"generators was \['PCG64'\], is \[\]", without_generator, {}),
    ],
)
def test_checkpoint_of_another_run_is_refused(what, make, changes, tmp_path):
    file = tmp_path / "run.npz"
    fit(*start("prox_gradient"), TRAIN, **FIT, checkpoint=file)
    before = file.read_bytes()
    model, optimizer = make() if make else start("prox_gradient")
    weights = {k: v.tobytes() for k, v in model.state_dict().items()}
    arguments = {"train": TRAIN, **FIT, "checkpoint": file, **changes}
    with pytest.raises(CheckpointError, match=f"another run: .*{what}"):
        fit(model, optimizer, **arguments)
    assert {k: v.tobytes() for k, v in model.state_dict().items()} == weights
    assert file.read_bytes() == before


# Functions and settings that a resumed run must share with the saved one ------------


def piecewise(*ends):
    """0.05 until the first of these steps, then halved at each."""
    return lambda t: 0.05 * 0.5 ** sum(t >= end for end in ends)


class Halving:
    """The same values as piecewise(12), from an object."""

    def __call__(self, t):
        return 0.05 if t < 12 else 0.025


def homotopy_of(function):
    def make():
        return wrapped(homotopy=function)()

    return make


@pytest.mark.parametrize(
    ("what", "saved", "resumed", "where"),
    [
        ("the past", lambda t: 1e-4 * t, lambda t: 1.0, r"\(0\) was 0, is 1"),
        (
            "only a late past step",
            lambda t: 0.1,
            lambda t: 0.1 + (t == 9),
            r"\(9\) was 0.1, is 1.1",
        ),
        ("only the step of resuming", lambda t: 0.1, lambda t: 0.1 + (t == 10), r"\(10\) was 0.1"),
        (
            "only what comes",
            lambda t: 0.1,
            lambda t: 0.1 + (t > 18) * t,
            r"\(19\) was 0.1, is 19.1",
        ),
        ("nothing where the other has", lambda t: 0.1, lambda t: 0.1, r".*is None"),
    ],
)
@pytest.mark.parametrize("kind", ["schedule", "homotopy"])
def test_functions_are_compared_by_their_values(what, saved, resumed, where, kind, tmp_path):
    if "nothing" in what:
        resumed = ([0.1] * 5).__getitem__
    file = tmp_path / "run.npz"

    def go(function, steps, **arguments):
        """Stopped after 10 of 20 steps by the schedule, so that some steps are still to come."""
        model, optimizer = wrapped(homotopy=function if kind == "homotopy" else None)()
        schedule = function if kind == "schedule" else None
        arguments = {"schedule": schedule, "checkpoint": file, "progress": False, **arguments}
        return fit(model, optimizer, TRAIN, steps=steps, batch_size=5, **arguments)

    interrupt_after(10, monkey := pytest.MonkeyPatch())
    with pytest.raises(KeyboardInterrupt):
        go(saved, 20)
    monkey.undo()
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=rf"another run: {kind}{where}.*changed=\['{kind}'\]"):
        go(resumed, 20)
    assert file.read_bytes() == before
    go(saved, 12)
    if "nothing" not in what:
        history = go(resumed, 20, changed=[kind])
        strength = [h * (0.05 if kind == "homotopy" else 1) for h in map(resumed, range(12, 20))]
        if kind == "homotopy":
            assert history.steps["strength"][12:] == pytest.approx(strength)
        else:
            assert history.steps["lr"][12:] == strength
        go(resumed, 22)  # the run is now of the new function


def interrupt_after(step, monkey):
    """Press Ctrl-C while that step, the number of which is counted from 1, is taken."""
    taken, own = [], optim.SGD.step

    def pressed(self):
        own(self)
        taken.append(1)
        if len(taken) == step:
            signal.raise_signal(signal.SIGINT)

    monkey.setattr(optim.SGD, "step", pressed)


def test_equal_values_are_enough(tmp_path):
    """Another function, an object instead of a function: what it gives is what counts."""
    file = tmp_path / "run.npz"
    run("prox_gradient", steps=9, schedule=piecewise(12), checkpoint=file)
    resumed = run("prox_gradient", steps=30, schedule=Halving(), checkpoint=file)
    assert digest(*resumed) == digest(*run("prox_gradient", steps=30, schedule=piecewise(12)))


def test_a_schedule_that_ends_with_the_run_may_be_longer_when_the_run_is(tmp_path):
    file, rates = tmp_path / "run.npz", [0.05 / (1 + t) for t in range(30)]
    run("adam", steps=9, schedule=rates[:9].__getitem__, checkpoint=file)
    resumed = run("adam", steps=30, schedule=rates.__getitem__, checkpoint=file)
    assert digest(*resumed) == digest(*run("adam", steps=30, schedule=rates.__getitem__))


def test_a_homotopy_that_began_before_the_run_is_compared_at_its_own_steps(tmp_path):
    def start_late(lam):
        model, optimizer = wrapped(homotopy=lam)()
        fit(model, optimizer, TRAIN, **{**FIT, "steps": 5})
        return model, optimizer

    file = tmp_path / "run.npz"
    fit(*start_late(lambda t: 0.01 * t), TRAIN, **FIT, checkpoint=file)
    fit(*start_late(lambda t: t / 100), TRAIN, **{**FIT, "steps": 9}, checkpoint=file)
    with pytest.raises(CheckpointError, match=r"homotopy\(\d+\) was"):
        fit(*start_late(lambda t: 0.02 * t), TRAIN, **{**FIT, "steps": 9}, checkpoint=file)


def changed_model(change):
    def make():
        model = kill_run.network()
        change(model)
        return model, OPTIMIZERS["prox_gradient"](model, nn.quantizable_parameters(model))

    return make


def shifted(x, rng):
    return x + 1 + 0 * rng.normal(size=x.shape).astype(x.dtype)


class Own(prox.Regularizer):
    """No dataclass, so only what it does can be compared."""

    def __init__(self, level):
        self.set = prox.Levels([-level, level])

    def _prox(self, x, s, out, tmp):
        self.set._project(x, out)
        out += (x - out) / (1 + s)

    def _value(self, x):
        return 0.0


@pytest.mark.parametrize(
    ("name", "first", "then", "changes"),
    [
        ("model.3.p", None, changed_model(lambda m: setattr(m[3], "p", 0.4)), {}),
        ("model.1.eps", None, changed_model(lambda m: setattr(m[1], "eps", 1e-3)), {}),
        ("model.2", None, changed_model(lambda m: m.__setitem__(2, nn.Tanh())), {}),
        (
            "frozen",
            changed_model(lambda m: setattr(m[0].weight, "requires_grad", False)),
            None,
            {},
        ),
        ("frozen", None, changed_model(lambda m: setattr(m[0].bias, "requires_grad", False)), {}),
        ("prepare of the first batch", None, None, {"prepare": (jitter, shifted)}),
        ("max_norm", None, None, {"max_norm": (1.0, 2.0)}),
        ("lr", None, wrapped(lambda p: optim.SGD(p, 0.04, 0.9)), {}),
        ("momentum", None, wrapped(lambda p: optim.SGD(p, 0.05, 0.5)), {}),
        ("clip", None, wrapped(clip=False), {}),
        ("regularizer", None, wrapped(regularizer=prox.BinaryL1()), {}),
        (
            "prox of a fixed matrix",
            wrapped(regularizer=Own(1.0)),
            wrapped(regularizer=Own(0.5)),
            {},
        ),
        ("homotopy", None, wrapped(homotopy=prox.Constant(1.0)), {}),
    ],
)
def test_what_can_be_compared_is_and_may_be_changed_on_purpose(
    name, first, then, changes, tmp_path
):
    file = tmp_path / "run.npz"
    make = [first or (lambda: start("prox_gradient")), then or (lambda: start("prox_gradient"))]
    now = [{k: v[i] for k, v in changes.items()} for i in (0, 1)]
    fit(*make[0](), TRAIN, **FIT, checkpoint=file, **now[0])
    longer = {**FIT, "steps": 9, "checkpoint": file}
    quoted = re.escape(f"(if on purpose, pass changed=['{name}'])")
    with pytest.raises(CheckpointError, match=rf"another run: {re.escape(name)}.*{quoted}"):
        fit(*make[1](), TRAIN, **longer, **now[1])
    model, optimizer = make[1]()
    base = optimizer.base
    meant = optimizer.lr, base.momentum, optimizer.clip
    fit(model, optimizer, TRAIN, **longer, **now[1], changed=[name])
    assert (optimizer.lr, base.momentum, optimizer.clip) == meant
    fit(*make[1](), TRAIN, **{**longer, "steps": 11}, **now[1])  # it is now a run of this kind
    with pytest.raises(CheckpointError, match=re.escape(name)):
        fit(*make[0](), TRAIN, **{**longer, "steps": 11}, **now[0])


def test_numbers_of_bop_are_compared(tmp_path):
    def trained(threshold, **options):
        model = kill_run.network()
        bop = optim.Bop(
            optim.Adam(model.parameters(), 0.01), nn.quantizable_parameters(model), threshold
        )
        fit(model, bop, TRAIN, **{**FIT, **options}, checkpoint=tmp_path / "run.npz")
        return bop

    trained(1e-3)
    with pytest.raises(CheckpointError, match=r"threshold was 0.001, is 0.5"):
        trained(0.5, steps=9)
    assert trained(0.5, steps=9, changed=["threshold"]).threshold == 0.5


@pytest.mark.parametrize("changed", ["lr", ["seed"], ["lr", "batch_size"], ["optimizer"]])
def test_what_must_not_be_changed(changed):
    with pytest.raises(ValueError, match="changed must be a list of names other than seed"):
        fit(*start("adam"), TRAIN, **FIT, changed=changed)


def older(file):
    """Make of a checkpoint what earlier versions wrote."""
    arrays, meta = load_checkpoint(file)
    del meta["settings"], meta["ahead"]
    save_checkpoint(file, arrays, meta)


def test_a_checkpoint_of_an_earlier_version_is_compared_as_far_as_it_goes(tmp_path):
    file = tmp_path / "run.npz"
    for case in ("prox_gradient", "text"):
        run(case, steps=20, schedule=piecewise(12), checkpoint=file)
        older(file)
        with pytest.raises(CheckpointError, match=r"schedule\(19\) was 0.025, is 0.05"):
            run(case, steps=30, schedule=piecewise(25), checkpoint=file)
        resumed = run(case, steps=30, schedule=piecewise(12), checkpoint=file)
        assert digest(*resumed) == digest(*run(case, steps=30, schedule=piecewise(12)))
        file.unlink()


# Gradients ---------------------------------------------------------------------------------------


def two_layers():
    rng = np.random.default_rng(1)
    return nn.Sequential(nn.Linear(6, 16, rng=rng), nn.Tanh(), nn.Linear(16, 3, rng=rng))


def test_gradients_of_layers_that_are_not_trained_do_not_pile_up(tmp_path):
    """They are part of the norm that is clipped."""

    def trained(*lengths, checkpoint=None):
        for steps in lengths:
            model = two_layers()
            sgd = optim.SGD(model[2].parameters(), 0.5)
            options = {"max_norm": 0.05, "checkpoint": checkpoint, "progress": False}
            fit(model, sgd, TRAIN, steps=steps, batch_size=32, **options)
        return model[2].weight.data

    plain = two_layers()
    sgd = optim.SGD(plain[2].parameters(), 0.5)
    for step in range(60):
        order = np.random.default_rng([0, step // 2]).permutation(65)
        batch = order[32 * (step % 2) :][:32]
        plain.zero_grad()
        F.cross_entropy(plain(Tensor(TRAIN.x[batch])), TRAIN.y[batch]).backward()
        optim.clip_grad_norm(plain.parameters(), 0.05)
        sgd.step()
    np.testing.assert_array_equal(trained(60), plain[2].weight.data)
    np.testing.assert_array_equal(trained(30, 60, checkpoint=tmp_path / "a.npz"), trained(60))


def test_gradients_from_before_the_run_do_not_count():
    model, twin = two_layers(), two_layers()
    for p in model.parameters():
        p.grad = np.full_like(p.data, 1e3)
    for net in (model, twin):
        fit(net, optim.SGD(net[2].parameters(), 0.5), TRAIN, **FIT, max_norm=0.05)
    np.testing.assert_array_equal(model[2].weight.data, twin[2].weight.data)


def test_checkpoint_of_something_else_is_refused(tmp_path):
    save_checkpoint(tmp_path / "other.npz", {"a": np.ones(3)}, {})
    with pytest.raises(CheckpointError, match="belongs to another run"):
        fit(*start("adam"), TRAIN, **FIT, checkpoint=tmp_path / "other.npz")


def test_a_longer_run_is_not_cut(tmp_path):
    run("adam", steps=9, checkpoint=tmp_path / "run.npz")
    model, optimizer = start("adam")
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"steps must be >= 9, the steps of the run in .*, got 8"):
        fit(
            model,
            optimizer,
            TRAIN,
            steps=8,
            batch_size=5,
            validation=VALIDATION,
            checkpoint=tmp_path / "run.npz",
        )
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


def test_what_a_checkpoint_needs_is_looked_at_first(tmp_path):
    """Not when the first one is written, which may be hours later."""
    model, optimizer = start("adam")
    with pytest.raises(FileNotFoundError, match=r"checkpoint: the folder of .*none"):
        fit(model, optimizer, TRAIN, **FIT, checkpoint=tmp_path / "none" / "run.npz")
    assert optimizer.state_dict()["steps"].max() == 0
    fit(model, optimizer, TRAIN, **FIT, max_norm=np.float32(5), checkpoint=tmp_path / "run.npz")
    assert load_checkpoint(tmp_path / "run.npz")[1]["identity"]["max_norm"] == 5


# The history -------------------------------------------------------------------------------------


def plain_loop(case, steps, batch_size):
    """What `fit` does, written down once more as plainly as possible."""
    model, optimizer = start(case)
    regularizer = getattr(optimizer, "regularizer", prox.BinaryL1())
    weights = [model[0].weight, model[4].weight]

    def signs(points=weights):
        return np.concatenate([np.where(p.data.ravel() < 0, -1, 1) for p in points])

    def validation_error():
        model.eval()
        logits = model(Tensor(VALIDATION.x))
        model.train()
        loss = F.cross_entropy(logits, VALIDATION.y).item()
        return loss, np.mean(logits.data.argmax(1) != VALIDATION.y)

    start_signs = last = epoch_signs = signs()
    first_layer = signs(weights[:1])
    steps_log, epochs_log, layer_log, in_epoch = [], [], [], []
    epoch, order = 0, np.random.default_rng([0, 0]).permutation(65)
    for t in range(steps):
        batch, order = order[:batch_size], order[batch_size:]
        x, y = TRAIN.x[batch], TRAIN.y[batch]
        logits = model(Tensor(x))
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        strength = {
            "sgd": 0,
            "adam": 0,
            "dual_averaging": np.inf,
            "prox_gradient": 0.05 * 0.01 * t,
        }[case]
        error = np.mean(logits.data.argmax(1) != y)
        now = signs()
        lr = 0.05 if case in ("sgd", "prox_gradient") else 0.01
        changes = np.mean(now != start_signs), np.mean(now != last)
        steps_log.append((loss.item(), error, lr, strength, *changes))
        in_epoch.append((loss.item(), error))
        last = now
        if len(order) < batch_size:
            points = [p.data for p in weights]
            projected = [regularizer.project(w) for w in points]
            gap = np.mean(np.abs(np.concatenate([
                (w - q).ravel() for w, q in zip(points, projected, strict=True)
            ])))  # fmt: skip
            loss, error = validation_error()
            for w, q in zip(weights, projected, strict=True):
                w.data = q
            quantized_error = validation_error()[1]
            for w, point in zip(weights, points, strict=True):
                w.data = point
            changes = np.mean(now != start_signs), np.mean(now != epoch_signs)
            epochs_log.append((*np.mean(in_epoch, 0), loss, error, gap, quantized_error, *changes))
            layer_log.append(np.mean(signs(weights[:1]) != first_layer))
            epoch_signs, in_epoch, epoch = now, [], epoch + 1
            order = np.random.default_rng([0, epoch]).permutation(65)
    return steps_log, epochs_log, layer_log


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [5, 13, 20, 65])
def test_history_means_what_it_says(case, batch_size):
    steps = 4 * (65 // batch_size) + (1 if batch_size < 65 else 0)  # the last epoch is not finished
    regularizer = prox.BinaryL1() if case in ("sgd", "adam") else None
    history = run(case, steps=steps, batch_size=batch_size, regularizer=regularizer)[2]
    steps_log, epochs_log, layer_log = plain_loop(case, steps, batch_size)
    names = "loss error lr strength change_from_start change_from_last_step".split()
    assert set(history.steps) == set(names)
    np.testing.assert_allclose(np.transpose([history.steps[k] for k in names]), steps_log, 1e-12)
    names = (
        "loss error validation_loss validation_error quantization_gap quantized_error "
        "change_from_start change_from_last_epoch"
    ).split()
    assert set(history.epochs) == {*names, "histogram"}
    epochs = np.transpose([history.epochs[k] for k in names])
    assert len(epochs) == 4
    np.testing.assert_allclose(epochs, epochs_log, 1e-5)  # float32 sums in another order
    assert list(history.parameters) == ["0.weight", "4.weight"]
    np.testing.assert_allclose(history.parameters["0.weight"], layer_log, 1e-12)
    pooled = np.average(list(history.flips.values()), axis=0, weights=[54, 27])
    np.testing.assert_allclose(pooled, history.epochs["change_from_last_epoch"], 1e-12)
    np.testing.assert_allclose(history.flips["0.weight"][0], layer_log[0], 1e-12)
    if case == "prox_gradient":  # not vacuous: signs do change
        assert max(history.steps["change_from_last_step"]) > 0


def test_histogram_shows_the_latent_and_keeps_outliers():
    model, optimizer, history = run("dual_averaging", steps=13)
    counts = np.array(history.epochs["histogram"][0])
    latent = np.concatenate([z.ravel() for z in optimizer.latent])
    np.testing.assert_array_equal(counts, np.histogram(latent, HISTOGRAM_EDGES)[0])
    assert np.count_nonzero(counts) > 2  # unlike that of the binary weights
    model, optimizer = start("sgd")
    model[0].weight.data[0, :3] = [-7, 7, 9]
    optimizer.lr = 0.0
    counts = fit(model, optimizer, TRAIN, steps=1, batch_size=65, progress=False).epochs[
        "histogram"
    ][0]
    assert (counts[0], counts[-1], sum(counts)) == (1, 2, 9 * 6 + 3 * 9)


def test_entries_that_do_not_exist_are_absent():
    history = run("adam", steps=13, validation=None)[2]
    assert set(history.epochs) == {
        "loss", "error", "change_from_start", "change_from_last_epoch", "histogram"
    }  # fmt: skip
    assert set(run("adam", steps=12)[2].epochs) == set()


def test_history_counts_only_what_is_quantized():
    """First and last layers are often left out: then neither gap nor error may speak of them."""
    model = nn.Sequential(*(nn.Linear(6, 6, rng=i) for i in range(2)), nn.Linear(6, 3))
    hidden = {"1.weight": model[1].weight}
    optimizer = optim.DualAveraging(optim.SGD(model.parameters(), 0.1), hidden, prox.BinaryL1())
    history = fit(
        model, optimizer, TRAIN, steps=13, batch_size=5, validation=VALIDATION, progress=False
    )
    assert list(history.parameters) == ["1.weight"]
    assert history.epochs["quantization_gap"] == [0]
    assert history.epochs["quantized_error"] == history.epochs["validation_error"]
    assert sum(history.epochs["histogram"][0]) == 36


def test_model_without_quantizable_parameters():
    class Bias(nn.Module):
        def __init__(self):
            self.bias = nn.Parameter(np.zeros(3, np.float32))

        def forward(self, x):
            return F.linear(x, np.zeros((3, 6), np.float32), self.bias)

    model = Bias()
    history = fit(model, optim.SGD(model.parameters(), 0.1), TRAIN, **{**FIT, "steps": 13})
    assert len(set(history.steps["loss"])) == 13  # it trains
    assert history.parameters == {}


def test_history_is_strict_json(tmp_path):
    file = tmp_path / "run.npz"
    run("dual_averaging", steps=14, checkpoint=file)
    history = run("dual_averaging", steps=27, checkpoint=file)[2]
    assert history.steps["strength"] == [np.inf] * 27  # the projection is the prox at infinity
    for values in (*history.steps.values(), history.epochs["change_from_start"]):
        assert {type(v) for v in values} == {float}
    as_dict = history.to_dict()
    assert json.loads(json.dumps(as_dict, allow_nan=False)) == as_dict
    assert as_dict["steps"]["strength"] == [None] * 27
    assert as_dict["steps"]["loss"] == history.steps["loss"]
    assert as_dict["epochs"] == history.epochs


def test_a_history_prints_in_a_line():
    history = run("dual_averaging", steps=40)[2]
    text = repr(history)
    assert len(text) < 300 and "\n" not in text
    assert text.startswith("History(40 steps, 3 epochs, loss ")
    for name in ("error", "lr 0.01 -> 0.01", "strength inf -> inf", "quantized_error"):
        assert name in text
    for name, group in (("loss", history.steps), ("validation_error", history.epochs)):
        values = group[name]
        assert f", {name} {values[0]:.3g} -> {values[-1]:.3g}" in text
    assert repr(History()) == "History(0 steps, 0 epochs)"
    assert "epochs, loss" in repr(run("adam", steps=3)[2])


def test_schedule_sets_the_rate_of_its_step():
    """As a Python number: with a float64 scalar NumPy would compute float32 weights in float64."""
    optimizer, history = run("prox_gradient", steps=9, schedule=lambda t: np.float64(0.1**t))[1:]
    assert type(optimizer.lr) is float
    assert history.steps["lr"] == [0.1**t for t in range(9)]
    assert history.steps["strength"] == [0.1**t * (0.01 * t) for t in range(9)]


# Evaluation and arguments ------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_evaluation_changes_nothing(case):
    """Measured or not, with or without validation: the run is the same, and ends in training."""
    regularizer = prox.BinaryL1()
    measured = run(case, steps=40, regularizer=regularizer)
    bare = run(case, steps=40, validation=None)
    assert digest(*measured[:2], bare[2]) == digest(*bare)
    assert all(m.training for _, m in measured[0].named_modules())
    before = digest(*measured)
    model = measured[0]
    model[1].eval()
    metrics.evaluate(model, *VALIDATION)
    metrics.evaluate(metrics.quantized_copy(model, regularizer), *VALIDATION)
    metrics.quantization_gap(nn.quantizable_parameters(model), regularizer)
    assert [m.training for _, m in model.named_modules()] == [True, True, False] + [True] * 3
    assert digest(*measured) == before


def test_each_epoch_uses_full_batches_of_distinct_examples():
    seen = []

    class Spy(nn.Sequential):
        def forward(self, x):
            seen.append(x.data)
            return super().forward(x)

    model = Spy(nn.Linear(6, 3))
    fit(model, optim.SGD(model.parameters(), 0.1), TRAIN, steps=7, batch_size=20, progress=False)
    assert [len(x) for x in seen] == [20] * 7
    row = {x.tobytes(): i for i, x in enumerate(TRAIN.x)}
    epochs = [
        [row[x.tobytes()] for batch in seen[e : e + 3] for x in batch] for e in range(0, 7, 3)
    ]
    assert [len(set(e)) for e in epochs] == [60, 60, 20]
    assert epochs[0] != epochs[1]


def test_divergence_stops_the_run_before_the_step(tmp_path):
    file = tmp_path / "run.npz"
    model, optimizer = start("sgd")
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at step \d+"),
    ):
        fit(
            model,
            optimizer,
            TRAIN,
            steps=50,
            batch_size=5,
            schedule=lambda t: 0.1 if t < 6 else 1e37,
            checkpoint=file,
            checkpoint_every=6,
            progress=False,
        )
    assert load_checkpoint(file)[1]["step"] == 6


def digits_with_batch_norm(**options):
    """The arguments of a run whose weights go to infinity, though its loss stays finite: batch norm
    divides by them. So what overflows first is a running variance, then nothing can be resumed."""
    model = models.MLP((64, 16, 10), rng=0)
    options = {"lr": 562, "weight_decay": 1e-2, **options}
    sgd = optim.SGD(model.parameters(), **options)
    return model, sgd, load_digits().train


@pytest.mark.parametrize("every", [1, 4, 1000])
def test_what_has_diverged_is_not_saved(every, tmp_path):
    file, options = tmp_path / "run.npz", {"batch_size": 32, "progress": False, "steps": 300}
    model, sgd, train = digits_with_batch_norm()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as raised:
        fit(model, sgd, train, **options, checkpoint=file, checkpoint_every=every)
    step = int(re.search(r" at step (\d+): it diverged", str(raised.value))[1])
    saved = step // every * every
    assert ("holds step" in str(raised.value)) == file.exists() == (saved > 0)
    if saved:
        assert str(raised.value).endswith(f"run.npz holds step {saved}")
        assert load_checkpoint(file)[1]["step"] == saved
        model, sgd, train = digits_with_batch_norm()
        fit(model, sgd, train, **{**options, "steps": saved}, checkpoint=file)  # it can be resumed
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=f"at step {step}"):
            fit(model, sgd, train, **options, checkpoint=file, checkpoint_every=every)


def test_a_run_does_not_end_well_with_what_is_infinite():
    """At whichever step it would have ended: the weights and statistics that it leaves are finite,
    or it says that they are not."""
    model, sgd, train = digits_with_batch_norm()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as raised:
        fit(model, sgd, train, batch_size=32, progress=False, steps=300)
    last = int(re.search(r" at step (\d+)", str(raised.value))[1])
    for steps in (last, last + 1):
        model, sgd, train = digits_with_batch_norm()
        with np.errstate(all="ignore"), contextlib.suppress(FloatingPointError):
            fit(model, sgd, train, batch_size=32, progress=False, steps=steps)
            assert steps == last
            assert all(np.isfinite(v).all() for v in model.state_dict().values())


class Overflowing(nn.Module):
    """Logits that do not depend on a buffer, a gradient or a state that overflows."""

    buffers = ("count",)

    def __init__(self):
        self.linear = nn.Linear(6, 3, rng=0)
        self.count = np.full(1, 1e38, np.float32)

    def forward(self, x):
        if self.training:
            self.count *= 1.5
        return self.linear(x)


def test_a_buffer_that_overflows_is_named(tmp_path):
    model = Overflowing()
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError) as raised:
        fit(model, optim.SGD(model.parameters(), 0.1), TRAIN, steps=9, batch_size=5, progress=False)
    assert str(raised.value) == "count has NaN or infinite entries at step 3: it diverged"


def test_an_optimizer_that_overflows_is_not_saved(tmp_path):
    """Adam's second moment, a square, overflows long before the gradient does: its steps become 0,
    the loss stays, and a checkpoint of it would be refused."""
    file, train = tmp_path / "run.npz", Split(TRAIN.x * np.float32(1e21), TRAIN.y)
    model = nn.Sequential(nn.Linear(6, 3, rng=0))
    for p in model.parameters():
        p.data *= np.float32(1e-21)
    adam = optim.Adam(model.parameters(), 1e-30)
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"optimizer/.* has NaN"),
    ):
        fit(model, adam, train, steps=9, batch_size=5, progress=False, checkpoint=file)
    assert not file.exists()


@pytest.mark.parametrize("kind", ["lazy", "eager"])
def test_a_quantized_run_that_diverges_says_so_too(kind, tmp_path):
    file, model = tmp_path / "run.npz", nn.Sequential(nn.Linear(6, 3, rng=0))
    weights = nn.quantizable_parameters(model)
    sgd = optim.SGD(model.parameters(), 0.1)
    if kind == "lazy":
        optimizer = optim.DualAveraging(sgd, weights, prox.BinaryL1())
    else:
        optimizer = optim.ProxGradient(sgd, weights, prox.BinaryL1(), prox.Constant(0.0))
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="at step 4: it diverged"),
    ):
        fit(
            model,
            optimizer,
            TRAIN,
            steps=9,
            batch_size=5,
            schedule=lambda t: 0.1 if t < 4 else 3e38 * 1e3,
            progress=False,
            checkpoint=file,
            checkpoint_every=2,
        )
    assert load_checkpoint(file)[1]["step"] == 4


def test_a_checkpoint_that_cannot_be_resumed_is_named(tmp_path):
    """Earlier versions saved such."""
    file, (model, adam) = tmp_path / "run.npz", start("adam")
    fit(model, adam, TRAIN, **FIT, checkpoint=file)
    arrays, meta = load_checkpoint(file)
    name = next(k for k in arrays if k.startswith("model/") and arrays[k].dtype.kind == "f")
    save_checkpoint(file, {**arrays, name: np.full_like(arrays[name], np.inf)}, meta)
    with pytest.raises(CheckpointError, match=r"run.npz cannot be resumed: .* NaN or infinite"):
        fit(*start("adam"), TRAIN, **FIT, checkpoint=file)


@pytest.mark.parametrize(
    "change",
    [[], "text", None, {"step": "3"}, {"step": -1}, {"step": True}, {"generators": 3}]
    + [{"generators": [3]}, {"identity": 3}, {"computed with": 3}],
    ids=str,
)
def test_checkpoints_that_say_nonsense_of_their_run(change, tmp_path):
    file = tmp_path / "run.npz"
    fit(*start("adam"), TRAIN, **FIT, checkpoint=file)
    arrays, meta = load_checkpoint(file)
    save_checkpoint(file, arrays, {**meta, **change} if isinstance(change, dict) else change)
    with pytest.raises(CheckpointError, match=r"run.npz belongs to another run or is not a"):
        fit(*start("adam"), TRAIN, **FIT, checkpoint=file)


# Rounding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", ["threads", "BLAS kernel", "NumPy", None])
def test_resuming_with_other_rounding_says_so(now, tmp_path, monkeypatch, recwarn):
    file, other = tmp_path / "run.npz", {**saved_run_module._computing(), now: "another"}
    fit(*start("adam"), TRAIN, **FIT, checkpoint=file)
    if now:
        monkeypatch.setattr(saved_run_module, "_computing", lambda: other)
        with pytest.warns(
            UserWarning, match=f"different rounding: {now} was .*, is another. From step"
        ):
            fit(*start("adam"), TRAIN, **FIT, checkpoint=file)
    else:
        arrays, meta = load_checkpoint(file)
        del meta["computed with"]  # as earlier versions did not say it
        save_checkpoint(file, arrays, meta)
        fit(*start("adam"), TRAIN, **FIT, checkpoint=file)


def test_the_thread_count_of_a_run_is_in_its_checkpoint(tmp_path):
    before = pq.get_num_threads()
    try:
        for n in (1, 2):
            pq.set_num_threads(n)
            fit(*start("adam"), TRAIN, **FIT, checkpoint=tmp_path / f"{n}.npz")
            assert load_checkpoint(tmp_path / f"{n}.npz")[1]["computed with"]["threads"] == n
        with pytest.warns(UserWarning, match="threads was 1, is 2"):
            fit(*start("adam"), TRAIN, **FIT, checkpoint=tmp_path / "1.npz")
    finally:
        pq.set_num_threads(before)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"steps": 0}, ValueError),
        ({"steps": 2.0}, TypeError),
        ({"steps": True}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"batch_size": 66}, ValueError),
        ({"batch_size": "5"}, TypeError),
        ({"checkpoint_every": 0}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 0.5}, TypeError),
        ({"length": 0}, ValueError),
        ({"length": 2.5}, TypeError),
        ({"max_norm": -1.0}, ValueError),
        ({"train": Split(TRAIN.x, TRAIN.y[:-1])}, ValueError),
        ({"train": Split(TRAIN.x[:0], TRAIN.y[:0])}, ValueError),
        ({"validation": Split(TRAIN.x[:2], TRAIN.y[:1])}, ValueError),
        ({"optimizer": start("adam")[1]}, ValueError),
        ({"regularizer": prox.BinaryL1}, TypeError),
        ({"max_norm": -1}, ValueError),
        ({"max_norm": "5"}, TypeError),
    ],
)
def test_arguments_that_make_no_sense(arguments, error):
    model, optimizer = start("adam")
    (name,) = arguments
    arguments = {"optimizer": optimizer, "train": TRAIN, **FIT, **arguments}
    with pytest.raises(error, match=f"^{name} must"):
        fit(model, **arguments)


@pytest.mark.parametrize("kwargs", [{}, {"validation": VALIDATION}])
def test_progress_is_shown(kwargs, capsys):
    model, optimizer = start("adam")
    kwargs["schedule"] = lambda step: time.sleep(0.11) or 0.01  # the bar is redrawn every 0.1 s
    fit(model, optimizer, TRAIN, steps=2, batch_size=65, description="the digits", **kwargs)
    shown = capsys.readouterr().err
    assert "the digits" in shown
    assert "loss" in shown
    assert ("validation error" in shown) == ("validation" in kwargs)
    fit(model, optimizer, TRAIN, **FIT)
    assert capsys.readouterr() == ("", "")


def test_the_gap_is_that_of_the_weights_in_training():
    """One layer frozen at ternary levels, say, while the others are trained towards binary ones."""
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    train = Split(x, np.arange(8) % 2)
    net = nn.Sequential(nn.Linear(4, 4, rng=0), nn.Tanh(), nn.Linear(4, 2, rng=1))
    weights = [net[0].weight, net[2].weight]
    binary = prox.BinaryL1()
    optimizer = optim.ProxGradient(
        optim.SGD(net.parameters(), 0.1), weights, binary, prox.Constant(0.1)
    )
    optim.quantize_and_freeze(weights[:1], prox.TernaryL2())
    history = fit(net, optimizer, train, steps=2, batch_size=8, progress=False)
    gap = metrics.quantization_gap(weights[1], binary)
    assert history.epochs["quantization_gap"][-1] == gap > 0
    optim.quantize_and_freeze(weights[1:], binary)
    history = fit(net, optimizer, train, steps=2, batch_size=8, progress=False)
    assert history.epochs["quantization_gap"][-1] == 0


def test_checkpoints_are_written_every_500_steps_unless_told_otherwise():
    assert inspect.signature(fit).parameters["checkpoint_every"].default == 500


def test_a_function_is_asked_at_the_step_halfway_and_at_the_end():
    assert pq.training.resume.ahead(lambda t: 10.0 * t, 2, 7) == {"2": 20.0, "4": 40.0, "6": 60.0}
    assert pq.training.resume.ahead(lambda t: 1.0, 0, 1) == {"0": 1.0}
