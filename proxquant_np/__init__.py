"""proxquant_np: quantized training from first principles, in NumPy."""

import importlib as _importlib
from types import ModuleType as _ModuleType

from proxquant_np import data as data
from proxquant_np import functional as functional
from proxquant_np import interop as interop
from proxquant_np import models as models
from proxquant_np import nn as nn
from proxquant_np import optim as optim
from proxquant_np import packing as packing
from proxquant_np import prox as prox
from proxquant_np import theory as theory
from proxquant_np import training as training
from proxquant_np.autograd import GradcheckError as GradcheckError
from proxquant_np.autograd import Tensor as Tensor
from proxquant_np.autograd import get_num_threads as get_num_threads
from proxquant_np.autograd import gradcheck as gradcheck
from proxquant_np.autograd import keep_memory as keep_memory
from proxquant_np.autograd import no_grad as no_grad
from proxquant_np.autograd import set_num_threads as set_num_threads
from proxquant_np.nn import quantizable_parameters as quantizable_parameters
from proxquant_np.nn import recalibrate_batch_norm as recalibrate_batch_norm
from proxquant_np.optim import quantize_and_freeze as quantize_and_freeze
from proxquant_np.packing import load_packed as load_packed
from proxquant_np.packing import pack as pack
from proxquant_np.provenance import __version__ as __version__


def __getattr__(name: str) -> _ModuleType:
    if name == "conformance":  # lies above this package, so it is loaded when it is asked for
        return _importlib.import_module("proxquant_np.conformance")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
