"""The theorems, each tried on random problems: by how much is what it says violated?

A theorem stands if no trial's violation exceeds its tolerance, which only allows for rounding. That
is not a proof (the docstrings of `theory` have those), but it would reveal a mistake in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.experiments import trials
from proxquant_np.experiments.runner import run_cells
from proxquant_np.experiments.trials import ROUNDING
from proxquant_np.provenance import environment

INSTANCES = 500
ILL_CONDITIONED = 1e-6  # mirror descent keeps w, whose 1 - w loses digits near 1


class Theorem(NamedTuple):
    """A theorem in words, and how it is tried.

    Args:
        proof: the file of the package that states and proves it.
        trial: from a random generator to a violation.
        tolerance: the largest violation that rounding explains.
        source: whose theorem it is.
    """

    text: str
    proof: str
    trial: Callable[[np.random.Generator], float]
    tolerance: float = 0.0
    source: str = "paper"


THEOREMS = {
    "three_ways": Theorem(
        "Straight-through is dual averaging: three ways to the same iterates, bit for bit",
        "theory/dual_averaging.py",
        trials.three_ways,
    ),
    "regret": Theorem(
        "Dual averaging on a convex set keeps its bound on regret",
        "theory/dual_averaging.py",
        trials.regret_bound,
        ROUNDING,
    ),
    "toys_fool": Theorem(
        "BinaryConnect has the same iterates on both toys, so it fails on one",
        "theory/toys.py",
        trials.toys_fool_binary_connect,
    ),
    "toys_solved": Theorem(
        "ProxQuant with a slow homotopy solves both toys", "theory/stability.py", trials.toys_solved
    ),
    "criterion": Theorem(
        "A corner is a fixed point of BinaryConnect iff no gradient points inwards",
        "theory/fixed_points.py",
        trials.criterion,
    ),
    "no_fixed_point": Theorem(
        "If a strictly convex loss has its minimiser at no corner, BinaryConnect flips forever",
        "theory/fixed_points.py",
        trials.no_fixed_point,
        source="ours",
    ),
    "twin": Theorem(
        "On a quadratic, BinaryConnect's running mean is Frank-Wolfe, exactly",
        "theory/stability.py",
        trials.twin,
        source="ours",
    ),
    "flip_frequency": Theorem(
        "That mean converges, and tells how long a weight is at +1 and how often it flips",
        "theory/stability.py",
        trials.flip_frequency,
        ROUNDING,
        source="ours",
    ),
    "descent": Theorem(
        "Prox-gradient descends by at least beta/2 times the squared move, kinks or not",
        "theory/convergence.py",
        trials.descent,
        ROUNDING,
    ),
    "rate": Theorem(
        "Its gradient vanishes at the rate 6 beta/t; at the smallest move, at 18 beta/(t + 2)",
        "theory/convergence.py",
        trials.rate,
        ROUNDING,
        source="paper; constants ours",
    ),
    "rate_of_other_steps": Theorem(
        "With a step of 1/(c beta), c >= 1, the 6 is 2 (c + 1)",
        "theory/convergence.py",
        trials.rate_of_other_steps,
        ROUNDING,
        source="ours",
    ),
    "rounded_w": Theorem(
        "There is a differentiable W as near to W as one likes",
        "theory/toys.py",
        trials.rounded_w,
        ROUNDING,
    ),
    "lazy_cycle": Theorem(
        "Lazy prox-gradient can alternate forever between two points that are not stationary",
        "theory/lazy_cycle.py",
        trials.lazy_cycle,
        ROUNDING,
    ),
    "finite_time": Theorem(
        "Once lambda exceeds G, a bound on all gradients with lr G < 1, signs stay and all weights "
        "are soon quantized",
        "theory/stability.py",
        trials.finite_time,
        source="ours",
    ),
    "held": Theorem(
        "Under an L1 distance a weight on a level stays iff the base moves it by at most "
        "lr lambda and not past a midpoint",
        "theory/base_moves.py",
        trials.held_by_l1,
        source="ours",
    ),
    "adam_moves": Theorem(
        "Adam's step t moves a weight by at most lr C_t, whatever the gradients: 7.27 lr at most",
        "theory/base_moves.py",
        trials.adam_moves,
        ROUNDING,
        source="ours",
    ),
    "finite_time_with_adam": Theorem(
        "With Adam, once lambda exceeds 7.27 and if 7.27 lr < 1, signs stay and all weights are "
        "soon quantized",
        "theory/base_moves.py",
        trials.finite_time_with_adam,
        source="ours",
    ),
    "nearest_corner": Theorem(
        "BinaryConnect returns again and again to the corner nearest to the minimiser",
        "theory/stability.py",
        trials.nearest_corner,
        ROUNDING,
        source="ours",
    ),
    "forward_backward": Theorem(
        "Clipped straight-through is BinaryConnect on the loss that is constant beyond the cube",
        "theory/forward_backward.py",
        trials.forward_backward,
        ROUNDING,
        source="after Lu et al. 2023",
    ),
    "mirror": Theorem(
        "Lazy training with tanh is mirror descent, and keeps its bound on regret",
        "theory/mirror_descent.py",
        trials.mirror,
        ILL_CONDITIONED,
        source="Ajanthan et al. 2021",
    ),
    "last_iterate": Theorem(
        "With a convex piecewise-affine regularizer the last lazy iterate converges",
        "theory/last_iterate.py",
        trials.last_iterate,
        ROUNDING,
        source="Jin et al. 2025",
    ),
    "few_samples": Theorem(
        "At a critical point no more weights are off the levels than there are samples",
        "theory/few_samples.py",
        trials.few_samples,
        source="Ma, Xiao 2025",
    ),
    "distance_prox": Theorem(
        "The prox of half a squared distance is (x + s P(x))/(1 + s), fitted levels included",
        "prox/regularizer.py",
        trials.distance_prox,
        ROUNDING,
        source="Yin et al. 2018",
    ),
}


def attempt(name: str, instances: int) -> dict[str, Any]:
    """Try a theorem of THEOREMS on problems 0, ..., instances - 1; what the record holds of it."""
    theorem = THEOREMS[name]
    found = np.array([theorem.trial(np.random.default_rng(i)) for i in range(instances)])
    return {
        "instances": instances,
        "tolerance": theorem.tolerance,
        "largest_violation": float(f"{found.max():.3g}"),
        "worst_instance": int(found.argmax()),
        "violations": int((found > theorem.tolerance).sum()),
    }


def measure(instances: int = INSTANCES, *, jobs: int = 2, progress: bool = True) -> dict[str, Any]:
    """Try every theorem; the whole record."""
    cells = {name: dict(name=name, instances=instances) for name in THEOREMS}
    found = run_cells(attempt, cells, jobs=jobs, description="theorems", progress=progress)
    made = environment()
    return {"experiment": "theorems", "quick": False, "environment": made, "theorems": found}


def table(record: Mapping[str, Any]) -> str:
    """The record as text, one line per theorem."""
    return "\n".join(
        f"{THEOREMS[name].text:90}{tried['largest_violation']:>10.3g} of {tried['tolerance']:g}"
        for name, tried in record["theorems"].items()
    )
