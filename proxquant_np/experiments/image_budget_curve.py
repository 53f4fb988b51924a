"""Claim: as in budget_curve.py, on CIFAR-10: a ResNet-8 on 10,000 images, and a ResNet-20."""

from __future__ import annotations

from proxquant_np.experiments import resnet_cifar10
from proxquant_np.experiments.budget_curve import budget_experiment, claims_in, tasks_of

BUDGETS = {"resnet8": (78, 234, 702), "resnet20": (351, 1053, 3159)}  # 1, 3 and 9 epochs

EXPERIMENT = budget_experiment(
    claims_in("test_error", resnet_cifar10.EQUAL),
    name="image_budget_curve",
    title="The budget on images: where the verdict turns, and by what",
    tasks=tasks_of(resnet_cifar10.EXPERIMENT.tasks, BUDGETS),
    measured=tuple(f"resnet8-t{steps}" for steps in BUDGETS["resnet8"]),
    seeds=6,
    data=resnet_cifar10.EXPERIMENT.data,
    needs_data=True,
    download=resnet_cifar10.EXPERIMENT.download,
)
