"""What `proxquant-np check` does with a function given by name."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxquant_np.conformance.adapters import ADAPTERS
from proxquant_np.conformance.by_name import NAMES, check_of
from proxquant_np.conformance.definitions import STEPS, check_name
from proxquant_np.conformance.estimators import ESTIMATORS
from proxquant_np.conformance.form import DTYPES
from proxquant_np.conformance.gradient import check_gradient
from proxquant_np.conformance.report import Report


def check_by_name(
    function: str,
    definition: str,
    *,
    exact: bool = False,
    dtypes: Sequence[str] = DTYPES,
    adapter: str | None = None,
    **options: Any,
) -> Report:
    """Check "package.module:function", in the current folder or installed, against a definition.

    definition: a name in `by_name.NAMES`. adapter: "torch" or "jax", for functions on their arrays.
    options: what is chosen of a rule or a penalty; ties="any" does not judge them; or of an
    estimator, with the name of the backward as `gradient`, unless autograd has it.

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
    return check(_load(function, adapter))


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
    return check_gradient(fn, grad_fn, as_=definition, dtypes=dtypes, **options)


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
    fn, path = module, module_name
    for part in name.split("."):  # the function may be in a submodule: torch:nn.functional.relu
        if not hasattr(fn, part):
            raise ValueError(f"{path} has no {part!r}{_near(part, dir(fn))}")
        fn, path = getattr(fn, part), f"{path}.{part}"
    if not callable(fn):
        raise ValueError(f"{function} must be a function, got {fn!r:.80}")
    if adapter is None:
        return fn
    try:
        return ADAPTERS[adapter](fn)
    except ImportError as error:
        raise ValueError(str(error)) from None


def _near(name, known):
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
