"""The theorems, as functions that compute both sides of each. Plain NumPy, in float64.

toys.py             losses whose constants are known, and a smooth W
dual_averaging.py   straight-through is dual averaging, three ways; its regret
forward_backward.py the same for other backward passes
mirror_descent.py   lazy training with tanh is mirror descent
last_iterate.py     lazy training with a convex regularizer converges
few_samples.py      with fewer samples than weights, most weights end at levels
fixed_points.py     where BinaryConnect can come to rest, and whether it does
lazy_cycle.py       where lazy prox-gradient oscillates forever
stability.py        how often BinaryConnect flips signs, and when ProxQuant stops
base_moves.py       how far SGD and Adam move a weight, and which weights the prox holds in place
convergence.py      the inequalities behind the convergence of prox-gradient
gallery.py          for each assumption of each theorem, a smallest counterexample without it

Each docstring states a theorem and proves it. The tests check it on random problems, then drop an
assumption and watch it fail. Gradients are functions of a weight vector, so everything here also
runs on a network.
"""

from proxquant_np.theory.base_moves import adam_move_bound as adam_move_bound
from proxquant_np.theory.base_moves import adam_worst_gradients as adam_worst_gradients
from proxquant_np.theory.base_moves import base_move_bound as base_move_bound
from proxquant_np.theory.base_moves import held as held
from proxquant_np.theory.convergence import ProxGradientRun as ProxGradientRun
from proxquant_np.theory.convergence import measured_beta as measured_beta
from proxquant_np.theory.convergence import prox_gradient as prox_gradient
from proxquant_np.theory.convergence import rate_constant as rate_constant
from proxquant_np.theory.convergence import run_prox_gradient as run_prox_gradient
from proxquant_np.theory.dual_averaging import by_enumeration as by_enumeration
from proxquant_np.theory.dual_averaging import by_projection as by_projection
from proxquant_np.theory.dual_averaging import by_straight_through as by_straight_through
from proxquant_np.theory.dual_averaging import regret as regret
from proxquant_np.theory.few_samples import critical_point as critical_point
from proxquant_np.theory.few_samples import off_levels as off_levels
from proxquant_np.theory.fixed_points import fixed_points as fixed_points
from proxquant_np.theory.fixed_points import is_fixed_point as is_fixed_point
from proxquant_np.theory.fixed_points import settle as settle
from proxquant_np.theory.forward_backward import by_forward_backward as by_forward_backward
from proxquant_np.theory.forward_backward import outside_cube as outside_cube
from proxquant_np.theory.gallery import GALLERY as GALLERY
from proxquant_np.theory.gallery import Counterexample as Counterexample
from proxquant_np.theory.last_iterate import by_aggregate_prox as by_aggregate_prox
from proxquant_np.theory.last_iterate import last_iterate_bound as last_iterate_bound
from proxquant_np.theory.last_iterate import last_iterate_step as last_iterate_step
from proxquant_np.theory.lazy_cycle import TwoCycle as TwoCycle
from proxquant_np.theory.lazy_cycle import lazy_two_cycle as lazy_two_cycle
from proxquant_np.theory.mirror_descent import mirror_descent as mirror_descent
from proxquant_np.theory.mirror_descent import mirror_regret as mirror_regret
from proxquant_np.theory.stability import flip_frequency_bound as flip_frequency_bound
from proxquant_np.theory.stability import flips as flips
from proxquant_np.theory.stability import frank_wolfe as frank_wolfe
from proxquant_np.theory.stability import frank_wolfe_gap as frank_wolfe_gap
from proxquant_np.theory.stability import inner_distance as inner_distance
from proxquant_np.theory.stability import predicted_time_at_plus_one as predicted_time_at_plus_one
from proxquant_np.theory.stability import solves_both_toys as solves_both_toys
from proxquant_np.theory.stability import steps_to_quantize as steps_to_quantize
from proxquant_np.theory.stability import time_at_nearest_corner as time_at_nearest_corner
from proxquant_np.theory.stability import time_at_plus_one as time_at_plus_one
from proxquant_np.theory.toys import Kink as Kink
from proxquant_np.theory.toys import Quadratic as Quadratic
from proxquant_np.theory.toys import Ridge as Ridge
from proxquant_np.theory.toys import RoundedW as RoundedW
from proxquant_np.theory.toys import SmoothW as SmoothW
from proxquant_np.theory.toys import f_minus as f_minus
from proxquant_np.theory.toys import f_plus as f_plus
from proxquant_np.theory.toys import quadratic_on_cube as quadratic_on_cube
from proxquant_np.theory.toys import random_ridge as random_ridge
