#!/usr/bin/env bash
# Expected: torch.fake_quantize_per_tensor_affine is a clipped straight-through estimator: the
# gradient passes between the lowest and the highest level, as through a clamp (and as in LSQ).
# What happens: it passes wherever the *rounded* code needs no clipping, so half a step beyond the
# levels. With 4 bits and step 1, levels -8 to 7, it passes for -8.5 <= w < 7.5: ties go to even, so
# one end of it is included and the other is not. Seen with torch 2.13.0, 2026-11.
# Exits non-zero if the gradient passes elsewhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import torch

w = torch.tensor([-8.6, -8.5, -8.1, -8.0, 0.3, 7.0, 7.4, 7.5, 7.6], requires_grad=True)
torch.fake_quantize_per_tensor_affine(w, 1.0, 0, -8, 7).sum().backward()
clamped = w.detach().clone().requires_grad_()
clamped.clamp(-8, 7).sum().backward()
print("torch", torch.__version__)
print("weight         ", [round(x, 1) for x in w.tolist()])
print("fake quantize  ", w.grad.tolist())
print("a clamp's      ", clamped.grad.tolist())
sys.exit(w.grad.tolist() != [0, 1, 1, 1, 1, 1, 1, 0, 0])
PYTHON
