"""Experiments: the networks and the data that the main comparison can be run on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxquant_np import models, nn, prox
from proxquant_np.data import Splits, Text, load_digits, load_text


@dataclass(frozen=True)
class Setting:
    """How long each phase lasts, in steps; the rest are arguments of `fit`."""

    full_precision_steps: int = 2000
    quantizing_steps: int = 6000
    fine_tuning_steps: int = 500
    batch_size: int = 32


@dataclass(frozen=True)
class TextSetting(Setting):
    """As above, for a language model: chunks of `length`, gradients clipped to `max_norm`."""

    full_precision_steps: int = 450
    quantizing_steps: int = 450
    fine_tuning_steps: int = 50
    length: int = 32
    max_norm: float = 5.0


_BINARY = prox.BinaryL1()


@dataclass(frozen=True)
class Task:
    """A network and its data.

    `title` heads the table; `load` gives the data, `build` an untrained network of a seed; `chosen`
    names the file with the hyperparameters. The weights go to `levels`, by the regularizer. The
    networks are compared by `measure`, their test error or their test perplexity. `source` gives
    what must be recorded with every result of data that are not part of this package.
    """

    title: str
    load: Callable[[], Splits]
    build: Callable[[int], nn.Module]
    chosen: str
    setting: Setting
    quick: Setting
    regularizer: prox.Regularizer = _BINARY
    levels: str = "+-1"
    measure: str = "error"
    source: Callable[[], dict[str, Any]] = dict

    @property
    def choice(self) -> Path:
        """The file with the hyperparameters that `search` chose."""
        return Path(__file__).with_name(self.chosen)


@functools.cache
def _text() -> Text:
    return load_text()


_images = functools.partial(load_digits, flat=False)

TASKS = {
    "mlp": Task(
        "Binary weights on the UCI digits, MLP 64-64-64-10",
        load_digits,
        lambda seed: models.MLP(rng=seed),
        "binary_digits.json",
        Setting(),
        Setting(full_precision_steps=400, quantizing_steps=800, fine_tuning_steps=100),
    ),
    "cnn": Task(
        "Binary weights on the UCI digits, SmallCNN of width 16",
        _images,
        lambda seed: models.SmallCNN(rng=seed),
        "binary_cnn.json",
        Setting(full_precision_steps=500, quantizing_steps=1000, fine_tuning_steps=100),
        Setting(full_precision_steps=100, quantizing_steps=200, fine_tuning_steps=33),
    ),
    "resnet": Task(
        "Binary weights on the UCI digits, ResNet-20 of width 8",
        _images,
        lambda seed: models.ResNet(20, width=8, in_channels=1, rng=seed),
        "binary_resnet.json",
        Setting(full_precision_steps=150, quantizing_steps=300, fine_tuning_steps=33),
        Setting(full_precision_steps=66, quantizing_steps=99, fine_tuning_steps=33),
    ),
    # Weights of -1 and +1 saturate an LSTM's gates. Here each matrix has a scale of its own: its
    # weights go to -a and +a, a fitted as the mean of |w|.
    "lstm": Task(
        "One-bit weights (a scale a matrix) on Python's language reference, LSTM of 64 units",
        lambda: _text().splits,
        lambda seed: models.LSTMLanguageModel(len(_text().vocabulary), 64, 64, rng=seed),
        "binary_lstm.json",
        TextSetting(),
        TextSetting(full_precision_steps=300, quantizing_steps=300, fine_tuning_steps=30),
        prox.MultiBitL2(1),
        "+-a",
        "perplexity",
        lambda: {"text": _text().source},
    ),
}
"""By the name that the command line knows them by."""
