"""Claims: ProxQuant's binary LSTM beats BinaryConnect's; with 2 and 3 bits it is on par.

The LSTM language model reads characters of Python's language reference, or of the text that --data
names. Embedding and softmax are quantized, too, as in the paper. The bits are those of a code
{sum_j a_j b_j} that is fitted to each matrix; the rival for 2 and 3 bits is straight-through with
the alternating projection. "On par" means a perplexity that is at most `MARGIN` higher.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from proxquant_np import prox
from proxquant_np.data import Text, load_text
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.protocol import METHODS, Method
from proxquant_np.experiments.tasks import OF_PERPLEXITY, TASKS, Task, TextSetting, language_model

MARGIN = OF_PERPLEXITY.margin


@functools.cache
def _text(data: str | None = None) -> Text:
    return load_text(data)


def _task(units: int, steps: int) -> Task:
    return replace(
        TASKS["lstm"],
        title=f"LSTM of {units} units, by character",
        load=lambda *data: _text(*data).splits,
        build=functools.partial(language_model, units=units, dropout=0.1),
        chosen=(f"chosen/language_model-{units}.json",),
        setting=TextSetting(steps, steps, steps // 5),
        quick=TextSetting(20, 20, 5),
        source=lambda *data: {"text": _text(*data).source},
    )


def _bits(name: str, bits: int, label: str) -> Method:
    default: dict[str, Any] = {"lr": 0.003}
    if name == "prox_quant":
        default["reach"] = 10.0
    regularizer = prox.MultiBitL2(bits)
    return replace(METHODS[name], label=label, default=default, regularizer=regularizer)


EXPERIMENT = Experiment(
    name="language_model",
    title="LSTM language models of 1, 2 and 3 bits",
    tasks={"lstm64": _task(64, 1500), "lstm128": _task(128, 6000)},
    measured=("lstm64",),
    methods={
        "binary_connect": _bits("binary_connect", 1, "BinaryConnect, 1 bit (lazy, hard)"),
        **{
            f"prox_quant_{k}": _bits("prox_quant", k, f"ProxQuant, {k} bit{'s' * (k > 1)}")
            for k in (1, 2, 3)
        },
        **{
            f"straight_through_{k}": _bits(
                "binary_connect", k, f"alternating straight-through, {k} bits"
            )
            for k in (2, 3)
        },
    },
    claims=(
        Claim(
            "ProxQuant's binary LSTM has a lower perplexity than BinaryConnect's",
            "prox_quant_1",
            "binary_connect",
            "test_perplexity",
            equal=OF_PERPLEXITY,
        ),
        *(
            Claim(
                f"With {k} bits ProxQuant is on par with alternating straight-through "
                f"(at most {MARGIN:.0%} higher)",
                f"prox_quant_{k}",
                f"straight_through_{k}",
                "test_perplexity",
                margin=MARGIN,
            )
            for k in (2, 3)
        ),
    ),
    seeds=3,
    data="a UTF-8 text, or a folder with the Penn Treebank's files (default: Python's own)",
)
