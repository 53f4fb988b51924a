"""Figures of paths: how lazy and eager methods move over one- and two-dimensional losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from proxquant_np.plotting.style import EAGER, LAZY, STYLES, mark_levels, new_figure, rounded
from proxquant_np.prox import BinaryL1, sign_pm
from proxquant_np.theory import (
    Quadratic,
    Ridge,
    by_projection,
    f_minus,
    f_plus,
    prox_gradient,
)

TOYS = {"$f_+$": f_plus, "$f_-$": f_minus}


def toy_pair_data(start: float = 0.4, lr: float = 0.1, rate: float = 0.03) -> dict[str, Any]:
    """BinaryConnect and ProxQuant (lambda_t = rate * t up to 2.5) on f+ and f-, from one start.

    Examples:
        >>> from proxquant_np import plotting
        >>> sorted(plotting.toy_pair_data())
        ['$f_+$', '$f_-$', 'lams', 'x']
    """
    x, lams = np.linspace(-1.5, 1.5, 121), np.arange(0, 2.5, rate)
    data: dict[str, Any] = {"x": rounded(x), "lams": rounded(lams)}
    for name, f in TOYS.items():
        lazy = by_projection(f.gradient, np.array([start]), [lr] * len(lams), sign_pm)
        eager = prox_gradient(f.gradient, BinaryL1(), [start], lr, lams)
        data[name] = {
            "value": rounded([f.value(v) for v in x[:, None]]),
            "latents": rounded(lazy.latents[:, 0]),
            "binary_connect": rounded(lazy.iterates[:, 0]),
            "prox_quant": rounded(eager[:, 0]),
        }
    return data


def toy_pair(data: Mapping[str, Any]) -> Figure:
    """Top: the losses and where each method ends. Bottom: the paths; BinaryConnect's are equal.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.toy_pair(plotting.toy_pair_data())
        >>> len(figure.axes)
        4
    """
    figure, axes = new_figure(2, 2, 9, 6.2, sharey="row")
    lazy, eager = STYLES["binary_connect"], STYLES["prox_quant"]
    for (top, bottom), name in zip(axes.T, TOYS, strict=True):
        one = data[name]
        mark_levels(top, (-1, 1))
        top.plot(data["x"], one["value"], color="black")
        last = sorted(set(one["binary_connect"][-10:]))
        top.plot(last, np.interp(last, data["x"], one["value"]), "s", color=LAZY, markersize=9)
        end = one["prox_quant"][-1]
        top.plot(end, np.interp(end, data["x"], one["value"]), "o", color=EAGER, markersize=6)
        top.set(title=f"{name}: last weights visited", xlabel="$w$")
        t = range(len(one["latents"]))
        for level in (-1, 1):
            bottom.axhline(level, color="#bbbbbb", linewidth=0.8, zorder=0)
        bottom.plot(
            t, one["binary_connect"], ".", color=LAZY, markersize=3, label="$s_t$, " + lazy["label"]
        )
        bottom.plot(t, one["latents"], color=LAZY, linewidth=0.8, label="its latent $z_t$")
        bottom.plot(t, one["prox_quant"], **{**eager, "label": "$w_t$, " + eager["label"]})
        bottom.set(xlabel="$t$", ylim=(-1.2, 1.2))
    axes[0, 0].set_ylabel("$f(w)$")
    axes[1, 0].set_ylabel("weight")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


LANDSCAPES = {
    "convex, minimiser inside the cube": Quadratic(
        np.array([[1.0, 0.6], [0.6, 2.0]]), -np.array([[1.0, 0.6], [0.6, 2.0]]) @ [0.5, -0.3]
    ),
    "nonconvex": Ridge(
        np.array([[1.6, 0.8], [-0.7, 1.9], [1.0, -1.0]]), np.array([0.4, 0.3, -0.6]), convex=False
    ),
}


def landscapes_data(
    start: tuple[float, float] = (0.75, 0.9), lr: float = 0.05, end: float = 4.0, steps: int = 400
) -> dict[str, Any]:
    """Two losses on [-1.5, 1.5]^2 and the paths of BinaryConnect and ProxQuant from one start.

    lambda_t rises from 0 to `end`. For BinaryConnect the data are the latents and, for each corner,
    the fraction of steps spent there.

    Examples:
        >>> from proxquant_np import plotting
        >>> sorted(plotting.landscapes_data(steps=10))
        ['axis', 'convex, minimiser inside the cube', 'nonconvex']
    """
    axis, z0 = np.linspace(-1.5, 1.5, 41), np.array(start)
    data: dict[str, Any] = {"axis": rounded(axis)}
    for name, loss in LANDSCAPES.items():
        lazy = by_projection(loss.gradient, z0, [lr] * steps, sign_pm)
        eager = prox_gradient(loss.gradient, BinaryL1(), z0, lr, np.linspace(0, end, steps))
        corners, visits = np.unique(lazy.iterates, axis=0, return_counts=True)
        data[name] = {
            "value": rounded([[loss.value(np.array([x, y])) for x in axis] for y in axis], 4),
            "latents": rounded(lazy.latents, 4),
            "corners": rounded(corners),
            "visits": rounded(visits / visits.sum()),
            "prox_quant": rounded(eager, 4),
        }
    return data


def landscapes(data: Mapping[str, Any]) -> Figure:
    """Contours of L: ProxQuant's path ends at one corner, BinaryConnect visits several.

    The area of a square is the fraction of steps that BinaryConnect spends at that corner.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.landscapes(plotting.landscapes_data())
        >>> len(figure.axes)
        2
    """
    figure, axes = new_figure(1, 2, 10, 4.9)
    for ax, name in zip(axes[0], LANDSCAPES, strict=True):
        one, axis = data[name], data["axis"]
        ax.contourf(axis, axis, one["value"], 24, cmap="Greys", alpha=0.55, zorder=-1)
        ax.set_rasterization_zorder(0)  # shading alone would need Matplotlib 3.10
        x, y = np.array(one["latents"]).T
        ax.plot(x, y, color=LAZY, linewidth=0.8, label="BinaryConnect's latent $z_t$")
        x, y = np.array(one["corners"]).T
        ax.scatter(
            x,
            y,
            400 * np.array(one["visits"]),
            color=LAZY,
            marker="s",
            alpha=0.7,
            zorder=3,
            label="BinaryConnect's weights $s_t$",
        )
        x, y = np.array(one["prox_quant"]).T
        ax.plot(x, y, color=EAGER, linestyle="--", label="ProxQuant's weights $w_t$")
        ax.plot(x[0], y[0], "o", color="black", markersize=5, label="start")
        ax.plot(x[-1], y[-1], "*", color=EAGER, markersize=13, zorder=4, label="ProxQuant's end")
        ax.set(title=name, xlabel="$w_1$", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
    axes[0, 0].set_ylabel("$w_2$")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize="small"
    )
    return figure
