"""Regularizers that are zero exactly on quantized weights, and homotopies. Layer 2: NumPy only."""

from .binary import BinaryL1, BinaryL2, sign_pm
from .homotopy import Constant, Geometric, Homotopy, Linear
from .levels import LevelsL1, LevelsL2
from .mirror import TanhMirror
from .multibit import MultiBitL1, MultiBitL2
from .piecewise_affine import PiecewiseAffine
from .published_ternary import PublishedTernary
from .regularizer import Regularizer
from .relaxation import BinaryRelax, Parq
from .ternary import TernaryL1, TernaryL2
from .uniform import UniformL2

__all__ = [
    "BinaryL1",
    "BinaryL2",
    "BinaryRelax",
    "Constant",
    "Geometric",
    "Homotopy",
    "LevelsL1",
    "LevelsL2",
    "Linear",
    "MultiBitL1",
    "MultiBitL2",
    "Parq",
    "PiecewiseAffine",
    "PublishedTernary",
    "Regularizer",
    "TanhMirror",
    "TernaryL1",
    "TernaryL2",
    "UniformL2",
    "sign_pm",
]
