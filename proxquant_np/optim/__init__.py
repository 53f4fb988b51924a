"""Base steps, and the two ways to quantize around them.

optimizer.py       what base steps share; sgd.py and adam.py are two of them
quantized.py       what the wrappers around them share
dual_averaging.py  lazy: a latent moves, and the weights are its image
prox_gradient.py   eager: the weights themselves move, then are mapped
trained_ternary.py lazy, with ternary levels that are trained
bop.py             neither: flips the signs of binary weights
askew.py           neither: turns gradients towards narrowing intervals
"""

from proxquant_np.optim.adam import Adam as Adam
from proxquant_np.optim.askew import AskewSGD as AskewSGD
from proxquant_np.optim.bop import Bop as Bop
from proxquant_np.optim.clipping import clip_grad_norm as clip_grad_norm
from proxquant_np.optim.dual_averaging import DualAveraging as DualAveraging
from proxquant_np.optim.optimizer import Optimizer as Optimizer
from proxquant_np.optim.prox_gradient import ProxGradient as ProxGradient
from proxquant_np.optim.quantized import Group as Group
from proxquant_np.optim.quantized import QuantizedOptimizer as QuantizedOptimizer
from proxquant_np.optim.quantized import quantize_and_freeze as quantize_and_freeze
from proxquant_np.optim.sgd import SGD as SGD
from proxquant_np.optim.trained_ternary import TrainedTernary as TrainedTernary
