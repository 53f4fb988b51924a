"""Figures of a single step: where each method takes its gradient, and what it moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.plotting.style import EAGER, LAZY, NEUTRAL, mark_levels, new_figure, rounded
from proxquant_np.prox import BinaryL1, sign_pm
from proxquant_np.theory import Quadratic, by_projection, prox_gradient

LOSS = Quadratic(np.eye(1), np.array([0.25]))  # least at -1/4, between the levels


def one_step_data(start: float = 0.35, lr: float = 0.4, strength: float = 0.15) -> dict[str, Any]:
    """One step of BinaryConnect and of ProxQuant (BinaryL1) from one point on w^2/2 + w/4.

    Of the lazy one: latents, weights and the gradient, before and after; of the eager one: weights,
    gradient, and where the gradient step alone would lead.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = plotting.one_step_data()
        >>> data["lazy"]["weights"], data["eager"]["weights"]
        ([1.0, -1.0], [0.35, 0.26])
    """
    x, z = np.linspace(-1.5, 1.5, 121), np.array([start])
    lazy = by_projection(LOSS.gradient, z, [lr], sign_pm)
    eager = prox_gradient(LOSS.gradient, BinaryL1(), z, lr, [strength / lr])
    gradient = LOSS.gradient(z)
    return {
        "lr": lr,
        "strength": strength,
        "x": rounded(x),
        "loss": rounded([LOSS.value(v) for v in x[:, None]]),
        "lazy": {
            "latents": rounded(lazy.latents[:, 0]),
            "weights": rounded(lazy.iterates[:, 0]),
            "gradient": rounded(lazy.gradients[0, 0]),
        },
        "eager": {
            "weights": rounded(eager[:, 0]),
            "moved": rounded((z - lr * gradient)[0]),
            "gradient": rounded(gradient[0]),
        },
    }


def one_step(data: Mapping[str, Any]) -> Figure:
    """The loss with the point of the gradient and its tangent; below it, the step, read downwards.

    Examples:
        >>> from proxquant_np import plotting
        >>> figure = plotting.one_step(plotting.one_step_data())
        >>> [ax.get_title() for ax in figure.axes[:2]]
        ['lazy: gradient at $P_Q(z_t)$, $z_t$ moves', 'eager: gradient at $w_t$, $w_t$ moves']
    """
    figure, axes = new_figure(2, 2, 11, 6.4, sharex=True, sharey="row", height_ratios=(3, 2.4))
    lazy, eager = data["lazy"], data["eager"]
    (z, z_next), (w, w_next), (v, v_next) = lazy["latents"], lazy["weights"], eager["weights"]
    left = [
        (z, w, "$w_t = P_Q(z_t)$"),
        (z, z_next, r"$z_{t+1} = z_t - \eta\,L'(w_t)$"),
        (z_next, w_next, r"$w_{t+1} = P_Q(z_{t+1})$"),
    ]
    right = [
        (v, eager["moved"], r"$w_t - \eta\,L'(w_t)$"),
        (eager["moved"], v_next, r"$w_{t+1} = \mathrm{prox}(\cdot, s)$"),
    ]
    _gradient_on_loss(axes[0, 0], data, w, lazy["gradient"], LAZY, "s")
    _gradient_on_loss(axes[0, 1], data, v, eager["gradient"], EAGER, "o")
    height = np.interp(z, data["x"], data["loss"])
    axes[0, 0].plot(z, height, "s", color=LAZY, fillstyle="none", markersize=7)
    axes[0, 0].text(z, height + 0.08, "$z_t$", ha="right")
    axes[0, 0].set(title="lazy: gradient at $P_Q(z_t)$, $z_t$ moves", ylabel="$L(w)$")
    axes[0, 1].set_title("eager: gradient at $w_t$, $w_t$ moves")
    _moves(axes[1, 0], left, LAZY, "s")
    _moves(axes[1, 1], right, EAGER, "o")
    axes[1, 0].set_ylabel("one step,\nread downwards")
    return figure


def _gradient_on_loss(ax, data, at, slope, colour, marker):
    """The loss, and its tangent at the point where the gradient is taken."""
    mark_levels(ax, (-1, 1))
    ax.plot(data["x"], data["loss"], color="black", linewidth=1.2)
    height, reach = np.interp(at, data["x"], data["loss"]), np.array([-0.42, 0.42])
    ax.plot(at + reach, height + slope * reach, color=colour, linewidth=3)
    ax.plot(at, height, marker, color=colour, markersize=9)
    words = rf"gradient taken here: $L' = {slope:.2f}$"
    ax.annotate(
        words,
        (at, height),
        (-0.35, 1.15),
        ha="center",
        color=colour,
        arrowprops=dict(arrowstyle="-", color=colour, linewidth=0.8, shrinkB=6),
    )


def _moves(ax, moves, colour, marker):
    """A row for each (from, to, formula): hollow where it starts, full where it ends."""
    mark_levels(ax, (-1, 1))
    for row, (a, b, formula) in enumerate(moves):
        ax.annotate(
            "", (b, -row), (a, -row), arrowprops=dict(arrowstyle="->", color=colour, linewidth=2)
        )
        ax.plot(a, -row, marker, color=colour, fillstyle="none", markersize=7)
        ax.plot(b, -row, marker, color=colour, markersize=7)
        ax.text((a + b) / 2, 0.22 - row, f"{row + 1}. {formula}", ha="center")
    ax.set(xlabel="weight", yticks=[], ylim=(-2.4, 0.8), xlim=(-1.5, 1.5))
    ax.spines["left"].set_visible(False)


def straight_through_data(z: float = 0.35) -> dict[str, Any]:
    """A forward and a backward pass through `F.straight_through` on the loss of `one_step_data`.

    Examples:
        >>> from proxquant_np import plotting
        >>> plotting.straight_through_data()
        {'z': 0.35, 'w': 1.0, 'loss': 0.75, 'gradient_at_w': 1.25, 'gradient_at_z': 1.25}
    """
    latent = Tensor(np.array([z]), requires_grad=True)
    w = F.straight_through(latent, sign_pm)
    loss = LOSS.value(w)
    loss.backward()
    found = {
        "z": latent.data[0],
        "w": w.data[0],
        "loss": loss.data,
        "gradient_at_w": LOSS.gradient(w.data)[0],
        "gradient_at_z": latent.grad[0],
    }
    return {name: rounded(value) for name, value in found.items()}


def straight_through(data: Mapping[str, Any]) -> Figure:
    """The graph z -> w -> L: above, what goes forward; below, what comes back.

    Examples:
        >>> from proxquant_np import plotting
        >>> len(plotting.straight_through(plotting.straight_through_data()).axes)
        1
    """
    figure, axes = new_figure(1, 1, 9, 2.6)
    ax = axes[0, 0]
    boxes = (
        (0, f"latent\n$z = {data['z']:.2f}$"),
        (4, f"weight\n$w = {data['w']:+.0f}$"),
        (8, f"loss\n$L(w) = {data['loss']:.2f}$"),
    )
    for x, words in boxes:
        ax.text(
            x,
            0,
            words,
            ha="center",
            va="center",
            fontsize=12,
            bbox=dict(boxstyle="round,pad=0.6", facecolor="white", edgecolor="black"),
        )
    forward, backward = (
        dict(color="black"),
        dict(color=LAZY, linestyle="--"),
    )
    arrows = (
        (0.75, 3.3, 0.16, "$P_Q$", forward),
        (4.7, 7.1, 0.16, "$L$", forward),
        (7.1, 4.7, -0.16, f"$L'(w) = {data['gradient_at_w']:.2f}$", backward),
        (3.3, 0.75, -0.16, f"identity: {data['gradient_at_z']:.2f}", backward),
    )
    for a, b, y, words, style in arrows:
        ax.annotate("", (b, y), (a, y), arrowprops=dict(arrowstyle="-|>", linewidth=2, **style))
        above = y > 0
        ax.text(
            (a + b) / 2,
            y + (0.1 if above else -0.1),
            words,
            ha="center",
            fontsize=12,
            color=style["color"],
            va="bottom" if above else "top",
        )
    note = r"(not $P_Q'$, which is 0 wherever it exists)"
    ax.text(2, -0.6, note, ha="center", va="top", color=NEUTRAL)
    ax.set(
        xlim=(-1.3, 9.3), ylim=(-0.9, 0.6), title="straight-through: forward solid, backward dashed"
    )
    ax.set_axis_off()
    return figure
