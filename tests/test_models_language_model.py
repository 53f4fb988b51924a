"""The LSTM language model: shapes, names, tying, state, and that it learns and quantizes."""

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np.models import LSTMLanguageModel
from proxquant_np.optim import Adam, ProxGradient
from proxquant_np.prox import BinaryL1

TOKENS = np.random.default_rng(0).integers(0, 9, (5, 3))


def loss_of(model, x, y, state=None):
    logits, state = model(x, state)
    return F.cross_entropy(F.reshape(logits, (-1, logits.shape[-1])), y.reshape(-1)), state


def test_shapes_and_dtypes():
    model = LSTMLanguageModel(9, 4, 6, 2)
    logits, (h, c) = model(TOKENS)
    assert logits.shape == (5, 3, 9) and h.shape == c.shape == (2, 3, 6)
    assert logits.dtype == np.float32
    assert LSTMLanguageModel(9, 4, 6, dtype=np.float64)(TOKENS)[0].dtype == np.float64


def test_names_and_size():
    """The paper's network: 10,000 words, 300 units."""
    model = LSTMLanguageModel(10_000, 300, 300)
    assert sum(p.size for p in model.parameters()) == 2 * 3_000_000 + 10_000 + 8 * 300 * 301
    assert [name for name, _ in model.named_parameters()] == [
        "embedding.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "lstm.bias_ih_l0",
        "lstm.bias_hh_l0",
        "decoder.weight",
        "decoder.bias",
    ]
    weights = [name for name, p in model.named_parameters() if p.ndim == 2]
    assert list(pq.quantizable_parameters(model)) == weights
    assert list(pq.quantizable_parameters(model, first=False, last=False)) == weights[1:-1]
    assert np.abs(model.decoder.weight.data).max() <= 0.1


def test_each_prediction_depends_on_the_past_only():
    model = LSTMLanguageModel(9, 4, 6, dtype=np.float64)
    changed = TOKENS.copy()
    changed[3] = (changed[3] + 1) % 9
    before, after = model(TOKENS)[0].data, model(changed)[0].data
    np.testing.assert_array_equal(before[:3], after[:3])
    assert np.all(before[3:] != after[3:])


def test_state_carries_the_past():
    model = LSTMLanguageModel(9, 4, 6, 2, dtype=np.float64)
    whole, _ = model(TOKENS)
    first, state = model(TOKENS[:2])
    second, _ = model(TOKENS[2:], state)
    np.testing.assert_allclose(
        np.concatenate([first.data, second.data]), whole.data, rtol=0, atol=1e-14
    )


def test_tied_weights_are_one_parameter_with_the_sum_of_both_gradients():
    tied = LSTMLanguageModel(9, 4, 4, tie_weights=True, dtype=np.float64)
    free = LSTMLanguageModel(9, 4, 4, dtype=np.float64)
    assert tied.decoder.weight is tied.embedding.weight
    assert len(list(tied.parameters())) == len(list(free.parameters())) - 1
    assert "decoder.weight" not in pq.quantizable_parameters(tied)
    free.load_state_dict(tied.state_dict())
    for model in (tied, free):
        loss_of(model, TOKENS[:-1], TOKENS[1:])[0].backward()
    both = free.embedding.weight.grad + free.decoder.weight.grad
    np.testing.assert_allclose(tied.embedding.weight.grad, both, rtol=0, atol=1e-15)
    with pytest.raises(ValueError, match="embedding_size"):
        LSTMLanguageModel(9, 4, 5, tie_weights=True)


def test_dropout_in_training_only():
    model = LSTMLanguageModel(9, 4, 6, 2, dropout=0.5)
    assert np.any(model(TOKENS)[0].data != model(TOKENS)[0].data)
    model.eval()
    np.testing.assert_array_equal(model(TOKENS)[0].data, model(TOKENS)[0].data)


@pytest.mark.parametrize("tie_weights", [False, True])
def test_learns_to_continue_a_sequence_that_needs_memory(tie_weights):
    """0 1 0 2 repeated: what follows 0 is the one of 1 and 2 that did not come before it."""
    stream = np.tile([0, 1, 0, 2], 150)[:, None]
    model = LSTMLanguageModel(3, 16, 16, tie_weights=tie_weights, rng=0)
    model.embedding.weight.data *= 10  # three tokens that are easy to tell apart
    optimizer = Adam(model.parameters(), 0.05)
    state = None
    for t in range(0, 540, 8):
        optimizer.zero_grad()
        loss, state = loss_of(model, stream[t : t + 8], stream[t + 1 : t + 9], state)
        state = tuple(s.detach() for s in state)
        loss.backward()
        optimizer.step()
    loss, _ = loss_of(model, stream[540:588], stream[541:589], state)
    assert loss.item() < 0.1  # without memory it cannot be below log(2) / 2


def test_quantized_training_ends_binary():
    model = LSTMLanguageModel(9, 4, 6, 2)
    quantized = pq.quantizable_parameters(model)
    optimizer = ProxGradient(
        Adam(model.parameters(), 0.01), quantized, BinaryL1(), lambda t: 10.0 * t
    )
    for _ in range(15):
        optimizer.zero_grad()
        loss_of(model, TOKENS[:-1], TOKENS[1:])[0].backward()
        optimizer.step()
    assert all(np.all(np.abs(p.data) == 1) for p in quantized.values())
    assert np.all(np.abs(model.lstm.bias_ih_l0.data) < 1)
