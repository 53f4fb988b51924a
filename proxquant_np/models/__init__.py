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
    """{"name", "arguments"} of one of these networks, as JSON can hold it; None of any other."""
    name = type(model).__name__
    return {"name": name, "arguments": model.arguments} if type(model) in _MODELS.values() else None


def build(description: Mapping[str, Any]) -> Module:
    """The network that `describe` described, with fresh weights.

    Raises:
        ValueError: a name that is none of these, or arguments that its constructor refuses.
    """
    name, arguments = description["name"], description["arguments"]
    if name not in _MODELS:
        raise ValueError(f"name must be one of {', '.join(_MODELS)}, got {name!r}")
    try:
        return _MODELS[name](**arguments)
    except Exception as error:  # whatever a constructor makes of arguments of the wrong type
        raise ValueError(f"{name} cannot be built from {arguments!r}: {error}") from error
