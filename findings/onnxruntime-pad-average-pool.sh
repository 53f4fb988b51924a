#!/usr/bin/env bash
# Expected: ONNX Runtime's graph optimizations change no result. A Pad node's zeros are pixels like
# any other, so an AveragePool behind it counts them, whatever its own count_include_pad says.
# What happens: 1.19.2 fuses the two by default if the AveragePool has pads, be they all 0. Pad's
# zeros become padding, which count_include_pad=0 does not count: other means, without a word. With
# optimizations off, and in 1.23.2, they are right. Seen on the processor, 2026-11.
# Exits non-zero if either version does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/fuse.py" <<'PYTHON'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

x = np.ones((1, 1, 4, 4), np.float32)
constants = [
    numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"),
    numpy_helper.from_array(np.float32(0), "zero"),
]
nodes = [
    helper.make_node("Pad", ["x", "pads", "zero"], ["padded"]),
    helper.make_node(
        "AveragePool",
        ["padded"],
        ["y"],
        kernel_shape=[2, 2],
        strides=[2, 2],
        pads=[0, 0, 0, 0],
        count_include_pad=0,
    ),
]
ends = [
    helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    for name, shape in (("x", x.shape), ("y", None))
]
graph = helper.make_graph(nodes, "pool", ends[:1], ends[1:], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
print("onnxruntime", onnxruntime.__version__)
results = []
for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    print(level, y.ravel())
    results.append(y.ravel().tolist())
right = [0.25, 0.5, 0.25, 0.5, 1.0, 0.5, 0.25, 0.5, 0.25]
sys.exit(results != [right, [1.0] * 9 if sys.argv[1] == "fused" else right])
PYTHON
for pair in 1.19.2:fused 1.23.2:right; do
    version=${pair%:*}
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "onnxruntime==$version" "onnx==1.17.0" "numpy==2.2.6"
    "$folder/$version/bin/python" -W ignore "$folder/fuse.py" "${pair#*:}"
done
