"""The mistakes that are easily made with the prox of a penalty, as maps of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from proxquant_np.prox import L0, L1, L2, MCP, ElasticNet, Huber, Regularizer
from proxquant_np.prox.arrays import Floats

Move = Callable[[Floats, float, Floats], Floats]
"""Of weights, the strength, and the nearest levels."""

Moves = Iterator[tuple[str, str, Move]]


def _prox_with(r, change=lambda s: s, **fields) -> Move:
    other = replace(r, **fields) if fields else r
    return lambda x, s, q: other.towards(x, change(s), q)


def _of_all(r) -> Moves:
    """(convention, detail, move) of the mistakes made with any penalty."""
    yield "factor of two", "the strength is doubled", _prox_with(r, lambda s: 2 * s)
    yield "factor of two", "the strength is halved", _prox_with(r, lambda s: s / 2)
    yield "wrong strength", "changes nothing at any strength", lambda x, s, q: x
    yield "wrong strength", "goes to the level at every strength", lambda x, s, q: q
    yield "wrong strength", "the strength counts squared", _prox_with(r, lambda s: s * s)
    yield (
        "wrong strength",
        "the strength is left out: that of 1 is taken",
        lambda x, s, q: r.towards(x, 1.0, q),
    )
    yield (
        "not optimal",
        "negative weights go to 0, as in the prox for weights >= 0",
        lambda x, s, q: np.where(x < 0, 0, r.towards(x, s, q)),
    )
    names = {L1: "soft threshold", L2: "ridge", L0: "hard threshold"}
    for kind, name in names.items():
        if not isinstance(r, kind):
            detail = f"the {name} of this strength"
            yield "not optimal", detail, _prox_with(kind(r.set))


def _of_soft(r) -> Moves:
    yield "not a prox", "steps over the level: no clip", _step
    yield (
        "not optimal",
        "weights beyond the threshold are kept as they are: hard, not soft",
        lambda x, s, q: np.where(np.abs(x - q) > s, x, q),
    )


def _step(x, s, q):
    return np.where(q > x, x + s, np.where(q < x, x - s, x))


def _of_ridge(r) -> Moves:
    yield (
        "not a prox",
        "a gradient step x - s (x - q), not the prox (x + s q) / (1 + s)",
        lambda x, s, q: x - s * (x - q),
    )


def _of_hard(r) -> Moves:
    for by, wrong in ((1, "the strength s"), (2, "2 s")):
        yield (
            "wrong strength",
            f"the threshold is {wrong}, not sqrt(2 s)",
            lambda x, s, q, by=by: np.where(np.abs(x - q) > by * s, x, q),
        )
    yield (
        "not optimal",
        "what passes the threshold is shrunk by it",
        lambda x, s, q: L1(r.set).towards(x, np.sqrt(2 * s), q),
    )


def _of_huber(r) -> Moves:
    yield (
        "parameter",
        "R is divided by gamma: the Moreau envelope of the 1-norm",
        _prox_with(r, lambda s: s / r.knee),
    )
    yield (
        "not optimal",
        "its formula changes at gamma, not at gamma (1 + s)",
        lambda x, s, q: np.where(
            np.abs(x - q) <= r.knee, q + (x - q) / (1 + s), _step(x, s * r.knee, q)
        ),
    )


def _of_elastic_net(r) -> Moves:
    yield (
        "not optimal",
        "divides before it thresholds",
        lambda x, s, q: L1(r.set).towards(q + (x - q) / (1 + s * r.ridge), s, q),
    )
    yield (
        "wrong strength",
        "the quadratic part has no strength: divided by 1 + gamma",
        lambda x, s, q: q + (L1(r.set).towards(x, s, q) - q) / (1 + r.ridge),
    )


def _of_mcp(r) -> Moves:
    yield (
        "parameter",
        "gamma is counted in strengths, as in Zhang's lambda, gamma: the knee is gamma s",
        lambda x, s, q: replace(r, knee=r.knee * s or 1).towards(x, s, q),
    )
    yield (
        "parameter",
        "divides by 1 - 1/gamma, not by 1 - s/gamma",
        lambda x, s, q: np.where(
            np.abs(x - q) > r.knee, x, q + (x - q - np.clip(x - q, -s, s)) / (1 - 1 / r.knee)
        ),
    )
    yield (
        "not optimal",
        "from s = gamma on the threshold stays s, and is not sqrt(s gamma)",
        lambda x, s, q: (
            np.where(np.abs(x - q) <= s, q, x) if s >= r.knee else _prox_with(r)(x, s, q)
        ),
    )
    yield (
        "not optimal",
        "no division by 1 - s/gamma: soft up to the knee",
        lambda x, s, q: np.where(np.abs(x - q) > r.knee, x, L1(r.set).towards(x, s, q)),
    )


def _of_gamma(r) -> Moves:
    for name in ("knee", "ridge"):
        if hasattr(r, name):
            for by, word in ((2, "doubled"), (0.5, "halved")):
                changed = {name: by * getattr(r, name)}
                yield "parameter", f"gamma is {word}", _prox_with(r, **changed)


OF_KIND = {
    L1: _of_soft,
    L2: _of_ridge,
    L0: _of_hard,
    Huber: _of_huber,
    MCP: _of_mcp,
    ElasticNet: _of_elastic_net,
}


def mistakes(r: Regularizer) -> Moves:
    """(convention, detail, move) of the mistakes that are easily made with this penalty.

    Examples:
        >>> from proxquant_np.conformance.mistakes_of_penalties import mistakes
        >>> next(mistakes(pq.prox.L0()))[1]
        'the threshold is the strength s, not sqrt(2 s)'
    """
    for kind, of_kind in OF_KIND.items():
        if isinstance(r, kind):
            yield from of_kind(r)
    yield from _of_gamma(r)
    yield from _of_all(r)
