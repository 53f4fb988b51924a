"""What the lazy and the eager wrapper share: all but the choice of points to move and map."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from proxquant_np.autograd import Tensor, mark_changed
from proxquant_np.checks import check_callable, check_instance, check_number
from proxquant_np.libraries import numbers, on_host, together
from proxquant_np.nn import Module, quantizable_parameters
from proxquant_np.nn.module import check_state
from proxquant_np.optim.optimizer import Optimizer, Params, as_parameters, check_gradients, grads_of
from proxquant_np.prox import QuantizedSet, Regularizer, as_regularizer, as_set
from proxquant_np.prox.arrays import as_weights, check_finite

Homotopy = Callable[[int], float]
_REQUIRED: Any = object()


class Group(NamedTuple):
    """Parameters with one map, the prox of `regularizer` with lambda_t = homotopy(t).

    homotopy=None means the projection (infinite strength); regularizer=None means full precision,
    where nothing is mapped.

    Examples:
        >>> net = pq.models.MLP((64, 32, 32, 10), rng=0)
        >>> first, inner, last = pq.quantizable_parameters(net).values()
        >>> groups = [
        ...     pq.optim.Group([inner], pq.prox.BinaryL1(), pq.prox.Linear(1e-3)),
        ...     pq.optim.Group([first, last], pq.prox.TernaryL2(), pq.prox.Linear(1e-2)),
        ... ]
        >>> eager = pq.optim.ProxGradient(pq.optim.Adam(net.parameters()), groups)
        >>> [len(group.params) for group in eager.groups], len(eager.params)
        ([1, 2], 3)
    """

    params: Params
    regularizer: Regularizer | None
    homotopy: Homotopy | None


class QuantizedOptimizer:
    """A base step, then a map of the quantized parameters.

    Args:
        base: moves everything it holds.
        params: the parameters of the base that are quantized, by name or as an iterable; or, for
            mixed precision, a list of groups (params, regularizer, homotopy) and nothing after it.
        regularizer: its prox is the map; or the map itself, a function (w, strength) -> w. For the
            hard projection, a quantized set is accepted, too.
        homotopy: lambda_t for t = 0, 1, ...; None for the hard projection (infinite strength).
        clip: limit the moved point to [-1, 1] before mapping (or to [-clip, clip]), as published.

    `groups` lists the groups (a single one if no list was given), and `params` all mapped
    parameters in that order. `regularizer`, `homotopy` and `strength` are those of the mapped
    group, or tuples if there are several.

    A frozen parameter (requires_grad False) is neither moved nor mapped. One that is not frozen
    but has no gradient does not move, but is mapped.

    A base belongs to the last wrapper constructed over it. Earlier wrappers then refuse to step
    (RuntimeError), because the base would step twice: use one wrapper with several groups. If two
    bases hold the same parameter, this is not noticed, and each moves it, as in PyTorch.

    `step` refuses NaN and infinite gradients and a bad lambda_t (ValueError) before anything
    changes. It cannot foresee a move that overflows: then the regularizer refuses the weights after
    the base has taken its step.

    Examples:
        >>> w = pq.nn.Parameter([0.25])
        >>> sgd = pq.optim.SGD([w], lr=0.5)
        >>> eager = pq.optim.ProxGradient(sgd, [w], pq.prox.BinaryL1(), pq.prox.Constant(3.0))
        >>> isinstance(eager, pq.optim.QuantizedOptimizer), eager.lr, eager.strength
        (True, 0.5, 1.5)
    """

    hyperparameters: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    """Names of attributes that hold one array per parameter, which are saved with the state."""
    _image: list[np.ndarray] | None = None
    """The weights as the last map left them, if they are only the image of a latent."""

    def __init__(
        self,
        base: Optimizer,
        params: Params | Sequence[Group],
        regularizer: Regularizer | None = None,
        homotopy: Homotopy | None = _REQUIRED,
        *,
        clip: bool | float = False,
    ) -> None:
        self.base = check_instance("base", base, Optimizer, "an Optimizer such as SGD")
        self.groups = list(_as_groups(params, regularizer, homotopy))
        members = [p for group in self.groups for p in group.params]
        if len({*members}) < len(members):
            raise ValueError("groups must be disjoint, got one parameter twice")
        if not {*base.params}.issuperset(members):
            raise ValueError("params must all be held by base, got one that it does not step")
        # `_mapped`: positions in `groups` of those with a map; `params`: their parameters in a row;
        # `_places`: for each of these, the position in `_mapped` of its group.
        self._mapped = [i for i, group in enumerate(self.groups) if group.regularizer is not None]
        if not self._mapped:
            raise ValueError("groups must hold a regularizer, got None in each of them")
        self.params = [p for i in self._mapped for p in self.groups[i].params]
        self._places = [j for j, i in enumerate(self._mapped) for _ in self.groups[i].params]
        for p, place in zip(self.params, self._places, strict=True):
            as_weights(p.data)
            _, regularizer, homotopy = self.groups[self._mapped[place]]
            if p.requires_grad and not regularizer.elementwise:
                # Tried now, as a wrong result or axis would be seen only after the base has moved.
                regularizer.prox(p.data, math.inf if homotopy is None else 1.0)
        self.clip = clip if isinstance(clip, bool) else check_number("clip", clip, above=0)
        self.steps = 0
        self._number = base.wrappers = base.wrappers + 1

    def _of_groups(self, values: Iterable[Any]) -> Any:
        """The value of the only mapped group, or a tuple of the values of several."""
        values = tuple(values)
        return values[0] if len(values) == 1 else values

    def _set(self, **values: Any) -> None:
        if len(self._mapped) > 1:
            raise ValueError(f"{', '.join(values)} can be set for one group, not for several")
        (i,) = self._mapped
        (self.groups[i],) = _as_groups(*self.groups[i]._replace(**values))

    @property
    def mapped(self) -> dict[str, Group]:
        """The mapped groups: under "" if there is one, else under ".0", ".1", ..., their positions
        in `groups`. Histories and checkpoints distinguish them by these suffixes."""
        several = len(self._mapped) > 1
        return {f".{i}" if several else "": self.groups[i] for i in self._mapped}

    @property
    def regularizer(self) -> Any:
        """The regularizer whose prox is the map; may be set."""
        return self._of_groups(self.groups[i].regularizer for i in self._mapped)

    @regularizer.setter
    def regularizer(self, value: Regularizer) -> None:
        self._set(regularizer=value)

    @property
    def homotopy(self) -> Any:
        """lambda_t as a function of t, or None; may be set."""
        return self._of_groups(self.groups[i].homotopy for i in self._mapped)

    @homotopy.setter
    def homotopy(self, value: Homotopy | None) -> None:
        self._set(homotopy=value)

    @property
    def lr(self) -> float:
        """The base's learning rate; may be set."""
        return self.base.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.base.lr = value

    @property
    def strength(self) -> Any:
        """lr * lambda_t of the next step, t being the steps taken; infinite without a homotopy."""
        return self._of_groups(self._strength(self.groups[i].homotopy) for i in self._mapped)

    def _strength(self, homotopy: Homotopy | None) -> float:
        if homotopy is None:
            return math.inf
        lam = homotopy(self.steps)
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

    def check_step(self) -> None:
        """Refuse bad gradients, a shared base, and weights that something else has changed."""
        if self._number != self.base.wrappers:
            base, name = type(self.base).__name__, type(self).__name__
            raise RuntimeError(
                f"this {name} shares its base with another wrapper that was constructed after it, "
                f"and the two would step the {base} twice: use one wrapper over the {base}, with a "
                "list of groups (params, regularizer, homotopy)"
            )
        grads = grads_of("base.params", self.base.params).values()
        squares = [np.vdot(g, g) for g in together(grads)]  # finite only if the gradients are
        found = numbers(squares + self._holds())
        if not (all(map(math.isfinite, found)) and all(found[len(squares) :])):
            self._refuse()

    def _holds(self) -> list[Any]:
        """Further conditions that must hold before a step."""
        elsewhere = not on_host(self.params[0].data)  # where prox does not look at the points
        if self._image is None and not elsewhere:
            return []
        trained, conditions = self.trained(), []
        if self._image is not None:
            weights = together(self.params[i].data for i in trained)
            conditions += map(np.array_equal, weights, together(self._image[i] for i in trained))
        if elsewhere:
            conditions += [np.isfinite(x).all() for x in together(map(self._point, trained))]
        return conditions

    def _point(self, i: int) -> np.ndarray:
        """What moves in place of parameter i, or the parameter itself."""
        return self.latent[i] if "latent" in self.slots else self.params[i].data

    def _refuse(self) -> None:
        """Raise the error, if there is one: squares may overflow without any."""
        check_gradients("base.params", self.base.params)
        for i in self.trained():
            check_finite(f"params[{i}]", self._point(i))
        for i in self.trained() if self._image is not None else ():
            if not np.array_equal(self.params[i].data, self._image[i]):
                raise ValueError(
                    f"params[{i}] (shape {self.params[i].shape}) was changed since the last step, "
                    f"but {type(self).__name__} trains a latent of its own: load weights before "
                    "constructing it; when resuming, load the model's state, then the optimizer's"
                )

    def map_(self, points: list[np.ndarray], strength: Any) -> None:
        """w <- prox(clip(point)), in place; clipping changes the points in place, too."""
        strengths = strength if isinstance(strength, tuple) else (strength,)
        trained = self.trained()
        for i in trained:
            if self.clip:
                np.clip(points[i], -self.clip, self.clip, out=points[i])  # True is 1
            place = self._places[i]
            regularizer = self.groups[self._mapped[place]].regularizer
            regularizer.prox(points[i], strengths[place], out=self.params[i].data)
            if self._image is not None:
                np.copyto(self._image[i], self.params[i].data)
        mark_changed(self.params[i] for i in trained)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self.base.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Steps taken, hyperparameters and arrays, and the base's state (under "base.")."""
        return {
            "homotopy_step": self.steps,
            **{f"base.{k}": v for k, v in self.base.state_dict().items()},
            **{name: getattr(self, name) for name in self.hyperparameters},
            **{f"{name}.{i}": array.copy() for name, i, array in self._arrays()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, after the model's; see `Optimizer`."""
        arrays = check_state(self, state, self.state_dict())
        numbers = {name: arrays[name].item() for name in self.hyperparameters}
        for name, number in numbers.items():  # one out of range fails here, on a copy
            setattr(copy.copy(self), name, number)
        self.base.load_state_dict(
            {k.removeprefix("base."): v for k, v in arrays.items() if k.startswith("base.")}
        )
        self.steps = arrays["homotopy_step"].item()
        for name, number in numbers.items():
            setattr(self, name, number)
        for name, i, array in self._arrays():
            array[...] = arrays[f"{name}.{i}"]
        if self._image is not None:
            for image, p in zip(self._image, self.params, strict=True):
                image[...] = p.data

    def _arrays(self) -> Iterator[tuple[str, int, np.ndarray]]:
        for name in self.slots:
            for i, array in enumerate(getattr(self, name)):
                yield name, i, array


def _as_groups(params: Any, regularizer: Any, homotopy: Any) -> Iterator[Group]:
    """The arguments as checked groups, whose parameters are lists."""
    listed = isinstance(params, list | tuple) and bool(params)
    listed = listed and all(isinstance(group, tuple) and len(group) == 3 for group in params)
    if listed:
        if regularizer is not None or homotopy not in (None, _REQUIRED):
            raise TypeError("regularizer and homotopy must be left out: each group has its own")
        given = params
    elif regularizer is None:
        raise TypeError(
            "regularizer must be a Regularizer, or params a list of groups (params, regularizer, "
            f"homotopy), got regularizer=None and params of type {type(params).__name__}"
        )
    elif homotopy is _REQUIRED:
        raise TypeError("homotopy must be given: a function of the step t, or None to project")
    else:
        given = [(params, regularizer, homotopy)]
    for params, regularizer, homotopy in given:
        if regularizer is not None:
            regularizer = as_regularizer(regularizer, hard=homotopy is None)
        if homotopy is not None:
            check_callable("homotopy", homotopy, "a function of the step t, or None")
        yield Group(as_parameters(params), regularizer, homotopy)


Quantized = QuantizedSet | Regularizer
Targets = QuantizedOptimizer | Sequence[Group] | Mapping[Tensor, Quantized | None]


def targets(
    params: Params | Targets, regularizer: Quantized | None = None
) -> list[tuple[Tensor, Quantized]]:
    """Each quantized parameter, with its set or the regularizer that has this set.

    params: with a regularizer, which then holds for all, parameters by name or as an iterable;
    without one, a wrapper, its groups, or a mapping from parameters to regularizers. Parameters
    with None for a regularizer are omitted.

    Examples:
        >>> from proxquant_np.optim.quantized import targets
        >>> v, w = pq.nn.Parameter([0.5]), pq.nn.Parameter([2.0])
        >>> targets({v: pq.prox.BinaryL1(), w: None})
        [(Tensor([0.5], dtype=float64, requires_grad=True), BinaryL1())]
    """
    if regularizer is not None:
        if isinstance(params, QuantizedOptimizer):
            raise TypeError("regularizer must be left out: the wrapper's groups have their own")
        groups: Any = [Group(params, regularizer, None)]
    elif isinstance(params, QuantizedOptimizer):
        groups = params.groups
    elif isinstance(params, Mapping) and all(isinstance(p, Tensor) for p in params):
        groups = [Group([p], own, None) for p, own in params.items()]
    else:
        groups = _as_groups(params, None, _REQUIRED)
    found: dict[Tensor, Quantized] = {}
    for members, own, _ in groups:
        if own is not None:
            as_set(own)
            members = as_parameters(members)
            if not found.keys().isdisjoint(members):
                raise ValueError("groups must be disjoint, got one parameter twice")
            found |= dict.fromkeys(members, own)
    return list(found.items())


def targets_in(
    model: Module, regularizer: Quantized | Targets, params: Iterable[Tensor] | None = None
) -> list[tuple[Tensor, Quantized]]:
    """As `targets`, for a model: all `params`, by default its quantizable ones, with one set.

    In place of a regularizer, a wrapper, its groups, or a mapping from parameters to regularizers
    may say which parameters are quantized, and each to which set; then `params` is left out.

    Examples:
        >>> from proxquant_np.optim.quantized import targets_in
        >>> [(p.shape, q) for p, q in targets_in(pq.nn.Linear(3, 2), pq.prox.Binary())]
        [((2, 3), Binary())]
    """
    if isinstance(regularizer, QuantizedOptimizer | Mapping | list | tuple):
        if params is not None:
            raise TypeError("params must be left out: the groups say which ones are quantized")
        return targets(regularizer)
    as_set(regularizer)
    members = quantizable_parameters(model).values() if params is None else params
    return [(p, regularizer) for p in members]


def quantize_and_freeze(params: Params | Targets, regularizer: Quantized | None = None) -> None:
    """Project the parameters onto the quantized set and exclude them from training, in place.

    regularizer: the set, or a regularizer with it; params: as for `targets`.

    requires_grad becomes False and the gradient None, so no optimizer moves them again, whatever
    momentum it carries. If one of them cannot be projected, or is already frozen at values that
    another regularizer gave it (ValueError), none is changed. Repeating the call changes nothing.

    Examples:
        >>> w = pq.nn.Parameter([0.25, -0.5])
        >>> pq.quantize_and_freeze([w], pq.prox.BinaryL1())
        >>> w
        Tensor([ 1., -1.], dtype=float64)
    """
    chosen = targets(params, regularizer)
    projections = [as_set(own).project(p.data) for p, own in chosen]
    for i, ((p, own), projected) in enumerate(zip(chosen, projections, strict=True)):
        check_finite(f"params[{i}]", projected)  # not yet checked on a device
        if not (p.requires_grad or np.array_equal(projected, p.data)):
            raise ValueError(
                f"params[{i}] (shape {p.shape}) is frozen, and {own} would quantize it anew: first "
                "set requires_grad to True if that is intended (nothing was changed)"
            )
    for (p, _), projected in zip(chosen, projections, strict=True):
        p.data[...] = projected
        p.requires_grad, p.grad = False, None
    mark_changed(p for p, _ in chosen)
