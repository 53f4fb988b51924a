#!/usr/bin/env bash
# Expected: a weight in 4 bits with DequantizeLinear and MatMul is weight-only quantization: the
# activations stay float32, and outputs are those of the dequantized weights to rounding, 1e-7.
# What happens: with all optimizations, which is the default, ONNX Runtime replaces the two nodes by
# a MatMulNBits of accuracy level 4, which rounds the activations to 8 bits: outputs move by 0.3 to
# 1 % of the largest, also if a Gemm takes the MatMul's place. With the session's option
# session.qdq_matmulnbits_accuracy_level = 1 they do not. Seen on the processor, onnx 1.23.2,
# onnxruntime 1.32.0, 2026-11.
# Exits non-zero if that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

K, N = 64, 16
rng = np.random.default_rng(0)
codes = rng.integers(-8, 8, (K, N))
x = rng.normal(size=(4, K)).astype(np.float32)
wanted = x @ (codes * np.float32(0.5))
print("onnxruntime", ort.__version__)


def error(product, **config):
    content = ((codes.reshape(-1, 2) & 15) << [0, 4]).sum(1).astype(np.uint8).tobytes()
    constants = [
        TensorProto(name="c", data_type=TensorProto.INT4, dims=codes.shape, raw_data=content),
        numpy_helper.from_array(np.float32(0.5), "s"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["c", "s"], ["w"]),
        helper.make_node(product, ["x", "w"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n])
        for name, n in (("x", K), ("y", N))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    for key, value in config.items():
        options.add_session_config_entry(f"session.{key}", value)
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.abs(session.run(None, {"x": x})[0] - wanted).max() / np.abs(wanted).max()


found = {
    "MatMul": error("MatMul"),
    "Gemm": error("Gemm"),
    "MatMul, accuracy level 1": error("MatMul", qdq_matmulnbits_accuracy_level="1"),
}
for name, e in found.items():
    print(f"{name}: outputs differ by {e:.1e} of the largest")
product, gemm, asked = found.values()
sys.exit(not (min(product, gemm) > 1e-3 and asked < 1e-5))
PYTHON
