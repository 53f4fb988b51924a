"""Residual networks for small images. He, Zhang, Ren and Sun 2016, on CIFAR-10."""

from __future__ import annotations

import numpy as np

from proxquant_np.autograd import Tensor
from proxquant_np.checks import check_counts
from proxquant_np.models.description import remembered
from proxquant_np.nn import (
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    Linear,
    Module,
    Sequential,
    init,
)


def _conv(n_in: int, n_out: int, kernel: int, stride: int, rng: init.Rng, dtype: type) -> Conv2d:
    """A He-normal convolution without bias that keeps the size (or divides it by the stride)."""
    conv = Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False, rng=rng, dtype=dtype)
    conv.weight.data[...] = init.he_normal(conv.weight.shape, rng, dtype)
    return conv


class BasicBlock(Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    If the shape changes, the shortcut is a 1x1 convolution with batch norm, which is never
    quantized; otherwise it is the identity.
    """

    def __init__(
        self, n_in: int, n_out: int, stride: int, *, rng: init.Rng = None, dtype: type = np.float32
    ) -> None:
        rng = init.generator(rng)
        self.conv1 = _conv(n_in, n_out, 3, stride, rng, dtype)
        self.bn1 = BatchNorm2d(n_out, relu=True, dtype=dtype)
        self.conv2 = _conv(n_out, n_out, 3, 1, rng, dtype)
        self.bn2 = BatchNorm2d(n_out, relu=True, dtype=dtype)
        self.shortcut = Sequential()
        if stride != 1 or n_in != n_out:
            projection = _conv(n_in, n_out, 1, stride, rng, dtype)
            projection.quantizable = ()
            self.shortcut = Sequential(projection, BatchNorm2d(n_out, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, h, w) to (n, n_out, h / stride, w / stride), rounded up."""
        return self.bn2(self.conv2(self.bn1(self.conv1(x))), self.shortcut(x))


class ResNet(Module):
    """3x3 convolution; three stages of n = (depth - 2) / 6 blocks with width, 2 width and 4 width
    channels, the second and third of which halve the image; mean over the image; linear.

    ResNet(20) has 272,474 parameters. Names follow the usual PyTorch implementations.

    Examples:
        >>> model = pq.models.ResNet(depth=20)
        >>> sum(p.size for p in model.parameters())
        272474
        >>> model.eval()(pq.Tensor(np.ones((1, 3, 32, 32), np.float32))).shape
        (1, 10)
    """

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        in_channels: int = 3,
        num_classes: int = 10,
        *,
        rng: init.Rng = None,
        dtype: type = np.float32,
    ) -> None:
        check_counts(depth=depth, width=width, in_channels=in_channels, num_classes=num_classes)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2 with n >= 1 (8, 14, 20, ...), got {depth}")
        self.arguments = remembered(locals())
        rng = init.generator(rng)
        self.conv1 = _conv(in_channels, width, 3, 1, rng, dtype)
        self.bn1 = BatchNorm2d(width, relu=True, dtype=dtype)
        n_in = width
        for stage in (1, 2, 3):
            n_out = width << (stage - 1)
            blocks = []
            for i in range((depth - 2) // 6):
                stride = 2 if stage > 1 and i == 0 else 1
                blocks.append(BasicBlock(n_in, n_out, stride, rng=rng, dtype=dtype))
                n_in = n_out
            setattr(self, f"layer{stage}", Sequential(*blocks))
        self.pool = GlobalAvgPool2d()
        self.linear = Linear(n_in, num_classes, rng=rng, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) to logits (n, num_classes)."""
        x = self.bn1(self.conv1(x))
        return self.linear(self.pool(self.layer3(self.layer2(self.layer1(x)))))
