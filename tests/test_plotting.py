"""The figures: drawn from plain data, saved with it, the same bytes from the same data."""

import json

import numpy as np
import pytest

from proxquant_np import plotting
from proxquant_np.prox import BinaryL1, LevelsL1
from proxquant_np.training.fit import HISTOGRAM_EDGES

COUNTS = np.arange(len(HISTOGRAM_EDGES) - 1).tolist()
FRAMES = [{"epoch": 1, "counts": COUNTS}, {"epoch": 9, "counts": COUNTS[::-1]}]
CURVES = {"binary_connect": [[0.1, 0.2], [0.2, 0.1]], "prox_quant": [[0.3, 0.0], [0.1, 0.0]]}
FIGURES = {
    "regularizers": (plotting.regularizers, plotting.regularizers_data(points=41)),
    "weight_filmstrip": (
        plotting.weight_filmstrip,
        {"binary_connect": FRAMES, "prox_quant": FRAMES},
    ),
    "sign_flips": (plotting.sign_flips, CURVES),
    "error_curves": (plotting.error_curves, CURVES),
    "quantizer_gaps": (
        plotting.quantizer_gaps,
        plotting.quantizer_gaps_data(
            [np.random.default_rng(0).normal(size=40)], tensors=2, size=40
        ),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_saved_with_their_data(name, tmp_path):
    function, data = FIGURES[name]
    for attempt in ("a", "b"):
        plotting.save_figure(function(data), data, tmp_path / attempt / name)
    assert json.loads((tmp_path / "a" / f"{name}.json").read_text("utf-8")) == data
    for suffix in (".svg", ".json"):
        first, second = ((tmp_path / x / f"{name}{suffix}").read_bytes() for x in "ab")
        assert first == second
    assert (tmp_path / "a" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert all(ax.get_title() or ax.get_xlabel() for ax in function(data).axes)


def test_prox_maps_are_not_joined_across_their_jumps():
    line = plotting.prox_map(BinaryL1(), [0.5]).axes[0].lines[0]
    x, y = line.get_data()
    assert np.isnan(y).sum() == 1
    assert abs(x[np.isnan(y)][0]) < 0.01
    y = plotting.prox_map(LevelsL1([-1, 0, 1]), [0.5]).axes[0].lines[0].get_ydata()
    assert np.isnan(y).sum() == 2


def test_lazy_and_eager_keep_their_colours():
    for method in ("binary_connect", "prox_connect"):
        assert plotting.STYLES[method]["color"] == plotting.LAZY
    for method in ("prox_quant", "projected_gradient"):
        assert plotting.STYLES[method]["color"] == plotting.EAGER
