"""Convolution and pooling: against loops, by difference quotients, and against frozen vectors.

The comparison with PyTorch itself, which also makes the frozen vectors, is in test_conv_torch.py.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from contextvars import ContextVar, copy_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import entries, lay_out, layouts, seeds

import proxquant_np as pq
import proxquant_np.functional as F
from proxquant_np import Tensor, gradcheck
from proxquant_np.autograd import conv, threads, winograd

FROZEN = Path(__file__).with_name("frozen") / "conv.npz"


def pair(value):
    return (value, value) if isinstance(value, int) else value


def convolve(x, weight, bias, stride=1, padding=0, dilation=1, groups=1):
    """The definition: a loop for every index."""
    (sh, sw), (ph, pw), (dh, dw) = pair(stride), pair(padding), pair(dilation)
    (n, _, h, w), (n_out, n_in, kh, kw) = x.shape, weight.shape
    oh = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    ow = (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, n_out, oh, ow), x.dtype)
    for i, o, r, q in np.ndindex(*y.shape):
        y[i, o, r, q] = 0 if bias is None else bias[o]
        first = o // (n_out // groups) * n_in  # of the channels that o's group sees
        for c, a, b in np.ndindex(n_in, kh, kw):
            row, pixel = sh * r + dh * a - ph, sw * q + dw * b - pw
            if 0 <= row < h and 0 <= pixel < w:
                y[i, o, r, q] += weight[o, c, a, b] * x[i, first + c, row, pixel]
    return y


def pool(reduce, x, kernel, stride, padding, dilation=1, ceil_mode=False, fill=0.0):
    """The definition: `reduce` over every window, over NaN beyond the padding."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel, stride, padding, dilation))

    def windows(size, k, s, p, d):
        """How many fit; rounding up, the next as long as pixels are left, if it starts early."""
        n = (size + 2 * p - d * (k - 1) - 1) // s + 1
        if ceil_mode and s * (n - 1) + d * (k - 1) + 1 < size + 2 * p and s * n < size + p:
            n += 1
        return n

    oh, ow = windows(x.shape[2], kh, sh, ph, dh), windows(x.shape[3], kw, sw, pw, dw)
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    x = np.pad(
        x, ((0, 0), (0, 0), (0, sh * ceil_mode), (0, sw * ceil_mode)), constant_values=np.nan
    )
    y = np.empty((*x.shape[:2], oh, ow), x.dtype)
    for r, q in np.ndindex(oh, ow):
        window = x[:, :, sh * r : sh * r + dh * kh : dh, sw * q : sw * q + dw * kw : dw]
        y[:, :, r, q] = reduce(window[:, :, :kh, :kw], axis=(2, 3))
    return y


def one_or_two(least, most):
    """A number for both axes, or a pair."""
    number = st.integers(least, most)
    return number | st.tuples(number, number)


@st.composite
def convolutions(draw, side=7):
    """Input shape, weight shape and options that fit each other.

    Half of them have three rows, stride 1 and no dilation: those of winograd.py.
    """
    quick = draw(st.booleans())
    groups = 1 if quick else draw(st.integers(1, 3))
    options = {
        "stride": 1 if quick else draw(one_or_two(1, 4)),
        "padding": draw(one_or_two(0, 3)),
        "dilation": 1 if quick else draw(one_or_two(1, 3)),
        "groups": groups,
    }
    kernel = (3 if quick else draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    size = []
    for axis in range(2):
        p, d = pair(options["padding"])[axis], pair(options["dilation"])[axis]
        least = max(1, d * (kernel[axis] - 1) + 1 - 2 * p)
        size.append(draw(st.integers(least, max(least, side))))
    n_in, n_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    return (
        (draw(st.integers(0, 3)), n_in, *size),
        (n_out, n_in // groups, *kernel),
        options,
    )


@st.composite
def poolings(draw):
    """Input shape and options; no window lies in the padding altogether."""
    kernel = draw(one_or_two(1, 3))
    halves = [k // 2 for k in pair(kernel)]
    padding = draw(st.sampled_from([0, min(halves), tuple(halves)]))
    dilation = 1 if padding else draw(one_or_two(1, 2))
    least = [d * (k - 1) + 1 for k, d in zip(pair(kernel), pair(dilation), strict=True)]
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 3)))
    shape += tuple(draw(st.integers(n, n + 4)) for n in least)
    return shape, {
        "kernel_size": kernel,
        "stride": draw(st.none() | one_or_two(1, 3)),
        "padding": padding,
        "dilation": dilation,
    }


@pytest.fixture(params=[None, 200], ids=["whole", "in pieces"])
def pieces(request, monkeypatch):
    """With the size of the pieces as it is, or so small that images are cut into many."""
    if request.param:
        monkeypatch.setattr(conv, "_PIECE", request.param)
        monkeypatch.setattr(winograd, "_PIECE", request.param)
        monkeypatch.setattr(threads, "_SMALL", 0)
        monkeypatch.setattr(threads, "_count", ContextVar("count", default=2))


@pytest.mark.usefixtures("pieces")
@given(convolutions(), seeds, layouts, st.booleans())
def test_conv2d_is_six_loops(arguments, seed, layout, biased):
    shape, weight_shape, options = arguments
    x, w = lay_out(entries_(shape, seed), layout), entries_(weight_shape, seed + 1)
    b = entries(weight_shape[:1], seed) if biased else None
    y = F.conv2d(x, w, b, **options).data
    np.testing.assert_allclose(y, convolve(x, w, b, **options), rtol=0, atol=1e-11)


def entries_(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.usefixtures("pieces")
@given(convolutions(5), seeds)
def test_conv2d_gradients(arguments, seed):
    """The operation is linear in each input, so that no step of the quotient is too long."""
    shape, weight_shape, options = arguments
    inputs = [entries_(s, seed) for s in (shape, weight_shape, weight_shape[:1])]
    assert gradcheck(lambda x, w, b: F.conv2d(x, w, b, **options), inputs)


@given(poolings(), seeds, layouts, st.booleans(), st.booleans())
def test_pooling_is_loops(arguments, seed, layout, ceil_mode, count_include_pad):
    shape, options = arguments
    x = lay_out(entries_(shape, seed), layout)
    options["ceil_mode"] = ceil_mode
    given_ = dict(options, stride=options["stride"] or options["kernel_size"])
    largest = pool(np.nanmax, x, **renamed(given_), fill=-np.inf)
    assert np.array_equal(F.max_pool2d(x, **options).data, largest)
    del options["dilation"], given_["dilation"]
    options["count_include_pad"] = count_include_pad
    if options["kernel_size"] != 1 or x.size:
        y = F.avg_pool2d(x, **options).data if min(largest.shape[2:]) else None
        fill = 0.0 if count_include_pad else np.nan
        mean = pool(np.nanmean, x, **renamed(given_), fill=fill)
        np.testing.assert_allclose(y, mean, rtol=0, atol=1e-12)
        kernel = pair(options["kernel_size"])
        total = F.avg_pool2d(x, **options, divisor_override=1).data
        if not ceil_mode and count_include_pad:
            np.testing.assert_allclose(total, mean * kernel[0] * kernel[1], rtol=0, atol=1e-12)


def renamed(options):
    return {"kernel" if k == "kernel_size" else k: v for k, v in options.items()}


@given(poolings(), seeds, st.booleans(), st.booleans(), st.sampled_from([None, 3]))
def test_pooling_gradients(arguments, seed, ceil_mode, count_include_pad, divisor):
    shape, options = arguments
    options["ceil_mode"] = ceil_mode
    x = np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape) / 8.0
    assert gradcheck(lambda x: F.max_pool2d(x, **options), x)
    del options["dilation"]
    options |= {"count_include_pad": count_include_pad, "divisor_override": divisor}
    assert gradcheck(lambda x: F.avg_pool2d(x, **options), x)


def test_of_equal_largest_values_the_first_gets_the_gradient():
    x = Tensor(np.ones((1, 1, 2, 4)), True)
    F.max_pool2d(x, 2).backward([[[[3.0, 5.0]]]])
    assert np.array_equal(x.grad, [[[[3, 0, 5, 0], [0, 0, 0, 0]]]])


@pytest.mark.parametrize("stride", [1, 2])
def test_nan_is_the_largest_and_gets_the_gradient(stride):
    """And an infinite gradient gives no NaN where nothing is due."""
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 0] = np.nan
    x = Tensor(x, True)
    y = F.max_pool2d(x, 2, stride)
    g = np.ones(y.shape)
    g[0, 0, -1, -1] = np.inf
    y.backward(g)
    assert np.isnan(y.data[0, 0, 0, 0]) and x.grad[0, 0, 0, 0] == 1 and x.grad[0, 0, 3, 3] == np.inf
    assert not np.isnan(x.grad).any() and x.grad[np.isfinite(x.grad)].sum() == y.size - 1


def test_padding_by_name():
    x, w = entries_((2, 1, 5, 6), 0), entries_((1, 1, 3, 4), 1)
    assert np.array_equal(F.conv2d(x, w, padding="valid").data, F.conv2d(x, w).data)
    same = F.conv2d(x, w, padding="same", dilation=(1, 3)).data
    shifted = convolve(np.pad(x, ((0, 0), (0, 0), (1, 1), (4, 5))), w, None, dilation=(1, 3))
    np.testing.assert_allclose(same, shifted)
    assert same.shape == x.shape


@pytest.mark.parametrize("channels", [1, 2])
def test_one_image_without_batch_axis(channels):
    x, w = entries_((channels, 5, 4), 0), entries_((3, channels, 2, 2), 1)
    np.testing.assert_allclose(F.conv2d(x, w).data, convolve(x[None], w, None)[0])
    for op in (
        lambda x: F.conv2d(x, w),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 2),
    ):
        one, batch = Tensor(x, True), Tensor(x[None], True)
        y, batch_y = op(one), op(batch)
        assert np.array_equal(y.data, batch_y.data[0])
        y.backward(y.data)
        batch_y.backward(batch_y.data)
        assert np.array_equal(one.grad, batch.grad[0])


def test_weight_gradient_alone_is_the_same():
    """The first layer's input wants no gradient, and takes another path."""
    x, w = entries_((3, 2, 6, 5), 0), [Tensor(entries_((4, 2, 3, 2), 1), True) for _ in range(2)]
    for leaf, wants in zip(w, (True, False), strict=True):
        y = F.conv2d(Tensor(x, wants), leaf, stride=2, padding=1)
        y.backward(np.cos(np.arange(y.size)).reshape(y.shape))
    assert np.array_equal(w[0].grad, w[1].grad)


def test_first_layers_weights_learn_from_the_images():
    """Winograd's sums and differences are then those of x, not of g: the same up to rounding."""
    x, w = entries_((3, 2, 7, 5), 0), [Tensor(entries_((4, 2, 3, 2), 1), True) for _ in range(2)]
    for leaf, wants in zip(w, (True, False), strict=True):
        y = F.conv2d(Tensor(x, wants), leaf, padding=(0, 1))
        y.backward(np.cos(np.arange(y.size)).reshape(y.shape))
    np.testing.assert_allclose(w[0].grad, w[1].grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    x, w, b = (
        Tensor(entries_(s, 0).astype(dtype), True) for s in ((2, 1, 4, 4), (3, 1, 2, 2), (3,))
    )
    y = F.avg_pool2d(F.max_pool2d(F.conv2d(x, w, b), 2, 1), 2)
    y.backward(np.ones(y.shape))
    assert {a.dtype for a in (y, x.grad, w.grad, b.grad)} == {np.dtype(dtype)}


X, W = np.zeros((2, 4, 5, 5)), np.zeros((6, 4, 3, 3))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"input must have shape \(n, c, h, w\).*got \(5, 5\)", lambda: F.conv2d(X[0, 0], W)),
        (r"weight must have .*got \(6, 4, 3\)", lambda: F.conv2d(X, W[..., 0])),
        (r"must have 3 channels .* got shape \(2, 4, 5, 5\)", lambda: F.conv2d(X, W[:, :3])),
        ("divisor of 6 outputs, got 4", lambda: F.conv2d(X, W[:, :1], groups=4)),
        ("groups must be", lambda: F.conv2d(X, W, groups=0)),
        (r"bias must have shape \(6,\), got \(5,\)", lambda: F.conv2d(X, W, np.zeros(5))),
        ("stride must be one or two integers >= 1, got 0", lambda: F.conv2d(X, W, stride=0)),
        ("stride must be", lambda: F.conv2d(X, W, stride=1.5)),
        ("dilation must be", lambda: F.conv2d(X, W, dilation=(1, 2, 3))),
        ("padding must be one or two integers >= 0", lambda: F.conv2d(X, W, padding=-1)),
        ("padding must be .* got 'full'", lambda: F.conv2d(X, W, padding="full")),
        ("stride must be 1 for padding='same'", lambda: F.conv2d(X, W, stride=2, padding="same")),
        (
            r"kernel must fit into the padded input, got kernel \(3, 3\)",
            lambda: F.conv2d(X[..., :2], W),
        ),
        ("kernel must fit into the padded input", lambda: F.max_pool2d(X, 6)),
        ("at most half of kernel_size", lambda: F.max_pool2d(X, 3, padding=2)),
        ("at most half of kernel_size", lambda: F.avg_pool2d(X, (1, 2), padding=1)),
        ("kernel_size must be", lambda: F.avg_pool2d(X, 0)),
        ("divisor_override must", lambda: F.avg_pool2d(X, 1, divisor_override=0)),
        ("stride must be", lambda: F.max_pool2d(X, 2, stride=0)),
    ],
)
def test_what_does_not_fit_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="input must be float32 or float64, got int64"):
        F.max_pool2d(X.astype(int), 2)
    with pytest.raises(TypeError, match="weight must be float32 like input, got float64"):
        F.conv2d(X.astype(np.float32), W)


@pytest.mark.parametrize("layout", ["images last", "channels last", "as in PyTorch", "reversed"])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 1), ((3, 2), 2), ((1, 1), 2)])
def test_any_memory_order_read_only_too(kernel, stride, layout):
    """The same bits, whatever order the pixels lie in; nothing is written to."""
    order = {"images last": (2, 3, 1, 0), "channels last": (0, 2, 3, 1)}.get(layout, (0, 1, 2, 3))
    results = []
    for rearranged in (False, True):
        x, w, g = entries_((3, 2, 7, 6), 0), entries_((4, 2, *kernel), 1), None
        if rearranged and layout == "reversed":
            x, w = x[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1], np.asfortranarray(w)
        elif rearranged:
            x = x.transpose(order).copy().transpose(np.argsort(order))
        x.flags.writeable = w.flags.writeable = False
        tensors = Tensor(x, True), Tensor(w, True)
        y = F.conv2d(*tensors, stride=stride, padding=1)
        g = np.broadcast_to(np.cos(np.arange(y.shape[-1])), y.shape)
        y.backward(g)
        results.append([y.data, *(t.grad for t in tensors)])
    for a, b in zip(*results, strict=True):
        assert np.array_equal(a, b)


def test_results_lie_images_last():
    x, w = entries_((3, 2, 6, 6), 0), entries_((4, 2, 3, 3), 1)
    for y in (F.conv2d(x, w, padding=1), F.max_pool2d(x, 2), F.avg_pool2d(x, 2)):
        assert y.data.transpose(2, 3, 1, 0).flags.c_contiguous


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (3, 1), (3, 4)])
def test_winograd_is_exact_on_integers(rows, columns):
    """The sums of rows and the halves of small integers are exact, and so is all that follows."""
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 9, (2, 3, 7, 6)).astype(np.float32)
    w = rng.integers(-8, 9, (4, 3, rows, columns)).astype(np.float32)
    tensors = Tensor(x, True), Tensor(w, True)
    y = F.conv2d(*tensors, padding=1)
    assert np.array_equal(y.data, convolve(x, w, None, padding=1))
    g = rng.integers(-8, 9, y.shape).astype(np.float32)
    y.backward(g)
    assert np.array_equal(
        tensors[1].grad,
        F.conv2d(  # sum over images: channels trade places
            x.transpose(1, 0, 2, 3), g.transpose(1, 0, 2, 3), padding=1
        ).data.transpose(1, 0, 2, 3),
    )


@pytest.mark.parametrize(("channels", "side"), [(16, 32), (64, 8)])
def test_float32_error(channels, side):
    """Of the largest entry, in values and gradients; a sum over the taps has about the same."""
    rng = np.random.default_rng(0)
    shapes = (32, channels, side, side), (channels, channels, 3, 3), (32, channels, side, side)
    arrays = [rng.normal(size=s) for s in shapes]
    results = []
    for dtype in (np.float32, np.float64):
        x, w = (Tensor(a.astype(np.float32).astype(dtype), True) for a in arrays[:2])
        y = F.conv2d(x, w, padding=1)
        y.backward(arrays[2].astype(np.float32))
        results.append((y.data, x.grad, w.grad))
    for rough, exact in zip(*results, strict=True):
        assert np.abs(rough - exact).max() < 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize("stride", [1, 2])
def test_no_matrix_of_windows_ever_exists(stride, monkeypatch):
    """It would be 9 times the input (with stride 2, 2.25). The pieces are small in comparison."""
    monkeypatch.setattr(threads, "_count", ContextVar("count", default=2))
    x = Tensor(np.ones((32, 32, 16, 256), np.float32).transpose(3, 2, 0, 1), True)
    w = Tensor(np.ones((16, 16, 3, 3), np.float32), True)
    tracemalloc.start()
    try:
        y = F.conv2d(x, w, stride=stride, padding=1)
        forward = tracemalloc.get_traced_memory()[1]
        y.backward(y.data)
        both = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert forward - y.data.nbytes < 0.5 * x.data.nbytes
    # both y and g, dx and a copy of it, pieces by two threads
    assert both - 2 * y.data.nbytes < 2.5 * x.data.nbytes


# Threads -----------------------------------------------------------------------------------------


def step(n_threads):
    """Output and gradients of a convolution and a batch norm large enough to be shared out."""
    rng = np.random.default_rng(0)
    shapes = ((9, 8, 32, 32), (8, 8, 3, 3), (8,))
    x, w, c = (Tensor(rng.normal(size=s).astype(np.float32), True) for s in shapes)
    before = threads._count.set(n_threads)
    try:
        y = F.batch_norm(F.conv2d(x, w, padding=1), None, None, c, training=True, relu=True)
        y.backward(rng.normal(size=y.shape))
    finally:
        threads._count.reset(before)
    return [y.data, x.grad, w.grad, c.grad]


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_thread_count_changes_rounding_at_most(n_threads):
    once = step(n_threads)
    for a, b, c in zip(once, step(n_threads), step(1), strict=True):
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=0, atol=2e-5 * np.abs(c).max())


def test_a_task_may_divide_its_own_work():
    """In a thread that takes jobs, all of it: nobody else might be left to take one."""

    def task(start, stop):
        parts = threads.parallel(lambda *span: span, 6, threads._SMALL)
        return start, [entry for part in parts for entry in range(*part)]

    before = threads._count.set(3)
    try:
        divided = threads.parallel(task, 3, threads._SMALL)
    finally:
        threads._count.reset(before)
    assert divided == [(i, [0, 1, 2, 3, 4, 5]) for i in range(3)]


def test_finished_jobs_hold_no_memory():
    array = np.zeros(8)
    held, before = weakref.ref(array), threads._count.set(2)
    try:
        threads.parallel(lambda start, stop, a=array: a[start:stop].sum(), 2, threads._SMALL)
    finally:
        threads._count.reset(before)
    del array
    for _ in range(100):  # the thread drops the job only after it has answered
        if held() is None:
            break
        time.sleep(0.01)
    assert held() is None


def test_threads_see_the_callers_errstate_and_their_errors_reach_it():
    where = []

    def task(start, stop):
        where.append((start, stop, np.geterr()["divide"]))
        return stop - start

    before = threads._count.set(3)
    try:
        with np.errstate(divide="ignore"):
            assert threads.parallel(task, 10, threads._SMALL) == [3, 3, 4]
        assert sorted(where) == [(0, 3, "ignore"), (3, 6, "ignore"), (6, 10, "ignore")]
        with pytest.raises(ZeroDivisionError):
            threads.parallel(lambda start, stop: 1 // (start - 3), 10, threads._SMALL)
    finally:
        threads._count.reset(before)


def in_fresh_process(code, **environment):
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    return run.stdout.strip() or run.stderr.strip().splitlines()[-1]


def test_thread_count_is_set_by_call_or_environment():
    code = "import proxquant_np as pq; {} print(pq.get_num_threads())"
    assert in_fresh_process(code.format(""), PROXQUANT_NUM_THREADS="3") == "3"
    assert in_fresh_process(code.format("pq.set_num_threads(4);")) == "4"
    wrong = in_fresh_process(code.format(""), PROXQUANT_NUM_THREADS="many")
    assert wrong.startswith("ValueError: PROXQUANT_NUM_THREADS must be an integer >= 1, got 'many'")
    for n in (0, -1, 1.5, "2x", None):
        with pytest.raises(ValueError, match="n must be an integer >= 1"):
            pq.set_num_threads(n)


def test_thread_count_belongs_to_the_context():
    """Not to the process: what sets it beside us, in a thread or a task, changes nothing here."""
    pq.set_num_threads(before := pq.get_num_threads())
    seen = []

    def other():
        pq.set_num_threads(before + 1)
        seen.append(pq.get_num_threads())

    async def task():
        other()

    async def tasks():
        await asyncio.gather(task(), task())
        seen.append(pq.get_num_threads())

    try:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        copy_context().run(other)
        asyncio.run(tasks())
        assert seen == [before + 1] * 4 + [before]
        assert pq.get_num_threads() == before
    finally:
        pq.set_num_threads(before)


def test_one_thread_is_held_until_the_last_has_left():
    """As two cells in one process: the first to end must not free BLAS under the other."""
    controls = threads._blas_controls()
    if controls is None:
        pytest.skip("NumPy's BLAS is not one whose threads are known how to count")
    before = pq.get_num_threads()
    pq.set_num_threads(3)
    entered, first_left, counts = threading.Event(), threading.Event(), []

    def second():
        with threads.one_thread():
            entered.set()
            first_left.wait(10)
            counts.append((pq.get_num_threads(), controls[0]()))
        counts.append(controls[0]())

    try:
        thread = threading.Thread(target=second)
        with threads.one_thread():
            thread.start()
            entered.wait(10)
            assert (pq.get_num_threads(), controls[0]()) == (1, 1)
            copy_context().run(pq.set_num_threads, 2)
            assert (pq.get_num_threads(), controls[0]()) == (1, 1)
        assert pq.get_num_threads() == 3
        first_left.set()
        thread.join()
        assert counts == [(1, 1), 2]
    finally:
        pq.set_num_threads(before)


FORK = """
import os, sys, threading
from proxquant_np.autograd import threads

controls = threads._blas_controls()
if not controls:
    sys.exit()
controls[1](2)
inside, leave = threading.Event(), threading.Event()

def train():
    with threads.one_thread():
        inside.set()
        leave.wait()

def report(expected):
    found = controls[0]()
    with threads.one_thread():
        held = controls[0]()
    os._exit((found, held, controls[0]()) != expected)

def forked(expected):
    child = os.fork()
    if not child:
        report(expected)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

thread = threading.Thread(target=train)
thread.start()
inside.wait()
codes = [forked((2, 1, 2))]
with threads.one_thread():  # the thread that forks goes on in the child
    codes.append(forked((1, 1, 1)))
with threads._lock:  # as of a thread that was just about to
    codes.append(forked((2, 1, 2)))
leave.set()
thread.join()
sys.exit(str(codes) if any(codes) or controls[0]() != 2 else 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_leaves_the_other_threads_and_what_they_hold_behind():
    command = [sys.executable, "-W", "ignore", "-c", FORK]  # 3.12 warns of threads at a fork
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_blas_threads_are_put_back():
    controls = threads._blas_controls()
    if controls is None:
        pytest.skip("NumPy's BLAS is not one whose threads are known how to count")
    before = controls[0]()
    for work in (0, threads._SMALL):  # small work, too: BLAS's threads spin on after a product
        assert threads.parallel(lambda *_: controls[0](), 2, work)[0] == 1
    with pytest.raises(KeyError):
        threads.parallel(lambda *_: {}[0], 2, threads._SMALL)
    assert controls[0]() == before


# Frozen vectors ----------------------------------------------------------------------------------

CASES = [  # (input shape, weight shape, options)
    ((2, 3, 7, 6), (4, 3, 3, 3), dict(padding=1)),
    ((2, 4, 8, 8), (6, 4, 1, 1), dict(stride=2)),
    ((1, 4, 9, 7), (4, 2, 3, 2), dict(stride=(2, 3), padding=(1, 2), dilation=(2, 1), groups=2)),
    ((2, 3, 5, 9), (3, 1, 4, 3), dict(stride=3, padding=3, dilation=2, groups=3)),
    ((2, 2, 5, 4), (2, 2, 2, 3), dict(padding="same")),
]
POOLS = [
    ("max_pool2d", dict(kernel_size=3, stride=2, padding=1)),
    ("max_pool2d", dict(kernel_size=2, dilation=2, stride=1)),
    ("avg_pool2d", dict(kernel_size=(3, 2), padding=1)),
]


def given_arrays(shapes, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s) for s in shapes]


def cases():
    """(name, call on (functional, *tensors), arrays)."""
    for i, (shape, weight_shape, options) in enumerate(CASES):
        arrays = given_arrays((shape, weight_shape, weight_shape[:1]), i)
        yield f"conv2d{i}", lambda f, *t, o=options: f.conv2d(*t, **o), arrays
    for i, (name, options) in enumerate(POOLS):
        arrays = given_arrays([(2, 3, 7, 6)], i)
        yield f"{name}{i}", lambda f, x, n=name, o=options: getattr(f, n)(x, **o), arrays


@pytest.mark.parametrize(("name", "call", "arrays"), [pytest.param(*c, id=c[0]) for c in cases()])
def test_frozen_pytorch_vectors(name, call, arrays):
    tensors = [Tensor(a, True) for a in arrays]
    y = call(F, *tensors)
    y.backward(np.cos(np.arange(y.size)).reshape(y.shape))
    with np.load(FROZEN, allow_pickle=False) as frozen:
        for k, ours in enumerate([y.data, *(t.grad for t in tensors)]):
            np.testing.assert_allclose(ours, frozen[f"{name}.{k}"], rtol=0, atol=1e-11)


def test_frozen_file_holds_these_cases_only():
    with np.load(FROZEN, allow_pickle=False) as frozen:
        wanted = {f"{c[0]}.{k}" for c in cases() for k in range(len(c[2]) + 1)}
        assert set(frozen) == wanted
        assert all(np.isfinite(v).all() for v in itertools.chain(frozen.values()))
