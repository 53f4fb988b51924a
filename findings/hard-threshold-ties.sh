#!/usr/bin/env bash
# Expected: hard thresholding at t is the prox of a count of nonzeros: so with strength s it cuts at
# sqrt(2 s), and where |x| is exactly the threshold the libraries agree on what becomes of it.
# What happens: handed s = 1/2 where the L1 prox takes it, all of these cut at 1/2, not at 1, also
# where the call is named the prox of a multiple of ||x||_0 (pyproximal). And a weight on the
# threshold is kept by ModOpt, PyWavelets and proxmin, but set to 0 by pyproximal and SigPy; the
# sparsity of quantized or rounded data depends on it. Seen with the versions below, 2026-11.
# Exits non-zero if one of them does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "modopt==1.7.2" "pywavelets==1.8.0" "proxmin==0.6.12" \
    "pyproximal==0.13.0" "sigpy==0.1.27" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
import pyproximal
import pywt
from modopt.signal.noise import thresh
from proxmin.operators import prox_hard
from sigpy.thresh import hard_thresh

calls = {
    "modopt": lambda x: thresh(x, 0.5, "hard"),
    "pywavelets": lambda x: pywt.threshold(x, 0.5, "hard"),
    "proxmin": lambda x: prox_hard(x, 0.5, thresh=1),
    "pyproximal": lambda x: pyproximal.L0().prox(x, 0.5),
    "sigpy": lambda x: hard_thresh(0.5, x),
}
kept = []
for name, call in calls.items():
    below, at, above, far = call(np.array([0.4999, 0.5, 0.5001, 0.9]))
    print(f"{name} {version(name)}: 0.4999 -> {below}, 0.5 -> {at}, 0.5001 -> {above}, 0.9 -> {far}")
    assert below == 0 and above == 0.5001 and far == 0.9
    kept.append(at == 0.5)
sys.exit(kept != [True, True, True, False, False])
PYTHON
