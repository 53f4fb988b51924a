"""Experiments: one file for each claim or group of claims, and what all of them share.

runner.py         runs cells, and keeps one JSON record of each
workers.py        where cells run: in this process, in several, or on a cluster
statistics.py     paired comparisons and verdicts
tasks.py          what a network is trained on
lazy_and_eager.py the methods: what each makes of a base
protocol.py       the paper's protocol, by which each of them trains a network
bases.py          what moves the weights under a method, and how its rate falls
claim.py          what a claim is
experiment.py     what an experiment is, and how it is run
families.py       three families of fair pairs: as published, as searched, at equal rates
search.py         how hyperparameters are chosen
summary.py        what is kept of a finished experiment: a file, a table, figures
wording.py        measures and their differences in words
catalog.py        every experiment by its name
records.py        the files from which verdicts are computed, wherever they come from
verdicts.py       the verdicts on all claims, computed from the records
tables.py         how the ledger shows them
origins.py        what a record was made with, in words
conclusions.py    what the ledger concludes: what holds, and what is not yet measured
claims.py         the ledger: every claim, and what the records say of it
attack.py         the same verdicts by other rules: what does not survive?

budget_curve.py    at which budget the verdict turns, and by what
image_budget_curve.py the same on CIFAR-10
binary_digits.py   ProxQuant against BinaryConnect on handwritten digits, binary weights
resnet_cifar10.py  binary and ternary residual networks on CIFAR-10
language_model.py  LSTMs of 1, 2 and 3 bits
paper_lstm.py      word-level LSTMs at the paper's scale
stability.py       which signs change, from two starts
regime_map.py      width and step budget: where the eager method wins, and where the lazy one
ablation.py        what published code does differently, one thing at a time
methods.py         the four cells of the table and three more methods

theorems.py        the theorems, tried on random problems
trials.py          how each of them is tried
settling.py        how long signs keep flipping, and when all weights are quantized
quantizer_gaps.py  trained weights on which heuristic quantizers are measured
figures.py         every figure by its name
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "EXPERIMENTS":  # the names, which used to be listed here
        from proxquant_np.experiments.catalog import EXPERIMENTS

        return tuple(EXPERIMENTS)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
