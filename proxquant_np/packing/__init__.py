"""From a trained network to k bits per weight, and networks that run from them.

codes.py    quantized arrays as codes of a few bits
product.py  matrix products and layers whose weights stay packed
file.py     the packed file: writing, reading, rebuilding the network
contents.py what a packed file holds, as a table
forms.py    how an ONNX graph computes a weight from its codes
onnx.py     packed networks as ONNX graphs that stay packed, checked with ONNX Runtime
"""

from proxquant_np.packing.codes import Codes as Codes
from proxquant_np.packing.contents import Layer as Layer
from proxquant_np.packing.contents import inspect as inspect
from proxquant_np.packing.contents import table as table
from proxquant_np.packing.file import PackedError as PackedError
from proxquant_np.packing.file import load_packed as load_packed
from proxquant_np.packing.file import pack as pack
from proxquant_np.packing.file import pack_checkpoint as pack_checkpoint
from proxquant_np.packing.onnx import Checked as Checked
from proxquant_np.packing.onnx import check_onnx as check_onnx
from proxquant_np.packing.onnx import to_onnx as to_onnx
from proxquant_np.packing.product import PackedConv2d as PackedConv2d
from proxquant_np.packing.product import PackedLinear as PackedLinear
from proxquant_np.packing.product import PackedMatrix as PackedMatrix
from proxquant_np.packing.product import pack_signs as pack_signs
from proxquant_np.packing.product import sign_product as sign_product
from proxquant_np.prox import parse as parse_regularizer  # noqa: F401 (its former name)
