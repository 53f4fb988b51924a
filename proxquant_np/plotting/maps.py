"""Figures of regularizers: values, envelopes, prox maps, and the effect of a homotopy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from proxquant_np.plotting.style import (
    EAGER,
    STRENGTH_COLOURS,
    STRENGTH_LINES,
    mark_levels,
    new_figure,
    rounded,
    with_jumps,
)
from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, LevelsL2, as_regularizer
from proxquant_np.prox.brute_force import objective
from proxquant_np.prox.regularizer import Prox
from proxquant_np.theory import prox_gradient

SETS = {
    "binary": (-1.0, 1.0),
    "ternary": (-1.0, 0.0, 1.0),
    "2-bit": (-1.5, -0.5, 0.5, 1.5),
}


def regularizers_data(
    strengths: Sequence[float] = (0.0, 0.25, 0.5, 1.0), points: int = 601
) -> dict[str, Any]:
    """The W-shaped L1 and L2 regularizers of binary weights and their prox maps on [-2, 2].

    Examples:
        >>> from proxquant_np import plotting
        >>> sorted(plotting.regularizers_data(points=5))
        ['BinaryL1', 'BinaryL2', 'strengths', 'w']
    """
    w = np.linspace(-2, 2, points)
    data: dict[str, Any] = {"w": w.round(6).tolist(), "strengths": list(strengths)}
    for name, regularizer in (("BinaryL1", BinaryL1()), ("BinaryL2", BinaryL2())):
        data[name] = {
            "value": [regularizer.value(np.array([x])) for x in w],
            "prox": [regularizer.prox(w, s).tolist() for s in strengths],
        }
    return data


def regularizers(data: Mapping[str, Any]) -> Figure:
    """R(w) on the left; on the right its prox map for several strengths, with a gap at the jump.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.regularizers(plotting.regularizers_data())
        >>> figure.axes[0].get_title()
        'BinaryL1: $R(w) = ||w| - 1|$'
    """
    figure, axes = new_figure(2, 2, 9, 6.4)
    w = np.array(data["w"])
    formulas = {"BinaryL1": r"$R(w) = ||w| - 1|$", "BinaryL2": r"$R(w) = \frac{1}{2}(|w| - 1)^2$"}
    for (left, right), (name, formula) in zip(axes, formulas.items(), strict=True):
        mark_levels(left, (-1, 1))
        left.plot(w, data[name]["value"], color="black")
        left.set(title=f"{name}: {formula}", xlabel="$w$", ylabel="$R(w)$")
        lines = zip(data["strengths"], data[name]["prox"], STRENGTH_COLOURS, strict=False)
        for i, (s, y, colour) in enumerate(lines):
            right.plot(
                w,
                with_jumps(w, np.array(y), 0.05),
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


def prox_map(regularizer: Prox, strengths: Sequence[float]) -> Figure:
    """The prox map of any regularizer with fixed levels, or of a plain function, on [-2, 2].

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.prox_map(pq.prox.LevelsL1([-1, 0, 1]), strengths=[0.0, 0.25])
        >>> len(figure.axes)
        1
    """
    x, regularizer = np.linspace(-2, 2, 801), as_regularizer(regularizer)
    figure, axes = new_figure(1, 1, 5, 4)
    for s, colour in zip(strengths, STRENGTH_COLOURS, strict=False):
        y = with_jumps(x, regularizer.prox(x, s), 0.05)
        axes[0, 0].plot(x, y, color=colour, label=f"$s = {s:g}$")
    axes[0, 0].set(title=repr(regularizer), xlabel="$x$", ylabel=r"$\mathrm{prox}(x, s)$")
    axes[0, 0].legend(frameon=False)
    return figure


def moreau_envelopes_data(
    strengths: Sequence[float] = (0.1, 0.25, 0.5, 1.0), points: int = 201
) -> dict[str, Any]:
    """BinaryL1 and BinaryL2 on [-2, 2] with their envelopes M_s(x) = min_u R(u) + (u - x)^2 / 2s.

    The minimum is at u = prox(x, s), so M_s(x) is the prox's own objective there, divided by s.

    Examples:
        >>> from proxquant_np import plotting
        >>> plotting.moreau_envelopes_data(strengths=(0.5,), points=5)["w"]
        [-2.0, -1.0, 0.0, 1.0, 2.0]
    """
    w = np.linspace(-2, 2, points)
    data: dict[str, Any] = {"w": rounded(w), "strengths": list(strengths)}
    for r in (BinaryL1(), BinaryL2()):
        each = w[:, None]
        data[type(r).__name__] = {
            "value": rounded([r.value(x) for x in each]),
            "envelopes": [
                rounded([objective(r, r.prox(x, s), x, s) / s for x in each]) for s in strengths
            ],
        }
    return data


def moreau_envelopes(data: Mapping[str, Any]) -> Figure:
    """R in black, and below it its Moreau envelopes: smooth at the levels, but with a kink at 0.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.moreau_envelopes(plotting.moreau_envelopes_data(points=21))
        >>> len(figure.axes)
        2
    """
    figure, axes = new_figure(1, 2, 9, 3.6, sharey=True)
    for ax, name in zip(axes[0], ("BinaryL1", "BinaryL2"), strict=True):
        mark_levels(ax, (-1, 1))
        ax.plot(data["w"], data[name]["value"], color="black", label="$R$")
        styles = zip(STRENGTH_COLOURS[1:], STRENGTH_LINES[1:], strict=True)
        lines = zip(data["strengths"], data[name]["envelopes"], styles, strict=False)
        for s, envelope, (colour, line) in lines:
            ax.plot(data["w"], envelope, color=colour, linestyle=line, label=f"$s = {s:g}$")
        ax.set(title=name, xlabel="$x$", ylim=(-0.03, 1.05))
    axes[0, 0].set_ylabel(r"$M_s(x) = \min_u\, R(u) + \frac{1}{2s}(u - x)^2$")
    axes[0, 1].legend(frameon=False, loc="upper center", ncols=2)
    return figure


def prox_maps_data(
    strengths: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 2.0), per_piece: int = 25
) -> dict[str, Any]:
    """Prox maps of LevelsL1 and LevelsL2 for binary, ternary and 2-bit levels, piece by piece.

    A prox map is continuous between neighbouring midpoints of the levels and jumps at them. So each
    piece is sampled separately, from its own midpoint to the last float below the next.

    Examples:
        >>> from proxquant_np import plotting
        >>> list(plotting.prox_maps_data()["sets"])
        ['binary', 'ternary', '2-bit']
    """
    data: dict[str, Any] = {"strengths": list(strengths), "sets": {}}
    for name, levels in SETS.items():
        midpoints = np.add(levels[1:], levels[:-1]) / 2
        ends = zip([-2, *midpoints], [*np.nextafter(midpoints, -np.inf), 2], strict=True)
        x = np.array([np.linspace(a, b, per_piece) for a, b in ends])
        data["sets"][name] = {
            "levels": list(levels),
            "x": rounded(x),
            **{
                norm: [rounded(r.prox(x, s)) for s in strengths]
                for norm, r in (("L1", LevelsL1(levels)), ("L2", LevelsL2(levels)))
            },
        }
    return data


def prox_maps(data: Mapping[str, Any]) -> Figure:
    """One column per set of levels; at each jump a dot marks the value taken, the upper one.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.prox_maps(plotting.prox_maps_data())
        >>> len(figure.axes)
        6
    """
    figure, axes = new_figure(2, len(data["sets"]), 11, 7, sharex=True, sharey=True)
    for column, (name, one) in zip(axes.T, data["sets"].items(), strict=True):
        x = np.array(one["x"])
        for ax, norm in zip(column, ("L1", "L2"), strict=True):
            for level in one["levels"]:
                ax.axhline(level, color="#bbbbbb", linewidth=0.8, zorder=0)
            lines = zip(
                data["strengths"], one[norm], STRENGTH_COLOURS, STRENGTH_LINES, strict=False
            )
            for s, pieces, colour, line in lines:
                y = np.array(pieces)
                for i, (a, b) in enumerate(zip(x, y, strict=True)):
                    label = f"$s = {s:g}$" if i == 0 else None
                    ax.plot(a, b, color=colour, linestyle=line, label=label)
                if s:
                    ax.vlines(x[1:, 0], y[:-1, -1], y[1:, 0], colour, ":", linewidth=0.7)
                    ax.plot(x[1:, 0], y[1:, 0], ".", color=colour, markersize=5)
            ax.set_title(f"{name}, {norm}")
    for ax in axes[:, 0]:
        ax.set_ylabel(r"$\mathrm{prox}(x, s)$")
    for ax in axes[-1]:
        ax.set_xlabel("$x$")
    axes[0, 0].legend(frameon=False, loc="upper left", fontsize="small")
    return figure


def homotopy_data(
    minimiser: float = -0.25,
    start: float = 0.9,
    lr: float = 0.15,
    end: float = 3.0,
    steps: int = 60,
) -> dict[str, Any]:
    """ProxQuant on L(w) = (w - minimiser)^2 with R = BinaryL1, lambda_t rising from 0 to `end`.

    Frame t shows lambda_t and the iterate w_t.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = plotting.homotopy_data(minimiser=-0.25, start=0.9)
        >>> data["iterates"][0], data["iterates"][-1]
        (0.9, -1.0)
    """
    w, lams = np.linspace(-1.6, 1.6, 161), np.linspace(0, end, steps + 1)
    r = BinaryL1()
    path = prox_gradient(lambda x: 2 * (x - minimiser), r, [start], lr, lams[:-1])
    return {
        "w": rounded(w),
        "loss": rounded((w - minimiser) ** 2),
        "regularizer": rounded([r.value(x) for x in w[:, None]]),
        "lams": rounded(lams),
        "iterates": rounded(path[:, 0]),
    }


def homotopy(data: Mapping[str, Any], frames: int = 6) -> Figure:
    """A row of panels: L + lambda_t R for rising lambda_t, with the iterate of ProxQuant.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.homotopy(plotting.homotopy_data(), frames=4)
        >>> len(figure.axes)
        4
    """
    figure, axes = new_figure(1, frames, 2.1 * frames, 2.8, sharey=True)
    for ax, t in zip(axes[0], np.linspace(0, len(data["lams"]) - 1, frames), strict=True):
        _homotopy_frame(ax, data, int(t))
    axes[0, 0].set_ylabel(r"$L(w) + \lambda_t R(w)$")
    return figure


def homotopy_frame(data: Mapping[str, Any], t: int) -> Figure:
    """Frame t alone.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.homotopy_frame(plotting.homotopy_data(), t=0)
        >>> len(figure.axes)
        1
    """
    figure, axes = new_figure(1, 1, 4.6, 3.4)
    _homotopy_frame(axes[0, 0], data, t)
    axes[0, 0].set_ylabel(r"$L(w) + \lambda_t R(w)$")
    return figure


def homotopy_frames(data: Mapping[str, Any]) -> Iterator[Figure]:
    """Every second frame, for `save_animation`.

    Examples:
        >>> from proxquant_np import plotting
        >>> len(list(plotting.homotopy_frames(plotting.homotopy_data(steps=20))))
        11
    """
    return (homotopy_frame(data, t) for t in range(0, len(data["lams"]), 2))


def _homotopy_frame(ax: Any, data: Mapping[str, Any], t: int) -> None:
    w, lam, at = np.array(data["w"]), data["lams"][t], data["iterates"][t]
    loss = np.array(data["loss"])
    total = loss + lam * np.array(data["regularizer"])
    mark_levels(ax, (-1, 1))
    ax.plot(w, loss, color="#999999", linestyle=":", linewidth=1)
    ax.plot(w, total, color="black")
    ax.plot(at, np.interp(at, w, total), "o", color=EAGER)
    ax.set(title=rf"$t = {t}$, $\lambda_t = {lam:.1f}$", xlabel="$w$", ylim=(-0.2, 4.2))
