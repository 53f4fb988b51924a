"""Prox-gradient, and the inequalities behind its convergence.

**Theorem.** Let L be beta-smooth, F = L + lambda R >= F*, and w_{t+1} = prox_{lr lambda R}(w_t - lr
grad L(w_t)) with lr = 1/(2 beta) and an exact prox. With D_t = w_{t+1} - w_t,

    descent         F(w_{t+1}) <= F(w_t) - beta/2 ||D_t||^2
    stationarity    ||grad F(w_{t+1})|| <= 3 beta ||D_t||           if R has a gradient at w_{t+1}
    progress        ||grad F(w_{t+1})||^2 <= 6 beta (F(w_t) - F(w_{t+1}))               likewise
    rate            min_{1<=k<=t} ||grad F(w_k)||^2 <= 6 beta (F(w_0) - F*) / t         likewise
    best            ||grad F(w_k)||^2 <= 18 beta (F(w_0) - F*) / (t + 2), where ||D_{k-1}|| is the
                    smallest of the first t moves                                       likewise

The first four constants cannot be smaller: tests attain the first two and come as close as one asks
to the 6. The last bound they approach for t = 1.

Proof. *Descent*: w_{t+1} is no worse than w_t in the objective of the prox, divided by lr:
lambda R(w_{t+1}) + <grad L(w_t), D_t> + beta ||D_t||^2 <= lambda R(w_t). Add L(w_{t+1}) <= L(w_t) +
<grad L(w_t), D_t> + beta/2 ||D_t||^2. *Stationarity*: at the prox lambda grad R(w_{t+1}) =
-grad L(w_t) - 2 beta D_t, so grad F(w_{t+1}) = e - 2 beta D_t, e = grad L(w_{t+1}) - grad L(w_t).

*Progress*: the two are never tight at once, since one needs L to curve by +beta and the other by
-beta. A finer descent lemma sees both. L + beta/2 ||.||^2 is convex with a 2 beta-Lipschitz
gradient, and the cocoercivity of such gradients reads, for L itself, L(w_{t+1}) <= L(w_t) +
<grad L(w_t), D> + 1/2 <e, D> + beta/4 ||D||^2 - 1/(4 beta) ||e||^2. With it the first step gives
4 beta (F(w_t) - F(w_{t+1})) >= ||e||^2 - 2 beta <e, D> + 3 beta^2 ||D||^2, while
||grad F(w_{t+1})||^2 = ||e||^2 - 4 beta <e, D> + 4 beta^2 ||D||^2. As ||e|| <= beta ||D||, their
ratio is largest at e = -beta D: 9 over 6, and 4 * 9/6 = 6. *Rate*: sum over t, and take the least.
*Best*: of the t terms of that sum the one at k is at least 3/2 beta ||D||^2 if its gradient is
3 beta ||D||, all others at least beta/2 ||D||^2, so 9 beta^2 ||D||^2 <= 9 beta / (t/2 + 1) of it.

Convexity is not used. Descent asks nothing of R but an exact prox, so it holds for BinaryL1. The
rest holds for BinaryL2 too: its kink at 0 points up, so no prox lands there. By the same proof
lr = 1/(c beta) with c >= 1 has 2 (c + 1) in place of the 6 (`rate_constant`); the largest step,
1/beta, gives the best constant, 4 (ours).

Source: Bai, Wang, Liberty 2019, Theorem 5.1, for a differentiable R and with an unspecified
universal constant C; its iteration is equation 4 with the full gradient. The constants, `progress`
and sharpness are ours. `RoundedW` provides what Remark 5.1 there asks for: a differentiable R
arbitrarily close to the W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proxquant_np.checks import check_instance, check_number
from proxquant_np.prox import L2, Regularizer, as_regularizer
from proxquant_np.prox.arrays import Floats
from proxquant_np.prox.regularizer import Prox
from proxquant_np.theory.dual_averaging import Gradient, Inequality
from proxquant_np.theory.toys import RoundedW, SmoothLoss, SmoothW


def prox_gradient(
    gradient: Gradient, regularizer: Prox, w: Floats, lr: float, lams: Sequence[float]
) -> Floats:
    """w_0 = w, w_{t+1} = prox_{lr lams[t] R}(w_t - lr gradient(w_t)): shape (T + 1, d).

    Examples:
        >>> inside = pq.theory.Quadratic(np.eye(1), np.array([0.5]))
        >>> w, R = np.zeros(1), pq.prox.BinaryL1()
        >>> pq.theory.prox_gradient(inside.gradient, R, w, lr=0.5, lams=[0.0, 1.0, 2.0]).ravel()
        array([ 0.   , -0.25 , -0.875, -1.   ])
    """
    iterates, regularizer = [np.array(w, np.float64)], as_regularizer(regularizer)
    for lam in lams:
        moved = iterates[-1] - lr * gradient(iterates[-1])
        iterates.append(regularizer.prox(moved, lr * lam))
    return np.array(iterates)


def regularizer_gradient(regularizer: Regularizer, w: Floats) -> Floats:
    """grad R(w): of a smooth W, or w - P(w) for half a squared distance, where P is continuous."""
    if isinstance(regularizer, SmoothW | RoundedW):
        return regularizer.gradient(w)
    check_instance("regularizer", regularizer, L2, "a smooth W or an L2 distance")
    return w - regularizer.project(w)


def rate_constant(c: float) -> float:
    """2 (c + 1), what takes the place of the rate's 6 if lr = 1/(c beta), for c >= 1.

    Examples:
        >>> [pq.theory.rate_constant(c) for c in (1, 2, 3)]
        [4, 6, 8]
    """
    check_number("c", c, least=1)
    return 2 * (c + 1)


@dataclass(frozen=True, eq=False)
class ProxGradientRun:
    """The iterates (T + 1, d) of a run with lr = 1/(2 beta), and both sides of the theorem.

    Examples:
        >>> loss = pq.theory.Quadratic(np.diag([1.0, 4.0]), np.array([0.5, 2.0]))
        >>> w, R = np.ones(2), pq.prox.BinaryL2()
        >>> run = pq.theory.run_prox_gradient(loss, R, w, lam=1.0, steps=20)
        >>> for both in (run.descent(), run.stationarity(), run.progress(), run.rate(), run.best()):
        ...     print((both.slack > -1e-12).all())
        ...
        True
        True
        True
        True
        True
    """

    loss: SmoothLoss
    regularizer: Regularizer
    lam: float
    beta: float
    iterates: Floats

    def objective(self) -> Floats:
        """F(w_0), ..., F(w_T)."""
        r, lam = self.regularizer, self.lam
        return np.array([self.loss.value(w) + lam * r.value(w) for w in self.iterates])

    def moves(self) -> Floats:
        """||D_0||, ..., ||D_{T-1}||."""
        return np.linalg.norm(np.diff(self.iterates, axis=0), axis=1)

    def gradient_norms(self) -> Floats:
        """||grad F(w_1)||, ..., ||grad F(w_T)||; TypeError for an R without gradient."""
        r, lam = self.regularizer, self.lam
        gradients = [
            self.loss.gradient(w) + lam * regularizer_gradient(r, w) for w in self.iterates[1:]
        ]
        return np.linalg.norm(gradients, axis=1)

    def descent(self) -> Inequality:
        """F(w_{t+1}) <= F(w_t) - beta/2 ||D_t||^2, for t = 0, ..., T - 1."""
        f = self.objective()
        return Inequality(f[1:], f[:-1] - self.beta / 2 * self.moves() ** 2)

    def stationarity(self) -> Inequality:
        """||grad F(w_{t+1})|| <= 3 beta ||D_t||, for t = 0, ..., T - 1."""
        return Inequality(self.gradient_norms(), 3 * self.beta * self.moves())

    def progress(self) -> Inequality:
        """||grad F(w_{t+1})||^2 <= 6 beta (F(w_t) - F(w_{t+1})), for t = 0, ..., T - 1."""
        return Inequality(self.gradient_norms() ** 2, -6 * self.beta * np.diff(self.objective()))

    def rate(self) -> Inequality:
        """min_{k<=t} ||grad F(w_k)||^2 <= 6 beta (F(w_0) - F*) / t, for t = 1, ..., T.

        For F* stands the lower bound of the loss: R >= 0.
        """
        least = np.minimum.accumulate(self.gradient_norms() ** 2)
        gap = self.objective()[0] - self.loss.lower
        return Inequality(least, 6 * self.beta * gap / np.arange(1, len(least) + 1))

    def best(self) -> Inequality:
        """||grad F||^2 where the move was smallest <= 18 beta (F(w_0) - F*) / (t + 2), 1 <= t <= T.

        We take this point for the T_best of Theorem 5.1; it is known without ever computing grad F.
        """
        moves, norms = self.moves(), self.gradient_norms()
        k = [int(np.argmin(moves[: t + 1])) for t in range(len(moves))]
        gap = self.objective()[0] - self.loss.lower
        return Inequality(norms[k] ** 2, 18 * self.beta * gap / np.arange(3, len(norms) + 3))


def run_prox_gradient(
    loss: SmoothLoss,
    regularizer: Prox,
    w: Floats,
    lam: float,
    steps: int,
    beta: float | None = None,
) -> ProxGradientRun:
    """Prox-gradient from w with the full gradient, constant lambda and lr = 1/(2 beta).

    beta: that of the loss by default. A value that is too small makes the step too large. A plain
    function as regularizer gives the iterates; both sides of the theorem need its R, so TypeError.

    Examples:
        >>> loss = pq.theory.Quadratic(np.eye(1), np.array([0.5]))
        >>> w, R = np.zeros(1), pq.prox.BinaryL1()
        >>> run = pq.theory.run_prox_gradient(loss, R, w, lam=2.0, steps=2)
        >>> run.iterates.ravel()
        array([ 0., -1., -1.])
    """
    regularizer = as_regularizer(regularizer)
    beta = loss.beta if beta is None else beta
    iterates = prox_gradient(loss.gradient, regularizer, w, 1 / (2 * beta), [lam] * steps)
    return ProxGradientRun(loss, regularizer, lam, beta, iterates)


def measured_beta(
    gradient: Gradient,
    w: Floats,
    rng: np.random.Generator,
    iterations: int = 50,
    epsilon: float = 1e-4,
) -> float:
    """A lower estimate of ||H||_2, H the Hessian at w, by power iteration on v -> Hv.

    Hv is the central difference (grad L(w + e v) - grad L(w - e v)) / (2 e), with an error of
    O(e^2) plus rounding / e. beta is the supremum over all w. The estimate ||Hv||, ||v|| = 1, grows
    with every iteration, even if the eigenvalues +-||H|| compete: ||Hv||^2 = <v, H^2 v> <=
    ||H^2 v||, so the next estimate, ||H^2 v|| / ||Hv||, is at least ||Hv||.

    Examples:
        >>> loss = pq.theory.Quadratic(np.diag([1.0, 4.0]), np.zeros(2))
        >>> round(pq.theory.measured_beta(loss.gradient, np.ones(2), np.random.default_rng(0)), 4)
        4.0
    """
    v, norm = rng.normal(size=w.shape), 1.0
    v /= np.linalg.norm(v)
    for _ in range(iterations):
        v = (gradient(w + epsilon * v) - gradient(w - epsilon * v)) / (2 * epsilon)
        norm = float(np.linalg.norm(v))
        if norm == 0:
            break
        v /= norm
    return norm
