"""The measured gaps of heuristic quantizers: on weights that were trained, never below zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proxquant_np import plotting
from proxquant_np.experiments import quantizer_gaps
from proxquant_np.experiments.tasks import TASKS


def test_gaps_of_trained_weights(monkeypatch):
    task = TASKS["mlp"]
    monkeypatch.setitem(quantizer_gaps.TASKS, "mlp", replace(task, setting=task.quick))
    trained = quantizer_gaps.trained_weights(seeds=1)
    assert [w.shape for w in trained] == [(64, 64), (64, 64), (10, 64)]
    assert all(w.dtype == np.float32 for w in trained)

    data = plotting.quantizer_gaps_data(trained, tensors=2, size=40)
    gaps = {name: np.array(kinds["trained"]) for name, kinds in data["gaps"].items()}
    assert all((values > -1e-6).all() for values in gaps.values())
    assert (gaps["2 bits: alternating, 2 rounds"] <= gaps["2 bits: greedy"]).all()
    for kinds in data["by_rounds"].values():
        assert all((np.diff(medians) <= 1e-6).all() for medians in kinds.values())


def test_a_gap_is_the_excess_error_of_the_heuristic():
    """Of weights one knows: {1, 1/4} are two bits exactly, which stay as they are; near them greedy
    has the magnitudes 0.336 and 1.024 where the means of the parts are best."""
    w = np.array([1.0, -1.0, 0.9, -0.25, 0.25])
    exact = np.square(w[:3] - np.array([29, -29, 29]) / 30).sum()
    a = 0.68 + np.array([-1, 1]) * 0.344  # mean|w|, then the mean of what it leaves of |w|
    greedy = np.square(np.abs(w) - a[[1, 1, 1, 0, 0]]).sum()
    gaps = plotting.quantizer_gaps_data([w], tensors=1, size=9)["gaps"]
    assert gaps["2 bits: greedy"]["trained"] == pytest.approx([greedy / exact - 1])
    w[2] = 1
    gaps = plotting.quantizer_gaps_data([w], tensors=1, size=9)["gaps"]
    assert gaps["2 bits: greedy"]["trained"] == [0]
    assert gaps["ternary: exact, but neg = -pos"]["trained"] == [0]
