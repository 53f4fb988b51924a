"""The gradient checker is checked: planted mistakes must be caught, and named correctly.

Each row is an operation with a mistake, the same without, and the input whose gradient is wrong.
"""

import re

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import GradcheckError, Tensor, gradcheck
from proxquant_np.autograd import differentiable

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(3, 3)) for _ in range(3))


@differentiable
def matmul_transposed(a, b):
    return a @ b, lambda g: (g @ b, a.T @ g)


@differentiable
def square_without_its_two(x):
    return x * x, lambda g: g * x


@differentiable
def bias_without_its_sum(x, b):
    return x + b, lambda g: (g, g[0])


@differentiable
def difference_with_a_sign_flipped(a, b):
    return a - b, lambda g: (g, g)


@differentiable
def tanh_wrong_in_one_entry(x):
    y = np.tanh(x)
    slope = 1 - y * y
    slope[1, 2] *= 1 + 1e-5
    return y, lambda g: g * slope


@differentiable
def tanh_undefined_in_one_entry(x):
    y = np.tanh(x)
    slope = 1 - y * y
    slope[2, 0] = np.nan
    return y, lambda g: g * slope


@differentiable
def exp_wrong_in_float32(x):
    y = np.exp(x)
    return y, lambda g: g * y * (1.01 if x.dtype == np.float32 else 1)


@differentiable
def variance_divided_by_n(x):
    return np.var(x, ddof=1), lambda g: g * 2 / x.size * (x - x.mean())


@differentiable
def batch_norm_with_constant_statistics(x, weight, bias):
    scale = 1 / np.sqrt(x.var(axis=0) + 1e-5)
    normal = (x - x.mean(axis=0)) * scale
    return normal * weight + bias, lambda g: (
        g * weight * scale,
        (g * normal).sum(axis=0),
        g.sum(axis=0),
    )


@differentiable
def softmax_without_its_correction(x):
    e = np.exp(x)
    y = e / e.sum(axis=1, keepdims=True)
    return y, lambda g: g * y


_buffer = np.empty((3, 3))


@differentiable
def exp_in_a_buffer_used_again(x):
    saved = np.exp(x, out=_buffer if x.shape == (3, 3) and x.dtype == float else None)
    return saved.copy(), lambda g: g * saved


@differentiable
def product_with_one_array_for_two_gradients(a, b):
    def vjp(g):
        shared = g * b
        first = shared.view()
        return first, np.multiply(g, a, out=shared)

    return a * b, vjp


@differentiable
def relu_with_its_kink_elsewhere(x):
    return np.maximum(x, 0), lambda g: g * (x > -0.2)


@differentiable
def product_that_forgets_its_second_input(a, b):
    return a * b, lambda g: (g * b, np.zeros_like(g))


@differentiable
def concatenate_swapped(a, b):
    return np.concatenate([a, b]), lambda g: (g[len(a) :], g[: len(b)])


@differentiable
def rows_taken_twice_counted_once(x):
    def vjp(g):
        full = np.zeros_like(x)
        full[[0, 0, 2]] = g
        return full

    return x[[0, 0, 2]], vjp


@differentiable
def clip_that_ignores_its_ends(x):
    return np.clip(x, -0.5, 0.5), lambda g: g


@differentiable
def mean_that_forgets_to_divide(x):
    return x.mean(), lambda g: g * np.ones_like(x)


@differentiable
def max_that_pays_everyone(x):
    return x.max(axis=1), lambda g: g[:, None] * np.ones_like(x)


@differentiable
def sqrt_that_divides_by_zero(x):
    return np.sqrt(x * x + 1), lambda g: g * x / np.where(x > 1, 0, np.sqrt(x * x + 1))


def twice(op):
    return lambda x: op(op(x))


def rows(x):
    return F.getitem(x, [0, 0, 2])


PLANTED = [  # the mistake, the operation without it, inputs, the input with the wrong gradient
    (matmul_transposed, F.matmul, [A, B], 0),
    (square_without_its_two, lambda x: x * x, [A], 0),
    (bias_without_its_sum, F.add, [A, B[0]], 1),
    (difference_with_a_sign_flipped, F.sub, [A, B], 1),
    (tanh_wrong_in_one_entry, F.tanh, [A], 0),
    (tanh_undefined_in_one_entry, F.tanh, [A], 0),
    (exp_wrong_in_float32, F.exp, [A.astype(np.float32)], 0),
    (variance_divided_by_n, F.var, [A], 0),
    (
        batch_norm_with_constant_statistics,
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        [A, B[0], C[0]],
        0,
    ),
    (softmax_without_its_correction, lambda x: F.softmax(x, 1), [A], 0),
    (twice(exp_in_a_buffer_used_again), twice(F.exp), [A], 0),
    (product_with_one_array_for_two_gradients, F.mul, [A, B], 0),
    (relu_with_its_kink_elsewhere, F.relu, [A], 0),
    (product_that_forgets_its_second_input, F.mul, [A, B], 1),
    (concatenate_swapped, lambda a, b: F.concatenate([a, b]), [A, B], 0),
    (rows_taken_twice_counted_once, rows, [A], 0),
    (clip_that_ignores_its_ends, lambda x: F.clip(x, -0.5, 0.5), [A], 0),
    (mean_that_forgets_to_divide, F.mean, [A], 0),
    (max_that_pays_everyone, lambda x: F.max(x, 1), [A], 0),
    (sqrt_that_divides_by_zero, lambda x: F.sqrt(x * x + 1.0), [2 * A], 0),
]
REPORT = re.compile(
    r"input (\d+), entry \((.*?)\) of shape .*: gradient (\S+), numerically .* (\S+);"
)


def gradient(op, inputs, i):
    """Of the sum that gradcheck differentiates, in input i."""
    leaves = [Tensor(x.copy(), requires_grad=True) for x in inputs]
    y = op(*leaves)
    with np.errstate(all="ignore"):
        y.backward(np.random.default_rng(0).normal(size=y.shape))
    return leaves[i].grad


@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: p[0].__name__)
def test_wrong_gradient_is_caught_and_named(planted):
    wrong, right, inputs, i = planted
    assert gradcheck(right, inputs)
    with pytest.raises(GradcheckError) as error:
        gradcheck(wrong, inputs)
    report = REPORT.match(str(error.value))
    assert report, str(error.value)
    entry = tuple(int(n) for n in report[2].split(",") if n.strip())
    theirs, ours = gradient(wrong, inputs, i), gradient(right, inputs, i)
    errors = np.nan_to_num(np.abs(theirs - ours), nan=np.inf)
    assert int(report[1]) == i
    assert errors[entry] == errors.max()
    np.testing.assert_allclose(float(report[3]), theirs[entry], rtol=1e-6)
    np.testing.assert_allclose(float(report[4]), ours[entry], rtol=1e-4)


def test_the_mistake_in_float32_does_not_show_in_float64():
    assert gradcheck(exp_wrong_in_float32, A)


@pytest.mark.parametrize(
    ("wrong", "inputs"),
    [
        (matmul_transposed, [A, B]),
        (square_without_its_two, [A]),
        (difference_with_a_sign_flipped, [A, B]),
        (tanh_wrong_in_one_entry, [A]),
        (batch_norm_with_constant_statistics, [A, B[0], C[0]]),
        (softmax_without_its_correction, [A]),
    ],
)
def test_the_complex_step_catches_them_too(wrong, inputs):
    with pytest.raises(GradcheckError, match="complex"):
        gradcheck(wrong, inputs, method="complex")
