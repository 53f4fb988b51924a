"""Quantized sets, regularizers (distances to such sets), and homotopies; NumPy only.

A set Q says which values weights may take (`Binary`, `Levels`, `Ternary`, `MultiBit`, `Uniform`); a
distance to it pulls them there (`L1`, `L2`, `Parq`). BinaryL1() is L1(Binary()) by its usual name.
Distances to {0} are the penalties of sparsity, which penalties.py has for any fixed levels.
Quantizers as they are published are sets with a rule, a `Rule`: `quantize` is the rule itself.
"""

from proxquant_np.prox.affine import Affine as Affine
from proxquant_np.prox.binary import Binary as Binary
from proxquant_np.prox.binary import BinaryL1 as BinaryL1
from proxquant_np.prox.binary import BinaryL2 as BinaryL2
from proxquant_np.prox.binary import sign_pm as sign_pm
from proxquant_np.prox.centred_binary import CentredBinary as CentredBinary
from proxquant_np.prox.codebook import Codebook as Codebook
from proxquant_np.prox.distances import L1 as L1
from proxquant_np.prox.distances import L2 as L2
from proxquant_np.prox.distances import BinaryRelax as BinaryRelax
from proxquant_np.prox.distances import Parq as Parq
from proxquant_np.prox.dorefa import DoReFa as DoReFa
from proxquant_np.prox.fitted import Fitted as Fitted
from proxquant_np.prox.fixed_point import FixedPoint as FixedPoint
from proxquant_np.prox.homotopy import Constant as Constant
from proxquant_np.prox.homotopy import Geometric as Geometric
from proxquant_np.prox.homotopy import Homotopy as Homotopy
from proxquant_np.prox.homotopy import Linear as Linear
from proxquant_np.prox.homotopy import LinearHomotopy as LinearHomotopy
from proxquant_np.prox.integers import Integers as Integers
from proxquant_np.prox.levels import Levels as Levels
from proxquant_np.prox.levels import LevelsL1 as LevelsL1
from proxquant_np.prox.levels import LevelsL2 as LevelsL2
from proxquant_np.prox.mirror import TanhMirror as TanhMirror
from proxquant_np.prox.multibit import MultiBit as MultiBit
from proxquant_np.prox.multibit import MultiBitL1 as MultiBitL1
from proxquant_np.prox.multibit import MultiBitL2 as MultiBitL2
from proxquant_np.prox.penalties import L0 as L0
from proxquant_np.prox.penalties import MCP as MCP
from proxquant_np.prox.penalties import ElasticNet as ElasticNet
from proxquant_np.prox.penalties import Huber as Huber
from proxquant_np.prox.piecewise_affine import PiecewiseAffine as PiecewiseAffine
from proxquant_np.prox.powers_of_two import PowersOfTwo as PowersOfTwo
from proxquant_np.prox.published_ternary import PublishedTernary as PublishedTernary
from proxquant_np.prox.quantized_set import QuantizedSet as QuantizedSet
from proxquant_np.prox.regularizer import ProxFunction as ProxFunction
from proxquant_np.prox.regularizer import Regularizer as Regularizer
from proxquant_np.prox.regularizer import as_regularizer as as_regularizer
from proxquant_np.prox.regularizer import as_set as as_set
from proxquant_np.prox.rounded import Rounded as Rounded
from proxquant_np.prox.rule import Rule as Rule
from proxquant_np.prox.stochastic import stochastic_round as stochastic_round
from proxquant_np.prox.ternary import Ternary as Ternary
from proxquant_np.prox.ternary import TernaryL1 as TernaryL1
from proxquant_np.prox.ternary import TernaryL2 as TernaryL2
from proxquant_np.prox.text import parse as parse
from proxquant_np.prox.uniform import Uniform as Uniform
from proxquant_np.prox.uniform import UniformL2 as UniformL2
