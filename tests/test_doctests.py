"""The examples in the docstrings run, and every public name has one."""

import doctest
import importlib
import pkgutil
from importlib.util import find_spec

import numpy as np
import pytest

import proxquant_np as pq
import proxquant_np.functional as F

NAMES = {"np": np, "pq": pq, "F": F}  # what examples use without importing it
NEEDS = {  # module, or function in it: the optional package that its examples use
    "proxquant_np.interop.torch": "torch",
    "proxquant_np.interop.safetensors": "safetensors",
    "proxquant_np.interop.onnx": "onnx",
    "proxquant_np.packing.onnx.to_onnx": "onnxruntime",
    "proxquant_np.packing.onnx.check_onnx": "onnxruntime",
    "proxquant_np.conformance.adapters.from_torch": "torch",
    "proxquant_np.conformance.adapters.from_jax": "jax",
    "proxquant_np.conformance.adapters.from_tensorflow": "tensorflow",
    "proxquant_np.conformance.adapters.from_keras": "keras",
}
MODULES = sorted(module.name for module in pkgutil.walk_packages(pq.__path__, "proxquant_np."))
PUBLIC = [  # the packages, and the modules that users name themselves
    "proxquant_np",
    *(
        f"proxquant_np.{module.name}"
        for module in pkgutil.iter_modules(pq.__path__)
        if module.ispkg
    ),
    "proxquant_np.functional",
    "proxquant_np.nn.init",
    "proxquant_np.training.metrics",
    "proxquant_np.interop.torch",
    "proxquant_np.interop.safetensors",
    "proxquant_np.interop.onnx",
    "proxquant_np.experiments.statistics",
]


def imported(name):
    """The module; skips if it cannot be imported without an optional package."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return importlib.import_module(name)


def examples(value, name):
    """The examples of a function, or of a class and its methods, by dotted name."""
    # module=False: else decorated functions count as those of the decorator's module
    return [test for test in doctest.DocTestFinder().find(value, name, False) if test.examples]


def failures(test):
    """Run the examples of one docstring; the report of those that failed."""
    report = []
    test.globs = dict(NAMES)
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    return "".join(report)


def without_example(public):
    """Of {name: object}, the names of functions and classes whose docstrings show no example."""
    return [
        name
        for name, value in public.items()
        if (isinstance(value, type) or hasattr(value, "__code__")) and not examples(value, name)
    ]


def public_names(module):
    """{name: object} of its __all__, or else of what is defined in it or, a package, below it."""
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in vars(module).items()
        if name[0] != "_" and str(getattr(value, "__module__", "")).startswith(module.__name__)
    }


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    module = imported(name)
    missing = []
    for own, value in vars(module).items():
        if getattr(value, "__module__", None) != name or not callable(value):
            continue
        package = NEEDS.get(f"{name}.{own}")
        if package and find_spec(package) is None:
            missing.append(package)
            continue
        for test in examples(value, f"{name}.{own}"):
            folder = tmp_path / test.name  # each in a folder of its own, where it may write
            folder.mkdir()
            monkeypatch.chdir(folder)
            assert not (report := failures(test)), report
    if missing:
        pytest.skip(f"the examples of {name} that need {', '.join(missing)}; all others passed")


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    assert not without_example(public_names(imported(name)))


def test_public_names_are_found():
    assert {"relu", "conv2d"} < public_names(F).keys()
    assert "fit" in public_names(pq.training)
    assert public_names(pq.nn.init).keys() & {"np", "he_normal"} == {"he_normal"}


def planted(right):
    """Some words.

    Examples:
        >>> 1 + 1
        3
    """


def test_a_wrong_example_is_caught():
    (test,) = examples(planted, "planted")
    assert "Expected:\n    3\nGot:\n    2" in failures(test)


def test_a_missing_example_is_caught():
    assert without_example({"f": planted, "g": public_names, "x": 1}) == ["g"]
