"""The LSTM language model."""

from __future__ import annotations

import numpy as np

from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_counts, check_number
from proxquant_np.models.description import remembered
from proxquant_np.nn import LSTM, Dropout, Embedding, Linear, Module, init

State = tuple[Tensor, Tensor]


class LSTMLanguageModel(Module):
    """Embedding, LSTM, linear: predicts logits of the next token from all tokens so far.

    Dropout acts before and after the LSTM and between its layers, never on the recurrence (Zaremba
    et al. 2014). Embedding and decoder start uniform on [-0.1, 0.1], the decoder's bias at 0. With
    `tie_weights` they share one weight (Press and Wolf 2017), which needs
    embedding_size = hidden_size.

    Examples:
        >>> model = pq.models.LSTMLanguageModel(100, embedding_size=8, hidden_size=16)
        >>> logits, state = model(np.zeros((5, 2), int))
        >>> logits.shape
        (5, 2, 100)
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        tie_weights: bool = False,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        check_counts(vocabulary_size=vocabulary_size, embedding_size=embedding_size)
        check_counts(hidden_size=hidden_size, num_layers=num_layers)
        check_number("dropout", dropout, least=0, most=1)
        if tie_weights and embedding_size != hidden_size:
            raise ValueError(
                "embedding_size must equal hidden_size for tie_weights=True, "
                f"got {embedding_size} and {hidden_size}"
            )
        self.arguments = remembered(locals())
        rng = init.generator(rng)
        self.drop = Dropout(dropout, rng=rng)
        self.embedding = Embedding(vocabulary_size, embedding_size, rng=rng, dtype=dtype)
        self.lstm = LSTM(
            embedding_size, hidden_size, num_layers, dropout=dropout, rng=rng, dtype=dtype
        )
        self.decoder = Linear(hidden_size, vocabulary_size, rng=rng, dtype=dtype)
        for weight in (self.embedding.weight, self.decoder.weight):
            weight.data[...] = init.uniform(weight.shape, 0.1, rng, dtype)
        self.decoder.bias.data[...] = 0
        if tie_weights:
            self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Tokens (T, n) and the state before them to logits (T, n, vocabulary) and the state after.

        For truncated backpropagation through time, detach both parts of the state between chunks.
        """
        x = self.drop(self.embedding(tokens))
        output, state = self.lstm(x, state)
        return self.decoder(self.drop(output)), state
