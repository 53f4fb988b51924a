#!/usr/bin/env bash
# Expected: a valid model of a 2-bit constant, DequantizeLinear with a zero point, and Transpose
# (10 x 64 entries) loads, as it does with 4 bits, or with 2 bits and no zero point.
# What happens: with the basic optimizations and above, which is the default, ONNX Runtime cannot
# load it: "Element type mismatch between tensor proto and ortvalue_initializer". Without
# optimizations it runs, correctly. Seen on the processor, onnx 1.23.2, onnxruntime 1.32.0, 2026-11.
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

rng = np.random.default_rng(0)
print("onnxruntime", ort.__version__)


def outcome(bits, zero, level):
    codes = rng.integers(0, 1 << bits, (10, 64))
    shifts = np.arange(0, 8, bits)
    content = (codes.reshape(-1, len(shifts)) << shifts).sum(1).astype(np.uint8).tobytes()
    kind = getattr(TensorProto, f"UINT{bits}")
    constants = [
        TensorProto(name="c", data_type=kind, dims=codes.shape, raw_data=content),
        numpy_helper.from_array(np.float32(0.5), "s"),
        *[TensorProto(name="z", data_type=kind, raw_data=bytes([z])) for z in zero],
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["c", "s", *"z" * len(zero)], ["w"]),
        helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n])
        for name, n in (("x", 64), ("y", 10))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 25)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=13)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return "fails: " + str(error).strip().rpartition(": ")[2]
    return "loads"


levels = ort.GraphOptimizationLevel
found = [
    outcome(bits, zero, level)
    for bits, zero, level in (
        (2, [1], levels.ORT_ENABLE_ALL),
        (2, [1], levels.ORT_DISABLE_ALL),
        (2, [], levels.ORT_ENABLE_ALL),
        (4, [1], levels.ORT_ENABLE_ALL),
    )
]
names = ("2 bits, zero point", "the same, not optimized", "2 bits, none", "4 bits, zero point")
for name, text in zip(names, found, strict=True):
    print(f"{name}: {text}")
sys.exit(not (found[0].startswith("fails: ") and set(found[1:]) == {"loads"}))
PYTHON
