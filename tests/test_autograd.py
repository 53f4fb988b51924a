"""The tensor and the backward pass: graphs, accumulation, aliasing, memory, no_grad, errors."""

import asyncio
import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, no_grad
from proxquant_np.autograd import differentiable


def leaf(x, dtype=np.float64):
    return Tensor(np.array(x, dtype), requires_grad=True)


# Graphs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [1, 10_000])
def test_chain(nodes):
    x = leaf(1.0)
    y = x
    for _ in range(nodes):
        y = y + 1.0
    y.backward()
    assert (y.item(), x.grad.item()) == (nodes + 1, 1)


def test_deep_graph_that_is_never_differentiated_is_freed_without_recursion():
    x = y = leaf(1.0)
    for _ in range(100_000):
        y = y + x
    del y
    assert x.grad is None


def test_diamonds():
    x = leaf(3.0)
    y = x
    for _ in range(50):  # 2^50 paths, 50 nodes
        y = y + y
    y.backward()
    assert x.grad == 2.0**50
    a = leaf(2.0)
    b = a * a
    c = b * a + b  # a^3 + a^2, through b twice
    c.backward()
    assert a.grad == 3 * 4 + 2 * 2


def test_each_node_is_visited_once():
    visits = []

    @differentiable
    def noted(x):
        return x * 1, lambda g: visits.append(1) or g

    x = leaf(1.0)
    y = noted(x)
    (y * y + y * 3.0 + y).backward()
    assert x.grad == 2 + 3 + 1
    assert len(visits) == 1


def test_accumulates_over_two_backwards():
    x = leaf([1.0, 2.0])
    F.sum(x * x).backward()
    first = x.grad
    F.sum(3.0 * x).backward()
    assert x.grad.tolist() == [5, 7]
    assert x.grad is first  # in place, as PyTorch does


def test_backward_of_a_leaf():
    x = leaf([1.0, 2.0])
    g = np.array([3.0, 4.0])
    x.backward(g)
    x.backward(Tensor(g))
    assert x.grad.tolist() == [6, 8]
    assert g.tolist() == [3, 4]


def test_part_of_the_inputs_requires_grad():
    x, y = leaf([1.0, 2.0]), Tensor([3.0, 4.0])
    F.sum(x * y).backward()
    assert x.grad.tolist() == [3, 4]
    assert y.grad is None


def test_gradients_that_nobody_asks_for_are_not_computed():
    asked = []

    @differentiable
    def product(a, b):
        return a * b, lambda g: (
            lambda: asked.append("a") or g * b,
            lambda: asked.append("b") or g * a,
        )

    product(leaf(2.0), Tensor(3.0)).backward()
    assert asked == ["a"]


def test_an_array_or_a_function_for_each_argument():
    @differentiable
    def scaled_sum(a, b, factor):
        return factor * (a + b), lambda g: (factor * g, lambda: factor * g, None)

    a, b = leaf([1.0, 2.0]), leaf(3.0)
    scaled_sum(a, b, 2.0).backward([1.0, 10.0])
    assert a.grad.tolist() == [2, 20] and b.grad == 22
    with pytest.raises(RuntimeError, match="argument 2 requires grad, but has none"):
        scaled_sum(a, b, leaf(2.0)).backward([1.0, 10.0])


def test_a_tuple_of_functions_is_refused_with_the_remedy():
    @differentiable
    def product(a, b):
        return a * b, (lambda g: g * b, lambda g: g * a)

    with pytest.raises(TypeError, match=r"product: vjp must be one function .*, got a tuple; .*"):
        product(leaf(2.0), Tensor(3.0))


def test_detach():
    x = leaf([1.0, 2.0])
    y = (x * x).detach()
    assert not y.requires_grad
    F.sum(x * y).backward()
    assert x.grad.tolist() == [1, 4]


# The graph is freed -----------------------------------------------------------------------------


def test_second_backward_is_a_clear_error():
    x = leaf([1.0, 2.0])
    h = x * x
    y = F.sum(h)
    y.backward()
    for again in (y, F.sum(h)):
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            again.backward()


def test_backward_frees_the_graph():
    x = leaf(np.ones(10))
    h = F.exp(x)
    y = F.sum(h)
    tensor, array = weakref.ref(h), weakref.ref(h.data)
    del h
    assert tensor() is not None
    gc.disable()  # by counting references alone: the graph holds no cycles
    try:
        y.backward()
        assert tensor() is None and array() is None
    finally:
        gc.enable()


def test_graph_without_backward_is_freed_with_its_last_tensor():
    x = leaf(np.ones(10))
    h = F.exp(x)
    tensor = weakref.ref(h)
    y = F.sum(h)
    del h
    assert tensor() is not None
    gc.disable()
    try:
        del y
        assert tensor() is None
    finally:
        gc.enable()


# Aliasing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: F.concatenate([x, y]),
        lambda x, y: F.stack([x, y]),
        lambda x, y: F.reshape(x, (3, 2)) + F.reshape(y, (3, 2)),
        lambda x, y: x.T + y.T,
        lambda x, y: F.where(True, x, y) + x + y,
        lambda x, y: F.dropout(x, 0.0) + F.straight_through(y, np.copy),
        lambda x, y: F.mse_loss(x, y, reduction="none"),
        lambda x, y: F.sum(x) + F.sum(y),
    ],
)
def test_gradients_share_memory_with_nothing(fn):
    x, y = leaf(np.ones((2, 3))), leaf(np.full((2, 3), 2.0))
    out = fn(x, y)
    g = np.ones(out.shape)
    out.backward(g)
    everything = [x.data, y.data, out.data, g, x.grad, y.grad]
    for i, a in enumerate(everything):
        assert not any(np.shares_memory(a, b) for b in everything[:i])
    x.grad += 1
    y.grad += 1  # writable, and neither a broadcast view
    assert g.tolist() == np.ones(out.shape).tolist()


def test_vjp_may_return_what_it_was_given():
    @differentiable
    def pair(a, b):
        return a + b, lambda g: (g, g)

    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    F.sum(pair(a, b)).backward()
    a.grad += 1
    assert b.grad.tolist() == [1, 1]


def test_arrays_without_axes_stay_arrays():
    x, y = leaf(2.0), leaf(3.0)
    for out in (x * y, F.sum(x), x**2, -x, F.exp(x), F.maximum(x, y), leaf([1.0])[0]):
        assert type(out.data) is np.ndarray and out.shape == ()
    out = F.tanh(x * y) * x
    out.backward()
    for t in (x, y):
        assert type(t.grad) is np.ndarray and t.grad.shape == ()


def test_vjps_are_given_arrays():
    seen = []

    @differentiable
    def noted(x):
        return x * 1, lambda g: seen.append(type(g)) or g

    F.sum(noted(F.sum(leaf([1.0, 2.0])) * 2.0)).backward()
    y = noted(leaf(1.0))
    (y + y * 3.0).backward()  # NumPy's sum of two arrays without axes is a scalar
    assert seen == [np.ndarray] * 2


def test_wrong_shape_of_a_gradient_is_caught():
    @differentiable
    def transposed(x):
        return x * 1, lambda g: g.T

    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        F.sum(transposed(leaf(np.ones((2, 3))))).backward()


@pytest.mark.parametrize(
    ("shape", "broadcast"),
    [
        ((), (2, 3)),
        ((3,), (2, 3)),
        ((1, 3), (2, 3)),
        ((2, 1), (2, 3)),
        ((1,), (0,)),
        ((1, 0), (4, 0)),
    ],
)
def test_broadcasting_is_undone(shape, broadcast):
    x = leaf(np.ones(shape))
    (x + np.zeros(broadcast)).backward(np.ones(broadcast))
    desired = np.prod(broadcast) / max(1, x.size) if 0 not in shape else 0
    assert x.grad.shape == shape
    assert (x.grad == desired).all()


# no_grad ----------------------------------------------------------------------------------------


def records():
    return (leaf(1.0) + 1.0).requires_grad


def test_no_grad_block_nested_and_reentered():
    with no_grad():
        assert not records()
        with no_grad():
            assert not records()
        assert not records()
    assert records()
    quiet = no_grad()
    with quiet, quiet:
        assert not records()
    assert records()


def test_no_grad_as_decorator_even_of_a_recursive_function():
    @no_grad()
    def deep(n):
        assert not records()
        return deep(n - 1) if n else records()

    assert deep(3) is False
    assert records()


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert records()


def test_no_grad_is_per_thread():
    inside, leave, found = threading.Event(), threading.Event(), []

    def other():
        with no_grad():
            inside.set()
            leave.wait()
            found.append(records())

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    found.append(records())
    leave.set()
    thread.join()
    assert found == [True, False]


def test_no_grad_is_per_task():
    """A task that waits within the block stops no other from recording."""

    async def within(inside, leave):
        with no_grad():
            inside.set()
            await leave.wait()
            return records()

    async def main():
        inside, leave = asyncio.Event(), asyncio.Event()
        waiting = asyncio.create_task(within(inside, leave))
        await inside.wait()
        assert records()
        with no_grad():
            leave.set()
            assert not await waiting
            assert not records()
            assert not await asyncio.to_thread(records)  # of which the context is a copy
        return records()

    assert asyncio.run(main()) and records()


def test_result_of_no_grad_cannot_be_differentiated():
    with no_grad():
        y = leaf(1.0) * 2.0
    with pytest.raises(RuntimeError, match="depends on no leaf"):
        y.backward()


# Calling ----------------------------------------------------------------------------------------


def test_tensors_by_keyword():
    x, w, b = leaf(np.ones((4, 3))), leaf(np.ones((2, 3))), leaf(np.ones(2))
    desired = F.linear(x, w, b)
    for y in (F.linear(x, bias=b, weight=w), F.linear(input=x, weight=w, bias=b)):
        assert np.array_equal(y.data, desired.data)
        w.grad = b.grad = None
        F.sum(y).backward()
        assert w.grad.tolist() == np.full((2, 3), 4).tolist() and b.grad.tolist() == [4, 4]
    y = F.linear(x, w, bias=np.ones(2))
    assert np.array_equal(y.data, desired.data)


def test_numpy_spelling_of_options():
    x = leaf(np.arange(6.0).reshape(2, 3))
    assert F.sum(x, axis=1, keepdims=True).shape == F.sum(x, dim=1, keepdim=True).shape == (2, 1)
    assert x.mean(axis=0).shape == (3,)
    assert F.concatenate([x, x], axis=1).shape == (2, 6)
    assert F.stack([x, x], axis=-1).shape == (2, 3, 2)


@pytest.mark.parametrize("left", [np.array([2.0, 4.0]), np.float64(2), np.array(2.0), 2, 2.0])
def test_reflected_operators(left):
    x = leaf([1.0, 2.0])
    for y, desired, slope in (
        (left + x, left + x.data, 1),
        (left - x, left - x.data, -1),
        (left * x, left * x.data, left),
        (left / x, left / x.data, -left / x.data**2),
        (left**x, left**x.data, left**x.data * np.log(left)),
    ):
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.data, desired)
        x.grad = None
        y.backward(np.ones(2))
        np.testing.assert_allclose(x.grad, slope * np.ones(2))


def test_reflected_matmul_and_lists():
    x = leaf(np.ones((2, 3)))
    y = np.ones((4, 2)) @ x
    assert isinstance(y, Tensor) and y.shape == (4, 3)
    assert isinstance([1.0, 2.0, 3.0] * x, Tensor)


def test_comparisons_are_arrays():
    x = leaf([1.0, 2.0, 3.0])
    for found, desired in (
        (x > 2, [0, 0, 1]),
        (x >= 2, [0, 1, 1]),
        (x < Tensor([2.0]), [1, 0, 0]),
        (x <= np.float64(2), [1, 1, 0]),
        (x == 2, [0, 1, 0]),
        (x != x.detach(), [0, 0, 0]),
        (np.array([2.0]) < x, [0, 0, 1]),
    ):
        assert type(found) is np.ndarray and found.dtype == bool
        assert found.tolist() == desired
    assert {x: 1}[x] == 1


def test_python_protocol():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2 and [row.shape for row in x] == [(2,), (2,)]
    assert float(x[0, 1]) == 2 and bool(x[0, 0]) and x[1, 1].item() == 4
    assert x.numpy() is x.data
    assert (x.shape, x.dtype, x.ndim, x.size) == ((2, 2), np.float64, 2, 4)
    assert repr(x[0]).startswith("Tensor([1., 2.], dtype=float64, requires_grad=True")
    y = x
    y += 1.0  # a new tensor: the leaf is not written to
    assert y is not x and x.data[0, 0] == 1
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)


def test_methods_are_the_functions():
    x = leaf(np.arange(1.0, 7).reshape(2, 3))
    for name in ("sum", "mean", "var", "max", "min", "exp", "log", "sqrt", "relu", "tanh", "abs"):
        assert np.array_equal(getattr(x, name)().data, getattr(F, name)(x).data), name
    assert x.reshape(3, 2).shape == x.reshape((3, 2)).shape == x.T.shape == x.mT.shape == (3, 2)
    assert x.transpose(0, 1).shape == x.permute((1, 0)).shape == (3, 2)
    assert abs(-x).data.tolist() == x.data.tolist()
    assert x.clip(2, 3).data.max() == 3


def test_data_is_shared_not_copied():
    a = np.ones(3)
    assert Tensor(a).data is a and Tensor(Tensor(a)).data is a and leaf(a).detach().data is not a


# Copies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_leaves_can_be_copied(twin_of):
    x = leaf([1.0, 2.0])
    F.sum(x * x).backward()
    twin = twin_of(x)
    assert twin.requires_grad and np.array_equal(twin.grad, x.grad)
    assert not np.shares_memory(twin.data, x.data) and not np.shares_memory(twin.grad, x.grad)
    twin.grad = None
    F.sum(twin * 3.0).backward()
    assert twin.grad.tolist() == [3, 3] and x.grad.tolist() == [2, 4]


def test_computed_tensors_cannot():
    x = leaf([1.0, 2.0])
    y = x * 2.0
    with pytest.raises(RuntimeError, match="detach"):
        copy.deepcopy(y)
    assert copy.deepcopy(y.detach()).data.tolist() == [2, 4]


def test_modules_can_be_copied():
    model = pq.models.MLP((3, 4, 2))
    twin = copy.deepcopy(model)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    F.sum(twin(Tensor(x))).backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in twin.parameters())
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    assert all(np.array_equal(a.data, b.data) and a.data is not b.data for a, b in pairs)


# Mistakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "numeric, got dtype <U1", lambda: Tensor("a")),
        (TypeError, "numeric, got dtype object", lambda: Tensor([None])),
        (
            TypeError,
            "float32 or float64 to require gradients, got dtype int64",
            lambda: Tensor([1], True),
        ),
        (
            TypeError,
            "float32 or float64 to require gradients, got dtype float16",
            lambda: leaf(1, np.float16),
        ),
        (RuntimeError, "depends on no leaf", lambda: Tensor([1.0]).backward()),
        (ValueError, r"several entries, got shape \(2,\)", lambda: (leaf([1, 2]) * 2.0).backward()),
        (
            ValueError,
            r"grad must have shape \(2,\), got shape \(3,\)",
            lambda: (leaf([1, 2]) * 2.0).backward(np.ones(3)),
        ),
        (ValueError, "size|scalar", lambda: leaf([1, 2]).item()),
    ],
)
def test_mistakes_are_explained(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_what_numpy_makes_of_a_tensor():
    """The data, if there is no gradient to lose; never an array of objects."""
    x = Tensor(np.array([[1.0, 2.0]], np.float32))
    assert np.asarray(x).dtype == np.float32
    assert np.shares_memory(np.asarray(x), x.data)
    assert not np.shares_memory(np.array(x), x.data)
    assert np.asarray(x, np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.concatenate([x, x]), [[1, 2], [1, 2]])
    assert Tensor([Tensor(1.0), Tensor(2.0)]).data.tolist() == [1, 2]
    for t in (leaf([1, 2]), leaf([1, 2]) * 2.0):
        for call in (np.asarray, np.array, lambda t: np.concatenate([t, t]), lambda t: [t, t] * x):
            with pytest.raises(TypeError, match=r"lose the gradient.*tensor\.data"):
                call(t)
        assert np.asarray(t.data).tolist() == np.asarray(t.detach()).tolist()
    with pytest.raises(TypeError, match="ufunc"):
        np.exp(x)
