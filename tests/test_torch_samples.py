"""PyTorch's own sample inputs, for every operation that has a name in common: none is wrong, and
those refused are refused for a reason that `proxquant_np.functional` states.

    python tests/test_torch_samples.py

prints how many samples of each operation agree and how many are refused, by reason.
"""

import inspect
import warnings
from collections import Counter

import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import Tensor

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: bench)")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of modules that its test package imports
    samples_of = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations",
        reason="PyTorch's test package does not import (it needs expecttest)",
    )

OTHER_NAMES = {"clamp": "clip", "cat": "concatenate", "__getitem__": "getitem"}
REFLECTED = {
    "__radd__": lambda x, y: y + x,
    "__rdiv__": lambda x, y: y / x,
    "__rmul__": lambda x, y: y * x,
    "__rmatmul__": lambda x, y: y @ x,
    "__rpow__": lambda x, y: y**x,
    "__rsub__": lambda x, y: y - x,
}


def shared():
    """Every operation of PyTorch's database that has a namesake here, and the namesake."""
    for op in samples_of.op_db:
        name = OTHER_NAMES.get(op.name, op.name.removeprefix("nn.functional."))
        ours = REFLECTED.get(name) or (getattr(F, name) if name in F.__all__ else None)
        if ours:
            yield pytest.param(op, ours, id=f"{op.name}.{op.variant_test_name}".strip("."))


def refused(name, args, options):
    """Why a sample is refused; None if it is not."""
    return None


def here(x, leaves):
    """A sample's argument as ours, tensors that require gradients being added to `leaves`."""
    if isinstance(x, torch.Tensor):
        array = x.detach().numpy().copy()
        if not x.requires_grad:
            return Tensor(array)
        leaves.append(Tensor(array, requires_grad=True))
        return leaves[-1]
    if isinstance(x, list | tuple):
        return type(x)(here(part, leaves) for part in x)
    return x


def there(x, leaves):
    """The same as theirs: a leaf of its own."""
    if isinstance(x, torch.Tensor):
        x = x.detach().clone().requires_grad_(x.requires_grad)
        if x.requires_grad:
            leaves.append(x)
        return x
    if isinstance(x, list | tuple):
        return type(x)(there(part, leaves) for part in x)
    return x
def compare(op, ours, sample, dtype):
    a, b = [], []
    args, kw = here((sample.input, *sample.args), a), {k: here(v, a) for k, v in sample.kwargs.items()}
    targs, tkw = there((sample.input, *sample.args), b), {k: there(v, b) for k, v in sample.kwargs.items()}
    z = op.op(*targs, **tkw)
    y = ours(*args, **kw)
    if isinstance(z, tuple): z = z[0]
    assert y.shape == tuple(z.shape), ("shape", y.shape, tuple(z.shape))
    tol = 1e-10 if dtype == torch.float64 else 1e-4
    def close(p, q):
        q = q.detach().numpy()
        assert p.dtype == q.dtype, ("dtype", p.dtype, q.dtype)
        np.testing.assert_allclose(p, q, rtol=tol, atol=tol*np.nan_to_num(np.abs(q), posinf=0).max(initial=0))
    close(y.data, z)
    if z.requires_grad:
        v = np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype)
        y.backward(v); z.backward(torch.from_numpy(v))
        for p, q in zip(a, b, strict=True):
            if q.grad is None: assert p.grad is None or not p.grad.any(), "grad"
            else: close(p.grad if p.grad is not None else np.zeros(p.shape, p.dtype), q.grad)
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for dtype in (torch.float64, torch.float32):
      for param in shared():
        op, ours = param.values
        bad = Counter(); n = 0
        for s in op.sample_inputs("cpu", dtype, requires_grad=True):
            n += 1
            try: compare(op, ours, s, dtype)
            except Exception as e:
                bad[type(e).__name__ + ": " + " ".join(str(e).split())[:150]] += 1
                last = s
        print(param.id, n, sum(bad.values()))
        for k, c in bad.items(): print("     ", c, k)
