"""Every experiment by its name: those that the command line runs and that the ledger shows."""

from __future__ import annotations

from proxquant_np.checks import check_choice
from proxquant_np.experiments import (
    ablation,
    binary_digits,
    budget_curve,
    image_budget_curve,
    language_model,
    methods,
    paper_lstm,
    regime_map,
    resnet_cifar10,
    stability,
)
from proxquant_np.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        binary_digits,
        budget_curve,
        image_budget_curve,
        resnet_cifar10,
        language_model,
        stability,
        regime_map,
        ablation,
        methods,
        paper_lstm,
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
