"""Operations: one property test over the registry, the table of subgradients, edges and errors."""

import warnings
from functools import partial

import numpy as np
import pytest
import strategies as draws
from hypothesis import given
from hypothesis import strategies as st
from op_registry import OPS, TESTED_ELSEWHERE

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, gradcheck


def leaf(x, dtype=np.float64):
    return Tensor(np.array(x, dtype), requires_grad=True)


def gradients(y, *leaves, grad=None):
    for x in leaves:
        x.grad = None
    y.backward(grad)
    return [x.grad for x in leaves]


def close(actual, desired, rtol):
    """Relative to the largest entry: small ones may be differences of large ones."""
    size = np.max(np.abs(desired), initial=0.01)
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol * size)


# Every operation --------------------------------------------------------------------------------


def test_registry_is_complete():
    names = [op.name for op in OPS]
    assert len(set(names)) == len(names)
    assert not set(names) & set(TESTED_ELSEWHERE)
    assert {*names, *TESTED_ELSEWHERE} == set(F.__all__)


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
@given(data=st.data())
def test_operation(op, data):
    """Value, gradients, dtypes, shapes; in all layouts; and nothing is modified or shared."""
    drawn, options, seed, layout = op.draw(data)
    arrays = [np.asarray(x) for x in drawn]
    expected = np.asarray(op.reference(*arrays, **options))
    v = draws.entries(expected.shape, seed + 1) if expected.size <= 128 else 1 + 0 * expected

    found = {}
    for dtype, rtol in (np.float64, 1e-11), (np.float32, 1e-4):
        given = [draws.lay_out(x.astype(dtype), layout) for x in arrays]
        leaves = [Tensor(x, requires_grad=True) for x in given]
        y = op(*leaves, **options)
        assert type(y.data) is np.ndarray
        assert (y.dtype, y.shape) == (dtype, expected.shape)
        close(y.data, expected, rtol)
        if y.requires_grad:
            value = y.data.copy()
            y.backward(v)
            np.testing.assert_array_equal(y.data, value)
        found[dtype] = [np.zeros(x.shape) if x.grad is None else x.grad for x in leaves]
        grads = [x.grad for x in leaves if x.grad is not None]
        for i, x in enumerate(leaves):
            np.testing.assert_array_equal(x.data, arrays[i])
            if x.grad is not None:
                assert type(x.grad) is np.ndarray and x.grad.flags.writeable
                assert (x.grad.dtype, x.grad.shape) == (dtype, x.shape)
                others = [y.data, *given, *(g for g in grads if g is not x.grad)]
                assert not any(np.shares_memory(x.grad, other) for other in others)
    for single, double in zip(found[np.float32], found[np.float64], strict=True):
        close(single, double, 1e-4)

    call = partial(op, **options)
    gradcheck(call, [draws.lay_out(x, layout) for x in arrays])
    if op.analytic:
        gradcheck(call, arrays, method="complex")


# Kinks: one test for each row of the table in ops.py ----------------------------------------------


def row_relu():
    x = leaf([-1, 0, 2])
    assert gradients(F.sum(F.relu(x)), x)[0].tolist() == [0, 0, 1]


def row_abs():
    x = leaf([-3, 0, 2])
    assert gradients(F.sum(F.abs(x)), x)[0].tolist() == [-1, 0, 1]


def row_max_min():
    x = leaf([[1, 3, 3, 3], [5, 1, 5, 1]])
    assert gradients(F.sum(F.max(x, 1)), x)[0].tolist() == [[0, *[1 / 3] * 3], [0.5, 0, 0.5, 0]]
    assert gradients(F.sum(F.min(x, 1)), x)[0].tolist() == [[1, 0, 0, 0], [0, 0.5, 0, 0.5]]
    assert gradients(F.max(x), x)[0].tolist() == [[0] * 4, [0.5, 0, 0.5, 0]]


def row_maximum_minimum():
    a, b = leaf([1, 2, 3]), leaf([2, 2, 2])
    assert [g.tolist() for g in gradients(F.sum(F.maximum(a, b)), a, b)] == [
        [0, 0.5, 1],
        [1, 0.5, 0],
    ]
    assert [g.tolist() for g in gradients(F.sum(F.minimum(a, b)), a, b)] == [
        [1, 0.5, 0],
        [0, 0.5, 1],
    ]


def row_clip():
    x = leaf([-2, -1, 0, 1, 2])
    assert gradients(F.sum(F.clip(x, -1, 1)), x)[0].tolist() == [0, 1, 1, 1, 0]
    assert gradients(F.sum(F.clip(x, max=1)), x)[0].tolist() == [1, 1, 1, 1, 0]
    assert gradients(F.sum(F.clip(x, -1)), x)[0].tolist() == [0, 1, 1, 1, 1]


def row_sqrt():
    x = leaf([0, 4])
    assert gradients(F.sum(F.sqrt(x)), x)[0].tolist() == [np.inf, 0.25]
    assert gradients(F.sum(F.sqrt(x) * [0.0, 1.0]), x)[0].tolist() == [0, 0.25]


def row_log_div():
    x = leaf([0, 4])
    assert gradients(F.sum(F.log(x)), x)[0].tolist() == [np.inf, 0.25]
    assert gradients(F.sum(F.log(x)[1]), x)[0].tolist() == [0, 0.25]
    assert gradients(F.sum(1 / x), x)[0].tolist() == [-np.inf, -1 / 16]
    assert gradients(F.sum((1 / x)[1]), x)[0].tolist() == [0, -1 / 16]


def row_pow():
    x, b = leaf([0, 0, 0, 0]), leaf([0.5, 1, 2, 0])
    to_x, to_b = gradients(F.sum(x**b), x, b)
    assert to_x.tolist() == [np.inf, 1, 0, 0]
    assert to_b.tolist() == [0, 0, 0, 0]
    assert gradients((x**0.5)[1:].sum() * 0.0, x)[0].tolist() == [0, 0, 0, 0]


def row_mul_exp():
    x = leaf([0, 1])
    assert gradients(F.sum(F.where(x > 0, x * F.log(x), 0.0)), x)[0].tolist() == [0, 1]
    a = leaf([1, 2])
    assert gradients(F.sum(a * np.array([np.inf, 3])), a)[0].tolist() == [np.inf, 3]
    with np.errstate(over="ignore"):
        x = leaf([0, 1000])
        assert gradients(F.sum(F.exp(x)), x)[0].tolist() == [1, np.inf]
        assert gradients(F.sum(F.where(x < 1, F.exp(x), 0.0)), x)[0].tolist() == [1, 0]


def row_where():
    x = leaf([-1, 0, 4])
    assert gradients(F.sum(F.where(x > 0, F.sqrt(x), 0.0)), x)[0].tolist() == [0, 0, 0.25]
    assert gradients(F.sum(F.where(x > 0, F.log(x), 1 / x)), x)[0].tolist() == [-1, -np.inf, 0.25]
    assert gradients(F.sum(F.where(x > 0, x**-0.5, 0.0)), x)[0].tolist() == [0, 0, -1 / 16]


ROWS = [value for name, value in list(globals().items()) if name.startswith("row_")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_subgradient(row):
    row()


def test_every_row_of_the_table_has_its_test():
    lines = pq.autograd.ops.__doc__.splitlines()
    table = [line for line in lines if line.startswith("| ")][1:]
    assert len(table) == len(ROWS)


FLAT_BELOW_ZERO = {
    "relu": F.relu,
    "clip": partial(F.clip, min=0),
    "maximum": lambda x: F.maximum(x, 0.0),
    "max": lambda x: F.max(F.concatenate([x, np.zeros(1)])),
    "where": lambda x: F.where(x > 0, x, 0.0),
}


@pytest.mark.parametrize("flat", FLAT_BELOW_ZERO.values(), ids=FLAT_BELOW_ZERO)
def test_zero_slope_stops_an_infinite_gradient(flat):
    x = leaf([-1.0])
    assert gradients(F.sum(F.sqrt(flat(x))), x)[0].tolist() == [0]


def test_values_at_the_edges_come_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero = Tensor(np.zeros(2, np.float32))
        assert F.log(zero).data.tolist() == [-np.inf] * 2
        assert np.isnan(F.log(zero - 1).data).all() and np.isnan(F.sqrt(zero - 1).data).all()
        assert (1 / zero).data.tolist() == [np.inf] * 2
        assert np.isnan((zero / zero).data).all()
        assert (zero**-1).data.tolist() == [np.inf] * 2
        assert F.sigmoid(zero + [1e4, -1e4]).data.tolist() == [1, 0]
        assert F.softplus(zero + [1e4, -1e4]).data.tolist() == [1e4, 0]


def test_sigmoid_keeps_the_precision_of_its_left_tail():
    x = np.array([-700.0, -40.0, -1.0, 1.0, 40.0])
    desired = np.exp(-np.logaddexp(0, -x))
    np.testing.assert_allclose(F.sigmoid(Tensor(x)).data, desired, rtol=1e-12)


# dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_take_the_dtype_of_the_tensor(dtype):
    x = leaf([1.0, 2.0], dtype)
    arithmetic = [x + 2, 2.5 + x, x - 2, 2.5 - x, x * 2, 2.5 * x, x / 2, 2.5 / x, x**2, 2.5**x]
    others = [
        F.maximum(x, 1.5),
        F.minimum(1.5, x),
        F.clip(x, 0, 1.5),
        F.where([True, False], x, 0.0),
    ]
    for y in arithmetic + others:
        assert y.dtype == dtype
        assert gradients(F.sum(y), x)[0].dtype == dtype


def test_mixed_precision_promotes_and_gradients_come_back_in_their_own():
    a, b = leaf([1, 2, 3], np.float32), leaf([1, 2, 3], np.float64)
    y = F.sum(a * b)
    assert y.dtype == np.float64
    assert [g.dtype for g in gradients(y, a, b)] == [np.float32, np.float64]


# Randomness and straight-through ------------------------------------------------------------------


BINARY = {
    "add": F.add,
    "sub": F.sub,
    "mul": F.mul,
    "div": F.div,
    "pow": F.pow,
    "maximum": F.maximum,
    "minimum": F.minimum,
    "where": lambda a, b: F.where(np.array([True, False]), a, b),
    "clip": lambda a, b: F.clip(a, b) if np.ndim(a) else F.clip(b, max=a),
}
NUMBERS = [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2), np.array(2.0), np.array(2)]


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_a_number_takes_the_dtype_of_the_floats_it_meets(op, dtype, number):
    x = leaf([1.5, 2.5], dtype)
    for other in (number, Tensor(number)):
        for y in (BINARY[op](x, other), BINARY[op](other, x)):
            assert y.dtype == dtype
            assert gradients(y.sum(), x)[0].dtype == dtype


def test_a_number_takes_the_dtype_under_every_operator():
    x, two = leaf([1.5, 2.5], np.float32), np.float64(2)
    for y in (two * x, x * two, two + x, two - x, two / x, two**x, x**two, x - two, x / two):
        assert y.dtype == np.float32
    scale = leaf(2.0)
    assert gradients((x * scale).sum(), x, scale)[1].dtype == np.float64
    assert F.var(x, correction=np.int64(0)).dtype == np.float32


def test_arrays_with_axes_and_numbers_alone_promote_as_numpy_s():
    x = leaf([1.5, 2.5], np.float32)
    assert (x * np.array([2.0])).dtype == np.float64
    assert (leaf(2.0, np.float32) * np.float64(2)).dtype == np.float64
    assert (Tensor([1, 2]) * np.float32(2)).dtype == np.float64
    assert (x * 1j).dtype == np.complex64


@pytest.mark.parametrize("dtype", [np.int64, np.int8, bool])
def test_dropout_of_integers_scales_as_that_of_floats(dtype):
    ones = Tensor(np.ones(1000, dtype))
    y = F.dropout(ones, p=0.6, rng=np.random.default_rng(0))
    assert np.unique(y.numpy()).tolist() == [0, 2.5]
    assert F.dropout(ones, p=0.6, training=False).dtype == dtype


# Reductions in float32 against float64 ----------------------------------------------------------


@st.composite
def long_arrays(draw):
    """float32 with an axis of some thousands, first, middle or last, and axes to reduce."""
    shape = draw(st.permutations([draw(st.integers(2000, 5000)), draw(st.integers(1, 4)), 2]))
    rng = np.random.default_rng(draw(draws.seeds))
    offset = draw(st.sampled_from([0, 100, 1e4, 1e7]))
    spread = draw(st.sampled_from([0, 1]))
    x = draws.lay_out((offset + spread * rng.random(shape)).astype(np.float32), draw(draws.layouts))
    axes = st.lists(st.integers(0, 2), min_size=1, unique=True).map(tuple)
    return x, draw(st.none() | st.integers(-3, 2) | axes)


@given(long_arrays())
def test_float32_reductions_are_those_of_float64_to_rounding(drawn):
    x, dim = drawn
    wide, unit = x.astype(np.float64), 2.0**-23
    within = np.abs(wide).max()
    for op, exact, size in (
        (F.sum, wide.sum(dim), np.abs(wide).sum(dim).max()),
        (F.mean, wide.mean(dim), within),
        (partial(F.var, correction=0), wide.var(dim), wide.var(dim).max()),
    ):
        assert op(Tensor(x), dim).dtype == np.float32
        assert (np.abs(op(Tensor(x), dim).numpy() - exact) <= 40 * unit * size + 1e-30).all()
    t = Tensor(x, requires_grad=True)
    centred = wide - wide.mean(dim, keepdims=True)
    n = wide.size / wide.mean(dim).size
    got = gradients(F.var(t, dim, correction=0).sum(), t)[0]
    assert np.allclose(got, 2 * centred / n, rtol=1e-5, atol=40 * unit * within / n)


def test_a_million_equal_rows():
    x = np.broadcast_to(np.float32([100, -100, 1e7]), (1_000_000, 3)).copy()
    assert np.allclose(F.mean(Tensor(x), 0).numpy(), [100, -100, 1e7], rtol=3e-7, atol=0)
    assert F.var(Tensor(x), 0).numpy().tolist() == [0, 0, 0]
    rows = np.random.default_rng(0).normal(size=(1_000_000, 3)).astype(np.float32)
    exact = rows.astype(np.float64).var(axis=0, ddof=1)
    assert np.allclose(F.var(Tensor(rows), 0).numpy(), exact, rtol=3e-7, atol=0)


def test_the_gradient_of_what_was_broadcast_is_a_sum_of_many():
    x = Tensor(np.ones((17_000_000, 2), np.float32))
    bias = leaf([0, 0], np.float32)
    assert gradients((x + bias).sum(), bias)[0].tolist() == [17_000_000] * 2
    weight, n = leaf([[1.0], [1.0]], np.float32), 17_000_000
    y = F.linear(Tensor(np.zeros((n, 1), np.float32)), weight, bias)
    y.backward(np.ones((n, 2), np.float32))
    assert bias.grad.tolist() == [2 * n] * 2


@pytest.mark.parametrize("reduce", [F.max, F.min])
def test_shares_of_many_ties_add_up(reduce):
    x = leaf(np.ones((17_000_000, 2)), np.float32)
    g = gradients(reduce(x, 0).sum(), x)[0]
    assert np.allclose(g.sum(axis=0, dtype=np.float64), 1, rtol=1e-6)


def test_entries_taken_many_times_get_all_their_gradients():
    x = leaf([1, 2], np.float32)
    index = np.zeros(17_000_000, np.int8)
    assert gradients(x[index], x, grad=np.ones(len(index)))[0].tolist() == [len(index), 0]


def test_dropout():
    x = leaf(np.ones((100, 100)), np.float32)
    y = F.dropout(x, 0.25, rng=np.random.default_rng(0))
    assert set(np.unique(y.data)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(y.data == 0) - 0.25) < 0.02
    assert np.array_equal(gradients(F.sum(y), x)[0], y.data)
    again = F.dropout(x, 0.25, rng=np.random.default_rng(0))
    assert np.array_equal(again.data, y.data)
    assert np.array_equal(F.dropout(x, 0.25, training=False).data, x.data)
    assert not F.dropout(x, 1.0, rng=np.random.default_rng(0)).data.any()


def test_straight_through_maps_forward_and_is_the_identity_backward():
    w = leaf([-0.3, 0.0, 0.7])
    y = F.straight_through(w, pq.prox.sign_pm)
    assert y.data.tolist() == [-1, 1, 1]
    v = np.array([1.0, 2.0, 3.0])
    assert gradients(y, w, grad=v)[0].tolist() == v.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "projection", [lambda w: np.where(w >= 0, 1, -1), lambda w: w >= 0, lambda w: [-1, 1, 1]]
)
def test_straight_through_keeps_the_dtype_whatever_the_projection_s(projection, dtype):
    """Else the gradient would be rounded to an integer, or to True."""
    w = leaf([-0.3, 0.0, 0.7], dtype)
    y = F.straight_through(w, projection)
    assert y.dtype == dtype
    assert gradients(F.sum(y * 0.25), w)[0].tolist() == [0.25] * 3


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"\(2,\) \(3,\)", lambda x: x[0, :2] + x[0]),
        (ValueError, r"linear: .*\(2, 3\) and \(4, 2\)", lambda x: F.linear(x, np.ones((4, 2)))),
        (
            ValueError,
            r"linear: bias .*\(4,\), got \(3,\)",
            lambda x: F.linear(x, np.ones((4, 3)), np.ones(3)),
        ),
        (ValueError, "mismatch", lambda x: x @ x),
        (ValueError, r"mean: .*dim=1 of shape \(2, 0\)", lambda x: F.mean(x[:, :0], 1)),
        (ValueError, r"var: .*correction=1.*\(2, 1\)", lambda x: F.var(x[:, :1], 1)),
        (ValueError, r"var: .*\(2, 0\)", lambda x: F.var(x[:, :0], 1)),
        (ValueError, r"pad: .*2 axes.*\(1,\)", lambda x: F.pad(x, (1,))),
        (ValueError, r"pad: .*\(2, 3\) has, got \(-2, -2\)", lambda x: F.pad(x, (-2, -2))),
        (ValueError, "pad: mode .*'reflect'", lambda x: F.pad(x, (1, 1), "reflect")),
        (
            ValueError,
            r"dropout: p must be a number >= 0 and <= 1, got 1.5",
            lambda x: F.dropout(x, 1.5),
        ),
        (ValueError, "dropout: rng", lambda x: F.dropout(x, 0.5)),
        (
            ValueError,
            r"straight_through: .*\(2, 3\), got \(3,\)",
            lambda x: F.straight_through(x, lambda w: w[0]),
        ),
        (ValueError, r"size 6 into shape \(7,\)", lambda x: F.reshape(x, 7)),
        (IndexError, "index 5", lambda x: x[5]),
        (np.exceptions.AxisError, "sum: dim=4 .* axis", lambda x: F.sum(x, 4)),
        (
            TypeError,
            "var: dim must be an axis, several axes or None, got True",
            lambda x: F.var(x, True),
        ),
        (TypeError, "max: .* two tensors use F.maximum", lambda x: F.max(x, x)),
        (TypeError, "softmax: dim must be one axis", lambda x: F.softmax(x, (0, 1))),
        (TypeError, "softmax: input .* floats, got int64", lambda x: F.softmax(np.arange(3), 0)),
        (TypeError, "log_softmax: input .* got float$", lambda x: F.log_softmax(1.0, 0)),
        (ValueError, "softplus: beta .* got 0", lambda x: F.softplus(x, 0)),
        (ValueError, "softplus: beta .* got inf", lambda x: F.softplus(x, float("inf"))),
        (TypeError, "unexpected|keyword", lambda x: F.relu(x, slope=1)),
        (RuntimeError, "where: argument 0", lambda x: F.where(x, x, 0.0).sum().backward()),
    ],
)
def test_mistakes_are_explained(error, message, call):
    with pytest.raises(error, match=message):
        call(leaf(np.ones((2, 3))))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda t: [[1, 2], [3, 4]] @ t, [[7, 10], [15, 22]]),
        (lambda t: t @ [[1, 2], [3, 4]], [[7, 10], [15, 22]]),
        (lambda t: [1, 2] - t, [[0, 0], [-2, -2]]),
        (lambda t: F.linear([[1.0, 2.0]], t), [[5, 11]]),
        (lambda t: F.where([True, False], t, 0.0), [[1, 0], [3, 0]]),
        (lambda t: F.mse_loss([[1.0, 2.0], [3.0, 5.0]], t), 0.25),
        (lambda t: F.concatenate([[[5.0, 6.0]], t]), [[5, 6], [1, 2], [3, 4]]),
        (lambda t: F.sum([[1, 2], [3, 4]], [0, 1]), 10),
        (lambda t: F.clip([1.0, 3.0], 0, 2), [1, 2]),
        (lambda t: F.softmax([0.0, 0.0], 0), [0.5, 0.5]),
        (lambda t: t.permute(1, 0), [[1, 3], [2, 4]]),
    ],
)
def test_lists_stand_for_arrays(call, expected):
    np.testing.assert_array_equal(call(Tensor([[1.0, 2.0], [3.0, 4.0]])).data, expected)


def test_a_number_has_the_axes_0_and_minus_1_and_no_axes_are_all():
    x, one = np.array([[1.0, 3.0], [2.0, 2.0]]), np.array(2.0)
    for op in (F.sum, F.mean, F.max, F.min):
        assert op(x, ()).data == op(x).data and op(x, [0, 1]).shape == ()
        assert op(one, 0).data == op(one, -1).data == 2
    for op, value in ((F.softmax, 1), (F.log_softmax, 0), (F.logsumexp, 2)):
        t = Tensor(2.0, requires_grad=True)
        y = op(t, -1)
        y.backward()
        assert y.data == value and t.grad == (op is F.logsumexp)
    assert F.logsumexp(x, (0, 1)).data == pytest.approx(np.log(np.exp(x).sum()))
    assert F.softmax(np.zeros((2, 0)), 1).shape == (2, 0)


def test_limits_of_clip_get_the_gradient_of_what_they_replace():
    x = np.array([-2.0, 0.5, 3.0])
    low, high = np.array([-1.0, 0.0, 2.5]), np.array([1.0, 1.0, 2.0])  # the last pair is crossed
    assert F.clip(x, low, high).data.tolist() == [-1, 0.5, 2]
    assert gradcheck(F.clip, [x, low, high])
    assert gradcheck(lambda x, low: F.clip(x, low), [x, low])
    assert F.clip(Tensor(np.ones(2, np.float32)), np.array([0, 2]), None).dtype == np.float32


def test_softplus_with_beta_and_threshold():
    x = np.array([-3.0, 0.0, 0.5, 40.0])
    np.testing.assert_allclose(F.softplus(x, 2).data, np.logaddexp(2 * x, 0) / 2, rtol=1e-15)
    assert F.softplus(x, 2, threshold=0.5).data[2] == 0.5
    assert F.softplus(np.array([21.0])).data == 21
    assert F.softplus(np.array([21.0]), threshold=np.inf).data > 21
    assert gradcheck(lambda x: F.softplus(x, 3, 1.2), x)


def test_alpha_and_pads_that_crop():
    x, y = np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 5.0, 6.0]])
    assert F.add(x, y, alpha=10).data.tolist() == [[41, 52, 63]]
    assert F.sub(x, y, alpha=10).data.tolist() == [[-39, -48, -57]]
    assert gradcheck(lambda x, y: F.add(x, y, alpha=3) * F.sub(x, y, alpha=2), [x, y])
    assert F.pad(x, (-1, 1), value=9).data.tolist() == [[2, 3, 9]]
    assert F.pad(x, (-2, -1)).shape == (1, 0)
    for lengths in ((-1, 2), (2, -1), (-1, -1, 1, 0)):
        assert gradcheck(lambda x, n=lengths: F.pad(x, n), x)


def test_a_number_with_a_fraction_times_integers():
    """The rule of promotion is between floats; integers give way."""
    three = np.array([1, 2, 3])
    for half in (np.float64(0.5), np.float32(0.5), np.array(0.5)):
        assert F.mul(half, three).data.tolist() == [0.5, 1, 1.5]
