"""Measured: how far from the optimum heuristic quantizers are, also on trained weights.

No claim of the paper: it uses the heuristics. `draw` trains networks in full precision on the
digits, as binary_digits.py does, and compares on their weights and on random ones. From Python,

    from proxquant_np.experiments import quantizer_gaps
    quantizer_gaps.draw("figures")
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from proxquant_np.experiments.binary_digits import CHOSEN, Setting, train_full_precision


def trained_weights(seeds: int = 4) -> list[np.ndarray]:
    """The weight matrices of one network for each seed, float32."""
    lr = json.loads(CHOSEN.read_text("utf-8"))["chosen"]["full_precision"]["lr"]
    networks = [
        train_full_precision(seed, asdict(Setting()), lr)["weights"] for seed in range(seeds)
    ]
    return [
        np.array(value, np.float32)
        for weights in networks
        for name, value in weights.items()
        if np.ndim(value) == 2
    ]


def draw(out: str | os.PathLike) -> Path:
    """Measure, and write the figure quantizer_gaps with its data into `out`; its path."""
    from proxquant_np import plotting  # here: matplotlib is slow to import

    data = plotting.quantizer_gaps_data(trained_weights())
    path = Path(out) / "quantizer_gaps"
    plotting.save_figure(plotting.quantizer_gaps(data), data, path)
    return path.with_suffix(".png")
