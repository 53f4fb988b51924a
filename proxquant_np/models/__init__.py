"""The networks of the paper, and their description in files.

Each network keeps the arguments of its constructor in `arguments`.
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
    """{"name", "arguments"} of one of these networks, ready for JSON; None for any other.

    Examples:
        >>> pq.models.describe(pq.models.MLP((4, 8, 2)))
        {'name': 'MLP', 'arguments': {'sizes': [4, 8, 2], 'batch_norm': True, 'dtype': 'float32'}}
    """
    name = type(model).__name__
    return {"name": name, "arguments": model.arguments} if type(model) in _MODELS.values() else None


def build(description: Mapping[str, Any], largest: float = math.inf) -> Module:
    """The network that `describe` described, with fresh weights.

    Raises:
        ValueError: the name is unknown, the constructor refuses the arguments, or this is no
            description at all; or the network has far more than `largest` weights, which is noticed
            before most of it is built.

    Examples:
        >>> model = pq.models.build({"name": "MLP", "arguments": {"sizes": [4, 8, 2]}})
        >>> model(pq.Tensor(np.ones((5, 4), np.float32))).shape
        (5, 2)
    """
    rng = _Bounded(init.generator().bit_generator)  # the next counted one
    # Weights are drawn twice, by their layer and by the model. A network that is only a little too
    # large is built, so that a later error can name the first weight of another shape.
    rng.left = 4 * largest + (1 << 13)
    try:
        model = _MODELS[description["name"]](**description["arguments"], rng=rng)
    except Exception as error:  # arguments of a wrong type may raise anything in a constructor
        raise ValueError(
            f"description must be the name and the arguments of one of {', '.join(_MODELS)}, "
            f"got {description!r:.300}: {shown(error)}"
        ) from error
    rng.left = math.inf
    return model


class _Bounded(np.random.Generator):
    """Draws what any generator with its seed draws, but at most `left` numbers.

    All weights are drawn, so a network described by a few bytes of a file is abandoned before it
    takes far more time and memory than the rest of the file.
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
