"""LSTM and embedding against their readable definitions, frozen PyTorch results and differences."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import nn
from proxquant_np.optim import clip_grad_norm

FROZEN = Path(__file__).with_name("frozen") / "recurrent.npz"
SIZES = st.tuples(*[st.integers(1, 4)] * 4)  # time, batch, input, hidden


def leaf(rng, *shape, dtype=np.float64):
    return pq.Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True)


def draw_lstm(rng, length, n, size, hidden, layers, bias, dtype=np.float64):
    """Input, state and parameters, all leaves."""
    params = []
    for layer in range(layers):
        params += [leaf(rng, 4 * hidden, hidden if layer else size, dtype=dtype)]
        params += [leaf(rng, 4 * hidden, hidden, dtype=dtype)]
        params += [leaf(rng, 4 * hidden, dtype=dtype) for _ in range(2 * bias)]
    x = leaf(rng, length, n, size, dtype=dtype)
    state = tuple(leaf(rng, layers, n, hidden, dtype=dtype) for _ in range(2))
    return x, state, params


def unrolled(x, state, params, has_biases, num_layers):
    """`F.lstm` from LSTMCell, step by step."""
    per_layer = 4 if has_biases else 2
    inputs, last = list(x), []
    for layer in range(num_layers):
        own = params[layer * per_layer : (layer + 1) * per_layer]
        cell = nn.LSTMCell(own[0].shape[1], own[1].shape[1], has_biases)
        cell.weight_ih, cell.weight_hh = own[:2]
        if has_biases:
            cell.bias_ih, cell.bias_hh = own[2:]
        h, c = state[0][layer], state[1][layer]
        for t in range(len(inputs)):
            h, c = cell(inputs[t], (h, c))
            inputs[t] = h
        last.append((h, c))
    return F.stack(inputs), F.stack([h for h, _ in last]), F.stack([c for _, c in last])


def gradients(fn, x, state, params, *options):
    """Results of fn, then the gradients of a fixed random combination of them in every leaf."""
    leaves = [x, *state, *params]
    for p in leaves:
        p.grad = None
    results = fn(x, state, params, *options)
    rng = np.random.default_rng(7)
    F.stack([F.sum(y * rng.normal(size=y.shape)) for y in results]).sum().backward()
    return [y.data for y in results] + [p.grad for p in leaves]


def check_against_cell(lstm, sizes, layers, bias, seed):
    drawn = draw_lstm(np.random.default_rng(seed), *sizes, layers, bias)
    ours = gradients(lstm, *drawn, bias, layers)
    for a, b in zip(ours, gradients(unrolled, *drawn, bias, layers), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max()))


@given(SIZES, st.integers(1, 3), st.booleans(), st.integers(0, 9))
def test_fused_equals_cell(sizes, layers, bias, seed):
    check_against_cell(F.lstm, sizes, layers, bias, seed)


@pytest.mark.parametrize(("n", "hidden"), [(20, 60), (5, 128), (1, 64), (50, 64), (13, 67)])
def test_products_in_parts_equal_the_cell(n, hidden):
    """The recurrence's products are cut where the batch is small and the layer is wide."""
    check_against_cell(F.lstm, (2, n, 3, hidden), 1, True, 0)


def wrong_gate_order(x, state, params, *options):
    """Gates i, f, o, g instead of i, f, g, o."""
    order = np.arange(len(params[0])).reshape(4, -1)[[0, 1, 3, 2]].reshape(-1)
    return F.lstm(x, state, [p[order] for p in params], *options)


def forgets_state(x, state, params, *options):
    return F.lstm(x, (state[0], state[1] * 0), params, *options)


def cut_off(x, state, params, *options):
    output, h, c = F.lstm(x, state, params, *options)
    return output, h.detach(), c


def one_bias(x, state, params, *options):
    kept = [p * 0 if k % 4 == 3 else p for k, p in enumerate(params)]
    return F.lstm(x, state, kept, *options)


@pytest.mark.parametrize("bug", [wrong_gate_order, forgets_state, cut_off, one_bias])
def test_planted_bugs_are_caught(bug):
    check_against_cell(F.lstm, (3, 2, 2, 2), 2, True, 0)
    with pytest.raises(AssertionError):
        check_against_cell(bug, (3, 2, 2, 2), 2, True, 0)


@pytest.mark.parametrize("batch_first", [False, True])
def test_frozen_pytorch_lstm(batch_first):
    """Vectors that PyTorch computed (tests/test_recurrent_torch.py wrote them)."""
    with np.load(FROZEN, allow_pickle=False) as file:
        frozen = dict(file)
    given = [frozen[f"given.{k}"] for k in range(11)]
    x, *rest = [pq.Tensor(a, True) for a in given]

    def lstm(x, state, params):
        if not batch_first:
            return F.lstm(x, state, params, True, 2)
        output, h, c = F.lstm(F.transpose(x, 0, 1), state, params, True, 2, batch_first=True)
        return F.transpose(output, 0, 1), h, c

    results = gradients(lstm, x, tuple(rest[:2]), rest[2:])
    for k, value in enumerate(results):
        np.testing.assert_allclose(value, frozen[f"wanted.{k}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_gradcheck_through_each_result(method, part):
    x, (h, c), params = draw_lstm(np.random.default_rng(part), 3, 2, 2, 2, 2, True)
    pq.gradcheck(
        lambda x, h, c, *params: F.lstm(x, (h, c), params, True, 2)[part],
        [x, h, c, *params],
        method=method,
    )


def test_no_state_means_zeros():
    x, state, params = draw_lstm(np.random.default_rng(0), 3, 2, 2, 3, 2, True)
    zeros = tuple(pq.Tensor(0 * s.data) for s in state)
    results = [F.lstm(x, start, params, True, 2) for start in (None, zeros)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes(dtype):
    drawn = draw_lstm(np.random.default_rng(0), 3, 2, 2, 3, 2, True, dtype)
    leaves = [drawn[0], *drawn[1], *drawn[2]]
    output, h, c = F.lstm(*drawn, True, 2)
    (F.sum(output) + F.sum(h) + F.sum(c)).backward()
    assert {a.dtype for a in (output, h, c, *(p.grad for p in leaves))} == {np.dtype(dtype)}


def test_saturated_gates_stay_finite():
    x, state, params = draw_lstm(np.random.default_rng(0), 3, 2, 2, 3, 1, True, np.float32)
    results = gradients(F.lstm, pq.Tensor(1e30 * x.data, True), state, params)
    assert all(np.isfinite(a).all() for a in results[:3])


def test_truncated_backpropagation():
    """Chunks with the state carried over give the values of the whole; its gradient is cut."""
    x, state, params = draw_lstm(np.random.default_rng(0), 6, 2, 3, 4, 2, True)
    whole, h, c = F.lstm(x, state, params, True, 2)
    first, *middle = F.lstm(x[:3], state, params, True, 2)
    second, *last = F.lstm(x[3:], tuple(s.detach() for s in middle), params, True, 2)
    np.testing.assert_allclose(
        np.concatenate([first.data, second.data]), whole.data, rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(last[0].data, h.data, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last[1].data, c.data, rtol=0, atol=1e-14)
    second.sum().backward()
    assert np.all(x.grad[:3] == 0) and np.all(x.grad[3:] != 0) and state[0].grad is None


@pytest.mark.parametrize("batch_first", [False, True])
def test_no_sequences_at_all(batch_first):
    """As in PyTorch, and as every other layer here: results without entries, gradients of 0."""
    layer = pq.nn.LSTM(3, 4, num_layers=2, batch_first=batch_first, rng=0)
    x = pq.Tensor(np.zeros((0, 5, 3) if batch_first else (5, 0, 3), np.float32), True)
    y, (h, c) = layer(x)
    assert (y.shape, h.shape, c.shape) == (x.shape[:2] + (4,), (2, 0, 4), (2, 0, 4))
    (F.sum(y) + F.sum(h) + F.sum(c)).backward()
    assert x.grad.shape == x.shape
    assert all(p.grad.shape == p.shape and not p.grad.any() for p in layer.parameters())
    logits, _ = pq.models.LSTMLanguageModel(7, 3, 4, rng=0)(np.zeros((5, 0), int))
    assert logits.shape == (5, 0, 7)


@pytest.mark.parametrize("lstm", [F.lstm, unrolled])
def test_a_thousand_steps_do_not_recurse(lstm):
    drawn = draw_lstm(np.random.default_rng(0), 1000, 1, 1, 1, 1, True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        lstm(*drawn, True, 1)  # a graph that is dropped
        results = gradients(lstm, *drawn, True, 1)
    finally:
        sys.setrecursionlimit(limit)
    assert all(np.isfinite(a).all() for a in results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_layers=1), "params must hold 4"),
        (dict(num_layers=0, params=[]), "at least 1"),
        (dict(has_biases=False), "params must hold 2"),
        (dict(input=np.zeros((3, 2))), "input must have shape"),
        (dict(input=np.zeros((0, 2, 2))), "time > 0"),
        (dict(input=np.zeros((2, 0, 2)), batch_first=True), "time > 0"),
        (dict(input=np.zeros((3, 2, 5))), "params of layer 0"),
        (dict(hx=(np.zeros((2, 2, 3)), np.zeros((1, 2, 3)))), "c_0 must have shape"),
        (dict(hx=(np.zeros((2, 2, 4)), np.zeros((2, 2, 3)))), "h_0 must have shape"),
    ],
)
def test_wrong_shapes_are_refused(change, message):
    x, state, params = draw_lstm(np.random.default_rng(0), 3, 2, 2, 3, 2, True)
    arguments = dict(input=x, hx=state, params=params, has_biases=True, num_layers=2) | change
    with pytest.raises(ValueError, match=message):
        F.lstm(**arguments)


def test_very_many_layers():
    x, state, params = draw_lstm(np.random.default_rng(0), 2, 1, 2, 2, 70, True)
    assert F.lstm(x, state, params, True, 70)[1].shape == (70, 1, 2)


def test_dropout_acts_between_layers_in_training_only():
    x, state, params = draw_lstm(np.random.default_rng(0), 4, 3, 2, 3, 2, True)
    plain = F.lstm(x, state, params, True, 2)[0].data
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(F.lstm(x, state, params, True, 2, 0.5)[0].data, plain)
    assert np.any(F.lstm(x, state, params, True, 2, 0.5, True, rng=rng)[0].data != plain)
    # All dropped: the second layer sees zeros, whatever the first one saw.
    blind = [F.lstm(y, state, params, True, 2, 1.0, True, rng=rng)[0].data for y in (x, x * 3)]
    np.testing.assert_array_equal(*blind)
    # One layer: nothing between.
    one = F.lstm(x, (state[0][:1], state[1][:1]), params[:4], True, 1, 1.0, True, rng=rng)
    assert np.all(one[0].data != 0)
    with pytest.raises(ValueError, match="rng"):
        F.lstm(x, state, params, True, 2, 0.5, True)


# Layers ----------------------------------------------------------------------------------------


def test_layer_names_shapes_and_bounds():
    lstm = nn.LSTM(3, 16, 2, rng=0)
    shapes = {name: p.shape for name, p in lstm.named_parameters()}
    assert shapes == {
        "weight_ih_l0": (64, 3),
        "weight_hh_l0": (64, 16),
        "bias_ih_l0": (64,),
        "bias_hh_l0": (64,),
        "weight_ih_l1": (64, 16),
        "weight_hh_l1": (64, 16),
        "bias_ih_l1": (64,),
        "bias_hh_l1": (64,),
    }
    assert all(0.24 < np.abs(p.data).max() <= 0.25 for p in lstm.parameters() if p.ndim == 2)
    assert list(pq.quantizable_parameters(lstm)) == [n for n in shapes if n.startswith("weight")]
    assert list(pq.quantizable_parameters(nn.LSTMCell(3, 4))) == ["weight_ih", "weight_hh"]
    assert list(pq.quantizable_parameters(nn.Embedding(3, 4))) == ["weight"]
    assert [n for n, _ in nn.LSTM(2, 2, bias=False).named_parameters()] == list(shapes)[:2]


def test_layer_is_the_function_and_reproducible():
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    layer, twin = (nn.LSTM(2, 4, 2, batch_first=True, dropout=0.5, rng=3) for _ in range(2))
    output, (h, c) = layer(x)
    assert output.shape == (3, 5, 4) and h.shape == c.shape == (2, 3, 4)
    np.testing.assert_array_equal(output.data, twin(x)[0].data)
    layer.eval()
    wanted = F.lstm(x, None, list(layer.parameters()), True, 2, batch_first=True)
    np.testing.assert_array_equal(layer(x)[0].data, wanted[0].data)
    np.testing.assert_array_equal(layer(x, (h, c))[1][1].data, layer(x, (h, c))[1][1].data)


def test_cell_starts_from_zeros():
    cell = nn.LSTMCell(2, 3, dtype=np.float64)
    x = np.ones((4, 2))
    zeros = pq.Tensor(np.zeros((4, 3)))
    for a, b in zip(cell(pq.Tensor(x)), cell(pq.Tensor(x), (zeros, zeros)), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("wrong", [dict(num_layers=0), dict(dropout=1.5)])
def test_layer_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        nn.LSTM(2, 3, **wrong)


# Embedding -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), max_size=30), st.booleans(), st.integers(0, 9))
def test_embedding_sums_over_repeated_indices(indices, matrix, seed):
    rng = np.random.default_rng(seed)
    indices = np.array(indices, np.int64)
    indices = indices[None, :, None] if matrix else indices
    weight = leaf(rng, 6, 3)
    y = F.embedding(indices, weight)
    np.testing.assert_array_equal(y.data, weight.data[indices])
    g = rng.normal(size=y.shape)
    y.backward(g)
    wanted = np.zeros((6, 3))
    np.add.at(wanted, indices, g)
    np.testing.assert_allclose(weight.grad, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_embedding_takes_any_integers(dtype):
    weight = leaf(np.random.default_rng(0), 4, 2, dtype=np.float32)
    y = F.embedding(pq.Tensor(np.array([[3, 0, 0, 3]], dtype)), weight)
    y.sum().backward()
    assert y.dtype == weight.grad.dtype == np.float32
    np.testing.assert_array_equal(weight.grad[:, 0], [2, 0, 0, 2])


def test_embedding_gradcheck():
    indices = np.array([[1, 1], [0, 1]])
    pq.gradcheck(partial(F.embedding, indices), [leaf(np.random.default_rng(0), 3, 2)])


@pytest.mark.parametrize(
    ("indices", "shape", "error", "message"),
    [
        ([0.0, 1.0], (3, 2), TypeError, "integers"),
        ([True], (3, 2), TypeError, "integers"),
        ([0, 3], (3, 2), ValueError, r"0\.\.2"),
        ([-1], (3, 2), ValueError, r"0\.\.2"),
        ([0], (3,), ValueError, "weight must have shape"),
    ],
)
def test_embedding_refuses(indices, shape, error, message):
    with pytest.raises(error, match=message):
        F.embedding(indices, np.zeros(shape))


# Gradient-norm clipping ------------------------------------------------------------------------


def with_gradients(*gradients):
    params = [nn.Parameter(np.zeros(np.shape(g), np.float32)) for g in gradients]
    for p, g in zip(params, gradients, strict=True):
        p.grad = np.array(g, np.float32)
    return params


def test_clipping_scales_all_gradients_by_one_factor():
    params = [*with_gradients([3.0, 0.0], [[4.0]]), nn.Parameter(np.zeros(2, np.float32))]
    assert clip_grad_norm(params, 10.0) == 5.0
    assert params[0].grad[0] == 3
    assert clip_grad_norm(params, 1.0) == 5.0
    np.testing.assert_allclose(params[0].grad, [0.6, 0])
    np.testing.assert_allclose(params[1].grad, [[0.8]])
    assert params[2].grad is None and params[0].grad.dtype == np.float32


def test_clipping_an_lstm_scales_each_gradient_once():
    """Both biases have the same gradient, but not the same array."""
    lstm = nn.LSTM(2, 3)
    lstm(np.ones((4, 2, 2), np.float32))[0].sum().backward()
    before = [p.grad.copy() for p in lstm.parameters()]
    norm = clip_grad_norm(lstm.parameters(), 0.1)
    for p, g in zip(lstm.parameters(), before, strict=True):
        np.testing.assert_allclose(p.grad, g * (0.1 / norm), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_refuses(bad):
    with pytest.raises(ValueError, match="finite"):
        clip_grad_norm(with_gradients([1.0, bad]), 1.0)
    with pytest.raises(ValueError, match="max_norm"):
        clip_grad_norm(with_gradients([1.0]), -1.0)
