#!/usr/bin/env bash
# Expected: batch norm of one tensor gives the same variance, up to rounding, in both of PyTorch's
# memory layouts; about 1e-5 off at mean 1e4 and deviation 0.1 in float32 (contiguous is).
# What happens: channels last takes E[x^2] - E[x]^2 in float32. There the variance, 0.01, is off by
# a factor of hundreds, and so are the outputs. Seen on the processor, torch 2.13.0, 2026-11.
# Exits non-zero if the two layouts agree, or if the contiguous one is off as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import torch

torch.manual_seed(0)
x = 1e4 + 0.1 * torch.randn(128, 8, 32, 32)
exact = x.double().var((0, 2, 3))
print("torch", torch.__version__)
errors = []
for layout in (torch.contiguous_format, torch.channels_last):
    mean, var = torch.zeros(8), torch.zeros(8)
    torch.nn.functional.batch_norm(
        x.to(memory_format=layout), mean, var, training=True, momentum=1.0
    )
    errors.append(float((var / exact - 1).abs().max()))
    print(layout, "running variance off by a factor of 1 +-", errors[-1])
sys.exit(not (errors[0] < 1e-3 and errors[1] > 1))
PYTHON
