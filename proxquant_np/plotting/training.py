"""Figures of training: weights, signs and errors over epochs and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from proxquant_np.plotting.style import (
    EAGER,
    LAZY,
    NEUTRAL,
    STYLES,
    log_down_to_zero,
    mark_levels,
    marked,
    new_figure,
)
from proxquant_np.training.fit import HISTOGRAM_EDGES


def weight_filmstrip(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Histograms of the weights over training, one row a method, one column a moment.

    `data`: method -> frames {"epoch" or "step", "counts" over HISTOGRAM_EDGES}. Of lazy methods the
    latent weights are shown, which is where their history is: their weights in use are -1 and +1
    always.
    All panels have one logarithmic axis, so that a spike does not hide the few weights beside it.

    Examples:
        >>> from proxquant_np import plotting
        >>> from proxquant_np.training.fit import HISTOGRAM_EDGES
        >>> counts = [1] * (len(HISTOGRAM_EDGES) - 1)
        >>> frames = [{"epoch": epoch, "counts": counts} for epoch in (0, 10)]
        >>> figure = plotting.weight_filmstrip({"prox_quant": frames})
        >>> [ax.get_title() for ax in figure.axes]
        ['epoch 0', 'epoch 10']
    """
    columns = max(len(frames) for frames in data.values())
    size = (1.9 * columns, 1.9 * len(data))
    figure, axes = new_figure(len(data), columns, *size, sharex=True, sharey=True)
    least = min(1 / max(1, sum(f["counts"])) for frames in data.values() for f in frames)
    for row, (method, frames) in zip(axes, data.items(), strict=True):
        style = STYLES[method]
        for ax, frame in zip(row, frames, strict=False):
            share = np.array(frame["counts"]) / max(1, sum(frame["counts"]))
            low = np.maximum(share, least / 2)  # log of 0 cannot be drawn
            ax.stairs(low, HISTOGRAM_EDGES, baseline=least / 2, fill=True, color=style["color"])
            mark_levels(ax, (-1, 1))
            when = next(f"{unit} {frame[unit]}" for unit in ("epoch", "step") if unit in frame)
            ax.set(yscale="log", title=when)
            ax.set(xlim=(-1.6, 1.6), ylim=(least / 2, 1))
        what = "latent $z$" if style["color"] == LAZY else "$w$"
        row[0].set_ylabel(style["label"].split(" (")[0] + f"\nshare of {what} per bar")
    for ax in axes[-1]:
        ax.set_xlabel("weight")
    return figure


def sign_flips(data: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Fraction of weights whose sign differs from the epoch before.

    `data`: method -> one list over epochs for each seed; drawn are their mean and, as a band, their
    range. The axis is logarithmic, and linear in the shaded strip, so that 0 is on it.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = {"prox_quant": [[0.1, 0.0]], "binary_connect": [[0.1, 0.1]]}
        >>> figure = plotting.sign_flips(data)
        >>> [text.get_text() for text in figure.axes[0].legend_.texts][:2]
        ['ProxQuant (eager, soft)', 'BinaryConnect (lazy, hard)']
    """
    figure, axes = new_figure(1, 1, 7, 4)
    ax = axes[0, 0]
    _lines(ax, data)
    log_down_to_zero(ax.yaxis, 1e-4)
    ax.set_ylim(0, 1)
    ax.set(xlabel="epoch of the quantizing phase", ylabel="fraction of signs changed in the epoch")
    return figure


def error_curves(data: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Validation error of the quantized network after each epoch.

    `data`: method -> one list over epochs for each seed; drawn are their mean and, as a band, their
    range.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.error_curves({"prox_quant": [[0.5, 0.2, 0.1], [0.4, 0.2, 0.1]]})
        >>> figure.axes[0].get_ylabel()
        'validation error, all weights projected'
    """
    figure, axes = new_figure(1, 1, 7, 4)
    ax = axes[0, 0]
    _lines(ax, data)
    ax.set_yscale("log")
    ax.set(xlabel="epoch of the quantizing phase", ylabel="validation error, all weights projected")
    return figure


def _lines(ax: Any, data: Mapping[str, Sequence[Sequence[float]]]) -> None:
    for method, seeds in data.items():
        values = np.array(seeds)
        epochs = np.arange(1, values.shape[1] + 1)
        ax.plot(epochs, values.mean(0), linewidth=1.2, **marked(STYLES[method], len(epochs)))
        ax.fill_between(
            epochs, values.min(0), values.max(0), color=STYLES[method]["color"], alpha=0.15
        )
    most = max(map(len, data.values()), default=1)
    if most > 1:
        ax.fill_between([], [], color=NEUTRAL, alpha=0.25, label=f"band: the range of {most} seeds")
    ax.legend(frameon=False, fontsize="small")


def flip_raster(data: Mapping[str, Any]) -> Figure:
    """A dot for every change of sign, coordinates upwards, steps to the right, one panel a method.

    `data`: "steps", and "flips": method -> for each coordinate, the steps in which it flipped. The
    coordinates are the same ones in all panels, sorted by their flips in the first.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.flip_raster({"steps": 10, "flips": {"binary_connect": [[1, 3], [2]]}})
        >>> figure.axes[0].get_title()
        'BinaryConnect: 3 flips'
    """
    flips = data["flips"]
    figure, axes = new_figure(1, len(flips), 4 * len(flips), 4, sharex=True, sharey=True)
    order = np.argsort([len(steps) for steps in next(iter(flips.values()))], kind="stable")
    for ax, (method, rows) in zip(axes[0], flips.items(), strict=True):
        points = [(t, row) for row, i in enumerate(order) for t in rows[i]]
        x, y = np.array(points or np.empty((0, 2))).T
        size = 2.5 if len(points) > 50 else 7  # a few are to be seen, too
        style = dict(color=STYLES[method]["color"], markersize=size, rasterized=True)
        ax.plot(x, y, ".", **style)
        ax.set_title(STYLES[method]["label"].split(" (")[0] + f": {len(points)} flips")
        ax.set(xlabel="$t$", xlim=(-0.01 * data["steps"], data["steps"]), ylim=(-1, len(order)))
    axes[0, 0].set_ylabel("coordinate")
    return figure


def flips_over_time(data: Mapping[str, Any]) -> Figure:
    """Left, the fraction of weights that flip in a step; right, that flip at least k times.

    `data`: "steps"; "per_step": method -> means over equal parts of the run; "coordinates": method
    -> how many weights flip 0, 1, 2, ... times.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = {"steps": 10, "per_step": {"prox_quant": [0.1, 0.0]}}
        >>> figure = plotting.flips_over_time(data | {"coordinates": {"prox_quant": [3, 2, 1]}})
        >>> len(figure.axes)
        2
    """
    figure, axes = new_figure(1, 2, 10, 4)
    left, right = axes[0]
    for method, rates in data["per_step"].items():
        edges = np.linspace(0, data["steps"], len(rates) + 1)
        style = marked(STYLES[method], len(rates))
        left.plot((edges[1:] + edges[:-1]) / 2, rates, **style)
    for method, counts in data["coordinates"].items():
        share = np.cumsum(counts[::-1])[::-1][1:] / sum(counts)
        right.step(np.arange(1, len(counts)), share, where="mid", **STYLES[method])
    log_down_to_zero(left.yaxis, 1e-5)
    left.set(xlabel="$t$", ylabel="fraction of weights that flip in a step", ylim=(0, 0.02))
    right.set(xscale="log", yscale="log", xlabel="$k$")
    right.set_ylabel("fraction of weights that flip at least $k$ times")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def finite_time(data: Mapping[str, Any]) -> Figure:
    """ProxQuant on a network: lambda_t against the gradients, and when it had to be quantized.

    `data`: "summary", whose "prox_quant" has the steps of the theorem and the measured ones;
    "curves" over "step": "lam", "largest_gradient" and "not_quantized", the fraction of weights
    that are not at a level.

    Examples:
        >>> from proxquant_np import plotting
        >>> curves = dict(step=[0, 1], lam=[0.0, 2.0], not_quantized=[1, 0])
        >>> curves |= dict(largest_gradient=[1.0, 1.0])
        >>> bound = dict(no_flips_after=1, quantized=1)
        >>> summary = dict(largest_gradient=1.0, last_flip=0, quantized=1)
        >>> summary |= dict(theorem=bound, theorem_step_by_step=bound)
        >>> len(plotting.finite_time({"curves": curves, "summary": {"prox_quant": summary}}).axes)
        2
    """
    figure, axes = new_figure(2, 1, 7.5, 5.6, sharex=True)
    (top,), (bottom,) = axes
    curves, summary = data["curves"], data["summary"]["prox_quant"]
    t, bound = curves["step"], summary["largest_gradient"]
    top.plot(t, curves["lam"], color=EAGER, linestyle="--", label=r"$\lambda_t$")
    top.plot(
        t,
        curves["largest_gradient"],
        color=NEUTRAL,
        linewidth=0.6,
        label=r"$G_t = \max_i |g_{t,i}|$",
    )
    top.set_title("ProxQuant's weights in a network")
    top.axhline(bound, color="black", linestyle=":", label=r"$G = \max_t G_t$")
    bottom.plot(t, curves["not_quantized"], color=EAGER, linestyle="--")
    log_down_to_zero(bottom.yaxis, 1e-4)
    bottom.set(xlabel="$t$", ylabel=r"fraction of weights off $\{-1, +1\}$", ylim=(0, 1.5))
    lines = [
        (summary["last_flip"], EAGER, "-", f"last flip: {summary['last_flip']}"),
        (summary["quantized"], EAGER, (0, (1, 1)), f"all quantized from {summary['quantized']} on"),
    ]
    for bound, colour, name in (
        ("each $G_t$", NEUTRAL, "theorem_step_by_step"),
        ("$G$", "black", "theorem"),
    ):
        step, quantized = summary[name]["no_flips_after"], summary[name]["quantized"]
        what = f"theorem with {bound}: no flip after {step}, all quantized from {quantized}"
        lines.append((step, colour, "--", what))
    for step, colour, line, label in lines:
        bottom.axvline(step, color=colour, linestyle=line, label=label)
    top.legend(frameon=False, loc="lower right", ncols=3)
    figure.legend(
        *bottom.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return figure
