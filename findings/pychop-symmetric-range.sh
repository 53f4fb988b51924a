#!/usr/bin/env bash
# Expected: a symmetric integer quantizer takes its scale from max|w|, so that weights of one sign,
# or all equal, come back to within half a step.
# What happens: pychop's Chopi(bits=8, symmetric=True) divides max - min by 255 and clips to -128
# and 127. Weights in [0, 1] are clipped at 0.498, and a tensor of 0.7 comes back as 5e-6, for its
# range is 0. Seen with pychop 0.6.2, 2026-11.
# Exits non-zero if either tensor comes back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pychop==0.6.2" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
import numpy as np
from pychop import Chopi

print("pychop", version("pychop"))
found = []
for w in (np.array([-1.0, 0.25, 0.5, 1.0]), np.array([0.0, 0.25, 0.5, 1.0]), np.full(4, 0.7)):
    chop = Chopi(bits=8, symmetric=True)
    found.append(chop.dequantize(chop.quantize(w)))
    print(w, "comes back as", found[-1])
both, positive, constant = found
sys.exit(not (abs(both[-1] - 1) < 0.01 and positive[-1] < 0.5 and constant.max() < 1e-4))
PYTHON
