"""Weights that were trained, to measure on them how far heuristic quantizers are from the optimum.

No claim of the paper: it uses the heuristics. The figure quantizer_gaps compares them with the
exact projections on these weights and on random ones.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from proxquant_np.experiments.binary_digits import (
    FULL_PRECISION,
    chosen_hyperparameters,
    train_full_precision,
)
from proxquant_np.experiments.tasks import TASKS


def trained_weights(seeds: int = 4) -> list[np.ndarray]:
    """The weight matrices of the digits MLP in full precision for each seed, float32."""
    setting, chosen = asdict(TASKS["mlp"].setting), chosen_hyperparameters()[FULL_PRECISION]
    networks = [train_full_precision(seed, setting, **chosen)["weights"] for seed in range(seeds)]
    return [
        np.array(value, np.float32)
        for weights in networks
        for value in weights.values()
        if np.ndim(value) == 2
    ]
