"""Claim: ProxQuant changes fewer signs than BinaryConnect, and stops changing them.

This is the paper's sign-change experiment on the digits: each method trains as usual, once from a
network in full precision and once from the binary weights that BinaryConnect converged to. Measured
are the signs changed since the start and the signs that flip, during training and by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.families import DEFAULT, without_rate
from proxquant_np.experiments.protocol import METHODS
from proxquant_np.experiments.summary import runs_of
from proxquant_np.experiments.tasks import OF_FLIPS, OF_SIGNS, TASKS

LAZY, EAGER = METHODS["binary_connect"], METHODS["prox_quant"]
STARTS = {"": "a full-precision network", "_from_binary": "a converged BinaryConnect network"}


def draw(result: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw the signs changed since the start, by epoch and layer, for each task and both starts.

    At equal rates there is a figure for either rate, and one for what ProxQuant keeps at the
    rival's.
    """
    from proxquant_np import plotting  # here: matplotlib is slow to import, the workers need none

    by_rate: dict[tuple[str, bool], dict[str, None]] = {}
    for claim in EXPERIMENT.of_family(result.get("family")).claims:
        _, owner, keeps_sum = without_rate(claim.text)
        methods = by_rate.setdefault((owner, keeps_sum), {})
        methods.update({claim.second: None, claim.first: None})
    paths = []
    for name, task in result["tasks"].items():
        for (owner, keeps_sum), methods in by_rate.items():
            if not methods.keys() <= task["methods"].keys():
                continue  # the record was made before
            data = {
                method: {
                    "epochs": task["methods"][method]["epochs"],
                    **task["methods"][method]["layers"],
                }
                for method in methods
            }
            at = f"_at_{owner}" + "_reach" * keeps_sum if owner else ""
            of_task = path.with_name(f"{path.name}_{name}{at}")
            made = {"runs": runs_of(result)}
            plotting.save_figure(plotting.layer_changes(data), data | made, of_task)
            paths.append(of_task.with_suffix(".png"))
    return paths


def _claims() -> list[Claim]:
    made = []
    for start, words in STARTS.items():
        pair = f"prox_quant{start}", f"binary_connect{start}"
        made += [
            Claim(
                f"From {words}, ProxQuant changes fewer signs than BinaryConnect",
                *pair,
                "sign_change",
                equal=OF_SIGNS,
            ),
            Claim(
                f"From {words}, ProxQuant's signs flip less often at the end of training",
                *pair,
                "flip_rate",
                equal=OF_FLIPS,
            ),
        ]
    return made


EXPERIMENT = Experiment(
    name="stability",
    title="Signs changed since the start, and flipping",
    tasks={name: TASKS[name] for name in ("mlp", "cnn", "resnet")},
    measured=("mlp", "cnn"),
    methods={
        "binary_connect": LAZY,
        "prox_quant": EAGER,
        **{
            f"{name}_from_binary": replace(
                method,
                label=f"{method.label.split(' (')[0]}, from a BinaryConnect network",
                start="binary_connect",
                shares=name,
            )
            for name, method in (("binary_connect", LAZY), ("prox_quant", EAGER))
        },
    },
    claims=tuple(_claims()),
    draw=draw,
    families=DEFAULT,
)
