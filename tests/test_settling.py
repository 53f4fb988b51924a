"""Flips and finite-time quantization on a network, at a size for tests."""

import numpy as np
import pytest

from proxquant_np.experiments import settling
from proxquant_np.experiments.settling import METHODS, SETTING
from proxquant_np.training.fit import HISTOGRAM_EDGES

SHORT = SETTING | dict(warm_steps=66, steps=200, rate=4e-3)


@pytest.fixture(scope="module")
def runs():
    return {method: settling.run(method, **SHORT) for method in METHODS}


def test_counts_are_of_the_same_flips(runs):
    for run in runs.values():
        summary, counts = run["summary"], np.array(run["coordinates_by_flips"])
        assert counts.sum() == summary["weights"] == 64 * 64 * 2 + 64 * 10
        total = (counts * np.arange(len(counts))).sum()
        assert total == sum(map(len, run["flips"].values()))
        assert np.isclose(summary["flips_per_step"] * summary["steps"] * summary["weights"], total)
        assert summary["last_flip"] == max(max(steps) for steps in run["flips"].values())
        assert np.isclose(summary["ever_flipped"] * summary["weights"], len(run["flips"]))
        assert [sum(frame["counts"]) for frame in run["frames"]] == [summary["weights"]] * 6


def test_frames_show_weights_on_their_way_to_the_levels(runs):
    """And not the quantized ones again and again."""

    def at_levels(frame):
        counts = np.array(frame["counts"])
        at = np.searchsorted(HISTOGRAM_EDGES, [-1, 1], side="right") - 1
        return counts[at].sum() / counts.sum()

    frames = runs["prox_quant"]["frames"]
    shares = [at_levels(frame) for frame in frames]
    assert (np.diff(shares) > 0).all() and shares[0] < 0.01 and shares[-1] == 1
    assert frames[0]["step"] == 0 and frames[-1]["step"] == SHORT["steps"]
    starts = {str(run["frames"][0]) for run in runs.values()}
    assert len(starts) == 1  # latents and weights start from the same network


def test_the_theorem_holds_on_a_network(runs):
    summary, curves = runs["prox_quant"]["summary"], runs["prox_quant"]["curves"]
    once, each = summary["theorem"], summary["theorem_step_by_step"]
    assert each["no_flips_after"] <= once["no_flips_after"]
    for bound in (once, each):
        assert summary["last_flip"] <= bound["no_flips_after"]
        assert summary["quantized"] <= bound["quantized"]
    assert max(curves["largest_gradient"]) == summary["largest_gradient"]
    at = dict(zip(curves["step"], curves["not_quantized"], strict=True))
    assert at[0] > 0 and all(off == 0 for t, off in at.items() if t >= summary["quantized"])


def test_the_theorem_needs_lambda_above_the_gradients():
    with pytest.raises(ValueError, match="lambda must end above G"):
        settling.run("prox_quant", **SHORT | dict(steps=100, rate=1e-6))


def test_only_a_constant_rate_keeps_binary_connect_flipping(runs):
    late = {method: run["summary"]["flips_per_step_late"] for method, run in runs.items()}
    assert late["binary_connect"] > 3 * late["binary_connect_decayed"] > late["prox_quant"] == 0


def test_a_run_is_a_function_of_its_arguments(runs):
    assert settling.run("prox_quant", **SHORT) == runs["prox_quant"]


def test_rasters_show_the_same_coordinates(runs, monkeypatch):
    monkeypatch.setattr(settling, "SHOWN", 7)
    raster = settling.raster(runs)
    assert [len(rows) for rows in raster.values()] == [7] * 3
    assert all(any(rows) for rows in zip(*raster.values(), strict=True))
    flipping = sorted(set().union(*(run["flips"] for run in runs.values())))
    for method, rows in raster.items():
        ends = [runs[method]["flips"].get(flipping[i], []) for i in (0, -1)]
        assert [rows[0], rows[-1]] == ends
