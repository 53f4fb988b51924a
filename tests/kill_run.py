"""A small training run that test_fit.py and benchmarks/kills.py interrupt, by signals or by asking
for fewer steps.

python kill_run.py CASE CHECKPOINT prints the number of each step as it begins, waits for a line as
long as its input is open, and at the end prints a digest of everything that the run left behind.
"""

import hashlib
import json
import sys

import numpy as np

from proxquant_np import models, nn, optim, prox
from proxquant_np.data import Split
from proxquant_np.training import fit

STEPS = 150  # of a whole run: 11 epochs of 13 steps and a part
OPTIMIZERS = {
    "sgd": lambda model, weights: optim.SGD(model.parameters(), 0.05, momentum=0.9),
    "adam": lambda model, weights: optim.Adam(model.parameters(), 0.01),
    "dual_averaging": lambda model, weights: optim.DualAveraging(
        optim.Adam(model.parameters(), 0.01), weights, prox.BinaryL1()
    ),
    "prox_gradient": lambda model, weights: optim.ProxGradient(
        optim.SGD(model.parameters(), 0.05, momentum=0.9),
        weights,
        prox.BinaryL2(),
        prox.Linear(0.01),
        clip=True,
    ),
}
EVERY = {
    **OPTIMIZERS,
    "plain_sgd": lambda model, weights: optim.SGD(model.parameters(), 0.05),
    "nesterov": lambda model, weights: optim.SGD(
        model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3, nesterov=True
    ),
    "bop": lambda model, weights: optim.Bop(optim.Adam(model.parameters(), 0.01), weights, 1e-3),
    "binary_relax": lambda model, weights: optim.DualAveraging(
        optim.SGD(model.parameters(), 0.05, momentum=0.9),
        weights,
        prox.BinaryRelax(prox.TernaryL2()),
        prox.Geometric(1.0, 1.05),
        clip=True,
    ),
    "parq": lambda model, weights: optim.DualAveraging(
        optim.Adam(model.parameters(), 0.01),
        weights,
        prox.Parq(prox.MultiBitL2(2)),
        prox.Linear.to(20.0, 100),
    ),
    "prox_adam_multibit": lambda model, weights: optim.ProxGradient(
        optim.Adam(model.parameters(), 0.01), weights, prox.MultiBitL2(2), prox.Linear(0.01)
    ),
}


def network(seed=0):
    """Batch norm has running statistics, dropout a generator: both are state of the run."""
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        nn.Linear(6, 9, rng=rng),
        nn.BatchNorm1d(9),
        nn.ReLU(),
        nn.Dropout(0.2, rng=seed),
        nn.Linear(9, 3, rng=rng),
    )


def examples(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return Split(x, (x @ rng.normal(size=(6, 3))).argmax(1))


TRAIN, VALIDATION = examples(65, 0), examples(20, 1)


def stream(n, seed):
    """Tokens 0..4, each a little more likely to be followed by the next one."""
    rng = np.random.default_rng(seed)
    tokens = (np.arange(n + 1) + rng.integers(0, 3, n + 1)) % 5
    return Split(tokens[:-1], tokens[1:])


TEXT, TEXT_VALIDATION = stream(258, 0), stream(40, 1)  # columns of 51: 12 chunks of 4 and one of 3


def start(case):
    """A network and its optimizer, as at step 0; case "text" is a language model."""
    if case == "text":
        model = models.LSTMLanguageModel(5, 4, 4, 2, dropout=0.2, rng=0)
        case = "prox_gradient"
    else:
        model = network()
    return model, EVERY[case](model, nn.quantizable_parameters(model))


def run(case, prepared=lambda optimizer: None, **arguments):
    """Train from the start, or from `checkpoint`; (model, optimizer, history)."""
    model, optimizer = start(case)
    prepared(optimizer)
    text = {"validation": TEXT_VALIDATION, "length": 4, "max_norm": 0.2} if case == "text" else {}
    arguments = {"steps": STEPS, "batch_size": 5, "validation": VALIDATION, **text, **arguments}
    history = fit(model, optimizer, TEXT if text else TRAIN, progress=False, **arguments)
    return model, optimizer, history


def digest(model, optimizer, history):
    """A hash of weights, statistics, optimizer, latent, generator, history, validation numbers."""
    hashed = hashlib.sha256()
    for name, value in (*model.state_dict().items(), *optimizer.state_dict().items()):
        value = np.asarray(value)
        hashed.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    rest = (
        [z.tolist() for z in getattr(optimizer, "latent", [])],
        next(m.rng for _, m in model.named_modules() if hasattr(m, "rng")).bit_generator.state,
        history.to_dict(),
    )
    hashed.update(json.dumps(rest, sort_keys=True, allow_nan=False).encode())
    return hashed.hexdigest()


def decay(step):
    return 0.05 / (1 + 0.02 * step)


def announce(optimizer):
    """Let each step say its number and wait for an answer. The schedule could not: `fit` also asks
    it about other steps than the one that begins."""
    state, step = optimizer.state_dict, optimizer.step

    def announced():
        print(np.max(state().get("homotopy_step", state().get("steps"))), flush=True)
        sys.stdin.readline()  # returns at once when there is nobody left to answer
        step()

    optimizer.step = announced


if __name__ == "__main__":
    case, checkpoint = sys.argv[1:]
    arguments = {"checkpoint": checkpoint, "checkpoint_every": 3, "schedule": decay}
    print(digest(*run(case, announce, **arguments)))
