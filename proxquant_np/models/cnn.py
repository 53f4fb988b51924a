"""A small convolutional network, for the digits."""

from __future__ import annotations

import numpy as np

from proxquant_np.autograd import Tensor
from proxquant_np.models.description import remembered
from proxquant_np.nn import (
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Module,
    Sequential,
    init,
)


class SmallCNN(Module):
    """Two blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling; a third without
    pooling; the mean over the image; a linear classifier.

    Channels are width, 2 width, 2 width. Images may have any size from 4x4; the defaults suit the
    digits, 1x8x8. Convolutions start He-normal.

    Examples:
        >>> model = pq.models.SmallCNN(in_channels=1, num_classes=10)
        >>> model(pq.Tensor(np.ones((2, 1, 8, 8), np.float32))).shape
        (2, 10)
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        num_classes: int = 10,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        self.arguments = remembered(locals())
        rng = init.generator(rng)
        layers: list[Module] = []
        for n_in, n_out in ((in_channels, width), (width, 2 * width), (2 * width, 2 * width)):
            conv = Conv2d(n_in, n_out, 3, padding=1, bias=False, rng=rng, dtype=dtype)
            conv.weight.data[...] = init.he_normal(conv.weight.shape, rng, dtype)
            layers += [conv, BatchNorm2d(n_out, relu=True, dtype=dtype), MaxPool2d(2)]
        self.features = Sequential(*layers[:-1], GlobalAvgPool2d())
        self.classifier = Linear(2 * width, num_classes, rng=rng, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to logits (n, num_classes)."""
        return self.classifier(self.features(x))
