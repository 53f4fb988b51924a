"""Running packed: products against the float ones, layers and networks that keep their codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxquant_np as pq
from proxquant_np import data, nn, packing, prox
from proxquant_np.models import MLP, LSTMLanguageModel, ResNet
from proxquant_np.packing import PackedLinear, PackedMatrix, pack_signs, product, sign_product
from proxquant_np.packing.codes import Codes
from proxquant_np.training import fit, metrics

REGULARIZERS = [
    prox.BinaryL1(),
    prox.TernaryL2(),
    prox.TernaryL2(axis=0),
    prox.MultiBitL2(1, axis=0),
    prox.MultiBitL2(3),
    prox.MultiBitL2(4, axis=0),
    prox.UniformL2(8),
    prox.LevelsL1((0.5,)),
]


@given(
    st.sampled_from(REGULARIZERS),
    st.integers(1, 9),
    st.integers(1, 70),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32),
)
def test_rows_and_product(regularizer, n_rows, columns, dtype, seed):
    rng = np.random.default_rng(seed)
    w = regularizer.project(rng.normal(size=(n_rows, columns)).astype(dtype))
    matrix = PackedMatrix(Codes.of(w, regularizer, frozen=True))
    np.testing.assert_array_equal(matrix.rows(slice(None)), w)
    some = slice(n_rows // 3, n_rows // 2 + 1)
    np.testing.assert_array_equal(matrix.rows(some), w[some])
    x = rng.normal(size=(2, 3, columns)).astype(dtype)
    y = matrix.product(x)
    assert y.dtype == dtype
    rounding = 2 * columns * np.finfo(dtype).eps * (np.abs(x) @ np.abs(w).T)
    assert (np.abs(y - x @ w.T) <= rounding).all()


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
def test_in_blocks_of_any_size(regularizer, monkeypatch):
    """Blocks of one row, of some, and more than there are."""
    w = np.random.default_rng(0).normal(size=(7, 5))
    matrix = PackedMatrix(Codes.of(w, regularizer))
    whole = matrix.rows(slice(None))
    for rows in (0, 1, 3, 7, 100):
        monkeypatch.setattr(product, "_BLOCK", rows * w[0].nbytes)
        blocks = list(matrix.blocks())
        assert {len(b) for b in blocks[:-1]} <= {max(rows, 1)}
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_memory():
    w = np.random.default_rng(0).normal(size=(256, 1024)).astype(np.float32)
    for regularizer, per_weight in (
        (prox.BinaryL1(), 1 / 8),
        (prox.TernaryL2(), 1 / 4),
        (prox.MultiBitL2(3), 1 / 2),  # in memory, 3 bits take 4
        (prox.UniformL2(8), 1),
    ):
        matrix = PackedMatrix(Codes.of(w, regularizer))
        assert matrix.nbytes == w.size * per_weight + matrix.levels.nbytes


def test_codes_that_have_no_matrix():
    w = np.random.default_rng(0).normal(size=(4, 6))
    for regularizer in (prox.MultiBitL2(1, axis=1), prox.MultiBitL2(1, block=3)):
        with pytest.raises(ValueError, match="levels for all or for each row, got"):
            PackedMatrix(Codes.of(w, regularizer))
    with pytest.raises(ValueError, match=r"at most 8 bits, .* got 9 bits"):
        PackedMatrix(Codes.of(w, prox.LevelsL2(range(257))))


# Signs -------------------------------------------------------------------------------------------


@given(st.integers(0, 5), st.integers(1, 6), st.integers(1, 200), st.integers(0, 2**32))
def test_sign_product_is_exact(n, rows, columns, seed):
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-1, 2, (k, columns)).astype(np.float32) for k in (max(n, 1), rows))
    found = sign_product(pack_signs(x), pack_signs(w), columns)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, prox.sign_pm(x) @ prox.sign_pm(w).T)


def test_sign_product_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    x, w = pack_signs(rng.normal(size=(3, 130))), pack_signs(rng.normal(size=(20, 130)))
    whole = sign_product(x, w, 130)
    monkeypatch.setattr(product, "_BLOCK", 32 * 3 * 7)  # 7 rows
    np.testing.assert_array_equal(sign_product(x, w, 130), whole)


def test_sign_mistakes():
    x = pack_signs(np.ones((2, 65)))
    with pytest.raises(ValueError, match="columns=64 must fit both widths"):
        sign_product(x, x, 64)
    with pytest.raises(ValueError, match="columns=65 must fit both widths"):
        sign_product(x, pack_signs(np.ones((2, 64))), 65)
    with pytest.raises(ValueError, match=r"x must be a matrix, got shape \(3,\)"):
        pack_signs(np.ones(3))
    with pytest.raises(ValueError, match="NaN"):
        pack_signs(np.full((1, 2), np.nan))


# Networks ----------------------------------------------------------------------------------------


def trained(model, train, steps, tmp_path, regularizer=prox.BinaryL1()):  # noqa: B008
    """The packed file of a network trained to be binary, and its deployed twin."""
    weights = nn.quantizable_parameters(model)
    optimizer = pq.optim.DualAveraging(
        pq.optim.Adam(model.parameters(), 0.01), weights, regularizer, clip=True
    )
    fit(model, optimizer, train, steps=steps, batch_size=32, progress=False)
    pq.pack(model, regularizer, tmp_path / "net.npz")
    return tmp_path / "net.npz", metrics.quantized_copy(model, regularizer)


def bytes_of_weights(model):
    """Of layers that have a weight, packed or not."""
    found = (getattr(m, "matrix", getattr(m, "weight", None)) for _, m in model.named_modules())
    return sum(getattr(w, "nbytes", 0) or w.data.nbytes for w in found if w is not None)


@pytest.mark.parametrize("unpack", [True, False])
def test_packed_digits_mlp_makes_the_same_errors(unpack, tmp_path):
    train, validation, _ = data.load_digits()
    file, deployed = trained(MLP(), train, 200, tmp_path)
    before = metrics.evaluate(deployed, *validation)
    loaded = pq.load_packed(file, unpack=unpack)
    after = metrics.evaluate(loaded, *validation)
    assert before.error < 0.3  # it has learnt something
    assert after.error == before.error
    assert after.loss == pytest.approx(before.loss, rel=0 if unpack else 1e-6)
    kinds = [type(layer).__name__ for layer in loaded.layers]
    assert kinds.count("Linear" if unpack else "PackedLinear") == 3


@pytest.mark.parametrize("unpack", [True, False])
def test_packed_resnet_makes_the_same_errors(unpack, tmp_path):
    train, validation, _ = data.load_digits()
    images = [data.Split(s.x.reshape(-1, 1, 8, 8), s.y) for s in (train, validation)]
    file, deployed = trained(ResNet(8, 8, 1), images[0], 60, tmp_path)
    before = metrics.evaluate(deployed, *images[1])
    loaded = pq.load_packed(file, unpack=unpack)
    after = metrics.evaluate(loaded, *images[1])
    assert before.error < 0.5
    assert after.error == before.error
    assert after.loss == pytest.approx(before.loss, rel=0 if unpack else 1e-6)
    if not unpack:
        assert type(loaded.layer1[0].conv1).__name__ == "PackedConv2d"
        assert type(loaded.layer2[0].shortcut[0]).__name__ == "Conv2d"  # never quantized
        assert bytes_of_weights(loaded) < bytes_of_weights(deployed) / 4


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (LSTMLanguageModel(7, 4, 5), np.arange(6).reshape(3, 2)),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 3)),
            np.random.default_rng(0).normal(size=(2, 4, 6, 6)),
        ),
    ],
)
def test_what_cannot_run_packed_stays_in_float(model, x, tmp_path):
    """The recurrent layer and the embedding; the convolution with groups."""
    x = x if x.dtype.kind == "i" else x.astype(np.float32)
    pq.pack(model, prox.TernaryL2(), tmp_path / "net.npz")
    plain = pq.load_packed(tmp_path / "net.npz", model)(x)
    packed = pq.load_packed(tmp_path / "net.npz", model, unpack=False)(x)
    if isinstance(model, LSTMLanguageModel):
        plain, packed = plain[0], packed[0]
    np.testing.assert_allclose(packed.data, plain.data, rtol=1e-5, atol=1e-6)
    assert sum(hasattr(m, "matrix") for _, m in model.named_modules()) == 1


@pytest.mark.parametrize("block", [1 << 20, 64])
def test_layers_with_bias_stride_and_padding(block, monkeypatch):
    monkeypatch.setattr(product, "_BLOCK", block)
    rng = np.random.default_rng(0)
    conv = nn.Conv2d(3, 6, (3, 2), stride=(1, 2), padding=(1, 0), dilation=2, rng=rng)
    linear = nn.Linear(11, 5, rng=rng)
    for layer, x in ((conv, rng.normal(size=(2, 3, 9, 8))), (linear, rng.normal(size=(2, 4, 11)))):
        prox.BinaryL1().project(layer.weight.data, out=layer.weight.data)
        codes = Codes.of(layer.weight.data, prox.BinaryL1())
        kind = PackedLinear if layer is linear else packing.PackedConv2d
        x = pq.Tensor(x.astype(np.float32))
        np.testing.assert_allclose(kind(layer, codes)(x).data, layer(x).data, atol=1e-5)
