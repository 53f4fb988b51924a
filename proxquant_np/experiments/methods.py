"""Claim: of seven methods, ProxQuant errs least.

They are the four cells of the library's table and three more: PARQ and BinaryRelax, which are lazy
and soft with other maps, and Bop, which flips signs and has binary weights only. The task is the
digits MLP; each method has the same number of search trials. BinaryRelax is there twice, for it was
published with a second phase that projects, at a smaller rate: here the last fifth of the steps, at
a tenth of the rate (the share is ours).
"""

from __future__ import annotations

from dataclasses import replace

from proxquant_np.experiments.bases import Base
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.families import EQUAL_RATES, PUBLISHED, equal_rates, published
from proxquant_np.experiments.lazy_and_eager import METHODS, two_phases
from proxquant_np.experiments.tasks import ON_DIGITS, TASKS

BESIDE = ("bop", "binary_relax_hard")
"""The rivals whose rate is not one of the quantized weights, or is not constant."""

EXPERIMENT = Experiment(
    name="methods",
    title="Seven ways to binary weights",
    tasks={"mlp": replace(TASKS["mlp"], chosen=("methods.json", "binary_digits.json"))},
    methods={
        **METHODS,
        "binary_relax_hard": replace(
            METHODS["binary_relax"],
            label="BinaryRelax with its hard phase (lazy)",
            wrap=two_phases,
            base=Base(falls=(0.8,)),
            shares="binary_relax",
        ),
    },
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
    )
    + (
        Claim(
            "ProxQuant errs less than BinaryRelax with its hard phase",
            "prox_quant",
            "binary_relax_hard",
            "test_error",
            source="ours",
            equal=ON_DIGITS,
        ),
    ),
    families={PUBLISHED: published, EQUAL_RATES: lambda chosen: equal_rates(chosen, BESIDE)},
)
