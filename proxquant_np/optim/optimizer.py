"""Base steps: what SGD, Adam and others share.

A base optimizer is a formula on flat vectors (`SGD.update`, `Adam.update`). This file applies it
to a network block by block, so that a large layer passes through the cache once however many terms
the formula has, and joins small parameters, so that a bias needs no calls of its own. Threads share
the blocks of large networks; the formula goes entry by entry, so their number changes no bit.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from proxquant_np.autograd import Tensor, mark_changed
from proxquant_np.autograd.threads import parallel
from proxquant_np.checks import check_instance, check_number
from proxquant_np.libraries import check_unmasked, on_host
from proxquant_np.nn.module import check_state

Params = Mapping[str, Tensor] | Iterable[Tensor]
_BLOCK = 1 << 16  # entries: weights, gradient and Adam's moments take 1 MB, and threads pay off


def as_parameters(params: Params) -> list[Tensor]:
    """The parameters of a mapping by name or of an iterable, checked.

    Raises:
        TypeError: params is not a collection, or holds something that is not a tensor.
        ValueError: there is no parameter, one occurs twice, or one is read-only, was computed from
            others, or is neither float32 nor float64.
    """
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"params must be a mapping or an iterable of parameters, got {type(params).__name__}"
        )
    found = list(params.values() if isinstance(params, Mapping) else params)
    for i, p in enumerate(found):
        if not isinstance(p, Tensor):
            raise TypeError(f"params must hold tensors, got {type(p).__name__} at position {i}")
        leaf, writeable = p._vjp is None, _writeable(p.data)
        if p.dtype not in (np.float32, np.float64) or not leaf or not writeable:
            raise ValueError(
                "params must be writeable leaves of dtype float32 or float64, got at position "
                f"{i} dtype {p.dtype}, {leaf = }, {writeable = } (shape {p.shape})"
            )
    if not found:
        raise ValueError(
            "params must hold at least one parameter, got none (quantizable_parameters finds those "
            "that modules name in `quantizable`)"
        )
    if len({id(p) for p in found}) < len(found):
        raise ValueError("params must be distinct, got one parameter twice")
    return found


def _writeable(x: np.ndarray) -> bool:
    return not on_host(x) or x.flags.writeable  # other arrays always are, and have no such flag


def grads_of(name: str, params: list[Tensor]) -> dict[int, np.ndarray]:
    """Those of the parameters that a step moves, by position; ValueError for another shape."""
    found = {}
    for i, p in enumerate(params):
        if p.grad is not None and p.requires_grad:
            if p.grad.shape != p.shape:
                raise ValueError(
                    f"the gradient of {name}[{i}] must have its shape {p.shape}, got {p.grad.shape}"
                )
            found[i] = check_unmasked(f"the gradient of {name}[{i}]", p.grad)
    return found


def check_gradients(name: str, params: list[Tensor]) -> None:
    """ValueError unless all of these gradients are finite."""
    for i, g in grads_of(name, params).items():
        if not np.isfinite(g).all():
            raise ValueError(
                f"the gradient of {name}[{i}] (shape {g.shape}) must be finite, got NaN or "
                "infinite entries (nothing was changed)"
            )


class Number:
    """A hyperparameter: an attribute that accepts numbers in [0, below) and stores a float."""

    def __init__(self, below: float = math.inf) -> None:
        self.below = below

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, owner: object, value: float) -> None:
        vars(owner)[self.name] = check_number(self.name, value, 0, below=self.below)


class Optimizer:
    """Base steps. A subclass names its hyperparameters and state, and defines `update`.

    Hyperparameters such as `lr` may be changed between steps. A parameter that has no gradient
    (backward never reached it) or is frozen (requires_grad False, whatever its gradient) does not
    move, and neither does its state, so momentum cannot move it.

    Examples:
        >>> class SignDescent(pq.optim.Optimizer):
        ...     def update(self, w, g, state, t, scratch):
        ...         w -= self.lr * pq.prox.sign_pm(g)
        ...
        >>> w = pq.nn.Parameter([1.0, 1.0])
        >>> (w * np.array([30.0, -4.0])).sum().backward()
        >>> SignDescent([w], lr=0.25).step()
        >>> w.data
        array([0.75, 1.25])
    """

    lr = Number()
    hyperparameters: tuple[str, ...] = ("lr",)
    slots: tuple[str, ...] = ()
    """Names of the state arrays that `update` receives, each of the length of the weights."""

    def __init__(self, params: Params, lr: float) -> None:
        self.params = as_parameters(params)
        self.lr = lr
        dtypes = {p.dtype for p in self.params}
        if len(dtypes) > 1:
            raise ValueError(f"params must have one dtype, got {sorted(map(str, dtypes))}")
        dtype = dtypes.pop()
        if len({on_host(p.data) for p in self.params}) > 1:
            raise ValueError("params must lie in one place, got some of NumPy and others")
        ends = np.cumsum([0] + [p.size for p in self.params]).tolist()
        self._spans = [slice(a, b) for a, b in itertools.pairwise(ends)]
        kind = self.params[0].data
        self._state = [np.zeros(ends[-1], dtype, like=kind) for _ in self.slots]
        self._steps = np.zeros(len(self.params), np.int64)
        self._active: tuple[bool, ...] = ()
        self._plan: list[tuple[slice, list[int]]] = []
        # On a device, calls are what costs, so there is a single block.
        self._block = _BLOCK if on_host(kind) else max(1, ends[-1])
        self._joined = np.empty((2, self._block), dtype, like=kind)
        self._scratch = np.empty(self._block, dtype, like=kind)
        self._held = frozenset(self.params)
        self.wrappers = 0  # how many were constructed over it; only the last may step it

    def update(
        self, w: np.ndarray, g: np.ndarray, state: list[np.ndarray], t: int, scratch: np.ndarray
    ) -> None:
        """One step, in place, on a flat block of weights w with gradient g.

        `state` holds this block of each slot, `t` counts steps from 1, and `scratch` is a spare
        array of the same shape. g must not be changed. Several threads may do this at once, for
        different blocks.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update()")

    def step(self, points: Mapping[Tensor, np.ndarray | None] | None = None) -> None:
        """Move every parameter that has a gradient and is not frozen, in place.

        points: maps a parameter to what moves in its place by its gradient, an array of its shape
        and dtype; None means that the parameter stays, and so does its state. Parameters that are
        not named move themselves.

        Raises:
            ValueError: a gradient differs in shape from its parameter, a parameter's data changed
                in size or dtype since construction, or points do not fit. Then nothing has moved.

        Examples:
            >>> w, latent = pq.nn.Parameter([1.0]), np.array([0.25])
            >>> w.sum().backward()
            >>> pq.optim.SGD([w], lr=0.5).step({w: latent})
            >>> w.data, latent
            (array([1.]), array([-0.25]))
        """
        if on_host(self.params[0].data) != on_host(self._scratch):
            raise ValueError(
                "params must lie where they did at construction, got them in another array "
                "library: construct the optimizer after model.to(...)"
            )
        moving = [p.data for p in self.params] if points is None else self._moving(points)
        active = tuple(
            [
                x is not None and p.requires_grad and p.grad is not None
                for p, x in zip(self.params, moving, strict=True)
            ]
        )
        for i, (p, span) in enumerate(zip(self.params, self._spans, strict=True)):
            if active[i] and p.grad.shape != p.data.shape:
                raise ValueError(
                    f"the gradient of params[{i}] must have its shape {p.shape}, got {p.grad.shape}"
                )
            if active[i]:
                check_unmasked(f"the gradient of params[{i}]", p.grad)
            size = span.stop - span.start
            if p.data.size != size or p.data.dtype != self._scratch.dtype:
                raise ValueError(
                    f"params[{i}] must stay as at construction, {size} entries of "
                    f"{self._scratch.dtype}, got {p.size} of {p.dtype}: construct a new optimizer, "
                    "since this one's state is that of the old data"
                )
        if active != self._active:
            self._active, self._plan = active, self._make_plan(active)
        self._steps += active

        def part(start: int, stop: int) -> None:
            joined, scratch = self._joined, self._scratch
            if start:  # another thread has these
                joined, scratch = np.empty_like(joined), np.empty_like(scratch)
            for block in self._plan[start:stop]:
                self._move(moving, *block, joined, scratch)

        entries = sum(span.stop - span.start for span, _ in self._plan)
        parallel(part, len(self._plan), 64 * entries)  # Adam's passes take as long as so many
        moved = itertools.compress(self.params, active)
        mark_changed(moved if points is None else (p for p in moved if p not in points))

    def _move(
        self,
        moving: list[np.ndarray | None],
        span: slice,
        members: list[int],
        joined: np.ndarray,
        scratch: np.ndarray,
    ) -> None:
        """Move one block: a part of one parameter, or several whole ones together."""
        state = [s[span] for s in self._state]
        n, t = span.stop - span.start, int(self._steps[members[0]])
        if len(members) == 1:
            (i,) = members
            x, offset = moving[i], self._spans[i].start
            part = slice(span.start - offset, span.stop - offset)
            w = _flat(x, part)
            self.update(w, _flat(self.params[i].grad, part), state, t, scratch[:n])
            if not x.flags.c_contiguous:
                _write_flat(x, part, w)
        else:
            w, g = joined[:, :n]
            together = [moving[i] for i in members]
            np.concatenate([x.reshape(-1) for x in together], out=w)
            np.concatenate([self.params[i].grad.reshape(-1) for i in members], out=g)
            self.update(w, g, state, t, scratch[:n])
            start = 0
            for x in together:
                x[...] = w[start : start + x.size].reshape(x.shape)
                start += x.size

    def _moving(self, points: Mapping[Tensor, np.ndarray | None]) -> list[np.ndarray | None]:
        """For each parameter, the array that moves, or None."""
        check_instance("points", points, Mapping, "a mapping from parameters to arrays")
        if not self._held >= points.keys():
            raise ValueError("points must name parameters of this optimizer, got another one")
        for p, x in points.items():
            if x is None:
                continue
            kind = np.ndarray if on_host(p.data) else type(p.data)
            check_instance("a point", check_unmasked("a point", x), kind, "an array, or None")
            if x.shape != p.shape or x.dtype != p.dtype or not _writeable(x):
                raise ValueError(
                    f"a point must be writeable and have its parameter's shape {p.shape} and dtype "
                    f"{p.dtype}, got {x.shape} and {x.dtype}, writeable = {_writeable(x)}"
                )
        return [points.get(p, p.data) for p in self.params]

    def _make_plan(self, active: tuple[bool, ...]) -> list[tuple[slice, list[int]]]:
        """Blocks of at most `_block` entries: a part of one parameter, or several whole ones.

        Parameters are joined if they are neighbours and have taken the same number of steps.
        """
        plan: list[tuple[slice, list[int]]] = []
        for i, (p, span) in enumerate(zip(self.params, self._spans, strict=True)):
            if not active[i] or not p.size:
                continue
            if plan:
                last, members = plan[-1]
                if (
                    last.stop == span.start
                    and last.start == self._spans[members[0]].start  # not the tail of a large one
                    and span.stop - last.start <= self._block
                    and self._steps[members[0]] == self._steps[i]
                ):
                    plan[-1] = (slice(last.start, span.stop), [*members, i])
                    continue
            for start in range(span.start, span.stop, self._block):
                plan.append((slice(start, min(start + self._block, span.stop)), [i]))
        return plan

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Hyperparameters, steps taken and state: a flat dict of numbers and copies of arrays.

        Examples:
            >>> w = pq.nn.Parameter([1.0])
            >>> sgd = pq.optim.SGD([w], lr=0.5)
            >>> sorted(sgd.state_dict())
            ['lr', 'momentum', 'nesterov', 'steps', 'weight_decay']
        """
        state: dict[str, Any] = {name: getattr(self, name) for name in self.hyperparameters}
        state["steps"] = self._steps.copy()
        for name, flat in zip(self.slots, self._state, strict=True):
            for i, (p, span) in enumerate(zip(self.params, self._spans, strict=True)):
                state[f"{name}.{i}"] = flat[span].reshape(p.shape).copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; errors are those of `Module.load_state_dict`.

        Everything is checked before anything is changed. The weights belong to the model and must
        be loaded separately.
        """
        arrays = check_state(self, state, self.state_dict())
        for target in (copy.copy(self), self):  # a number out of range fails on the copy
            for name in self.hyperparameters:
                setattr(target, name, arrays[name].item())
        self._steps[...] = arrays["steps"]
        self._active = ()  # the plan depends on the steps
        for name, flat in zip(self.slots, self._state, strict=True):
            for i, span in enumerate(self._spans):
                flat[span] = arrays[f"{name}.{i}"].reshape(-1)


def _flat(a: np.ndarray, part: slice) -> np.ndarray:
    """These entries of `a` in C order: a view if `a` is contiguous, else a copy."""
    return a.reshape(-1)[part] if a.flags.c_contiguous or not on_host(a) else a.flat[part]


def _write_flat(a: np.ndarray, part: slice, values: np.ndarray) -> None:
    """Write these entries of `a` in C order."""
    if on_host(a):
        a.flat[part] = values
    else:  # there is a single block, so these are all entries
        a[...] = values.reshape(a.shape)
