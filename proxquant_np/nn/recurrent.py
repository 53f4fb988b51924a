"""Embedding, and long short-term memory in two forms: readable (LSTMCell) and fused (LSTM).

Names, parameters, order of gates and default initialisation are PyTorch's.
"""

from __future__ import annotations

import numpy as np

import proxquant_np.functional as F
from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_counts, check_number
from proxquant_np.nn import init
from proxquant_np.nn.module import Module, Parameter

State = tuple[Tensor, Tensor]
"""Hidden state and cell."""


class Embedding(Module):
    """Maps integers 0..num_embeddings-1 to rows of weight (num_embeddings, embedding_dim).

    Examples:
        >>> layer = pq.nn.Embedding(10, 4)
        >>> layer(np.array([[1, 2, 3]])).shape
        (1, 3, 4)
    """

    quantizable = ("weight",)

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        check_counts(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        rng = init.generator(rng)
        self.weight = Parameter(rng.normal(size=(num_embeddings, embedding_dim)).astype(dtype))

    def forward(self, input: Tensor) -> Tensor:
        """(...) to (..., embedding_dim)."""
        return F.embedding(input, self.weight)


class LSTMCell(Module):
    """One step of the long short-term memory, written in primitives: the definition of `LSTM`.

    weight_ih (4 hidden_size, input_size), weight_hh (4 hidden_size, hidden_size), bias_ih and
    bias_hh (4 hidden_size,); their four blocks of rows are the gates i, f, g, o.

    Examples:
        >>> cell = pq.nn.LSTMCell(3, 4, dtype=np.float64)
        >>> h, c = cell(pq.Tensor(np.ones((2, 3))))
        >>> h.shape, c.shape
        ((2, 4), (2, 4))
    """

    quantizable = ("weight_ih", "weight_hh")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        check_counts(input_size=input_size, hidden_size=hidden_size)
        self.hidden_size = hidden_size
        weights = _draw(input_size, hidden_size, bias, init.generator(rng), dtype)
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = weights

    def forward(self, input: Tensor, state: State | None = None) -> State:
        """Input (n, input_size) and state (h, c), each (n, hidden_size), to the next state."""
        size = self.hidden_size
        if state is None:
            weight = self.weight_hh.data
            zeros = Tensor(np.zeros((input.shape[0], size), weight.dtype, like=weight))
            state = zeros, zeros
        h, c = state
        # a = W_ih x + b_ih + W_hh h + b_hh
        a = F.linear(input, self.weight_ih, self.bias_ih) + F.linear(
            h, self.weight_hh, self.bias_hh
        )
        # i = sigmoid(a_i): how much to write
        i = F.sigmoid(a[:, :size])
        # f = sigmoid(a_f): how much to keep
        f = F.sigmoid(a[:, size : 2 * size])
        # g = tanh(a_g): what to write
        g = F.tanh(a[:, 2 * size : 3 * size])
        # o = sigmoid(a_o): how much to show
        o = F.sigmoid(a[:, 3 * size :])
        # c' = f c + i g
        c = f * c + i * g
        # h' = o tanh(c')
        h = o * F.tanh(c)
        return h, c


class LSTM(Module):
    """Long short-term memory over whole sequences; see `F.lstm` for definition and shapes.

    Layer k has weight_ih_lk, weight_hh_lk, bias_ih_lk and bias_hh_lk, each as in `LSTMCell`.
    Dropout applies between layers, in training.

    Examples:
        >>> lstm = pq.nn.LSTM(3, 4, num_layers=2, dtype=np.float64)
        >>> y, (h, c) = lstm(pq.Tensor(np.ones((5, 2, 3))))
        >>> y.shape, h.shape
        ((5, 2, 4), (2, 2, 4))
        >>> np.array_equal(y.data[-1], h.data[-1])
        True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        check_counts(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_number("dropout", dropout, least=0, most=1)
        self.rng = init.generator(rng)
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.num_layers = num_layers
        self._names = []
        for layer in range(num_layers):
            size = hidden_size if layer else input_size
            weights = _draw(size, hidden_size, bias, self.rng, dtype)
            for name, value in zip(_NAMES, weights, strict=True):
                if value is not None:
                    setattr(self, f"{name}_l{layer}", value)
                    self._names.append(f"{name}_l{layer}")
        self.quantizable = tuple(name for name in self._names if name.startswith("weight"))

    def forward(self, input: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(T, n, input_size) and state (h, c), each (num_layers, n, hidden_size), to both anew."""
        output, h, c = F.lstm(
            input,
            state,
            [getattr(self, name) for name in self._names],
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.batch_first,
            rng=self.rng,
        )
        return output, (h, c)


_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _draw(
    input_size: int, hidden_size: int, bias: bool, rng: np.random.Generator, dtype: type
) -> list[Parameter | None]:
    """A layer's parameters in the order of _NAMES, uniform on +-1/sqrt(hidden_size)."""
    rows = 4 * hidden_size
    shapes = [(rows, input_size), (rows, hidden_size)] + [(rows,), (rows,)] * bias
    bound = hidden_size**-0.5
    drawn = [Parameter(init.uniform(shape, bound, rng, dtype)) for shape in shapes]
    return drawn + [None] * (4 - len(drawn))
