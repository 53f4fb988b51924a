"""The committed figures: all are there, and a fresh run gives the same data."""

import json
import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from proxquant_np import cli, plotting
from proxquant_np.experiments import figures
from proxquant_np.experiments.figures import FIGURES

COMMITTED = Path(__file__).parents[1] / "figures"
OF_RUNS = ("flip_raster", "flips_over_time", "finite_time", "weight_filmstrip")

needs_figures = pytest.mark.skipif(
    not COMMITTED.exists(), reason="figures/ is part of the repository, not of the package"
)


def difference(a, b, rtol, path=""):
    """Where and how two JSON values differ by more than rtol, or None."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next(filter(None, (difference(a[k], b[k], rtol, f"{path}/{k}") for k in a)), None)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next(filter(None, (difference(*ab, rtol, f"{path}/{i}") for i, ab in pairs)), None)
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (a, b))
    if numbers and math.isclose(a, b, rel_tol=rtol, abs_tol=1e-6):
        return None
    return None if a == b else f"{path}: {a!r} is not {b!r}"


def committed(name):
    return json.loads((COMMITTED / f"{name}.json").read_text("utf-8"))


@needs_figures
@pytest.mark.parametrize("name", sorted(FIGURES.keys() - {*OF_RUNS, "quantizer_gaps"}))
def test_committed_data_come_out_again(name):
    """To a tolerance for another BLAS, whose sums round in another order."""
    fresh = json.loads(json.dumps(FIGURES[name].data()))
    assert difference(fresh, committed(name), 1e-4) is None


@needs_figures
def test_committed_gaps_come_out_again():
    """Those of random weights; another BLAS trains other networks."""

    def random(data):
        groups = data["gaps"], data["by_rounds"]
        return [{n: {**k, "trained": []} for n, k in group.items()} for group in groups]

    fresh = plotting.quantizer_gaps_data([np.ones(2)])
    assert difference(random(fresh), random(committed("quantizer_gaps")), 1e-4) is None


@needs_figures
def test_committed_runs_come_out_again():
    """Of training runs, what they add up to: there a rounding error grows."""
    fresh = FIGURES["finite_time"].data()
    for name in OF_RUNS:
        kept = committed(name)
        assert kept["setting"] == fresh["setting"]
        assert kept["summary"] == committed("finite_time")["summary"]
    for method, summary in fresh["summary"].items():
        for key in ("flips_per_step", "ever_flipped", "largest_gradient"):
            if key in summary:
                assert difference(summary[key], kept["summary"][method][key], 0.5) is None


DRAWN = {name: FIGURES[name].draw for name in FIGURES if name != "weight_filmstrip"} | {
    "binary_digits": plotting.differences,
    "error_curves": plotting.error_curves,
    "regime_map_grid": plotting.regime_map,
    "regularizers": plotting.regularizers,
    "sign_flips": plotting.sign_flips,
    "stability_mlp": plotting.layer_changes,
    "stability-equal-rates_cnn_at_ProxQuant": plotting.layer_changes,
    "weights": plotting.weight_filmstrip,
}
NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e-?\d+)?")
# Identifiers are hashes of coordinates to the last digit, rasters the work of another library.
ARBITRARY = re.compile(r'(?:id="|url\(#|xlink:href="#)[a-zA-Z]+[0-9a-f]{8,}|base64,[^"]*')


@needs_figures
@pytest.mark.parametrize("name", DRAWN)
def test_committed_drawings_come_out_again(name, tmp_path):
    """To a quarter of a point, if Matplotlib is of the version that drew them."""
    data = {key: value for key, value in committed(name).items() if key != "runs"}
    plotting.save_figure(DRAWN[name](data), data, tmp_path / name)
    fresh, kept = (
        ARBITRARY.sub("", (folder / f"{name}.svg").read_text("utf-8"))
        for folder in (tmp_path, COMMITTED)
    )
    if f"Matplotlib v{matplotlib.__version__}," in kept:
        assert NUMBER.split(fresh) == NUMBER.split(kept)
        positions = (np.array(NUMBER.findall(svg), float) for svg in (fresh, kept))
        assert np.abs(np.subtract(*positions)).max() < 0.25


@needs_figures
def test_every_figure_is_committed_in_every_form():
    kinds = [".png", ".svg", ".json"]
    wanted = {f"{name}{kind}" for name in FIGURES for kind in kinds}
    wanted |= {f"{name}.gif" for name, figure in FIGURES.items() if figure.frames}
    assert wanted <= {path.name for path in COMMITTED.iterdir()}
    assert sum((COMMITTED / name).stat().st_size for name in wanted) < 4e6


def test_difference_finds_what_differs():
    a = {"x": [1.0, {"y": 2}], "z": None}
    assert difference(a, {"x": [1.0 + 1e-9, {"y": 2}], "z": None}, 1e-4) is None
    for b in ({"x": [1.0, {"y": 3}], "z": None}, {"x": [1.0], "z": None}, {"x": a["x"], "z": 0}):
        assert difference(a, b, 1e-4)


def test_figures_from_the_command_line(tmp_path, capsys):
    for folder in ("a", "b"):
        out = str(tmp_path / folder)
        assert cli.main(["figures", "--only", "regret", "--only", "toy_pair", "--out", out]) == 0
    assert (
        re.findall(r"wrote .*/(\w+\.png)", capsys.readouterr().out)
        == [
            "regret.png",
            "toy_pair.png",
        ]
        * 2
    )
    for name in ("regret.json", "toy_pair.json", "regret.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == 6


@pytest.mark.parametrize(
    ("name", "hint"), [("toy_pairs", "did you mean 'toy_pair'?"), ("zzz", "there are moreau_env")]
)
def test_unknown_figures_exit_with_2(name, hint, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["figures", "--only", name])
    assert exit.value.code == 2
    assert hint in capsys.readouterr().err


def test_all_are_drawn_by_default(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(figures, "draw", lambda names, out: [out / name for name in names])
    assert cli.main(["figures", "--out", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(FIGURES) == 16
