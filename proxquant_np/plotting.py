"""Figures (above training): one function each, from plain data to a matplotlib Figure.

The data are dicts and lists, exactly what goes into the JSON beside each figure: `save_figure`
writes both. Lazy methods are orange and eager ones blue everywhere, full precision is grey; hard
maps are drawn solid, soft ones dashed where both appear; colours are Okabe and Ito's, which
colour-blind readers can tell apart and which differ in lightness when printed in grey.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from proxquant_np.prox import BinaryL1, BinaryL2, Regularizer
from proxquant_np.training import written_whole
from proxquant_np.training.fit import HISTOGRAM_EDGES

LAZY, EAGER, NEUTRAL = "#D55E00", "#0072B2", "#666666"
STRENGTH_COLOURS = ("#000000", "#56B4E9", "#009E73", "#E69F00", "#CC79A7")
STYLES = {
    "full_precision": dict(color=NEUTRAL, linestyle=":", label="full precision"),
    "binary_connect": dict(color=LAZY, linestyle="-", label="BinaryConnect (lazy, hard)"),
    "prox_connect": dict(color=LAZY, linestyle="--", label="ProxConnect (lazy, soft)"),
    "prox_quant": dict(color=EAGER, linestyle="--", label="ProxQuant (eager, soft)"),
    "projected_gradient": dict(
        color=EAGER, linestyle="-", label="projected gradient (eager, hard)"
    ),
}


def save_figure(figure: Figure, data: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write path.png, path.svg and the data the figure was drawn from, path.json.

    The SVG holds no date and no random identifiers, so that the same data give the same file.
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


def _figure(rows: int, columns: int, width: float, height: float, **kwargs: Any) -> Any:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _mark_levels(ax: Any, levels: Sequence[float]) -> None:
    for level in levels:
        ax.axvline(level, color="#bbbbbb", linewidth=0.8, zorder=0)


def _with_jumps(x: np.ndarray, y: np.ndarray, limit: float) -> np.ndarray:
    """y with a gap wherever it jumps by more than `limit` between neighbours."""
    y = y.astype(float).copy()
    y[1:][np.abs(np.diff(y)) > limit] = np.nan
    return y


def regularizers_data(
    strengths: Sequence[float] = (0.0, 0.25, 0.5, 1.0), points: int = 601
) -> dict[str, Any]:
    """The W-shaped L1 and L2 regularizers of binary weights and their prox maps on [-2, 2]."""
    w = np.linspace(-2, 2, points)
    data: dict[str, Any] = {"w": w.round(6).tolist(), "strengths": list(strengths)}
    for name, regularizer in (("BinaryL1", BinaryL1()), ("BinaryL2", BinaryL2())):
        data[name] = {
            "value": [regularizer.value(np.array([x])) for x in w],
            "prox": [regularizer.prox(w, s).tolist() for s in strengths],
        }
    return data


def regularizers(data: Mapping[str, Any]) -> Figure:
    """Left, R(w); right, its prox map for several strengths, the jump at 0 drawn as a gap."""
    figure, axes = _figure(2, 2, 9, 6.4)
    w = np.array(data["w"])
    formulas = {"BinaryL1": r"$R(w) = ||w| - 1|$", "BinaryL2": r"$R(w) = \frac{1}{2}(|w| - 1)^2$"}
    for (left, right), (name, formula) in zip(axes, formulas.items(), strict=True):
        _mark_levels(left, (-1, 1))
        left.plot(w, data[name]["value"], color="black")
        left.set(title=f"{name}: {formula}", xlabel="$w$", ylabel="$R(w)$")
        lines = zip(data["strengths"], data[name]["prox"], STRENGTH_COLOURS, strict=False)
        for i, (s, y, colour) in enumerate(lines):
            right.plot(
                w,
                _with_jumps(w, np.array(y), 0.05),
                color=colour,
                linestyle=(":", "-", "--", "-.")[i % 4],
                label=f"$s = {s:g}$",
            )
        right.set(
            title=rf"{name}: $\mathrm{{prox}}(x, s)$, $s = \eta\lambda$",
            xlabel="$x$",
            ylabel=r"$\mathrm{prox}(x, s)$",
        )
        right.legend(frameon=False, loc="upper left")
    return figure


def prox_map(regularizer: Regularizer, strengths: Sequence[float]) -> Figure:
    """The prox map of any regularizer of fixed levels on one pair of axes."""
    x = np.linspace(-2, 2, 801)
    figure, axes = _figure(1, 1, 5, 4)
    for s, colour in zip(strengths, STRENGTH_COLOURS, strict=False):
        y = _with_jumps(x, regularizer.prox(x, s), 0.05)
        axes[0, 0].plot(x, y, color=colour, label=f"$s = {s:g}$")
    axes[0, 0].set(title=repr(regularizer), xlabel="$x$", ylabel=r"$\mathrm{prox}(x, s)$")
    axes[0, 0].legend(frameon=False)
    return figure


def weight_filmstrip(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Histograms of the weights over training, one row a method, one column an epoch.

    `data`: method -> frames {"epoch", "counts" over HISTOGRAM_EDGES}. Of lazy methods the latent
    weights are shown, which is where their history is: their weights in use are -1 and +1 always.
    """
    columns = max(len(frames) for frames in data.values())
    figure, axes = _figure(len(data), columns, 1.9 * columns, 1.9 * len(data), sharex=True)
    widths = np.diff(HISTOGRAM_EDGES)
    for row, (method, frames) in zip(axes, data.items(), strict=True):
        style = STYLES[method]
        for ax, frame in zip(row, frames, strict=False):
            share = np.array(frame["counts"]) / max(1, sum(frame["counts"]))
            ax.bar(HISTOGRAM_EDGES[:-1], share, widths, align="edge", color=style["color"])
            _mark_levels(ax, (-1, 1))
            ax.set(xlim=(-1.6, 1.6), yticks=[], title=f"epoch {frame['epoch']}")
            ax.spines["left"].set_visible(False)
        what = "latent $z$" if style["color"] == LAZY else "$w$"
        row[0].set_ylabel(style["label"].split(" (")[0] + "\n" + what)
    for ax in axes[-1]:
        ax.set_xlabel("weight")
    return figure


def sign_flips(data: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Fraction of weights whose sign differs from the epoch before.

    `data`: method -> one list over epochs for each seed; drawn are their mean and their range.
    Zeros lie on the axis (symlog scale).
    """
    figure, axes = _figure(1, 1, 7, 4)
    ax = axes[0, 0]
    _lines(ax, data)
    ax.set_yscale("symlog", linthresh=1e-4)
    ax.set_ylim(0, 1)
    ax.set(xlabel="epoch of the quantizing phase", ylabel="fraction of signs changed in the epoch")
    return figure


def error_curves(data: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Validation error of the quantized network after each epoch.

    `data`: method -> one list over epochs for each seed; drawn are their mean and their range.
    """
    figure, axes = _figure(1, 1, 7, 4)
    ax = axes[0, 0]
    _lines(ax, data)
    ax.set_yscale("log")
    ax.set(xlabel="epoch of the quantizing phase", ylabel="validation error, all weights projected")
    return figure


def _lines(ax: Any, data: Mapping[str, Sequence[Sequence[float]]]) -> None:
    for method, seeds in data.items():
        values = np.array(seeds)
        epochs = np.arange(1, values.shape[1] + 1)
        marker = "o" if len(epochs) < 4 else None  # a line of one point is not to be seen
        ax.plot(epochs, values.mean(0), linewidth=1.2, marker=marker, **STYLES[method])
        ax.fill_between(
            epochs, values.min(0), values.max(0), color=STYLES[method]["color"], alpha=0.15
        )
    ax.legend(frameon=False, fontsize="small")
