"""LSTM, embedding and a whole language model, held against PyTorch where it is installed.

    python tests/test_recurrent_torch.py

writes the vectors that tests/test_recurrent.py compares with where it is not.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_recurrent import FROZEN, SIZES, draw_lstm, gradients

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np.optim import clip_grad_norm

torch = pytest.importorskip("torch")

import torch_twins  # noqa: E402

DTYPES = st.sampled_from([np.float32, np.float64])


def close(ours, theirs):
    """Equal to 1e-10 (float64) or 1e-4 (float32) of the largest entry."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    rtol = 1e-10 if ours.dtype == np.float64 else 1e-4
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * np.abs(theirs).max(initial=1))


def tensor(x):
    return torch.tensor(x.data if isinstance(x, pq.Tensor) else x, requires_grad=True)


def torch_gradients(x, state, params, bias, layers, batch_first=False):
    """`gradients` of test_recurrent.py, by PyTorch."""
    x, h, c, *params = leaves = [tensor(p) for p in (x, *state, *params)]
    results = torch.lstm(x, (h, c), params, bias, layers, 0.0, True, False, batch_first)
    rng = np.random.default_rng(7)
    weights = [torch.tensor(rng.normal(size=tuple(y.shape))) for y in results]
    sum((y * v).sum() for y, v in zip(results, weights, strict=True)).backward()
    return [*results, *(p.grad for p in leaves)]


@given(SIZES, st.integers(1, 3), st.booleans(), st.booleans(), DTYPES, st.integers(0, 9))
def test_lstm(sizes, layers, bias, batch_first, dtype, seed):
    x, state, params = draw_lstm(np.random.default_rng(seed), *sizes, layers, bias, dtype)
    if batch_first:
        x = pq.Tensor(np.swapaxes(x.data, 0, 1), True)

    def lstm(x, state, params):
        return F.lstm(x, state, params, bias, layers, batch_first=batch_first)

    theirs = torch_gradients(x, state, params, bias, layers, batch_first)
    for a, b in zip(gradients(lstm, x, state, params), theirs, strict=True):
        close(a, b)


@given(st.lists(st.integers(0, 4), max_size=20), DTYPES, st.integers(0, 9))
def test_embedding(indices, dtype, seed):
    rng = np.random.default_rng(seed)
    weight = pq.Tensor(rng.normal(size=(5, 3)).astype(dtype), True)
    indices, twin = np.array(indices, np.int64), tensor(weight)
    ours = F.embedding(indices, weight)
    theirs = torch.nn.functional.embedding(torch.tensor(indices), twin)
    (ours * ours).sum().backward()
    (theirs * theirs).sum().backward()
    close(ours.data, theirs)
    close(weight.grad, twin.grad)


@pytest.mark.parametrize("layers", [1, 2])
def test_layer_loads_pytorch_weights(layers):
    twin = torch.nn.LSTM(3, 5, layers)
    layer = pq.nn.LSTM(3, 5, layers)
    state = {name: value.numpy() for name, value in twin.state_dict().items()}
    assert list(state) == list(layer.state_dict())
    layer.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    (ours, (h, c)), (theirs, (twin_h, twin_c)) = layer(x), twin(torch.tensor(x))
    for a, b in ((ours, theirs), (h, twin_h), (c, twin_c)):
        close(a.data, b)


@given(st.floats(0.01, 10), st.integers(0, 9))
def test_clipping(max_norm, seed):
    rng = np.random.default_rng(seed)
    ours = [pq.nn.Parameter(np.zeros(shape)) for shape in ((3, 2), (4,))]
    theirs = [tensor(p) for p in ours]
    for p, q in zip(ours, theirs, strict=True):
        p.grad = rng.normal(size=p.shape)
        q.grad = torch.tensor(p.grad)
    norm = clip_grad_norm(ours, max_norm)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm).item())
    for p, q in zip(ours, theirs, strict=True):  # PyTorch adds 1e-6 to the norm it divides by
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), (np.float32, 1e-2)])
def test_language_model_follows_pytorch_for_20_adam_steps(tied, dtype, rtol):
    """Truncated backpropagation through time with clipping and Adam, from one state.

    Compared are the weights, against how far they have moved. Adam's step has the size lr however
    small the gradient is, so an entry whose float32 gradient is all rounding may go either way.
    """
    model = pq.models.LSTMLanguageModel(7, 6, 6, 2, tie_weights=tied, rng=1, dtype=dtype)
    twin = torch_twins.LSTMLanguageModel(7, 6, 6, 2, tied=tied).to(
        torch.float64 if dtype == np.float64 else torch.float32
    )
    start = model.state_dict()
    twin.load_state_dict({name: torch.tensor(value) for name, value in start.items()})
    ours, theirs = (
        pq.optim.Adam(model.parameters(), 0.01),
        torch.optim.Adam(twin.parameters(), 0.01),
    )
    tokens = np.random.default_rng(0).integers(0, 7, (81, 3))
    state = twin_state = None
    for t in range(0, 80, 4):
        x, y = tokens[t : t + 4], tokens[t + 1 : t + 5]
        ours.zero_grad()
        logits, state = model(x, state)
        loss = F.cross_entropy(F.reshape(logits, (-1, 7)), y.reshape(-1))
        loss.backward()
        clip_grad_norm(model.parameters(), 1e3)  # not reached: PyTorch's is not quite the same
        ours.step()
        state = tuple(s.detach() for s in state)

        theirs.zero_grad()
        twin_logits, twin_state = twin(torch.tensor(x), twin_state)
        twin_loss = torch.nn.functional.cross_entropy(
            twin_logits.reshape(-1, 7), torch.tensor(y.reshape(-1))
        )
        twin_loss.backward()
        theirs.step()
        twin_state = tuple(s.detach() for s in twin_state)
        assert loss.item() == pytest.approx(twin_loss.item(), rel=1e-10 if rtol < 1e-4 else 1e-4)
    wanted = {name: value.numpy() for name, value in twin.state_dict().items()}
    for name, value in model.state_dict().items():
        moved = np.abs(wanted[name] - start[name]).mean()
        assert np.abs(value - wanted[name]).mean() <= rtol * moved


def frozen_vectors():
    """Given: input, state, parameters of two layers. Wanted: results and all gradients."""
    x, state, params = draw_lstm(np.random.default_rng(5), 4, 3, 2, 3, 2, True)
    given = [x, *state, *params]
    wanted = torch_gradients(x, state, params, True, 2)
    return {
        **{f"given.{k}": p.data for k, p in enumerate(given)},
        **{f"wanted.{k}": p.detach().numpy() for k, p in enumerate(wanted)},
    }


def test_frozen_vectors_are_what_pytorch_computes():
    with np.load(FROZEN, allow_pickle=False) as file:
        frozen = dict(file)
    fresh = frozen_vectors()
    assert set(frozen) == set(fresh)
    for name, value in fresh.items():
        np.testing.assert_allclose(frozen[name], value, rtol=0, atol=1e-12)


if __name__ == "__main__":
    np.savez_compressed(FROZEN, **frozen_vectors())
