"""Embedding lookup, and the long short-term memory (LSTM), fused through time.

The readable definition of one step is `nn.LSTMCell`, written in primitives; a test holds the two
equal. Fused means one matrix product for the input projections of all times, one small product per
time step for the recurrence, and backward one product per weight gradient, over all times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxquant_np.autograd.ops import dropout as drop
from proxquant_np.autograd.ops import stack, transpose
from proxquant_np.autograd.summation import pairwise_sum
from proxquant_np.autograd.tensor import Array, Tensor, Traced, as_array, differentiable
from proxquant_np.autograd.threads import blas_on_one_thread
from proxquant_np.libraries import moved, on_host


@differentiable
def embedding(input: Array, weight: Array) -> Traced:
    """weight[input]: integers of any shape to rows of weight (count, size), giving (..., size).

    Rows looked up several times get the sum of their gradients.

    Raises:
        TypeError: the indices are not integers.
        ValueError: the weight is not a matrix, or an index is outside 0..count-1.

    Examples:
        >>> table = pq.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        >>> F.embedding(np.array([1, 1]), table).sum().backward()
        >>> table.grad
        array([[0., 0.],
               [2., 2.]])
    """
    input = as_array(input)
    if input.dtype.kind not in "iu":
        raise TypeError(f"embedding: input must hold integers, got {input.dtype}")
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must have shape (count, size), got {weight.shape}")
    # As an unsigned number -1 is large, too, so a device is waited for only once.
    if input.size and input.astype(np.intp).view(np.uintp).max() >= len(weight):
        raise ValueError(
            f"embedding: input must hold 0..{len(weight) - 1} for weight {weight.shape}, "
            f"got {input.min()}..{input.max()}"
        )
    index = moved(input, weight)  # NumPy's are allowed: they can be checked without waiting

    def to_weight(g: Array) -> Array:
        full = np.zeros(weight.shape, g.dtype, like=g)
        if not on_host(input):  # counting rows would wait for the device
            np.add.at(full, input.reshape(-1), g.reshape(-1, g.shape[-1]))
        elif input.size:
            order = np.argsort(input, axis=None, kind="stable")  # puts equal indices together
            rows = input.reshape(-1)[order]
            starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
            sorted_g = g.reshape(-1, g.shape[-1])[moved(order, g)]
            full[moved(rows[starts], g)] = np.add.reduceat(sorted_g, moved(starts, g))
        return full

    return weight[index], lambda g: (None, lambda: to_weight(g))


# sigmoid(a) = 1/2 tanh(a/2) + 1/2, so one tanh serves all gates: they are y = s tanh(s a) + 1 - s
# with s = 1/2 for i, f, o and s = 1 for g, and dy/da = (1 - y)(y + 2s - 1).
_SCALES = np.array([0.5, 0.5, 1, 0.5]).reshape(4, 1, 1)


@differentiable
def _lstm_layer(
    x: Array,
    h0: Array | None,
    c0: Array | None,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
) -> Traced:
    """One layer: x (T, n, input) to (T + 1, n, hidden), hidden states 1..T followed by cell T.

    An operation has one result, so the two outputs share an array. Slices of it are recorded like
    any other, so both gradients arrive together.
    """
    (length, n, size), hidden = x.shape, w_hh.shape[1]
    given = [a for a in (x, h0, c0, w_ih, w_hh, b_ih, b_hh) if a is not None]
    dtype = np.result_type(*(a.dtype for a in given))
    flat_x = x.reshape(length * n, size)
    gates = np.matmul(flat_x, w_ih.reshape(4, hidden, size).swapaxes(1, 2), dtype=dtype)
    if b_ih is not None:
        gates += (b_ih + b_hh).reshape(4, 1, hidden)
    gates = gates.reshape(4, length, n, hidden)
    states = np.empty((length + 2, n, hidden), dtype, like=x)  # hidden states 0..T, then cell T
    c = np.empty((length + 1, n, hidden), dtype, like=x)
    tanh_c = np.empty((length, n, hidden), dtype, like=x)
    h = states[:-1]
    h[0] = 0 if h0 is None else h0
    c[0] = 0 if c0 is None else c0
    _through_time(gates, h, c, tanh_c, w_hh)
    states[-1] = c[-1]

    def vjp(gy: Array) -> tuple[Array | None, ...]:
        d, dh, dc = _back_through_time(gy, gates, c, tanh_c, w_hh)
        d = d.reshape(4, length * n, hidden)
        dx = np.zeros(x.shape, dtype, like=x)
        for d_gate, w_gate in zip(d, w_ih.reshape(4, hidden, size), strict=True):
            dx += (d_gate @ w_gate).reshape(x.shape)
        to_ih, to_hh = (np.empty(w.shape, dtype, like=x) for w in (w_ih, w_hh))
        flat_h = h[:-1].reshape(length * n, hidden)
        np.matmul(d.swapaxes(1, 2), flat_x, out=to_ih.reshape(4, hidden, size))
        np.matmul(d.swapaxes(1, 2), flat_h, out=to_hh.reshape(4, hidden, hidden))
        if b_ih is None:
            return dx, dh, dc, to_ih, to_hh
        to_bias = pairwise_sum(d, 1).reshape(4 * hidden)
        return dx, dh, dc, to_ih, to_hh, to_bias, to_bias.copy()

    return states[1:], vjp


def _through_time(gates: Array, h: Array, c: Array, tanh_c: Array, w_hh: Array) -> None:
    """The recurrence: fill h and c from 1 on, and tanh_c; in `gates`, (4, T, n, hidden), replace
    W_ih x + b by the gates.
    """
    _, length, n, hidden = gates.shape
    i, f, g, o = gates
    scales = np.asarray(_SCALES, gates.dtype, like=gates)
    # If a product of h with rows of w_hh is larger, BLAS first copies those rows to an order of its
    # own; for the few rows of h that takes as long as the product. Under 30 rows is slow, too.
    part = _divisor(hidden, 1200 // max(n, 1), 30)
    rows = w_hh.reshape(4, hidden // part, part, hidden).swapaxes(2, 3)
    if part == hidden:
        rows = rows.copy()  # as columns: half the time if BLAS must copy them at every step
    product = np.empty((4, n, hidden), gates.dtype, like=gates)
    parts = product.reshape(4, n, hidden // part, part).swapaxes(1, 2)
    with blas_on_one_thread():
        for t in range(length):
            a, c_t, tanh_c_t = gates[:, t], c[t + 1], tanh_c[t]
            np.matmul(h[t], rows, out=parts)
            a += product
            a *= scales
            np.tanh(a, out=a)
            a *= scales
            a += 1 - scales
            np.multiply(f[t], c[t], out=c_t)
            c_t += i[t] * g[t]
            np.tanh(c_t, out=tanh_c_t)
            np.multiply(o[t], tanh_c_t, out=h[t + 1])


def _back_through_time(
    gy: Array, gates: Array, c: Array, tanh_c: Array, w_hh: Array
) -> tuple[Array, Array, Array]:
    """The gradients with respect to the gates before their nonlinearity, to h_0 and to c_0."""
    _, length, n, hidden = gates.shape
    i, f, g, o = gates
    d = np.empty_like(gates)
    di, df, dg, do = d
    slope_shift = 2 * np.asarray(_SCALES, gates.dtype, like=gates) - 1
    dh, dc = np.zeros_like(c[0]), gy[-1].copy()
    part = _divisor(hidden, 640_000 // max(n * hidden, 1), 64)  # as in the forward pass
    rows = w_hh.reshape(4, hidden // part, part, hidden)
    with blas_on_one_thread():
        for t in reversed(range(length)):
            a, d_t, tanh_c_t = gates[:, t], d[:, t], tanh_c[t]
            np.subtract(1, a, out=d_t)
            d_t *= a + slope_shift
            dh += gy[t]
            do[t] *= dh * tanh_c_t
            dc += dh * o[t] * (1 - tanh_c_t * tanh_c_t)
            di[t] *= dc * g[t]
            df[t] *= dc * c[t]
            dg[t] *= dc * i[t]
            dc *= f[t]
            parts = d_t.reshape(4, n, hidden // part, part).swapaxes(1, 2)
            np.add.reduce(parts @ rows, (0, 1), out=dh)
    return d, dh, dc


def _divisor(n: int, most: int, least: int) -> int:
    """The largest divisor of n up to `most`; n itself if that is less than `least`."""
    divisor = next((b for b in range(min(n, most), 0, -1) if n % b == 0), 0)
    return divisor if divisor >= least else n


def lstm(
    input: Tensor,
    hx: tuple[Tensor, Tensor] | None,
    params: Sequence[Tensor],
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    batch_first: bool = False,
    *,
    rng: np.random.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Long short-term memory over a whole sequence: output, final hidden states, final cells.

    The gates i, f, g, o are the four blocks of rows of the weights; at times t = 1..T

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),  g = tanh(the same)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t);

    h_1..h_T of each layer are the input of the next, after dropout in training.

    Args:
        input: (T, n, input_size), or (n, T, input_size) if `batch_first`.
        hx: h_0 and c_0, each (num_layers, n, hidden); None for zeros. For truncated backpropagation
            through time, pass the final states of the chunk before, detached.
        params: a flat list of W_ih (4 hidden, input), W_hh (4 hidden, hidden) and, if
            `has_biases`, b_ih and b_hh (4 hidden,) for each layer.
        rng: draws the dropout masks.

    Source: Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000; order of gates and
    arguments as in `torch.lstm`.

    Raises:
        ValueError: the shapes or the number of params do not fit, or the sequence is empty.

    Examples:
        >>> x = pq.Tensor(np.ones((5, 2, 3)))
        >>> params = [pq.Tensor(np.zeros(shape)) for shape in [(16, 3), (16, 4), (16,), (16,)]]
        >>> y, h, c = F.lstm(x, None, params)
        >>> y.shape, h.shape, c.shape
        ((5, 2, 4), (1, 2, 4), (1, 2, 4))
    """
    x = input if isinstance(input, Tensor) else Tensor(input)
    per_layer = 4 if has_biases else 2
    if num_layers < 1 or len(params) != per_layer * num_layers:
        raise ValueError(
            f"lstm: params must hold {per_layer} tensors for each of num_layers={num_layers} "
            f"(at least 1), got {len(params)}"
        )
    if x.ndim != 3 or x.shape[1 if batch_first else 0] == 0:
        axes = "(batch, time, size)" if batch_first else "(time, batch, size)"
        raise ValueError(f"lstm: input must have shape {axes} with time > 0, got {x.shape}")
    if batch_first:
        x = transpose(x, 0, 1)
    hidden = params[1].shape[-1]
    for layer in range(num_layers):
        size = hidden if layer else x.shape[2]
        wanted = [(4 * hidden, size), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
        own = params[layer * per_layer : (layer + 1) * per_layer]
        if [p.shape for p in own] != wanted[:per_layer]:
            raise ValueError(
                f"lstm: params of layer {layer} must have shapes {wanted[:per_layer]}, "
                f"got {[p.shape for p in own]}"
            )
    wanted = (num_layers, x.shape[1], hidden)
    for name, state in zip(("h_0", "c_0"), (None, None) if hx is None else hx, strict=True):
        if state is not None and state.shape != wanted:
            raise ValueError(f"lstm: {name} must have shape {wanted}, got {state.shape}")

    last_h, last_c = [], []
    for layer in range(num_layers):
        if layer:
            x = drop(x, dropout, train, rng=rng)
        h0, c0 = (None, None) if hx is None else (hx[0][layer], hx[1][layer])
        own = params[layer * per_layer : (layer + 1) * per_layer]
        y = _lstm_layer(x, h0, c0, *own)
        x = y[:-1]
        last_h.append(y[-2])
        last_c.append(y[-1])
    return transpose(x, 0, 1) if batch_first else x, stack(last_h), stack(last_c)
