"""Every experiment by its name: those that the command line runs and that the ledger shows."""

from __future__ import annotations

from proxquant_np.checks import check_choice
from proxquant_np.experiments import (
    ablation,
    binary_digits,
    budget_curve,
    language_model,
    methods,
    regime_map,
    resnet_cifar10,
    stability,
)
from proxquant_np.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        binary_digits.EXPERIMENT,
        budget_curve.EXPERIMENT,
        budget_curve.IMAGES,
        resnet_cifar10.EXPERIMENT,
        language_model.EXPERIMENT,
        stability.EXPERIMENT,
        regime_map.EXPERIMENT,
        ablation.EXPERIMENT,
        methods.EXPERIMENT,
    )
}


def experiment_named(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ValueError: there is none.

    Examples:
        >>> from proxquant_np.experiments.catalog import experiment_named
        >>> experiment_named("binary_digits").title
        'Binary weights on handwritten digits'
    """
    return EXPERIMENTS[check_choice("name", name, EXPERIMENTS)]
