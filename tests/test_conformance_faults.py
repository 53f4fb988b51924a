"""What the conformance kit says of misuse, of precision, of several faults at once, and of rarely
tried weights: each a small function, with the words that its author needs."""

import functools
import subprocess
import sys

import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np import cli, prox
from proxquant_np.prox import BinaryL1, LevelsL1, MultiBitL2, TernaryL2, UniformL2

kit = pq.conformance


def pm(x):
    return np.where(x >= 0, 1, -1).astype(x.dtype)


def absmax3(w):
    """Three bits, symmetric, the largest weight kept: a point of the set, not the nearest."""
    a = np.abs(w).max() / 3 or 1
    return (np.clip(np.rint(w / a), -3, 3) * a).astype(w.dtype)


def conventions(report):
    return [fault.convention for fault in report.faults]


# (a) Optima belong to a set, whatever its name


@pytest.mark.parametrize(
    "definition", ["uniform_3", kit.QUANTIZERS["uniform_3"], UniformL2(3), UniformL2(2)]
)
def test_exact_claims_are_held_against_the_optimum_of_the_set(definition):
    top = 1 if definition == UniformL2(2) else 3

    def absmax(w):
        a = np.abs(w).max() / top or 1
        return (np.clip(np.rint(w / a), -top, top) * a).astype(w.dtype)

    modest = kit.check_quantizer(absmax, definition)
    assert modest and modest.verdict == "heuristic"
    claimed = kit.check_quantizer(absmax, definition, exact=True)
    assert not claimed
    assert "not optimal although claimed" in conventions(claimed)


@pytest.mark.parametrize("definition", [MultiBitL2(4), UniformL2(4)])
def test_without_a_known_optimum_a_valid_result_is_called_that(definition):
    report = kit.check_quantizer(definition.project, definition)
    assert report and report.verdict == "valid, optimum unknown" and not report.faults
    assert str(report).startswith("PASSED, valid, optimum unknown: ")
    with pytest.raises(ValueError, match=r"exact must be False for .* is not known"):
        kit.check_quantizer(definition.project, definition, exact=True)
    assert not kit.check_quantizer(lambda w: w.copy(), definition)


# (b) A point of Q is a heuristic


def absmean_ternary(w):
    a = np.abs(w).mean() or w.dtype.type(1)
    return (np.clip(np.rint(w / a), -1, 1) * a).astype(w.dtype)


def fixed_threshold_ternary(w):
    return np.where(np.abs(w) > 0.5, pm(w) * np.abs(w).max(), 0).astype(w.dtype)


@pytest.mark.parametrize(
    "fn",
    [
        absmean_ternary,
        fixed_threshold_ternary,
        lambda w: (1.05 * TernaryL2(symmetric=True).project(w)).astype(w.dtype),
    ],
)
def test_points_of_the_set_are_heuristics_whatever_their_scale_and_threshold(fn):
    report = kit.check_quantizer(fn, "ternary_symmetric")
    assert report and report.verdict == "heuristic", f"\n{report}"
    assert "wrong scale" in conventions(report)
    assert min(report.gaps.values()) > 0
    claimed = kit.check_quantizer(fn, "ternary_symmetric", exact=True)
    assert claimed.verdict == "wrong" and claimed.convention == "wrong scale"


def test_a_lost_factor_of_two_is_no_heuristic():
    def half(w):
        return (0.5 * TernaryL2(symmetric=True).project(w)).astype(w.dtype)

    for exact in (False, True):
        report = kit.check_quantizer(half, "ternary_symmetric", exact=exact)
        assert report.verdict == "wrong" and conventions(report) == ["factor of two"], report
        assert "half as large" in report.fault.detail


# (c) Precision


def single(fn):
    @functools.wraps(fn)
    def in_float32(w, *rest):
        return fn(w.astype(np.float32), *rest).astype(w.dtype)

    return in_float32


@pytest.mark.parametrize(
    ("check", "fn", "definition"),
    [
        (kit.check_quantizer, absmax3, "uniform_3"),
        (kit.check_quantizer, MultiBitL2(3).project, "multibit_3"),
        (kit.check_prox, kit.PROXES["binary_l2"].prox, "binary_l2"),
        (kit.check_prox, kit.PROXES["ternary_l2"].prox, "ternary_l2"),
        (kit.check_prox, kit.PROXES["parq"].prox, "parq"),
    ],
)
def test_computed_in_float32_is_said_so(check, fn, definition):
    report = check(single(fn), definition)
    assert report.verdict == "wrong"
    assert report.convention == "precision", f"\n{report}"
    assert "computed in float32" in report.fault.detail and 'dtypes=["float32"]' in str(report)
    assert check(single(fn), definition, dtypes=["float32"])


def test_precision_and_a_mistake_are_both_named():
    def fn(x, s):
        return (x + 2 * s * pm(x)) / (1 + 2 * s)

    report = kit.check_prox(single(fn), "binary_l2")
    assert conventions(report) == ["factor of two", "precision"]


def test_an_epsilon_in_the_scale_is_a_heuristic_that_says_how_much():
    def fn(w):
        return ((np.abs(w).mean() + 1e-8) * pm(w)).astype(w.dtype)

    report = kit.check_quantizer(fn, "multibit_1", dtypes=["float64"])
    assert report.verdict == "heuristic" and "an epsilon" in str(report), report
    assert "a floor under the scale" in str(kit.check_quantizer(fn, "multibit_1"))


# (d) The first call


def test_a_failure_of_the_first_call_alone_is_no_rank():
    calls = []

    def fn(x, s):
        calls.append(x)
        if len(calls) == 1:
            raise ImportError("a part that is still being loaded")
        return BinaryL1().prox(x, s)

    report = kit.check_prox(fn, "binary_l1")
    assert conventions(report) == ["not repeatable"]
    assert report.fault.detail.startswith("the first call raised ImportError: a part that")


# (e) Ties


def test_a_tie_at_0_among_four_levels_is_a_tie():
    levels = LevelsL1((-3, -1, 1, 3))

    def fn(w):
        q = np.clip(2 * np.floor(w / 2) + 1, -3, 3)
        return np.where(w == 0, -1, q).astype(w.dtype)

    report = kit.check_quantizer(fn, levels)
    assert report.convention == "wrong tie", report
    sign = kit.check_quantizer(lambda w: np.sign(w), LevelsL1((-1, 1)))
    assert conventions(sign) == ["sign(0)"]
    assert "binary" not in kit.CONVENTIONS["sign(0)"]


# (f) All zeros


@pytest.mark.parametrize("floor", [4e-39, 0.0])
def test_a_floor_that_is_no_normal_number_is_0(floor):
    def fn(w):
        return (pm(w) * np.maximum(np.abs(w).mean(dtype=np.float64), floor)).astype(w.dtype)

    report = kit.check_quantizer(fn, "multibit_1", exact=True)
    assert report and report.verdict == "right", report


def test_a_floor_under_the_scale_is_said_to_be_one():
    def fn(w):
        return (pm(w) * np.maximum(np.abs(w).mean(), 1e-5)).astype(w.dtype)

    report = kit.check_quantizer(fn, "multibit_1")
    assert report.verdict == "heuristic" and "inf" not in report.fault.detail
    assert report.fault.detail == "weights of 0 went to 1e-05: a floor under the scale?"


# (g) Every broken convention


def three_faults(x, s):
    """Modifies its input, doubles the strength, leaves 0 where it is; and all of it in float64."""
    u = x - np.clip(x - np.sign(x).astype(np.float64), -2 * s, 2 * s)
    x *= 0
    return u


def test_one_fault_does_not_hide_the_others():
    report = kit.check_prox(three_faults, "binary_l1")
    assert conventions(report) == ["input mutated", "factor of two", "sign(0)", "dtype changed"]
    assert report.fault is report.faults[0] and report.convention == "input mutated"
    text = str(report)
    assert "4 conventions are broken: input mutated, factor of two, sign(0), dtype" in text
    assert all(f"  {fault.convention}: {fault.detail}" in text for fault in report.faults)
    doubled, zero = report.faults[1:3]
    x, s = doubled.inputs["x"], doubled.inputs["strength"]
    assert not np.allclose(BinaryL1().prox(x, s), three_faults(x.copy(), s))
    assert zero.inputs["x"].tolist() == [0.0]


def test_two_mistakes_are_named_in_a_quantizer_with_fitted_levels():
    def fn(w):
        beyond = np.abs(w) > 0.7 * np.abs(w).mean()
        return (2 * np.abs(w[beyond]).mean() * pm(w) * beyond if beyond.any() else 0 * w).astype(
            w.dtype
        )

    report = kit.check_quantizer(fn, "ternary_symmetric", exact=True)
    assert conventions(report)[0] == "factor of two"
    assert "not nearest" in conventions(report)

    def prox(x, s):
        return (x + 2 * s * 2 * TernaryL2().project(x)).astype(x.dtype) / (1 + 2 * s)

    report = kit.check_prox(lambda x, s: prox(x, s).astype(x.dtype), "ternary_l2")
    assert conventions(report)[0] == "factor of two"
    assert "the strength is doubled; the levels are twice" in report.fault.detail


def test_two_mistakes_are_named_in_a_step():
    def fn(w, gradient, lr, strength, m, v, t):
        g = gradient(w)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = BinaryL1().prox(w - lr * m / (np.sqrt(v) + 1e-8), lr * strength)
        return u, m.astype(w.dtype), v.astype(w.dtype)

    report = kit.check_step(fn, "eager_adam")
    assert conventions(report) == ["wrong strength", "bias correction"]

    def mutates(z, gradient, lr):
        z -= lr * gradient(z)
        return z.astype(np.float64), pm(z)

    report = kit.check_step(mutates, "lazy_sgd")
    assert conventions(report) == ["input mutated", "gradient point", "dtype changed"]


def test_several_faults_of_a_gradient_are_listed():
    def fn(x, y):
        return float((x * y).sum())

    def grad(x, y):
        d = -y
        x += 1
        return d, x.astype(np.float32)

    report = kit.check_gradient(fn, grad, [np.array([1.0, 2.0]), np.array([0.5, 0.25])])
    assert conventions(report) == [
        "input mutated",
        "direction",
        "wrong gradient",
        "dtype changed",
    ], report
    assert "input 1, entry" in report.faults[2].detail


def test_a_matrix_quantizer_is_checked_on_matrices():
    def fn(w):
        rows, columns = w.shape
        return (0.5 * np.abs(w).mean() * pm(w)).reshape(rows, columns)

    report = kit.check_quantizer(fn, "multibit_1")
    assert conventions(report) == ["rank", "factor of two"]
    assert report.faults[0].detail.startswith("only 2-D")
    assert report.faults[1].inputs["w"].shape[0] == 1


# (h) Misuse


class Sign:
    def __call__(self, w):
        return pm(w)


def misused(report, *words):
    assert not report and report.verdict == "misuse" and report.convention == "misuse", report
    assert str(report).startswith("MISUSE: ")
    assert all(word in report.fault.detail for word in words), report.fault.detail


def test_misuse_is_told_with_its_remedy():
    check = kit.check_quantizer
    misused(check(Sign, "binary"), "Sign is a class; pass an instance, Sign(...)")
    assert check(Sign(), "binary")
    misused(check(lambda w: (pm(w) / 4, 1.0), "binary"), "a tuple (ndarray, float)", "fn(*args)[0]")
    misused(check(lambda w: (1.0, pm(w)), "binary"), "fn(*args)[1]")
    misused(check(lambda w: [1.0] * 6, "binary"), "returned a list")
    misused(check(lambda w: None, "binary"), "is there a return?")
    misused(check(lambda w: pm(w).astype(np.float16), "binary"), "float16", "astype(w.dtype)")
    misused(check(lambda x, s: x, "binary"), "the check calls fn(w)")
    misused(kit.check_prox(lambda x: x, "binary_l1"), "the check calls fn(x, strength)")
    misused(kit.check_step(Sign, "lazy_sgd"), "class")
    misused(kit.check_gradient(Sign, Sign, np.ones(2)), "class")
    with pytest.raises(
        ValueError, match=r"dtypes must be some of float32, float64, got \['float16'\]"
    ):
        check(pm, "binary", dtypes=["float16"])
    with pytest.raises(ValueError, match="dtypes must be"):
        check(pm, "binary", dtypes=[])
    assert check(pm, "binary", dtypes=[np.float32])


def test_a_stub_is_a_stub():
    def fn(w):
        raise NotImplementedError

    report = kit.check_quantizer(fn, "binary")
    assert report.verdict == "wrong" and conventions(report) == ["raised"]
    assert "\n  raised: not written yet: NotImplementedError\n" in str(report)


def test_what_raises_is_said_once():
    report = kit.check_quantizer(lambda w: w.no_such_thing, "binary")
    assert (report.verdict, report.convention) == ("wrong", "raised")
    assert "\n  raised: AttributeError: 'numpy.ndarray' object" in str(report)


def test_a_forgotten_adapter_is_found_and_a_wrong_one_named():
    torch = pytest.importorskip("torch")

    def sign(w):
        return torch.where(w >= 0, torch.ones_like(w), -torch.ones_like(w))

    assert kit.check_quantizer(sign, "binary").notes == {"adapter": "a function of torch tensors"}
    assert kit.check_quantizer(kit.from_torch(sign), "binary")
    misused(kit.check_quantizer(kit.from_torch(pm), "binary"), "it works without the adapter")
    of_arrays = kit.check_quantizer(lambda w: torch.sign(torch.from_numpy(w)), "binary")
    assert of_arrays.convention == "sign(0)" and of_arrays.notes == {"result": "a torch.Tensor"}

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            return sign(w)

    misused(kit.check_quantizer(Function, "binary"), "pass its apply, Function.apply")
    assert kit.check_quantizer(kit.from_torch(Function.apply), "binary")

    def step(z, gradient, lr):
        z = z.sub(gradient(sign(z)), alpha=lr)
        return z, sign(z)

    assert kit.check_step(step, "lazy_sgd")
    assert kit.check_step(kit.from_torch(step), "lazy_sgd")


# (i) Weights that are rarely tried


def test_large_weights_and_large_tensors_belong_to_the_check():
    def saturates(w):
        return np.where(np.abs(w) > 6, 0, pm(w)).astype(w.dtype)

    assert conventions(kit.check_quantizer(saturates, "binary")) == ["not quantized"]

    def in_blocks(w):
        q = pm(w)
        q.reshape(-1)[1024:] = 1
        return q

    report = kit.check_quantizer(in_blocks, "binary")
    assert conventions(report) == ["not nearest"]
    assert report.fault.inputs["w"].size < 1100

    def forgets_the_rest(w):
        q = TernaryL2().project(w)
        q.reshape(-1)[4096:] = 0
        return q

    assert kit.check_quantizer(forgets_the_rest, "ternary", exact=True).verdict == "heuristic"


def test_what_no_convention_speaks_of_is_told_not_judged():
    def fn(w):
        if not w.size:
            raise ValueError("nothing to quantize " * 9)
        return np.where(w >= 0, 1, -1).astype(w.dtype)

    report = kit.check_quantizer(fn, "binary")
    assert report and report.verdict == "right"
    assert list(report.beyond) == ["empty", "0-d", "NaN", "infinity"]
    assert report.beyond["empty"].startswith("[] float32: raises ValueError: nothing to quantize")
    assert report.beyond["empty"].endswith(" ...")
    assert report.beyond["0-d"] == "0.75 float32 (): gives 1. float32 ()"
    assert "NaN         [ nan,  1. , -0.5] float32: gives [-1., 1., -1.] float32" in str(report)
    assert "infinity    [ inf,  1. , -0.5] float32: gives [ 1., 1., -1.] float32" in str(report)


# (j) Words that contradict what stands beside them


def test_a_mean_scaled_sign_is_shown_beside_a_positive_level():
    report = kit.check_quantizer(lambda w: np.sign(w) * np.abs(w).mean(), "multibit_1")
    assert conventions(report) == ["sign(0)"]
    at_zero = report.fault.inputs["w"] == 0
    assert (report.fault.expected[at_zero] > 0).all() and (report.fault.got[at_zero] == 0).all()


def test_a_centred_sign_is_not_scaled():
    def fn(w):
        centred = w - w.mean()
        return (np.abs(w).mean() * pm(centred)).astype(w.dtype)

    report = kit.check_quantizer(fn, "multibit_1")
    assert report.verdict == "heuristic" and report.convention == "not nearest", report
    assert "the weights are centred first" in report.fault.detail
    assert "scaled" not in str(report)


def test_clipped_steps_are_named():
    def lazy(z, gradient, lr):
        z = (z - lr * gradient(pm(z))).clip(-1, 1).astype(z.dtype)
        return z, pm(z)

    def saturated(z, gradient, lr):
        z = z - lr * np.where(np.abs(z) > 1, 0, gradient(pm(z))).astype(z.dtype)
        return z, pm(z)

    def first(z, gradient, lr):
        z = z.clip(-1, 1)
        z = z - lr * gradient(pm(z))
        return z, pm(z)

    def eager(w, gradient, lr, strength):
        return BinaryL1().prox(w - lr * gradient(w), strength).clip(-1, 1)

    for fn, name, words in (
        (lazy, "lazy_sgd", "after the step"),
        (saturated, "lazy_sgd", "the gradient is 0"),
        (first, "lazy_sgd", "before the step"),
        (eager, "eager_sgd", "after the step"),
    ):
        report = kit.check_step(fn, name)
        assert conventions(report) == ["clipped"], report
        assert words in report.fault.detail


# (k) The search


def test_the_search_looks_for_what_the_cases_did_not_find():
    """Wrong at 0, as the golden cases show; and where only a search comes, at 3.7."""

    def fn(w):
        q = np.sign(w)
        return np.where(np.abs(w - 3.7) < 0.5, -1, q).astype(w.dtype)

    report = kit.check_quantizer(fn, "binary")
    assert conventions(report) == ["not nearest", "sign(0)"]
    assert abs(report.fault.inputs["w"].item() - 3.7) < 0.5


def test_a_threshold_beside_its_place_is_found_without_luck(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    levels = np.array([-1.0, 0.0, 0.25, 2.0])
    for shift in (-0.1, -1 / 32, 1 / 32, 0.1):
        ties = (levels[1:] + levels[:-1]) / 2 + shift

        def fn(w, ties=ties):
            return levels[np.searchsorted(ties, w, "right")].astype(w.dtype)

        assert "not nearest" in conventions(kit.check_quantizer(fn, "levels")), shift


# (l) Names


def test_functions_of_submodules_are_found(capsys):
    pytest.importorskip("torch")
    arguments = ["check", "torch:nn.functional.hardtanh", "--as", "binary"]
    assert cli.main([*arguments, "--adapter", "torch"]) == 1
    assert "WRONG: hardtanh as quantizer 'binary'" in capsys.readouterr().out
    assert cli.main(arguments) == 1
    assert "adapter     a function of torch tensors" in capsys.readouterr().out
    assert cli.main(["check", "torch:nn.functional.hardtan", "--as", "binary"]) == 2
    error = capsys.readouterr().err
    assert "torch.nn.functional has no 'hardtan'; did you mean 'hardtanh'?" in error


# Gradients of what computes in float32


def square32(w):
    return np.float32((w.astype(np.float32) ** 2).sum())


AT = np.array([1.0, 2.0])


@pytest.mark.parametrize(
    "fn",
    [
        square32,
        lambda w: float(square32(w)),  # float64, but a float32 number
        lambda w: float((w.astype(np.float32).astype(np.float64) ** 2).sum()),
        lambda w: square32(w) + 1000,
    ],
)
@pytest.mark.parametrize("dtypes", [None, ["float32"], ["float64"], ["float32", "float64"]])
def test_a_function_that_computes_in_float32_is_noticed(fn, dtypes):
    report = kit.check_gradient(fn, lambda w: 2 * w, AT, dtypes=dtypes)
    assert report and "fn computes in float32" in report.checked, report
    assert "jax_enable_x64" in str(report)
    for factor, kind in ((-2, "direction"), (4, "factor of two"), (2.2, "wrong gradient")):
        report = kit.check_gradient(fn, lambda w, f=factor: f * w, AT, dtypes=dtypes)
        assert conventions(report) == [kind], report
    assert "numerically (in float32) 4" in report.fault.detail


def test_three_digits_are_checked_in_float32():
    for near, passes in ((1.0005, True), (1.006, False)):
        assert bool(kit.check_gradient(square32, lambda w, f=near: 2 * f * w, AT)) is passes

    def fn(w):
        return np.float32(np.exp(w.astype(np.float32)).sum())

    assert kit.check_gradient(fn, np.exp, np.array([-3.0, 0.5, 4.0]))
    assert not kit.check_gradient(fn, lambda w: 1.01 * np.exp(w), np.array([-3.0, 0.5, 4.0]))


def test_float32_products_with_vectors():
    def fn(x, w):
        return np.tanh(x.astype(np.float32) @ w.astype(np.float32))

    def vjp(x, w, g):
        g = g * (1 - fn(x, w) ** 2)
        return g @ w.T.astype(np.float32), x.T.astype(np.float32) @ g

    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(3, 4)), rng.normal(size=(4, 2))]
    assert kit.check_gradient(fn, vjp, inputs)
    report = kit.check_gradient(fn, lambda *a: (vjp(*a)[0], 2 * vjp(*a)[1]), inputs)
    assert conventions(report) == ["factor of two"] and "input 1, entry" in report.fault.detail


def test_what_takes_float32_only_is_checked_in_it():
    def fn(w):
        if w.dtype != np.float32:
            raise TypeError("float32, please")
        return (w * w).sum()

    assert kit.check_gradient(fn, lambda w: 2 * w, AT, dtypes=["float32"])
    assert not kit.check_gradient(fn, lambda w: 3 * w, AT, dtypes=["float32"])
    report = kit.check_gradient(fn, lambda w: 2 * w, AT)
    assert conventions(report) == ["raised"] and "float32, please" in report.fault.detail


def test_dtypes_of_a_gradient():
    def kept(w):
        return (w * w).sum()

    double = lambda w: 2 * w.astype(np.float64)  # noqa: E731
    assert kit.check_gradient(kept, double, AT)
    report = kit.check_gradient(kept, double, AT, dtypes=["float32", "float64"])
    assert conventions(report) == ["dtype changed"]
    assert "computes" not in kit.check_gradient(kept, lambda w: 2 * w, AT).checked
    assert kit.check_gradient(kept, lambda w: 2 * w, AT, dtypes=["float32"])
    with pytest.raises(ValueError, match="dtypes must be"):
        kit.check_gradient(kept, double, AT, dtypes=["int8"])


def test_a_function_that_is_constant_here_is_no_float32():
    def fn(w):
        return np.maximum(w, 0).sum()

    report = kit.check_gradient(fn, lambda w: 0 * w, np.array([-0.01, -1.0]))
    assert report and "float32" not in report.checked


JAX = """
import jax, numpy as np, proxquant_np as pq
kit = pq.conformance
loss = lambda w: jax.numpy.mean(jax.numpy.tanh(w) ** 2)
layer = lambda x, w: jax.numpy.tanh(x @ w)
vjp = lambda x, w, g: jax.vjp(layer, x, w)[1](g)
prox = lambda x, s: x - jax.numpy.clip(x - jax.numpy.where(x >= 0, 1.0, -1.0), -s, s)
rng = np.random.default_rng(0)
x, w = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
wrong = lambda w: 2 * jax.grad(loss)(w)
for report in (
    kit.check_gradient(kit.from_jax(loss), kit.from_jax(jax.grad(loss)), w),
    kit.check_gradient(kit.from_jax(layer), kit.from_jax(vjp), [x, w]),
    kit.check_gradient(kit.from_jax(loss), kit.from_jax(wrong), w),
    kit.check_prox(kit.from_jax(prox), "binary_l1"),
    kit.check_prox(prox, "binary_l1"),
):
    print(report.verdict, report.convention, report.checked)
"""


@pytest.mark.parametrize("x64", ["0", "1"])
def test_jax_as_installed_and_in_float64(x64):
    """In a process of its own: the switch is for all of it."""
    pytest.importorskip("jax", reason="JAX is not installed")
    import os

    environment = {**os.environ, "JAX_ENABLE_X64": x64, "JAX_PLATFORMS": "cpu"}
    out = subprocess.run(
        [sys.executable, "-c", JAX], env=environment, capture_output=True, text=True, check=True
    )
    right, layer, wrong, prox, forgotten = out.stdout.splitlines()
    for line in (right, layer):
        assert line.startswith("right None")
        assert ("computes in float32" in line) == (x64 == "0")
    assert wrong.startswith("wrong factor of two")
    assert prox.startswith("right" if x64 == "1" else "wrong dtype changed")
    assert forgotten.startswith("right" if x64 == "1" else "wrong dtype changed")


# Every mistake that a step is told from, planted; and how much is rounding


def adam_step(w, gradient, lr, strength, m, v, t, *, late=0, b=(0.9, 0.999), sum_=0.1, mistake=""):
    g = gradient(w)
    new_m = b[0] * m + (sum_ if b[0] == 0.9 else 1 - b[0]) * g
    new_v = b[1] * v + (1 - b[1]) * (np.abs(g) if mistake == "unsquared" else g * g)
    k = max(1, t - late)
    top = g if mistake == "no momentum" else new_m / (1 - b[0] ** k)
    d = top / (np.sqrt(new_v / (1 - b[1] ** k)) + 1e-8)
    u = BinaryL1().prox(w - (lr * d).astype(w.dtype), strength)
    if mistake == "old moments":
        new_m, new_v = m.copy(), v.copy()
    return u, new_m.astype(w.dtype), new_v.astype(w.dtype)


def lazy_step(z, gradient, lr, *, mistake=""):
    def image(x):
        return np.where((x == 0) & (mistake == "low"), -1, pm(x)).astype(x.dtype)

    moved = (image(z) if mistake == "from image" else z) - lr * gradient(image(z))
    latent = image(moved) if mistake == "image kept" else moved
    return latent, moved.copy() if mistake == "unmapped" else image(moved)


def eager_step(w, gradient, lr, strength, *, at_mapped=False, factor=1.0, power=0):
    prox = BinaryL1().prox
    g = gradient(prox(w, strength) if at_mapped else w)
    return prox(w - lr * g, strength * factor * lr**power)


@pytest.mark.parametrize(
    ("step", "name", "mistake", "kind", "words"),
    [
        (adam_step, "eager_adam", {"late": 1}, "bias correction", "counted from 0"),
        (adam_step, "eager_adam", {"late": -1}, "bias correction", "once too often"),
        (adam_step, "eager_adam", {"b": (0.999, 0.9)}, "moments", "exchanged"),
        (adam_step, "eager_adam", {"sum_": 1.0}, "moments", "without the factor"),
        (adam_step, "eager_adam", {"mistake": "unsquared"}, "moments", "|g|, not g^2"),
        (adam_step, "eager_adam", {"mistake": "no momentum"}, "moments", "in place of m"),
        (adam_step, "eager_adam", {"mistake": "old moments"}, "moments", "before the step"),
        (lazy_step, "lazy_sgd", {"mistake": "from image"}, "latent overwritten", "starts from"),
        (lazy_step, "lazy_sgd", {"mistake": "image kept"}, "latent overwritten", "image replaces"),
        (lazy_step, "lazy_sgd", {"mistake": "unmapped"}, "not quantized", "not mapped"),
        (lazy_step, "lazy_sgd", {"mistake": "low"}, "sign(0)", "lower level"),
        (eager_step, "eager_sgd", {"at_mapped": True}, "gradient point", "mapped weights"),
        (eager_step, "eager_sgd", {"power": -1}, "wrong strength", "divided by lr"),
        (eager_step, "eager_sgd", {"factor": np.inf}, "wrong strength", "whatever the strength"),
        (eager_step, "eager_sgd", {"factor": 2.0}, "factor of two", "doubled"),
        (eager_step, "eager_sgd", {"factor": 0.5}, "factor of two", "halved"),
    ],
)
def test_every_mistake_of_a_step_is_named(step, name, mistake, kind, words):
    if mistake.get("factor") == np.inf:

        def fn(w, gradient, lr, strength):
            return pm(w - lr * gradient(w))

    else:
        fn = functools.partial(step, **mistake)
    report = kit.check_step(fn, name)
    assert conventions(report) == [kind], report
    assert words in report.fault.detail


def off(fn, factor):
    """What fn returns, but for a relative error of so many epsilons, in float64."""
    return lambda *a: fn(*a) * (1 + factor * np.finfo(np.float64).eps)


@pytest.mark.parametrize(
    ("check", "fn", "definition", "close"),
    [  # at 0 two levels allow 32 (1 + 1) eps; at most of the weights more
        (kit.check_quantizer, pm, "binary", 64),
        (
            kit.check_prox,
            lambda x, s: x.copy() if s == 0 else TernaryL2().prox(x, s),
            "ternary_l2",
            64,
        ),
    ],
)
def test_a_tolerance_is_no_wider_than_rounding_needs(check, fn, definition, close):
    tight, wide = (check(off(fn, c * close), definition, dtypes=["float64"]) for c in (0.9, 1.2))
    assert tight and not wide


@pytest.mark.parametrize(("epsilons", "passes"), [(450, True), (700, False)])
def test_a_tolerance_of_steps(epsilons, passes):
    """512 eps, relative and absolute: the largest weights decide."""

    def fn(w, gradient, lr, strength):
        return off(eager_step, epsilons)(w, gradient, lr, strength)

    assert bool(kit.check_step(fn, "eager_sgd", dtypes=["float64"])) is passes


@pytest.mark.parametrize(("near", "passes"), [(1.0018, True), (1.0026, False)])
def test_the_tolerance_of_wide_steps(near, passes):
    assert bool(kit.check_gradient(square32, lambda w: 2 * near * w, AT)) is passes


def int4_rows(w):
    """Per row, and of matrices alone, as much that people have is."""
    _, _ = w.shape
    a = np.abs(w).max(axis=1, keepdims=True) / 7
    return (np.clip(np.rint(w / np.where(a > 0, a, 1)), -7, 7) * a).astype(w.dtype)


def int4(w):
    _, _ = w.shape
    return prox.Integers(4).quantize(w)


def one_bit_rows(w):
    _, _ = w.shape
    return prox.MultiBit(1, axis=0).project(w)


def binary_kernels(w):
    _, _, _, _ = w.shape
    return prox.Binary().project(w)


def prox_of_matrices(x, strength):
    _, _ = x.shape
    return prox.BinaryL2().prox(x, strength)


@pytest.mark.parametrize(
    ("fn", "definition", "shape"),
    [
        (int4_rows, prox.Integers(4, axis=0), "len(w), -1"),
        (lambda w: int4_rows(w.T).T, prox.Integers(4, axis=-1), "-1, w.shape[-1]"),
        (int4, prox.Integers(4), "len(w), -1"),
        (binary_kernels, "binary", "len(w), -1, 1, 1"),
        (prox_of_matrices, "binary_l2", "len(x), -1"),
    ],
)
def test_what_is_for_one_rank_alone_is_told_how_to_be_checked_in_it(fn, definition, shape):
    """And by what it is told it passes."""
    check = pq.conformance.check_prox if fn is prox_of_matrices else pq.conformance.check_quantizer
    report = check(fn, definition)
    assert [fault.convention for fault in report.faults] == ["rank"]
    said, _, wrapped = report.fault.detail.partition("; if it is for these alone, pass ")
    assert said.startswith(("only 2-D", "only 4-D")) and f"reshape({shape})" in wrapped
    assert check(eval(wrapped, {"fn": fn}), definition).verdict == "right"


def test_of_matrices_alone_levels_per_row_are_seen():
    """They were not, for all weights were given as one row."""
    report = pq.conformance.check_quantizer(int4_rows, prox.Integers(4))
    assert "another shape give another result" in report.fault.detail
    assert "--axis 0" in report.fault.detail
    report = pq.conformance.check_quantizer(one_bit_rows, "multibit_1")
    _, _, wrapped = report.fault.detail.partition("pass ")
    assert pq.conformance.check_quantizer(
        eval(wrapped.removesuffix(")"), {"fn": one_bit_rows}), "multibit_1"
    )
