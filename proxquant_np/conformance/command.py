"""What `proxquant-np check` does with a function given by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxquant_np.conformance.adapters import ADAPTERS, recognised
from proxquant_np.conformance.by_name import NAMES, check_of
from proxquant_np.conformance.definitions import STEPS, check_name
from proxquant_np.conformance.estimators import ESTIMATORS
from proxquant_np.conformance.form import DTYPES
from proxquant_np.conformance.gradient import check_gradient
from proxquant_np.conformance.report import Report
from proxquant_np.training.progress import progress_bar


def check_by_name(
    function: str,
    definition: str,
    *,
    exact: bool = False,
    dtypes: Sequence[str] = DTYPES,
    adapter: str | None = None,
    progress: bool = False,
    **options: Any,
) -> Report:
    """Check "package.module:function", in the current folder or installed, against a definition.

    function may also be any expression in the names of the module: "package.layers:Sign()" makes an
    instance of a class, "torch:lambda w: fake_quantize_per_tensor_affine(w, 0.1, 0, -8, 7)" gives
    the arguments that the check does not. It is evaluated, as the module is imported: both are
    code to be trusted.

    definition: a name in `by_name.NAMES`. adapter: a name in ADAPTERS; by default it is found out
    (`adapters.recognised`). progress: whether to count the calls on standard error, in one line
    that goes when the check ends. options: what is chosen of a rule or a penalty; ties="any" does
    not judge them; or of an estimator, with the name of the backward as `gradient`, unless autograd
    has it.

    Raises:
        ValueError: in one line, what does not exist and perhaps what was meant.
    """
    check_name(definition, NAMES, "--as")
    if exact and definition in (*STEPS, *ESTIMATORS):
        kind = "step" if definition in STEPS else "gradient"
        raise ValueError(f"--exact must be left out for a {kind}, got --as {definition}")
    if definition in ESTIMATORS:
        return _check_gradient(function, definition, dtypes, adapter, options)
    check = check_of(definition, options, dtypes, exact)  # before the function is loaded
    fn = _load(function, adapter)
    with progress_bar(progress, desc=f"checking {function}", unit=" calls", leave=False) as bar:
        return _as_given(check(_counted(fn, bar)), function)


def _as_given(report, function):
    """The report under the name of the function, or the expression that makes it."""
    name = function.partition(":")[2].strip()
    return report if _is_dotted(name) else replace(report, name=name)


def _is_dotted(name):
    return all(part.isidentifier() for part in name.split("."))


def _counted(fn, bar):
    """fn, whose calls are counted in the bar."""
    if isinstance(fn, type):
        return fn
    inner = recognised(fn)

    def counted(*args: Any) -> Any:
        bar.update()
        return inner(*args)

    counted.__signature__, counted.__name__ = inspect.signature(inner), inner.__name__
    counted.__dict__ |= {k: getattr(inner, k) for k in ("adapted_from", "library", "notes")}
    return counted


def _check_gradient(function, definition, dtypes, adapter, options):
    gradient = options.pop("gradient", None)
    for name in options:
        if name not in ESTIMATORS[definition]:
            known = ", ".join(f"--{k.replace('_', '-')}" for k in ESTIMATORS[definition])
            raise ValueError(
                f"--{name.replace('_', '-')} is not for {definition}, which has {known}"
            )
    for name in ("scale", "step_scale"):
        try:
            options[name] = float(options[name])
        except (KeyError, ValueError):  # it is not given, or it is a name
            continue
    fn = _load(function, adapter)
    grad_fn = None if gradient is None else _load(gradient, adapter)
    report = check_gradient(fn, grad_fn, as_=definition, dtypes=dtypes, **options)
    return _as_given(report, function if gradient is None else gradient)


def _load(function, adapter=None):
    module_name, colon, name = function.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"the function must be given as package.module:function, got {function!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"importing {module_name} failed: {error}") from error
        here = [path.stem for path in Path.cwd().glob("*.py")]
        raise ValueError(f"no module {error.name!r}{_near(error.name, here)}") from None
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"importing {module_name} failed: {what}") from error
    if _is_dotted(name):
        fn = _attribute(module, module_name, name)
    else:
        fn = _value(module, name)
    if not callable(fn):
        own = type(fn).__module__ != "builtins"
        methods = [k for k in dir(fn) if own and k[:1] != "_" and callable(getattr(fn, k, None))]
        hint = f"; perhaps one of its methods {', '.join(methods[:6])}" if methods else ""
        raise ValueError(
            f"{function} must be a function, got {' '.join(repr(fn).split())[:80]}{hint}"
        )
    if adapter is None:
        return fn
    try:
        return ADAPTERS[adapter](fn)
    except ImportError as error:
        raise ValueError(str(error)) from None


def _attribute(module, path, name):
    """A function by its name, also in a submodule: torch:nn.functional.relu."""
    fn = module
    for part in name.split("."):
        try:
            fn = getattr(fn, part)
        except AttributeError:
            try:  # perhaps a submodule that its package does not import
                fn = importlib.import_module(f"{path}.{part}")
            except ImportError:
                raise ValueError(f"{path} has no {part!r}{_near(part, dir(fn))}") from None
        except Exception as error:  # of a package that imports its parts when they are asked for
            raise ValueError(f"{path}.{part} failed: {type(error).__name__}: {error}") from error
        path = f"{path}.{part}"
    return fn


def _value(module, expression):
    """The value of an expression in the names of a module, and that of its package."""
    package = module.__name__.partition(".")[0]
    names = {**vars(module), package: sys.modules[package]}
    try:
        return eval(expression.strip(), names)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{expression!r} in {module.__name__} failed: {what}") from error


def _near(name, known):
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
