"""Quantized sets, regularizers that are distances to them, and homotopies; NumPy only.

A set Q says what weights may be (`Binary`, `Levels`, `Ternary`, `MultiBit`, `Uniform`), a distance
to it draws them there (`L1`, `L2`, `Parq`): BinaryL1() is L1(Binary()) under its usual name.
"""

from proxquant_np.prox.binary import Binary, BinaryL1, BinaryL2, sign_pm
from proxquant_np.prox.distances import L1, L2, BinaryRelax, Parq
from proxquant_np.prox.fitted import Fitted
from proxquant_np.prox.homotopy import Constant, Geometric, Homotopy, Linear, LinearHomotopy
from proxquant_np.prox.levels import Levels, LevelsL1, LevelsL2
from proxquant_np.prox.mirror import TanhMirror
from proxquant_np.prox.multibit import MultiBit, MultiBitL1, MultiBitL2
from proxquant_np.prox.piecewise_affine import PiecewiseAffine
from proxquant_np.prox.published_ternary import PublishedTernary
from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.regularizer import ProxFunction, Regularizer, as_regularizer, as_set
from proxquant_np.prox.ternary import Ternary, TernaryL1, TernaryL2
from proxquant_np.prox.text import parse
from proxquant_np.prox.uniform import Uniform, UniformL2

__all__ = [
    "L1",
    "L2",
    "Binary",
    "BinaryL1",
    "BinaryL2",
    "BinaryRelax",
    "Constant",
    "Fitted",
    "Geometric",
    "Homotopy",
    "Levels",
    "LevelsL1",
    "LevelsL2",
    "Linear",
    "LinearHomotopy",
    "MultiBit",
    "MultiBitL1",
    "MultiBitL2",
    "Parq",
    "PiecewiseAffine",
    "ProxFunction",
    "PublishedTernary",
    "QuantizedSet",
    "Regularizer",
    "TanhMirror",
    "Ternary",
    "TernaryL1",
    "TernaryL2",
    "Uniform",
    "UniformL2",
    "as_regularizer",
    "as_set",
    "parse",
    "sign_pm",
]
