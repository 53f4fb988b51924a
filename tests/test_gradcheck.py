"""gradcheck on right gradients and on misuse. Wrong gradients: test_checkers.py."""

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import GradcheckError, Tensor, gradcheck
from proxquant_np.autograd import differentiable

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_right_gradients_pass_at_every_scale(method, scale):
    assert gradcheck(lambda x, y: F.tanh(x) @ F.exp(y) * scale, [X, X.T], method=method) is True


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_wrong_gradients_fail_at_every_scale(scale):
    @differentiable
    def wrong(x):
        return scale * x * x, lambda g: 1.99 * scale * g * x

    with pytest.raises(GradcheckError):
        gradcheck(wrong, X)


def test_entries_of_very_different_size():
    """Each is held to its own size; a wrong small one is not hidden by a large one."""
    size = np.array([1e-1, 1.0, 1e3])

    @differentiable
    def wrong(x):
        return size * x * x, lambda g: 2 * g * size * x * [1.001, 1, 1]

    assert gradcheck(lambda x: x * x * size, np.ones(3))
    with pytest.raises(GradcheckError, match=r"entry \(0,\)"):
        gradcheck(wrong, np.ones(3))


def test_large_and_small_inputs():
    assert gradcheck(F.log, np.array([1e-2, 1.0, 1e8]))
    assert gradcheck(F.log, np.array([1e-200, 1.0, 1e200]), method="complex")


def test_float32():
    assert gradcheck(lambda x, y: F.tanh(x) @ F.exp(y), [X.astype("f"), X.T.astype("f")])
    assert gradcheck(lambda x, y: x * y, [X.astype("f"), X])


def test_what_is_not_differentiable_is_passed_on():
    target = np.array([0, 2, 1])
    assert gradcheck(F.cross_entropy, [X, target])
    assert gradcheck(lambda x, t, how: F.cross_entropy(x, t, reduction=how), [X, target, "sum"])
    assert gradcheck(lambda x, dim: F.sum(x, dim), [X, None])


def test_inputs_are_left_alone():
    x = Tensor(X.copy(), requires_grad=True)
    x.data.flags.writeable = False
    assert gradcheck(F.exp, x)
    assert x.grad is None and np.array_equal(x.data, X)


def test_memory_layout_is_passed_on():
    seen = []
    assert gradcheck(
        lambda x: seen.append(x.data.flags.f_contiguous) or x * 2.0, np.asfortranarray(X)
    )
    assert seen[0]


def test_constant_and_unused_inputs_have_gradient_zero():
    assert gradcheck(lambda x, y: x * 2.0, [X, X])
    assert gradcheck(lambda x: x.detach() * 0.0, X)
    with pytest.raises(GradcheckError, match=r"gradient 0, numerically"):
        gradcheck(lambda x: x.detach() * 2.0, X)


def test_empty_arrays():
    assert gradcheck(F.exp, np.zeros((0, 3)))


def test_a_jump_or_a_pole_is_not_a_gradient():
    for pole in (F.log, F.sqrt, lambda x: 1 / x):
        with pytest.raises(GradcheckError, match=r"entry \(1,\)"):
            gradcheck(pole, np.array([1.0, 0.0]))


def test_seed_changes_the_direction_and_rtol_the_verdict():
    @differentiable
    def nearly(x):
        return x * x, lambda g: 2.001 * g * x

    messages = set()
    for seed in (0, 1):
        with pytest.raises(GradcheckError) as error:
            gradcheck(nearly, X, seed=seed)
        messages.add(str(error.value))
    assert len(messages) == 2
    assert gradcheck(nearly, X, rtol=1e-2)


def test_rounding_is_told_from_error_only_by_the_complex_step():
    @differentiable
    def nearly(x):
        return x * x, lambda g: (2 + 1e-8) * g * x

    assert gradcheck(nearly, X)
    with pytest.raises(GradcheckError, match="complex"):
        gradcheck(nearly, X, method="complex")


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            "one of 'central', 'complex', got 'forward'",
            lambda: gradcheck(F.exp, X, method="forward"),
        ),
        (ValueError, "tensor, got int64", lambda: gradcheck(F.exp, np.array([1, 2]))),
        (ValueError, "tensor, got float$", lambda: gradcheck(F.exp, 1.0)),
        (ValueError, "tensor, got float, float$", lambda: gradcheck(F.exp, [1.0, 2.0])),
        (ValueError, "got none", lambda: gradcheck(F.exp, [])),
        (TypeError, "must return a Tensor, got ndarray", lambda: gradcheck(lambda x: x.data, X)),
    ],
)
def test_misuse_is_explained(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_complex_steps_at_zero():
    assert gradcheck(lambda x: F.exp(x) * x, np.zeros(2), method="complex")
