#!/usr/bin/env bash
# Expected: quantizing to 4 bits is relative: weights 50,000 times smaller are quantized as well.
# What happens: where the largest and the smallest weight of a group lie within 1e-4, HQQ 4 bits
# gives the whole group one value, a relative error of about 1 instead of 0.1; groups of usual size
# have 16. The step is meant to be kept from 0/0 for equal weights, and so set to 1. Seen with hqq
# 0.2.8.post1, torch 2.13.0, on the processor, 2026-11.
# Exits non-zero if small weights are quantized like larger ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "hqq==0.2.8.post1" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
import torch
from hqq.core.quantize import Quantizer

print("hqq", version("hqq"), "torch", torch.__version__)
w = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
options = dict(nbits=4, group_size=64, axis=1, device="cpu", compute_dtype=torch.float32)
values, errors = [], []
for size in (1.0, 1e-2, 1e-5):
    q = Quantizer.dequantize(*Quantizer.quantize(size * w, **options))
    values.append(q[0].unique().numel())
    errors.append(((q - size * w).norm() / (size * w).norm()).item())
    print(f"weights of size {size}: {values[-1]} values in a group, relative error {errors[-1]:.2f}")
sys.exit(not (values[0] > 8 and values[1] > 8 and values[2] == 1 and errors[2] > 0.9))
PYTHON
