"""Checks of the form of what fn(w) or fn(x, strength) returns, before its values.

Any rank, any memory layout, the same result each time. What fn makes of weights that no convention
covers is reported, but not judged.
"""

from __future__ import annotations

import textwrap
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from proxquant_np.conformance.calls import Misuse, called, first_call, run
from proxquant_np.conformance.report import Fault, show
from proxquant_np.prox.arrays import Floats

DTYPES = ("float32", "float64")
VALUES = [0.75, -1.5, 0.25, 1.0, -0.5, 2.0]
SHAPES = [(6,), (2, 3), (2, 1, 3, 1)]
BEYOND = {"empty": [], "0-d": 0.75, "NaN": [np.nan, 1.0, -0.5], "infinity": [np.inf, 1.0, -0.5]}


SLOW = 0.5  # seconds for a call, once the first call has loaded and compiled what it needs


class Subject:
    """The function under test, of weights and perhaps a strength.

    rank: that of the weights it accepts; if it needs a matrix, it is given vectors as rows of one.
    values, shapes: what its form is found out with; any_rank: whether it must take all of these
    shapes, tells_beyond: whether also weights of no shape. repeats: whether the same input has to
    give the same result. shape_of_rank: how to give any weights w that rank, as Python text.
    """

    values: Sequence[float] = VALUES
    shapes: Sequence[tuple[int, ...]] = SHAPES
    any_rank = tells_beyond = repeats = True
    shape_of_rank: Mapping[int, str] = {1: "-1", 2: "len({w}), -1", 4: "len({w}), -1, 1, 1"}

    def __init__(self, fn: Callable[..., Any], with_strength: bool):
        self.fn, self.with_strength, self.rank = fn, with_strength, 1
        self._seen: dict[Any, tuple[Floats | None, list[Fault]]] = {}

    @property
    def rest(self) -> tuple[float, ...]:
        """The arguments after the weights, where their values do not matter."""
        return (1.0,) if self.with_strength else ()

    def named(self, x: Floats, *rest: float) -> dict[str, Any]:
        """The arguments, by name."""
        return {"x": x, "strength": rest[0]} if rest else {"w": x}

    def run(self, x: Floats, *rest: float) -> tuple[Floats | None, list[Fault]]:
        """As `calls.run` for a vector x, but only once for the same arguments."""
        key = x.dtype.str, x.shape, x.tobytes(), *rest
        if key not in self._seen:
            w = self.shaped(x)
            u, faults = run(self.fn, self.named(w, *rest), w)
            self._seen[key] = None if u is None else u.reshape(x.shape), faults
        return self._seen[key]

    def of_another_shape(self, w: Floats, u: Floats) -> tuple[str, str]:
        """(convention, detail) if the same weights in this shape give another result, u."""
        remedy = self.reshaped("1, -1" + ", 1" * (max(self.rank, 2) - 2))
        return "rank", (
            "the same weights in another shape give another result (levels per row? To check them "
            f"on one row, pass {remedy})"
        )

    def reshaped(self, shape: str) -> str:
        """A function of weights of any rank, as Python text: fn of the weights in this shape."""
        w, *rest = names = list(self.named(np.zeros(1), *self.rest))
        call = ", ".join([f"{w}.reshape({shape})", *rest])
        return f"lambda {', '.join(names)}: fn({call}).reshape({w}.shape)"

    def shaped(self, x: Floats) -> Floats:
        """A vector in the rank that fn takes."""
        return x.reshape(1, *x.shape, *[1] * (self.rank - 2)) if self.rank > 1 else x


def form_faults(subject: Subject, dtypes: Sequence[str]) -> tuple[list[Fault], bool]:
    """(faults in the form of the result on a few tensors, whether values can be checked).

    Sets the rank of the subject. Misuse if fn cannot be checked as it was passed.
    """
    w = np.array(subject.values, dtypes[0]).reshape(subject.shapes[0])
    arguments = subject.named(w, *subject.rest)
    found = first_call(subject.fn, arguments)
    start = time.perf_counter()
    called(subject.fn, arguments)
    if (seconds := time.perf_counter() - start) > SLOW:
        raise Misuse(f"fn takes {seconds:.1f} s for {w.size} weights; a check needs some 100 calls")
    works = {}
    for dtype in dtypes:
        faults, works[dtype] = _form(subject, np.array(subject.values, dtype))
        found += [_of_one_dtype(fault, works) for fault in faults]
    goes_on = all(works.values())
    return list({fault.convention: fault for fault in reversed(found)}.values()), goes_on


def _of_one_dtype(fault, works):
    """The fault, and, if only a dtype before this one works, how to check fn in that one."""
    usable = list(works.values())[-1]
    before = [name for name, worked in works.items() if worked]
    if usable or not before or fault.convention != "raised":
        return fault
    hint = f'only with {before[0]}: to check it in that alone, pass dtypes=["{before[0]}"], on '
    return replace(fault, detail=f"{hint}the command line --dtype {before[0]}; {fault.detail}")


def _form(subject, w):
    """(faults at these weights, whether there are results that repeat)."""

    def result(array):
        return run(subject.fn, subject.named(array, *subject.rest), array)

    results = {shape: result(w.reshape(shape)) for shape in subject.shapes}
    works = [shape for shape, (u, _) in results.items() if u is not None]
    if not works:
        return results[subject.shapes[0]][1], False
    found = [fault for shape in works for fault in results[shape][1]]
    subject.rank = len(works[0])
    first = w.reshape(works[0])
    u = results[works[0]][0]
    if not subject.repeats:
        return found + _rank(subject, w, results, works, result), True
    again = [result(first)[0] for _ in range(4)]
    if any(v is None or v.tobytes() != u.tobytes() for v in again):
        inputs = subject.named(first, *subject.rest)
        fault = Fault("not repeatable", "a second call gave another result", inputs)
        return [*found, fault], False
    found += _rank(subject, w, results, works, result)
    if (2, 3) in works:
        found += _layout(subject, w.reshape(3, 2).T, result)
    return found, True


def _rank(subject, w, results, works, result):
    """Which ranks are accepted, and whether they give the same result."""
    if len(works) < len(subject.shapes) and subject.any_rank:
        ranks = "- and ".join(str(len(shape)) for shape in works)
        failed = next(shape for shape in subject.shapes if shape not in works)
        fault = results[failed][1][-1]
        if len(works) == 1 and len(subject.shapes[0]) == 1 and subject.repeats:
            row = subject.shaped(w)
            u, straight = result(row)[0], results[works[0]][0]
            if u is not None and not _alike(u.reshape(-1), straight.reshape(-1)):
                kind = subject.of_another_shape(row, u)
                inputs = subject.named(row, *subject.rest)
                return [Fault(*kind, inputs, u, straight.reshape(row.shape))]
        detail = f"only {ranks}-D: weights of shape {failed}: {fault.convention}: {fault.detail}"
        if len(works) == 1 and (shape := subject.shape_of_rank.get(subject.rank)):
            shape = shape.format(w=next(iter(fault.inputs)))
            detail += f"; if it is for these alone, pass {subject.reshaped(shape)}"
        return [Fault("rank", detail, fault.inputs, fault.got, fault.expected)]
    first = results[works[0]][0].reshape(-1)
    for shape in works[1:] if subject.repeats else []:
        other = results[shape][0]
        if not _alike(other.reshape(-1), first):
            convention, detail = subject.of_another_shape(w.reshape(shape), other)
            inputs = subject.named(w.reshape(shape), *subject.rest)
            return [Fault(convention, detail, inputs, other, first.reshape(shape))]
    return []


def _layout(subject, transpose, result):
    """Compares a view that is not contiguous with its copy."""
    inputs = subject.named(transpose, *subject.rest)
    u, faults = result(transpose)
    if u is None:
        return [
            Fault("memory layout", f"weights that are a transpose: {faults[-1].detail}", inputs)
        ]
    straight, _ = result(np.ascontiguousarray(transpose))
    if straight is None or _alike(u, straight):
        return []
    detail = "a transpose and its contiguous copy give different results"
    return [Fault("memory layout", detail, inputs, u, straight)]


def _alike(u, v):
    close = 64 * float(np.finfo(u.dtype).eps)
    return np.allclose(u, v, close, close)


def beyond(subject: Subject, dtype: str) -> dict[str, str]:
    """What fn makes of no weights, a scalar, NaN and infinity, in words."""
    told: dict[str, str] = {}
    if not subject.tells_beyond:
        return told
    for kind, values in BEYOND.items():
        w = np.array(values, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out, faults = called(subject.fn, subject.named(w, *subject.rest))
        raised = [fault.detail for fault in faults if fault.convention == "raised"]
        came = f"raises {raised[0]}" if raised else f"gives {show(out)}"
        told[kind] = f"{show(w)}: {textwrap.shorten(came, 70, placeholder=' ...')}"
    return told
