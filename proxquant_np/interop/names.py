"""How the names in a state_dict from elsewhere are matched to those of a model here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxquant_np.nn import BatchNorm1d, Module

_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and the like; of torch.compile


def as_here(model: Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """The same entries, without the prefix that a wrapper put before all names.

    If the state has a batch norm's statistics but no `num_batches_tracked`, as before PyTorch
    0.4.1, the model's own is kept. It is required only where it matters, with `momentum=None`.

    Examples:
        >>> norm = pq.nn.BatchNorm1d(2)
        >>> state = {"module.running_mean": np.zeros(2), "module.running_var": np.ones(2)}
        >>> list(pq.interop.names.as_here(norm, state))
        ['running_mean', 'running_var', 'num_batches_tracked']
    """
    own, state = model.state_dict(), dict(state)
    for prefix in [p for p in 2 * _WRAPPERS if not any(name.startswith(p) for name in own)]:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, BatchNorm1d) and module.momentum is not None:
            if f"{prefix}running_mean" in state:
                state.setdefault(f"{prefix}num_batches_tracked", module.num_batches_tracked)
    return state
