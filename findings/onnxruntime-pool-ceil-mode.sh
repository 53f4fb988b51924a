#!/usr/bin/env bash
# Expected: pooling with ceil_mode=1 gives the same in every ONNX Runtime that has the operator, and
# as PyTorch does, no window that lies beyond the input: 3 pixels, kernel 2, stride 3 make 1 output.
# What happens: 1.19.2 makes 2 of each axis. The windows beyond see nothing: MaxPool gives the lowest
# float there, AveragePool NaN; the log warns of the shape of one. 1.23.2 makes 1. Seen on the
# processor, 2026-11.
# Exits non-zero if either version does otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/pool.py" <<'PYTHON'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

x = np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
print("onnxruntime", onnxruntime.__version__)
found = []
for op in ("MaxPool", "AveragePool"):
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", x.shape), ("y", None))
    ]
    graph = helper.make_graph([node], "pool", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    print(op, y.shape, y.ravel())
    found.append(y)
small = [y.shape == (1, 1, 1, 1) for y in found]
lowest = np.finfo(np.float32).min
large = [y.shape == (1, 1, 2, 2) for y in found]
maxima, means = (y.ravel()[1:] for y in found)
empty = all(large) and (maxima == lowest).all() and np.isnan(means).all()
sys.exit(not (empty if sys.argv[1] == "beyond" else all(small)))
PYTHON
for pair in 1.19.2:beyond 1.23.2:inside; do
    version=${pair%:*}
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "onnxruntime==$version" "onnx==1.17.0" "numpy==2.2.6"
    "$folder/$version/bin/python" -W ignore "$folder/pool.py" "${pair#*:}"
done
