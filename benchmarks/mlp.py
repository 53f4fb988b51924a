"""One training step of an MLP, and one scalar addition: here, in PyTorch, MyGrad and HIPS autograd.

    python benchmarks/mlp.py [--rounds N] [--json OUT]

A step is forward (linear layers and ReLU, cross-entropy), backward and Adam, in float32, on one
batch. PyTorch is used as its tutorials do: eager, on the processor, torch.optim.Adam as it comes.
MyGrad and HIPS autograd store weights (in, out), as in their own examples, and get Adam twice: as
their users have it (a line a moment, in MyNN and in autograd.misc), and with our in-place formula,
which shows what of the difference is the optimizer. All start from the same weights, and before the
clock starts every contestant's weights after three steps are compared with PyTorch's.

"Products alone" are the matrix products of a step and nothing else, by the BLAS that all NumPy
libraries here share: no program on top of it can take less.
"""

# ruff: noqa: I001
import harness

import argparse
import functools
import itertools
from collections.abc import Callable, Sequence

import autograd
import autograd.numpy as anp
import mygrad as mg
import numpy as np
import torch
from mygrad.nnet.activations import relu as mg_relu
from mygrad.nnet.losses import softmax_crossentropy

import proxquant_np as pq
import proxquant_np.functional as F

torch.set_num_threads(harness.THREADS)
HERE, PEERS, FLOOR = "proxquant_np", ("PyTorch", "MyGrad", "autograd"), "products alone"
IN_PLACE = ("MyGrad, Adam in place", "autograd, Adam in place")
NETWORKS = {  # widths, batch, most of the peers' time that we may take
    "64-128-128-10, batch 64": ((64, 128, 128, 10), 64, (0.45, 0.5, 0.5)),
    "784-300-100-10, batch 128": ((784, 300, 100, 10), 128, (0.35, 0.5, 0.5)),
    "784-2048-2048-2048-10, batch 100": ((784, 2048, 2048, 2048, 10), 100, (0.7, 0.5, 0.5)),
}
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8

Step = Callable[[], object]
Weights = list[np.ndarray]
Built = tuple[Step, Callable[[], Weights]]
"""A contestant: a training step, and its weights now."""


class InPlaceAdam:
    """Adam for peers without one: the formula of Kingma and Ba 2015, in place, array by array."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.m = [np.zeros_like(w) for w in weights]
        self.v = [np.zeros_like(w) for w in weights]
        self.scratch = [np.empty_like(w) for w in weights]
        self.t = 0

    def step(self, grads: Sequence[np.ndarray]) -> None:
        """w <- w - lr * m_hat / (sqrt(v_hat) + eps)."""
        self.t += 1
        root = (1 - BETA2**self.t) ** 0.5
        rate = LR * root / (1 - BETA1**self.t)
        for w, g, m, v, s in zip(self.weights, grads, self.m, self.v, self.scratch, strict=True):
            m *= BETA1
            m += np.multiply(g, 1 - BETA1, out=s)
            v *= BETA2
            np.multiply(g, g, out=s)
            s *= 1 - BETA2
            v += s
            np.sqrt(v, out=s)
            s += EPS * root
            np.divide(m, s, out=s)
            s *= rate
            w -= s


class PlainAdam(InPlaceAdam):
    """The same, a new array for every operation, as those libraries' users have it."""

    def step(self, grads: Sequence[np.ndarray]) -> None:
        """w <- w - lr * m_hat / (sqrt(v_hat) + eps)."""
        self.t += 1
        for i, (w, g) in enumerate(zip(self.weights, grads, strict=True)):
            self.m[i] = BETA1 * self.m[i] + (1 - BETA1) * g
            self.v[i] = BETA2 * self.v[i] + (1 - BETA2) * g**2
            m_hat, v_hat = self.m[i] / (1 - BETA1**self.t), self.v[i] / (1 - BETA2**self.t)
            w -= LR * m_hat / (np.sqrt(v_hat) + EPS)


def here(weights: Weights, x: np.ndarray, y: np.ndarray) -> Built:
    """This package, by its layers and its optimizer."""
    widths = (x.shape[1], *(b.size for b in weights[1::2]))
    model = pq.models.MLP(widths, batch_norm=False)
    params = list(model.parameters())
    for p, w in zip(params, weights, strict=True):
        p.data[...] = w
    optimizer = pq.optim.Adam(params, LR)
    batch = pq.Tensor(x)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch), y).backward()
        optimizer.step()

    return step, lambda: [p.data for p in params]


def pytorch(weights: Weights, x: np.ndarray, y: np.ndarray) -> Built:
    """PyTorch, by its layers and its optimizer."""
    layers: list[torch.nn.Module] = []
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        layers += [torch.nn.Linear(w.shape[1], w.shape[0]), torch.nn.ReLU()]
        layers[-2].weight.data[...] = torch.from_numpy(w)
        layers[-2].bias.data[...] = torch.from_numpy(b)
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), LR)
    loss = torch.nn.CrossEntropyLoss()
    batch, classes = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> None:
        optimizer.zero_grad()
        loss(model(batch), classes).backward()
        optimizer.step()

    return step, lambda: [p.detach().numpy() for p in model.parameters()]


def mygrad(weights: Weights, x: np.ndarray, y: np.ndarray, adam: type = PlainAdam) -> Built:
    """MyGrad: its tensors, ReLU and softmax cross-entropy; Adam by hand."""
    params = [mg.tensor(w.T.copy()) for w in weights]
    optimizer = adam([p.data for p in params])

    def step() -> None:
        h = x
        for w, b in zip(params[:-2:2], params[1:-2:2], strict=True):
            h = mg_relu(mg.matmul(h, w) + b)
        logits = mg.matmul(h, params[-2]) + params[-1]
        softmax_crossentropy(logits, y).backward()
        optimizer.step([p.grad for p in params])

    return step, lambda: [p.data.T for p in params]


def hips(weights: Weights, x: np.ndarray, y: np.ndarray, adam: type = PlainAdam) -> Built:
    """HIPS autograd: NumPy code and `grad`; Adam by hand."""
    params = [w.T.copy() for w in weights]
    optimizer = adam(params)
    rows = np.arange(len(y))

    def loss(params: Weights) -> object:
        h = x
        for w, b in zip(params[:-2:2], params[1:-2:2], strict=True):
            h = anp.maximum(anp.dot(h, w) + b, 0)
        logits = anp.dot(h, params[-2]) + params[-1]
        logits = logits - anp.max(logits, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(logits), axis=1)) - logits[rows, y])

    gradient = autograd.grad(loss)
    return lambda: optimizer.step(gradient(params)), lambda: [p.T for p in params]


def products(weights: Weights, x: np.ndarray) -> Step:
    """The matrix products of forward and backward, into arrays that exist."""
    matrices = weights[::2]
    layers = [x, *(np.empty((len(x), len(w)), np.float32) for w in matrices)]
    errors = [np.ones_like(h) for h in layers]
    gradients = [np.empty_like(w) for w in matrices]

    def step() -> None:
        for i, w in enumerate(matrices):
            np.matmul(layers[i], w.T, out=layers[i + 1])
        for i in reversed(range(len(matrices))):
            np.matmul(errors[i + 1].T, layers[i], out=gradients[i])
            if i:
                np.matmul(errors[i + 1], matrices[i], out=errors[i])

    return step


def contest(widths: tuple[int, ...], batch: int) -> dict[str, Step]:
    """One step of every contestant on the same data, checked against each other."""
    rng = np.random.default_rng(0)
    weights: Weights = []
    for n_in, n_out in itertools.pairwise(widths):
        weights.append(rng.normal(0, (2 / n_in) ** 0.5, (n_out, n_in)).astype(np.float32))
        weights.append(rng.normal(0, 0.1, n_out).astype(np.float32))
    x = rng.normal(size=(batch, widths[0])).astype(np.float32)
    y = rng.integers(0, widths[-1], batch)
    builders = dict(zip((HERE, *PEERS), (here, pytorch, mygrad, hips), strict=True))
    for name, build in zip(IN_PLACE, (mygrad, hips), strict=True):
        builders[name] = functools.partial(build, adam=InPlaceAdam)
    built = {name: build(weights, x, y) for name, build in builders.items()}
    for step, _ in built.values():
        for _ in range(3):
            step()
    for name, (_, get) in built.items():
        for ours, theirs, start in zip(get(), built["PyTorch"][1](), weights, strict=True):
            # On average: Adam divides by the gradient's size, and a few are nothing but rounding,
            # which with another BLAS kernel than ours is 1.2 % of the largest network's move.
            if np.mean(np.abs(ours - theirs)) > 5e-2 * np.mean(np.abs(theirs - start)):
                raise SystemExit(f"{name} disagrees with PyTorch after three steps")
    return {name: step for name, (step, _) in built.items()} | {FLOOR: products(weights, x)}


def scalar_addition() -> dict[str, Step]:
    """x + 1 and its gradient, x a single number: nothing but overhead."""
    one = np.array(1.0)
    ours, theirs, mine = pq.Tensor(one, True), torch.tensor(1.0, requires_grad=True), mg.tensor(1.0)
    gradient = autograd.grad(lambda x: x + 1.0)

    def step_here() -> None:
        ours.grad = None
        (ours + 1.0).backward()

    def step_pytorch() -> None:
        theirs.grad = None
        (theirs + 1.0).backward()

    def step_mygrad() -> None:
        (mine + 1.0).backward()

    steps = (step_here, step_pytorch, step_mygrad, lambda: gradient(1.0))
    return dict(zip((HERE, *PEERS), steps, strict=True))


def main() -> None:
    """Time everything, print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns for every contestant")
    parser.add_argument("--json", metavar="OUT", help="also write the report to this file")
    args = parser.parse_args()

    where = harness.machine("torch", "mygrad", "autograd")
    print(
        f"{where['processor']}, {harness.THREADS} threads, {args.rounds} rounds",
        *(f"{package} {version}" for package, version in where["versions"].items()),
        sep=", ",
    )
    print(f"our time divided by the peer's, medians of the rounds\n\n{'':34}{'ms':>9}", end="")
    print("".join(f"{name:>18}" for name in PEERS), *IN_PLACE, FLOOR, sep="  ")
    rows = []
    networks = [(name, contest(*spec[:2]), spec[2]) for name, spec in NETWORKS.items()]
    overhead = ("scalar addition", scalar_addition(), (0.5, 0.5))
    for name, steps, targets in [*networks, overhead]:
        times = harness.take_turns(steps, args.rounds)
        ratios = {peer: harness.ratio(times, HERE, peer) for peer in times if peer != HERE}
        medians = {who: float(np.median(t)) for who, t in times.items()}
        best = dict(zip(PEERS, targets, strict=False))
        print(f"{name:34}{1e3 * medians[HERE]:9.4g}", end="")
        for peer, ratio in ratios.items():
            target = f" (<= {best[peer]:.2f})" if peer in best else ""
            print(
                f"{ratio:7.2f}{target:11}" if peer in PEERS else f"{ratio:{len(peer) + 2}.2f}",
                end="",
            )
        print()
        rows.append(dict(task=name, seconds=medians, ratios=ratios, targets=best))
    if args.json:
        harness.write_json(args.json, {"machine": where, "rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
