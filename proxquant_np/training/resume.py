"""Is the run that resumes the one that was saved?

Everything that can be compared is compared. A checkpoint describes its run as text: the arguments
of `fit`, the class and the plain attributes of every module (`settings`), and what is frozen. A
function cannot be compared, but its values can. Past values of a schedule and a homotopy are in the
history; a checkpoint also holds some future ones, including the one at the step of resuming
(`ahead`). A `prepare` is compared by its result on the first batch, and a regularizer that is not a
dataclass by its result on a fixed matrix (`sample`).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from proxquant_np.libraries import as_array, as_numpy
from proxquant_np.nn import Module
from proxquant_np.optim import Optimizer, QuantizedOptimizer
from proxquant_np.prox import Regularizer
from proxquant_np.prox.distances import Distance
from proxquant_np.training.run import Batches, Prepare, Run

KEPT = ("seed", "batch_size", "examples", "validation examples", "length", "optimizer", "base")
"""What must not change: the position in the data, and the owners of the saved state."""
_FUNCTIONS = ("schedule", "homotopy", "prepare")
_PLAIN = (bool, int, float, str, type(None), np.generic)


def identity(
    run: Run,
    batches: Batches,
    functions: Mapping[str, Callable[[int], float] | None],
    regularizer: Regularizer | None,
) -> dict[str, Any]:
    """The arguments of `fit` in JSON's terms, with those of each group if there are several."""
    optimizer, validation = run.optimizer, run.recorder.validation or ()
    base = getattr(optimizer, "base", optimizer)
    schedule = functions["schedule"]
    found = {
        "seed": batches.seed,
        "batch_size": batches.batch_size,
        "examples": len(batches.x),
        "validation examples": len(validation[0]) if validation else 0,
        "checksum of the data": _data_checksum(batches.x, batches.y, *validation),
        "schedule": _name(schedule),
        "length": batches.length,
        "max_norm": run.max_norm,
        "prepare": None if batches.prepare is None else _name(batches.prepare),
        "regularizer": _name(regularizer),
        "optimizer": type(optimizer).__name__,
        **{name: _name(f) for name, f in functions.items() if name != "schedule"},
        "clip": getattr(optimizer, "clip", None),
        "base": type(base).__name__,
        **{k: getattr(base, k) for k in base.hyperparameters if k != "lr" or schedule is None},
    }
    for suffix, group in getattr(optimizer, "mapped", {}).items():
        if suffix:
            params = {*group.params}
            named = [name for name, p in run.recorder.weights.items() if p in params]
            found[f"regularizer{suffix}"] = _name(group.regularizer)
            found[f"parameters{suffix}"] = named
    return found


def settings(
    model: Module,
    optimizer: Optimizer | QuantizedOptimizer,
    regularizer: Regularizer | None,
    prepare: Prepare | None,
    inputs: np.ndarray,
) -> dict[str, str]:
    """What distinguishes runs besides the arguments of `fit`, as text, by name.

    Examples:
        >>> sgd = pq.optim.SGD([pq.nn.Parameter([1.0])], 0.1)
        >>> pq.training.resume.settings(pq.nn.Dropout(0.1), sgd, None, None, np.ones(3))
        {'model': 'Dropout', 'model.p': '0.1', 'frozen': '[]'}
    """
    found = {}
    for path, module in model.named_modules():
        name = f"model.{path}".removesuffix(".")
        found[name] = type(module).__name__
        for attribute, value in vars(module).items():
            if attribute != "training" and _is_plain(value):
                text = repr(value.item() if isinstance(value, np.generic) else value)
                long = len(text) > 80
                found[f"{name}.{attribute}"] = _checksum(text) if long else text
    found["frozen"] = repr([k for k, p in model.named_parameters() if not p.requires_grad])
    if isinstance(optimizer, QuantizedOptimizer):
        for name in getattr(optimizer, "hyperparameters", ()):
            found[name] = repr(getattr(optimizer, name))
    if prepare is not None:
        made = prepare(inputs.copy(), np.random.default_rng(0))
        found["prepare of the first batch"] = sample(made)
    groups = {suffix: g.regularizer for suffix, g in getattr(optimizer, "mapped", {}).items()}
    for suffix, mapped_by in {**groups, "": regularizer}.items():
        if mapped_by is not None and not is_dataclass(mapped_by):
            try:
                made = mapped_by.prox(np.linspace(-2, 2, 64).reshape(8, 8), 0.25)
                found[f"prox of a fixed matrix{suffix}"] = sample(made)
            except Exception:  # it may accept only weights of other shapes
                pass
    return found


def _name(thing: Any) -> str:
    """A text by which another process can recognise an argument: its values, if it shows them."""
    named = thing is None or isinstance(thing, Distance) or is_dataclass(thing)
    return repr(thing) if named else type(thing).__name__


def _data_checksum(*arrays: np.ndarray) -> str:
    """A checksum of dtypes, shapes and contents: fast, and enough to notice other data."""
    found = 0
    for a in arrays:
        found = zlib.crc32(f"{a.dtype.str} {a.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(as_numpy(a)), found)
    return f"{found:08x}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _checksum(text: str) -> str:
    return f"{text[:20]}... ({zlib.crc32(text.encode()):08x})"


def sample(array: np.ndarray) -> str:
    """Shape and a few entries, to as many digits as all machines agree on.

    Examples:
        >>> pq.training.resume.sample(np.linspace(0, 1, 9))
        '(9,): 0 0.125 0.25 0.375 0.5 0.625 0.75 0.875 1'
    """
    flat = as_numpy(as_array(array)).reshape(-1)
    few = flat[np.linspace(0, flat.size - 1, min(flat.size, 12)).astype(int)]
    return f"{np.shape(array)}: " + " ".join(f"{float(v) + 0.0:.4g}" for v in few)


def ahead(function: Callable[[int], float] | None, step: int, steps: int) -> dict[str, float]:
    """Values at `step`, at the last of `steps`, and halfway, as far as they exist.

    Examples:
        >>> pq.training.resume.ahead(lambda t: 10.0 * t, step=2, steps=7)
        {'2': 20.0, '4': 40.0, '6': 60.0}
        >>> pq.training.resume.ahead([1.0, 0.5, 0.25].__getitem__, step=2, steps=7)
        {'2': 0.25}
    """
    if not callable(function):  # none, or a Plateau, whose values are not to be foreseen
        return {}
    chosen = sorted({step, (step + steps) // 2, max(step, steps - 1)})
    values = {str(t): _value(function, t) for t in chosen}
    return {t: value for t, value in values.items() if value is not None}


def _value(function: Callable[[int], float], t: int) -> float | None:
    try:
        return float(function(t))
    except Exception:  # if the run gets there, it will raise the error itself
        return None


def _past(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Values of schedule and homotopy at some past steps, from a checkpoint's history."""
    rates = arrays.get("steps/lr", ())
    step, since = meta.get("step", 0), meta.get("since", {})
    offset = int(arrays.get("optimizer/homotopy_step", step)) - step  # steps taken before the run
    known = [t for t in sorted({0, step // 2, step - 1}) if 0 <= t < len(rates)]
    past = {"schedule": {str(t): float(rates[t]) for t in known if t >= since.get("schedule", 0)}}
    for entry, strengths in arrays.items():
        if entry.startswith("steps/strength"):
            name = entry.replace("steps/strength", "homotopy")
            past[name] = {
                str(t + offset): float(strengths[t] / rates[t])
                for t in known
                if t >= since.get(name, 0) and rates[t] > 0 and math.isfinite(strengths[t])
            }
    return past


def differences(
    own: Mapping[str, Any],
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    functions: Mapping[str, Callable[[int], float] | None],
) -> dict[str, str]:
    """What differs between a run, described by `own`, and the checkpoint, as text by name.

    A checkpoint of an earlier version has no settings. Then neither these nor future values are
    compared, only what is in its identity and its history.
    """
    own = json.loads(json.dumps(own))
    saved = {**meta.get("identity", {}), **meta.get("settings", {})}
    if "settings" not in meta:
        own = own["identity"]
    else:
        own = {**own["identity"], **own["settings"]}
    found = {
        name: f"{name} was {saved.get(name)}, is {own.get(name)}"
        for name in {**own, **saved}
        if own.get(name) != saved.get(name)
        and not (
            name.split(".")[0] in _FUNCTIONS and _two_functions(own.get(name), saved.get(name))
        )
    }
    past, to_come = _past(meta, arrays), meta.get("ahead", {})
    for name, function in functions.items():
        if not callable(function) or name in found or saved.get(name) in (None, "None"):
            continue
        for t, value in {**past.get(name, {}), **to_come.get(name, {})}.items():
            now = _value(function, int(t))
            if now is None or not math.isclose(now, value, rel_tol=1e-9):
                found[name] = f"{name}({t}) was {value:.9g}, is {now}"
                break
    return found


def _two_functions(a: str | None, b: str | None) -> bool:
    """Whether both are functions and not both dataclasses, so that only values tell them apart."""
    if {a, b} & {None, "None"} or "Plateau" in {a.split("(")[0], b.split("(")[0]}:
        return False
    return not ("(" in a and "(" in b)


def refusal(found: Mapping[str, str], layout: Mapping[str, str], changed: Collection[str]) -> str:
    """Why the run cannot resume, and how it could; "" if it may, `changed` being on purpose.

    Examples:
        >>> pq.training.resume.refusal({"lr": "lr was 0.1, is 0.2"}, {}, changed=["lr"])
        ''
        >>> pq.training.resume.refusal({"lr": "lr was 0.1, is 0.2"}, {}, changed=[])
        "lr was 0.1, is 0.2 (if on purpose, pass changed=['lr'])"
    """
    fixed = {*KEPT, *(name for name in found if name.startswith("parameters."))}
    left = {name: text for name, text in found.items() if name in fixed or name not in changed}
    left |= layout
    what = "; ".join([*left.values()][:5])
    if left and not left.keys() & {*fixed, *layout}:
        what += f" (if on purpose, pass changed={[*changed, *left]!r})"
    return what
