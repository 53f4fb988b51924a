"""ResNet: size, names, what is quantized, and that it follows PyTorch's step by step."""

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np.models import ResNet


def count(model):
    return sum(p.size for p in model.parameters())


def test_parameter_counts():
    assert count(ResNet(20)) == 272_474
    assert count(ResNet(32)) == 466_906  # 12 more blocks: 2 (9 c^2 + 2 c) for c = 16, 32, 64
    assert count(ResNet(8, 4, 1, 3)) == 5_023


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_depth_is_6n_plus_2(depth):
    with pytest.raises(ValueError, match=rf"depth must be 6n \+ 2.*got {depth}"):
        ResNet(depth)


def test_names_are_the_usual_ones():
    names = list(ResNet(8, 2).state_dict())
    assert names[:6] == ["conv1.weight", *(f"bn1.{n}" for n in ("weight", "bias"))] + [
        f"bn1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")
    ]
    assert {"layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.bias", "linear.bias"} <= set(names)
    assert not [n for n in names if n.startswith("layer1.0.shortcut")]


def test_shortcuts_and_norms_are_not_quantized():
    names = list(pq.quantizable_parameters(ResNet(14, 2)))
    blocks = [f"layer{i}.{j}.conv{k}.weight" for i in (1, 2, 3) for j in (0, 1) for k in (1, 2)]
    assert names == ["conv1.weight", *blocks, "linear.weight"]


def test_starts_he_normal():
    weight = ResNet(8, 32).layer3[0].conv2.weight.data
    assert weight.std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)


def test_odd_images_and_shapes():
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 7)).astype(np.float32)
    y = ResNet(8, 2, num_classes=4)(x)
    assert y.shape == (2, 4) and y.dtype == np.float32


def test_recalibration_reaches_every_norm():
    model = ResNet(8, 2)
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    pq.recalibrate_batch_norm(model, [x, x + 1])
    trackers = [v for n, v in model.state_dict().items() if n.endswith("num_batches_tracked")]
    assert len(trackers) == 9 and all(v == 2 for v in trackers)


@pytest.mark.parametrize(
    ("depth", "size", "dtype", "tolerance"),
    [(8, 12, np.float64, 1e-9), (8, 12, np.float32, 1e-2), (20, 8, np.float64, 1e-8)],
)
def test_follows_pytorch_for_20_adam_steps(depth, size, dtype, tolerance):
    """From one state. Compared are the weights, against how far they have moved.

    Adam's step has the size lr however small the gradient is, so an entry whose float32 gradient
    is all rounding may go either way.
    """
    torch = pytest.importorskip("torch")
    import torch_twins

    from proxquant_np.interop.torch import to_torch

    model = ResNet(depth, 4, rng=0, dtype=dtype)
    twin = torch_twins.ResNet(depth, 4).to(torch.from_numpy(np.zeros(1, dtype)).dtype)
    start = model.state_dict()
    twin.load_state_dict(to_torch(model))
    ours, theirs = (
        pq.optim.Adam(model.parameters(), 1e-3),
        torch.optim.Adam(twin.parameters(), 1e-3),
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.normal(size=(6, 3, size, size)).astype(dtype), rng.integers(0, 10, 6)
        ours.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        ours.step()
        theirs.zero_grad()
        logits = twin(torch.from_numpy(x))
        twin_loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
        twin_loss.backward()
        theirs.step()
        assert loss.item() == pytest.approx(twin_loss.item(), rel=tolerance)
    wanted = {name: value.numpy() for name, value in twin.state_dict().items()}
    for name, value in model.state_dict().items():
        moved = np.abs(wanted[name] - start[name]).mean()
        assert np.abs(value - wanted[name]).mean() <= tolerance * moved, name
