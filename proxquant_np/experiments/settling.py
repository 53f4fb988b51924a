"""Claim: BinaryConnect flips signs for as long as its learning rate lasts; ProxQuant stops.

What the theorems on flips and on finite-time quantization say is measured here on the digits MLP.
Three runs with plain SGD start from the same full-precision network and take equally many steps on
the same batches: BinaryConnect with a constant learning rate, BinaryConnect with one that decays
linearly to 0, and ProxQuant with lambda_t = rate * t. No weight is clipped, so these are the
iterations of the theorems.

The finite-time theorem holds for any vectors in place of gradients, here those of the batches, with
G_t the largest entry in step t. It is applied twice: with G = max_t G_t, from the step on at which
lambda_t exceeds G; and step by step, from the step on at which lambda_t stays above G_t and
G_{t+1}. Provided that lr G < 1, each says that no sign changes after that step, and that
`steps_to_quantize` steps later all weights are at -1 or +1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from proxquant_np import models, nn, optim, prox
from proxquant_np.data import load_digits
from proxquant_np.experiments.runner import run_cells
from proxquant_np.provenance import environment
from proxquant_np.theory import flips, steps_to_quantize
from proxquant_np.training import fit, metrics
from proxquant_np.training.fit import HISTOGRAM_EDGES

SETTING = dict(seed=0, warm_steps=300, steps=800, batch_size=32, lr=1.0, rate=7.5e-4)
METHODS = ("binary_connect", "binary_connect_decayed", "prox_quant")
SHOWN = 150  # how many coordinates a raster shows
BINS = 60  # into which curves divide the steps
CURVE_STEPS = 5  # for which a point of a curve stands, with their largest value
# Histograms are kept of the steps by which ProxQuant's prox has carried weights about this far (the
# sum of lr lambda_t; a level is at most 1 away from a weight in [-1, 1]), and of the end.
FRAMES = (0.0, 0.25, 0.5, 0.75, 1.0)


def _joined(arrays):
    return np.concatenate([a.reshape(-1) for a in arrays])


class _Recording:
    """Records what the theorems are about, before and after each step of a quantized optimizer."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.weights, self.lams, self.largest = [self._joined()], [], []
        self.histograms = [self._histogram()]

    def _histogram(self):
        points = _joined(getattr(self, "latent", None) or [p.data for p in self.params])
        return np.histogram(np.clip(points, -2, 2), HISTOGRAM_EDGES)[0].tolist()

    def _joined(self):
        return _joined([p.data for p in self.params])

    def step(self):
        self.largest.append(max(float(np.abs(p.grad).max()) for p in self.params))
        self.lams.append(self.homotopy(self.steps) if self.homotopy else np.inf)
        super().step()
        self.weights.append(self._joined())
        self.histograms.append(self._histogram())


class _Lazy(_Recording, optim.DualAveraging):
    """BinaryConnect, recorded."""


class _Eager(_Recording, optim.ProxGradient):
    """ProxQuant, recorded."""


def run(
    method: str, seed: int, warm_steps: int, steps: int, batch_size: int, lr: float, rate: float
) -> dict[str, Any]:
    """Run one method from the warm start of a seed; its measurements, in what JSON can hold."""
    digits, model = load_digits(), models.MLP(rng=seed)
    common = dict(batch_size=batch_size, seed=seed, progress=False)
    fit(model, optim.Adam(model.parameters(), 3e-3), digits.train, steps=warm_steps, **common)
    params = nn.quantizable_parameters(model)
    wrapper, homotopy = (_Eager, prox.Linear(rate)) if method == "prox_quant" else (_Lazy, None)
    optimizer = wrapper(optim.SGD(model.parameters(), lr), params, prox.BinaryL1(), homotopy)
    decay = (lambda t: lr * (1 - t / steps)) if method == "binary_connect_decayed" else None
    fit(model, optimizer, digits.train, steps=steps, schedule=decay, **common)
    quantized = metrics.quantized_copy(model, prox.BinaryL1())

    weights = np.array(optimizer.weights)
    changed = (weights[1:] >= 0) != (weights[:-1] >= 0)
    counts, at = flips(weights), np.flatnonzero(changed.any(axis=1))
    kept = [min(steps, math.ceil((2 * reach / (lr * rate)) ** 0.5)) for reach in FRAMES]
    result = {
        "summary": {
            "weights": weights.shape[1],
            "steps": steps,
            "flips_per_step": float(changed.mean()),
            "flips_per_step_late": float(changed[-steps // 5 :].mean()),
            "ever_flipped": float((counts > 0).mean()),
            "last_flip": int(at[-1]) if at.size else None,
            "validation_error": metrics.evaluate(quantized, *digits.validation).error,
        },
        "flips_per_step": [float(part.mean()) for part in np.array_split(changed, BINS)],
        "coordinates_by_flips": np.bincount(counts).tolist(),
        "flips": {int(i): np.flatnonzero(changed[:, i]).tolist() for i in np.flatnonzero(counts)},
        "frames": [{"step": n, "counts": optimizer.histograms[n]} for n in (*kept, steps)],
    }
    if method == "prox_quant":
        result["summary"] |= _finite_time(weights, optimizer, lr)
        off = (np.abs(weights[:-1]) != 1).mean(axis=1)
        starts = np.arange(0, steps, CURVE_STEPS)
        result["curves"] = {
            "step": starts.tolist(),
            "lam": [optimizer.lams[t] for t in starts],
            "largest_gradient": np.maximum.reduceat(optimizer.largest, starts).tolist(),
            "not_quantized": np.maximum.reduceat(off, starts).tolist(),
        }
    return result


def _finite_time(weights: np.ndarray, optimizer: Any, lr: float) -> dict[str, Any]:
    """The steps that the theorem gives, with one G and with one per step, and what happened."""
    lams, largest = np.array(optimizer.lams), np.array(optimizer.largest)
    distance = np.abs(np.abs(weights) - 1).max(axis=1)
    one = np.full_like(largest, largest.max())
    found: dict[str, Any] = {
        "largest_gradient": float(largest.max()),
        "quantized": int(np.flatnonzero(distance > 0)[-1]) + 1,
    }
    for name, bounds in (("theorem", one), ("theorem_step_by_step", largest)):
        held = lams > np.maximum(bounds, np.append(bounds[1:], 0))
        start = len(held) - int(np.argmin(held[::-1]))  # after the last step where it is not
        if not held[-1] or lr * bounds.max() >= 1:
            raise ValueError(
                f"lambda must end above G and lr G be below 1, got lambda {lams[-1]}, G "
                f"{bounds.max()}, lr {lr}"
            )
        steps = steps_to_quantize(float(distance[start]), lr, lams[start:], bounds[start:])
        found[name] = {"no_flips_after": start, "quantized": start + steps}
    return found


def measure(jobs: int = 2, progress: bool = False, **changes: Any) -> dict[str, Any]:
    """Make all three runs: {"setting", "environment", method: measurements}.

    changes: what differs from `SETTING`.
    """
    setting = {**SETTING, **changes}
    cells: Mapping[str, Any] = {method: dict(method=method, **setting) for method in METHODS}
    runs = run_cells(run, cells, jobs=jobs, description="settling", progress=progress)
    return {"setting": setting, "environment": environment(), **runs}


def raster(result: Mapping[str, Any]) -> dict[str, list[list[int]]]:
    """By method, the steps in which each of SHOWN coordinates flips, for `plotting.flip_raster`.

    The coordinates are the same for all methods, evenly spaced among those that flip in any run.
    """
    flipping = sorted({int(i) for method in METHODS for i in result[method]["flips"]})
    chosen = [flipping[i] for i in np.linspace(0, len(flipping) - 1, SHOWN).astype(int)]
    return {m: [result[m]["flips"].get(i, []) for i in chosen] for m in METHODS}
