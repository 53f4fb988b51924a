"""Mixed precision: one wrapper over several groups, each with a set and a homotopy of its own."""

import numpy as np
import pytest
from optim_checks import leaf

import proxquant_np as pq
from proxquant_np import models, optim
from proxquant_np.data import Split
from proxquant_np.optim import SGD, Adam, DualAveraging, Group, ProxGradient, quantize_and_freeze
from proxquant_np.prox import BinaryL1, BinaryL2, Constant, Linear, TernaryL2
from proxquant_np.training import CheckpointError, fit, load_checkpoint, metrics

RNG = np.random.default_rng(0)
DATA = Split(RNG.normal(size=(40, 6)).astype(np.float32), RNG.integers(0, 3, 40))
KINDS = {"eager": ProxGradient, "lazy": DualAveraging}
kinds = pytest.mark.parametrize("kind", KINDS)


def network():
    return models.MLP((6, 8, 8, 3), rng=0)


def grouped(kind, model, homotopy=Linear(0.05), inner=None):  # noqa: B008
    first, middle, last = pq.quantizable_parameters(model).values()
    groups = [
        ([middle], inner or BinaryL1(), homotopy),
        ([first, last], TernaryL2(), Constant(0.5)),
    ]
    return KINDS[kind](Adam(model.parameters(), 0.01), groups)


@kinds
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_of_groups_is_the_steps_of_wrappers_over_bases_of_their_own(kind, dtype):
    sets = [(BinaryL1(), Constant(0.3)), (TernaryL2(), Linear(0.5)), (None, None)]

    def leaves():
        rng = np.random.default_rng(1)
        return [leaf(rng.normal(size=(3, 4)), dtype) for _ in sets]

    together, apart = leaves(), leaves()
    groups = [([p], *rest) for p, rest in zip(together, sets, strict=True)]
    one = KINDS[kind](Adam(together, 0.1), groups, clip=True)
    many = [
        KINDS[kind](Adam([p], 0.1), [p], *rest, clip=True) if rest[0] else Adam([p], 0.1)
        for p, rest in zip(apart, sets, strict=True)
    ]
    rng = np.random.default_rng(2)
    for _ in range(5):
        for p, q in zip(together, apart, strict=True):
            p.grad = rng.normal(size=p.shape).astype(dtype)
            q.grad = p.grad.copy()
        one.step()
        for optimizer in many:
            optimizer.step()
    for p, q in zip(together, apart, strict=True):
        assert p.dtype == dtype
        np.testing.assert_array_equal(p.data, q.data)


@kinds
def test_one_group_is_the_plain_wrapper(kind):
    p, q = leaf([0.3, -0.7]), leaf([0.3, -0.7])
    plain = KINDS[kind](SGD([p], 0.1), [p], BinaryL1(), Linear(1.0))
    listed = KINDS[kind](SGD([q], 0.1), [Group([q], BinaryL1(), Linear(1.0))])
    assert listed.regularizer == BinaryL1() and listed.strength == plain.strength == 0
    assert [*listed.mapped] == [""] and [*plain.mapped] == [""]
    assert [*listed.state_dict()] == [*plain.state_dict()]


@kinds
def test_hard_and_soft_groups_go_together(kind):
    v, w = leaf([0.3, -0.7]), leaf([0.3, -0.7])
    optimizer = KINDS[kind](
        SGD([v, w], 0.5), [([v], BinaryL1(), None), ([w], BinaryL2(), Constant(2.0))]
    )
    assert optimizer.strength == (np.inf, 1.0)
    assert optimizer.homotopy == (None, Constant(2.0))
    v.grad, w.grad = np.zeros(2), np.zeros(2)
    optimizer.step()
    assert v.data.tolist() == [1, -1] and not set(np.abs(w.data)) & {0.3, 0.7, 1}
    with pytest.raises(ValueError, match="homotopy can be set for one group, not for several"):
        optimizer.homotopy = None


def test_what_makes_no_sense_is_refused():
    v, w, other = leaf([1.0]), leaf([2.0]), leaf([3.0])
    good = ([v], BinaryL1(), None)
    for groups, options, error, message in [
        ([good, ([v], TernaryL2(), None)], {}, ValueError, "disjoint, got one parameter twice"),
        ([good, ([w, v], None, None)], {}, ValueError, "disjoint, got one parameter twice"),
        ([good, ([], BinaryL1(), None)], {}, ValueError, "at least one"),
        ([], {}, TypeError, "regularizer must be a Regularizer, or params a list of groups"),
        ([v], {}, TypeError, "or params a list of groups"),
        ([([v], BinaryL1())], {}, TypeError, "or params a list of groups"),
        ([([v], None, None)], {}, ValueError, "must hold a regularizer, got None in each"),
        ([([v], None, Constant(1))], {}, ValueError, "must hold a regularizer, got None in each"),
        ([good, ([w], BinaryL1, None)], {}, TypeError, "regularizer must be .*, got <class"),
        ([good, ([w], BinaryL1(), 3)], {}, TypeError, "homotopy must be .*, got 3"),
        ([good, ([other], BinaryL1(), None)], {}, ValueError, "held by base"),
        ([good], {"homotopy": Constant(1)}, TypeError, "homotopy must be left out"),
        (
            [good],
            {"regularizer": BinaryL1()},
            TypeError,
            "regularizer and homotopy must be left out",
        ),
    ]:
        for kind in KINDS.values():
            with pytest.raises(error, match=message):
                kind(SGD([v, w], 0.1), groups, **options)
    assert v.data == 1 and w.data == 2


def test_a_second_wrapper_is_pointed_to_groups():
    v, w = leaf([1.0]), leaf([2.0])
    base = SGD([v, w], 0.1)
    first = ProxGradient(base, [v], BinaryL1(), None)
    ProxGradient(base, [w], TernaryL2(), None)
    v.grad = w.grad = np.ones(1)
    with pytest.raises(RuntimeError, match="list of groups"):
        first.step()


@kinds
def test_each_group_is_frozen_on_its_own_set(kind):
    def frozen(chosen):
        model = network()
        weights = list(pq.quantizable_parameters(model).values())
        quantize_and_freeze(chosen(grouped(kind, model), weights))
        return [p.data.copy() for p in weights], weights

    one, weights = frozen(lambda optimizer, _: optimizer)
    assert not any(p.requires_grad for p in weights)
    assert [np.unique(a).size for a in one] == [3, 2, 3]
    for chosen in (
        lambda optimizer, _: optimizer.groups,
        lambda _, w: {w[0]: TernaryL2(), w[1]: BinaryL1(), w[2]: TernaryL2()},
    ):
        for a, b in zip(one, frozen(chosen)[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_full_precision_stays_as_it_is():
    v, w = leaf([0.25, 0.5]), leaf([0.25, 0.5])
    optimizer = ProxGradient(SGD([v, w], 0.5), [([v], BinaryL1(), None), ([w], None, None)])
    assert len(optimizer.params) == 1 and optimizer.params[0] is v
    assert [*optimizer.mapped] == [""] and len(optimizer.groups) == 2
    v.grad, w.grad = np.ones(2), np.ones(2)
    optimizer.step()
    assert v.data.tolist() == [-1, 1] and w.data.tolist() == [-0.25, 0]
    quantize_and_freeze(optimizer)
    assert w.requires_grad and not v.requires_grad
    with pytest.raises(TypeError, match="regularizer must be left out"):
        quantize_and_freeze(optimizer, BinaryL1())


def test_gap_and_copy_know_the_sets():
    model = network()
    first, middle, last = pq.quantizable_parameters(model).values()
    optimizer = grouped("eager", model)
    gaps = [metrics.quantization_gap([middle], BinaryL1())]
    gaps.append(metrics.quantization_gap([first, last], TernaryL2()))
    sizes = [middle.size, first.size + last.size]
    pooled = metrics.quantization_gap(optimizer)
    np.testing.assert_allclose(pooled, np.average(gaps, weights=sizes), rtol=1e-12)
    assert pooled == metrics.quantization_gap(optimizer.groups)
    before = [p.data.copy() for p in model.parameters()]
    copied = metrics.quantized_copy(model, optimizer)
    assert [np.unique(p.data).size for p in pq.quantizable_parameters(copied).values()] == [3, 2, 3]
    for a, p in zip(before, model.parameters(), strict=True):
        np.testing.assert_array_equal(a, p.data)
    with pytest.raises(TypeError, match="params must be left out"):
        metrics.quantized_copy(model, optimizer, [first])


OPTIONS = {"batch_size": 8, "validation": DATA, "progress": False}


@kinds
def test_history_tells_groups_apart_and_a_run_resumes_to_the_bit(kind, tmp_path):
    def trained(*lengths, **options):
        for steps in lengths:
            model = network()
            optimizer = grouped(kind, model)
            history = fit(model, optimizer, DATA, steps=steps, **OPTIONS, **options)
        return model, history

    model, history = trained(23)
    assert "strength" not in history.steps
    rates = np.array(history.steps["lr"])
    assert history.steps["strength.0"] == (rates * (0.05 * np.arange(23))).tolist()
    assert history.steps["strength.1"] == (rates * 0.5).tolist()
    assert len(history.epochs["quantization_gap"]) == 4
    gaps = [history.epochs[f"quantization_gap.{i}"] for i in (0, 1)]
    assert gaps[0] != gaps[1] and "quantized_error" in history.epochs
    again, resumed = trained(7, 12, 23, checkpoint=tmp_path / "run.npz")
    assert resumed.to_dict() == history.to_dict()
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)


@kinds
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"homotopy": Linear(0.06)}, "homotopy.0 was Linear.*0.05.*is Linear.*0.06"),
        ({"inner": BinaryL2()}, r"regularizer.0 was BinaryL1\(\), is BinaryL2\(\)"),
        ({"homotopy": lambda t: 0.05 * t + 1e-3}, r"homotopy\.0"),
    ],
)
def test_a_checkpoint_of_other_groups_is_refused(kind, changes, message, tmp_path):
    file = tmp_path / "run.npz"
    model = network()
    fit(model, grouped(kind, model), DATA, steps=5, checkpoint=file, **OPTIONS)
    with pytest.raises(CheckpointError, match=message):
        fit(model, grouped(kind, model, **changes), DATA, steps=9, checkpoint=file, **OPTIONS)
    name = message.split(" ")[0].replace("\\", "")
    model = network()
    changed = grouped(kind, model, **changes)
    fit(model, changed, DATA, steps=9, checkpoint=file, changed=[name], **OPTIONS)
    assert load_checkpoint(file)[1]["step"] == 9


def test_other_members_of_the_groups_are_refused(tmp_path):
    file = tmp_path / "run.npz"
    model = network()
    fit(model, grouped("eager", model), DATA, steps=5, checkpoint=file, **OPTIONS)
    first, middle, last = pq.quantizable_parameters(model).values()
    groups = [([last], BinaryL1(), Linear(0.05)), ([first, middle], TernaryL2(), Constant(0.5))]
    with pytest.raises(CheckpointError, match=r"parameters\.0 was .*layers\.3"):
        optimizer = ProxGradient(Adam(model.parameters(), 0.01), groups)
        names = ["parameters.0", "parameters.1"]  # a latent would become another layer's
        fit(model, optimizer, DATA, steps=9, checkpoint=file, changed=names, **OPTIONS)


def test_a_regularizer_given_to_fit_is_that_of_all():
    model = network()
    history = fit(model, grouped("eager", model), DATA, steps=5, regularizer=BinaryL1(), **OPTIONS)
    weights = pq.quantizable_parameters(model)
    assert history.epochs["quantization_gap"][-1] == metrics.quantization_gap(weights, BinaryL1())
    assert "quantization_gap.0" not in history.epochs and "strength.0" in history.steps


# What moves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [SGD, Adam])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_move_in_the_place_of_parameters(base, dtype):
    rng = np.random.default_rng(3)
    start = [rng.normal(size=s) for s in [(4, 3), (5,), (200, 100), (2, 2)]]
    params, twins = ([leaf(a, dtype) for a in start] for _ in range(2))
    params[0].data = np.asfortranarray(params[0].data)
    optimizer, twin = base(params, 0.1), base(twins, 0.1)
    strided = np.zeros((200, 200), dtype)[:, ::2]
    strided[...] = params[2].data
    points = {params[1]: params[1].data.copy(), params[2]: strided, params[3]: None}
    before = [p.data.copy() for p in params]
    for _ in range(3):
        for p, q in zip(params, twins, strict=True):
            p.grad = rng.normal(size=p.shape).astype(dtype)
            q.grad = p.grad.copy()
        twins[3].grad = None
        optimizer.step(points)
        twin.step()
    np.testing.assert_array_equal(params[0].data, twins[0].data)
    for i in (1, 2):
        np.testing.assert_array_equal(params[i].data, before[i])
        np.testing.assert_array_equal(points[params[i]], twins[i].data)
    np.testing.assert_array_equal(params[3].data, before[3])
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[name], err_msg=name)


def test_points_that_do_not_fit_change_nothing():
    v, w = leaf([1.0, 2.0], np.float32), leaf([3.0], np.float32)
    optimizer = SGD([v, w], 0.1, momentum=0.9)
    v.grad, w.grad = np.ones(2, np.float32), np.ones(1, np.float32)
    fixed = np.zeros(2, np.float32)
    fixed.flags.writeable = False
    state = optimizer.state_dict()
    for points, error, message in [
        ({v: np.zeros(3, np.float32)}, ValueError, r"parameter's shape \(2,\).*got \(3,\)"),
        ({v: np.zeros((1, 2), np.float32)}, ValueError, r"got \(1, 2\)"),
        ({v: np.zeros(2)}, ValueError, "float32, got .*float64"),
        ({v: fixed}, ValueError, "writeable"),
        ({v: [0.0, 0.0]}, TypeError, r"must be an array, or None, got \[0.0, 0.0\]"),
        ({v: v}, TypeError, "must be an array, or None"),
        ({leaf([1.0]): np.zeros(1)}, ValueError, "parameters of this optimizer, got another one"),
        ([v.data, w.data], TypeError, "points must be a mapping"),
        ({"v": np.zeros(2, np.float32)}, ValueError, "parameters of this optimizer"),
    ]:
        with pytest.raises(error, match=message):
            optimizer.step(points)
    assert v.data.tolist() == [1, 2] and w.data.tolist() == [3]
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_the_weights_are_their_own_arrays_while_the_base_steps():
    """Nothing is swapped: a base that looks sees the image, and the gradient, where they belong."""
    seen = []

    class Looks(SGD):
        def step(self, points=None):
            seen.append((self.params[0].data is array, self.params[0].grad is not None))
            super().step(points)

    for wrap in (
        lambda base, p: DualAveraging(base, p, BinaryL1()),
        lambda base, p: optim.Bop(base, p),
    ):
        w = leaf([0.25, -0.5])
        array = w.data
        optimizer = wrap(Looks([w], 0.5), [w])
        w.grad = np.ones(2)
        optimizer.step()
    assert seen == [(True, True)] * 2


@kinds
@pytest.mark.parametrize(
    ("made_of", "words"),
    [
        (lambda w, s: w[:1], r"must return an array of shape \(8, 8\)"),
        (lambda w, s: w.astype(np.float64), "must return an array .* got .* of float64"),
        (lambda w, s: w.tolist(), "must return an array .* of list"),
        (lambda w, s: w * np.nan, "must return finite weights"),
        (lambda w: w, "positional argument"),
        (pq.prox.L2(pq.prox.Ternary(axis=5)), "axis must be one of the 2 axes"),
        (pq.prox.L2(pq.prox.Ternary(block=7)), "block must divide"),
    ],
)
def test_a_map_that_does_not_fit_is_told_before_anything_moves(kind, made_of, words):
    """Also if it comes after a group that fits, and if the first strength is 0."""
    model = network()
    first, middle, _ = pq.quantizable_parameters(model).values()
    before = [p.data.copy() for p in model.parameters()]
    groups = [([first], BinaryL1(), Linear(1.0)), ([middle], made_of, Linear(1.0))]
    with pytest.raises((ValueError, TypeError), match=words):
        KINDS[kind](Adam(model.parameters(), 0.01), groups)
    for p, held in zip(model.parameters(), before, strict=True):
        assert np.array_equal(p.data, held)
