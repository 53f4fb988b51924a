"""Conformance (layer 7): checks of other people's training steps, lazy and eager, SGD and Adam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from proxquant_np.conformance import vectors
from proxquant_np.conformance.checks import DTYPES
from proxquant_np.conformance.definitions import PROXES, STEPS, check_name, look_up
from proxquant_np.conformance.report import Fault, Report
from proxquant_np.conformance.search import SIXTEENTHS, smallest
from proxquant_np.prox import Regularizer
from proxquant_np.prox.regularizer import Floats


def check_step(
    fn: Callable[..., Any],
    definition: str,
    *,
    regularizer: str | Regularizer = "binary_l1",
    dtypes: Sequence[str] = DTYPES,
) -> Report:
    """Is fn one training step, with P and prox those of `regularizer`?

    With d = gradient(w) for SGD, or Adam's direction for that gradient,

        lazy_sgd    fn(latent, gradient, lr) -> (latent, weights)
                    w = P(latent),  latent <- latent - lr d,  weights = P(latent)
        lazy_adam   fn(latent, gradient, lr, m, v, t) -> (latent, weights, m, v)
        eager_sgd   fn(weights, gradient, lr, strength) -> weights
                    w = weights,  weights <- prox(weights - lr d, strength),  strength = lr lambda_t
        eager_adam  fn(weights, gradient, lr, strength, m, v, t) -> (weights, m, v)

    gradient is a function from weights to the gradient of the loss there. m and v are Adam's
    moments before the step, t = 1, 2, ... its number; beta1 = 0.9, beta2 = 0.999, eps = 1e-8.
    Arguments must be left alone; dtypes are kept.

    Raises:
        ValueError: an unknown name, with the nearest known one.
        TypeError: fn is not callable.
    """
    check_name(definition, STEPS, "definition")
    _, r = look_up(regularizer, PROXES, "regularizer")
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; a callable is accepted")
    lazy, adam = definition.startswith("lazy"), definition.endswith("adam")
    cases = [
        {k: case[k] for k in ("A", "b", "point", "lr", "strength", "m", "v", "t") if k in case}
        | {"dtype": dtype}
        for dtype in dtypes
        for case in vectors.table("steps.json")[definition]["cases"]
    ]

    def fault(case, twist=""):
        return _fault(fn, case, lazy, adam, r, twist)

    def build(st):
        # Dyadic numbers, so that a step of SGD that ends on a tie does so exactly; Adam's, whose
        # first is nearly lr, may not come near one.
        one = st.sampled_from(SIXTEENTHS).map(lambda x: [x])
        lr = st.sampled_from([0.37, 0.11] if adam else [0.5, 0.125])
        parts = {"A": st.just([[1.0]]), "b": one, "point": one, "lr": lr}
        if not lazy:
            parts["strength"] = st.sampled_from([0.0, 0.5, 0.25, 1.0, 2.0])
        if adam:
            squares = st.integers(0, 16).map(lambda i: [i / 4])
            parts |= {"m": one, "v": squares, "t": st.integers(1, 9)}
        return st.fixed_dictionaries({**parts, "dtype": st.sampled_from(dtypes)})

    found = [f for case in cases if (f := fault(case))]
    kinds = {f.convention for f in found}
    words, case = smallest(
        lambda case: (f := fault(case)) is not None and f.convention in (kinds or {f.convention}),
        build,
    )
    golden = len(cases)
    if case:
        cases, found = [case, *cases], [fault(case), *found]
    first = found[0] if found else None
    if first is not None and first.convention == "wrong step":
        for twist, (kind, detail) in _twists(lazy, adam):
            if all(fault(case, twist) is None for case in cases):
                first = Fault(kind, detail, first.inputs, first.got, first.expected)
                break
    return Report(
        getattr(fn, "__name__", repr(fn)),
        f"step {definition!r} with {r!r}",
        "wrong" if first else "right",
        first is None,
        f"{golden} golden cases, {words}",
        first,
    )


def _arguments(case, lazy, adam):
    dtype = case["dtype"]
    A, b = np.array(case["A"], dtype), np.array(case["b"], dtype)

    def gradient(w):
        return A @ np.asarray(w) - b

    named = {"latent" if lazy else "weights": np.array(case["point"], dtype), "gradient": gradient}
    named |= {key: case[key] for key in ("lr", "strength") if key in case}
    if adam:
        named |= {"m": np.array(case["m"], dtype), "v": np.array(case["v"], dtype), "t": case["t"]}
    return named


def _fault(fn, case, lazy, adam, r, twist):
    given, copies = _arguments(case, lazy, adam), _arguments(case, lazy, adam)
    point = given["latent" if lazy else "weights"]
    shown = {**given, "gradient": f"A w - b, A = {case['A']}, b = {case['b']}"}
    try:
        with np.errstate(all="ignore"):
            out = fn(*copies.values())
    except Exception as error:
        return Fault("raised", f"raised {type(error).__name__}: {error}", shown)
    for key, before in given.items():
        if isinstance(before, np.ndarray) and copies[key].tobytes() != before.tobytes():
            return Fault("input mutated", f"{key} was modified", shown, copies[key], before)
    names = (["latent"] if lazy else []) + ["weights"] + (["m", "v"] if adam else [])
    if len(names) == 1 and isinstance(out, np.ndarray):
        out = (out,)
    if not isinstance(out, tuple | list) or len(out) != len(names):
        return Fault("result", f"returned {_kind(out)}, not ({', '.join(names)})", shown)
    for name, u in zip(names, out, strict=True):
        if not isinstance(u, np.ndarray):
            return Fault("result", f"the new {name} is a {type(u).__name__}, not an array", shown)
        if u.shape != point.shape:
            detail = f"the new {name} has shape {u.shape}, not {point.shape}"
            return Fault("shape changed", detail, shown, u)
        if u.dtype != point.dtype:
            return Fault("dtype changed", f"the new {name} has dtype {u.dtype}", shown, u)
    expected = tuple(
        e.astype(point.dtype)
        for e in _step(lazy, adam, r, **_arguments(case | {"dtype": "float64"}, lazy, adam))
    )
    wanted = _step(
        lazy, adam, r, twist=twist, **_arguments(case | {"dtype": "float64"}, lazy, adam)
    )
    close = 512 * float(np.finfo(point.dtype).eps)
    for name, u, e in zip(names, out, wanted, strict=True):
        if not np.allclose(u, e, close, close):
            detail = f"{name}: the formula gives another result"
            return Fault("wrong step", detail, shown, tuple(out), expected)
    return None


def _kind(out):
    if isinstance(out, tuple | list):
        return f"{len(out)} values"
    return f"a {type(out).__name__}"


TWISTS = {
    "at latent": ("gradient point", "the gradient is taken at the latent, not at its image"),
    "at mapped": ("gradient point", "the gradient is taken at the mapped weights"),
    "from image": ("latent overwritten", "the step starts from the image P(z), not from z"),
    "no latent": ("latent overwritten", "there is no latent: the image P(z) is moved and mapped"),
    "image kept": ("latent overwritten", "the image takes the place of the new latent"),
    "stale": ("stale weights", "the weights returned are the image of the latent before the step"),
    "unmapped": ("not quantized", "the weights returned are not mapped"),
    "sign(0)": ("sign(0)", "0 stays 0, as with numpy.sign"),
    "low": ("sign(0)", "0 goes to the lower level"),
    "map first": ("order", "the weights are mapped before the base step, not after it"),
    "lr twice": ("wrong strength", "the strength is multiplied by lr once more"),
    "over lr": ("wrong strength", "the strength is divided by lr: it is lr * lambda_t already"),
    "projects": ("wrong strength", "projects, whatever the strength"),
    "doubled": ("factor of two", "the strength is doubled"),
    "halved": ("factor of two", "the strength is halved"),
    "ascent": ("direction", "the step goes along the gradient"),
    "uncorrected": ("bias correction", "no division by 1 - beta^t"),
    "late": ("bias correction", "t is counted from 0: corrected as in the step before"),
    "early": ("bias correction", "corrected as in the step after: t is raised once too often"),
    "eps inside": ("epsilon", "eps is added under the root"),
    "plain sum": ("moments", "m <- beta1 m + g, without the factor 1 - beta1"),
    "swapped": ("moments", "beta1 and beta2 are exchanged"),
    "unsquared": ("moments", "v averages |g|, not g^2"),
    "old moments": ("moments", "the moments before the step are returned"),
    "no momentum": ("moments", "the gradient is used in the place of m"),
}
"""Mistakes that `_step` can make: what they break, and how."""


def _twists(lazy: bool, adam: bool) -> Iterator[tuple[str, tuple[str, str]]]:
    lazies = {"at latent", "from image", "no latent", "image kept", "stale", "sign(0)", "low"}
    eagers = {"at mapped", "map first", "lr twice", "over lr", "projects", "doubled", "halved"}
    adams = {"bias correction", "epsilon", "moments"}
    for name, (kind, detail) in TWISTS.items():
        if name not in (eagers if lazy else lazies) and (adam or kind not in adams):
            yield name, (kind, detail)


def _step(
    lazy,
    adam,
    r,
    gradient,
    lr,
    latent=None,
    weights=None,
    strength=0.0,
    m=None,
    v=None,
    t=1,
    twist="",
) -> tuple[Floats, ...]:
    """The formula; with a twist, one of the mistakes in TWISTS."""

    def project(z):
        q = r.project(z)
        if twist in ("sign(0)", "low"):
            q = np.where(z == 0, 0 if twist == "sign(0)" else -1, q)
        return q

    def prox(w):
        scale = {"lr twice": lr, "over lr": 1 / lr, "doubled": 2, "halved": 0.5, "projects": np.inf}
        factor = scale.get(twist, 1)
        return r.prox(w, np.inf if factor == np.inf else strength * factor)

    start = latent if lazy else weights
    image = project(start) if lazy else start
    at = {"at latent": start, "at mapped": None if lazy else prox(start)}.get(twist, image)
    g = gradient(at)
    if twist == "ascent":
        g = -g
    d = g
    moments = ()
    if adam:
        b1, b2 = (0.999, 0.9) if twist == "swapped" else (0.9, 0.999)
        new_m = b1 * m + (1 if twist == "plain sum" else 1 - b1) * g
        new_v = b2 * v + (1 - b2) * (np.abs(g) if twist == "unsquared" else g * g)
        moments = (m, v) if twist == "old moments" else (new_m, new_v)
        k = max(1, t - 1) if twist == "late" else t + 1 if twist == "early" else t
        c1, c2 = (1.0, 1.0) if twist == "uncorrected" else (1 - b1**k, 1 - b2**k)
        eps = 1e-8
        root = np.sqrt(new_v / c2 + eps) if twist == "eps inside" else np.sqrt(new_v / c2) + eps
        d = (g if twist == "no momentum" else new_m / c1) / root
    if twist == "map first":
        return prox(start) - lr * d, *moments
    moved = (image if twist in ("from image", "no latent") else start) - lr * d
    if twist == "unmapped":
        return *((moved,) if lazy else ()), moved, *moments
    if not lazy:
        return prox(moved), *moments
    mapped = project(moved)
    return (
        mapped if twist in ("image kept", "no latent") else moved,
        image if twist == "stale" else mapped,
        *moments,
    )
