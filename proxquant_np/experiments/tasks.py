"""Tasks: a network, its data and how long it is trained; and those of the main comparison."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from proxquant_np import models, nn, prox
from proxquant_np.data import Splits, Text, load_digits, load_text
from proxquant_np.experiments.bases import CONSTANT, Base
from proxquant_np.experiments.statistics import Equality
from proxquant_np.files import read_json, read_whole, shown

FIXED, BY_SEED = "fixed", "by seed"


@dataclass(frozen=True)
class Setting:
    """How many steps each phase lasts; the other fields are arguments of `fit`."""

    full_precision_steps: int = 2000
    quantizing_steps: int = 6000
    fine_tuning_steps: int = 500
    batch_size: int = 32


@dataclass(frozen=True)
class DigitsSetting(Setting):
    """For the digits, which are few: "by seed", each seed draws its own split of the same images.

    Both methods of a pair see the same one. So the seeds scatter over what would be left to the
    choice of 360 test images, and their interval is one of the mean over all such splits: it speaks
    of these 1,797 images, and of new ones only after a correction for parts that overlap
    (`statistics.compare`). A test image of one seed is a training image of others, so it cannot be
    kept from a search: the seeds of a search have splits of their own, and their validation images
    are also test images of a measurement. No choice is made by an error on a test part.

    Before, all seeds had the stored split: "fixed", or no word of it in a record.
    """

    split: str = BY_SEED


def split_of(setting: Mapping[str, Any]) -> str:
    """FIXED or BY_SEED, from the setting in a record."""
    return setting.get("split", FIXED)


def same_steps(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two settings are the same but for the split, which was once fixed."""
    return {**one, "split": None} == {**other, "split": None}


@functools.cache
def _digest_of(load: Callable[..., Splits], data: str) -> str:
    digest = hashlib.sha256()
    for array in (array for part in load(data) for array in part):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two of `Task.about`, results, records or searches are of the same data.

    By their digests, as far as both have them: names are not compared.
    """
    kinds = [kind for kind in ("text", "images") if kind in one and kind in other]
    if any(one[kind].get("sha256") != other[kind].get("sha256") for kind in kinds):
        return False
    return one.get("data") == other.get("data") or "data" not in one or "data" not in other


@dataclass(frozen=True)
class TextSetting(Setting):
    """For a language model, in chunks of `length`, with gradients clipped to `max_norm`."""

    full_precision_steps: int = 450
    quantizing_steps: int = 450
    fine_tuning_steps: int = 50
    length: int = 32
    max_norm: float = 5.0


@dataclass(frozen=True)
class ImageSetting(Setting):
    """For images: how many of each split are used, None for all."""

    train_images: int | None = None
    validation_images: int | None = None
    test_images: int | None = None


_BINARY = prox.BinaryL1()


@dataclass(frozen=True)
class Task:
    """A network, its data and how long it is trained.

    Args:
        title: the heading of the table.
        load: gives the data, from a folder or file if the experiment takes one; it takes `split`, a
            seed, where the setting has a split by seed.
        build: makes an untrained network from a seed and the data.
        chosen: files with reports of searches, of which the first that exists counts. A search of
            this task writes the first; the others are of other tasks.
        setting: how long it is trained; `quick` with --quick.
        levels: those to which the regularizer takes the weights, in words.
        measure: what networks are compared by on the test split, "error" or "perplexity".
        source: gives what has to be recorded about data that are not part of this package.
        prepare: what `fit` does to each training batch; `plain` does it without randomness.
        warm_start: what trains the network in full precision; its rate is searched unless it has
            one.
    """

    title: str
    load: Callable[..., Splits]
    build: Callable[[int, Splits], nn.Module]
    chosen: tuple[str, ...]
    setting: Setting
    quick: Setting
    regularizer: prox.Regularizer = _BINARY
    levels: str = "+-1"
    measure: str = "error"
    source: Callable[..., dict[str, Any]] = dict
    prepare: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    plain: Callable[[np.ndarray], np.ndarray] = np.asarray
    warm_start: Base = CONSTANT

    @property
    def choice(self) -> Path:
        """The file to which a search of this task writes its report."""
        return Path(__file__).parent / self.chosen[0]

    def about(self, data: str | None = None) -> dict[str, Any]:
        """What tells the data apart: their source and, if they are given, "data", the SHA-256 of
        all arrays that `load` makes of them, wherever they are.
        """
        if data is None:
            return self.source()
        return {**self.source(data), "data": _digest_of(self.load, data)}

    def of_stream(self, stream: int) -> Task:
        """The same task, for which a search of this stream alone counts."""
        own = self.choice
        return replace(self, chosen=(str(own.with_stem(f"{own.stem}-stream{stream}")),))

    def searched_in(self, folder: Path) -> Task:
        """The same task, for which a search in a folder of one's own counts first."""
        return replace(self, chosen=(str(folder.absolute() / self.choice.name), *self.chosen))

    def found(self, sha256: str | None = None) -> dict[str, Any] | None:
        """The report of the search that counts, or of this digest; None if there is none.

        "task" is the title of what was searched on, or "another task" where an old report does not
        tell; "file" is its path, "sha256" the digest of what was found, whatever it ran on.

        Raises:
            ValueError: a file holds no such report.
        """
        for name in self.chosen:
            if (file := Path(__file__).parent / name).exists():
                report = _report(file)
                if sha256 in (None, report["sha256"]):
                    own = file.name == self.choice.name
                    title = {"task": self.title if own else "another task"}
                    return {**title, **report, "file": str(file)}
        return None

    def hyperparameters(self) -> dict[str, dict[str, float]]:
        """What the search chose, by method; empty if there was none."""
        return chosen_by(self.found())


def chosen_by(report: Mapping[str, Any] | None) -> dict[str, dict[str, float]]:
    """What a search chose, by method, from `Task.found`; empty if there was none."""
    return {} if report is None else report["chosen"]


def _report(file: Path) -> dict[str, Any]:
    try:
        report = read_json(read_whole(file))
        found = {k: v for k, v in report.items() if k not in ("environment", "runs")}
        if not {"chosen", "trials", "setting"} <= found.keys():
            raise ValueError("something else")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{shown(file)} must hold the report of a search, got {error}") from None
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return {**report, "sha256": digest}


# The differences that do not matter, for the verdict "equal within m".
ON_DIGITS = Equality(
    0.01,
    "1 point of error is 3.6 of the 360 test images, about the standard deviation over seeds",
)
OF_SIGNS = Equality(0.01, "1 point is one sign in a hundred")
OF_FLIPS = Equality(1e-4, "0.01 points are one sign in ten thousand per step")
OF_PERPLEXITY = Equality(0.02, "2% is what the claims of being on par allow", relative=True)


@functools.cache
def _text() -> Text:
    return load_text()


def language_model(
    seed: int, splits: Splits, units: int = 64, dropout: float = 0.0
) -> models.LSTMLanguageModel:
    """An LSTM for the tokens of these splits, its embedding as wide as its state."""
    tokens = 1 + max(int(part.x.max()) for part in splits)
    return models.LSTMLanguageModel(tokens, units, units, dropout=dropout, rng=seed)


_images = functools.partial(load_digits, flat=False)

TASKS = {
    "mlp": Task(
        "Binary weights on the UCI digits, MLP 64-64-64-10",
        load_digits,
        lambda seed, _: models.MLP(rng=seed),
        ("binary_digits.json",),
        DigitsSetting(),
        DigitsSetting(full_precision_steps=400, quantizing_steps=800, fine_tuning_steps=100),
    ),
    "cnn": Task(
        "Binary weights on the UCI digits, SmallCNN of width 16",
        _images,
        lambda seed, _: models.SmallCNN(rng=seed),
        ("binary_cnn.json",),
        DigitsSetting(full_precision_steps=500, quantizing_steps=1000, fine_tuning_steps=100),
        DigitsSetting(full_precision_steps=100, quantizing_steps=200, fine_tuning_steps=33),
    ),
    "resnet": Task(
        "Binary weights on the UCI digits, ResNet-20 of width 8",
        _images,
        lambda seed, _: models.ResNet(20, width=8, in_channels=1, rng=seed),
        ("binary_resnet.json",),
        DigitsSetting(full_precision_steps=150, quantizing_steps=300, fine_tuning_steps=33),
        DigitsSetting(full_precision_steps=66, quantizing_steps=99, fine_tuning_steps=33),
    ),
    # Weights of -1 and +1 saturate an LSTM's gates. Here each matrix has its own scale: the weights
    # go to -a and +a, where a is the mean of |w|.
    "lstm": Task(
        "One-bit weights (one scale per matrix) on Python's language reference, LSTM of 64 units",
        lambda: _text().splits,
        language_model,
        ("binary_lstm.json",),
        TextSetting(),
        TextSetting(full_precision_steps=300, quantizing_steps=300, fine_tuning_steps=30),
        prox.MultiBitL2(1),
        "+-a",
        "perplexity",
        lambda: {"text": _text().source},
    ),
}
"""By the names that the command line has for them."""
