"""What a check has found, and the conventions that can be broken."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CONVENTIONS = {
    "misuse": "the check needs a function of NumPy arrays, to be called as it says",
    "raised": "every finite float32 or float64 input has a result",
    "result": "the result is the array, or the tuple of arrays, that the check asks for",
    "shape changed": "the result has the shape of the weights",
    "not summed": "the gradient has the shape of its input: broadcast axes are summed over",
    "rank": "weights have any rank: vectors, matrices, kernels of convolutions",
    "memory layout": "weights may be a view, such as a transpose",
    "not repeatable": "the same input gives the same result",
    "input mutated": "the input is never modified",
    "NaN": "the result of finite input is finite",
    "not quantized": "the result lies in the quantized set",
    "not a prox": "the prox is a minimiser of 1/2 ||u - x||^2 + s R(u), not a step towards one",
    "wrong strength": "strength is the weight of R, once: 0 changes nothing, infinity projects",
    "wrong scale": "weights that are already quantized, all of one magnitude, do not change",
    "factor of two": "the 1/2 in prox(x, s) = argmin_u 1/2 ||u - x||^2 + s R(u) and in "
    "1/2 ||.||^2; fitted levels are as large as the weights",
    "wrong reduction": "the scale is taken from the weights, and by the measure, that are said",
    "wrong range": "the codes go as far as is said; so the largest weight is kept, or clipped",
    "parameter": "a penalty's gamma, where it bends or how much of it is ridge, is what is said",
    "gradient point": "lazy: the gradient is taken at P(z); eager: at the weights",
    "latent overwritten": "lazy: the latent moves on from where it was, not from its image",
    "stale weights": "lazy: the deployed weights are the image of the latent after the step",
    "clipped": "nothing is clipped, neither what moves nor its gradient",
    "order": "eager: the base step first, then the map",
    "direction": "steps go against the gradient",
    "wrong factor": "through a quantizer: the gradient passes unchanged, or times what is said",
    "wrong clip": "through a quantizer: it passes between the ends that are said, or everywhere",
    "wrong ends": "through a quantizer: at the ends of the clip it passes, or not, as is said",
    "gradient scale": "the step's gradient has the factor that is said: LSQ, 1/sqrt(n q)",
    "wrong estimator": "through a quantizer: the gradient is that of the estimator that is said",
    "moments": "Adam: m and v start at 0, decay by beta1 = 0.9 and beta2 = 0.999, and are returned",
    "bias correction": "Adam divides m and v by 1 - beta^t, t counted from 1",
    "epsilon": "Adam adds eps to the root of the corrected v, not under the root",
    "wrong step": "the step follows the formula",
    "not averaged": "the gradient of a mean has the factor 1/n, that of a sum does not",
    "transposed": "entry (i, j) of the gradient belongs to entry (i, j) of the input",
    "wrong gradient": "the gradient is that of the function",
    "not a neighbour": "rounding by chance: to one of the two levels next to the weight",
    "not random": "rounding by chance: a weight between two levels goes to either, now and then",
    "not independent": "rounding by chance: a draw for each weight, and new ones in each call",
    "biased": "rounding by chance: up with probability (w - l) / (h - l), so that the mean is w",
    "not the rule": "each weight goes where the published rule sends it",
    "not nearest": "a weight goes towards the nearest of its levels",
    "not optimal": "prox and projection are minimisers: no other point has a smaller objective",
    "not optimal although claimed": "an exact projection has the least squared error of all",
    "wrong tie": "a weight halfway between two levels goes to the upper one, or as is said",
    "sign(0)": "sign_pm(0) = +1, also of -0.0: no further level between the two signs",
    "not idempotent": "quantized weights are left alone by a second call",
    "dtype changed": "float32 in, float32 out; float64 in, float64 out",
    "precision": "float64 in: computed in float64",
}
"""The name of each convention and what it says, the most important ones first."""


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

    verdict: "right"; "heuristic" for a valid result that is not optimal; "valid, optimum unknown"
    for a set whose least squared error is not known; "wrong" if it contradicts the definition; or
    "misuse" if fn could not be checked, with the remedy.
    passed: whether it is right, valid, or a heuristic that does not claim to be exact.
    faults: each broken convention with the smallest counterexample found, the most important first.
    gaps: a heuristic's relative excess error, ||w - fn(w)||^2 / least - 1, for each comparison.
    beyond: what fn makes of weights that no convention covers: none, a scalar, NaN, infinity.
    notes: what was done to fn so that it could be checked: its adapter, how codes were read.

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
    faults: tuple[Fault, ...] = ()
    gaps: Mapping[str, float] = field(default_factory=dict)
    beyond: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.passed

    @property
    def fault(self) -> Fault | None:
        """The most important fault; None if right."""
        return self.faults[0] if self.faults else None

    @property
    def convention(self) -> str | None:
        """The convention that `fault` breaks, a key of CONVENTIONS; None if right."""
        return None if self.fault is None else self.fault.convention

    def __str__(self) -> str:
        head = {"right": "PASSED", "valid, optimum unknown": "PASSED, valid, optimum unknown"}
        head = head.get(self.verdict, self.verdict.upper())
        if self.verdict == "heuristic":
            head += ", passed" if self.passed else ", but claimed to be exact: failed"
        lines = [f"{head}: {self.name} as {self.definition}"]
        if len(self.faults) > 1:
            broken = ", ".join(fault.convention for fault in self.faults)
            lines.append(f"  {len(self.faults)} conventions are broken: {broken}")
        for fault in self.faults:
            lines.append(f"  {fault.convention}: {fault.detail}")
            lines.append(f"  convention  {CONVENTIONS[fault.convention]}")
            shown = {**fault.inputs, "got": fault.got, "expected": fault.expected}
            lines += [f"  {key:10}  {show(v)}" for key, v in shown.items() if v is not None]
        for name, gap in self.gaps.items():
            lines.append(f"  gap         {gap:+.2%} in squared error over {name}")
        lines += [f"  {kind:10}  {what}" for kind, what in self.beyond.items()]
        lines += [f"  {kind:10}  {what}" for kind, what in self.notes.items()]
        lines.append(f"  checked     {self.checked}")
        return "\n".join(lines)


def in_order(faults: Iterable[Fault], valid: Container[str] = frozenset()) -> tuple[Fault, ...]:
    """Faults in order of importance: wrong before valid, then in the order of CONVENTIONS."""
    order = list(CONVENTIONS)
    key = lambda fault: (fault.convention in valid, order.index(fault.convention))  # noqa: E731
    return tuple(sorted(faults, key=key))


def show(value: Any) -> str:
    """A value on one line, with an array's dtype, and its shape unless it is a vector."""
    if isinstance(value, tuple):
        return "; ".join(map(show, value))
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        text = np.array2string(value, separator=", ", threshold=16).replace("\n", "")
        return f"{text} {value.dtype}" + (f" {value.shape}" if value.ndim != 1 else "")
    return str(value)
