"""Claims: at the paper's scale ProxQuant's binary LSTM beats BinaryConnect's; multi-bit on par.

On par with alternating straight-through, that is, whose quantizer is multiplied by 0.3; better than
that without this factor.

An LSTM of 300 units with embeddings of 300 reads words, 10,000 in the Penn Treebank. As published,
embedding, LSTM and softmax are quantized, to -1 and +1 or row by row to k bits; gradients are
clipped to 0.25, through 30 steps of time, in batches of 20, with dropout 0.5; plain SGD starts at a
rate of 20, which is divided by 1.2 after each epoch that brings no better validation loss; 80
epochs in full precision, and 80 to quantize.

The paper does not say, and here it is so: the rate falls by the loss of the weights in use, for the
lazy methods the quantized ones; lambda_t grows with every step; weights of +-1 are clipped to
[-1, 1] between steps, the others are not; weights are projected at the end, and nothing is trained
after that. Where the paper chose learning rate and lambda on validation data, `--search` does.

Without a search lambda is such that the strengths lr_t * lambda_t would sum to 6 (+-1) or 10 at a
constant rate. Over one epoch they do; over 80 the rate is divided again and again, and they sum to
less, perhaps a hundredth: each result holds the sum as "strengths", beside the gap that was left to
project. A mean of lambda in its place would be no surer, and too little in one epoch; a lambda that
grows as the rate falls would be another method than the published one.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from proxquant_np import optim, prox
from proxquant_np.data import Text, load_text
from proxquant_np.experiments.bases import Base
from proxquant_np.experiments.experiment import Claim, Experiment
from proxquant_np.experiments.lazy_and_eager import METHODS, Groups, Method
from proxquant_np.experiments.tasks import OF_PERPLEXITY, Task, TextSetting, language_model

EPOCH = 1550  # steps on the Penn Treebank
BITS = (1, 2, 3)
SGD = Base(optim.SGD, divided=1.2)
RATES = {"lr": (2.5, 40.0)}  # the ends of the paper's grid
LAMBDAS = {"mean_lambda": (1e-7, 1e-3)}
# At full length and a rate that stayed at 20, reaches of 0.2 to 2,500. If it is divided by 1.2
# after each of 80 epochs, a hundredth of that is left, 0.002 to 24.
FACTOR = 0.3


@functools.cache
def _text(data: str) -> Text:
    return load_text(data, "word")


def _setting(full_precision: int, quantizing: int) -> TextSetting:
    """So many epochs of the Penn Treebank."""
    return TextSetting(full_precision * EPOCH, quantizing * EPOCH, 0, 20, 30, 0.25)


def _task(title: str, setting: TextSetting, chosen: str) -> Task:
    return Task(
        title=title,
        load=lambda data: _text(data).splits,
        build=functools.partial(language_model, units=300, dropout=0.5),
        chosen=(f"chosen/{chosen}.json",),
        setting=setting,
        quick=replace(setting, full_precision_steps=20, quantizing_steps=20),
        levels="+-1",
        measure="perplexity",
        source=lambda data: {"text": _text(data).source},
        warm_start=replace(SGD, lr=20.0),
    )


class Rescaled(prox.L2):
    """w -> 0.3 P(w), the quantizer of the published rival, for a lazy method.

    The code {sum_j a_j b_j} of fitted a_j holds 0.3 times each of its points, so the weights lie on
    Q, and to project them changes nothing.

    Examples:
        >>> from proxquant_np.experiments.paper_lstm import Rescaled
        >>> Rescaled(pq.prox.MultiBit(1)).prox([-1.0, 3.0], np.inf)
        array([-0.6,  0.6])
    """

    def _prox(self, x, s, out, tmp):
        super()._prox(x, s, out, tmp)
        out *= FACTOR


def _eager(base: Any, groups: Groups, steps: int, reach: float) -> optim.QuantizedOptimizer:
    """As ProxQuant's, but weights are not clipped; `reach` is that of a constant rate, too."""
    homotopy = prox.LinearHomotopy.reaching(reach, base.lr, max(2, steps))
    return optim.ProxGradient(base, [optim.Group(*group, homotopy) for group in groups])


_LAZY = functools.partial(METHODS["binary_connect"].wrap, clip=False)


def _binary(name: str, **default: float) -> Method:
    space = RATES if name == "binary_connect" else RATES | LAMBDAS
    return replace(METHODS[name], default=default, space=space, base=SGD)


def _methods() -> dict[str, Method]:
    methods = {
        "binary_connect": _binary("binary_connect", lr=20.0),
        "prox_quant": _binary("prox_quant", lr=20.0, reach=6.0),
    }
    lazy = replace(_binary("binary_connect", lr=20.0), wrap=_LAZY)
    eager = replace(_binary("prox_quant", lr=20.0, reach=10.0), wrap=_eager)
    for k in BITS:
        code = prox.MultiBit(k, projection="alternating", axis=0)
        bits = f"{k} bit{'s' * (k > 1)} a row"
        label = f"alternating straight-through, {bits}"
        methods |= {
            f"straight_through_{k}": replace(lazy, label=label, regularizer=prox.L2(code)),
            f"straight_through_{k}_rescaled": replace(
                lazy, label=f"{label}, times {FACTOR}", regularizer=Rescaled(code)
            ),
            f"prox_quant_{k}": replace(
                eager, label=f"ProxQuant, {bits}", regularizer=prox.L2(code)
            ),
        }
    return methods


EXPERIMENT = Experiment(
    name="paper_lstm",
    title="Word-level LSTMs at the paper's scale",
    tasks={
        "lstm300": _task("LSTM of 300 units, by word, 80 epochs", _setting(80, 80), "paper_lstm"),
        "lstm300_short": _task(
            "LSTM of 300 units, by word, 2 + 1 epochs", _setting(2, 1), "paper_lstm-short"
        ),
    },
    measured=("lstm300",),
    methods=_methods(),
    claims=(
        Claim(
            "ProxQuant's LSTM of weights +-1 has a lower perplexity than BinaryConnect's",
            "prox_quant",
            "binary_connect",
            "test_perplexity",
            equal=OF_PERPLEXITY,
        ),
        *(
            Claim(
                f"With {k} bit{'s' * (k > 1)} a row ProxQuant is on par with alternating "
                f"straight-through times {FACTOR} (at most {OF_PERPLEXITY.margin:.0%} higher)",
                f"prox_quant_{k}",
                f"straight_through_{k}_rescaled",
                "test_perplexity",
                margin=OF_PERPLEXITY.margin,
            )
            for k in BITS
        ),
        *(
            Claim(
                f"With {k} bit{'s' * (k > 1)} a row ProxQuant has a lower perplexity than "
                "alternating straight-through",
                f"prox_quant_{k}",
                f"straight_through_{k}",
                "test_perplexity",
                equal=OF_PERPLEXITY,
            )
            for k in BITS
        ),
    ),
    seeds=6,
    data="a corpus of three UTF-8 texts, for training, validation and test, such as the Penn "
    "Treebank's: a folder or a tar archive; or one text",
    needs_data=True,
)
