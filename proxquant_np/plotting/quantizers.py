"""A figure of the relative excess error of heuristic quantizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from proxquant_np.plotting.style import NEUTRAL, STRENGTH_COLOURS, log_down_to_zero, new_figure
from proxquant_np.prox import MultiBitL2, Regularizer, TernaryL2, UniformL2
from proxquant_np.prox.brute_force import excess_error


def quantizer_gaps_data(
    trained: Sequence[np.ndarray], tensors: int = 12, size: int = 4096, seed: int = 0
) -> dict[str, Any]:
    """Relative excess errors of heuristic quantizers, ||w - P(w)||^2 / ||w - P*(w)||^2 - 1.

    P* is the exact projection; the tensors w are `tensors` random ones of each kind and the
    `trained` ones. "gaps": heuristic -> kind -> the error for each tensor. "by_rounds": for two
    heuristics, the median over the tensors of each kind at each number of "rounds".

    Examples:
        >>> from proxquant_np import plotting
        >>> trained = [np.random.default_rng(0).normal(size=64)]
        >>> sorted(plotting.quantizer_gaps_data(trained, tensors=1, size=64))
        ['by_rounds', 'gaps', 'rounds']
    """
    rng = np.random.default_rng(seed)
    kinds: dict[str, Sequence[np.ndarray]] = {
        "Gaussian": rng.normal(size=(tensors, size)),
        "Laplace": rng.laplace(size=(tensors, size)),
        "Cauchy": rng.standard_cauchy(size=(tensors, size)),
        "trained": trained,
    }
    ternary, two_bits = TernaryL2(), MultiBitL2(2, "exact")
    heuristics = {
        "ternary: threshold, 2 rounds": (TernaryL2(projection="threshold"), ternary),
        "ternary: threshold, no round": (TernaryL2(projection="threshold", rounds=0), ternary),
        "ternary: exact, but neg = -pos": (TernaryL2(symmetric=True), ternary),
        "ternary: max|w| scale": (UniformL2(2), ternary),
        "2 bits: alternating, 2 rounds": (MultiBitL2(2), two_bits),
        "2 bits: greedy": (MultiBitL2(2, "greedy"), two_bits),
    }
    by_rounds = {
        "ternary: threshold": (lambda n: TernaryL2(projection="threshold", rounds=n), ternary),
        "2 bits: alternating": (lambda n: MultiBitL2(2, rounds=n), two_bits),
    }

    def excess(heuristic: Regularizer, exact: Regularizer) -> dict[str, list[float]]:
        return {k: [excess_error(heuristic, exact, w) for w in ws] for k, ws in kinds.items()}

    rounds = [0, 1, 2, 3, 5, 8, 12, 20]
    medians: dict[str, dict[str, list[float]]] = {}
    for name, (family, exact) in by_rounds.items():
        runs = [excess(family(n), exact) for n in rounds]
        medians[name] = {k: [float(np.median(run[k])) for run in runs] for k in kinds}
    gaps = {name: excess(*pair) for name, pair in heuristics.items()}
    return {"gaps": gaps, "rounds": rounds, "by_rounds": medians}


def quantizer_gaps(data: Mapping[str, Any]) -> Figure:
    """Left: the relative excess error of each heuristic, one point per tensor. Right: by rounds.

    The scale is logarithmic above 1e-6 and linear below, so that 0 is on it.

    Examples:
        >>> from proxquant_np import plotting
        >>> trained = [np.random.default_rng(0).normal(size=64)]
        >>> data = plotting.quantizer_gaps_data(trained, tensors=1, size=64)
        >>> len(plotting.quantizer_gaps(data).axes)
        2
    """
    figure, axes = new_figure(1, 2, 12, 4.6, width_ratios=(1.5, 1))
    left, right = axes[0]
    markers = "osD^"
    names = list(data["gaps"])
    for i, name in enumerate(names):
        for j, (kind, values) in enumerate(data["gaps"][name].items()):
            y = np.full(len(values), len(names) - 1 - i + 0.27 - 0.18 * j)
            style = dict(color=STRENGTH_COLOURS[j], marker=markers[j], linestyle="", alpha=0.6)
            left.plot(values, y, markersize=4, label=kind if i == 0 else None, **style)
    left.set_yticks(range(len(names)), names[::-1])
    left.set(xlabel="squared error over that of the exact projection, less 1")
    log_down_to_zero(left.xaxis, 1e-6)
    most = max(max(v) for kinds in data["gaps"].values() for v in kinds.values())
    left.set_xlim(-3e-7, 3 * most)
    left.grid(axis="x", color="#dddddd", linewidth=0.6)
    for (name, kinds), linestyle in zip(data["by_rounds"].items(), ("-", "--"), strict=True):
        for j, values in enumerate(kinds.values()):
            style = dict(color=STRENGTH_COLOURS[j], marker=markers[j], linestyle=linestyle)
            right.plot(data["rounds"], values, markersize=4, **style)
        right.plot([], [], color=NEUTRAL, linestyle=linestyle, label=name)
    log_down_to_zero(right.yaxis, 1e-6)
    right.set(xlabel="rounds", ylabel="the same, median over the tensors")
    left.legend(frameon=False, fontsize="small", loc="lower left")
    right.legend(frameon=False, fontsize="small", title="colours as on the left")
    return figure
