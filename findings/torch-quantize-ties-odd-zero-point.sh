#!/usr/bin/env bash
# Expected: torch.quantize_per_tensor gives the values that torch.fake_quantize_per_tensor_affine
# trained for, ties included: round(x / scale) + zero_point, half to even, as in ONNX.
# What happens: with an odd zero point they differ at every tie. The first rounds x / scale +
# zero_point, so 0.5 goes to 1 and -0.5 to -1 where the second (and ONNX Runtime) gives 0 for both;
# with an even zero point they agree. Seen on the processor, torch 2.13.0, 2026-11.
# Exits non-zero if they agree for odd zero points, or differ for even ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import torch

x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])
print("torch", torch.__version__)
differ = []
for zero_point in (2, 3, 4, 5):
    real = torch.quantize_per_tensor(x, 1.0, zero_point, torch.quint8).dequantize()
    fake = torch.fake_quantize_per_tensor_affine(x, 1.0, zero_point, 0, 255)
    print(f"zero point {zero_point}: quantize {real.tolist()}, fake_quantize {fake.tolist()}")
    differ.append(not torch.equal(real, fake))
sys.exit(differ != [False, True, False, True])
PYTHON
