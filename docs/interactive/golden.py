"""The values of the library that the interactive page compares its own functions with.

    python docs/interactive/golden.py

writes them into the page, in the place of those it holds. Every case names a function of the page,
its arguments, and what the library returns for them.
"""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np

import proxquant_np as pq

PAGE = Path(__file__).with_name("lazy_or_eager.html")
BLOCK = re.compile(r'(?<=<script id="golden" type="application/json">).*?(?=</script>)', re.DOTALL)

# Both sides of every jump and kink, the levels, and points that no binary fraction hits.
POINTS = [-2.0, -1.0, -0.7, -0.5, -5e-324, -0.0, 0.0, 0.1, 0.5, 0.95, 1.0, 1.3, 2.0]
STRENGTHS = [0.0, 0.05, 0.3, 1.0, 2.0]


def cases():
    """A list of {"call", "args", "value"}: plain numbers, lists, and dictionaries of them."""

    def each(call, args, value):
        found.append({"call": call, "args": args, "value": value})

    found = []
    for x in POINTS:
        w = np.array([x])
        each("sign_pm", [x], pq.prox.sign_pm(w).item())
        for name, r in (("binary_l1", pq.prox.BinaryL1()), ("binary_l2", pq.prox.BinaryL2())):
            each(f"{name}_value", [x], r.value(w))
            for s in STRENGTHS:
                each(f"{name}_prox", [x, s], r.prox(w, s).item())
        for f in (pq.theory.f_plus, pq.theory.f_minus):
            each("kink.value", [f.shift, x], f.value(w).item())
            each("kink.gradient", [f.shift, x], f.gradient(w).item())
    for f, (start, lr, rate) in product(
        (pq.theory.f_plus, pq.theory.f_minus),
        [(0.4, 0.1, 0.03), (-0.35, 0.1, 0.03), (0.4, 0.3, 0.2), (1.0, 0.02, 0.005)],
    ):
        each("toys", [f.shift, start, lr, rate, 100], toys(f, start, lr, rate, 100))
    for start, lr, lam in [(0.9, 0.25, 2.0), (0.9, 0.5, 8.0), (-0.3, 0.05, 0.25), (0.9, 0.1, 4.0)]:
        each("square", [start, lr, lam, 40], square(start, lr, lam, 40))
    for lr, s in product([0.05, 0.25, 0.5], [0.0125, 0.5, 4.0]):
        each(
            "lazy_two_cycle", [lr, s], pq.theory.lazy_two_cycle(pq.prox.BinaryL2(), lr, s)._asdict()
        )
    return found


def toys(f, start, lr, rate, steps):
    """BinaryConnect, and ProxQuant with BinaryL1 and lambda_t = rate * t, on f+ or f-."""
    lazy = pq.theory.by_projection(f.gradient, np.array([start]), [lr] * steps, pq.prox.sign_pm)
    lams = [pq.prox.Linear(rate)(t) for t in range(steps)]
    eager = pq.theory.prox_gradient(f.gradient, pq.prox.BinaryL1(), [start], lr, lams)
    return as_lists(lazy, eager)


def square(start, lr, lam, steps):
    """Lazy and eager prox-gradient on theta^2/2 with BinaryL2 at a constant lambda."""
    loss, r, z0 = pq.theory.Quadratic(np.eye(1), np.zeros(1)), pq.prox.BinaryL2(), np.array([start])
    lazy = pq.theory.by_projection(loss.gradient, z0, [lr] * steps, lambda z: r.prox(z, lr * lam))
    return as_lists(lazy, pq.theory.prox_gradient(loss.gradient, r, z0, lr, [lam] * steps))


def as_lists(lazy, eager):
    """A run of each method as the page returns it."""
    runs = {"latents": lazy.latents, "weights": lazy.iterates, "eager": eager}
    return {name: run[:, 0].tolist() for name, run in runs.items()}


def with_golden(page):
    """The text of the page with the present values in it."""
    text = "[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases()) + "\n]"
    return BLOCK.sub(lambda _: text, page)


if __name__ == "__main__":
    PAGE.write_text(with_golden(PAGE.read_text("utf-8")), "utf-8")
