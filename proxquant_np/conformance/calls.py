"""One call of the function under test, and the faults in what it returns.

A function that cannot be checked at all (one for tensors, a class, one that returns a tuple) was
passed wrongly, which says nothing about its mathematics: `Misuse`, with the remedy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from proxquant_np.conformance.adapters import Misuse, is_result, recognised
from proxquant_np.conformance.report import Fault
from proxquant_np.prox.arrays import DTYPES, Floats


def called(
    fn: Callable[..., Any], inputs: Mapping[str, Any], shown: Mapping[str, Any] | None = None
) -> tuple[Any, list[Fault]]:
    """(the result of fn on copies of the inputs, or None if it raised; faults such as mutation).

    shown: the inputs as a report shows them, by default as they are.
    """
    copies = {k: v.copy("K") if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    shown = inputs if shown is None else shown
    try:
        with np.errstate(all="ignore"):
            out = fn(*copies.values())
    except Misuse:
        raise
    except Exception as error:
        return None, [Fault("raised", said(error), shown)]
    return out, [
        Fault("input mutated", f"{key} was modified", shown, copies[key], before)
        for key, before in inputs.items()
        if isinstance(before, np.ndarray) and copies[key].tobytes() != before.tobytes()
    ]


def run(
    fn: Callable[..., Any], inputs: Mapping[str, Any], like: Floats
) -> tuple[Floats | None, list[Fault]]:
    """(the result as an array like `like`, or None; faults in its form).

    A result of another dtype is converted, so that this fault does not hide others. Misuse if the
    result is not an array at all.
    """
    u, faults = called(fn, inputs)
    if u is None and faults:
        return None, faults
    if not isinstance(u, np.ndarray | np.floating):
        raise Misuse(no_array(fn, inputs, u, like))
    if isinstance(u, np.ma.MaskedArray):
        raise Misuse("fn returned a masked array; fill it, as by result.filled(0)")
    if u.dtype == np.float16:
        raise Misuse(
            "fn returned float16, but is checked in float32 and float64: return the dtype of the "
            "weights, as with result.astype(w.dtype)"
        )
    if u.dtype.kind not in "fiub":
        raise Misuse(
            f"fn returned an array of dtype {u.dtype}, not of real numbers: return the dtype of "
            "the weights, as with result.astype(w.dtype)"
        )
    if u.shape != like.shape:
        detail = f"the result has shape {u.shape}, the weights have {like.shape}"
        return None, [*faults, Fault("shape changed", detail, inputs, u)]
    if u.dtype != like.dtype:
        detail = f"the result has dtype {u.dtype}, the weights have {like.dtype}"
        if (u.dtype, like.dtype) == DTYPES:
            detail += '; to check a function made for float32, pass dtypes=["float32"], '
            detail += "on the command line --dtype float32"
        elif u.dtype.kind in "iub":
            detail += ": are these codes? The check needs the quantized weights themselves"
        faults.append(Fault("dtype changed", detail, inputs, u))
    if not np.isfinite(u).all():
        return None, [*faults, Fault("NaN", "the result holds NaN or infinity", inputs, u)]
    return np.array(u, like.dtype), faults


def gradient_form(i: int, d: Floats, x: Floats, shown: Mapping[str, Any]) -> Fault | None:
    """The fault, if any, in the shape and dtype of d, the gradient of input i, which is x."""
    if d.shape != x.shape:
        kind = "not summed" if d.ndim >= x.ndim and d.size > x.size else "shape changed"
        detail = f"the gradient of input {i} has shape {d.shape}, the input has {x.shape}"
        return Fault(kind, detail, shown, d)
    if d.dtype != x.dtype:
        detail = f"the gradient of input {i} has dtype {d.dtype}, the input has {x.dtype}"
        return Fault("dtype changed", detail, shown, d)
    return None


def first_call(fn: Callable[..., Any], inputs: Mapping[str, Any]) -> list[Fault]:
    """Misuse if fn cannot be called like this; a fault if only the first call fails."""
    name = getattr(fn, "__name__", repr(fn))
    if isinstance(fn, type):
        is_function = any(base.__name__ == "Function" for base in fn.__mro__)  # autograd's
        what = f"its apply, {name}.apply" if is_function else f"an instance, {name}(...)"
        raise Misuse(f"{name} is a class; pass {what}")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some functions written in C have none
        signature = None
    if signature is not None:
        try:
            signature.bind(*inputs.values())
        except TypeError as error:
            asked = ", ".join(inputs)
            raise Misuse(
                f"the check calls fn({asked}), which {name}{signature} does not take: {error}; "
                f"pass a function that does, lambda {asked}: {name}(...)"
            ) from None
    out, faults = called(fn, inputs)
    if out is not None or not faults:
        return []
    again, faults_again = called(fn, inputs)
    if again is not None:
        detail = f"the first call raised {faults[0].detail}; the same call again did not"
        return [Fault("not repeatable", f"{detail} (a lazy import?)", inputs)]
    if faults_again and (remedy := _adapter(fn, inputs)):
        raise Misuse(f"fn raised {faults[0].detail}; {remedy}")
    return []


def said(error: Exception) -> str:
    """The class of an error and the first line of its message, if there is one."""
    stub = ["not written yet"] if isinstance(error, NotImplementedError) else []
    return ": ".join([*stub, type(error).__name__, *str(error).strip().splitlines()[:1]])


def no_array(fn: Callable[..., Any], inputs: Mapping[str, Any], out: Any, like: Floats) -> str:
    """What to do about a result of fn that is not an array like `like`."""
    if out is None:
        return "fn returned None: is there a return?"
    if isinstance(out, tuple | list):
        at = [i for i, part in enumerate(out) if np.shape(part) == like.shape]
        one = f", lambda *args: fn(*args)[{at[0]}]" if isinstance(out, tuple) and at else ""
        parts = ", ".join(type(part).__name__ for part in out[:4]) + ", ..." * (len(out) > 4)
        kind = type(out).__name__
        return f"fn returned a {kind} ({parts}); the check needs the weights alone, one array{one}"
    kind = f"{type(out).__module__.partition('.')[0]}.{type(out).__name__}"
    kind = kind.removeprefix("builtins.")
    remedy = _adapter(fn, inputs) or "convert it by np.asarray"
    return f"fn returned a {kind}, not a NumPy array; {remedy}"


def _adapter(fn, inputs):
    """The remedy if fn was adapted, but is for the arrays of another library, or for NumPy's."""
    if not hasattr(fn, "adapted_from"):
        return None
    other = recognised(fn.adapted_from)
    out, _ = called(other, inputs)
    if not is_result(out) or other.library == fn.library:
        return None
    if other.library is None:
        return "it works without the adapter: pass the function itself"
    return (
        f"it works on {other.library} arrays: pass conformance.from_{other.library}(fn), or on the "
        f"command line --adapter {other.library}"
    )
