"""Claim: of seven methods, ProxQuant errs least.

They are the four cells of the library's table and three more: PARQ and BinaryRelax, which are lazy
and soft with other maps, and Bop, which flips signs and has binary weights only. The task is the
digits MLP; each method has the same number of search trials.
"""

from __future__ import annotations

from dataclasses import replace

from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.protocol import METHODS
from proxquant_np.experiments.tasks import ON_DIGITS, TASKS

EXPERIMENT = Experiment(
    name="methods",
    title="Seven ways to binary weights",
    tasks={"mlp": replace(TASKS["mlp"], chosen=("methods.json", "binary_digits.json"))},
    methods=METHODS,
    claims=tuple(
        Claim(
            f"ProxQuant errs less than {METHODS[other].label.split(' (')[0]}",
            "prox_quant",
            other,
            "test_error",
            source="paper" if other == "binary_connect" else "ours",
            equal=ON_DIGITS,
        )
        for other in METHODS
        if other != "prox_quant"
    ),
)
