"""Every experiment by its name, for the command line and the ledger."""

from __future__ import annotations

from proxquant_np.checks import check_choice
from proxquant_np.experiments import (
    EXPERIMENTS,
    ablation,
    binary_digits,
    language_model,
    methods,
    regime_map,
    resnet_cifar10,
    stability,
)
from proxquant_np.experiments.experiment import Experiment

_MODULES = (
    binary_digits,
    resnet_cifar10,
    language_model,
    stability,
    regime_map,
    ablation,
    methods,
)


def experiment_named(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ValueError: there is none.

    Examples:
        >>> from proxquant_np.experiments.catalog import experiment_named
        >>> experiment_named("binary_digits").title
        'Binary weights on handwritten digits'
    """
    check_choice("name", name, EXPERIMENTS)
    return next(m.EXPERIMENT for m in _MODULES if m.EXPERIMENT.name == name)
