"""The quantizers and proxes of the survey: for each, how it is called; and the process it runs in.

An entry is a function that imports a library, pinned in `requires`, and returns what the library
does as a function of an array: of a matrix of weights, or of (x, strength) for a prox. Nothing here
needs this project, so the file also runs in an environment that holds the library alone:
`python survey_entries.py NAME` answers the requests of survey.py on its standard streams.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

Map = Callable[..., np.ndarray]


class Entry(NamedTuple):
    """How a quantizer is found, called and judged.

    title: library and call, as they are told. requires: what pip installs, the library first.
    definition: the name and options under which the conformance kit checks it; None if it knows no
    such rule. width: columns of the matrices that it is given. peak: their largest weight, chosen
    so that the levels are short binary numbers where that is possible, for then ties exist.
    penalty: of a prox, the name of its R. note: what a reader should know of the call.
    """

    make: Callable[[], Any]
    title: str
    requires: tuple[str, ...]
    definition: tuple[str, Mapping[str, Any]] | None = None
    width: int = 64
    peak: float = 1.0
    penalty: str | None = None
    note: str = ""

    @property
    def kind(self) -> str:
        """Quantizer or prox."""
        return "quantizer" if self.penalty is None else "prox"


ENTRIES: dict[str, Entry] = {}
TORCH = "torch==2.13.0"


def entry(title: str, *requires: str, **facts: Any) -> Callable[[Any], Any]:
    """Enter the function under its name."""

    def enter(make):
        ENTRIES[make.__name__] = Entry(make, title, requires, **facts)
        return make

    return enter


def on_tensors(fn: Callable[..., Any]) -> Map:
    """A function of one torch tensor, as one of an array."""
    import torch

    def on_arrays(w, *rest):
        with torch.no_grad():
            return fn(torch.from_numpy(w), *rest).detach().numpy()

    return on_arrays


def trained(fn: Callable[..., Any]) -> tuple[Map, Map]:
    """A function of one torch tensor, as one of an array; and the gradient that w receives."""
    import torch

    def backward(w, g):
        tensor = torch.from_numpy(w).requires_grad_()
        fn(tensor).backward(torch.from_numpy(g))
        return torch.zeros_like(tensor).numpy() if tensor.grad is None else tensor.grad.numpy()

    return on_tensors(fn), backward


# What torch and ONNX Runtime bring along


@entry(
    "torch.fake_quantize_per_tensor_affine(w, 1.0, 0, -8, 7)",
    TORCH,
    definition=("rounded", {"levels": [*map(float, range(-8, 8))]}),
    peak=8,
    note="the scale is given",
)
def torch_fake_quantize():
    import torch

    return trained(lambda w: torch.fake_quantize_per_tensor_affine(w, 1.0, 0, -8, 7))


@entry(
    "torch.ao MinMaxObserver, then fake_quantize (quint8)",
    TORCH,
    definition=("affine", {"bits": 8}),
    peak=127.5,
)
def torch_observer():
    import torch
    from torch.ao.quantization import MinMaxObserver

    def quantize(w):
        observer = MinMaxObserver()
        observer(w)
        scale, zero = observer.calculate_qparams()
        return torch.fake_quantize_per_tensor_affine(w, scale.item(), zero.item(), 0, 255)

    return on_tensors(quantize)


def onnxruntime_nbits(bits, symmetric):
    import onnx
    import onnxruntime
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    def weights(w):
        n, k = w.shape
        make, proto = onnx.helper, onnx.TensorProto
        ends = [
            make.make_tensor_value_info(c, proto.FLOAT, ["m", d]) for c, d in (("x", k), ("y", n))
        ]
        kernel = onnx.numpy_helper.from_array(np.ascontiguousarray(w.T), "w")
        node = make.make_node("MatMul", ["x", "w"], ["y"])
        graph = make.make_graph([node], "g", ends[:1], ends[1:], [kernel])
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 21)], ir_version=10)
        quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=32, is_symmetric=symmetric)
        quantizer.process()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        content = quantizer.model.model.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": np.eye(k, dtype=np.float32)})[0].T

    return weights


ONNXRUNTIME = ("onnxruntime==1.32.0", "onnx==1.23.2", "onnx-ir==1.1.0")


@entry(
    "onnxruntime MatMulNBitsQuantizer(bits=4, is_symmetric=True, block_size=32)",
    *ONNXRUNTIME,
    peak=8,
)
def onnxruntime_4bits():
    return onnxruntime_nbits(4, True)


@entry(
    "onnxruntime MatMulNBitsQuantizer(bits=2, is_symmetric=True, block_size=32)",
    *ONNXRUNTIME,
    peak=2,
)
def onnxruntime_2bits():
    return onnxruntime_nbits(2, True)


# GGUF, the file format of llama.cpp: the package's own NumPy quantizers


def gguf_map(kind):
    import gguf
    from gguf.quants import dequantize, quantize

    chosen = gguf.GGMLQuantizationType[kind]
    return lambda w: dequantize(quantize(w, chosen), chosen)


GGUF = "gguf==0.19.0"


@entry("gguf quantize, Q4_0", GGUF, peak=8)
def gguf_q4_0():
    return gguf_map("Q4_0")


@entry(
    "gguf quantize, Q8_0",
    GGUF,
    peak=127,
    definition=("absmax", {"bits": 8, "block": 32, "ties": "away"}),
)
def gguf_q8_0():
    return gguf_map("Q8_0")


@entry(
    "gguf quantize, TQ1_0",
    GGUF,
    width=512,
    definition=("absmax", {"bits": 2, "block": 256, "ties": "away"}),
)
def gguf_tq1_0():
    return gguf_map("TQ1_0")


@entry("gguf quantize, MXFP4", GGUF, peak=8, definition=("mxfp4", {"block": 32, "ties": "zero"}))
def gguf_mxfp4():
    return gguf_map("MXFP4")


# Number formats


@entry(
    "gfloat.quantize_block, OCP MXFP4 with compute_scale_amax",
    "gfloat==0.5.2",
    peak=8,
    definition=("mxfp4", {"block": 32}),
)
def gfloat_mxfp4():
    from gfloat import compute_scale_amax, quantize_block
    from gfloat.formats import format_info_mxfp4_e2m1

    def quantize(w):
        blocks = w.reshape(-1, 32)
        done = [quantize_block(format_info_mxfp4_e2m1, b, compute_scale_amax) for b in blocks]
        return np.array(done).reshape(w.shape)

    return quantize


@entry(
    "gfloat.round_ndarray, OCP E4M3, sat=True",
    "gfloat==0.5.2",
    peak=512,
    note="no scale: as a cast",
)
def gfloat_e4m3():
    from gfloat import round_ndarray
    from gfloat.formats import format_info_ocp_e4m3

    return lambda w: round_ndarray(format_info_ocp_e4m3, w, sat=True)


@entry("ml_dtypes, astype(float4_e2m1fn)", "ml_dtypes==0.6.0", peak=8, note="no scale: a cast")
def ml_dtypes_e2m1():
    import ml_dtypes

    return lambda w: w.astype(ml_dtypes.float4_e2m1fn).astype(w.dtype)


@entry(
    "custom_float_quant quantize_array_block_scaled, preset mxfp4_e2m1",
    "custom-float-quant==0.3.0",
    peak=8,
    definition=("mxfp4", {"block": 32}),
)
def custom_float_mxfp4():
    from custom_float_quant import CustomFloat
    from custom_float_quant.vectorized import quantize_array_block_scaled

    chosen = CustomFloat.from_preset("mxfp4_e2m1")
    return lambda w: quantize_array_block_scaled(chosen, w)[0]


@entry("flexposit posit_quantize(w, 8, es=1)", "flexposit==0.2.1", TORCH, peak=4, note="no scale")
def flexposit_8_1():
    from flexposit.formats import posit_quantize

    return on_tensors(lambda w: posit_quantize(w, 8, 1))


@entry("fpquantize QuantizeFP8() (E5M2)", "fpquantize==0.0.2", TORCH, peak=4, note="no scale")
def fpquantize_e5m2():
    from fpquantize.e5m2 import QuantizeFP8

    return trained(lambda w: QuantizeFP8()(w).to(w.dtype))


@entry(
    "fxpmath Fxp(w, signed=True, n_word=4, n_frac=2), its defaults",
    "fxpmath==0.4.10",
    peak=2.5,
)
def fxpmath_default():
    from fxpmath import Fxp

    return lambda w: Fxp(w, signed=True, n_word=4, n_frac=2).get_val()


@entry("numfi numfi(w, 1, 4, 2), its defaults", "numfi==0.5.0", peak=2.5)
def numfi_default():
    from numfi import numfi

    return lambda w: np.asarray(numfi(w, 1, 4, 2).double)


@entry(
    "qformatpy.qformat(w, 2, 2), its defaults",
    "qformatpy==1.0.2",
    peak=2.5,
)
def qformatpy_default():
    from qformatpy import qformat

    return lambda w: qformat(w.ravel(), 2, 2).reshape(w.shape)


@entry(
    "apytypes.APyFixedArray.from_array(w, int_bits=2, frac_bits=2), its defaults",
    "apytypes==0.5.1",
    peak=2.5,
    definition=(
        "fixed_point",
        {"bits": 4, "fraction": 2, "overflow": "wrap", "ties": "away"},
    ),
)
def apytypes_default():
    from apytypes import APyFixedArray

    return lambda w: APyFixedArray.from_array(w, int_bits=2, frac_bits=2).to_numpy()


@entry(
    "quantizers get_fixed_quantizer_np('RND', 'SAT'), k=1, i=1, f=2",
    "quantizers==1.2.2",
    peak=2.5,
    definition=("fixed_point", {"bits": 4, "fraction": 2, "overflow": "saturate", "ties": "up"}),
)
def quantizers_fixed():
    from quantizers import get_fixed_quantizer_np

    fn = get_fixed_quantizer_np("RND", "SAT")
    return lambda w: fn(w, 1, 1, 2)


@entry("quantizers binary_quantize_np", "quantizers==1.2.2", definition=("binary", {}))
def quantizers_binary():
    from quantizers.binary.binary_ops_np import binary_quantize_np

    return binary_quantize_np


@entry(
    "pychop Chopi(bits=4, symmetric=True)",
    "pychop==0.6.2",
    peak=7.5,
    definition=("absmax", {"bits": 4}),
    note="a new object for each call, since it keeps the scale of its first",
)
def pychop_integers():
    from pychop.np.integer import Chopi_

    def quantize(w):
        chop = Chopi_(bits=4, symmetric=True)
        return chop.dequantize(chop.quantize(w))

    return quantize


# BitNet and other networks of one or two bits


@entry(
    "bitlinear_pytorch weight_quant",
    "bitlinear-pytorch==0.5.0",
    TORCH,
    definition=("absmean", {}),
)
def bitlinear_pytorch():
    from bitlinear_pytorch.bitlinear import weight_quant

    return on_tensors(weight_quant)


def through_module(layer, of_weight):
    """What becomes of the weight of a torch layer: of_weight(layer) once w is put into it."""
    import torch

    def quantize(w):
        made = layer(w.shape[1], w.shape[0])
        made.weight = torch.nn.Parameter(w, requires_grad=w.requires_grad)
        if w.requires_grad:
            made._parameters["weight"] = w
        return of_weight(made)

    return quantize


@entry(
    "bitlinear BitLinear(weight_range=1.58, weight_measure='AbsMean')",
    "bitlinear==2.4.6",
    TORCH,
    definition=("absmean", {}),
    note="scale and round_clamp, as its forward calls them",
)
def bitlinear_absmean():
    from bitlinear.bitlinear import range_from_bits, round_clamp, scale
    from bitlinear.measures import AbsMean

    codes = range_from_bits(1.58)

    def quantize(w):
        s = scale(w, codes, AbsMean(), False, 1e-5)
        return round_clamp(w * s, codes) / s

    return trained(quantize)


@entry(
    "mybitnet BitLinear.quantize_weights (1 bit)",
    "mybitnet==0.6.0",
    "transformers==4.40.2",
    TORCH,
    definition=("centred_binary", {}),
)
def mybitnet_binary():
    from mybitnet.bitnet import BitLinear

    def weights(layer):
        q, beta = layer.quantize_weights()
        return q * beta

    return on_tensors(through_module(BitLinear, weights))


@entry(
    "mybitnet BitLinear158b.quantize_weights",
    "mybitnet==0.6.0",
    "transformers==4.40.2",
    TORCH,
    definition=("absmean", {}),
)
def mybitnet_ternary():
    from mybitnet.bitnet import BitLinear158b

    def weights(layer):
        q, beta = layer.quantize_weights()
        return q * beta

    return on_tensors(through_module(BitLinear158b, weights))


@entry("bitorch Sign", "bitorch==0.4.1", TORCH, peak=2, definition=("binary", {}))
def bitorch_sign():
    from bitorch.quantizations import Sign

    return trained(Sign())


@entry("bitorch ApproxSign", "bitorch==0.4.1", TORCH, peak=2, definition=("binary", {}))
def bitorch_approx_sign():
    from bitorch.quantizations import ApproxSign

    return trained(ApproxSign())


@entry("bitorch WeightDoReFa(bits=2)", "bitorch==0.4.1", TORCH, definition=("dorefa", {"bits": 2}))
def bitorch_dorefa():
    from bitorch.quantizations import WeightDoReFa

    return trained(WeightDoReFa(bits=2))


@entry("plinear posNet(p) - posNet(-p)", "plinear==0.2.0.4", TORCH)
def plinear_ternary():
    from plinear.core import posNet

    return on_tensors(lambda w: posNet(w) - posNet(-w))


@entry("diffq uniform_quantize, 4 bits", "diffq==0.2.4", TORCH, peak=7.5)
def diffq_uniform():
    import torch
    from diffq.uniform import uniform_quantize, uniform_unquantize

    bits = torch.tensor(4.0)
    return on_tensors(lambda w: uniform_unquantize(*uniform_quantize(w, bits), bits))


def on_tensorflow(fn):
    """A function of a TensorFlow tensor, as one of an array; and the gradient that w receives."""
    import tensorflow as tf

    def backward(w, g):
        x = tf.constant(w)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = fn(x)
        return tape.gradient(y, x, output_gradients=tf.constant(g)).numpy()

    return lambda w: fn(tf.constant(w)).numpy(), backward


LARQ = ("larq==0.14.0", "tensorflow-cpu==2.21.0", "tf-keras==2.21.0")


@entry("larq quantizers.SteSign()", *LARQ, peak=2, definition=("binary", {}))
def larq_ste_sign():
    from larq.quantizers import SteSign

    return on_tensorflow(SteSign())


@entry("larq quantizers.SteTern()", *LARQ, note="threshold 0.05")
def larq_ste_tern():
    from larq.quantizers import SteTern

    return on_tensorflow(SteTern())


# Post-training quantizers of torch weights


def bitsandbytes_4bit(kind):
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    return on_tensors(lambda w: dequantize_4bit(*quantize_4bit(w, blocksize=64, quant_type=kind)))


BITSANDBYTES = ("bitsandbytes==0.50.2", TORCH)


@entry(
    "bitsandbytes quantize_4bit(quant_type='nf4', blocksize=64), processor",
    *BITSANDBYTES,
    width=128,
    definition=("nf4", {"block": 64}),
)
def bitsandbytes_nf4():
    return bitsandbytes_4bit("nf4")


@entry(
    "bitsandbytes quantize_4bit(quant_type='fp4', blocksize=64), processor",
    *BITSANDBYTES,
    width=128,
    peak=12,
    definition=("fp4", {"block": 64}),
)
def bitsandbytes_fp4():
    return bitsandbytes_4bit("fp4")


@entry(
    "bitsandbytes quantize_blockwise(blocksize=64), dynamic map, processor",
    *BITSANDBYTES,
    width=128,
)
def bitsandbytes_dynamic():
    from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise

    return on_tensors(lambda w: dequantize_blockwise(*quantize_blockwise(w, blocksize=64)))


@entry(
    "hqq Quantizer.quantize(nbits=4, group_size=64, axis=1)",
    "hqq==0.2.8.post1",
    TORCH,
    width=128,
    peak=7.5,
    note="scale and zero point are fitted to the group",
)
def hqq_4bits():
    import torch
    from hqq.core.quantize import Quantizer

    fixed = dict(nbits=4, group_size=64, axis=1, device="cpu", compute_dtype=torch.float32)
    return on_tensors(lambda w: Quantizer.dequantize(*Quantizer.quantize(w, **fixed)))


@entry(
    "optimum.quanto quantize_weight, qint8, AbsmaxOptimizer",
    "optimum-quanto==0.2.7",
    TORCH,
    peak=127,
    definition=("absmax", {"bits": 8, "axis": 0}),
)
def quanto_int8():
    from optimum.quanto import AbsmaxOptimizer, qint8, quantize_weight

    def quantize(w):
        scale = AbsmaxOptimizer()(w, qint8, axis=0)
        return quantize_weight(w, qint8, 0, scale, optimized=False).dequantize()

    return on_tensors(quantize)


@entry(
    "optimum.quanto quantize_weight, qint2, MaxOptimizer",
    "optimum-quanto==0.2.7",
    TORCH,
    width=128,
    peak=1.5,
)
def quanto_int2():
    from optimum.quanto import MaxOptimizer, qint2, quantize_weight

    def quantize(w):
        scale, shift = MaxOptimizer()(w, qint2, axis=0, group_size=64)
        made = quantize_weight(w, qint2, 0, scale, shift, group_size=64, optimized=False)
        return made.dequantize()

    return on_tensors(quantize)


def brevitas_weight(module, name):
    from importlib import import_module

    from brevitas.nn import QuantLinear

    chosen = getattr(import_module(f"brevitas.quant.{module}"), name)
    layer = lambda i, o: QuantLinear(i, o, bias=False, weight_quant=chosen)  # noqa: E731
    return trained(through_module(layer, lambda made: made.quant_weight().value))


BREVITAS = ("brevitas==0.13.4", TORCH)


@entry(
    "brevitas Int8WeightPerTensorFloat",
    *BREVITAS,
    peak=127,
    definition=("absmax", {"bits": 8}),
)
def brevitas_int8():
    return brevitas_weight("scaled_int", "Int8WeightPerTensorFloat")


@entry("brevitas SignedBinaryWeightPerTensorConst", *BREVITAS, note="levels -0.1 and 0.1")
def brevitas_binary():
    return brevitas_weight("binary", "SignedBinaryWeightPerTensorConst")


@entry("brevitas SignedTernaryWeightPerTensorConst", *BREVITAS, note="levels -0.1, 0 and 0.1")
def brevitas_ternary():
    return brevitas_weight("ternary", "SignedTernaryWeightPerTensorConst")


@entry(
    "mct_quantizers WeightsSymmetricInferableQuantizer(4, [8.0], per_channel=False)",
    "mct-quantizers==1.7.0",
    TORCH,
    peak=8,
    definition=("rounded", {"levels": [*map(float, range(-8, 8))]}),
)
def mct_symmetric():
    from mct_quantizers.pytorch.quantizers import WeightsSymmetricInferableQuantizer

    return on_tensors(WeightsSymmetricInferableQuantizer(4, [8.0], per_channel=False))


@entry(
    "compressed_tensors fake_quantize, 4 bits, symmetric, per channel",
    "compressed-tensors==0.20.0",
    TORCH,
    peak=7.5,
    definition=("absmax", {"bits": 4, "axis": 0, "range": "full", "divisor": 7.5}),
)
def compressed_tensors_int4():
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from compressed_tensors.quantization.utils.helpers import calculate_qparams

    args = QuantizationArgs(num_bits=4, symmetric=True, strategy="channel")

    def quantize(w):
        least, most = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
        return fake_quantize(w, *calculate_qparams(least, most, args), args)

    return on_tensors(quantize)


@entry(
    "ternary (ternary-qat) ternarize_weight(group_size=64)",
    "ternary-qat==0.1.5",
    TORCH,
    width=128,
    definition=("absmax", {"bits": 2, "block": 64}),
)
def ternary_qat():
    from ternary.linear import ternarize_weight

    return trained(lambda w: ternarize_weight(w, 64))


@entry(
    "ternary_quant GroupwiseAsymmetricTernaryQuantizer(group_size=32)",
    "ternary-quant==0.1.6",
    TORCH,
    note="levels are fitted in ten rounds",
)
def ternary_quant():
    from ternary_quant.quantizer_groupwise import GroupwiseAsymmetricTernaryQuantizer as Fitted

    return on_tensors(lambda w: Fitted(group_size=32).quantize(w).dequantize())


@entry(
    "omnibias.binary ternarize(delta=0.5)",
    "omnibias-binary[torch]==0.1.0a2",
    TORCH,
    definition=("rounded", {"levels": [-1.0, 0.0, 1.0]}),
)
def omnibias_ternary():
    from omnibias.binary.torch.ops import ternarize

    return trained(ternarize)


@entry(
    "omnibias.binary binarize", "omnibias-binary[torch]==0.1.0a2", TORCH, definition=("binary", {})
)
def omnibias_binary():
    from omnibias.binary.torch.ops import binarize

    return trained(binarize)


@entry("bnn XNORWeightBinarizer", "bnn==0.1.2", TORCH)
def bnn_xnor():
    from bnn.ops import XNORWeightBinarizer

    return trained(XNORWeightBinarizer())


def torchao_weight(config):
    import torch
    from torchao.quantization import quantize_

    def quantize(w):
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight = torch.nn.Parameter(w, requires_grad=False)
        network = torch.nn.Sequential(layer)
        quantize_(network, config)
        return network[0].weight.dequantize()

    return on_tensors(quantize)


TORCHAO = ("torchao==0.18.0", TORCH)


@entry(
    "torchao Int8WeightOnlyConfig()",
    *TORCHAO,
    peak=127.5,
    definition=("absmax", {"bits": 8, "axis": 0, "range": "full", "divisor": 127.5}),
)
def torchao_int8():
    from torchao.quantization import Int8WeightOnlyConfig

    return torchao_weight(Int8WeightOnlyConfig())


@entry(
    "torchao IntxWeightOnlyConfig(int4, PerAxis(0), SYMMETRIC)",
    *TORCHAO,
    peak=7.5,
    definition=("absmax", {"bits": 4, "axis": 0, "range": "full", "divisor": 7.5}),
)
def torchao_int4():
    import torch
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis
    from torchao.quantization.quant_primitives import MappingType

    return torchao_weight(IntxWeightOnlyConfig(torch.int4, PerAxis(0), MappingType.SYMMETRIC))


@entry("torchao to_nf4(w, 64, 4)", *TORCHAO, width=128, note="the scales are quantized, too")
def torchao_nf4():
    from torchao.quantization.quantize_.workflows.nf4.nf4_tensor import to_nf4

    return on_tensors(lambda w: to_nf4(w, 64, 4).get_original_weight())


@entry(
    "torchao MXTensor.to_mx, float4_e2m1fn_x2, block 32",
    *TORCHAO,
    peak=8,
    definition=("mxfp4", {"block": 32}),
)
def torchao_mxfp4():
    import torch
    from torchao.prototype.mx_formats.mx_tensor import MXTensor

    fixed = torch.float4_e2m1fn_x2, 32
    return on_tensors(lambda w: MXTensor.to_mx(w, *fixed).dequantize(torch.float32))


@entry(
    "torchao parq LSBQuantizer(), 1 bit",
    *TORCHAO,
    definition=("multibit_1", {}),
)
def parq_lsbq_1():
    from torchao.prototype.parq import LSBQuantizer

    return on_tensors(lambda w: LSBQuantizer().quantize(w, 1)[0])


@entry(
    "torchao parq LSBQuantizer(optimal=True), 2 bits",
    *TORCHAO,
    definition=("multibit_2", {}),
)
def parq_lsbq_2():
    from torchao.prototype.parq import LSBQuantizer

    return on_tensors(lambda w: LSBQuantizer(optimal=True).quantize(w, 2)[0])


@entry("torchao parq TernaryUnifQuantizer()", *TORCHAO)
def parq_ternary():
    from torchao.prototype.parq import TernaryUnifQuantizer

    return on_tensors(lambda w: TernaryUnifQuantizer().quantize(w, 0)[0])


@entry("torchao parq UnifQuantizer(), 2 bits", *TORCHAO)
def parq_uniform():
    from torchao.prototype.parq import UnifQuantizer

    return on_tensors(lambda w: UnifQuantizer().quantize(w, 2)[0])


# Prox operators


PYPROXIMAL = "pyproximal==0.13.0"


def pyproximal_prox(name, *given):
    import pyproximal

    return getattr(pyproximal, name)(*given).prox


@entry("pyproximal L1().prox", PYPROXIMAL, penalty="soft_threshold")
def pyproximal_l1():
    return pyproximal_prox("L1")


@entry("pyproximal L0().prox", PYPROXIMAL, penalty="hard_threshold")
def pyproximal_l0():
    return pyproximal_prox("L0")


@entry("pyproximal L2().prox", PYPROXIMAL, penalty="ridge")
def pyproximal_l2():
    return pyproximal_prox("L2")


@entry(
    "pyproximal Huber(alpha=1).prox",
    PYPROXIMAL,
    definition=("huber", {"gamma": 1.0}),
    penalty="huber",
)
def pyproximal_huber():
    return pyproximal_prox("Huber", 1.0)


@entry(
    "proxmin operators.prox_soft(x, step, thresh=1)", "proxmin==0.6.12", penalty="soft_threshold"
)
def proxmin_soft():
    from proxmin.operators import prox_soft

    return lambda x, s: prox_soft(x, s, thresh=1)


@entry(
    "proxmin operators.prox_hard(x, step, thresh=1)", "proxmin==0.6.12", penalty="hard_threshold"
)
def proxmin_hard():
    from proxmin.operators import prox_hard

    return lambda x, s: prox_hard(x, s, thresh=1)


@entry("modopt signal.noise.thresh(x, s, 'soft')", "modopt==1.7.2", penalty="soft_threshold")
def modopt_soft():
    from modopt.signal.noise import thresh

    return lambda x, s: thresh(x, s, "soft")


@entry("modopt signal.noise.thresh(x, s, 'hard')", "modopt==1.7.2", penalty="hard_threshold")
def modopt_hard():
    from modopt.signal.noise import thresh

    return lambda x, s: thresh(x, s, "hard")


@entry("pyunlocbox functions.norm_l1().prox", "pyunlocbox==0.6.1", penalty="soft_threshold")
def pyunlocbox_l1():
    from pyunlocbox.functions import norm_l1

    return norm_l1().prox


@entry("pyunlocbox functions.norm_l2().prox", "pyunlocbox==0.6.1", penalty="ridge")
def pyunlocbox_l2():
    from pyunlocbox.functions import norm_l2

    return norm_l2().prox


@entry("copt penalty.L1Norm(1).prox", "copt==0.9.2", penalty="soft_threshold")
def copt_l1():
    from copt.penalty import L1Norm

    return L1Norm(1.0).prox


@entry(
    "skglm MCPenalty(1, gamma=3).prox_1d",
    "skglm==0.5",
    definition=("mcp", {"gamma": 3.0}),
    penalty="mcp",
)
def skglm_mcp():
    from skglm.penalties import MCPenalty

    one = MCPenalty(1.0, 3.0).prox_1d
    return lambda x, s: np.vectorize(lambda v: one(float(v), s, 0), [x.dtype])(x)


@entry("sigpy thresh.hard_thresh", "sigpy==0.1.27", penalty="hard_threshold")
def sigpy_hard():
    from sigpy.thresh import hard_thresh

    return lambda x, s: hard_thresh(s, x)


@entry("sigpy thresh.soft_thresh", "sigpy==0.1.27", penalty="soft_threshold")
def sigpy_soft():
    from sigpy.thresh import soft_thresh

    return lambda x, s: soft_thresh(s, x)


@entry("pywt.threshold(x, s, 'soft')", "pywavelets==1.8.0", penalty="soft_threshold")
def pywt_soft():
    from pywt import threshold

    return lambda x, s: threshold(x, s, "soft")


@entry("pywt.threshold(x, s, 'hard')", "pywavelets==1.8.0", penalty="hard_threshold")
def pywt_hard():
    from pywt import threshold

    return lambda x, s: threshold(x, s, "hard")


@entry("jaxopt prox.prox_lasso", "jaxopt==0.8.5", penalty="soft_threshold")
def jaxopt_lasso():
    from jaxopt.prox import prox_lasso

    return lambda x, s: np.asarray(prox_lasso(x, s))


@entry("jaxopt prox.prox_ridge", "jaxopt==0.8.5", penalty="ridge")
def jaxopt_ridge():
    from jaxopt.prox import prox_ridge

    return lambda x, s: np.asarray(prox_ridge(x, s))


@entry("scico functional.L0Norm().prox", "scico==0.0.7", penalty="hard_threshold")
def scico_l0():
    from scico.functional import L0Norm

    return lambda x, s: np.asarray(L0Norm().prox(x, s))


@entry(
    "scico functional.HuberNorm(1.0).prox",
    "scico==0.0.7",
    definition=("huber", {"gamma": 1.0}),
    penalty="huber",
)
def scico_huber():
    from scico.functional import HuberNorm

    return lambda x, s: np.asarray(HuberNorm(1.0).prox(x, s))


@entry(
    "torchao parq ProxBinaryRelax(0, 1) to levels -1 and 1",
    *TORCHAO,
    definition=("binary_relax", {}),
    penalty="binary_relax",
    note="its step count is s / (1 + s)",
)
def parq_binary_relax():
    import torch
    from torchao.prototype.parq import ProxBinaryRelax

    def prox(x, s):
        levels = torch.tensor([-1.0, 1.0], dtype=x.dtype)
        p = x.clone()
        ProxBinaryRelax(0, 1).apply_(p, None, levels, s / (1 + s))
        return p

    return on_tensors(prox)


# The process


def read(stream: io.BufferedIOBase) -> np.ndarray:
    """The next array on a stream; ValueError at its end."""
    return npy.read_array(SimpleNamespace(read=stream.read), allow_pickle=False)


def write(stream: io.BufferedIOBase, array: Any) -> None:
    """Put an array on a stream, at once."""
    array = np.array(array, order="C")  # a stream is no file, for which NumPy would seek
    npy.write_array(SimpleNamespace(write=stream.write), array, allow_pickle=False)
    stream.flush()


def serve(name: str, requests: io.BufferedIOBase, answers: io.BufferedIOBase) -> None:
    """Answer: first the versions, then for each request "q" or "g" and its arrays.

    The answer is an error as text, empty if there is none; the first array as it is after the call;
    and the result.
    """
    chosen = ENTRIES[name]
    named = [pin.partition("==")[0].partition("[")[0] for pin in chosen.requires]
    fns = chosen.make()
    fns = fns if isinstance(fns, tuple) else (fns,)
    write(answers, [f"{package} {version(package)}" for package in [*named, "numpy"]])
    write(answers, len(fns) > 1)
    while (which := str(read(requests))) != "end":
        arrays = [read(requests) for _ in range(int(read(requests)))]
        error, out = "", np.zeros(0)
        try:
            out = np.array(fns["qg".index(which)](*(a if a.ndim else a.item() for a in arrays)))
            if out.dtype.kind not in "fiu":
                error, out = f"result of dtype {out.dtype}", np.zeros(0)
        except Exception as wrong:  # another library's, of any kind
            error = type(wrong).__name__
        for part in (error, arrays[0], out):
            write(answers, part)


def _streams() -> Iterator[io.BufferedIOBase]:
    """Standard input and output, kept from what libraries print."""
    yield os.fdopen(os.dup(0), "rb")
    yield os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)


if __name__ == "__main__":
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # larq is older than Keras 3
    serve(sys.argv[1], *_streams())
