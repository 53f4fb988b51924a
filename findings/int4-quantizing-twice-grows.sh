#!/usr/bin/env bash
# Expected: quantizing a checkpoint that is quantized already changes nothing, or at most clips the
# largest positive weight again.
# What happens: with the scale max|w| / 7.5 and codes -8 to 7 the largest weight lies halfway between
# two codes. A negative one that goes to -8 is 16/15 as large as before, so is the scale of the next
# pass, and all weights move on: twenty passes of 4 bits make a weight of -1 into -1.63, and of 8
# bits, max|w| / 127.5, into -1.03. torchao and compressed-tensors share the convention. Seen with
# torchao 0.18.0, compressed-tensors 0.20.0, torch 2.13.0, 2026-11.
# Exits non-zero if the weights stop growing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --index-url https://download.pytorch.org/whl/cpu \
    --extra-index-url https://pypi.org/simple "torch==2.13.0+cpu" "torchao==0.18.0" \
    "compressed-tensors==0.20.0" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - 2> "$folder/log" <<'PYTHON' || { cat "$folder/log"; exit 1; }
import sys
from importlib.metadata import version
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils.helpers import calculate_qparams
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerAxis, quantize_
from torchao.quantization.quant_primitives import MappingType


def by_torchao(config):
    def quantize(w):
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight = torch.nn.Parameter(w.clone(), requires_grad=False)
        network = torch.nn.Sequential(layer)
        quantize_(network, config)
        return network[0].weight.dequantize()

    return quantize


def by_compressed_tensors(w):
    args = QuantizationArgs(num_bits=4, symmetric=True, strategy="channel")
    ends = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    return fake_quantize(w, *calculate_qparams(*ends, args), args)


int4 = IntxWeightOnlyConfig(torch.int4, PerAxis(0), MappingType.SYMMETRIC)
calls = {
    "torchao int4": by_torchao(int4),
    "compressed-tensors int4": by_compressed_tensors,
    "torchao int8": by_torchao(Int8WeightOnlyConfig()),
}
found = []
for name, quantize in calls.items():
    w = torch.linspace(-1, 0.9, 64).reshape(1, 64)
    passes = [w]
    for _ in range(20):
        passes.append(quantize(passes[-1]))
    least = [p.min().item() for p in passes]
    found.append(least[20])
    text = ", ".join(f"{least[i]:.4f}" for i in (0, 1, 2, 3, 10, 20))
    print(f"{name} {version(name.split()[0])}: smallest after 0, 1, 2, 3, 10, 20 passes: {text}")
four, other, eight = found
sys.exit(not (four < -1.5 and other < -1.5 and -1.1 < eight < -1.02))
PYTHON
