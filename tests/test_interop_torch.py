"""States to PyTorch and back."""

import subprocess
import sys

import numpy as np
import pytest

import proxquant_np
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
    with pytest.raises(TypeError, match=r"classifier.bias must be a torch.Tensor, got list"):
        from_torch(model, {**state, "classifier.bias": [1.0]})
    with pytest.raises(KeyError, match="missing"):
        from_torch(model, {})
    with pytest.raises(ValueError, match=r"classifier\.bias must have shape"):
        from_torch(model, {**state, "classifier.bias": torch.zeros(3)})
    from_torch(model, {}, strict=False)


def test_torch_is_imported_on_demand_only():
    code = (
        "import sys, proxquant_np as pq; assert 'torch' not in sys.modules; "
        "pq.interop.torch.to_torch(pq.models.MLP()); assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'jax'"):
        proxquant_np.interop.jax  # noqa: B018
