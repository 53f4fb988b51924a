"""Plants mistakes in optimizers and demands that the checks of optim_checks.py catch them.

The mistakes are those that published quantization code has made, or that ours could make.
"""

import numpy as np
import optim_checks as checks
import pytest
from optim_checks import ADAM_OPTIONS, DYADIC, SGD_OPTIONS

from proxquant_np import quantize_and_freeze
from proxquant_np.optim import SGD, Adam, DualAveraging, ProxGradient
from proxquant_np.prox import BinaryL1, Constant, Linear

# Base steps


class MomentumMovesFrozen(SGD):
    """No gradient is taken for a gradient of zero."""

    def step(self):
        for p in self.params:
            p.requires_grad = True
            p.grad = np.zeros_like(p.data) if p.grad is None else p.grad
        super().step()


class MovesFrozenByStaleGradient(SGD):
    """Looks at the gradient only, not at requires_grad."""

    def step(self):
        flags = [p.requires_grad for p in self.params]
        for p in self.params:
            p.requires_grad = True
        super().step()
        for p, flag in zip(self.params, flags, strict=True):
            p.requires_grad = flag


class NesterovIgnored(SGD):
    def update(self, w, g, state, t, scratch):
        self.nesterov = False
        super().update(w, g, state, t, scratch)


class Dampened(SGD):
    def update(self, w, g, state, t, scratch):
        super().update(w, g * (1 - self.momentum), state, t, scratch)


class DecayedAfterTheStep(SGD):
    """The decay is taken at the weights after the step, not before."""

    def update(self, w, g, state, t, scratch):
        decay, self.weight_decay = self.weight_decay, 0
        super().update(w, g, state, t, scratch)
        w -= self.lr * decay * w
        self.weight_decay = decay


class GradientChanged(SGD):
    def update(self, w, g, state, t, scratch):
        g += self.weight_decay * w
        super().update(w, g, state, t, scratch)


class UncorrectedAdam(Adam):
    def update(self, w, g, state, t, scratch):
        super().update(w, g, state, 10**6, scratch)


class LateAdam(Adam):
    """Counts from 0 where Adam counts from 1 (and survives it)."""

    def update(self, w, g, state, t, scratch):
        super().update(w, g, state, max(1, t - 1), scratch)


class OneClock(Adam):
    """All parameters share one count of steps, also those that joined later."""

    def step(self):
        self._steps[...] = self._steps.max()
        super().step()


class DecoupledAdam(Adam):
    def update(self, w, g, state, t, scratch):
        decay, self.weight_decay = self.weight_decay, 0
        w *= 1 - self.lr * decay
        super().update(w, g, state, t, scratch)
        self.weight_decay = decay


class EpsInsideTheRoot(Adam):
    def update(self, w, g, state, t, scratch):
        eps, self.eps = self.eps, 0
        state[1] += eps**2
        super().update(w, g, state, t, scratch)
        self.eps = eps


class OnlyTheFirstBlock(SGD):
    """Large parameters are left alone beyond the first block."""

    def _make_plan(self, active):
        plan, seen = [], set()
        for span, members in super()._make_plan(active):
            if members[0] not in seen:
                plan.append((span, members))
            seen.update(members)
        return plan


class CopiesNonContiguous(SGD):
    def step(self):
        for p in self.params:
            p.data = p.data.copy()
        super().step()


WRONG_BASES = {
    checks.plain_sgd: [
        (MovesFrozenByStaleGradient, SGD_OPTIONS["plain"]),
        (MomentumMovesFrozen, SGD_OPTIONS["momentum"]),
        (NesterovIgnored, SGD_OPTIONS["Nesterov"]),
        (Dampened, SGD_OPTIONS["momentum"]),
        (DecayedAfterTheStep, SGD_OPTIONS["weight decay"]),
        (GradientChanged, SGD_OPTIONS["weight decay"]),
        (OnlyTheFirstBlock, SGD_OPTIONS["plain"]),
        (CopiesNonContiguous, SGD_OPTIONS["plain"]),
    ],
    checks.plain_adam: [
        (UncorrectedAdam, ADAM_OPTIONS["plain"]),
        (LateAdam, ADAM_OPTIONS["plain"]),
        (OneClock, ADAM_OPTIONS["plain"]),
        (DecoupledAdam, ADAM_OPTIONS["weight decay"]),
        (EpsInsideTheRoot, ADAM_OPTIONS["betas and eps"]),
    ],
}


@pytest.mark.parametrize(
    ("plain", "cls", "options"),
    [
        pytest.param(plain, cls, options, id=cls.__name__)
        for plain, wrong in WRONG_BASES.items()
        for cls, options in wrong
    ],
)
def test_wrong_formulas_are_caught(plain, cls, options):
    with pytest.raises(AssertionError):
        checks.check_base(cls, plain, options)


@pytest.mark.parametrize("cls", [MomentumMovesFrozen, MovesFrozenByStaleGradient])
def test_moved_frozen_weights_are_caught(cls):
    with pytest.raises(AssertionError):
        checks.check_frozen(cls, lr=0.1, momentum=0.9)


class ForgetsMomentum(SGD):
    def load_state_dict(self, state):
        super().load_state_dict({k: 0 * v if "buffer" in k else v for k, v in state.items()})


class ForgetsTheCount(Adam):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "steps": 0 * state["steps"]})


class StateWithoutCopies(SGD):
    def state_dict(self):
        return {**super().state_dict(), "momentum_buffer.0": self._state[0][self._spans[0]]}


class ForgetsTheHomotopy(ProxGradient):
    def load_state_dict(self, state):
        super().load_state_dict({**state, "homotopy_step": 0})


class ForgetsTheLatent(DualAveraging):
    """Restarts from the quantized weights."""

    def load_state_dict(self, state):
        super().load_state_dict({**state, "latent.0": self.params[0].data})


@pytest.mark.parametrize(
    "build",
    [
        lambda params: ForgetsMomentum(params, 0.1, momentum=0.9),
        lambda params: ForgetsTheCount(params, 0.1),
        lambda params: StateWithoutCopies(params[:1], 0.1, momentum=0.9),
        lambda params: ForgetsTheHomotopy(SGD(params, 0.1), params[:1], BinaryL1(), Linear(0.5)),
        lambda params: ForgetsTheLatent(SGD(params, 0.1), params[:1], BinaryL1()),
    ],
    ids=["momentum", "count", "no copies", "homotopy", "latent"],
)
def test_state_that_is_not_all_is_caught(build):
    with pytest.raises(AssertionError):
        checks.check_round_trip(build)


# Wrappers


class OffByOne(ProxGradient):
    """lambda_1 in the first step."""

    def step(self):
        self.steps += 1
        super().step()
        self.steps -= 1


class StrengthWithoutLr(ProxGradient):
    def map_(self, points, strength):
        super().map_(points, strength / self.lr)


class MapsBeforeItMoves(ProxGradient):
    def step(self):
        self.map_([p.data for p in self.params], self.strength)
        self.base.step()
        self.steps += 1


class NeverMaps(ProxGradient):
    def map_(self, points, strength):
        pass


class MapsTwice(ProxGradient):
    def map_(self, points, strength):
        super().map_(points, strength)
        super().map_(points, strength)


@pytest.mark.parametrize(
    "wrapper",
    [OffByOne, StrengthWithoutLr, MapsBeforeItMoves, NeverMaps, MapsTwice, DualAveraging],
)
def test_wrong_eager_steps_are_caught(wrapper):
    with pytest.raises(AssertionError):
        checks.check_eager(wrapper)


class LatentOverwritten(DualAveraging):
    """The image takes the latent's place (evaluation that quantizes the weights for good)."""

    def map_(self, points, strength):
        super().map_(points, strength)
        for z, p in zip(points, self.params, strict=True):
            z[...] = p.data


class LatentOverwrittenBySaving(DualAveraging):
    def state_dict(self):
        self.map_(self.latent, np.inf)
        self.latent = [p.data.copy() for p in self.params]
        return super().state_dict()


class GradientAtLatent(DualAveraging):
    """The weights in use are the latent ones; quantized only to be looked at."""

    def map_(self, points, strength):
        for z, w, p in zip(points, self._image, self.params, strict=True):
            p.data[...] = w[...] = z


class FirstGradientAtStart(DualAveraging):
    """Maps after the first step only."""

    def __init__(self, *args):
        start = [p.data.copy() for p in args[1]]
        super().__init__(*args)
        for p, w, z in zip(self.params, self._image, start, strict=True):
            p.data[...] = w[...] = z


class StepsTheImage(DualAveraging):
    """The base moves the weights, and they are the new latent."""

    def check_step(self):
        super().check_step()
        for z, p in zip(self.latent, self.params, strict=True):
            z[...] = p.data


class GradientGated(DualAveraging):
    """Gradients of latents beyond [-1, 1] are dropped, as in a hard-tanh straight-through."""

    def step(self):
        for z, p in zip(self.latent, self.params, strict=True):
            p.grad *= np.abs(z) <= 1
        super().step()


class ThirdLevel(DualAveraging):
    """sign(0) = 0."""

    def map_(self, points, strength):
        super().map_(points, strength)
        for z, w, p in zip(points, self._image, self.params, strict=True):
            p.data[z == 0] = w[z == 0] = 0


WRONG_LAZY = [
    LatentOverwritten,
    LatentOverwrittenBySaving,
    GradientAtLatent,
    FirstGradientAtStart,
    StepsTheImage,
    GradientGated,
    ThirdLevel,
]


@pytest.mark.parametrize(
    "wrapper", [*WRONG_LAZY, lambda base, p, r: ProxGradient(base, p, r, None)]
)
def test_wrong_lazy_steps_are_caught(wrapper):
    with pytest.raises(AssertionError):
        checks.check_closed_form(wrapper, **DYADIC)


class DecaysTheImage(DualAveraging):
    """Weight decay at the deployed weights; the latent is what the base decays."""

    def step(self):
        for p, z in zip(self.params, self.latent, strict=True):
            p.grad = p.grad + self.base.weight_decay * (p.data - z)
        super().step()


@pytest.mark.parametrize("wrapper", [*WRONG_LAZY[2:], DecaysTheImage])
def test_what_is_not_straight_through_is_caught(wrapper):
    with pytest.raises(AssertionError):
        checks.check_straight_through(wrapper, **DYADIC, weight_decay=0.5)


def project_only(params, regularizer):
    for p in params:
        regularizer.project(p.data, out=p.data)
        p.grad = None


def freeze_only(params, regularizer):
    for p in params:
        p.requires_grad, p.grad = False, None


class MapsFrozen(ProxGradient):
    def trained(self):
        return list(range(len(self.params)))

    def map_(self, points, strength):
        super().map_(points, strength)
        for w in points:
            w *= np.float32(0.99)


@pytest.mark.parametrize(
    ("wrapper", "freeze"),
    [
        (ProxGradient, project_only),
        (ProxGradient, freeze_only),
        (DualAveraging, freeze_only),
        (MapsFrozen, quantize_and_freeze),
    ],
)
def test_frozen_weights_that_move_are_caught(wrapper, freeze):
    with pytest.raises(AssertionError):
        checks.check_quantized_frozen(wrapper, freeze)


class Unclipped(DualAveraging):
    def __init__(self, *args, clip):
        super().__init__(*args)


class ClipsOnlyTheImage(DualAveraging):
    def map_(self, points, strength):
        super().map_([np.copy(z) for z in points], strength)


@pytest.mark.parametrize("wrapper", [Unclipped, ClipsOnlyTheImage])
def test_points_that_are_not_clipped_are_caught(wrapper):
    with pytest.raises(AssertionError):
        checks.check_clip(wrapper)


class MovesUnnoticed(SGD):
    """As a step that is written anew, and does not say that it changed anything."""

    def step(self):
        for p in self.params:
            if p.grad is not None:
                p.data -= self.lr * p.grad


class MapsUnnoticed(ProxGradient):
    """Only the base says what it moved, not the map."""

    def map_(self, points, strength):
        for i in self.trained():
            self.regularizer.prox(points[i], strength, out=self.params[i].data)


@pytest.mark.parametrize(
    "build",
    [
        lambda params: MovesUnnoticed(params, 0.5),
        lambda params: MapsUnnoticed(SGD(params, 0.5), params[:1], BinaryL1(), Constant(0.5)),
        lambda params: MapsUnnoticed(SGD(params, 0.5), params[:1], BinaryL1(), None),
        lambda params: ProxGradient(MovesUnnoticed(params, 0.5), params[:1], BinaryL1(), None),
    ],
)
def test_changes_that_nobody_notices_are_caught(build):
    with pytest.raises(AssertionError):
        checks.check_noticed(build)


class SharesItsBase(ProxGradient):
    def check_step(self):
        self.base.wrappers = self._number
        super().check_step()


def test_a_base_that_is_stepped_twice_is_caught():
    with pytest.raises(AssertionError, match="stepped by both"):
        checks.check_one_wrapper(
            lambda base, params: SharesItsBase(base, params, BinaryL1(), Linear(0.5)),
            lambda base, params: ProxGradient(base, params, BinaryL1(), Linear(0.5)),
        )


def test_the_checks_pass_what_is_right():
    """A checker that always objects would pass the tests above."""
    checks.check_base(SGD, checks.plain_sgd, SGD_OPTIONS["Nesterov"])
    checks.check_base(Adam, checks.plain_adam, ADAM_OPTIONS["weight decay"])
    checks.check_frozen(SGD, lr=0.1, momentum=0.9)
    checks.check_round_trip(lambda p: SGD(p[:1], 0.1, momentum=0.9))
    checks.check_round_trip(lambda p: DualAveraging(SGD(p, 0.1), p[:1], BinaryL1()))
    checks.check_round_trip(lambda p: ProxGradient(SGD(p, 0.1), p[:1], BinaryL1(), Linear(0.5)))
    checks.check_noticed(lambda p: SGD(p, 0.5))
    checks.check_eager(ProxGradient)
    checks.check_closed_form(DualAveraging, **DYADIC)
    checks.check_straight_through(DualAveraging, **DYADIC, weight_decay=0.5)
    checks.check_quantized_frozen(DualAveraging, quantize_and_freeze)
    checks.check_clip(DualAveraging)
