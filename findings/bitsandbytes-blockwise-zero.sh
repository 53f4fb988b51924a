#!/usr/bin/env bash
# Expected: bitsandbytes' blockwise 8-bit quantizer keeps zeros: its dynamic code holds 0.0 exactly,
# so a pruned weight, or an optimizer's moment that is 0, comes back as 0.
# What happens: on the processor each 0 comes back as 2.1e-5 of the block's largest weight, with
# plus sign, although the code has a 0 and nearer values of both signs. Seen with bitsandbytes
# 0.50.2, torch 2.13.0, 2026-11.
# Exits non-zero if zeros are kept, or the code holds none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "bitsandbytes==0.50.2" \
    "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - 2> "$folder/log" <<'PYTHON' || { cat "$folder/log"; exit 1; }
import sys
import bitsandbytes
import torch
from bitsandbytes.functional import create_dynamic_map, dequantize_blockwise, quantize_blockwise

code = create_dynamic_map()
print("bitsandbytes", bitsandbytes.__version__, "torch", torch.__version__)
print("nearest to 0 in the code:", sorted(code.tolist(), key=abs)[:5])
w = torch.zeros(64)
w[:3] = torch.tensor([1.0, -0.5, 0.25])
q = dequantize_blockwise(*quantize_blockwise(w, blocksize=64))
print("weights", w[:5].tolist(), "come back as", q[:5].tolist())
moved = bool((q[3:] > 1e-5).all() and (q[3:] < 3e-5).all())
sys.exit(not (bool((code == 0).any()) and moved))
PYTHON
