"""States to PyTorch and back."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import proxquant_np
from proxquant_np import nn
from proxquant_np.models import MLP, LSTMLanguageModel, ResNet, SmallCNN

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: bench)")

import torch_twins  # noqa: E402

from proxquant_np.interop.torch import from_torch, to_torch  # noqa: E402


@pytest.mark.parametrize(
    ("make", "make_twin"),
    [
        (lambda: ResNet(14, 3, 1, 7), lambda: torch_twins.ResNet(14, 3, 1, 7)),
        (lambda: SmallCNN(2, 3), lambda: torch_twins.SmallCNN(2, 3)),
    ],
)
def test_there_and_back(make, make_twin):
    model, twin = make(), make_twin()
    assert {n: tuple(v.shape) for n, v in twin.state_dict().items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }
    channels = next(model.parameters()).shape[1]
    x = np.random.default_rng(0).normal(size=(4, channels, 8, 8))
    x = x.astype(np.float32)
    twin(torch.from_numpy(x))  # moves the running statistics
    from_torch(model, twin.state_dict())
    model.eval()
    twin.eval()
    with torch.no_grad():
        np.testing.assert_allclose(model(x).data, twin(torch.from_numpy(x)), rtol=1e-4, atol=1e-5)
    again = make_twin()
    again.load_state_dict(to_torch(model))
    for name, value in twin.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("model", [MLP(), LSTMLanguageModel(5, 4, 4)], ids=["MLP", "LSTM"])
def test_every_model_passes_through(model):
    state = model.state_dict()
    from_torch(model, to_torch(model))
    for name, value in model.state_dict().items():
        assert np.array_equal(value, state[name])


def test_memory_is_not_shared():
    model = SmallCNN(1, 2)
    state = to_torch(model)
    before = model.classifier.bias.data.copy()
    state["classifier.bias"] += 1
    assert np.array_equal(model.classifier.bias.data, before)
    from_torch(model, state)
    state["classifier.bias"] += 1
    np.testing.assert_array_equal(model.classifier.bias.data, before + 1)


def test_any_torch_dtype_and_gradients_in_the_state():
    model = SmallCNN(1, 2)
    state = to_torch(model)
    state["classifier.bias"] = state["classifier.bias"].bfloat16().requires_grad_()
    from_torch(model, state)
    bias = state["classifier.bias"].detach().float().numpy()
    assert np.array_equal(model.classifier.bias.data, bias)


def test_what_does_not_fit_is_refused():
    model = SmallCNN(1, 2)
    state = to_torch(model)
    with pytest.raises(TypeError, match=r"classifier.bias must be a torch.Tensor, got \["):
        from_torch(model, {**state, "classifier.bias": [1.0]})
    with pytest.raises(KeyError, match="missing"):
        from_torch(model, {})
    with pytest.raises(ValueError, match=r"classifier\.bias must have shape"):
        from_torch(model, {**state, "classifier.bias": torch.zeros(3)})
    from_torch(model, {}, strict=False)


def small():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def twin_of(model):
    twin = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )
    twin(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    return twin


@pytest.mark.parametrize("wrap", ["plain", "module.", "_orig_mod.", "_orig_mod.module.", "old"])
def test_names_that_wrappers_and_old_versions_give(wrap):
    model = small()
    state = twin_of(model).state_dict()
    plain = {name: value.numpy() for name, value in state.items()}
    if wrap == "old":
        del state["1.num_batches_tracked"], plain["1.num_batches_tracked"]
    elif wrap != "plain":
        state = {wrap + name: value for name, value in state.items()}
    assert from_torch(model, state) == ([], [])
    for name, value in plain.items():
        assert np.array_equal(model.state_dict()[name], value), name
    if wrap == "module.":  # DataParallel itself
        wrapped = torch.nn.DataParallel(twin_of(model)).state_dict()
        assert from_torch(small(), wrapped) == ([], [])


def test_a_count_that_matters_is_asked_for():
    """With momentum=None the next batch would replace statistics that have no count."""
    model = nn.Sequential(nn.BatchNorm1d(4, momentum=None))
    state = torch.nn.Sequential(torch.nn.BatchNorm1d(4)).state_dict()
    del state["0.num_batches_tracked"]
    with pytest.raises(KeyError, match=r"missing .'0\.num_batches_tracked'"):
        from_torch(model, state)


def test_what_was_not_loaded_is_returned():
    model, state = small(), dict(twin_of(small()).state_dict())
    state["head.weight"] = state.pop("2.bias")
    del state["1.num_batches_tracked"]
    keys = from_torch(model, state, strict=False)
    assert keys.missing_keys == ["2.bias"] and keys.unexpected_keys == ["head.weight"]
    assert repr(keys) == "StateKeys(missing_keys=['2.bias'], unexpected_keys=['head.weight'])"


def test_numbers_that_numpy_has_not_are_widened_or_named():
    layer = nn.Linear(4, 4, bias=False)
    w = torch.eye(4)
    for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "int8", "bool"):
        layer.weight.data[...] = 0
        from_torch(layer, {"weight": w.to(getattr(torch, name))})
        assert np.array_equal(layer.weight.data, np.eye(4)), name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantized and sparse tensors will change
        bad = {
            "sparse_coo": w.to_sparse(),
            "sparse_csr": w.to_sparse_csr(),
            "meta": w.to("meta"),
            "quantized": torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
            "float4": torch.zeros(4, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        }
        for kind, value in bad.items():
            with pytest.raises(TypeError, match=f"weight (must be a dense|has dtype).*{kind}"):
                from_torch(layer, {"weight": value})
        with pytest.raises(TypeError, match=r"weight must have dtype float32 .* complex64"):
            from_torch(layer, {"weight": w.to(torch.complex64)})
    assert np.array_equal(layer.weight.data, np.eye(4))


def test_torch_is_imported_on_demand_only():
    code = (
        "import sys, proxquant_np as pq; assert 'torch' not in sys.modules; "
        "pq.interop.torch.to_torch(pq.models.MLP()); assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'jax'"):
        proxquant_np.interop.jax  # noqa: B018
