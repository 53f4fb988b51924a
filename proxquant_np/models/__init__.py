"""The networks of the paper, and how a file names one of them.

Each keeps what it was constructed with in `arguments`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from proxquant_np.files import shown
from proxquant_np.models.cnn import SmallCNN as SmallCNN
from proxquant_np.models.language_model import LSTMLanguageModel as LSTMLanguageModel
from proxquant_np.models.mlp import MLP as MLP
from proxquant_np.models.resnet import ResNet as ResNet
from proxquant_np.nn import Module, init

_MODELS = {model.__name__: model for model in (MLP, SmallCNN, ResNet, LSTMLanguageModel)}


def describe(model: Module) -> dict[str, Any] | None:
    """{"name", "arguments"} of one of these networks, as JSON can hold it; None of any other.

    Examples:
        >>> pq.models.describe(pq.models.MLP((4, 8, 2)))
        {'name': 'MLP', 'arguments': {'sizes': [4, 8, 2], 'batch_norm': True, 'dtype': 'float32'}}
    """
    name = type(model).__name__
    return {"name": name, "arguments": model.arguments} if type(model) in _MODELS.values() else None


def build(description: Mapping[str, Any], largest: float = math.inf) -> Module:
    """The network that `describe` described, with fresh weights.

    Raises:
        ValueError: a name that is none of these, arguments that its constructor refuses, or
            something else altogether; a network of far more than `largest` weights, before most
            of it is built.

    Examples:
        >>> model = pq.models.build({"name": "MLP", "arguments": {"sizes": [4, 8, 2]}})
        >>> model(pq.Tensor(np.ones((5, 4), np.float32))).shape
        (5, 2)
    """
    rng = _Bounded(init.generator().bit_generator)  # the next one that is counted
    # Layers draw their weights, and models once more. What is only a little too large is built, for
    # the error that names the first weight of another shape.
    rng.left = 4 * largest + (1 << 13)
    try:
        model = _MODELS[description["name"]](**description["arguments"], rng=rng)
    except Exception as error:  # whatever a constructor makes of arguments of the wrong type
        raise ValueError(
            f"description must be the name and the arguments of one of {', '.join(_MODELS)}, "
            f"got {description!r:.300}: {shown(error)}"
        ) from error
    rng.left = math.inf
    return model


class _Bounded(np.random.Generator):
    """Draws what any generator of its seed draws, until `left` numbers are drawn.

    All weights are drawn, so a network that a few bytes of a file describe is given up before it
    takes far more time and memory than what else the file holds.
    """

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
        """Generator.uniform."""
        self._count(size)
        return super().uniform(low, high, size)

    def normal(self, *, size: tuple[int, ...]) -> np.ndarray:
        """Generator.normal."""
        self._count(size)
        return super().normal(size=size)

    def _count(self, size: tuple[int, ...]) -> None:
        self.left -= math.prod(size)
        if self.left < 0:
            raise ValueError("it has far more weights than there are values for")
