"""Exchange of parameters with PyTorch, which is imported when `pq.interop.torch` is first named.

Names, shapes and layouts of parameters and buffers are PyTorch's throughout this package, so a
state passes from one to the other under its own names:

    pq.interop.torch.from_torch(model, torch_model.state_dict())
    torch_model.load_state_dict(pq.interop.torch.to_torch(model))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from proxquant_np.nn import Module


def from_torch(model: Module, state: Mapping[str, Any], strict: bool = True) -> None:
    """Copy a torch state_dict, on any device and of any dtype, into the model.

    Raises:
        TypeError: a value that is not a torch tensor.
        KeyError, ValueError: as `Module.load_state_dict`.

    Examples:
        >>> import torch
        >>> theirs, ours = torch.nn.Linear(3, 2), pq.nn.Linear(3, 2)
        >>> pq.interop.torch.from_torch(ours, theirs.state_dict())
        >>> np.array_equal(ours.weight.data, theirs.weight.detach().numpy())
        True
    """
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    values = {name: value.detach().cpu() for name, value in state.items()}
    half = (torch.float16, torch.bfloat16)  # NumPy knows no bfloat16
    arrays = {n: (v.float() if v.dtype in half else v).numpy() for n, v in values.items()}
    model.load_state_dict(arrays, strict)


def to_torch(model: Module) -> dict[str, torch.Tensor]:
    """The model's state_dict as torch tensors on the CPU, which share no memory with it.

    Examples:
        >>> import torch
        >>> theirs, ours = torch.nn.Linear(3, 2), pq.nn.Linear(3, 2)
        >>> theirs.load_state_dict(pq.interop.torch.to_torch(ours))
        <All keys matched successfully>
    """
    return {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
