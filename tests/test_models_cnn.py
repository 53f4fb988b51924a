"""SmallCNN: shapes, what is quantized, that it learns the digits, that it is PyTorch's network."""

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np.data import load_digits
from proxquant_np.models import SmallCNN


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (4, 5)), (2, (11, 4))])
def test_any_image_size(channels, size):
    model = SmallCNN(channels, width=2, num_classes=7)
    y = model(np.random.default_rng(0).normal(size=(3, channels, *size)).astype(np.float32))
    assert y.shape == (3, 7) and y.dtype == np.float32


def test_weights_of_convolutions_and_classifier_are_quantized():
    model = SmallCNN(width=2)
    names = list(pq.quantizable_parameters(model))
    assert names == [*(f"features.{i}.weight" for i in (0, 3, 6)), "classifier.weight"]
    assert list(pq.quantizable_parameters(model, first=False, last=False)) == names[1:-1]


def test_learns_the_digits():
    (x, y), validation, _ = load_digits(flat=False)
    model = SmallCNN(width=4, rng=0)
    optimizer = pq.optim.Adam(model.parameters(), 1e-2)
    rng = np.random.default_rng(0)
    for _ in range(4):
        for batch in np.array_split(rng.permutation(len(x)), 34):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    model.eval()
    with pq.no_grad():
        assert np.mean(model(validation.x).data.argmax(1) == validation.y) > 0.9


def test_seed_decides():
    states = [SmallCNN(width=2, rng=seed).state_dict() for seed in (1, 1, 2)]
    name = "features.3.weight"
    assert np.array_equal(states[0][name], states[1][name])
    assert not np.array_equal(states[0][name], states[2][name])


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_equals_pytorch(dtype, rtol):
    torch = pytest.importorskip("torch")
    import torch_twins

    model = SmallCNN(2, 3, rng=0, dtype=dtype)
    twin = torch_twins.SmallCNN(2, 3).to(torch.from_numpy(np.zeros(1, dtype)).dtype)
    twin.load_state_dict({n: torch.from_numpy(v) for n, v in model.state_dict().items()})
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2, 9, 8)).astype(dtype), rng.integers(0, 10, 5)
    loss = F.cross_entropy(model(x), y)
    twin_loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    twin_loss.backward()
    assert loss.item() == pytest.approx(twin_loss.item(), rel=rtol)
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        scale = q.grad.abs().max().item()
        np.testing.assert_allclose(p.grad, q.grad, rtol=0, atol=rtol * scale, err_msg=name)
    for name, value in twin.state_dict().items():  # the running statistics too
        np.testing.assert_allclose(model.state_dict()[name], value, rtol=rtol, atol=rtol)
