"""Convolution, pooling and batch norm of images against PyTorch, over drawn shapes.

    python tests/test_conv_torch.py

writes the frozen vectors that test_conv.py reads.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from test_conv import FROZEN, cases, convolutions, one_or_two, poolings

import proxquant_np as pq
import proxquant_np.functional as F

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: bench)")
TF = torch.nn.functional
DTYPES = st.sampled_from([np.float32, np.float64])


def agree(ours, theirs, arrays):
    """Values and all gradients, to 1e-10 (float64) or 1e-4 (float32) of the largest entry."""
    a = [pq.Tensor(x, True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, twin = ours(*a), theirs(*b)
    assert y.shape == tuple(twin.shape)
    g = np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype)
    y.backward(g)
    twin.backward(torch.from_numpy(g))
    pairs = [(y.data, twin.detach()), *((p.grad, q.grad) for p, q in zip(a, b, strict=True))]
    for p, q in pairs:
        q = q.numpy()
        assert p.shape == q.shape and p.dtype == q.dtype
        rtol = 1e-10 if p.dtype == np.float64 else 1e-4
        np.testing.assert_allclose(p, q, rtol=0, atol=rtol * max(1, np.abs(q).max(initial=0)))


def normal(shapes, seed, dtype):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(dtype) for s in shapes]


@given(convolutions(9), seeds, DTYPES)
def test_conv2d(arguments, seed, dtype):
    shape, weight, options = arguments
    arrays = normal((shape, weight, weight[:1]), seed, dtype)
    agree(lambda *t: F.conv2d(*t, **options), lambda *t: TF.conv2d(*t, **options), arrays)


@given(poolings(), seeds, DTYPES, st.booleans(), st.booleans())
def test_pooling(arguments, seed, dtype, ceil_mode, count_include_pad):
    shape, options = arguments
    options["ceil_mode"] = ceil_mode
    arrays = normal((shape,), seed, dtype)
    agree(lambda x: F.max_pool2d(x, **options), lambda x: TF.max_pool2d(x, **options), arrays)
    del options["dilation"]
    options["count_include_pad"] = count_include_pad
    agree(lambda x: F.avg_pool2d(x, **options), lambda x: TF.avg_pool2d(x, **options), arrays)


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    one_or_two(0, 3),
    one_or_two(-1, 3),
    one_or_two(0, 2),
    st.integers(1, 3),
)
def test_the_same_arguments_are_refused(size, kernel, stride, padding, dilation, groups):
    """Whatever PyTorch refuses is refused, whatever it accepts is accepted."""
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    x, w = np.ones((1, 2, *size)), np.ones((2, 2 // groups or 1, *kernel))
    try:
        wanted = TF.conv2d(torch.from_numpy(x), torch.from_numpy(w), **options)
    except RuntimeError:
        with pytest.raises(ValueError, match="conv2d: "):
            F.conv2d(x, w, **options)
    else:
        np.testing.assert_allclose(F.conv2d(x, w, **options).data, wanted.numpy())


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    one_or_two(0, 4),
    st.none() | one_or_two(0, 3),
    one_or_two(-1, 2),
    one_or_two(0, 2),
    st.booleans(),
)
def test_the_same_poolings_are_refused(size, kernel, stride, padding, dilation, ceil_mode):
    x = np.random.default_rng(0).normal(size=(1, 2, *size))
    options = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    for name, more in (("max_pool2d", {"dilation": dilation}), ("avg_pool2d", {})):
        try:
            wanted = getattr(TF, name)(torch.from_numpy(x), **options, **more)
        except RuntimeError:
            with pytest.raises(ValueError, match=f"{name}: "):
                getattr(F, name)(x, **options, **more)
        else:
            ours = getattr(F, name)(x, **options, **more).data
            np.testing.assert_allclose(ours, wanted.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (32, 16, 12, 12), (7, 3, 31, 41)])
def test_batch_norm_with_residual_and_relu(shape, training, dtype):
    """Small ones, and large ones that go block by block, evenly divisible or not."""
    c = shape[1]
    x, r, w, b = normal((shape, shape, c, c), 0, dtype)
    statistics = [np.zeros(c, dtype), np.ones(c, dtype)]
    twin_statistics = [torch.zeros(c, dtype=torch.tensor(x).dtype) + k for k in (0, 1)]
    x += 3
    for residual in (False, True):
        agree(
            lambda x, r, w, b, with_r=residual: F.batch_norm(
                x, *statistics, w, b, training, residual=r if with_r else r * 0, relu=True
            ),
            lambda x, r, w, b, with_r=residual: TF.relu(
                TF.batch_norm(x, *twin_statistics, w, b, training) + (r if with_r else r * 0)
            ),
            [x, r, w, b],
        )
    for ours, theirs in zip(statistics, twin_statistics, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5 if dtype == np.float32 else 1e-12)


def frozen_vectors():
    """Outputs and gradients of all cases."""
    found = {}
    for name, call, arrays in cases():
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        y = call(TF, *tensors)
        y.backward(torch.from_numpy(np.cos(np.arange(y.numel())).reshape(y.shape)))
        for k, value in enumerate([y, *(t.grad for t in tensors)]):
            found[f"{name}.{k}"] = value.detach().numpy()
    return found


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_frozen_vectors_are_what_pytorch_computes():
    with np.load(FROZEN, allow_pickle=False) as frozen:
        for name, value in frozen_vectors().items():
            np.testing.assert_allclose(frozen[name], value, rtol=0, atol=1e-12)


if __name__ == "__main__":
    np.savez_compressed(FROZEN, **frozen_vectors())
