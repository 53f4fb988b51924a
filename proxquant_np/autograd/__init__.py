"""Reverse-mode automatic differentiation over NumPy arrays.

tensor.py    the tensor, recording, the backward pass
ops.py       elementary operations and the table of subgradients at kinks
windows.py   how images lie in memory, and the windows that slide over them
conv.py      convolution of images
conv_textbook.py  its readable twin, also used for arrays of other libraries
winograd.py  convolution by kernels of three rows, with a third fewer products
pooling.py   pooling of images
norm.py      batch normalization
recurrent.py embedding and the LSTM, fused through time
losses.py    softmax and the losses
summation.py sums whose error hardly grows with the number of terms
gradcheck.py checks gradients against finite differences
threads.py   divides a batch among threads
memory.py    keeps freed memory for reuse
"""

from proxquant_np.autograd.gradcheck import GradcheckError as GradcheckError
from proxquant_np.autograd.gradcheck import gradcheck as gradcheck
from proxquant_np.autograd.memory import keep_memory as keep_memory
from proxquant_np.autograd.summation import pairwise_sum as pairwise_sum
from proxquant_np.autograd.tensor import Tensor as Tensor
from proxquant_np.autograd.tensor import differentiable as differentiable
from proxquant_np.autograd.tensor import mark_changed as mark_changed
from proxquant_np.autograd.tensor import no_grad as no_grad
from proxquant_np.autograd.threads import get_num_threads as get_num_threads
from proxquant_np.autograd.threads import set_num_threads as set_num_threads
