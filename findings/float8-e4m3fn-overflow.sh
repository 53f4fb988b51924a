#!/usr/bin/env bash
# Expected: casts of float32 to float8_e4m3fn agree; it has no infinity, so what is beyond 448, and
# infinity itself, is NaN everywhere (so the format's paper, arXiv:2209.05433, without saturation).
# What happens: torch 2.13.0 makes 448 of 500, of 1e9 and of infinity, ml_dtypes 0.6.0 makes NaN of
# all three. In float8_e5m2, which has an infinity, both give infinity: so torch saturates in one
# format and not in the other. Seen on the processor, 2026-11.
# Exits non-zero if either does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "numpy==2.4.6" "ml_dtypes==0.6.0"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import ml_dtypes
import numpy as np
import torch

print("torch", torch.__version__, "ml_dtypes", ml_dtypes.__version__)
x = np.array([500.0, 1e9, np.inf], np.float32)
found = {}
for name in ("float8_e4m3fn", "float8_e5m2"):
    found["torch", name] = torch.from_numpy(x).to(getattr(torch, name)).float().numpy()
    found["ml_dtypes", name] = x.astype(getattr(ml_dtypes, name)).astype(np.float32)
for key, values in found.items():
    print(*key, "of 500, 1e9, infinity:", values)
sys.exit(
    not (
        (found["torch", "float8_e4m3fn"] == 448).all()
        and np.isnan(found["ml_dtypes", "float8_e4m3fn"]).all()
        and np.isinf(found["torch", "float8_e5m2"][1:]).all()
        and np.isinf(found["ml_dtypes", "float8_e5m2"][1:]).all()
    )
)
PYTHON
