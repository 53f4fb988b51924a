"""Modules, their parameters and state, and which parameters are quantized."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.autograd import Tensor, mark_changed
from proxquant_np.checks import check_callable
from proxquant_np.libraries import as_array, is_array, moved


class Parameter(Tensor):
    """A tensor that an optimizer trains: a leaf over its own C-contiguous copy of the data.

    `path` is the path under which a network last listed it, for error messages.

    Examples:
        >>> pq.nn.Parameter([1.0, 2.0])
        Tensor([1., 2.], dtype=float64, requires_grad=True)
    """

    __slots__ = ("path",)

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        data = as_array(_array(data))
        super().__init__(np.array(data, order="C", like=data), requires_grad)
        self.path = ""


class StateKeys(NamedTuple):
    """The keys that a state lacks and has in excess, as PyTorch's `load_state_dict` returns them.

    Examples:
        >>> layer = pq.nn.Linear(2, 3)
        >>> layer.load_state_dict({"weight": layer.weight, "scale": 1.0}, strict=False)
        StateKeys(missing_keys=['bias'], unexpected_keys=['scale'])
    """

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not any(self):
            return "<All keys matched successfully>"
        return "StateKeys(missing_keys={}, unexpected_keys={})".format(*self)


class Module:
    """A function with parameters. Subclasses assign Parameters and Modules as attributes.

    There is no registry: a module's contents are its attributes, in the order of assignment, and
    a parameter's name is the path of attributes that leads to it, as in PyTorch. Modules and
    parameters in a list, tuple, dict or set would be neither trained nor saved, so such a container
    is refused (TypeError) when it is found; use `ModuleList`, `Sequential`, or one attribute for
    each. Modules and parameters that are attributes of the class are refused, too. `buffers` names
    the attributes that are arrays which no optimizer trains (running statistics); `quantizable`
    names the parameters that quantized training quantizes.

    Examples:
        >>> class Scale(pq.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = pq.nn.Parameter([2.0])
        ...     def forward(self, x):
        ...         return self.factor * x
        ...
        >>> scale = Scale()
        >>> scale(np.array([3.0])).numpy(), dict(scale.named_parameters())
        (array([6.]), {'factor': Tensor([2.], dtype=float64, requires_grad=True)})
    """

    training = True
    buffers: tuple[str, ...] = ()
    quantizable: tuple[str, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, value in vars(cls).items():
            if isinstance(value, Module | Parameter) or _hides_modules(value):
                raise TypeError(
                    f"{cls.__name__}.{name} is an attribute of the class, which all instances "
                    "would share and none would train or save: assign it to self in __init__"
                )

    def forward(self, *inputs: Any) -> Tensor:
        """Compute the output; subclasses define this method, and users call the module itself."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *inputs: Any) -> Tensor:
        return self.forward(*inputs)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each with its path.

        Examples:
            >>> net = pq.nn.Sequential(pq.nn.Linear(2, 3), pq.nn.ReLU())
            >>> [(path, type(module).__name__) for path, module in net.named_modules()]
            [('', 'Sequential'), ('0', 'Linear'), ('1', 'ReLU')]
        """
        yield prefix, self
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield from value.named_modules(f"{prefix}.{name}" if prefix else name)
            elif _hides_modules(value):
                raise TypeError(
                    f"{f'{prefix}.' * bool(prefix)}{name} is a {type(value).__name__} that holds "
                    "modules or parameters, which would be neither trained nor saved there: use a "
                    "ModuleList, or one attribute for each"
                )

    def _named(self) -> Iterator[tuple[str, Module, str]]:
        """Path, owner and attribute of every parameter and buffer; shared ones once per path."""
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) or name in module.buffers:
                    yield f"{prefix}.{name}" if prefix else name, module, name

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its (first) path.

        Examples:
            >>> net = pq.nn.Sequential(pq.nn.Linear(2, 3), pq.nn.ReLU())
            >>> [(path, p.shape) for path, p in net.named_parameters()]
            [('0.weight', (3, 2)), ('0.bias', (3,))]
        """
        seen = set()
        for path, module, name in self._named():
            value = getattr(module, name)
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                value.path = path
                yield path, value

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (p for _, p in self.named_parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers, by path.

        Examples:
            >>> sorted(pq.nn.BatchNorm1d(3).state_dict())
            ['bias', 'num_batches_tracked', 'running_mean', 'running_var', 'weight']
        """
        return {path: _array(getattr(module, name)).copy() for path, module, name in self._named()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> StateKeys:
        """Copy the arrays of `state` into the parameters and buffers of the same path.

        Everything is checked before anything is written. Values are cast to the present dtype. Of
        the paths of a shared parameter, one is enough.

        Returns:
            The missing and the unknown paths; none with `strict`.

        Raises:
            KeyError: with `strict`, a path is missing or unknown.
            ValueError: an array has the wrong shape, or NaN or infinite entries; or one parameter
                is given unequal arrays.
            TypeError: values are of another kind (integers may stand for floats).

        Examples:
            >>> a, b = pq.nn.Linear(2, 3, rng=0), pq.nn.Linear(2, 3, rng=1)
            >>> b.load_state_dict(a.state_dict())
            <All keys matched successfully>
            >>> np.array_equal(a.weight.data, b.weight.data)
            True
        """
        _check_mapping(state)
        values = {path: getattr(module, name) for path, module, name in self._named()}
        own = {path: _array(value) for path, value in values.items()}
        # For a shared array, any path that the state has stands for all of them.
        first = {id(array): path for path, array in reversed(own.items()) if path in state}
        own = {p: a for p, a in own.items() if p in state or id(a) not in first}
        checked = check_state(self, state, own, strict)
        for path, value in checked.items():
            other = first[id(own[path])]
            if not np.array_equal(checked[other], value):
                raise ValueError(f"{other} and {path} are one parameter, but differ in the state")
        for path, value in checked.items():
            own[path][...] = value
        written = {id(values[path]) for path in checked}
        mark_changed(p for p in self.parameters() if id(p) in written)
        missing = [path for path in own if path not in checked]
        return StateKeys(missing, [path for path in state if path not in own])

    def to(self, function: Callable[[np.ndarray], np.ndarray]) -> Module:
        """Replace the array of every parameter and buffer by `function` of it; returns self.

        This moves a network from one array library to another: `model.to(cupy.asarray)` onto a GPU,
        `model.to(cupy.asnumpy)` back. Parameters stay the same objects, so an existing optimizer
        still steps them (its own state does not move); their gradients are dropped. If the function
        fails for one array, nothing moves.

        Raises:
            TypeError: the function does not return an array.
            ValueError: the function changes a shape or a dtype.

        Examples:
            >>> model = pq.models.MLP((4, 8, 2)).to(np.copy)
            >>> type(model.layers[0].weight.data)
            <class 'numpy.ndarray'>
        """
        check_callable("function", function, "a function from array to array")
        places = [
            (path, module, name, getattr(module, name)) for path, module, name in self._named()
        ]
        moved = {}  # by identity, since parameters may be shared
        for path, _, _, value in places:
            if id(value) not in moved:
                old = _array(value)
                new = moved[id(value)] = function(old)
                if not is_array(new):
                    raise TypeError(f"function must return an array, got {type(new).__name__}")
                if (new.shape, new.dtype) != (old.shape, old.dtype):
                    raise ValueError(
                        f"function must keep the shape {old.shape} and the dtype {old.dtype} of "
                        f"{path}, got {new.shape} and {new.dtype}"
                    )
        for _, module, name, value in places:
            if isinstance(value, Parameter):
                value.data, value.grad = moved[id(value)], None
            else:
                setattr(module, name, moved[id(value)])
        mark_changed(self.parameters())
        return self

    def train(self, mode: bool = True) -> Module:
        """Set training mode (evaluation mode with False) for this module and all below it."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Set evaluation mode for this module and all below it.

        Examples:
            >>> net = pq.nn.Sequential(pq.nn.Dropout(0.5))
            >>> net.eval().training, net(pq.Tensor([1.0, 1.0])).numpy()
            (False, array([1., 1.]))
        """
        return self.train(False)

    def __repr__(self) -> str:
        from proxquant_np.nn.summary import table  # imported here because it imports this file

        return table(self)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for p in self.parameters():
            p.grad = None


_CONTAINERS = (list, tuple, dict, set, frozenset, deque)


def _hides_modules(value: Any) -> bool:
    """Whether value is a container that holds modules or parameters, at any depth."""
    if not isinstance(value, _CONTAINERS):
        return False
    left, seen = [value], set()
    while left:
        parts = left.pop()
        if id(parts) not in seen:
            seen.add(id(parts))
            parts = parts.values() if isinstance(parts, dict) else parts
            kinds = set(map(type, parts))  # few, however many parts there are
            if any(issubclass(kind, Module | Parameter) for kind in kinds):
                return True
            if any(issubclass(kind, _CONTAINERS) for kind in kinds):
                left += [part for part in parts if isinstance(part, _CONTAINERS)]
    return False


def _array(value: Any) -> np.ndarray:
    return value.data if isinstance(value, Tensor) else value


def _check_mapping(state: Any) -> None:
    if not isinstance(state, Mapping):  # a state may be large, so only its type is shown
        raise TypeError(f"state must be a mapping by name, got {type(state).__name__}")


def check_state(
    owner: object, state: Mapping[str, Any], own: Mapping[str, Any], strict: bool = True
) -> dict[str, np.ndarray]:
    """The entries of `state` that `own` has, checked and cast to the dtypes in `own`.

    Errors are those of `Module.load_state_dict`. Integers are counts, so negative ones are refused.
    """
    _check_mapping(state)
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    if strict and (missing or unknown):
        hints = {name: difflib.get_close_matches(name, own, 1) for name in unknown}
        raise KeyError(
            f"state does not fit {type(owner).__name__}: missing {missing}, unknown "
            + str([u + (f" (did you mean {h[0]}?)" if h else "") for u, h in hints.items()])
        )
    checked = {}
    for name in [name for name in own if name in state]:
        mine, value = as_array(own[name]), as_array(_array(state[name]))
        if value.shape != mine.shape:
            raise ValueError(f"{name} must have shape {mine.shape}, got {value.shape}")
        if not np.can_cast(value.dtype, mine.dtype, "same_kind"):
            raise TypeError(f"{name} must have dtype {mine.dtype} or similar, got {value.dtype}")
        with np.errstate(over="ignore"):
            value = value.astype(mine.dtype)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite entries")
        if value.dtype.kind == "i" and (value < 0).any():
            raise ValueError(f"{name} is a count and must be >= 0, got {value.min()}")
        # Files hold NumPy arrays, which move to wherever the network is.
        there = not isinstance(mine, np.ndarray) and isinstance(value, np.ndarray)
        checked[name] = np.asarray(value, like=mine) if there else value
    return checked


def beside(x: np.ndarray, parameters: Iterable[Tensor]) -> np.ndarray:
    """A batch moved to where the parameters are; but integers stay NumPy's, because the operations
    that take them check them, which would wait for a device, before they move them.

    Examples:
        >>> from proxquant_np.nn.module import beside
        >>> x = np.ones((5, 4), np.float32)
        >>> beside(x, pq.models.MLP((4, 8, 2)).parameters()) is x
        True
    """
    first = next(iter(parameters), None)
    stays = first is None or not is_array(x) or x.dtype.kind != "f"
    return x if stays else moved(x, first.data)


def quantizable_parameters(
    model: Module, first: bool = True, last: bool = True
) -> dict[str, Parameter]:
    """The parameters that quantized training quantizes, by path.

    These are the weights of linear, convolution, embedding and recurrent layers, never biases,
    normalization parameters or the projections on a residual network's shortcuts. `first=False`
    omits those of the first such layer and `last=False` those of the last, which many papers keep
    in full precision. A parameter shared by two layers is listed once, and omitted with either.

    Examples:
        >>> model = pq.models.MLP((64, 32, 10))
        >>> list(pq.quantizable_parameters(model))
        ['layers.0.weight', 'layers.3.weight']
        >>> list(pq.quantizable_parameters(model, last=False))
        ['layers.0.weight']
    """
    layers = [(prefix, module) for prefix, module in model.named_modules() if module.quantizable]
    excluded = ([] if first else layers[:1]) + ([] if last else layers[-1:])
    seen = {id(getattr(module, name)) for _, module in excluded for name in module.quantizable}
    chosen: dict[str, Parameter] = {}
    for prefix, module in layers:
        for name in module.quantizable:
            value = getattr(module, name)
            if id(value) not in seen:
                seen.add(id(value))
                value.path = f"{prefix}.{name}" if prefix else name
                chosen[value.path] = value
    return chosen
