"""Figures: one function each, from plain data to a matplotlib Figure.

style.py       colours, axes, saving
maps.py        regularizers, their Moreau envelopes and prox maps, the homotopy
quantizers.py  heuristic projections against exact ones
paths.py       the toy pair, landscapes
steps.py       one step of each method, straight-through as a graph
theorems.py    bounds and predictions against measurements
training.py    weights, signs and errors over steps and epochs
comparisons.py results of experiments: differences, regimes, layers

The data are dicts and lists, exactly what goes into the JSON beside each figure: `save_figure`
writes both. `NAME_data` computes the data of the figure NAME if that needs no training run.
Everywhere lazy methods are orange, eager ones blue, and full precision grey; where hard and soft
maps both appear, hard ones are solid and soft ones dashed. The colours are Okabe and Ito's, which
colour-blind readers can tell apart and which differ in lightness when printed in grey.
"""

from proxquant_np.plotting.comparisons import budget_curve as budget_curve
from proxquant_np.plotting.comparisons import differences as differences
from proxquant_np.plotting.comparisons import layer_changes as layer_changes
from proxquant_np.plotting.comparisons import regime_map as regime_map
from proxquant_np.plotting.maps import homotopy as homotopy
from proxquant_np.plotting.maps import homotopy_data as homotopy_data
from proxquant_np.plotting.maps import homotopy_frame as homotopy_frame
from proxquant_np.plotting.maps import homotopy_frames as homotopy_frames
from proxquant_np.plotting.maps import moreau_envelopes as moreau_envelopes
from proxquant_np.plotting.maps import moreau_envelopes_data as moreau_envelopes_data
from proxquant_np.plotting.maps import prox_map as prox_map
from proxquant_np.plotting.maps import prox_maps as prox_maps
from proxquant_np.plotting.maps import prox_maps_data as prox_maps_data
from proxquant_np.plotting.maps import regularizers as regularizers
from proxquant_np.plotting.maps import regularizers_data as regularizers_data
from proxquant_np.plotting.paths import landscapes as landscapes
from proxquant_np.plotting.paths import landscapes_data as landscapes_data
from proxquant_np.plotting.paths import toy_pair as toy_pair
from proxquant_np.plotting.paths import toy_pair_data as toy_pair_data
from proxquant_np.plotting.quantizers import quantizer_gaps as quantizer_gaps
from proxquant_np.plotting.quantizers import quantizer_gaps_data as quantizer_gaps_data
from proxquant_np.plotting.steps import one_step as one_step
from proxquant_np.plotting.steps import one_step_data as one_step_data
from proxquant_np.plotting.steps import straight_through as straight_through
from proxquant_np.plotting.steps import straight_through_data as straight_through_data
from proxquant_np.plotting.style import CYCLE as CYCLE
from proxquant_np.plotting.style import EAGER as EAGER
from proxquant_np.plotting.style import LAZY as LAZY
from proxquant_np.plotting.style import NEUTRAL as NEUTRAL
from proxquant_np.plotting.style import STRENGTH_COLOURS as STRENGTH_COLOURS
from proxquant_np.plotting.style import STYLES as STYLES
from proxquant_np.plotting.style import save_animation as save_animation
from proxquant_np.plotting.style import save_figure as save_figure
from proxquant_np.plotting.survey import survey as survey
from proxquant_np.plotting.theorems import convergence_bound as convergence_bound
from proxquant_np.plotting.theorems import convergence_bound_data as convergence_bound_data
from proxquant_np.plotting.theorems import flip_frequency as flip_frequency
from proxquant_np.plotting.theorems import flip_frequency_data as flip_frequency_data
from proxquant_np.plotting.theorems import lazy_cycle as lazy_cycle
from proxquant_np.plotting.theorems import lazy_cycle_data as lazy_cycle_data
from proxquant_np.plotting.theorems import regret as regret
from proxquant_np.plotting.theorems import regret_data as regret_data
from proxquant_np.plotting.training import error_curves as error_curves
from proxquant_np.plotting.training import finite_time as finite_time
from proxquant_np.plotting.training import flip_raster as flip_raster
from proxquant_np.plotting.training import flips_over_time as flips_over_time
from proxquant_np.plotting.training import sign_flips as sign_flips
from proxquant_np.plotting.training import weight_filmstrip as weight_filmstrip
