"""Layer 3, build: the networks of the paper, and how a file names one of them.

Each keeps what it was constructed with in `arguments`.
"""

from collections.abc import Mapping
from typing import Any

from proxquant_np.models.cnn import SmallCNN as SmallCNN
from proxquant_np.models.language_model import LSTMLanguageModel as LSTMLanguageModel
from proxquant_np.models.mlp import MLP as MLP
from proxquant_np.models.resnet import ResNet as ResNet
from proxquant_np.nn import Module

_MODELS = {model.__name__: model for model in (MLP, SmallCNN, ResNet, LSTMLanguageModel)}


def describe(model: Module) -> dict[str, Any] | None:
    """{"name", "arguments"} of one of these networks, as JSON can hold it; None of any other.

    Examples:
        >>> pq.models.describe(pq.models.MLP((4, 8, 2)))
        {'name': 'MLP', 'arguments': {'sizes': [4, 8, 2], 'batch_norm': True, 'dtype': 'float32'}}
    """
    name = type(model).__name__
    return {"name": name, "arguments": model.arguments} if type(model) in _MODELS.values() else None


def build(description: Mapping[str, Any]) -> Module:
    """The network that `describe` described, with fresh weights.

    Raises:
        ValueError: a name that is none of these, arguments that its constructor refuses, or
            something else altogether.

    Examples:
        >>> model = pq.models.build({"name": "MLP", "arguments": {"sizes": [4, 8, 2]}})
        >>> model(pq.Tensor(np.ones((5, 4), np.float32))).shape
        (5, 2)
    """
    try:
        return _MODELS[description["name"]](**description["arguments"])
    except Exception as error:  # whatever a constructor makes of arguments of the wrong type
        raise ValueError(
            f"description must be the name and the arguments of one of {', '.join(_MODELS)}, "
            f"got {description!r}: {error}"
        ) from error
