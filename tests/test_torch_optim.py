"""SGD and Adam against PyTorch's: frozen values always, PyTorch itself where it is installed.

frozen/torch_optim.json was written by this file, run as a program. It holds, for each setting, the
weights after some of the steps of `run` with PyTorch's optimizer in float64.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from optim_checks import leaf

import proxquant_np.functional as F
from proxquant_np import models
from proxquant_np.data import load_digits
from proxquant_np.optim import SGD, Adam

FROZEN = Path(__file__).parent / "frozen" / "torch_optim.json"
SETTINGS = {  # PyTorch's arguments, which are ours
    "SGD": dict(lr=0.1),
    "SGD, weight decay": dict(lr=0.1, weight_decay=0.05),
    "SGD, momentum": dict(lr=0.1, momentum=0.9),
    "SGD, momentum, weight decay": dict(lr=0.1, momentum=0.9, weight_decay=0.05),
    "SGD, Nesterov": dict(lr=0.1, momentum=0.9, nesterov=True),
    "SGD, Nesterov, weight decay": dict(lr=0.1, momentum=0.8, weight_decay=0.05, nesterov=True),
    "Adam": dict(lr=0.05),
    "Adam, weight decay": dict(lr=0.05, weight_decay=0.05),
    "Adam, betas, eps": dict(lr=0.05, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.01),
}
START = [[0.5, -1.0, 2.0], [0.0, 3.0, -0.25]]
KEPT = (1, 2, 3, 10, 50)


@pytest.fixture
def torch():
    """PyTorch with one thread: more would fight for the cores with NumPy's."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def ours(name, options, dtype=np.float64):
    p = leaf(START, dtype)
    return p, {"SGD": SGD, "Adam": Adam}[name.split(",")[0]]([p], **options)


def theirs(name, options):
    import torch

    p = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    return p, getattr(torch.optim, name.split(",")[0])([p], **options)


def run(build, name):
    """{steps taken: weights}, with the gradient tanh(w) + 1/2 sin(t + i), i counting the entries.

    After 20 steps the learning rate falls to half.
    """
    p, optimizer = build(name, SETTINGS[name])
    pytorch = build is theirs
    w = p.detach().numpy() if pytorch else p.data  # changes with p
    at = {}
    for t in range(1, 51):
        g = np.tanh(w) + 0.5 * np.sin(t + np.arange(6).reshape(2, 3))
        p.grad = p.new_tensor(g) if pytorch else g.astype(p.dtype)
        if t == 21 and pytorch:
            optimizer.param_groups[0]["lr"] /= 2
        elif t == 21:
            optimizer.lr /= 2
        optimizer.step()
        if t in KEPT:
            at[t] = w.tolist()
    return at


@pytest.mark.parametrize("name", SETTINGS)
def test_agrees_with_frozen_values(name):
    frozen = json.loads(FROZEN.read_text("utf-8"))
    assert list(frozen) == list(SETTINGS)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-6)):
        for t, w in run(partial(ours, dtype=dtype), name).items():
            expected = frozen[name][str(t)]
            np.testing.assert_allclose(w, expected, rtol=tolerance, atol=tolerance, err_msg=f"{t}")


@pytest.mark.parametrize("name", SETTINGS)
def test_frozen_values_are_pytorch_s(torch, name):
    frozen = json.loads(FROZEN.read_text("utf-8"))[name]
    for t, w in run(theirs, name).items():
        np.testing.assert_allclose(w, frozen[str(t)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["SGD, Nesterov, weight decay", "Adam, weight decay"])
def test_fifty_steps_on_the_digits_agree_with_pytorch(torch, name, dtype):
    """All weights to 1e-6 in float64; in float32 the losses, as far as its rounding allows."""
    options = {**SETTINGS[name], "lr": 0.01}
    model = models.MLP((64, 32, 10), dtype=dtype)
    net = torch.nn.Sequential(
        torch.nn.Linear(64, 32, bias=False),
        torch.nn.BatchNorm1d(32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 10),
    ).to(getattr(torch, np.dtype(dtype).name))
    net.load_state_dict({k: torch.tensor(v) for k, v in model.layers.state_dict().items()})
    optimizer = {"SGD": SGD, "Adam": Adam}[name.split(",")[0]](model.parameters(), **options)
    reference = getattr(torch.optim, name.split(",")[0])(net.parameters(), **options)
    x, y = load_digits(dtype).train
    for step in range(50):
        batch = np.random.default_rng(step).integers(len(x), size=32)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        reference.zero_grad()
        outputs = net(torch.from_numpy(x[batch]))
        expected = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(y[batch]))
        expected.backward()
        reference.step()
        assert loss.item() == pytest.approx(
            expected.item(), rel=1e-9 if dtype == np.float64 else 1e-3
        )
    if dtype == np.float64:
        for (key, w), v in zip(
            model.layers.state_dict().items(), net.state_dict().values(), strict=True
        ):
            np.testing.assert_allclose(w, v.numpy(), rtol=0, atol=1e-6, err_msg=key)


if __name__ == "__main__":
    values = {name: run(theirs, name) for name in SETTINGS}
    FROZEN.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(at)}" for name, at in values.items()]
    FROZEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
