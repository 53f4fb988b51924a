"""Data sets, with NumPy only. Every loader returns `Splits`; `load_text` adds a vocabulary."""

from proxquant_np.data.cifar10 import load_cifar10
from proxquant_np.data.digits import load_digits
from proxquant_np.data.splits import Split, Splits
from proxquant_np.data.text import Text, Vocabulary, chunks, load_text

__all__ = [
    "Split",
    "Splits",
    "Text",
    "Vocabulary",
    "chunks",
    "load_cifar10",
    "load_digits",
    "load_text",
]
