"""Claims: ProxQuant's binary LSTM beats BinaryConnect's; with 2 and 3 bits it is on par.

The LSTM language model reads characters of Python's language reference, or of the text that --data
names. Embedding and softmax are quantized, too, as in the paper. One bit is -1 and +1, as the paper
has it, or has a scale that is fitted to each matrix. The other bits are those of a code
{sum_j a_j b_j} that is fitted to each matrix or, as in the paper, to each of its rows; the rival is
straight-through with the alternating projection, with its quantizer multiplied by 0.3, as in
the paper's tables, and without. "On par" means a perplexity that is at most `MARGIN` higher.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from proxquant_np import prox
from proxquant_np.data import Text, load_text
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.families import EQUAL_RATES, equal_rates
from proxquant_np.experiments.paper_lstm import FACTOR, Rescaled
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


def _bits(name: str, bits: int, label: str, **changes: Any) -> Method:
    default: dict[str, Any] = {"lr": 0.003}
    if name == "prox_quant":
        default["reach"] = 10.0
    changes = {"regularizer": prox.MultiBitL2(bits)} | changes
    return replace(METHODS[name], label=label, default=default, **changes)


def _by_rows(bits: int) -> dict[str, Method]:
    """ProxQuant and its rival with a code for each row; the rival also times 0.3, as published."""
    rows, rival = prox.MultiBitL2(bits, axis=0), f"straight_through_{bits}"
    label = f"alternating straight-through, {bits} bits by rows"
    return {
        f"prox_quant_{bits}_rows": _bits(
            "prox_quant",
            bits,
            f"ProxQuant, {bits} bits by rows",
            regularizer=rows,
            shares=f"prox_quant_{bits}",
        ),
        f"{rival}_rows": _bits("binary_connect", bits, label, regularizer=rows, shares=rival),
        f"{rival}_rescaled": _bits(
            "binary_connect",
            bits,
            f"{label}, times {FACTOR}",
            regularizer=Rescaled(rows.set),
            shares=rival,
        ),
    }


_PM1 = prox.BinaryL1()
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
        "binary_connect_pm1": _bits(
            "binary_connect", 1, "BinaryConnect, -1 and +1 (lazy, hard)", regularizer=_PM1
        ),
        "prox_quant_pm1": _bits("prox_quant", 1, "ProxQuant, -1 and +1", regularizer=_PM1),
        **_by_rows(2),
        **_by_rows(3),
    },
    claims=(
        Claim(
            "With levels -1 and +1 ProxQuant's binary LSTM has a lower perplexity than "
            "BinaryConnect's",
            "prox_quant_pm1",
            "binary_connect_pm1",
            "test_perplexity",
            equal=OF_PERPLEXITY,
        ),
        Claim(
            "With a fitted scale ProxQuant's binary LSTM has a lower perplexity than "
            "BinaryConnect's",
            "prox_quant_1",
            "binary_connect",
            "test_perplexity",
            source="ours",
            equal=OF_PERPLEXITY,
        ),
        *(
            Claim(
                f"With {k} bits ProxQuant is on par with alternating straight-through "
                f"(at most {MARGIN:.0%} higher)",
                f"prox_quant_{k}",
                f"straight_through_{k}",
                "test_perplexity",
                source="ours",
                margin=MARGIN,
            )
            for k in (2, 3)
        ),
        *(
            Claim(
                f"With {k} bits by rows ProxQuant is on par with alternating straight-through"
                f"{scaled} (at most {MARGIN:.0%} higher)",
                f"prox_quant_{k}_rows",
                f"straight_through_{k}_{rival}",
                "test_perplexity",
                source=source,
                margin=MARGIN,
            )
            for k in (2, 3)
            for rival, scaled, source in (
                ("rescaled", f" times {FACTOR}", "paper"),
                ("rows", "", "ours"),
            )
        ),
    ),
    families={EQUAL_RATES: equal_rates},
    seeds=6,
    data="a UTF-8 text, or a folder with the Penn Treebank's files (default: Python's own)",
)
