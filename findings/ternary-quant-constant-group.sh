#!/usr/bin/env bash
# Expected: a ternary quantizer with an offset, w = alpha t + mu, is exact for a group of equal
# weights: mu is their value, whatever alpha and t.
# What happens: ternary-quant's GroupwiseAsymmetricTernaryQuantizer gives 0 for such a group. The
# codes are all 0, the least-squares fit that follows has no unique solution, and mu comes out as 0.
# Seen with ternary-quant 0.1.6, torch 2.13.0, 2026-11.
# Exits non-zero if the weights come back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "ternary-quant==0.1.6" \
    "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
import torch
from ternary_quant.quantizer_groupwise import GroupwiseAsymmetricTernaryQuantizer

print("ternary-quant", version("ternary-quant"), "torch", torch.__version__)
w = torch.full((2, 64), 0.7)
w[1, ::2] = 0.3
q = GroupwiseAsymmetricTernaryQuantizer(group_size=32).quantize(w).dequantize()
print("a row of 0.7 comes back as", q[0].unique().tolist())
print("a row of 0.7 and 0.3 comes back as", q[1].unique().tolist())
sys.exit(not (bool((q[0] == 0).all()) and torch.allclose(q[1], w[1], atol=1e-3)))
PYTHON
