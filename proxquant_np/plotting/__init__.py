"""Figures (above training): one function each, from plain data to a matplotlib Figure.

style.py       colours, axes, saving
maps.py        regularizers, their Moreau envelopes and prox maps, the homotopy
quantizers.py  heuristic projections against exact ones
paths.py       the toy pair, landscapes
theorems.py    bounds and predictions against measurements
training.py    weights, signs and errors over steps and epochs
comparisons.py what experiments found: differences, regimes, layers

The data are dicts and lists, exactly what goes into the JSON beside each figure: `save_figure`
writes both. `NAME_data` computes those of the figure NAME where no training run is needed. Lazy
methods are orange and eager ones blue everywhere, full precision is grey; hard maps are drawn
solid, soft ones dashed where both appear; colours are Okabe and Ito's, which colour-blind readers
can tell apart and which differ in lightness when printed in grey.
"""

from .comparisons import differences as differences
from .comparisons import layer_changes as layer_changes
from .comparisons import regime_map as regime_map
from .maps import homotopy as homotopy
from .maps import homotopy_data as homotopy_data
from .maps import homotopy_frame as homotopy_frame
from .maps import homotopy_frames as homotopy_frames
from .maps import moreau_envelopes as moreau_envelopes
from .maps import moreau_envelopes_data as moreau_envelopes_data
from .maps import prox_map as prox_map
from .maps import prox_maps as prox_maps
from .maps import prox_maps_data as prox_maps_data
from .maps import regularizers as regularizers
from .maps import regularizers_data as regularizers_data
from .paths import landscapes as landscapes
from .paths import landscapes_data as landscapes_data
from .paths import toy_pair as toy_pair
from .paths import toy_pair_data as toy_pair_data
from .quantizers import quantizer_gaps as quantizer_gaps
from .quantizers import quantizer_gaps_data as quantizer_gaps_data
from .style import EAGER as EAGER
from .style import LAZY as LAZY
from .style import NEUTRAL as NEUTRAL
from .style import STRENGTH_COLOURS as STRENGTH_COLOURS
from .style import STYLES as STYLES
from .style import save_animation as save_animation
from .style import save_figure as save_figure
from .theorems import convergence_bound as convergence_bound
from .theorems import convergence_bound_data as convergence_bound_data
from .theorems import flip_frequency as flip_frequency
from .theorems import flip_frequency_data as flip_frequency_data
from .theorems import lazy_cycle as lazy_cycle
from .theorems import lazy_cycle_data as lazy_cycle_data
from .theorems import regret as regret
from .theorems import regret_data as regret_data
from .training import error_curves as error_curves
from .training import finite_time as finite_time
from .training import flip_raster as flip_raster
from .training import flips_over_time as flips_over_time
from .training import sign_flips as sign_flips
from .training import weight_filmstrip as weight_filmstrip
