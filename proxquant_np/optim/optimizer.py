"""Layer 4, train: what base optimizers share, and what the two quantizing wrappers share.

A base optimizer is a formula on flat vectors (`SGD.update`, `Adam.update`). This file applies it
to a network: block by block, so that a large layer passes through the cache once however many
terms the formula has, and small parameters joined, so that a bias costs no calls of its own.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from proxquant_np.autograd import Tensor, mark_changed
from proxquant_np.nn.module import check_state
from proxquant_np.prox import QuantizedSet, Regularizer, as_regularizer, as_set
from proxquant_np.prox.regularizer import as_weights

Params = Mapping[str, Tensor] | Iterable[Tensor]
_BLOCK = 1 << 14  # entries: a block of weight, gradient and Adam's moments fits a 512 KB cache


def as_parameters(params: Params) -> list[Tensor]:
    """The parameters of a mapping by name or of an iterable, checked.

    Raises:
        TypeError: not a collection, or it holds something that is not a tensor.
        ValueError: none, one twice, or one that is read-only, was computed from others, or is
            neither float32 nor float64.
    """
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"params must be a mapping or an iterable of parameters, got {type(params).__name__}"
        )
    found = list(params.values() if isinstance(params, Mapping) else params)
    for i, p in enumerate(found):
        if not isinstance(p, Tensor):
            raise TypeError(f"params must hold tensors, got {type(p).__name__} at position {i}")
        leaf, writeable = p._vjp is None, p.data.flags.writeable
        if p.dtype not in (np.float32, np.float64) or not leaf or not writeable:
            raise ValueError(
                "params must be writeable leaves of dtype float32 or float64, got at position "
                f"{i} dtype {p.dtype}, {leaf = }, {writeable = } (shape {p.shape})"
            )
    if not found:
        raise ValueError(
            "params must hold at least one parameter, got none (quantizable_parameters finds those "
            "that their module names in `quantizable`)"
        )
    if len({id(p) for p in found}) < len(found):
        raise ValueError("params must be distinct, got one parameter twice")
    return found


def check_number(name: str, value: float, *, below: float = math.inf) -> float:
    """The hyperparameter as a float, if 0 <= value < below."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not 0 <= value < below:
        raise ValueError(f"{name} must lie in [0, {below}), got {value}")
    return float(value)


class Number:
    """A hyperparameter: an attribute that takes only numbers in [0, below), and keeps a float.

    A NumPy scalar would draw float32 arithmetic to its own precision; a float does not.
    """

    def __init__(self, below: float = math.inf) -> None:
        self.below = below

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, owner: object, value: float) -> None:
        vars(owner)[self.name] = check_number(self.name, value, below=self.below)


class Optimizer:
    """Base steps. A subclass names its hyperparameters and state, and defines `update`.

    Hyperparameters such as `lr` may be changed between steps. A parameter without a gradient
    (never reached) or frozen (requires_grad False, whatever its gradient) does not move, and its
    state does not either, so momentum cannot move it.

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
    """Names of the state arrays that `update` receives, each as long as the weights."""

    def __init__(self, params: Params, lr: float) -> None:
        self.params = as_parameters(params)
        self.lr = lr
        dtypes = {p.dtype for p in self.params}
        if len(dtypes) > 1:
            raise ValueError(f"params must have one dtype, got {sorted(map(str, dtypes))}")
        dtype = dtypes.pop()
        ends = np.cumsum([0] + [p.size for p in self.params]).tolist()
        self._spans = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self._state = [np.zeros(ends[-1], dtype) for _ in self.slots]
        self._steps = np.zeros(len(self.params), np.int64)
        self._active: tuple[bool, ...] = ()
        self._plan: list[tuple[slice, list[int]]] = []
        self._joined = np.empty((2, _BLOCK), dtype)
        self._scratch = np.empty(_BLOCK, dtype)
        self.wrappers = 0  # how many were constructed over it; the last one may step it

    def update(
        self, w: np.ndarray, g: np.ndarray, state: list[np.ndarray], t: int, scratch: np.ndarray
    ) -> None:
        """One step, in place, on a flat block of weights w with gradient g.

        `state` holds this block of each slot, `t` counts the steps from 1, `scratch` is an array
        of the same shape to compute in. g must not be changed.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update()")

    def step(self) -> None:
        """Move every parameter that has a gradient and is not frozen, in place.

        Raises:
            ValueError: a gradient of another shape than its parameter, or a parameter whose data
                have another size or dtype than at construction; nothing has moved then.
        """
        active = tuple(p.requires_grad and p.grad is not None for p in self.params)
        for i, (p, span) in enumerate(zip(self.params, self._spans, strict=True)):
            if active[i] and p.grad.shape != p.data.shape:
                raise ValueError(
                    f"the gradient of params[{i}] must have its shape {p.shape}, got {p.grad.shape}"
                )
            size = span.stop - span.start
            if p.data.size != size or p.data.dtype != self._scratch.dtype:
                raise ValueError(
                    f"params[{i}] must stay as at construction, {size} entries of "
                    f"{self._scratch.dtype}, got {p.size} of {p.dtype}: construct the optimizer "
                    "anew, its state is of the old ones"
                )
        if active != self._active:
            self._active, self._plan = active, self._make_plan(active)
        self._steps += active
        for span, members in self._plan:
            state = [s[span] for s in self._state]
            n, t = span.stop - span.start, int(self._steps[members[0]])
            if len(members) == 1:
                p, offset = self.params[members[0]], self._spans[members[0]].start
                part = slice(span.start - offset, span.stop - offset)
                w = _flat(p.data, part)
                self.update(w, _flat(p.grad, part), state, t, self._scratch[:n])
                if not p.data.flags.c_contiguous:
                    p.data.flat[part] = w
            else:
                together = [self.params[i] for i in members]
                w, g = self._joined[:, :n]
                np.concatenate([p.data.reshape(-1) for p in together], out=w)
                np.concatenate([p.grad.reshape(-1) for p in together], out=g)
                self.update(w, g, state, t, self._scratch[:n])
                start = 0
                for p in together:
                    p.data[...] = w[start : start + p.size].reshape(p.shape)
                    start += p.size
        mark_changed(itertools.compress(self.params, active))

    def _make_plan(self, active: tuple[bool, ...]) -> list[tuple[slice, list[int]]]:
        """Blocks of at most _BLOCK entries: parts of one parameter, or several whole ones.

        Joined parameters are neighbours that have taken the same number of steps.
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
                    and span.stop - last.start <= _BLOCK
                    and self._steps[members[0]] == self._steps[i]
                ):
                    plan[-1] = (slice(last.start, span.stop), [*members, i])
                    continue
            for start in range(span.start, span.stop, _BLOCK):
                plan.append((slice(start, min(start + _BLOCK, span.stop)), [i]))
        return plan

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Hyperparameters, steps taken and state, as a flat dict of numbers and array copies.

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
        """Restore what `state_dict` returned; errors as `Module.load_state_dict` raises them.

        Everything is checked before anything is changed. The weights belong to the model: load
        those, too.
        """
        arrays = check_state(self, state, self.state_dict())
        for target in (copy.copy(self), self):  # a number out of range then stops at the copy
            for name in self.hyperparameters:
                setattr(target, name, arrays[name].item())
        self._steps[...] = arrays["steps"]
        self._active = ()  # the plan depends on the steps
        for name, flat in zip(self.slots, self._state, strict=True):
            for i, span in enumerate(self._spans):
                flat[span] = arrays[f"{name}.{i}"].reshape(-1)


def _flat(a: np.ndarray, part: slice) -> np.ndarray:
    """These entries of `a` in C order: a view if `a` is contiguous, else a copy."""
    return a.reshape(-1)[part] if a.flags.c_contiguous else a.flat[part]


class QuantizedOptimizer:
    """What the lazy and the eager wrapper share: everything but which point is moved and mapped.

    Args:
        base: moves everything it holds.
        params: those of its parameters that are quantized, by name or as an iterable.
        regularizer: its prox is the map; or that map itself, a function (w, strength) -> w. A
            quantized set will do for the hard projection.
        homotopy: lambda_t for t = 0, 1, ...; None for the hard projection (infinite strength).
        clip: limit the moved point to [-1, 1] before mapping, as the published configurations
            of both BinaryConnect and ProxQuant do.

    A frozen parameter (requires_grad False) is neither moved nor mapped. One that is not frozen
    but has no gradient is mapped where it stands.

    A base belongs to the wrapper that was constructed over it last: earlier ones then refuse to
    step (RuntimeError), for two wrappers, say of some layers each, would step one base twice. Two
    bases that hold the same parameter are not noticed, and each moves it: as two optimizers do in
    PyTorch, one after the other, or with a loss of their own. For layers on different sets, give
    each wrapper a base that holds the parameters of its own layers alone.

    `step` refuses NaN and infinite gradients (ValueError), and a bad lambda_t, before anything
    changes. What it cannot foresee is a move that overflows: the regularizer then refuses the
    weights after the base has taken its step.

    Examples:
        >>> w = pq.nn.Parameter([0.25])
        >>> sgd = pq.optim.SGD([w], lr=0.5)
        >>> eager = pq.optim.ProxGradient(sgd, [w], pq.prox.BinaryL1(), pq.prox.Constant(3.0))
        >>> isinstance(eager, pq.optim.QuantizedOptimizer), eager.lr, eager.strength
        (True, 0.5, 1.5)
    """

    def __init__(
        self,
        base: Optimizer,
        params: Params,
        regularizer: Regularizer,
        homotopy: Callable[[int], float] | None,
        *,
        clip: bool = False,
    ) -> None:
        if not isinstance(base, Optimizer):
            raise TypeError(f"base must be an Optimizer such as SGD, got {type(base).__name__}")
        if homotopy is not None and not callable(homotopy):
            raise TypeError(f"homotopy must be callable or None, got {type(homotopy).__name__}")
        self.base = base
        self.params = as_parameters(params)
        held = {id(p) for p in base.params}
        if any(id(p) not in held for p in self.params):
            raise ValueError("params must all be held by base, got one that it does not step")
        for p in self.params:
            as_weights(p.data)
        self.regularizer = as_regularizer(regularizer, hard=homotopy is None)
        self.homotopy = homotopy
        self.clip = bool(clip)
        self.steps = 0
        base.wrappers += 1
        self._number = base.wrappers

    @property
    def lr(self) -> float:
        """The base's learning rate; may be set."""
        return self.base.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.base.lr = value

    @property
    def strength(self) -> float:
        """lr * lambda_t of the coming step, t being the steps taken; infinite without homotopy."""
        if self.homotopy is None:
            return math.inf
        lam = self.homotopy(self.steps)
        if isinstance(lam, bool) or not isinstance(lam, Real):
            raise TypeError(f"homotopy(t) must be a number, got {lam!r} at t = {self.steps}")
        strength = self.lr * lam
        if not strength >= 0:
            raise ValueError(
                f"lr * homotopy(t) must be >= 0, got {strength} at t = {self.steps}, lr = {self.lr}"
            )
        return strength

    def trained(self) -> list[int]:
        """Indices of the quantized parameters that are not frozen."""
        return [i for i, p in enumerate(self.params) if p.requires_grad]

    def check_gradients(self) -> None:
        """Refuse gradients that make no sense, and a base that is no longer its own."""
        if self._number != self.base.wrappers:
            base, name = type(self.base).__name__, type(self).__name__
            raise RuntimeError(
                f"this {name} shares its base with another wrapper that was constructed after it; "
                f"two would step the {base} twice. Use one wrapper over the {base}, or for each "
                "one a base that holds other parameters"
            )
        for i, p in enumerate(self.base.params):
            g = p.grad
            if g is None or not p.requires_grad:
                continue
            if g.shape != p.shape:
                raise ValueError(
                    f"the gradient of base.params[{i}] must have its shape {p.shape}, got {g.shape}"
                )
            if not (math.isfinite(np.vdot(g, g)) or np.isfinite(g).all()):  # the first is quick
                raise ValueError(
                    f"the gradient of base.params[{i}] (shape {p.shape}) has NaN or infinite "
                    "entries; all must be finite (nothing was changed)"
                )

    def map_(self, points: list[np.ndarray], strength: float) -> None:
        """w <- prox(clip(point)), in place; the points are clipped in place, too."""
        for i in self.trained():
            if self.clip:
                np.clip(points[i], -1, 1, out=points[i])
            self.regularizer.prox(points[i], strength, out=self.params[i].data)
        mark_changed(self.params[i] for i in self.trained())

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.base.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The position in the homotopy and the base's state (under "base.")."""
        state: dict[str, Any] = {f"base.{k}": v for k, v in self.base.state_dict().items()}
        return {"homotopy_step": self.steps, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, after the model's; see `Optimizer`."""
        arrays = check_state(self, state, self.state_dict())
        self.base.load_state_dict(
            {k.removeprefix("base."): v for k, v in arrays.items() if k.startswith("base.")}
        )
        self.steps = arrays["homotopy_step"].item()


def quantize_and_freeze(params: Params, regularizer: QuantizedSet | Regularizer) -> None:
    """Project the parameters onto the quantized set and take them out of training, in place.

    regularizer: the set itself, or a regularizer whose set it is.

    requires_grad becomes False and the gradient None, so no optimizer moves them again, whatever
    momentum it carries. If one of them cannot be projected, or is frozen already, at values that
    another regularizer gave it (ValueError), none is changed. Twice is once.

    Examples:
        >>> w = pq.nn.Parameter([0.25, -0.5])
        >>> pq.quantize_and_freeze([w], pq.prox.BinaryL1())
        >>> w
        Tensor([ 1., -1.], dtype=float64)
    """
    params = as_parameters(params)
    quantized = as_set(regularizer)
    projections = [quantized.project(p.data) for p in params]
    for i, (p, projected) in enumerate(zip(params, projections, strict=True)):
        if not (p.requires_grad or np.array_equal(projected, p.data)):
            raise ValueError(
                f"params[{i}] (shape {p.shape}) is frozen, and {regularizer} would quantize it "
                "anew; set requires_grad to True first if that is meant (nothing was changed)"
            )
    for p, projected in zip(params, projections, strict=True):
        p.data[...] = projected
        p.requires_grad, p.grad = False, None
    mark_changed(params)
