"""Golden vectors, and checks of other implementations.

    import proxquant_np as pq

    print(pq.conformance.check_prox(my_prox, "binary_l1"))
    print(pq.conformance.check_quantizer(my_quantizer, "ternary", exact=True))
    print(pq.conformance.check_gradient(my_function, as_="straight_through", clip=1))

`definitions.py` lists what is known by name and `report.py` what is reported; `golden/SCHEMA.md`
describes the golden vectors, which serve any language.
"""

from proxquant_np.conformance.adapters import from_jax as from_jax
from proxquant_np.conformance.adapters import from_keras as from_keras
from proxquant_np.conformance.adapters import from_tensorflow as from_tensorflow
from proxquant_np.conformance.adapters import from_torch as from_torch
from proxquant_np.conformance.checks import check_prox as check_prox
from proxquant_np.conformance.checks import check_quantizer as check_quantizer
from proxquant_np.conformance.definitions import PROXES as PROXES
from proxquant_np.conformance.definitions import QUANTIZERS as QUANTIZERS
from proxquant_np.conformance.definitions import STEPS as STEPS
from proxquant_np.conformance.estimators import ESTIMATORS as ESTIMATORS
from proxquant_np.conformance.gradient import check_gradient as check_gradient
from proxquant_np.conformance.penalties import PENALTIES as PENALTIES
from proxquant_np.conformance.penalties import penalty as penalty
from proxquant_np.conformance.report import CONVENTIONS as CONVENTIONS
from proxquant_np.conformance.report import Report as Report
from proxquant_np.conformance.rules import RULES as RULES
from proxquant_np.conformance.rules import rule as rule
from proxquant_np.conformance.steps import check_step as check_step
from proxquant_np.conformance.stochastic import check_stochastic as check_stochastic
from proxquant_np.conformance.vectors import write_vectors as write_vectors
