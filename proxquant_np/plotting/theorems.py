"""Figures of the theorems: what each predicts, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from proxquant_np import theory
from proxquant_np.plotting.style import EAGER, LAZY, NEUTRAL, new_figure, rounded
from proxquant_np.prox import BinaryL2, Regularizer, sign_pm
from proxquant_np.theory import (
    Quadratic,
    SmoothW,
    TwoCycle,
    by_projection,
    f_plus,
    flip_frequency_bound,
    flips,
    frank_wolfe_gap,
    inner_distance,
    lazy_two_cycle,
    predicted_time_at_plus_one,
    prox_gradient,
    quadratic_on_cube,
    random_ridge,
    run_prox_gradient,
    time_at_plus_one,
)


def regret_data(
    start: float = 0.1, horizons: Sequence[int] = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
) -> dict[str, Any]:
    """Dual averaging on f+, mapped to [-1, 1] and to {-1, +1}, with the step the theorem asks for.

    For each horizon T, with lr = D / sqrt(T): average regret against the best point, -1, and the
    known rate D / sqrt(T), as |g| = 1; D = |start + 1|.

    Examples:
        >>> from proxquant_np import plotting
        >>> plotting.regret_data(horizons=(4, 8))["steps"]
        [4, 8]
    """
    best, far = np.array([-1.0]), abs(start + 1)
    data: dict[str, Any] = {"steps": list(horizons), "rate": rounded(far / np.sqrt(horizons))}
    maps = {"cube": lambda z: np.clip(z, -1, 1), "corners": sign_pm}
    for name, project in maps.items():
        data[name] = []
        for steps in horizons:
            lrs = np.full(steps, far / np.sqrt(steps))
            run = by_projection(f_plus.gradient, np.array([start]), lrs, project)
            data[name].append(rounded(theory.regret(run, lrs, best).left[-1] / lrs.sum()))
    return data


def regret(data: Mapping[str, Any]) -> Figure:
    """Average regret against the horizon: mapped to a convex set it falls, to corners it stays.

    Examples:
        >>> from proxquant_np import plotting
        >>> len(plotting.regret(plotting.regret_data(horizons=(4, 8))).axes)
        1
    """
    figure, axes = new_figure(1, 1, 6, 4)
    ax, steps = axes[0, 0], data["steps"]
    ax.plot(steps, data["rate"], color="black", linestyle=":", label=r"known rate $DG/\sqrt{T}$")
    ax.plot(steps, data["cube"], "o-", color=NEUTRAL, markersize=4, label="mapped to $[-1, 1]$")
    label = r"mapped to $\{-1, +1\}$: BinaryConnect"
    ax.plot(steps, data["corners"], "s-", color=LAZY, markersize=4, label=label)
    ax.set(xscale="log", yscale="log", xlabel="$T$")
    ax.set_ylabel(r"$\frac{1}{T}\sum_t \langle g_t, w_t + 1\rangle$ on $f_+$")
    ax.legend(frameon=False)
    return figure


def flip_frequency_data(d: int = 24, steps: int = 3000, seed: int = 0) -> dict[str, Any]:
    """BinaryConnect on two random quadratics: minimiser inside the cube, and on a face of it.

    For each coordinate: time at +1 and flips a step, predicted and measured; for each t: distance
    of the running mean from the minimiser x*, and its bound.

    Examples:
        >>> from proxquant_np import plotting
        >>> list(plotting.flip_frequency_data(d=4, steps=100))
        ['inside', 'on a face']
    """
    data: dict[str, Any] = {}
    for name, n_active in (("inside", 0), ("on a face", d // 3)):
        loss, x = quadratic_on_cube(np.random.default_rng(seed), d, n_active)
        run = by_projection(loss.gradient, np.zeros(d), np.full(steps, 0.1), sign_pm)
        signs = run.iterates[:-1]
        t = np.unique(np.geomspace(1, steps, 60).astype(int))
        means = np.cumsum(signs, axis=0)[t - 1] / t[:, None]
        bound = (
            [np.sqrt(2 / loss.mu * frank_wolfe_gap(loss, x, n)) for n in t]
            if n_active
            else [inner_distance(loss, x, n) for n in t]
        )
        data[name] = {
            "predicted_time": rounded(predicted_time_at_plus_one(x)),
            "measured_time": rounded(time_at_plus_one(signs)),
            "flip_bound": rounded(flip_frequency_bound(x)),
            "measured_flips": rounded(flips(signs) / (steps - 1)),
            "t": t.tolist(),
            "distance": rounded(np.linalg.norm(means - x, axis=1)),
            "distance_bound": rounded(bound),
        }
    return data


def flip_frequency(data: Mapping[str, Any]) -> Figure:
    """Time at +1, flips a step and the running mean: predicted or bounded, against measured.

    Examples:
        >>> from proxquant_np import plotting
        >>> len(plotting.flip_frequency(plotting.flip_frequency_data(d=4, steps=100)).axes)
        3
    """
    figure, axes = new_figure(1, 3, 12, 4)
    time, flip, mean = axes[0]
    for name, marker, colour in (("inside", "o", LAZY), ("on a face", "s", "black")):
        one, label = data[name], f"$x^*$ {name}"
        style = dict(color=colour, linestyle="none", marker=marker, markersize=5, fillstyle="none")
        time.plot(one["predicted_time"], one["measured_time"], label=label, **style)
        flip.plot(one["flip_bound"], one["measured_flips"], **style)
        line = "-" if marker == "o" else "--"
        for kind, width in (("distance", 1.5), ("distance_bound", 0.7)):
            what = f"{label}, bound" if width < 1 else label
            mean.plot(one["t"], one[kind], line, color=colour, linewidth=width, label=what)
    for ax in (time, flip):
        ax.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", linewidth=1, zorder=0)
        ax.set_aspect("equal")
    time.set(xlabel="predicted, $(1 + x^*_i)/2$", ylabel="measured", title="time at $+1$")
    flip.set(xlabel="bound, $1 - |x^*_i|$", ylabel="measured", title="flips a step")
    mean.set(xscale="log", yscale="log", xlabel="$t$", title=r"mean of $s_0, \ldots, s_{t-1}$")
    mean.set_ylabel(r"$\Vert m_t - x^*\Vert$")
    time.legend(frameon=False)
    mean.legend(frameon=False, fontsize="small", loc="lower left")
    return figure


def lazy_cycle_data(
    lr: float = 0.25, lam: float = 2.0, start: float = 0.9, steps: int = 40
) -> dict[str, Any]:
    """Lazy and eager prox-gradient on L(w) = w^2/2 with BinaryL2, from one start; F = L + lam R.

    Of each: the weights and |grad F| at them. Of the lazy one the latents, too, and its cycle.

    Examples:
        >>> from proxquant_np import plotting
        >>> data = plotting.lazy_cycle_data()
        >>> data["cycle"], data["eager"]["weights"][-1]
        ({'latent': 0.0454545, 'weight': 0.363636}, 0.666667)
    """
    loss, r, strength = Quadratic(np.eye(1), np.zeros(1)), BinaryL2(), lr * lam
    run = by_projection(
        loss.gradient, np.array([start]), np.full(steps, lr), lambda z: r.prox(z, strength)
    )
    eager = prox_gradient(loss.gradient, r, np.array([start]), lr, [lam] * steps)
    x = np.linspace(-1.5, 1.5, 121)
    data: dict[str, Any] = {
        "lr": lr,
        "lam": lam,
        "x": rounded(x),
        "objective": rounded(x**2 / 2 + lam / 2 * (np.abs(x) - 1) ** 2),
        "cycle": dict(zip(TwoCycle._fields, rounded(lazy_two_cycle(r, lr, strength)), strict=True)),
    }
    for name, w in (("lazy", run.iterates[:, 0]), ("eager", eager[:, 0])):
        gradient = np.abs(w + lam * (w - sign_pm(w)))
        data[name] = {"weights": rounded(w), "gradient": rounded(gradient)}
    data["lazy"]["latents"] = rounded(run.latents[:, 0])
    return data


def lazy_cycle(data: Mapping[str, Any]) -> Figure:
    """The objective with where each method ends; the weights, and |grad F| at them, over the steps.

    Examples:
        >>> from proxquant_np import plotting
        >>> len(plotting.lazy_cycle(plotting.lazy_cycle_data()).axes)
        3
    """
    figure, axes = new_figure(1, 3, 12, 3.8)
    objective, path, gradient = axes[0]
    lam, w = data["lam"], data["cycle"]["weight"]
    objective.plot(data["x"], data["objective"], color="black", linewidth=1)
    ends = {"lazy": [-w, w], "eager": [data["eager"]["weights"][-1]]}
    styles = {
        "lazy": dict(color=LAZY, linestyle="--", marker="s", label="lazy: for ever between two"),
        "eager": dict(color=EAGER, linestyle="-", marker="o", label="eager: converges"),
    }
    for name, style in styles.items():
        points = np.array(ends[name])
        height = points**2 / 2 + lam / 2 * (np.abs(points) - 1) ** 2
        objective.plot(points, height, **(style | {"linestyle": "none", "markersize": 8}))
        small = style | {"markersize": 3, "linewidth": 0.9}
        path.plot(data[name]["weights"], **small)
        g = np.array(data[name]["gradient"])
        gradient.plot(np.where(g > 0, g, np.nan), **small)  # rounded off from 1e-12 on
    path.plot(data["lazy"]["latents"], ":", color=LAZY, linewidth=1, label="latent of the lazy one")
    slope = (np.array([-w, w])[:, None] + np.array([-0.25, 0.25])).T
    for centre, xs in zip((-w, w), slope.T, strict=True):
        g = centre + lam * (centre - (1 if centre > 0 else -1))
        f = centre**2 / 2 + lam / 2 * (abs(centre) - 1) ** 2
        objective.plot(xs, f + g * (xs - centre), color=LAZY, linewidth=1)
    objective.set(xlabel="$w$", title=r"$F = \frac{1}{2}w^2 + \lambda R(w)$")
    path.set(xlabel="$t$", title="$w_t$")
    gradient.set(xlabel="$t$", yscale="log", title=r"$|F'(w_t)|$", ylim=(1e-6, 5))
    path.axhline(0, color=NEUTRAL, linewidth=0.5)
    objective.legend(frameon=False, loc="upper center", fontsize="small")
    path.legend(frameon=False, loc="upper right", fontsize="small")
    return figure


SMOOTH: dict[str, Regularizer] = {"SmoothW": SmoothW(), "BinaryL2": BinaryL2()}


def convergence_bound_data(
    d: int = 20, lam: float = 1.0, steps: int = 3000, seed: int = 1
) -> dict[str, Any]:
    """Prox-gradient on a random nonconvex loss, with lr = 1/(2 beta) and with six times that.

    For each regularizer and step: min_{k<=t} ||grad F(w_k)||^2 and 6 beta (F(w_0) - F*) / t.

    Examples:
        >>> from proxquant_np import plotting
        >>> sorted(plotting.convergence_bound_data(d=4, steps=100))
        ['lr = 1 / (2 beta)', 'lr = 6 / (2 beta)', 't']
    """
    rng = np.random.default_rng(seed)
    loss, w = random_ridge(rng, d, convex=False), rng.uniform(-2, 2, d)
    t = np.unique(np.geomspace(1, steps, 60).astype(int))
    data: dict[str, Any] = {"t": t.tolist()}
    for factor in (1, 6):  # ten times would be chaos, which no two machines share
        data[f"lr = {factor} / (2 beta)"] = {}
        for name, r in SMOOTH.items():
            run = run_prox_gradient(loss, r, w, lam, steps, beta=loss.beta / factor)
            sides = run.rate()
            data[f"lr = {factor} / (2 beta)"][name] = {
                "measured": rounded(sides.left[t - 1]),
                "bound": rounded(sides.right[t - 1] * factor),  # with the true beta
            }
    return data


def convergence_bound(data: Mapping[str, Any]) -> Figure:
    """The bound of the convergence theorem and the gradient; right, steps that are too large.

    Examples:
        >>> from proxquant_np import plotting
        >>> len(plotting.convergence_bound(plotting.convergence_bound_data(d=4, steps=100)).axes)
        2
    """
    figure, axes = new_figure(1, 2, 10, 4, sharey=True)
    titles = (r"$\eta = 1/(2\beta)$", r"$\eta = 6/(2\beta)$: too large, no theorem")
    for ax, title, runs in zip(axes[0], titles, list(data.values())[1:], strict=True):
        for (name, run), line in zip(runs.items(), ("-", "--"), strict=True):
            ax.plot(data["t"], run["measured"], color=EAGER, linestyle=line, label=name)
            ax.plot(data["t"], run["bound"], color="black", linestyle=line, linewidth=0.8)
        ax.set(xscale="log", yscale="log", xlabel="$t$", title=title, ylim=(1e-8, None))
    ax = axes[0, 0]
    ax.plot([], [], color="black", linewidth=0.8, label=r"bound $6\beta(F(w_0) - F^*)/t$")
    ax.set_ylabel(r"$\min_{k \leq t}\ \Vert\nabla F(w_k)\Vert^2$")
    ax.legend(frameon=False)
    return figure
