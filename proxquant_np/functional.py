"""One flat namespace over autograd: `import proxquant_np.functional as F`.

Where PyTorch has the operation, the name, the argument order and the layout are PyTorch's. Each
operation's forward value and VJPs stand together in the module it is imported from.
"""

from proxquant_np.autograd.conv import avg_pool2d, conv2d, max_pool2d
from proxquant_np.autograd.losses import cross_entropy, log_softmax, logsumexp, mse_loss, softmax
from proxquant_np.autograd.norm import batch_norm
from proxquant_np.autograd.ops import (
    abs,
    add,
    clip,
    concatenate,
    div,
    dropout,
    exp,
    getitem,
    linear,
    log,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    mul,
    neg,
    pad,
    permute,
    pow,
    relu,
    reshape,
    sigmoid,
    softplus,
    sqrt,
    stack,
    straight_through,
    sub,
    sum,
    tanh,
    transpose,
    var,
    where,
)
from proxquant_np.autograd.recurrent import embedding, lstm

__all__ = [name for name in dir() if not name.startswith("_")]
