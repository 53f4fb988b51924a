"""The paper's networks learn: ResNet-20 on CIFAR-10 images, the LSTM on a text; no peers.

    python benchmarks/learn.py resnet CIFAR10 [--images N] [--epochs N] [--json OUT]
    python benchmarks/learn.py lstm [TEXT] [--epochs N] [--json OUT]

CIFAR10 is what `load_cifar10` reads, TEXT what `load_text` reads (by default the text inside
Python). Training is `fit` with Adam, batches of 128 augmented images, or 20 columns of 35
characters, and a learning rate that falls linearly to 0. An epoch is a line: mean training loss,
then the loss and the error, or the perplexity, on 1,000 validation images or the validation text.
Seconds a step are the median over all steps, which leaves out the validation.
"""

# ruff: noqa: I001
import harness

import argparse
import time
from typing import Any

import numpy as np

import proxquant_np as pq
from proxquant_np.data import Split, load_cifar10, load_text
from proxquant_np.data.cifar10 import augment, normalize
from proxquant_np.training import fit
from proxquant_np.training.metrics import Evaluation

pq.set_num_threads(harness.THREADS)


def prepare(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Augmentation as usual: pad 4, random crop, random flip."""
    return normalize(augment(images, rng))


def resnet(source: str, images: int) -> dict[str, Any]:
    """What `fit` needs to train ResNet-20."""
    x, y = load_cifar10(source).train
    validation = Split(normalize(x[images : images + 1000]), y[images : images + 1000])
    return dict(
        model=pq.models.ResNet(20, rng=0),
        train=Split(x[:images], y[:images]),
        validation=validation,
        batch_size=128,
        prepare=prepare,
        what=f"ResNet-20, {images} images of CIFAR-10",
    )


def lstm(source: str | None) -> dict[str, Any]:
    """What `fit` needs to train a language model of 300 units, as many as the paper's."""
    text = load_text(source)
    return dict(
        model=pq.models.LSTMLanguageModel(len(text.vocabulary), 300, 300, rng=0),
        train=text.splits.train,
        validation=text.splits.validation,
        batch_size=20,
        length=35,
        max_norm=5.0,
        what=f"LSTM of 300 units, characters of {text.source}",
    )


def learn(model: pq.nn.Module, what: str, epochs: int, lr: float, **arguments: Any) -> dict:
    """Train, print the epochs, return them."""
    per_epoch = len(arguments["train"].x) // arguments["batch_size"]
    if length := arguments.get("length"):
        per_epoch = -(-per_epoch // length)
    steps, began = epochs * per_epoch, []

    def schedule(step: int) -> float:
        began.append(time.perf_counter())
        return lr * (1 - step / steps)

    optimizer = pq.optim.Adam(model.parameters(), lr)
    history = fit(model, optimizer, steps=steps, schedule=schedule, **arguments).to_dict()["epochs"]
    seconds = float(np.median(np.diff(began)))
    print(f"{what}; {sum(p.size for p in model.parameters()):,} parameters, {steps} steps")
    print(f"{seconds:.3f} s a step\n\n{'epoch':>5}{'loss':>9}{'validation':>13}", end="")
    print(f"{'perplexity' if length else 'error':>13}")
    curves = zip(
        *(history[k] for k in ("loss", "validation_loss", "validation_error")), strict=True
    )
    for epoch, (loss, *measured) in enumerate(curves, 1):
        found = Evaluation(*measured)
        shown = f"{found.perplexity:13.3f}" if length else f"{found.error:13.1%}"
        print(f"{epoch:5}{loss:9.4f}{found.loss:13.4f}{shown}")
    names = ("loss", "validation_loss", "validation_error")
    return dict(what=what, seconds_per_step=seconds, epochs={k: history[k] for k in names})


def main() -> None:
    """Train one of the two, print its curve, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=("resnet", "lstm"))
    parser.add_argument("source", nargs="?", help="CIFAR-10's folder or archive; a text")
    parser.add_argument("--images", type=int, default=5000, help="of CIFAR-10, to train on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=3e-3, help="Adam's, at the start")
    parser.add_argument("--json", metavar="OUT", help="also write the report to this file")
    args = parser.parse_args()
    if args.network == "resnet" and args.source is None:
        parser.error("resnet needs CIFAR-10's folder or archive")

    where = harness.machine()
    print(f"{where['processor']}, {harness.THREADS} threads, numpy {where['versions']['numpy']}\n")
    task = resnet(args.source, args.images) if args.network == "resnet" else lstm(args.source)
    report = learn(epochs=args.epochs, lr=args.lr, **task)
    if args.json:
        harness.write_json(args.json, {"machine": where, **report})


if __name__ == "__main__":
    main()
