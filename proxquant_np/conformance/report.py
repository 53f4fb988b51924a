"""Conformance (layer 7): what a check found, and the conventions that can be broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CONVENTIONS = {
    "raised": "every finite float32 or float64 input has a result",
    "NaN": "the result of finite input is finite",
    "result": "the result is the array, or the tuple of arrays, that the check asks for",
    "shape changed": "the result has the shape of the weights",
    "dtype changed": "float32 in, float32 out; float64 in, float64 out",
    "input mutated": "the input is never modified",
    "rank": "weights have any rank: vectors, matrices, kernels of convolutions",
    "memory layout": "weights may be a view, such as a transpose",
    "not repeatable": "the same input gives the same result",
    "sign(0)": "sign_pm(0) = +1, also of -0.0: no third level among binary weights",
    "wrong tie": "a weight halfway between two levels goes to the upper one",
    "not nearest": "a weight goes towards the nearest of its levels",
    "factor of two": "the 1/2 in prox(x, s) = argmin_u 1/2 ||u - x||^2 + s R(u) and in "
    "1/2 ||.||^2; fitted levels are as large as the weights",
    "wrong scale": "weights that are quantized already, all of one magnitude, are left alone",
    "wrong strength": "strength is the weight of R, once: 0 changes nothing, infinity projects",
    "not a prox": "the prox is a minimiser of 1/2 ||u - x||^2 + s R(u), not a step towards one",
    "not quantized": "the result lies in the quantized set",
    "not optimal": "prox and projection are minimisers: no other point has a smaller objective",
    "not optimal although claimed": "an exact projection has the least squared error of all",
    "gradient point": "lazy: the gradient is taken at P(z); eager: at the weights",
    "latent overwritten": "lazy: the latent moves on from where it was, not from its image",
    "stale weights": "lazy: the deployed weights are the image of the latent after the step",
    "order": "eager: the base step first, then the map",
    "direction": "steps go against the gradient",
    "moments": "Adam: m and v start at 0, decay by beta1 = 0.9 and beta2 = 0.999, and are returned",
    "bias correction": "Adam divides m and v by 1 - beta^t, t counted from 1",
    "epsilon": "Adam adds eps to the root of the corrected v, not under the root",
    "wrong step": "the step is the formula's",
    "not summed": "the gradient has the shape of its input: broadcast axes are summed over",
    "not averaged": "the gradient of a mean has its 1/n, that of a sum has not",
    "transposed": "entry (i, j) of the gradient belongs to entry (i, j) of the input",
    "wrong gradient": "the gradient is that of the function",
}
"""Name of each convention: what it says."""


@dataclass(frozen=True)
class Fault:
    """One input at which an implementation breaks a convention."""

    convention: str
    detail: str
    inputs: Mapping[str, Any]
    got: Any = None
    expected: Any = None


@dataclass(frozen=True)
class Report:
    """The result of a check; true if it passed. `str` says it in words.

    verdict: "right"; "heuristic", valid but not optimal; or "wrong", against the definition.
    passed: right, or a heuristic that does not claim to be exact.
    fault: the smallest counterexample found, with the convention it breaks; None if right.
    gaps: of a heuristic, ||w - fn(w)||^2 / least - 1, by what it was compared with and where.

    Examples:
        >>> report = pq.conformance.check_prox(pq.prox.BinaryL2().prox, "binary_l2")
        >>> bool(report), report.verdict
        (True, 'right')
    """

    name: str
    definition: str
    verdict: str
    passed: bool
    checked: str
    fault: Fault | None = None
    gaps: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.passed

    @property
    def convention(self) -> str | None:
        """The convention that is broken, a key of CONVENTIONS; None if right."""
        return None if self.fault is None else self.fault.convention

    def __str__(self) -> str:
        head = {"right": "PASSED", "heuristic": "HEURISTIC", "wrong": "WRONG"}[self.verdict]
        if self.verdict == "heuristic":
            head += ", passed" if self.passed else ", but claimed to be exact: failed"
        lines = [f"{head}: {self.name} as {self.definition}"]
        if self.fault is not None:
            lines += [
                f"  {self.fault.convention}: {self.fault.detail}",
                f"  convention  {CONVENTIONS[self.fault.convention]}",
            ]
            shown = {**self.fault.inputs, "got": self.fault.got, "expected": self.fault.expected}
            lines += [f"  {key:10}  {_show(v)}" for key, v in shown.items() if v is not None]
        for name, gap in self.gaps.items():
            lines.append(f"  gap         {gap:+.2%} in squared error over {name}")
        lines.append(f"  checked     {self.checked}")
        return "\n".join(lines)


def _show(value):
    if isinstance(value, tuple):
        return "; ".join(map(_show, value))
    if isinstance(value, np.ndarray):
        text = np.array2string(value, separator=", ", threshold=16).replace("\n", "")
        return f"{text} {value.dtype}" + (f" {value.shape}" if value.ndim != 1 else "")
    return str(value)
