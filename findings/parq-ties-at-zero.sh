#!/usr/bin/env bash
# Expected: within one toolbox the binary quantizer and the prox maps that lead to it send a weight
# of exactly 0 to the same level.
# What happens: torchao's PARQ disagrees with itself. LSBQuantizer with one bit sends 0 to the upper
# level; ProxHardQuant and ProxBinaryRelax, given those levels alone (q=None), to the lower one.
# Seen with torchao 0.18.0, torch 2.13.0, 2026-11.
# Exits non-zero if they agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "torchao==0.18.0" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - 2> "$folder/log" <<'PYTHON' || { cat "$folder/log"; exit 1; }
import sys
from importlib.metadata import version
import torch
from torchao.prototype.parq import LSBQuantizer, ProxBinaryRelax, ProxHardQuant

print("torchao", version("torchao"), "torch", torch.__version__)
w = torch.tensor([-1.0, 0.0, -0.0, 1.0])
q, levels = LSBQuantizer().quantize(w, 1)
print("levels", levels.tolist(), "LSBQuantizer:", q.tolist())
found = [q]
for prox in (ProxHardQuant(), ProxBinaryRelax(0, 1)):
    p = w.clone()
    prox.apply_(p, None, levels, 1)
    print(type(prox).__name__, p.tolist())
    found.append(p)
sys.exit([(p[1:3] > 0).tolist() for p in found] != [[True] * 2, [False] * 2, [False] * 2])
PYTHON
