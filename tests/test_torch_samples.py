"""PyTorch's own sample inputs, for every operation that has a name in common: none is wrong, and
those refused are refused for a reason that `proxquant_np.functional` states.

    python tests/test_torch_samples.py

prints how many samples of each operation agree and how many are refused, by reason.
"""

import warnings
from collections import Counter

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import Tensor

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: bench)")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what its test package imports
    database = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations",
        reason="PyTorch's test package does not import (it needs expecttest)",
    ).op_db

OTHER_NAMES = {"clamp": "clip", "cat": "concatenate", "__getitem__": "getitem"}
REORDERED = {  # the database has one tensor first for each
    "where": lambda input, condition, other: F.where(condition, input, other),
    "embedding": lambda weight, input, **options: F.embedding(input, weight, **options),
}
REFLECTED = {
    "__radd__": lambda x, y: y + x,
    "__rdiv__": lambda x, y: y / x,
    "__rmul__": lambda x, y: y * x,
    "__rmatmul__": lambda x, y: y @ x,
    "__rpow__": lambda x, y: y**x,
    "__rsub__": lambda x, y: y - x,
}


def shared():
    """(operation of PyTorch's database, its namesake here) for every one that has one."""
    for op in database:
        name = OTHER_NAMES.get(op.name, op.name.removeprefix("nn.functional."))
        ours = (REORDERED | REFLECTED).get(name) or (name in F.__all__ and getattr(F, name))
        if ours:
            yield pytest.param(op, ours, id=f"{op.name}.{op.variant_test_name}".strip("."))


FLAGS = ("return_indices", "scale_grad_by_freq", "sparse")  # refused unless False
OPTIONS = (*FLAGS, "dtype", "rounding_mode", "unbiased", "padding_idx", "max_norm")


def reason(name, sample):
    """What a sample asks for that the table in `functional` refuses; None if nothing."""
    x, args, options = sample.input, sample.args, sample.kwargs
    if name in ("max", "min") and args and isinstance(args[0], torch.Tensor):
        return "two tensors"
    if name == "var" and any(isinstance(a, bool) for a in args):
        return "unbiased"
    if name == "pad" and len(args) > 1 and args[1] != "constant":
        return f"mode {args[1]}"
    if name == "cat" and {t.ndim for t in x} == {1, 2}:
        return "empty vectors among matrices"
    if name == "batch_norm" and x.ndim < 2:
        return "input without a channel axis"
    if name == "batch_norm" and not 0 <= options.get("momentum", 0.1) <= 1:
        return "momentum"
    if name in ("mean", "var") and x.numel() == 0:
        return "nothing to average"
    given = [k for k, v in options.items() if k in OPTIONS and (k not in FLAGS or v)]
    return ", ".join(given) or None


def copied(x, leaf, leaves):
    """A sample's argument with its tensors replaced by leaf(tensor), those added to `leaves`."""
    if isinstance(x, torch.Tensor):
        x, requires_grad = leaf(x.detach().clone(), x.requires_grad), x.requires_grad
        leaves += [x] * requires_grad
        return x
    if isinstance(x, list | tuple):
        return type(x)(copied(part, leaf, leaves) for part in x)
    return x


def call(function, sample, leaf, **more):
    """The result and the leaves."""
    leaves = []
    args = copied((sample.input, *sample.args), leaf, leaves)
    options = {k: copied(v, leaf, leaves) for k, v in sample.kwargs.items()} | more
    return function(*args, **options), leaves


def here(ours, name, sample):
    """The same here, with a generator for what draws, without flags that are off."""
    more = {"rng": np.random.default_rng(0)} if name == "dropout" else {}
    sample.kwargs = {k: v for k, v in sample.kwargs.items() if k not in FLAGS or v}
    return call(ours, sample, lambda t, grad: Tensor(t.numpy(), requires_grad=grad), **more)


def agree(found, wanted):
    """Equal to rounding, NaN and infinities included, in shape and in dtype."""
    wanted = wanted.detach().numpy()
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    rtol, floor = (1e-4, 1e-6) if wanted.dtype == np.float32 else (1e-10, 1e-12)
    size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * size + floor)


def check(op, ours, sample):
    """Value and gradients; of what draws, that each entry is 0 or what is due."""
    name = op.name.removeprefix("nn.functional.")
    z, theirs = call(op.op, sample, lambda t, grad: t.requires_grad_(grad))
    z = z[0] if isinstance(z, tuple) else z  # max and min: (values, indices)
    if name == "dropout" and sample.kwargs.get("training", True) and sample.kwargs.get("p", 0.5):
        (y, _), p = here(ours, name, sample), sample.kwargs.get("p", 0.5)
        due = sample.input.detach().numpy() / max(1 - p, 1e-9)
        assert (y.shape, y.data.dtype) == (tuple(z.shape), due.dtype)
        assert (np.isclose(y.data, due) & (p < 1) | (y.data == 0)).all()
        return
    y, mine = here(ours, name, sample)
    agree(y.data, z)
    assert y.requires_grad == z.requires_grad
    if z.requires_grad:
        v = np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype)
        y.backward(v)
        z.backward(torch.from_numpy(v))
        for a, b in zip(mine, theirs, strict=True):
            zero = torch.zeros_like(b)
            agree(zero.numpy() if a.grad is None else a.grad, zero if b.grad is None else b.grad)


WORDS = {  # of the refusal, where the argument has no name of its own
    "two tensors": "two tensors use F.",
    "empty vectors among matrices": "tensors must have the same number of axes",
    "input without a channel axis": "input must have shape",
}


def outcome(op, ours):
    """How many samples agree (None), and how many are refused for each reason."""
    counts, name = Counter(), op.name.removeprefix("nn.functional.")
    for dtype, requires_grad in (("float64", True), ("float64", False), ("float32", True)):
        kind = getattr(torch, dtype)
        for sample in op.sample_inputs("cpu", kind, requires_grad=requires_grad):
            why = reason(name, sample)
            counts[why] += 1
            if why is None:
                check(op, ours, sample)
                continue
            word = WORDS.get(why, why.replace(", ", "|").split()[0])
            if why == "unbiased" and "unbiased" not in sample.kwargs:
                word = "dim must be an axis"
            with pytest.raises((TypeError, ValueError), match=word):
                here(ours, name, sample)
    return counts


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of deprecated arguments
@pytest.mark.parametrize(("op", "ours"), list(shared()))
def test_samples_agree_or_are_refused_by_name(op, ours):
    assert outcome(op, ours)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    total = Counter()
    for param in shared():
        counts = outcome(*param.values)
        total += counts
        right, others = counts.pop(None, 0), "; ".join(f"{n} {k}" for k, n in counts.items())
        print(f"| {param.id} | {right} | {others} |")
    print(f"| all | {total.pop(None)} | {total.total()} |")
