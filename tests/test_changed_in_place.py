"""What changes between forward and backward: refused by name, or the gradient is the right one.

The right one is that of the values which the forward pass has used.
"""

import copy
import threading

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, models, nn, optim, prox
from proxquant_np.autograd import mark_changed


def rng():
    return np.random.default_rng(0)


IMAGES = rng().normal(size=(5, 2, 6, 6))
VECTORS = rng().normal(size=(5, 6))
TOKENS = rng().integers(0, 7, (3, 5))


def tied():
    model = nn.Sequential(nn.Linear(6, 6, rng=1), nn.Tanh(), nn.Linear(6, 6, rng=2))
    model[2].weight = model[0].weight
    return model


NETWORKS = {  # name: network, inputs, the parameter that backward meets first
    "linear": (
        lambda: nn.Sequential(nn.Linear(6, 5, rng=1), nn.ReLU(), nn.Linear(5, 3, rng=2)),
        VECTORS,
        "2.weight",
    ),
    "batch norm": (lambda: models.MLP((6, 5, 3), rng=0), VECTORS, "layers.3.weight"),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, rng=1), nn.Tanh(), nn.Conv2d(3, 2, 2, stride=2, rng=2), nn.Flatten()
        ),
        IMAGES,
        "2.weight",
    ),
    "residual": (lambda: models.ResNet(8, 2, 2, 3, rng=0), IMAGES, "linear.weight"),
    "lstm": (lambda: models.LSTMLanguageModel(7, 4, 4, 2, rng=0), TOKENS, "decoder.weight"),
    "tied": (tied, VECTORS, "0.weight"),
}


def network(name):
    make, x, first = NETWORKS[name]
    model = make()
    if x.dtype.kind == "f":
        x = x.astype(np.float32)
    return model, x, first


def loss_of(model, x):
    y = model(Tensor(x))
    y = y[0] if isinstance(y, tuple) else y
    return (y * y).mean()


def wrapped(kind, *rest):
    def change(model):
        weights = pq.quantizable_parameters(model) or list(model.parameters())
        kind(optim.SGD(model.parameters(), 0.5), weights, *rest).step()

    return change


def load(model):
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})


def load_packed(model, folder):
    pq.pack(model, prox.BinaryL1(), folder / "net.npz")
    pq.load_packed(folder / "net.npz", model)


CHANGES = {
    "sgd": lambda model: optim.SGD(model.parameters(), 0.5).step(),
    "adam": lambda model: optim.Adam(model.parameters(), 0.5).step(),
    "eager": wrapped(optim.ProxGradient, prox.BinaryL2(), prox.Constant(1.0)),
    "lazy": lambda model: lazy(model).step(),
    "bop": wrapped(optim.Bop),
    "load_state_dict": load,
    "freeze": lambda model: pq.quantize_and_freeze(
        pq.quantizable_parameters(model) or model.parameters(), prox.BinaryL1()
    ),
}


def lazy(model):
    weights = pq.quantizable_parameters(model) or list(model.parameters())
    return optim.DualAveraging(optim.Adam(model.parameters(), 0.5), weights, prox.BinaryL1())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_between_two_losses_is_refused(name, change):
    model, x, first = network(name)
    loss, other = loss_of(model, x), loss_of(model, x)
    loss.backward()
    CHANGES[change](model)
    with pytest.raises(RuntimeError, match=f"{first}.* changed in place after the forward pass"):
        other.backward()
    model.zero_grad()
    for p in model.parameters():
        p.requires_grad = True
    loss_of(model, x).backward()  # a new forward pass is what it asks for


@pytest.mark.parametrize("name", NETWORKS)
def test_both_losses_before_the_step_are_fine(name):
    model, x, _ = network(name)
    optimizer = optim.SGD(model.parameters(), 0.5)
    for _ in range(3):
        loss, other = loss_of(model, x), loss_of(model, x)
        optimizer.zero_grad()
        loss.backward()
        other.backward()
        optimizer.step()


@pytest.mark.parametrize("change", ["sgd", "adam", "load_state_dict"])
def test_levels_that_are_trained_leave_the_gradient_right(change):
    """All that the way back uses of them are copies, so there is nothing to refuse."""
    linear = nn.Linear(6, 3, rng=0)
    model, twin = (nn.TrainedTernaryLinear(linear) for _ in "ab")
    x = VECTORS.astype(np.float32)
    loss_of(twin, x).backward()
    loss, other = loss_of(model, x), loss_of(model, x)
    loss.backward()
    CHANGES[change](model)
    model.zero_grad()
    other.backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)


def test_a_packed_network_loaded_into_this_one_is_noticed(tmp_path):
    model, x, first = network("linear")
    loss = loss_of(model, x)
    load_packed(model, tmp_path)
    with pytest.raises(RuntimeError, match=first):
        loss.backward()


def test_recalibrated_statistics_leave_the_gradient_right():
    """The way back keeps copies of them, so they may change."""
    for n in (5, 4000):  # the two kernels
        x = rng().normal(size=(n, 6)).astype(np.float32)
        model = models.MLP((6, 5, 3), rng=0).eval()
        twin = copy.deepcopy(model)
        loss_of(twin, x).backward()
        loss = loss_of(model, x)
        pq.recalibrate_batch_norm(model, [x + 3])
        loss.backward()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(p.grad, q.grad)


# What the way back does not use may change, as in PyTorch ----------------------------------------

UNUSED = {
    "one linear layer": (nn.Linear(6, 3, rng=0), VECTORS),
    "one convolution": (nn.Conv2d(2, 3, 3, rng=0), IMAGES),
}


@pytest.mark.parametrize("name", UNUSED)
def test_a_single_layer_needs_no_weight_for_its_own_gradient(name):
    layer, x = UNUSED[name]
    x = x.astype(np.float32)
    twin = copy.deepcopy(layer)
    loss, other = layer(Tensor(x)).sum(), twin(Tensor(x)).sum()
    other.backward()
    load(layer)
    if name == "one linear layer":
        loss.backward()
        np.testing.assert_array_equal(layer.weight.grad, twin.weight.grad)
    else:  # its two gradients share their work, and it might use the weight
        with pytest.raises(RuntimeError, match="changed in place"):
            loss.backward()


def test_a_bias_and_a_factor_of_a_constant_may_change():
    w, b = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    y = w * np.array([5.0, 7.0]) + b
    w.data[...], b.data[...] = 9, 9
    mark_changed([w, b])
    y.sum().backward()
    assert w.grad.tolist() == [5, 7] and b.grad.tolist() == [2]


@pytest.mark.parametrize(
    "op",
    [
        lambda a, b: a * b,
        lambda a, b: a + b,
        lambda a, b: a * 3,
        lambda a, b: a * a,
        lambda a, b: a / b,
        lambda a, b: b / a,
        lambda a, b: a.tanh(),
        lambda a, b: a.exp() + b,
        lambda a, b: a.relu(),
        lambda a, b: -a,
        lambda a, b: a @ b,
        lambda a, b: a**3,
        lambda a, b: a.log(),
        lambda a, b: a.sqrt(),
        lambda a, b: a.sigmoid(),
    ],
)
def test_as_strict_as_pytorch_where_the_gradient_would_be_wrong(op):
    """And never stricter. Less strict where an operation here keeps something else, as in a / b."""
    torch = pytest.importorskip("torch")

    def gradients(leaf, data, changed, change):
        a, b = (leaf(x) for x in data)
        y = op(a, b).sum()
        if changed:
            change(a)
        try:
            y.backward()
        except RuntimeError as error:
            assert "in place" in str(error) or "inplace" in str(error)
            return None
        return [None if x.grad is None else np.asarray(x.grad) for x in (a, b)]

    def add(a):
        with torch.no_grad():
            a.add_(1)

    def ours_add(a):
        a.data += 1
        mark_changed([a])

    data = [np.array([0.5, 2.0]), np.array([1.5, 0.25])]
    right = gradients(lambda x: Tensor(x.copy(), requires_grad=True), data, False, None)
    ours = gradients(lambda x: Tensor(x.copy(), requires_grad=True), data, True, ours_add)
    theirs = gradients(lambda x: torch.tensor(x, requires_grad=True), data, True, add)
    assert theirs is None or ours is not None
    if ours is not None:
        for mine, wanted in zip(ours, right, strict=True):
            np.testing.assert_array_equal(mine, wanted)


# Details -----------------------------------------------------------------------------------------


def test_frozen_leaves_are_watched_as_well():
    w = nn.Parameter([2.0], requires_grad=False)
    x = Tensor([3.0], requires_grad=True)
    y = w * x
    w.data[...] = 5
    mark_changed([w])
    with pytest.raises(RuntimeError, match=r"a leaf of shape \(1,\) changed in place"):
        y.backward()


def test_unreached_and_frozen_parameters_are_not_said_to_have_changed():
    used, other = nn.Parameter([2.0]), nn.Parameter([2.0])
    y = used * used
    other.grad = np.ones(1)
    optim.SGD([used, other], 0.5).step()  # used has no gradient: it stays
    y.backward()
    assert used.grad == [4.0]


def test_what_the_user_writes_is_noticed_only_when_told():
    """As the docstring of Tensor says: the buffer below is the user's own."""
    buffer, w = np.ones((4, 2)), nn.Parameter(np.ones((2, 3)))
    right = buffer.T @ np.ones((4, 3))
    for told in (False, True):
        x = Tensor(buffer)
        y = (x @ w).sum()
        buffer += 1
        if told:
            mark_changed([x])
            with pytest.raises(RuntimeError, match=r"shape \(4, 2\) changed in place"):
                y.backward()
        else:
            y.backward()
            assert not np.array_equal(w.grad, right)


def test_a_copied_buffer_may_be_filled_again():
    buffer, w = np.ones((4, 2)), nn.Parameter(np.ones((2, 3)))
    y = (Tensor(buffer.copy()) @ w).sum()
    buffer += 1
    y.backward()
    assert (w.grad == 4).all()


def test_another_networks_steps_do_not_matter():
    """As with the two networks of a game, each with its own optimizer."""
    a, b = nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1)
    x = Tensor(np.ones((2, 3), np.float32))
    made_by_a = a(x)
    b(made_by_a.detach()).sum().backward()
    optim.SGD(b.parameters(), 0.5).step()
    b(made_by_a).sum().backward()  # b's new weights, in a new forward pass
    assert a.weight.grad is not None


def test_networks_of_other_threads_do_not_matter():
    errors = []

    def train(seed):
        model = models.MLP((6, 5, 3), rng=seed)
        optimizer = optim.SGD(model.parameters(), 0.1)
        try:
            for _ in range(50):
                optimizer.zero_grad()
                loss_of(model, VECTORS.astype(np.float32)).backward()
                optimizer.step()
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=train, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_operations_of_ones_own_are_looked_into():
    """Whatever a VJP encloses: in containers, other functions, defaults, objects."""

    class Holder:
        def __init__(self, x):
            self.x = x

    def enclosing(how):
        @pq.autograd.differentiable
        def square(x):
            if how == "list":
                kept = [[x]]
                return x * x, lambda g: 2 * g * kept[0][0]
            if how == "dict":
                kept = {"x": x}
                return x * x, lambda g: 2 * g * kept["x"]
            if how == "function":
                inner = lambda: x  # noqa: E731
                return x * x, lambda g: 2 * g * inner()
            if how == "default":
                return x * x, lambda g, x=x: 2 * g * x
            if how == "view":
                kept = x[::-1]
                return x * x, lambda g: 2 * g * kept[::-1]
            if how == "object":
                kept = Holder(x)
                return x * x, lambda g: 2 * g * kept.x
            slope = 2 * x
            return x * x, lambda g: g * slope

        return square

    for how in ("list", "dict", "function", "default", "view", "object", "copy"):
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = F.sum(enclosing(how)(x))
        x.data += 1
        mark_changed([x])
        if how == "copy":
            y.backward()
            assert x.grad.tolist() == [2, 4]
        else:
            with pytest.raises(RuntimeError, match="changed in place"):
                y.backward()


def test_what_a_partial_state_leaves_alone_has_not_changed():
    model = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1))
    x = Tensor(np.ones((2, 3), np.float32))
    loss, other = model[1](x).sum(), loss_of(model, np.ones((2, 3), np.float32))
    weight = np.ones((3, 3), np.float32)
    model.load_state_dict({"0.weight": weight}, strict=False)
    loss.backward()
    other.backward()  # the first layer's own gradient does not need its weight
    model.zero_grad()
    other = loss_of(model, np.ones((2, 3), np.float32))
    model.load_state_dict({"1.weight": weight}, strict=False)
    with pytest.raises(RuntimeError, match=r"1\.weight of shape \(3, 3\) changed"):
        other.backward()


def test_a_change_right_after_the_last_operation_is_noticed():
    """And one right before the first is not taken for it."""
    w = nn.Parameter(np.array([2.0]))
    mark_changed([w])
    (w * w).backward(np.ones(1))
    assert w.grad == 4
    y = w * w
    mark_changed([w])
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(np.ones(1))
