"""Every model over 20 Adam steps, against the losses that PyTorch had on the way.

The comparison with PyTorch itself, which also makes the frozen file, is in test_models_torch.py.
"""

from pathlib import Path

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import models, optim

FROZEN = Path(__file__).with_name("frozen") / "models.npz"
STEPS, LR = 20, 0.01
CASES = {  # model, its arguments, shape of a batch (for the language model: time, columns)
    "MLP": (models.MLP, ((5, 7, 6, 4),), (6, 5)),
    "SmallCNN": (models.SmallCNN, (2, 3, 4), (5, 2, 9, 8)),
    "ResNet": (models.ResNet, (20, 2, 3, 4), (4, 3, 9, 8)),
    "LSTMLanguageModel": (models.LSTMLanguageModel, (4, 3, 3, 2, 0.0, True), (5, 3)),
}


def wave(shape, k):
    """Numbers of about unit variance that need no generator, and so never change."""
    return np.sqrt(2) * np.cos(np.arange(1, 1 + np.prod(shape, dtype=int)) ** 2 * (0.7 + k))


def start_state(model):
    """Every array of the model's state; weights of the size that they usually start with."""
    state = model.state_dict()
    for k, (name, value) in enumerate(state.items()):
        if value.ndim > 1:
            state[name] = wave(value.size, k).reshape(value.shape) / value[0].size ** 0.5
    if "decoder.weight" in state:  # is the embedding's
        state["embedding.weight"] = state["decoder.weight"]
    return state


def batches(name):
    """Inputs and targets of every step."""
    _, _, shape = CASES[name]
    for k in range(STEPS):
        if name == "LSTMLanguageModel":
            tokens = np.arange((shape[0] + 1) * shape[1]).reshape(-1, shape[1]) ** 2 * (k + 1) % 7
            yield tokens[:-1] % 4, tokens[1:] % 4
        else:
            yield wave(shape, k).reshape(shape), np.arange(shape[0]) ** 2 * (k + 1) % 4


def losses(name):
    """Of all steps, from the start state; a recurrent state is carried, and detached."""
    make, arguments, _ = CASES[name]
    model, state, found = make(*arguments, rng=0, dtype=np.float64), (), []
    model.load_state_dict(start_state(model))
    optimizer = optim.Adam(model.parameters(), LR)
    for x, y in batches(name):
        optimizer.zero_grad()
        logits = model(x, *state)
        if isinstance(logits, tuple):
            logits, carried = logits
            state = (tuple(s.detach() for s in carried),)
        loss = F.cross_entropy(F.reshape(logits, (y.size, -1)), y.reshape(-1))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return np.array(found)


@pytest.mark.parametrize("name", CASES)
def test_losses_are_pytorchs(name):
    with np.load(FROZEN, allow_pickle=False) as frozen:
        wanted = frozen[name]
    assert wanted.shape == (STEPS,) and wanted.std() > 0.01  # something moves
    np.testing.assert_allclose(losses(name), wanted, rtol=1e-8)
