"""One flat namespace over autograd: `import proxquant_np.functional as F`.

Where PyTorch has the operation, the name, the argument order and the layout are PyTorch's. Each
operation's value and VJPs stand together in the module it is imported from.

What PyTorch's operations accept and these refuse, and why:

| operation              | refused                        | reason                                 |
|------------------------|--------------------------------|----------------------------------------|
| softmax, log_softmax   | dtype                          | give the input the dtype               |
| cross_entropy, mse_loss| size_average, reduce           | deprecated in favour of reduction      |
| div                    | rounding_mode                  | its gradient is 0                      |
| max, min               | two tensors; indices           | maximum, minimum; ties share gradients |
| max_pool2d             | return_indices                 | nothing here unpools                   |
| pad                    | mode other than "constant"     | no network here needs one              |
| var                    | unbiased                       | deprecated in favour of correction     |
| mean, var              | nothing to average             | NaN would pass unnoticed               |
| where                  | a condition alone              | np.nonzero has no gradient             |
| concatenate            | empty vectors among matrices   | deprecated in PyTorch                  |
| embedding              | padding_idx, max_norm, sparse, | no row is special, and none changes    |
|                        | scale_grad_by_freq             | when it is looked up                   |
| dropout                | training without `rng`         | randomness is given, never global      |
| batch_norm             | momentum outside [0, 1],       | not an average                         |
|                        | input without a channel axis   | nothing to normalize                   |
| lstm                   | packed sequences, directions   | no network here needs them             |
| any                    | out, inplace                   | tensors do not change in the graph     |

Beyond PyTorch, `batch_norm` takes `residual` and `relu`, `lstm` and `dropout` take `rng`, `dim` and
`keepdim` may be spelled `axis` and `keepdims` as in NumPy, and `max` and `min` over a `dim` return
values only, which share the gradient where they tie (PyTorch's amax and amin).
"""

from proxquant_np.autograd.conv import conv2d
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
from proxquant_np.autograd.pooling import avg_pool2d, max_pool2d
from proxquant_np.autograd.recurrent import embedding, lstm

__all__ = [name for name in dir() if not name.startswith("_")]
