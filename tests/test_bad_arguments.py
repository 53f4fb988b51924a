"""Public functions with one wrong argument each: a ValueError or TypeError that names it.

A table: the callable, arguments that it takes, and for each argument what it must refuse. Tests of
the single modules try more, and what their messages say.
"""

import math

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, data, models, nn, optim, prox, training
from proxquant_np.training import metrics

NAN, INF = math.nan, math.inf
W = np.array([[0.5, -1.5], [2.0, 0.25]], np.float32)
BAD_WEIGHTS = [np.array([NAN]), [INF], np.array([1, 2]), [], None, "a", [[1.0], [2.0, 3.0]], 1j]
BAD_STRENGTHS = [-1.0, NAN, None, "a", [1.0, 2.0]]
NO_NUMBERS = [NAN, -1.0, None, "a", True, [1.0]]
NO_COUNTS = [0, -1, 1.5, None, "a", NAN, True]


def parameter():
    return nn.Parameter(W.copy())


def model():
    return models.MLP((2, 3, 2), rng=0)


def sgd(m):
    return optim.SGD(m.parameters(), 0.1)


def fit(**arguments):
    m = model()
    given = {"model": m, "optimizer": sgd(m), "train": SPLIT, "steps": 1, "batch_size": 2}
    return training.fit(**{**given, **arguments}, progress=False)


SPLIT = data.Split(W, np.array([0, 1]))
ROWS = [  # callable, arguments it takes, {argument: what it must refuse}
    *(
        (getattr(r, method), {"w": W, **({"strength": 0.5} if method == "prox" else {})}, bad)
        for r in (prox.BinaryL1(), prox.LevelsL2((-1, 0, 1)), prox.TernaryL2(), prox.MultiBitL2(2))
        for method, bad in {
            "value": {"w": BAD_WEIGHTS},
            "project": {"w": BAD_WEIGHTS, "out": [np.zeros(3, np.float32), np.zeros((2, 2)), 3]},
            "levels": {"w": BAD_WEIGHTS},
            "prox": {"w": BAD_WEIGHTS, "strength": BAD_STRENGTHS},
        }.items()
    ),
    (prox.LevelsL1, {"values": (-1, 1)}, {"values": [(), (NAN, 1), (INF,), "ab", None]}),
    (prox.MultiBitL2, {"n_bits": 2}, {"n_bits": NO_COUNTS, "axis": [1.5, "a"]}),
    (prox.Parq, {"regularizer": prox.BinaryL1()}, {"regularizer": [None, 3, prox.BinaryL1]}),
    (prox.Linear, {"rate": 0.1}, {"rate": NO_NUMBERS}),
    (prox.Constant, {"lam": 0.1}, {"lam": NO_NUMBERS}),
    (
        prox.Geometric,
        {"initial": 0.1, "ratio": 1.1},
        {"initial": NO_NUMBERS, "ratio": NO_NUMBERS},
    ),
    (
        lambda **a: optim.SGD([parameter()], **a),
        {"lr": 0.1},
        {"lr": NO_NUMBERS, "momentum": [*NO_NUMBERS, 1.0], "weight_decay": NO_NUMBERS},
    ),
    (
        lambda **a: optim.Adam([parameter()], **a),
        {"lr": 0.1},
        {"lr": NO_NUMBERS, "eps": NO_NUMBERS, "betas": [0.9, (0.9,), None, "a"]},
    ),
    (
        lambda **a: optim.SGD(lr=0.1, **a),
        {"params": [parameter()]},
        {"params": [None, 3, [], [W], ["a"], parameter(), [Tensor([1])]]},
    ),
    *(
        (
            lambda wrapper=wrapper, **a: (
                lambda p: wrapper(**{"base": optim.SGD([p], 0.1), "params": [p], **a})
            )(parameter()),
            {"regularizer": prox.BinaryL1(), "homotopy": prox.Linear(0.1)},
            {
                "base": [None, 3, optim.SGD],
                "params": [None, [], [parameter()], [W]],
                "regularizer": [None, "BinaryL1", prox.BinaryL1],
                "homotopy": [0.1, "Linear"],
            },
        )
        for wrapper in (optim.ProxGradient, optim.DualAveraging)
    ),
    (
        lambda **a: optim.Bop(optim.SGD([p := parameter()], 0.1), [p], **a),
        {},
        {"threshold": NO_NUMBERS, "adaptivity": NO_NUMBERS},
    ),
    (
        lambda **a: optim.clip_grad_norm(**{"params": [parameter()], **a}),
        {"max_norm": 1.0},
        {"max_norm": NO_NUMBERS, "params": [None, 3]},
    ),
    (
        lambda **a: pq.quantize_and_freeze(**{"params": [parameter()], **a}),
        {"regularizer": prox.BinaryL1()},
        {"params": [None, [], [W]], "regularizer": [None, 3]},
    ),
    (
        fit,
        {},
        {
            "steps": NO_COUNTS,
            "batch_size": [*NO_COUNTS, 3],
            "length": [0, -1, 1.5, "a"],
            "max_norm": [NAN, -1.0, "a"],
            "seed": [-1, 1.5, None, "a"],
            "checkpoint_every": NO_COUNTS,
            "regularizer": [3, "BinaryL1"],
            "model": [None, 3, nn.Linear],
            "optimizer": [None, 3, optim.SGD],
            "train": [None, 3, (W,), (W, np.zeros(3, int))],
            "validation": [3, (W,), (W, np.zeros(3, int))],
            "schedule": [3, "a"],
            "prepare": [3, "a"],
        },
    ),
    (metrics.sign_change, {"a": W, "b": W}, {"a": [[NAN], [], W[0], [1]], "b": [[NAN], W[0]]}),
    (
        metrics.quantization_gap,
        {"w": W, "regularizer": prox.BinaryL1()},
        {"w": [[NAN], [], [1], "a", None]},
    ),
    (nn.Linear, {"in_features": 2, "out_features": 2}, {"in_features": NO_COUNTS}),
    (nn.Linear, {"in_features": 2, "out_features": 2}, {"out_features": NO_COUNTS}),
    (
        nn.Conv2d,
        {"in_channels": 1, "out_channels": 1, "kernel_size": 3},
        {name: NO_COUNTS for name in ("in_channels", "out_channels", "kernel_size", "groups")},
    ),
    (nn.BatchNorm1d, {"num_features": 2}, {"num_features": NO_COUNTS}),
    (nn.Embedding, {"num_embeddings": 2, "embedding_dim": 2}, {"num_embeddings": NO_COUNTS}),
    (nn.LSTM, {"input_size": 2, "hidden_size": 2}, {"input_size": NO_COUNTS}),
    (models.MLP, {"sizes": (2, 2)}, {"sizes": [(), (2,), (0, 2), (2, -1), (2, 1.5), "ab"]}),
    (models.ResNet, {"depth": 8}, {"depth": [0, 7, -4, 8.0, None], "width": NO_COUNTS}),
    (
        models.LSTMLanguageModel,
        {"vocabulary_size": 5, "embedding_size": 4, "hidden_size": 4},
        {"vocabulary_size": NO_COUNTS, "hidden_size": NO_COUNTS, "dropout": [-1, 2, NAN]},
    ),
    (
        F.cross_entropy,
        {"input": Tensor(W), "target": np.array([0, 1])},
        {"target": [np.array([0, 2]), np.array([-1, 0]), np.array([0.0, 1.0]), np.array([0])]},
    ),
    (F.dropout, {"input": Tensor(W), "rng": np.random.default_rng(0)}, {"p": [-1, 2, NAN]}),
    (data.load_text, {}, {"level": ["byte", None, 3]}),
    (
        lambda **a: data.Vocabulary.of("ab", "word", **a),
        {"size": 3},
        {"size": [0, 1, -1, "a", 2.5]},
    ),
    (
        data.chunks,
        {"split": data.Split(np.arange(9), np.arange(9)), "batch_size": 2, "length": 2},
        {"batch_size": [0, -1, 10, 1.5, "a", None], "length": [0, -1, 1.5, "a", None]},
    ),
    (
        lambda **a: pq.pack(**{"model": model(), "path": "/none/x.npz", **a}),
        {"regularizer": prox.BinaryL1()},
        {"model": [None, 3], "regularizer": [None, "BinaryL1"], "params": [[parameter()]]},
    ),
]
CASES = [
    pytest.param(call, {**good, name: value}, name, id=f"{i}-{name}-{value!r:.25}")
    for i, (call, good, bad) in enumerate(ROWS)
    for name, values in bad.items()
    for value in values
]


@pytest.mark.parametrize(("call", "arguments", "name"), CASES)
def test_it_is_refused_by_name(call, arguments, name):
    with pytest.raises((ValueError, TypeError)) as raised:
        call(**arguments)
    said = str(raised.value)
    assert name in said and "unexpected keyword" not in said, f"{type(raised.value)}: {said}"


@pytest.mark.parametrize(("call", "arguments"), [row[:2] for row in ROWS])
def test_what_the_table_takes_is_taken(call, arguments):
    if call is not ROWS[-1][0]:  # which has nowhere to write to
        call(**arguments)


MASKED = np.ma.masked_array([1.0, 2.0], mask=[False, True])


def step_with_gradient(m):
    p = pq.nn.Parameter([1.0, 2.0])
    p.grad = m
    pq.optim.SGD([p], 0.1).step()


def step_of_point(m):
    p = pq.nn.Parameter([1.0, 2.0])
    p.grad = np.ones(2)
    pq.optim.SGD([p], 0.1).step({p: m})


@pytest.mark.parametrize(
    "takes",
    [
        Tensor,
        pq.nn.Parameter,
        lambda m: Tensor([m, m]),
        lambda m: prox.BinaryL1().prox([m, m], 0.1),
        lambda m: prox.BinaryL1().prox([1.0, 2.0], 0.1, out=m),
        prox.Levels,
        lambda m: prox.Rounded([0, 1, 2], "up", m),
        lambda m: (Tensor([1.0, 2.0], requires_grad=True) * 2).backward(m),
        step_with_gradient,
        step_of_point,
        lambda m: pq.training.save_checkpoint("masked.npz", {"w": m}, {}),
        F.relu,
        lambda m: Tensor([1.0, 2.0]) * m,
        lambda m: F.where(np.array([True, False]), Tensor([1.0, 2.0]), m),
        prox.BinaryL1().project,
        lambda m: prox.TernaryL2().prox(m, 0.1),
        lambda m: pq.conformance.check_gradient(np.sum, np.ones_like, m),
    ],
)
def test_masks_are_not_dropped_silently(takes):
    with pytest.raises(TypeError, match=r"no mask, got a masked array of shape \(2,\), 1 of it"):
        takes(MASKED)
    masked = lambda w: np.ma.masked_array(np.where(w >= 0, 1, -1).astype(w.dtype))  # noqa: E731
    assert pq.conformance.check_quantizer(masked, "binary").verdict == "misuse"
