#!/usr/bin/env bash
# Expected: MXFP4 is one format: blocks of 32, a power of two as scale, elements E2M1 with the values
# 0, 0.5, 1, 1.5, 2, 3, 4, 6 and ties to even, so libraries agree bit for bit.
# What happens: of a block with the largest weight 6, gfloat gives that; gguf sends every tie towards
# 0; custom-float-quant's preset mxfp4_e2m1 keeps the top exponent for infinity, as IEEE formats do,
# and so has no element beyond 3: it takes twice the scale, which loses the values around 0. Seen
# with gfloat 0.5.2, gguf 0.19.0, custom-float-quant 0.3.0, 2026-11.
# Exits non-zero if they agree, or differ otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "gfloat==0.5.2" "gguf==0.19.0" "custom-float-quant==0.3.0" \
    "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
import gguf
import numpy as np
from custom_float_quant import CustomFloat
from custom_float_quant.vectorized import quantize_array_block_scaled
from gfloat import compute_scale_amax, quantize_block
from gfloat.formats import format_info_mxfp4_e2m1
from gguf.quants import dequantize, quantize

kind = gguf.GGMLQuantizationType.MXFP4
preset = CustomFloat.from_preset("mxfp4_e2m1")
calls = {
    "gfloat": lambda w: quantize_block(format_info_mxfp4_e2m1, w, compute_scale_amax),
    "gguf": lambda w: dequantize(quantize(w, kind), kind),
    "custom-float-quant": lambda w: quantize_array_block_scaled(preset, w)[0],
}
w = np.zeros(32, np.float32)
ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
w[0], w[1:8] = 6, ties
print("ties      ", ties)
found = {}
for name, call in calls.items():
    found[name] = np.asarray(call(w), np.float32)
    print(name, version(name), found[name][1:8], "largest", found[name][0])
even = np.array([0, 1, 1, 2, 2, 4, 4])
down = np.array([0, 0.5, 1, 1.5, 2, 3, 4])
right = (found["gfloat"][1:8] == even).all() and (found["gguf"][1:8] == down).all()
sys.exit(not (right and not (found["custom-float-quant"][1:8] == even).all()))
PYTHON
