"""Figures of experiments: paired differences, the map of regimes, sign changes per layer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from proxquant_np.plotting.style import EAGER, LAZY, NEUTRAL, STYLES, log_down_to_zero, new_figure

VERDICT_COLOURS = {"supported": EAGER, "contradicted": LAZY, "equal within m": "black"}
VERDICT_MARKERS = {
    "supported": "o",
    "contradicted": "s",
    "equal within m": "P",
    "inconclusive at this scale": "D",
    "too few pairs for a verdict": "^",
}


def _marked(verdict: str, colour: str) -> dict[str, Any]:
    """The marker of a verdict: full if it decides something."""
    return dict(
        color=colour,
        linestyle="",
        marker=VERDICT_MARKERS[verdict],
        markerfacecolor=colour if verdict in VERDICT_COLOURS else "white",
    )


ALLOWED = "margin that the claim allows"
FARTHEST = 120  # percent; a row beyond is named at the edge


def differences(data: Mapping[str, Any]) -> Figure:
    """The interval of each claim's paired difference, in percent of the rival's mean.

    `data`: "title" and "rows", each with "label", "verdict" and, as fractions, "mean", "low" and
    "high" (None if a single seed gives no interval). Values left of 0 support the claim; where it
    allows a margin, a fraction of the rival's mean that is already taken off them, the row has it
    as "margin": drawn are the differences themselves, and a tick at the margin.

    What lies beyond +120% is named at the edge instead, lest one row hide the rest. Nothing lies
    below -100%: the measures are no less than 0, so that what Student's interval claims beyond is
    cut off.

    Examples:
        >>> from proxquant_np import plotting
        >>> row = {"label": "eager errs less", "mean": -0.1, "low": -0.2, "high": 0.0}
        >>> rows = [row | {"verdict": "inconclusive at this scale"}]
        >>> figure = plotting.differences({"title": "Digits", "rows": rows})
        >>> figure.get_suptitle()
        'Digits'
    """
    rows = data["rows"]
    labels = [fill(row["label"], 48) for row in rows]
    lines = max([3, *(1 + label.count("\n") for label in labels)])
    figure, axes = new_figure(1, 1, 9, 1.8 + 0.12 * lines * len(rows))
    ax = axes[0, 0]
    ax.axvline(0, color="black", linewidth=0.8)
    for y, row in enumerate(rows):
        verdict, margin = row["verdict"], row.get("margin") or 0
        colour = VERDICT_COLOURS.get(verdict, NEUTRAL)
        mean = 100 * (row["mean"] + margin)
        ends = None
        if row["low"] is not None:
            ends = [100 * (row[end] + margin) for end in ("low", "high")]
            ax.plot(np.clip(ends, -100, FARTHEST), [y, y], linewidth=2, color=colour)
        if margin:
            ax.plot(100 * margin, y, "|", color="black", markersize=16, label=ALLOWED)
        ax.plot(min(mean, FARTHEST), y, label=verdict, zorder=3, **_marked(verdict, colour))
        if max([mean, *(ends or [])]) > FARTHEST:
            said = f" [{ends[0]:+.0f}, {ends[1]:+.0f}]" if ends else ""
            where = (FARTHEST, y - 0.42)
            ax.annotate(f"{mean:+.0f}%{said} \u2192", where, ha="right", va="center", fontsize=8)
    ax.set_yticks(range(len(rows)), labels, fontsize="small", linespacing=1.0)
    ax.set(ylim=(len(rows) - 0.5, -0.5))
    figure.suptitle(data["title"], fontsize="large")
    named = {line.get_label(): line for line in ax.get_lines()}
    where = "left of 0, or of its margin:" if ALLOWED in named else "left of 0:"
    ax.set_xlabel(f"paired difference, % of the rival's mean ({where} as claimed)", fontsize=10)
    order = [*VERDICT_MARKERS, ALLOWED]  # the same in all figures
    figure.legend(
        handles=[named[label] for label in order if label in named],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize="small",
    )
    return figure


def regime_map(data: Mapping[str, Any]) -> Figure:
    """The difference eager - lazy in test error for each width and step budget, as a heat map.

    `data`: "widths" (upwards), "budgets" (to the right), and the nested lists "difference" and
    "verdict", [width][budget]. A star marks cells whose interval excludes 0; in grey the sign,
    which is written in each cell, tells the two colours apart.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = {"widths": [16, 64], "budgets": [100], "difference": [[0.01], [-0.02]]}
        >>> figure = plotting.regime_map(data | {"verdict": [["contradicted"], ["supported"]]})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['+1.00*', '-2.00*']
    """
    values = 100 * np.array(data["difference"], float)
    n, m = values.shape
    figure, axes = new_figure(1, 1, 2.6 + 1.15 * m, 1.8 + 0.75 * n)
    ax = axes[0, 0]
    most = max(np.abs(values).max(), 1e-9)
    image = ax.imshow(values, cmap="PuOr_r", vmin=-most, vmax=most, origin="lower", aspect="auto")
    for i in range(n):
        for j in range(m):
            sure = data["verdict"][i][j] in ("supported", "contradicted")
            dark = abs(values[i, j]) > 0.6 * most
            ax.text(
                j,
                i,
                f"{values[i, j]:+.2f}" + "*" * sure,
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
    ax.set_xticks(range(m), [f"{t:,}" for t in data["budgets"]])
    ax.set_yticks(range(n), [str(w) for w in data["widths"]])
    ax.set(xlabel="quantizing steps", ylabel="width of the hidden layers")
    title = "ProxQuant - BinaryConnect\n(* the 95% interval excludes 0, before any correction)"
    ax.set_title(title, fontsize="medium")
    figure.colorbar(image, ax=ax, label="test error, percentage points")
    return figure


def layer_changes(data: Mapping[str, Any]) -> Figure:
    """Signs changed since the start and in each epoch: one panel for each, one line per layer.

    `data`: run -> "epochs", "change_from_start" and "change_from_last_epoch"; the latter two map
    each layer to fractions at these epochs. A run's name begins with its method's; `_from_binary`
    says that it started from a BinaryConnect network, `_at_METHOD` that it has that one's rate, and
    `_reach` at the end that it keeps the sum of its strengths there.

    Examples:
        >>> from proxquant_np import plotting
        >>> curves = {"layers.0.weight": [0.1, 0.2]}
        >>> run = {"epochs": [1, 2], "change_from_start": curves, "change_from_last_epoch": curves}
        >>> len(plotting.layer_changes({"prox_quant": run}).axes)
        2
    """
    kinds = {
        "change_from_start": "signs changed since the start",
        "change_from_last_epoch": "signs changed in the epoch",
    }
    figure, axes = new_figure(2, len(data), 3.2 * len(data), 5.6, sharex="col", sharey="row")
    for column, (run, values) in zip(axes.T, data.items(), strict=True):
        method = next(name for name in STYLES if run.startswith(name))
        start = "a BinaryConnect network" if "_from_binary" in run else "full precision"
        title = f"{STYLES[method]['label'].split(' (')[0]}\nfrom {start}"
        if "_at_" in run:
            other = next(name for name in STYLES if run.split("_at_")[1].startswith(name))
            title += f",\nat {STYLES[other]['label'].split(' (')[0]}'s rate"
            title += ",\nthe sum of strengths kept" * run.endswith("_reach")
        column[0].set_title(title, fontsize=10)
        for ax, (kind, label) in zip(column, kinds.items(), strict=True):
            lines = zip(values[kind].items(), itertools.cycle(("-", "--", "-.", ":")), strict=False)
            for (layer, curve), line in lines:
                ax.plot(
                    values["epochs"],
                    curve,
                    color=STYLES[method]["color"],
                    linestyle=line,
                    label=layer.removesuffix(".weight"),
                )
            if ax in axes[:, 0]:
                ax.set_ylabel(label)
        log_down_to_zero(column[1].yaxis, 1e-4)
        column[1].set(xlabel="epoch", ylim=(0, 1))
    axes[0, 0].set_ylim(bottom=0)  # last, as it turns off autoscaling
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right upper",
        frameon=False,
        fontsize="small",
        title="layer",
    )
    return figure


CHANGES = ((EAGER, "-"), (NEUTRAL, "--"), (LAZY, ":"), ("black", "-."))


def budget_curve(data: Mapping[str, Any]) -> Figure:
    """Differences ProxQuant - BinaryConnect against the number of steps, question by question.

    `data`: "seeds" and "networks", each with "measure" and "unit" in words, "steps", "panels" and
    "levels". A panel maps each pair that it compares to a row for each number of steps, with
    "mean", "low", "high" and "verdict", which its marker tells. "levels" maps methods to their
    measure, and "labels" those that have no style of their own to their names. Panels stand two in
    a row; below zero ProxQuant is better.

    Examples:
        >>> from proxquant_np import plotting
        >>> rows = [{"mean": m, "low": m - 1, "high": m + 1, "verdict": "equal within m"}
        ...         for m in (2.0, -0.5)]
        >>> mlp = {"measure": "test error, %", "unit": "percentage points", "steps": [200, 500],
        ...        "panels": {"Is it the rate?": {"as searched": rows}},
        ...        "levels": {"prox_quant": [9.0, 3.0], "binary_connect": [7.0, 3.5]}}
        >>> figure = plotting.budget_curve({"seeds": 5, "networks": {"mlp": mlp}})
        >>> [ax.get_title() for ax in figure.axes]
        ['mlp: Is it the rate?', 'mlp: the methods themselves']
    """
    networks = data["networks"]
    rows = [-(-(1 + len(network["panels"])) // 2) for network in networks.values()]
    figure, axes = new_figure(sum(rows), 2, 10, 3.9 * sum(rows))
    parts = np.split(axes, np.cumsum(rows)[:-1])
    for part, (name, network) in zip(parts, networks.items(), strict=True):
        *compared, last = part.flat[: 1 + len(network["panels"])]
        for ax, (question, pairs) in zip(compared, network["panels"].items(), strict=True):
            _differences_by_steps(ax, network["steps"], pairs)
            ax.set_title(f"{name}: {question}", fontsize="medium")
            ax.set_ylabel(f"ProxQuant - BinaryConnect,\n{network['unit']} [95%]", fontsize=9)
        ends = [ax.get_ylim() for ax in compared]  # one scale, so that questions can be compared
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        for ax in compared:
            ax.set_ylim(low, high + 0.45 * (high - low))  # room for the legend
        for method, values in network["levels"].items():
            side = next(known for known in STYLES if method.startswith(known))
            style = dict(STYLES[side])
            if method != side:
                style |= dict(
                    label=network["labels"][method],
                    linestyle="-.",
                    marker="^" if method.endswith("reach") else "v",
                )
            last.plot(network["steps"], values, markersize=5, **style)
        last.set_title(f"{name}: the methods themselves", fontsize="medium")
        last.set_ylabel(network["measure"], fontsize=9)
        most = max(max(values) for values in network["levels"].values())
        last.set_ylim(0, 1.4 * most)  # room for the legend
        for ax in (*compared, last):
            ax.set_xscale("log")
            ax.set_xticks(network["steps"], [f"{n:,}" for n in network["steps"]], fontsize=8)
            ax.minorticks_off()
            ax.set_xlabel("quantizing steps", fontsize=9)
            where = "best" if ax is last else "upper right"
            ax.legend(frameon=False, fontsize=8, loc=where)
        for ax in part.flat[1 + len(compared) :]:
            ax.set_axis_off()
    figure.suptitle(f"{data['seeds']} seeds; below zero ProxQuant is better", fontsize="medium")
    panels = [panel for network in networks.values() for panel in network["panels"].values()]
    found = {row["verdict"] for panel in panels for pair in panel.values() for row in pair}
    figure.legend(
        handles=[
            Line2D([], [], label=verdict, **_marked(verdict, "black"))
            for verdict in VERDICT_MARKERS
            if verdict in found
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize="small",
    )
    return figure


def _differences_by_steps(ax: Any, steps: Sequence[int], pairs: Mapping[str, Any]) -> None:
    """The intervals of each pair along the budgets, side by side at each of them."""
    ax.axhline(0, color="black", linewidth=0.8)
    for i, ((how, rows), (colour, line)) in enumerate(zip(pairs.items(), CHANGES, strict=False)):
        x = np.array(steps) * 1.06 ** (i - (len(pairs) - 1) / 2)
        mean = np.array([row["mean"] for row in rows])
        label = fill(how, 34)
        ax.plot(x, mean, color=colour, linestyle=line, linewidth=1.4, label=label)
        for at, row in zip(x, rows, strict=True):
            if row["low"] is not None:
                ax.plot([at, at], [row["low"], row["high"]], color=colour, linewidth=1.4)
            ax.plot(at, row["mean"], markersize=6, **_marked(row["verdict"], colour))
