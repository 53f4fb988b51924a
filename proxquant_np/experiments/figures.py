"""Every figure of the theory and of the quantizers by name: how to compute and to draw it.

Data come from fixed seeds. The figures of an experiment are drawn from its runs, by `summary.draw`
and `binary_digits.draw`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from proxquant_np import plotting
from proxquant_np.experiments import quantizer_gaps, settling


class Drawing(NamedTuple):
    """How to compute the data of a figure, to draw them and, if it moves, to draw its frames."""

    data: Callable[[], dict[str, Any]]
    draw: Callable[[Mapping[str, Any]], Figure]
    frames: Callable[[Mapping[str, Any]], Iterable[Figure]] | None = None


@cache
def _settling() -> dict[str, Any]:
    return settling.measure()


def _of_runs(choose: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Data from the runs of `settling`: what `choose` takes from them, and how they were made.

    Across machines only "summary" can be compared, for training amplifies rounding errors.
    """

    def data() -> dict[str, Any]:
        result = _settling()
        origin = {name: result[name] for name in ("setting", "environment")}
        summary = {method: result[method]["summary"] for method in settling.METHODS}
        return {**origin, "summary": summary, **choose(result)}

    return data


def _each(result: dict[str, Any], name: str) -> dict[str, Any]:
    return {method: result[method][name] for method in settling.METHODS}


FIGURES = {
    "moreau_envelopes": Drawing(plotting.moreau_envelopes_data, plotting.moreau_envelopes),
    "prox_maps": Drawing(plotting.prox_maps_data, plotting.prox_maps),
    "quantizer_gaps": Drawing(
        lambda: plotting.quantizer_gaps_data(quantizer_gaps.trained_weights()),
        plotting.quantizer_gaps,
    ),
    "homotopy": Drawing(plotting.homotopy_data, plotting.homotopy, plotting.homotopy_frames),
    "one_step": Drawing(plotting.one_step_data, plotting.one_step),
    "straight_through": Drawing(plotting.straight_through_data, plotting.straight_through),
    "toy_pair": Drawing(plotting.toy_pair_data, plotting.toy_pair),
    "landscapes": Drawing(plotting.landscapes_data, plotting.landscapes),
    "regret": Drawing(plotting.regret_data, plotting.regret),
    "flip_frequency": Drawing(plotting.flip_frequency_data, plotting.flip_frequency),
    "lazy_cycle": Drawing(plotting.lazy_cycle_data, plotting.lazy_cycle),
    "convergence_bound": Drawing(plotting.convergence_bound_data, plotting.convergence_bound),
    "flip_raster": Drawing(
        _of_runs(lambda r: {"steps": r["setting"]["steps"], "flips": settling.raster(r)}),
        plotting.flip_raster,
    ),
    "flips_over_time": Drawing(
        _of_runs(
            lambda r: {
                "steps": r["setting"]["steps"],
                "per_step": _each(r, "flips_per_step"),
                "coordinates": _each(r, "coordinates_by_flips"),
            }
        ),
        plotting.flips_over_time,
    ),
    "finite_time": Drawing(
        _of_runs(lambda r: {"curves": r["prox_quant"]["curves"]}),
        plotting.finite_time,
    ),
    "weight_filmstrip": Drawing(
        _of_runs(lambda r: {"frames": _each(r, "frames")}),
        lambda data: plotting.weight_filmstrip(data["frames"]),
    ),
}


def draw(names: Iterable[str], out: Path) -> Iterator[Path]:
    """Compute and write these figures of FIGURES one by one; the path of each picture."""
    for name in names:
        figure = FIGURES[name]
        data = figure.data()
        plotting.save_figure(figure.draw(data), data, out / name)
        yield out / f"{name}.png"
        if figure.frames:
            plotting.save_animation(figure.frames(data), out / name)
            yield out / f"{name}.gif"
