"""What tools for deployment make of a tensor of +-0.7: the table of docs/deployment.md.

    python benchmarks/deployment.py [--write]

Outside of CI. It needs onnx, onnxruntime, onnx_ir (which the latter's quantizer imports), torch and
torchao; --write puts the table into the page. The values are read where they are used: products
with the identity matrix by ONNX Runtime, `dequantize()` of the tensors of torch and torchao.
"""

import argparse
import contextlib
import copy
import io
import logging
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

import proxquant_np as pq

PAGE = Path(__file__).parents[1] / "docs/deployment.md"
START, END = "<!-- written by benchmarks/deployment.py -->\n", "<!-- end -->\n"
OUTPUTS, INPUTS = 32, 64
LOW = np.random.default_rng(0).random((OUTPUTS, INPUTS)) < 0.5
W = np.where(LOW, np.float32(-0.7), np.float32(0.7))
Row = tuple[str, str, np.ndarray]


def onnx_model():
    """y = x W^T, in floats."""
    from onnx import TensorProto, helper, numpy_helper

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n])
        for name, n in (("x", INPUTS), ("y", OUTPUTS))
    ]
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = numpy_helper.from_array(np.ascontiguousarray(W.T), "w")
    graph = helper.make_graph([product], "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(content: bytes, name: str = "x") -> np.ndarray:
    """The weights that the model multiplies by."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.eye(INPUTS, dtype=np.float32)})[0].T


def of_onnxruntime() -> list[Row]:
    """Its quantizers."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    rows = []
    model = onnx_model()
    for bits in (2, 4, 8):
        for symmetric in (True, False):
            # It changes the model that it is given.
            quantizer = MatMulNBitsQuantizer(
                copy.deepcopy(model), bits=bits, block_size=32, is_symmetric=symmetric
            )
            quantizer.process()
            call = f"`MatMulNBitsQuantizer(bits={bits}, is_symmetric={symmetric})`"
            rows.append(("onnxruntime", call, run(quantizer.model.model.SerializeToString())))
    with tempfile.TemporaryDirectory() as folder:
        before, after = (str(Path(folder) / name) for name in ("before.onnx", "after.onnx"))
        onnx.save(model, before)
        for kind in (QuantType.QInt8, QuantType.QUInt8):
            quantize_dynamic(before, after, weight_type=kind)
            arrays = {
                t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(after).graph.initializer
            }
            part = {k.removeprefix("w_"): v.astype(np.float32) for k, v in arrays.items()}
            weights = (part["quantized"] - part["zero_point"]) * part["scale"]
            rows.append(("onnxruntime", f"`quantize_dynamic(weight_type={kind.name})`", weights.T))
    return rows


def of_torch() -> list[Row]:
    """Those of torch itself and of torchao."""
    import torch
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerAxis, quantize_
    from torchao.quantization.quant_primitives import MappingType

    def network():
        linear = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
        linear.weight.data = torch.from_numpy(W.copy())
        return torch.nn.Sequential(linear)

    dynamic = torch.ao.quantization.quantize_dynamic(network(), {torch.nn.Linear})
    weights = dynamic[0].weight().dequantize().numpy()
    rows = [("torch", "`torch.ao.quantization.quantize_dynamic` (qint8)", weights)]
    configs = {"`Int8WeightOnlyConfig()`": Int8WeightOnlyConfig()}
    for kind in ("SYMMETRIC", "SYMMETRIC_NO_CLIPPING_ERR"):
        for bits in (1, 2, 4, 8):
            config = IntxWeightOnlyConfig(
                weight_dtype=getattr(torch, f"int{bits}"),
                granularity=PerAxis(0),
                mapping_type=MappingType[kind],
            )
            configs[f"`IntxWeightOnlyConfig(int{bits}, PerAxis(0), {kind})`"] = config
    for call, config in configs.items():
        model = network()
        quantize_(model, config)
        rows.append(("torchao", call, model[0].weight.dequantize().numpy()))
    return rows


def of_this_package() -> list[Row]:
    """The three forms of `proxquant-np deploy`, run by ONNX Runtime."""
    linear = pq.nn.Linear(INPUTS, OUTPUTS, bias=False)
    linear.weight.data[...] = W
    model, rows = pq.nn.Sequential(linear), []
    with tempfile.TemporaryDirectory() as folder:
        packed, path = Path(folder) / "net.npz", Path(folder) / "net.onnx"
        pq.pack(model, pq.prox.Levels([-0.7, 0.7]), packed)
        for operator in ("Gather", "DequantizeLinear", "MatMulNBits"):
            pq.packing.to_onnx(packed, path, (INPUTS,), operator, model)
            call = f"`deploy --to onnx --operator {operator}`"
            rows.append(("proxquant_np", call, run(path.read_bytes(), "input")))
    return rows


def table() -> str:
    """The table in Markdown."""
    with contextlib.redirect_stderr(io.StringIO()):
        rows = of_onnxruntime() + of_torch() + of_this_package()
    lines = ["| tool | call | -0.7 becomes | 0.7 becomes |", "|---|---|---|---|"]
    for tool, call, weights in rows:
        told = [_values(weights[LOW]), _values(weights[~LOW])]
        released = version(tool.replace("_", "-")).partition("+")[0]
        lines.append(f"| {tool} {released} | {call} | {told[0]} | {told[1]} |")
    return "\n".join(lines) + "\n"


def _values(weights: np.ndarray) -> str:
    exact = np.isin(weights, W).all()
    return ("exactly " if exact else "") + ", ".join(f"{v:.4g}" for v in np.unique(weights))


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found = table()
    print(found)
    if options.write:
        before, rest = PAGE.read_text("utf-8").split(START)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{START}{found}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
