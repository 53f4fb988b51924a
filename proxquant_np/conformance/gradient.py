"""Checks of hand-written gradients against numerical differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from proxquant_np.autograd import GradcheckError, gradcheck
from proxquant_np.autograd.tensor import differentiable
from proxquant_np.checks import check_callable
from proxquant_np.conformance.adapters import recognised
from proxquant_np.conformance.calls import Misuse, called, first_call, gradient_form
from proxquant_np.conformance.checks import check_dtypes
from proxquant_np.conformance.estimators import ThroughStep, estimator
from proxquant_np.conformance.report import Fault, Report, in_order
from proxquant_np.conformance.straight_through import check_straight_through
from proxquant_np.libraries import as_array
from proxquant_np.prox.arrays import Floats

WIDE = 2.0 ** -np.arange(3, 8)  # steps for float32, in units of max(1, |x|)
SINGLE = float(np.finfo(np.float32).eps)


def check_gradient(
    fn: Callable[..., Any],
    grad_fn: Callable[..., Any] | None = None,
    inputs: Floats | Sequence[Any] | None = None,
    *,
    as_: str | None = None,
    clip: float | tuple[float, float] | None = None,
    ends: str | None = None,
    scale: float | str | None = None,
    step_scale: float | str | None = None,
    maximum: str | None = None,
    dtypes: Sequence[str] | None = None,
) -> Report:
    """Is grad_fn the gradient of fn at these inputs, one array or a sequence of arrays?

    If fn(*inputs) is a number, grad_fn(*inputs) is its gradient. If it is an array y, then
    grad_fn(*inputs, g) is the vector-Jacobian product, the gradient of sum(g * y) for a constant g
    of the shape of y. For several inputs it returns a tuple, with None for those that are not
    floats. Shapes and dtypes are those of the inputs, which must not be modified.

    dtypes: the dtypes to which float inputs are converted in turn; by default they are kept.

    The gradient is compared entry by entry with central differences in float64, as in `gradcheck`,
    so fn should accept float64 and the inputs should lie away from its kinks. If fn computes in
    float32 in any case (as JAX does unless jax_enable_x64 is set), this is noticed: the steps are
    then wide, 1/8 to 1/128 of max(1, |x|), extrapolated to 0, and about three digits are checked,
    as the report says. The gradient may be float32 if the result is.

    **Through a quantizer**, whose derivative is 0 almost everywhere, training passes another
    gradient. as_ says which, for fn(w) = q(w) and g the gradient with respect to q(w):

        straight_through   w receives scale * g where low <= w <= high, 0 elsewhere.
                           clip: (low, high), or c for (-c, c); math.inf, the default if another
                           option is given, for the identity (Bengio et al. 2013, arXiv:1308.3432);
                           1 is Hubara et al. 2016, Binarized Neural Networks. ends: "inside" as
                           above, "outside" for low < w < high, or the "lower" or the "upper" end
                           alone. scale: a number, or "mean" or "max" of |w|.
        dorefa_gradient    w receives the gradient of sum(g * tanh(w) / max|tanh(w)|), times scale
                           (Zhou et al. 2016, arXiv:1606.06160, equation 9, straight through the
                           rounding). maximum: "differentiated" too, or "constant".
        lsq_gradient       fn(w, s), s a learned step; clip: the first and the last code, (-8, 7).
                           w receives g where low < w/s < high, 0 elsewhere; s receives step_scale
                           times sum(g * d): d is low where w/s <= low, high where w/s >= high, and
                           round(w/s) - w/s = (q(w) - w) / s between. step_scale: a number, or
                           "1/sqrt(n q)" with n weights and q = high; also "1", "1/sqrt(n)", "1/n",
                           "1/sqrt(q)", "1/(n q)" (Esser et al. 2020, arXiv:1902.08153). ends:
                           "outside" as above; "inside" if a clamp that includes them is
                           differentiated.
        pact_gradient      fn(w, s), s the clip alpha: w receives g where 0 <= w < s (ends
                           "lower"), s the sum of g over w >= s (Choi et al. 2018,
                           arXiv:1805.06085). clip: other ends in units of s than (0, 1).

    as_="straight_through" alone, with none of the options, asks nothing: the report says which of
    these it is. grad_fn(w, g) returns what w receives, grad_fn(w, s, g) a tuple; without it, fn is
    a function of Tensors of this package, torch's or JAX arrays, differentiated by their library.
    inputs may be left out; if given, they are checked too, all weights have that shape, and s is
    taken from them. One step serves all weights. The weights that are tried lie on, near and far
    from the ends, up to 1000 in size (in units of s); whether it passes exactly at an end is judged
    where the end has at most six digits. By default both dtypes are checked.

    Raises:
        TypeError: fn or grad_fn is not callable.
        ValueError: no input is a float32 or float64 array, dtypes are others, as_ is unknown, or an
            option has no meaning for it.

    Examples:
        >>> x = np.array([0.5, -1.0, 2.0])
        >>> check = pq.conformance.check_gradient
        >>> check(lambda x: np.mean(x**2), lambda x: 2 * x / x.size, x).verdict
        'right'
        >>> check(lambda x: np.mean(x**2), lambda x: 2 * x, x).fault.convention
        'not averaged'

        >>> sign = pq.prox.sign_pm
        >>> check(sign, lambda w, g: g * (abs(w) < 1), as_="straight_through", clip=1).convention
        'wrong ends'
        >>> through = lambda w: F.straight_through(w, sign, backward=lambda w: abs(w) <= 1)
        >>> check(through, as_="straight_through").definition.partition(" as ")[2]
        'clipped (Hubara et al. 2016): g where -1 <= w <= 1, else 0'
    """
    options = {"clip": clip, "ends": ends, "scale": scale}
    options |= {"step_scale": step_scale, "maximum": maximum}
    check_callable("fn", fn)
    fn = recognised(fn)
    if as_ is not None:
        return _through_quantizer(fn, grad_fn, inputs, dtypes, as_, options)
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} must be None unless as_ is given, got {value!r}")
    check_callable("grad_fn", grad_fn)
    grad_fn = recognised(grad_fn)
    inputs, floats = _inputs([] if inputs is None else inputs)
    name = getattr(grad_fn, "__name__", repr(grad_fn))
    title = f"gradient of {getattr(fn, '__name__', repr(fn))!r}"
    found: list[Fault] = []
    size = sum(x.size for x, is_float in zip(inputs, floats, strict=True) if is_float)
    checked = f"{size} entries"
    for dtype in [None] if dtypes is None else check_dtypes(dtypes):
        at = [
            x.astype(dtype) if dtype and is_float else x
            for x, is_float in zip(inputs, floats, strict=True)
        ]
        try:
            subject = _Gradient(fn, grad_fn, at, floats)
            found += subject.faults()
        except Misuse as misuse:
            fault = Fault("misuse", str(misuse), {})
            return Report(name, title, "misuse", False, "nothing", (fault,))
        if subject.single:
            checked = f"{size} entries, to three digits: {COMPUTED_IN_FLOAT32}"
    faults = in_order({fault.convention: fault for fault in reversed(found)}.values())
    verdict = "wrong" if faults else "right"
    return Report(name, title, verdict, not faults, checked, faults, notes=fn.notes)


def _inputs(inputs):
    """(a list of the inputs, which of them are floats)."""
    inputs = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    inputs = [as_array(x) if isinstance(x, np.ndarray) else x for x in inputs]
    floats = [isinstance(x, np.ndarray) and x.dtype.kind == "f" for x in inputs]
    if not any(floats):
        raise ValueError("inputs must hold a float32 or float64 array, got none")
    return inputs, floats


def _through_quantizer(fn, grad_fn, inputs, dtypes, as_, options):
    asked = estimator(as_, **options)
    if grad_fn is not None:
        check_callable("grad_fn", grad_fn)
        grad_fn = recognised(grad_fn)
    if inputs is not None:
        inputs, floats = _inputs(inputs)
        steps = isinstance(asked, ThroughStep)
        if not floats[0] or inputs[0].size == 0 or len(inputs) not in ((2,) if steps else (1, 2)):
            raise ValueError(
                f"inputs must be the weights{', and the step' if steps else ''}, got "
                f"{[type(x).__name__ for x in inputs]}"
            )
        if len(inputs) == 2 and (np.size(inputs[1]) != 1 or not np.all(np.asarray(inputs[1]) > 0)):
            raise ValueError(f"inputs[1] must be one step > 0, got {inputs[1]!r}")
    dtypes = None if dtypes is None else check_dtypes(dtypes)
    return check_straight_through(fn, grad_fn, inputs, asked, dtypes)


COMPUTED_IN_FLOAT32 = (
    "fn computes in float32, so the steps were wide; to check all digits, let it compute in "
    "float64 (JAX: jax_enable_x64)"
)


class _Gradient:
    """A function and its gradient at some inputs. `single`: whether fn computes in float32."""

    def __init__(self, fn, grad_fn, inputs, floats):
        self.fn, self.grad_fn, self.inputs, self.floats = fn, grad_fn, inputs, floats
        self.shown = {f"input {i}": x for i, x in enumerate(inputs)}
        self.single = False

    def faults(self) -> list[Fault]:
        """All faults, those in the form of the gradient first."""
        first_call(self.fn, self.shown)
        y, faults = called(self.fn, self.shown)
        if y is None and faults:
            return [Fault("raised", f"fn raised {faults[0].detail}", self.shown)]
        self.y = np.asarray(y)
        kept = self.y.dtype if self.y.dtype.kind == "f" else np.float64
        g = np.random.default_rng(0).normal(size=self.y.shape) if self.y.ndim else np.ones(())
        self.g = g.astype(kept)
        given = self.shown | ({"g": self.g} if self.y.ndim else {})
        first = first_call(self.grad_fn, given)
        out, mutated = called(self.grad_fn, given, self.shown)
        if out is None and mutated:
            return mutated
        got = out if isinstance(out, tuple | list) else (out,)
        if len(got) != len(self.inputs):
            detail = f"returned {len(got)} gradients for {len(self.inputs)} inputs"
            return [*mutated, Fault("result", detail, self.shown)]
        self.single = self._computes_in_float32()
        found = first + mutated
        for i, d in enumerate(got):
            if self.floats[i]:
                fault = self._form(i, np.asarray(d))
                found += [fault] if fault else []
                if fault is None or fault.convention == "dtype changed":
                    found += self._value(i, np.asarray(d, self.inputs[i].dtype))
        return found

    def _computes_in_float32(self):
        """Whether inputs or result are rounded to float32, at a point that float32 cannot hold."""
        if self.y.dtype in (np.float32, np.float16) and any(
            x.dtype == np.float64 for x, f in zip(self.inputs, self.floats, strict=True) if f
        ):
            return True
        rng = np.random.default_rng(0)
        near = [
            x * (1 + rng.uniform(-1e-3, 1e-3, x.shape)) if is_float else x
            for x, is_float in zip(self.inputs, self.floats, strict=True)
        ]
        rounded = [
            x.astype(np.float32).astype(np.float64) if is_float else x
            for x, is_float in zip(near, self.floats, strict=True)
        ]
        try:
            with np.errstate(all="ignore"):
                y, at_rounded = (np.asarray(self.fn(*point)) for point in (near, rounded))
        except Exception:  # it accepts only float32
            return True
        if y.dtype == np.float32:
            return True
        moved = not np.array_equal(y, self.y)
        return moved and (np.array_equal(y, at_rounded) or np.array_equal(y, np.float32(y)))

    def _form(self, i, d):
        fault = gradient_form(i, d, self.inputs[i], self.shown)
        if fault and fault.convention == "dtype changed" and self.single:
            return None if d.dtype == self.y.dtype else fault
        return fault

    def _value(self, i, gradient):
        """A list of the fault, if any, in the values of input i's gradient."""
        if self.single:
            numerical, error = self._wide_differences(i)
            size = np.abs(numerical)
            allowed = 2e-3 * (size + 0.01 * size.max(initial=0)) + 3 * error
            excess = np.nan_to_num(np.abs(gradient - numerical) - allowed, nan=np.inf)
            if not (excess > 0).any():
                return []
            worst = np.unravel_index(np.argmax(excess), gradient.shape)
            said = (
                f"input {i}, entry {tuple(map(int, worst))} of shape {gradient.shape}: gradient "
                f"{gradient[worst]:.5g}, numerically (in float32) {numerical[worst]:.5g}; "
                f"{np.sum(excess > 0)} of {gradient.size} entries differ"
            )
        else:
            try:
                gradcheck(self._traced(i), self.inputs[i])
                return []
            except GradcheckError as error:
                gradient, numerical = error.gradient, error.numerical
                said = str(error).replace("input 0", f"input {i}", 1)
        kind, detail = _diagnose(gradient, numerical, self.y.shape, 1e-2 if self.single else 1e-3)
        if kind == "wrong gradient" and not detail and self.y.ndim and not self._uses_g(i):
            detail = "it does not depend on g"
        detail = f"{detail}; {said}" if detail else said
        return [Fault(kind, detail, self.shown, gradient, numerical)]

    def _uses_g(self, i):
        """Whether the gradient of input i changes with g."""
        outs = [self.grad_fn(*self._at(i, self.inputs[i]), g) for g in (self.g, -2 * self.g)]
        parts = [out[i] if isinstance(out, tuple | list) else out for out in outs]
        return not np.array_equal(*parts)

    def _at(self, i, x):
        at = [x if j == i else other for j, other in enumerate(self.inputs)]
        return [np.copy(part) if isinstance(part, np.ndarray) else part for part in at]

    def _traced(self, i):
        """fn of input i alone, with grad_fn as its gradient, for `gradcheck`."""

        @differentiable
        def traced(x):
            def vjp(g):
                at = self._at(i, x)
                out = self.grad_fn(*at, *([np.asarray(g, self.g.dtype)] if self.y.ndim else []))
                out = out if isinstance(out, tuple | list) else (out,)
                return out[i] * (1 if self.y.ndim else g)

            return self.fn(*self._at(i, x)), vjp

        return traced

    def _wide_differences(self, i):
        """(numerical gradient, its error) for input i: Richardson's extrapolation, in float32.

        With D(h) = (s(x + h) - s(x - h)) / 2h and s = sum(g * fn), take R(h) = (4 D(h) - D(2h)) / 3
        at the h for which R(h) - R(2h) plus the rounding of s, which estimate the error, is least.
        """
        x = self.inputs[i]
        numerical, error = np.zeros(x.shape), np.zeros(x.shape)
        for entry in np.ndindex(x.shape):
            slopes, noise = [], []
            for h in WIDE * max(1, abs(float(x[entry]))):
                up, down = x.copy(), x.copy()
                up[entry], down[entry] = np.float32(x[entry] + h), np.float32(x[entry] - h)
                ends = [
                    self.g * np.asarray(self.fn(*self._at(i, end)), float) for end in (up, down)
                ]
                width = float(up[entry]) - float(down[entry])
                slopes.append(np.sum(ends[0] - ends[1]) / width)
                noise.append(SINGLE * np.sum(np.abs(ends)) / width)
            better = (4 * np.array(slopes[1:]) - slopes[:-1]) / 3
            errors = np.abs(np.diff(better)) + noise[2:]
            best = int(np.argmin(errors))
            numerical[entry], error[entry] = better[1 + best], errors[best]
        return numerical, error


def _diagnose(gradient, numerical, shape, close):
    """The convention that is broken, and how, judging by the true gradient."""

    def like(other):
        size = np.abs(numerical).max()
        return np.allclose(gradient, other, close, 0.1 * close * (size or 1))

    sizes = {math.prod(shape), numerical.size, *shape, *numerical.shape} - {0, 1, 2}
    for factor, kind, detail in (
        (-1, "direction", "its sign is wrong"),
        (2, "factor of two", "twice the gradient"),
        (0.5, "factor of two", "half the gradient"),
        *((n, "not averaged", f"{n} times the gradient") for n in sizes),
        *((1 / n, "not averaged", f"1/{n} of the gradient") for n in sizes),
    ):
        if like(factor * numerical):
            return kind, detail
    if gradient.ndim == 2 and gradient.shape == gradient.T.shape and like(numerical.T):
        return "transposed", "the gradient is transposed"
    if not gradient.any():
        return "wrong gradient", "the gradient is zero"
    if not numerical.any():
        detail = 'fn is constant here; through a quantizer, as_="straight_through" says which it is'
        return "wrong gradient", detail
    return "wrong gradient", ""
