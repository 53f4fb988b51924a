"""Modules and layers, with PyTorch's names and shapes.

module.py           Module, Parameter, and which parameters of a network are quantized
init.py             initialisers
layers.py           the layers
batch_norm.py       batch normalization, and its statistics after quantizing
containers.py       lists and sequences of modules
recurrent.py        embedding and LSTM
summary.py          the printed form of a network: a table of its layers
trained_ternary.py  an example: a layer that quantizes its weight, with trained levels
"""

from proxquant_np.nn import init as init
from proxquant_np.nn.batch_norm import BatchNorm1d as BatchNorm1d
from proxquant_np.nn.batch_norm import BatchNorm2d as BatchNorm2d
from proxquant_np.nn.batch_norm import recalibrate_batch_norm as recalibrate_batch_norm
from proxquant_np.nn.containers import ModuleList as ModuleList
from proxquant_np.nn.containers import Sequential as Sequential
from proxquant_np.nn.layers import AvgPool2d as AvgPool2d
from proxquant_np.nn.layers import Conv2d as Conv2d
from proxquant_np.nn.layers import Dropout as Dropout
from proxquant_np.nn.layers import Flatten as Flatten
from proxquant_np.nn.layers import GlobalAvgPool2d as GlobalAvgPool2d
from proxquant_np.nn.layers import Linear as Linear
from proxquant_np.nn.layers import MaxPool2d as MaxPool2d
from proxquant_np.nn.layers import ReLU as ReLU
from proxquant_np.nn.layers import Tanh as Tanh
from proxquant_np.nn.module import Module as Module
from proxquant_np.nn.module import Parameter as Parameter
from proxquant_np.nn.module import quantizable_parameters as quantizable_parameters
from proxquant_np.nn.recurrent import LSTM as LSTM
from proxquant_np.nn.recurrent import Embedding as Embedding
from proxquant_np.nn.recurrent import LSTMCell as LSTMCell
from proxquant_np.nn.trained_ternary import TrainedTernaryLinear as TrainedTernaryLinear
from proxquant_np.nn.trained_ternary import trained_ternary as trained_ternary
