"""Modules that hold other modules in order."""

from __future__ import annotations

import copy
from collections.abc import Iterable, MutableSequence
from typing import Any

from proxquant_np.autograd import Tensor
from proxquant_np.nn.module import Module


class ModuleList(Module, MutableSequence):
    """A list of modules, named "0", "1", ...; they are trained and saved, but you call them.

    It supports everything that a list does (append, insert, slices, ...); a slice is a ModuleList
    of the same modules. A plain list would hide its modules, so `Module` refuses it.

    Raises:
        TypeError: an entry cannot be called, or is a class instead of an instance.

    Examples:
        >>> layers = pq.nn.ModuleList(pq.nn.Linear(8, 8) for _ in range(3))
        >>> layers.append(pq.nn.Linear(8, 2))
        >>> len(layers), [name for name, _ in layers[2:].named_parameters()]
        (4, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._hold(modules)

    def _held(self) -> list[Module]:
        return [value for name, value in vars(self).items() if name.isdecimal()]

    def _hold(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        for i, module in enumerate(modules):
            if isinstance(module, type) or not callable(module):
                of_class = isinstance(module, type)
                what = f"the class {module.__name__}" if of_class else f"a {type(module).__name__}"
                raise TypeError(f"modules must be Modules, got {what} at position {i}")
        for name in [name for name in vars(self) if name.isdecimal()]:
            delattr(self, name)
        for i, module in enumerate(modules):
            setattr(self, str(i), module)

    def __iter__(self):
        return iter(self._held())

    def __len__(self) -> int:
        return len(self._held())

    def __getitem__(self, i: int | slice) -> Module:
        found = self._held()[i]
        if not isinstance(i, slice):
            return found
        part = copy.copy(self)
        part._hold(found)
        return part

    def __setitem__(self, i: int | slice, module: Any) -> None:
        modules = self._held()
        modules[i] = module
        self._hold(modules)

    def __delitem__(self, i: int | slice) -> None:
        modules = self._held()
        del modules[i]
        self._hold(modules)

    def __add__(self, others: Iterable[Module]) -> ModuleList:
        joined = self[:]
        joined.extend(others)
        return joined

    def insert(self, i: int, module: Module) -> None:
        """Insert the module before the i-th."""
        self[i:i] = [module]


class Sequential(ModuleList):
    """Layers applied one after another, named "0", "1", ...; otherwise a `ModuleList`.

    A slice is a Sequential of the same layers, which keep their names, as in PyTorch.

    Examples:
        >>> net = pq.nn.Sequential(pq.nn.Linear(4, 8), pq.nn.ReLU(), pq.nn.Linear(8, 2))
        >>> net(pq.Tensor(np.ones((5, 4), np.float32))).shape
        (5, 2)
        >>> list(net.state_dict())
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    def __getitem__(self, i: int | slice) -> Module:
        if not isinstance(i, slice):
            return super().__getitem__(i)
        part, names = copy.copy(self), [name for name in vars(self) if name.isdecimal()]
        for name in names:
            delattr(part, name)
        for name in names[i]:
            setattr(part, name, getattr(self, name))
        return part

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers."""
        for layer in self:
            x = layer(x)
        return x
