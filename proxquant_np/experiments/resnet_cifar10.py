"""Claims: on CIFAR-10 binary and ternary ProxQuant beat, or equal, straight-through.

The paper's protocol at a scale to choose: a residual network is trained in full precision; from it
each method goes on with Adam at 0.01, freezes and fine-tunes. As published, binary weights are
everywhere, ternary ones not in the first convolution and the last layer, and lambda_t = 1e-4 x
epoch. That schedule is one of 300 epochs of 390 steps: the strengths then add up to `REACH`. At
another length lambda is scaled so that they still do, for what the schedule has to do, carry
weights to their levels, depends on that sum. Images are augmented as usual.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from proxquant_np import models, prox
from proxquant_np.data import Split, Splits, download, load_cifar10
from proxquant_np.data.cifar10 import augment, normalize
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.protocol import METHODS, Method
from proxquant_np.experiments.tasks import Setting, Task

REACH = 0.01 * 1e-4 * 390 * sum(range(300))  # lr * 1e-4 * epoch, 390 times each epoch: 17.5
IMAGES = {"resnet8": 10_000, "resnet14": 20_000, "resnet20": 45_000}


def _load(data: str, images: int) -> Splits:
    """The first `images` of the training split, as bytes; the other splits normalized."""
    splits = load_cifar10(data)
    train = Split(*(a[:images] for a in splits.train))
    return Splits(train, *(Split(normalize(x), y) for x, y in splits[1:]))


def prepare(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Augmented and normalized."""
    return normalize(augment(images, rng))


def _task(depth: int, width: int, images: int, epochs: int) -> Task:
    steps = images // 128 * epochs
    return Task(
        title=f"ResNet-{depth} of width {width} on {images:,} images of CIFAR-10",
        load=lambda data: _load(data, images),
        build=lambda seed, _: models.ResNet(depth, width=width, rng=seed),
        chosen=(f"chosen/resnet_cifar10-{depth}.json",),
        setting=Setting(steps, steps, max(1, steps // 10), batch_size=128),
        quick=Setting(8, 8, 2, batch_size=32),
        source=lambda data: {"images": _source(images)},
        prepare=prepare,
        plain=normalize,
    )


def _source(images: int) -> dict[str, Any]:
    return {"name": "CIFAR-10", "train": images}


_PUBLISHED = {"lr": 0.01}
_TERNARY = prox.TernaryL2(projection="threshold")


def _as_published(name: str, **changes: Any) -> Method:
    method = METHODS[name]
    reach = {"reach": REACH} if "reach" in method.default else {}
    return replace(method, default=_PUBLISHED | reach, **changes)


EXPERIMENT = Experiment(
    name="resnet_cifar10",
    title="Binary and ternary residual networks on CIFAR-10",
    tasks={
        "resnet8": _task(8, 16, IMAGES["resnet8"], 30),
        "resnet14": _task(14, 16, IMAGES["resnet14"], 30),
        "resnet20": _task(20, 16, IMAGES["resnet20"], 300),
    },
    measured=("resnet8",),
    methods={
        "binary_connect": _as_published("binary_connect"),
        "prox_quant": _as_published("prox_quant"),
        "prox_quant_ternary": _as_published(
            "prox_quant",
            label="ProxQuant, ternary (eager, soft)",
            regularizer=_TERNARY,
            ends=False,
        ),
        "straight_through_ternary": _as_published(
            "binary_connect",
            label="threshold-ternary straight-through (lazy, hard)",
            regularizer=_TERNARY,
            ends=False,
        ),
    },
    claims=(
        Claim(
            "Binary ProxQuant errs less than BinaryConnect",
            "prox_quant",
            "binary_connect",
            "test_error",
        ),
        Claim(
            "Ternary ProxQuant errs less than threshold-ternary straight-through",
            "prox_quant_ternary",
            "straight_through_ternary",
            "test_error",
        ),
    ),
    seeds=3,
    data="CIFAR-10's binary version: a folder with the .bin files, or the .tar.gz, "
    "which --download gets (170 MB)",
    needs_data=True,
    download=download.CIFAR10,
)
