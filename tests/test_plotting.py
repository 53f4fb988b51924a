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
RASTER = {"steps": 9, "flips": {"binary_connect": [[1, 8], []], "prox_quant": [[], []]}}
OVER_TIME = {
    "steps": 9,
    "per_step": {"binary_connect": [0.1, 0.2], "prox_quant": [0.1, 0.0]},
    "coordinates": {"binary_connect": [5, 3, 1], "prox_quant": [8, 1]},
}
FINITE = {
    "summary": {
        "prox_quant": {
            "largest_gradient": 0.5,
            "last_flip": 1,
            "quantized": 3,
            "theorem": {"no_flips_after": 3, "quantized": 4},
            "theorem_step_by_step": {"no_flips_after": 2, "quantized": 3},
        }
    },
    "curves": {
        "step": [0, 2, 4],
        "lam": [0.0, 0.4, 0.8],
        "largest_gradient": [0.5, 0.3, 0.1],
        "not_quantized": [1.0, 0.2, 0.0],
    },
}
FIGURES = {
    "regularizers": (plotting.regularizers, plotting.regularizers_data(points=41)),
    "weight_filmstrip": (
        plotting.weight_filmstrip,
        {"binary_connect": FRAMES, "prox_quant": FRAMES},
    ),
    "sign_flips": (plotting.sign_flips, CURVES),
    "error_curves": (plotting.error_curves, CURVES),
    "moreau_envelopes": (plotting.moreau_envelopes, plotting.moreau_envelopes_data(points=9)),
    "prox_maps": (plotting.prox_maps, plotting.prox_maps_data(per_piece=3)),
    "homotopy": (plotting.homotopy, plotting.homotopy_data(steps=5)),
    "one_step": (plotting.one_step, plotting.one_step_data()),
    "straight_through": (plotting.straight_through, plotting.straight_through_data()),
    "toy_pair": (plotting.toy_pair, plotting.toy_pair_data(rate=0.1)),
    "landscapes": (plotting.landscapes, plotting.landscapes_data(steps=10)),
    "regret": (plotting.regret, plotting.regret_data(horizons=(4, 8))),
    "flip_frequency": (plotting.flip_frequency, plotting.flip_frequency_data(d=3, steps=30)),
    "lazy_cycle": (plotting.lazy_cycle, plotting.lazy_cycle_data(steps=12)),
    "convergence_bound": (plotting.convergence_bound, plotting.convergence_bound_data(steps=5)),
    "flip_raster": (plotting.flip_raster, RASTER),
    "flips_over_time": (plotting.flips_over_time, OVER_TIME),
    "finite_time": (plotting.finite_time, FINITE),
    "quantizer_gaps": (
        plotting.quantizer_gaps,
        plotting.quantizer_gaps_data(
            [np.random.default_rng(0).normal(size=40)], tensors=2, size=40
        ),
    ),
}


@pytest.mark.parametrize("name", ["regularizers", "weight_filmstrip", "sign_flips", "flip_raster"])
def test_figures_are_saved_with_their_data(name, tmp_path):
    function, data = FIGURES[name]
    for attempt in ("a", "b"):
        plotting.save_figure(function(data), data, tmp_path / attempt / name)
    assert json.loads((tmp_path / "a" / f"{name}.json").read_text("utf-8")) == data
    for suffix in (".svg", ".json"):
        first, second = ((tmp_path / x / f"{name}{suffix}").read_bytes() for x in "ab")
        assert first == second
    assert (tmp_path / "a" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FIGURES)
def test_figures_say_what_they_show_and_nothing_is_cut_off(name):
    function, data = FIGURES[name]
    figure = function(data)
    assert all(ax.get_title() or ax.get_xlabel() for ax in figure.axes)
    figure.draw_without_rendering()
    drawn, page = figure.get_tightbbox(), figure.bbox_inches
    assert min(drawn.p0) > -0.02 and (drawn.p1 < page.p1 + 0.02).all()


def test_animations_repeat_for_ever(tmp_path):
    data = plotting.homotopy_data(steps=4)
    for attempt in "ab":
        plotting.save_animation(plotting.homotopy_frames(data), tmp_path / attempt, fps=5)
    gif = (tmp_path / "a.gif").read_bytes()
    assert gif == (tmp_path / "b.gif").read_bytes()
    assert gif.startswith(b"GIF89a") and b"NETSCAPE2.0\x03\x01\x00\x00\x00" in gif
    delays = [int.from_bytes(part[1:3], "little") for part in gif.split(b"!\xf9\x04")[1:]]
    assert delays == [20] * 3  # frames 0, 2 and 4, each a fifth of a second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "b.gif"]


def test_envelopes_lie_below_and_touch_at_the_levels():
    data = plotting.moreau_envelopes_data(points=9)  # -2, -1.5, ..., 2
    for name, huber in (
        ("BinaryL1", lambda r, s: r**2 / 2 / s if r < s else r - s / 2),
        ("BinaryL2", lambda r, s: r**2 / 2 / (1 + s)),
    ):
        for s, envelope in zip(data["strengths"], data[name]["envelopes"], strict=True):
            expected = [huber(abs(abs(w) - 1), s) for w in data["w"]]
            assert np.allclose(envelope, expected, rtol=1e-5)
            assert (np.array(envelope) <= data[name]["value"]).all()


def test_pieces_of_prox_maps_meet_at_their_jumps():
    data = plotting.prox_maps_data()
    for one in data["sets"].values():
        x = np.array(one["x"])
        assert (x[1:, 0] == x[:-1, -1]).all() and (x[0, 0], x[-1, -1]) == (-2, 2)
        for maps in (one["L1"], one["L2"]):
            jumps = np.array(maps)[:, 1:, 0] - np.array(maps)[:, :-1, -1]
            assert (jumps[0] == 0).all() and (np.diff(jumps, axis=0) >= 0).all()
            assert (jumps[-1] > 0.5).all()


def test_data_show_what_their_figures_claim():
    homotopy, toys = plotting.homotopy_data(), plotting.toy_pair_data()
    assert homotopy["iterates"][0] > 0 and homotopy["iterates"][-1] == -1
    plus, minus = toys["$f_+$"], toys["$f_-$"]
    assert plus["binary_connect"] == minus["binary_connect"]
    assert (plus["prox_quant"][-1], minus["prox_quant"][-1]) == (-1, 1)
    for name in ("convex, minimiser inside the cube", "nonconvex"):
        one = plotting.landscapes_data()[name]
        assert np.abs(one["prox_quant"][-1]).tolist() == [1, 1] and len(one["corners"]) > 1
    rates = plotting.regret_data()
    assert (np.array(rates["cube"]) <= rates["rate"]).all() and min(rates["corners"]) > 0.9
    for one in plotting.flip_frequency_data().values():
        assert np.allclose(one["predicted_time"], one["measured_time"], atol=2e-3)
        assert (np.array(one["distance"]) <= one["distance_bound"]).all()
    good, bad = list(plotting.convergence_bound_data().values())[1:]
    for name in ("SmoothW", "BinaryL2"):
        assert (np.array(good[name]["measured"]) <= good[name]["bound"]).all()
        assert bad[name]["measured"][-1] > bad[name]["bound"][-1]


def test_one_step_takes_its_gradients_where_it_says():
    data = plotting.one_step_data(start=0.35, lr=0.4, strength=0.15)  # L'(w) = w + 1/4
    lazy, eager = data["lazy"], data["eager"]
    assert (lazy["gradient"], lazy["weights"]) == (1.25, [1, -1])  # at w = +1, not at z
    assert lazy["latents"] == pytest.approx([0.35, 0.35 - 0.4 * 1.25])
    assert eager["gradient"] == pytest.approx(0.6)  # at the weight itself
    assert [eager["moved"], eager["weights"][1]] == pytest.approx([0.11, 0.26])
    through = plotting.straight_through_data(z=0.35)
    assert through["gradient_at_z"] == through["gradient_at_w"] == 1.25


def test_neither_picture_of_straight_through_is_in_the_eager_colour():
    one_step = plotting.one_step(plotting.one_step_data())
    colours = [{line.get_color() for line in ax.lines} for ax in one_step.axes]
    lazy, eager = colours[0] | colours[2], colours[1] | colours[3]
    assert plotting.LAZY in lazy - eager and plotting.EAGER in eager - lazy
    graph = plotting.straight_through(plotting.straight_through_data()).axes[0]
    drawn = {text.get_color() for text in graph.texts}
    assert plotting.LAZY in drawn and plotting.EAGER not in drawn


def test_rounded_keeps_significant_digits():
    assert plotting.style.rounded([1.23456789e-7, 1e-13, -123456.789]) == [1.23457e-7, 0, -123457.0]


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


def test_only_the_last_row_of_a_filmstrip_names_its_axis():
    methods = ("binary_connect", "binary_connect_decayed", "prox_quant")
    figure = plotting.weight_filmstrip(dict.fromkeys(methods, FRAMES))
    assert [ax.get_xlabel() for ax in figure.axes] == [""] * 4 + ["weight"] * 2


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (3, 1), (40, 4)])
def test_curves_have_the_marks_of_their_side(epochs, every):
    data = {"prox_quant": [[0.1] * epochs], "binary_connect": [[0.2] * epochs]}
    lines = plotting.error_curves(data).axes[0].lines
    assert [line.get_marker() for line in lines] == ["o", "s"]  # told apart without colours
    assert {line.get_markevery() for line in lines} == {every}


def test_bands_are_explained():
    words = [text.get_text() for text in plotting.sign_flips(CURVES).axes[0].legend_.texts]
    assert words[-1] == "band: the range of 2 seeds"
    one = {"prox_quant": [[0.1, 0.2]]}
    assert len(plotting.sign_flips(one).axes[0].legend_.texts) == 1


@pytest.mark.parametrize("name", ["sign_flips", "flips_over_time", "finite_time", "quantizer_gaps"])
def test_linear_parts_of_axes_are_marked(name):
    function, data = FIGURES[name]
    for ax in function(data).axes:
        linear = "symlog" in (ax.get_xscale(), ax.get_yscale())
        assert linear == ("linear" in [text.get_text() for text in ax.texts])


def test_filmstrips_have_one_scale():
    few = [{"epoch": 1, "counts": [1] * len(COUNTS)}]
    spike = [{"epoch": 1, "counts": [1000] + [1] * (len(COUNTS) - 1)}]
    figure = plotting.weight_filmstrip({"binary_connect": few, "prox_quant": spike})
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    low, high = figure.axes[0].get_ylim()
    assert low < 1 / 1080 and high == 1 and figure.axes[0].get_yscale() == "log"


def drawn_differences(*rows):
    """The axes, and of each row the mean and the ends of the interval that are drawn."""
    ax = plotting.differences({"title": "", "rows": list(rows)}).axes[0]
    lines = [line.get_xdata() for line in ax.lines[1:] if line.get_marker() != "|"]
    return ax, [x.tolist() if len(x) > 1 else x[0] for x in lines]


def test_a_margin_is_no_part_of_a_difference():
    row = dict(label="on par", verdict="supported", mean=-0.05, low=-0.06, high=-0.04)
    ax, (interval, mean) = drawn_differences(row | {"margin": 0.02})
    assert mean == pytest.approx(-3) and interval == pytest.approx([-4, -2])
    ticks = [line for line in ax.lines if line.get_marker() == "|"]
    assert [line.get_xdata()[0] for line in ticks] == [2]
    assert drawn_differences(row)[1][1] == pytest.approx(-5)


def test_one_row_does_not_hide_the_rest():
    far = dict(label="far", verdict="contradicted", mean=5.06, low=4.4, high=5.7)
    sure = dict(label="sure", verdict="supported", mean=-0.9, low=-1.2, high=-0.6)
    ax, (_, mean, interval, _) = drawn_differences(far, sure)
    assert mean == 120 and ax.get_xlim()[1] < 150
    assert [text.get_text() for text in ax.texts] == ["+506% [+440, +570] \u2192"]
    assert interval == pytest.approx([-100, -60])


def test_verdicts_differ_without_colours():
    verdicts = ("too few pairs for a verdict", "inconclusive at this scale", "equal within m")
    verdicts += ("contradicted", "supported")
    rows = [dict(label="", verdict=v, mean=0.0, low=None, high=None) for v in verdicts]
    ax, _ = drawn_differences(*rows)
    assert len({line.get_marker() for line in ax.lines[1:]}) == 5
    (legend,) = ax.figure.legends
    assert tuple(text.get_text() for text in legend.texts) == verdicts[::-1], "always in one order"


def test_regularizers_are_drawn_at_four_strengths():
    assert plotting.regularizers_data(points=5)["strengths"] == [0, 0.25, 0.5, 1]


def test_regularizers_are_drawn_from_minus_two_to_two():
    data = plotting.regularizers_data(points=5)
    assert data["w"] == [-2, -1, 0, 1, 2]
    assert plotting.moreau_envelopes_data(points=5)["w"] == [-2, -1, 0, 1, 2]


def test_the_star_is_where_a_path_ends():
    data = plotting.landscapes_data(steps=3)
    figure = plotting.landscapes(data)
    stars = [
        line.get_xydata()[0] for ax in figure.axes for line in ax.lines if line.get_marker() == "*"
    ]
    ends = [one["prox_quant"][-1] for one in data.values() if isinstance(one, dict)]
    assert np.allclose(stars, ends)


def test_the_prox_map_of_a_plain_function():
    def halved(w, strength):
        return w / (1 + strength)

    figure = plotting.prox_map(halved, [0.0, 1.0])
    lines = figure.axes[0].lines
    assert lines[0].get_ydata()[-1] == 2 and lines[1].get_ydata()[-1] == 1
    assert "halved" in figure.axes[0].get_title()
