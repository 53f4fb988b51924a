#!/usr/bin/env bash
# Expected: a quantized layer reads its full-precision weights: looking at what they are quantized
# to, or a forward pass in evaluation, leaves them as they are.
# What happens: with brevitas' SignedBinaryWeightPerTensorConst, quant_weight() and every forward
# pass, in evaluation and under no_grad too, clip the stored weights themselves to +-scale (0.1).
# The ternary quantizer of the same family leaves them alone. And the gradient that arrives is 0.1
# times that of the quantized weights. Seen with brevitas 0.13.4, torch 2.13.0, 2026-11.
# Exits non-zero if the binary quantizer keeps the weights, or the ternary one clips them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "brevitas==0.13.4" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import brevitas
import torch
from brevitas.nn import QuantLinear
from brevitas.quant.binary import SignedBinaryWeightPerTensorConst
from brevitas.quant.ternary import SignedTernaryWeightPerTensorConst

print("brevitas", brevitas.__version__, "torch", torch.__version__)
w = torch.tensor([[0.05, -0.2, 0.3, -1.0]])
kept = []
for kind in (SignedBinaryWeightPerTensorConst, SignedTernaryWeightPerTensorConst):
    layer = QuantLinear(4, 1, bias=False, weight_quant=kind).eval()
    layer.weight = torch.nn.Parameter(w.clone())
    with torch.no_grad():
        quantized = layer.quant_weight().value
    print(kind.__name__, "quantized", quantized.tolist(), "stored", layer.weight.tolist())
    kept.append(torch.equal(layer.weight.detach(), w))
layer = QuantLinear(4, 1, bias=False, weight_quant=SignedBinaryWeightPerTensorConst)
layer(torch.ones(1, 4)).sum().backward()
print("gradient of the sum of the quantized weights:", layer.weight.grad.tolist())
sys.exit(kept != [False, True] or not torch.allclose(layer.weight.grad, torch.tensor(0.1)))
PYTHON
