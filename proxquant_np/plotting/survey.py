"""The maps of published quantizers and proxes, one small picture each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from proxquant_np.plotting.style import EAGER, LAZY, NEUTRAL, new_figure

COLUMNS = 7


def survey(record: Mapping[str, Any], names: Sequence[str] | None = None) -> Figure:
    """What becomes of a weight (of x, for a prox at strength 1/2), for each entry of the record.

    Both axes are in units of the largest weight of the tensor. Blue and solid: q(-w) = -q(w) to
    rounding; orange and dashed: not so. names: those to draw; by default all that have a map.

    Examples:
        >>> from proxquant_np import plotting
        >>> measured = {"map_on_grid": {"x": [-1, 0, 1], "q": [-1, 0, 1]}, "odd": {"differs by": 0}}
        >>> record = {"entries": {"identity": {"kind": "quantizer", "measured": measured}}}
        >>> len(plotting.survey(record).axes)
        1
    """
    drawn = {k: e for k, e in record["entries"].items() if "q" in _map(e)}
    if names is not None:
        drawn = {name: drawn[name] for name in names}
    columns = min(COLUMNS, max(1, len(drawn)))
    rows = max(1, math.ceil(len(drawn) / columns))
    figure, axes = new_figure(rows, columns, 1.75 * columns, 1.6 * rows)
    for ax in axes.flat[len(drawn) :]:
        ax.remove()
    for ax, (name, entry) in zip(axes.flat, drawn.items(), strict=False):
        x, q = (np.array(_map(entry)[key], float) for key in ("x", "q"))
        ends = [x[0], x[-1]]
        ax.plot(ends, ends, color=NEUTRAL, linewidth=0.7, linestyle=":")
        odd = entry["measured"]["odd"].get("differs by", np.inf)
        style = dict(color=EAGER) if odd <= 1e-5 else dict(color=LAZY, linestyle=(0, (4, 1)))
        ax.step(x, q, where="mid", linewidth=1.1, **style)
        ax.set_title(name.replace("_", " "), fontsize=7)
        most = x[-1] * 1.08
        ax.set(xlim=(-most, most), ylim=(-most, most), xticks=(x[0], 0, x[-1]))
        ax.set_yticks((x[0], 0, x[-1]))
        ax.tick_params(labelsize=6)
    return figure


def _map(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry.get("measured", {}).get("map_on_grid", {})
