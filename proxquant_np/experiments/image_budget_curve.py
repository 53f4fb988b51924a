"""Claim: as in budget_curve.py, on CIFAR-10: a ResNet-8 on 10,000 images."""

from __future__ import annotations

from proxquant_np.experiments import resnet_cifar10
from proxquant_np.experiments.budget_curve import budget_experiment, claims_in, tasks_of

BUDGETS = {"resnet8": (78, 234, 702)}  # 1, 3 and 9 epochs

EXPERIMENT = budget_experiment(
    claims_in("test_error", resnet_cifar10.EQUAL),
    name="image_budget_curve",
    title="The budget on images: where the verdict turns, and by what",
    tasks=tasks_of(resnet_cifar10.EXPERIMENT.tasks, BUDGETS),
    seeds=6,
    data=resnet_cifar10.EXPERIMENT.data,
    needs_data=True,
    download=resnet_cifar10.EXPERIMENT.download,
)
