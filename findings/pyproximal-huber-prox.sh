#!/usr/bin/env bash
# Expected: the prox of tau times Huber's function H_a is x / (1 + tau / a) for |x| <= a + tau and
# x - tau sign(x) beyond: increasing, continuous, the only minimiser of tau H_a(u) + (u - x)^2 / 2.
# What happens: pyproximal's Huber(alpha).prox changes from one to the other at |x| = a, not at
# a + tau, as its page says. In between the result is no minimiser, and it jumps down at a: with
# a = 1, tau = 1/2 a larger weight comes back smaller, 1 -> 0.667 but 1.0001 -> 0.5001. SciCo's
# Seen with pyproximal 0.13.0, 2026-11.
# Exits non-zero if the results are minimisers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pyproximal==0.13.0" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
import pyproximal

print("pyproximal", version("pyproximal"))
alpha, tau = 1.0, 0.5
huber = pyproximal.Huber(alpha)
x = np.array([0.9, 1.0, 1.0001, 1.2, 1.4, 2.0])
u = huber.prox(x, tau)
minimiser = np.where(np.abs(x) <= alpha + tau, x / (1 + tau / alpha), x - tau * np.sign(x))
objective = lambda u: np.array([tau * huber(np.array([v])) + (v - y) ** 2 / 2 for v, y in zip(u, x)])
excess = objective(u) - objective(minimiser)
for row in zip(x, u, minimiser, excess):
    print("x {:.4f}: prox {:.4f}, minimiser {:.4f}, objective above the least {:.4f}".format(*row))
between = (x > alpha) & (x < alpha + tau)
right = (np.abs(excess[~between]) < 1e-12).all()
sys.exit(not (right and (excess[between] > 1e-4).all() and u[2] < u[1]))
PYTHON
