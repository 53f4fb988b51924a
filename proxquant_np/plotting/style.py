"""What all figures share: colours, line styles, axes, and writing them to disk."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

from proxquant_np.files import written_whole

LAZY, EAGER, NEUTRAL = "#D55E00", "#0072B2", "#666666"
STRENGTH_COLOURS = ("#000000", "#56B4E9", "#009E73", "#E69F00", "#CC79A7")
STRENGTH_LINES = (":", "-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = {LAZY: "s", EAGER: "o"}  # squares and circles also tell the two apart in grey
CYCLE = cycler(color=STRENGTH_COLOURS) + cycler(linestyle=STRENGTH_LINES)
STYLES = {
    "full_precision": dict(color=NEUTRAL, linestyle=":", label="full precision"),
    "binary_connect": dict(color=LAZY, linestyle="-", label="BinaryConnect (lazy, hard)"),
    "binary_connect_decayed": dict(
        color=LAZY, linestyle=":", label=r"BinaryConnect, $\eta\to 0$ (lazy, hard)"
    ),
    "prox_connect": dict(color=LAZY, linestyle="--", label="ProxConnect (lazy, soft)"),
    "prox_quant": dict(color=EAGER, linestyle="--", label="ProxQuant (eager, soft)"),
    "projected_gradient": dict(
        color=EAGER, linestyle="-", label="projected gradient (eager, hard)"
    ),
}


def save_figure(figure: Figure, data: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write path.png, path.svg and, as path.json, the data that the figure was drawn from.

    The SVG holds no date and no random identifiers, so the same data give the same file.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = plotting.regret_data(horizons=(4, 8))
        >>> plotting.save_figure(plotting.regret(data), data, "regret")
        >>> from pathlib import Path
        >>> sorted(path.name for path in Path().iterdir())
        ['regret.json', 'regret.png', 'regret.svg']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path.with_suffix(".png")) as file:
        figure.savefig(file, format="png", dpi=150)
    with (
        written_whole(path.with_suffix(".svg")) as file,
        matplotlib.rc_context({"svg.hashsalt": "proxquant_np"}),
    ):
        figure.savefig(file, format="svg", metadata={"Date": None})
    with written_whole(path.with_suffix(".json")) as file:
        file.write((json.dumps(data, indent=1) + "\n").encode())


def save_animation(frames: Iterable[Figure], path: str | os.PathLike, fps: int = 8) -> None:
    """Write the figures, all of one size, as the animated GIF path.gif, which repeats forever.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = plotting.homotopy_data(steps=4)
        >>> plotting.save_animation(plotting.homotopy_frames(data), "homotopy")
        >>> from pathlib import Path
        >>> [path.name for path in Path().iterdir()]
        ['homotopy.gif']
    """
    path = Path(path).with_suffix(".gif")
    path.parent.mkdir(parents=True, exist_ok=True)
    frames, writer = list(frames), PillowWriter(fps=fps)
    with tempfile.TemporaryDirectory() as folder:  # the writer needs a name that ends in .gif
        target = Path(folder) / path.name
        writer.setup(frames[0], target, dpi=80)
        for frame in frames:
            writer.fig = frame
            writer.grab_frame()
        writer.finish()
        with written_whole(path) as file:
            file.write(target.read_bytes())


def new_figure(rows: int, columns: int, width: float, height: float, **kwargs: Any) -> Any:
    """A Figure of this size in inches and its axes, an array (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def mark_levels(ax: Any, levels: Sequence[float]) -> None:
    """A thin vertical line at each level."""
    for level in levels:
        ax.axvline(level, color="#bbbbbb", linewidth=0.8, zorder=0)


def log_down_to_zero(axis: Any, threshold: float) -> None:
    """Make an axis logarithmic above the threshold and linear below, down to 0, and shade that."""
    ax, letter = axis.axes, axis.axis_name
    getattr(ax, f"set_{letter}scale")("symlog", linthresh=threshold)
    span, place = (ax.axhspan, (0.985, 0)) if letter == "y" else (ax.axvspan, (0, 0.985))
    span(0, threshold, color="#eeeeee", zorder=-2, linewidth=0)
    blended = ax.get_yaxis_transform() if letter == "y" else ax.get_xaxis_transform()
    at = (place[0], threshold / 2) if letter == "y" else (threshold / 2, place[1])
    turned = dict(rotation=90, va="top", ha="center") if letter == "x" else dict(ha="right")
    words = dict(transform=blended, color="#555555", fontsize=7, zorder=-1) | turned
    ax.text(*at, "linear", **({"va": "center"} | words))


def marked(style: Mapping[str, Any], points: int) -> dict[str, Any]:
    """The style with its side's marker, some ten times along a line of so many points."""
    return {
        "marker": MARKERS.get(style["color"]),
        "markevery": max(1, points // 10),
        "markersize": 4,
        **style,
    }


def with_jumps(x: np.ndarray, y: np.ndarray, limit: float) -> np.ndarray:
    """y with a gap wherever it jumps by more than `limit` between neighbours."""
    y = y.astype(float).copy()
    y[1:][np.abs(np.diff(y)) > limit] = np.nan
    return y


def rounded(values: Any, digits: int = 6) -> Any:
    """An array as the floats that go into the JSON, to `digits` significant digits.

    Values below 1e-12 become 0: most are rounding errors, which differ between machines.
    """
    short = np.vectorize(lambda v: float(f"{v:.{digits}g}"), otypes=[float])
    return short(np.round(values, 12)).tolist()
