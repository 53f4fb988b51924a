"""Every model against PyTorch: outputs and all gradients, and 20 Adam steps from one state.

    python tests/test_models_torch.py

writes the losses that test_follow_torch_frozen.py compares with.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from test_follow_torch_frozen import CASES, FROZEN, LR, batches, start_state

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import models

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: bench)")

import torch_twins  # noqa: E402

from proxquant_np.interop.torch import to_torch  # noqa: E402

TF = torch.nn.functional


def twin_of(model, *arguments):
    """The same network in PyTorch, with the same state and dtype."""
    twin = getattr(torch_twins, type(model).__name__)(*arguments)
    twin.to(torch.from_numpy(next(model.parameters()).data).dtype)
    twin.load_state_dict(to_torch(model))
    return twin


def compare(model, twin, x, classes, seed, tolerance):
    """Outputs, running statistics and the gradients of all parameters, by the largest entry."""
    y, z = model(x), twin(torch.from_numpy(x))
    (y, *_), (z, *_) = (v if isinstance(v, tuple) else (v,) for v in (y, z))
    n = y.size // classes
    target = np.random.default_rng(seed).integers(0, classes, n)
    F.cross_entropy(F.reshape(y, (n, classes)), target).backward()
    TF.cross_entropy(z.reshape(n, classes), torch.from_numpy(target)).backward()
    state = twin.state_dict()
    pairs = [("output", y.data, z.detach())]
    pairs += [(name, value, state[name]) for name, value in model.state_dict().items()]
    named = zip(model.named_parameters(), twin.parameters(), strict=True)
    pairs += [(name, p.grad, q.grad) for (name, p), q in named]
    largest = max(q.grad.abs().max().item() for q in twin.parameters())
    for name, ours, theirs in pairs:
        theirs = theirs.numpy()
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), name
        scale = max(largest, np.abs(theirs).max(initial=0))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale, err_msg=name)


def mlp(draw):
    sizes = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=4)))
    arguments = (sizes, draw(st.booleans()))
    return models.MLP, arguments, (draw(st.integers(3, 9)), sizes[0]), sizes[-1]


def cnn(draw):
    arguments = tuple(draw(st.integers(1, 4)) for _ in range(3))
    shape = (draw(st.integers(2, 5)), arguments[0], *(draw(st.integers(4, 11)) for _ in range(2)))
    return models.SmallCNN, arguments, shape, arguments[2]


def resnet(draw):
    depth, *rest = (draw(st.sampled_from([8, 14])), *(draw(st.integers(1, 3)) for _ in range(3)))
    shape = (draw(st.integers(3, 5)), rest[1], *(draw(st.integers(5, 9)) for _ in range(2)))
    return models.ResNet, (depth, *rest), shape, rest[2]


def language_model(draw):
    words, layers, tied = draw(st.integers(1, 9)), draw(st.integers(1, 3)), draw(st.booleans())
    sizes = [draw(st.integers(1, 5)) for _ in range(2)]
    arguments = (words, sizes[0], sizes[0] if tied else sizes[1], layers, 0.0, tied)
    return models.LSTMLanguageModel, arguments, tuple(draw(st.integers(1, 5)) for _ in "tn"), words


@pytest.mark.parametrize("draw_model", [mlp, cnn, resnet, language_model])
@given(data=st.data(), seed=seeds)
def test_drawn_shapes(draw_model, data, seed):
    make, arguments, shape, classes = draw_model(data.draw)
    model = make(*arguments, rng=seed, dtype=np.float64)
    rng = np.random.default_rng(seed)
    recurrent = make is models.LSTMLanguageModel
    x = rng.integers(0, classes, shape) if recurrent else rng.normal(size=shape)
    compare(model, twin_of(model, *arguments), x, classes, seed, 1e-10)


@pytest.mark.parametrize("name", CASES)
def test_float32(name):
    """Of fixed shapes: rounding may push any activation across a ReLU's kink, where it jumps."""
    make, arguments, shape = CASES[name]
    model = make(*arguments, rng=0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, shape) if name == "LSTMLanguageModel" else rng.normal(size=shape)
    x = x if x.dtype == np.int64 else x.astype(np.float32)
    compare(model, twin_of(model, *arguments), x, 4, 0, 1e-4)


@pytest.mark.parametrize("quantity", ["forgotten bias", "other stride"])
def test_planted_differences_are_caught(quantity):
    """A network that differs in a detail is told from PyTorch's."""
    model = models.ResNet(8, 2, 3, 4, rng=0, dtype=np.float64)
    twin = twin_of(model, 8, 2, 3, 4)
    if quantity == "forgotten bias":
        model.linear.bias.data += 1e-6
    else:
        model.layer2[0].conv1.padding = 2
        model.layer2[0].conv1.dilation = 2
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8))
    with pytest.raises(AssertionError):
        compare(model, twin, x, 4, 0, 1e-10)


def test_the_papers_resnet_follows_pytorch_for_20_adam_steps():
    """ResNet-20 as it is, 272,474 parameters. Compared are the weights, by how far they moved."""
    model = models.ResNet(rng=0, dtype=np.float64)
    twin, start = twin_of(model), model.state_dict()
    ours, theirs = (
        pq.optim.Adam(model.parameters(), 1e-3),
        torch.optim.Adam(twin.parameters(), 1e-3),
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.normal(size=(3, 3, 16, 16)), rng.integers(0, 10, 3)
        ours.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        ours.step()
        theirs.zero_grad()
        twin_loss = TF.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
        twin_loss.backward()
        theirs.step()
        assert loss.item() == pytest.approx(twin_loss.item(), rel=1e-8)
    for name, value in model.state_dict().items():
        wanted = twin.state_dict()[name].numpy()
        moved = np.abs(wanted - start[name]).mean()
        assert np.abs(value - wanted).mean() <= 1e-8 * moved, name


def twin_losses(name):
    """`losses` of test_follow_torch_frozen.py, by PyTorch."""
    make, arguments, _ = CASES[name]
    model, state, found = make(*arguments, rng=0, dtype=np.float64), (), []
    model.load_state_dict(start_state(model))
    twin = twin_of(model, *arguments)
    optimizer = torch.optim.Adam(twin.parameters(), LR)
    for x, y in batches(name):
        optimizer.zero_grad()
        logits = twin(torch.from_numpy(x), *state)
        if isinstance(logits, tuple):
            logits, carried = logits
            state = (tuple(s.detach() for s in carried),)
        loss = TF.cross_entropy(logits.reshape(y.size, -1), torch.from_numpy(y.reshape(-1)))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return np.array(found)


@pytest.mark.parametrize("name", CASES)
def test_frozen_losses_are_what_pytorch_computes(name):
    with np.load(FROZEN, allow_pickle=False) as frozen:
        assert set(frozen) == set(CASES)
        np.testing.assert_allclose(frozen[name], twin_losses(name), rtol=1e-9)


if __name__ == "__main__":
    np.savez_compressed(FROZEN, **{name: twin_losses(name) for name in CASES})
