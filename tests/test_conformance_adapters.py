"""What people hold in their hands, checked as it is: modules, layers, tuples, quantized tensors.

Each library is tested where it is installed, and by a stand-in with the same protocol everywhere.
"""

import os
import subprocess
import sys
import types
from collections import namedtuple

import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np import cli
from proxquant_np.conformance import search
from proxquant_np.conformance.adapters import recognised
from proxquant_np.conformance.dequantized import dequantized
from proxquant_np.prox import Integers

kit = pq.conformance
sign_pm = pq.prox.sign_pm
W = np.array([0.75, -1.5, 0.25, 1.0, -0.5, 2.0], np.float32)


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    monkeypatch.setattr(search, "SECONDS", 0.5)


def quick(fn, definition, **options):
    return kit.check_quantizer(fn, definition, dtypes=["float32"], **options)


# Stand-ins


class Boxed:
    """A tensor: NumPy's functions do not know it."""

    __array_ufunc__ = None

    def __init__(self, data):
        self.data = data

    def numpy(self):
        return self.data

    def __array__(self, dtype=None, copy=None):
        return np.array(self.data, dtype)


def box(value):
    return Boxed(np.array(value))


@pytest.fixture
def tensorflow(monkeypatch):
    """A TensorFlow of one class and one function."""
    module = types.ModuleType("tensorflow")
    module.Tensor, module.convert_to_tensor, module.__version__ = Boxed, box, "0"
    monkeypatch.setitem(sys.modules, "tensorflow", module)
    return module


@pytest.fixture
def keras(monkeypatch, tensorflow):
    module = types.ModuleType("keras")
    module.ops = types.SimpleNamespace(convert_to_tensor=box)
    module.backend = types.SimpleNamespace(backend=lambda: "tensorflow")
    module.__version__ = "3"
    monkeypatch.setitem(sys.modules, "keras", module)
    return module


def boxed_sign(x):
    if not isinstance(x, Boxed):
        raise TypeError("a tensor, please")
    return Boxed(sign_pm(x.data))


def test_a_function_of_tensors_is_recognised(tensorflow):
    report = quick(boxed_sign, "binary")
    assert report and report.notes["adapter"] == "a function of TensorFlow tensors"
    assert quick(kit.from_tensorflow(boxed_sign), "binary").notes == report.notes


def test_a_layer_is_known_by_its_class(keras):
    calls = []

    class Layer:
        __module__ = "keras.layers"
        dtype_policy = types.SimpleNamespace(compute_dtype="float32")

        def __call__(self, *args):
            return self.call(*args)

        def call(self, x):
            calls.append(type(x))
            return boxed_sign(x)

    report = quick(Layer(), "binary")
    assert report and set(calls) == {Boxed}
    assert report.notes["adapter"] == (
        "a function of Keras tensors, computed by tensorflow, in its policy's float32"
    )
    assert report.name == "Layer"
    two = kit.check_prox(Layer(), "binary_l1")
    assert two.verdict == "misuse" and "Layer(x) does not take" in two.fault.detail
    class_itself = quick(kit.from_keras(Layer), "binary")
    assert class_itself.verdict == "misuse" and "Layer is a class" in class_itself.fault.detail


def test_a_wrong_adapter_is_named_with_the_right_one(tensorflow):
    pytest.importorskip("torch")
    report = quick(kit.from_torch(boxed_sign), "binary")
    assert report.verdict == "misuse"
    assert "conformance.from_tensorflow(fn)" in report.fault.detail
    assert "--adapter tensorflow" in report.fault.detail
    of_arrays = kit.from_tensorflow(lambda w: sign_pm(w * np.float32(1)))
    report = quick(of_arrays, "binary")
    assert "it works without the adapter" in report.fault.detail


def test_missing_libraries_are_named(monkeypatch):
    for library in kit.adapters.ADAPTERS:
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ImportError, match=f"{library} is not installed"):
            kit.adapters.ADAPTERS[library](sign_pm)


def test_a_first_call_that_fails_is_told_and_others_are_checked(tensorflow):
    loaded = []

    def fn(w):
        if not loaded:
            loaded.append(True)
            raise ImportError("half loaded")
        return sign_pm(w)

    report = quick(fn, "binary")
    assert [fault.convention for fault in report.faults] == ["not repeatable"]
    assert "half loaded" in report.fault.detail and report.notes.keys() == {"dtype"}


def test_what_calibrates_on_its_first_call_is_checked_as_calibrated():
    scale = []

    def fn(w):
        scale[:] = scale or [0.5]
        return scale[0] * sign_pm(w)

    assert quick(fn, "levels").verdict == "wrong"
    assert quick(fn, pq.prox.Levels([-0.5, 0.5]))


def test_float32_only_code_is_told_how_to_be_checked():
    def strict(w):
        if w.dtype != np.float32:
            raise TypeError("float32, please")
        return sign_pm(w)

    report = kit.check_quantizer(strict, "binary")
    assert report.convention == "raised" and "--dtype float32" in report.fault.detail
    assert "float32, please" in report.fault.detail
    report = kit.check_quantizer(lambda w: sign_pm(w).astype(np.float32), "binary")
    assert report.convention == "dtype changed" and "--dtype float32" in report.fault.detail
    report = quick(strict, "binary")
    assert report and report.notes == {"dtype": "float32 alone, as asked"}


# Tuples, and quantized tensors


def int8(w, axis=None):
    return np.maximum(np.abs(w).max(axis=axis, keepdims=True), 1e-30) / 127


def codes(w, s):
    return np.rint(w.astype(np.float64) / s)


INT8 = Integers(8)


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda w: (codes(w, int8(w)).astype(np.int8), int8(w)), "codes * scale"),
        (lambda w: (codes(w, int8(w)), 1 / int8(w)), "codes / scale"),
        (
            lambda w: (128 + codes(w, int8(w)).astype(int), int8(w), 128),
            "(codes - zero) * scale",
        ),
        (
            lambda w: ((128 + codes(w, int8(w))).astype(np.uint8), int8(w), -128 * int8(w)),
            "codes * scale + zero",
        ),
    ],
)
def test_codes_are_read_as_they_are_meant(fn, said):
    report = quick(fn, INT8, any_tie=True)
    assert report.verdict == "right", report
    assert report.notes["result"] == said


def test_codes_of_fitted_sets_too_and_values_are_no_codes():
    def ternary(w):
        q = pq.prox.Ternary(symmetric=True).project(w)
        a = np.abs(q).max() or 1
        return np.rint(q / a).astype(np.int8), a

    assert kit.check_quantizer(ternary, "ternary_symmetric", dtypes=["float64"])
    report = quick(lambda w: (0.3 * sign_pm(w), 0.3), "binary")
    assert report.verdict == "misuse" and "lambda *args: fn(*args)[0]" in report.fault.detail
    packed = quick(lambda w: (np.zeros(3, np.uint8), 1.0), INT8)
    assert packed.verdict == "misuse" and "packed into one" in packed.fault.detail


def test_a_form_once_told_stays():
    calls = iter([2.0, 0.5])
    fn = dequantized(lambda w: (np.rint(w * 2), next(calls)), INT8)
    assert (fn(W) == np.rint(W * 2) / 2).all()
    assert (fn(W) == np.rint(W * 2) / 0.5).all()  # nearer would be the product


def test_objects_that_dequantize():
    class Quantized:
        def __init__(self, codes, scale):
            self.codes, self.scale = codes, scale

        def dequantize(self):
            return (self.codes * self.scale).astype(np.float32)

    report = quick(lambda w: Quantized(codes(w, int8(w)), int8(w)), INT8, any_tie=True)
    assert report and report.notes["result"].endswith(".Quantized")
    report = quick(lambda w: Boxed(sign_pm(w)), "binary")
    assert report and report.notes["result"].endswith(".Boxed")
    Named = namedtuple("Named", "value scale")
    assert quick(lambda w: Named(sign_pm(w), 1.0), "binary")


# torch


def absmax(w, bits=4, dim=None):
    import torch

    last = 2 ** (bits - 1) - 1
    a = (w.abs().max() if dim is None else w.abs().amax(dim, keepdim=True)) / last
    return torch.round(w / a.clamp_min(1e-30)) * a


def test_torch_modules_and_parametrizations():
    torch = pytest.importorskip("torch")

    class Absmax(torch.nn.Module):
        def forward(self, w):
            return absmax(w)

    assert kit.check_quantizer(Absmax(), Integers(4), any_tie=True).name == "Absmax()"
    layer = torch.nn.Linear(3, 2)
    refused = quick(layer, "binary")
    assert refused.verdict == "misuse" and "Linear is a layer" in refused.fault.detail
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", Absmax())
    before = layer.weight.detach().clone()
    report = quick(layer, Integers(4), any_tie=True)
    assert report and "parametrizations" in report.notes["adapter"]
    assert torch.equal(before, layer.weight)
    report = quick(Absmax, Integers(4))
    assert report.verdict == "misuse" and "pass an instance, Absmax(...)" in report.fault.detail


def test_a_module_starts_each_call_from_its_state():
    torch = pytest.importorskip("torch")

    class Running(torch.nn.Module):
        """Its scale is a running mean: of one call alone, absmax."""

        def __init__(self):
            super().__init__()
            self.register_buffer("a", torch.zeros(()))

        def forward(self, w):
            top = w.abs().max().to(self.a.dtype) / 7
            self.a.copy_(top if self.a == 0 else 0.9 * self.a + 0.1 * top)
            return torch.round(w / self.a.clamp_min(1e-30)) * self.a

    module = Running()
    report = quick(module, Integers(4), any_tie=True)
    assert report and report.notes["state"].startswith("a call changes a;")
    assert module.a == 0


def test_torch_fake_quantize_and_quantized_tensors():
    torch = pytest.importorskip("torch")
    steps = Integers(8, "full", divisor=127.5)

    def per_tensor(w):
        scale = (w.abs().max() / 127.5).clamp_min(1e-30).item()
        return torch.fake_quantize_per_tensor_affine(w, scale, 0, -128, 127)

    assert quick(per_tensor, steps, any_tie=True)
    assert quick(lambda w: per_tensor(w).to(torch.float64).to(torch.float32), steps, any_tie=True)
    half = recognised(lambda w: w.to(torch.bfloat16))
    assert half(W).dtype == np.float32 and (half(W) == W).all()

    class Own(torch.Tensor):
        def dequantize(self):
            return 2 * self.as_subclass(torch.Tensor)

    own = recognised(lambda w: w.as_subclass(Own))
    assert (own(W) == 2 * W).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_torch_functions_per_channel(axis):
    pytest.importorskip("torch")

    def per_channel(w):
        rest = tuple(d for d in range(w.ndim) if d != axis)
        return absmax(w, dim=rest)

    assert quick(per_channel, Integers(4, axis=axis), any_tie=True)


def test_torch_functions_per_group():
    pytest.importorskip("torch")

    def per_group(w):
        rows, columns = w.shape  # a matrix (out, in)
        return absmax(w.reshape(rows, columns // 4, 4), dim=-1).reshape(w.shape)

    assert quick(per_group, Integers(4, block=4), any_tie=True)


def test_codes_and_scales_of_groups():
    torch = pytest.importorskip("torch")

    def per_group(w):
        groups = w.reshape(-1, 4)
        a = groups.abs().amax(1).clamp_min(1e-30) / 7
        return torch.round(groups / a[:, None]).to(torch.int8).reshape(w.shape), a

    assert quick(per_group, Integers(4, block=4), any_tie=True)


# Other libraries, each in a process of its own: they are slow to load and do not go back

SCRIPTS = {
    "jax": """
import jax, jax.numpy as jnp
fn = jax.jit(lambda w: jnp.where(w >= 0, 1, -1).astype(w.dtype))
print(kit.check_quantizer(fn, "binary").fault.detail)
report = kit.check_quantizer(fn, "binary", dtypes=["float32"])
print(report.verdict, report.notes["adapter"])
at = lambda w: w.at[:].set(jnp.where(w >= 0, 1.0, -1.0))
print(kit.check_quantizer(at, "binary", dtypes=["float32"]).notes["adapter"])
""",
    "tensorflow": """
import tensorflow as tf
fn = tf.function(lambda w: tf.where(w >= 0, tf.ones_like(w), -tf.ones_like(w)))
report = kit.check_quantizer(fn, "binary")
print(report.verdict, report.notes["adapter"])
@tf.custom_gradient
def through(w):
    return tf.sign(w), lambda g: tf.where(tf.abs(w) <= 1, g, tf.zeros_like(g))
print(kit.check_gradient(through, as_="straight_through", clip=1).verdict)
at = lambda w: tf.where(tf.cast(w, w.dtype) >= 0, 1.0, -1.0)
print(kit.check_quantizer(at, "binary", dtypes=["float32"]).verdict)
""",
    "keras": """
import keras
class Sign(keras.layers.Layer):
    def call(self, w):
        return keras.ops.where(w >= 0, 1.0, -1.0)
report = kit.check_quantizer(Sign(), "binary", dtypes=["float32"])
print(report.verdict, report.notes["adapter"])
print(kit.check_quantizer(Sign, "binary").fault.detail)
print(kit.check_quantizer(Sign(), "binary").convention)
""",
}
SAYS = {
    "jax": [
        'to check a function made for float32, pass dtypes=["float32"], on the command line',
        "right a function of JAX arrays, which are float32 unless jax_enable_x64 is set",
        "a function of JAX arrays, which",
    ],
    "tensorflow": ["right a function of TensorFlow tensors", "right", "right"],
    "keras": [
        "right a function of Keras tensors, computed by",
        "Sign is a class; pass an instance, Sign(...)",
        "dtype changed",
    ],
}


@pytest.mark.parametrize("library", SCRIPTS)
def test_other_libraries(library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    code = "import proxquant_np as pq\nkit = pq.conformance\nkit.search.SECONDS = 0.5\n"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    out = subprocess.run(
        [sys.executable, "-c", code + SCRIPTS[library]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for line, says in zip(out.stdout.splitlines(), SAYS[library], strict=True):
        assert says in line


# The command

PEOPLE = """
import numpy as np


class Sign:
    def __init__(self, at_zero=1):
        self.at_zero = at_zero

    def __call__(self, w):
        return np.where(w > 0, 1, np.where(w < 0, -1, self.at_zero)).astype(w.dtype)


def rounded(w, step):
    return (np.rint(w / step) * step).astype(w.dtype)


def strict(w):
    if w.dtype != np.float32:
        raise TypeError("float32, please")
    return Sign()(w)


class Lazy:
    def __getattr__(self, name):
        raise ImportError("no cheese")


lazy = Lazy()
"""


@pytest.fixture
def people(tmp_path, monkeypatch):
    (tmp_path / "folk").mkdir()
    (tmp_path / "folk" / "__init__.py").write_text("")
    (tmp_path / "folk" / "people.py").write_text(PEOPLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("folk", "folk.people"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("function", "options", "code", "said"),
    [
        ("folk.people:Sign()", "--as binary", 0, "PASSED: Sign() as quantizer 'binary'"),
        ("folk.people:Sign(at_zero=0)", "--as binary", 1, "sign(0)"),
        ("folk:people.strict", "--as binary --dtype float32", 0, "float32 alone, as asked"),
        ("folk.people:strict", "--as binary", 1, "on the command line --dtype float32"),
        (
            "folk.people:lambda w: rounded(w.clip(-1, 1), 1)",
            "--as rounded --levels=-1,0,1",
            0,
            "PASSED: lambda w: rounded(w.clip(-1, 1), 1) as quantizer 'rounded'",
        ),
        ("folk.people:Sign", "--as binary", 2, "Sign is a class; pass an instance, Sign(...)"),
    ],
)
def test_expressions_are_checked(people, capsys, function, options, code, said):
    assert cli.main(["check", function, *options.split()]) == code
    out, err = capsys.readouterr()
    assert said in out and err == ""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("folk.people:Sgn()", "'Sgn()' in folk.people failed: NameError: name 'Sgn' is not"),
        ("folk.people:Sign(", "SyntaxError"),
        ("folk.people:lazy.cheese", "folk.people.lazy.cheese failed: ImportError: no cheese"),
        ("folk.people:3 + 4", "must be a function, got 7"),
        ("folk.people:np.random.default_rng(0)", "perhaps one of its methods beta, binomial"),
    ],
)
def test_expressions_that_fail(people, capsys, function, said):
    assert cli.main(["check", function, "--as", "binary"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and said in err


def test_calls_are_counted_on_a_terminal(people, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli.main(["check", "folk.people:Sign()", "--as", "binary"]) == 0
    out, err = capsys.readouterr()
    assert "checking folk.people:Sign()" in err and "calls" in err and "checking" not in out
    assert err.rstrip(" ").endswith("\r")  # the line is wiped


# Time


def slow(seconds):
    import time

    def fn(w):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return sign_pm(w)

    return fn


def test_a_check_ends_in_time_and_says_what_it_left_out(monkeypatch):
    monkeypatch.setattr(search, "LIMIT", 0.1)
    report = quick(slow(0.005), "binary")
    assert report and "golden cases of" in report.checked and "no search" in report.checked
    assert int(report.checked.split()[0]) >= search.LEAST
    monkeypatch.setattr(kit.form, "SLOW", 0.001)
    report = quick(slow(0.005), "binary")
    assert report.verdict == "misuse" and "s for 6 weights; a check needs" in report.fault.detail
