"""The models in PyTorch, layer by layer as they are usually written there."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as TF

torch.set_num_threads(1)  # the networks of the tests are small


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or n_in != n_out:
            conv = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(n_out))

    def forward(self, x):
        """(n, n_in, h, w) to (n, n_out, h / stride, w / stride)."""
        y = self.bn2(self.conv2(TF.relu(self.bn1(self.conv1(x)))))
        return TF.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet for CIFAR-10."""

    def __init__(self, depth=20, width=16, in_channels=3, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        n_in = width
        for stage, n_out in enumerate((width, 2 * width, 4 * width)):
            strides = [2 if stage else 1] + [1] * ((depth - 2) // 6 - 1)
            blocks = [BasicBlock(n_in, n_out, strides[0])]
            blocks += [BasicBlock(n_out, n_out, stride) for stride in strides[1:]]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            n_in = n_out
        self.linear = nn.Linear(n_in, num_classes)

    def forward(self, x):
        """(n, in_channels, h, w) to logits."""
        x = TF.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class SmallCNN(nn.Module):
    """The network for the digits."""

    def __init__(self, in_channels=1, width=16, num_classes=10):
        super().__init__()
        layers = []
        for n_in, n_out in ((in_channels, width), (width, 2 * width), (2 * width, 2 * width)):
            conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
            layers += [conv, Normalized(n_out), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        """(n, in_channels, h, w) to logits."""
        return self.classifier(torch.flatten(self.features(x), 1))


class Normalized(nn.BatchNorm2d):
    """Batch norm and ReLU."""

    def forward(self, x):
        """Apply both."""
        return TF.relu(super().forward(x))


class MLP(nn.Module):
    """Linear, batch norm, ReLU."""

    def __init__(self, sizes=(64, 64, 64, 10), batch_norm=True):
        super().__init__()
        layers = []
        for n_in, n_out in pairwise(sizes[:-1]):
            layers.append(nn.Linear(n_in, n_out, bias=not batch_norm))
            layers += [nn.BatchNorm1d(n_out)] if batch_norm else []
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.Linear(*sizes[-2:]))

    def forward(self, x):
        """(n, sizes[0]) to logits."""
        return self.layers(x)


class LSTMLanguageModel(nn.Module):
    """Embedding, LSTM, linear."""

    def __init__(self, vocabulary, embedding, hidden, layers=1, dropout=0.0, tied=False):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, dropout=dropout)
        self.decoder = nn.Linear(hidden, vocabulary)
        if tied:
            self.decoder.weight = self.embedding.weight

    def forward(self, tokens, state=None):
        """Tokens (T, n) and a state to logits and the next state."""
        output, state = self.lstm(self.drop(self.embedding(tokens)), state)
        return self.decoder(self.drop(output)), state
