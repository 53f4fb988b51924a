"""Exchange of parameters with PyTorch, which is imported when `pq.interop.torch` is first named.

Names, shapes and layouts of parameters and buffers are PyTorch's throughout this package, so a
state passes from one to the other under its own names:

    pq.interop.torch.from_torch(model, torch_model.state_dict())
    torch_model.load_state_dict(pq.interop.torch.to_torch(model))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from proxquant_np.checks import check_instance
from proxquant_np.interop.names import as_here
from proxquant_np.nn import Module
from proxquant_np.nn.module import StateKeys


def from_torch(model: Module, state: Mapping[str, Any], strict: bool = True) -> StateKeys:
    """Copy a torch state_dict, on any device and of any float or integer dtype, into the model.

    Names may have the prefix of DataParallel or torch.compile. `num_batches_tracked` may be missing
    (see `names.as_here`), and so may all but one name of a shared parameter.

    Returns:
        The keys that are missing and those that are unexpected, as `Module.load_state_dict`.

    Raises:
        TypeError: a value is not a dense torch tensor with data, but a quantized or sparse one, for
            example, or one on the meta device.
        KeyError, ValueError: as `Module.load_state_dict`.

    Examples:
        >>> import torch
        >>> theirs, ours = torch.nn.Linear(3, 2), pq.nn.Linear(3, 2)
        >>> pq.interop.torch.from_torch(ours, theirs.state_dict())
        <All keys matched successfully>
        >>> np.array_equal(ours.weight.data, theirs.weight.detach().numpy())
        True
    """
    arrays = {name: _array(name, value) for name, value in state.items()}
    return model.load_state_dict(as_here(model, arrays), strict)


def _array(name: str, value: Any) -> np.ndarray:
    check_instance(name, value, torch.Tensor, "a torch.Tensor")
    dense = value.layout == torch.strided and not value.is_quantized and not value.is_meta
    if not dense or value.is_nested:
        kind = (
            "quantized" if value.is_quantized else value.device if value.is_meta else value.layout
        )
        raise TypeError(
            f"{name} must be a dense tensor with data, got one of {value.dtype}, {kind}; "
            "dequantize() and to_dense() make one"
        )
    value = value.detach().cpu()
    try:
        wide = value.dtype in (torch.float32, torch.float64) or not value.is_floating_point()
        return (value if wide else value.float()).resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:  # NumPy lacks the dtype
        raise TypeError(f"{name} has dtype {value.dtype}, which cannot be read: {error}") from error


def to_torch(model: Module) -> dict[str, torch.Tensor]:
    """The model's state_dict as torch tensors on the CPU that share no memory with it.

    Examples:
        >>> import torch
        >>> theirs, ours = torch.nn.Linear(3, 2), pq.nn.Linear(3, 2)
        >>> theirs.load_state_dict(pq.interop.torch.to_torch(ours))
        <All keys matched successfully>
    """
    return {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
