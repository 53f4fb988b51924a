"""Proxes of penalties by name: right ones in three styles pass, planted faults are named."""

import math

import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np.prox import L0, MCP, Huber, Levels

kit = pq.conformance


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    monkeypatch.setattr(kit.search, "SECONDS", 0.5)


GAMMA = {"huber": 0.75, "mcp": 2.0, "elastic_net": 0.5}


def asked(name):
    return kit.penalty(name, gamma=GAMMA[name]) if name in GAMMA else name


# Right ones: in NumPy, in a loop, in torch


def soft(x, s):
    return np.sign(x) * np.maximum(np.abs(x) - s, 0)


def ridge(x, s):
    return x / (1 + s)


def hard(x, s):
    return x * (x * x > 2 * s)


def huber(x, s, knee=0.75):
    return x - s * knee * x / np.maximum(np.abs(x), knee * (1 + s)) if s else x.copy()


def mcp(x, s, knee=2.0):
    if s >= knee:
        return x * (np.abs(x) > math.sqrt(s * knee))
    return np.where(np.abs(x) > knee, x, soft(x, s) / (1 - s / knee))


def elastic_net(x, s, weight=0.5):
    return soft(x, s) / (1 + s * weight)


NUMPY = {
    "soft_threshold": soft,
    "ridge": ridge,
    "hard_threshold": hard,
    "huber": huber,
    "mcp": mcp,
    "elastic_net": elastic_net,
}


def shrunk(x, s):
    return x - s if x > s else x + s if x < -s else 0.0


ONE_WEIGHT = {
    "soft_threshold": shrunk,
    "ridge": lambda x, s: x / (1 + s),
    "hard_threshold": lambda x, s: x if abs(x) >= math.sqrt(2 * s) else 0.0,
    "huber": lambda x, s: (
        x / (1 + s) if abs(x) <= 0.75 * (1 + s) else x - math.copysign(0.75 * s, x)
    ),
    "mcp": lambda x, s: (
        min((0.0, x), key=lambda u: (u - x) ** 2 / 2 + s * (1 if u else 0))
        if s >= 2
        else (x if abs(x) >= 2 else shrunk(x, s) * 2 / (2 - s))
    ),
    "elastic_net": lambda x, s: shrunk(x, s) / (1 + 0.5 * s),
}


def kept(fn):
    return lambda x, s: np.asarray(fn(x, s), x.dtype)


def loop(fn):
    return lambda x, s: np.array([fn(float(v), s) for v in x.flat], x.dtype).reshape(x.shape)


@pytest.mark.parametrize("name", kit.PENALTIES)
def test_right_ones_in_numpy_and_in_a_loop_pass(name):
    for fn in (kept(NUMPY[name]), loop(ONE_WEIGHT[name]), kit.penalty(name).prox):
        report = kit.check_prox(fn, name if fn.__name__ == "prox" else asked(name))
        assert report.verdict == "right", f"\n{report}"


def test_right_ones_in_torch_pass():
    torch = pytest.importorskip("torch")
    nn = torch.nn.functional

    def soft(x, s):
        return nn.softshrink(x, s)

    def hard(x, s):
        return nn.hardshrink(x, math.sqrt(2 * s))

    for name, fn in {
        "soft_threshold": soft,
        "ridge": lambda x, s: x.div(1 + s),
        "hard_threshold": hard,
        "huber": lambda x, s: torch.where(
            x.abs() <= 0.75 * (1 + s), x / (1 + s), x - 0.75 * s * x.sign()
        ),
        "mcp": lambda x, s: (
            torch.where(x.abs() > 2, x, soft(x, s) / (1 - s / 2))
            if s < 2
            else nn.hardshrink(x, math.sqrt(2 * s))
        ),
        "elastic_net": lambda x, s: soft(x, s) / (1 + 0.5 * s),
    }.items():
        report = kit.check_prox(kit.from_torch(fn), asked(name))
        assert report.verdict == "right", f"\n{report}"


# Planted faults

WRONG = [
    ("soft_threshold", lambda x, s: soft(x, s / 2), "factor of two", "halved"),
    ("soft_threshold", lambda x, s: soft(x, 2 * s), "factor of two", "doubled"),
    ("soft_threshold", lambda x, s: np.maximum(x - s, 0), "not optimal", "negative weights go"),
    ("soft_threshold", lambda x, s: x - s * np.sign(x), "not a prox", "no clip"),
    ("soft_threshold", lambda x, s: x * (np.abs(x) > s), "not optimal", "hard, not soft"),
    ("ridge", lambda x, s: x / (1 + 2 * s), "factor of two", "doubled"),
    ("ridge", lambda x, s: x / (1 + s / 2), "factor of two", "halved"),
    ("ridge", lambda x, s: x - s * x, "not a prox", "a gradient step"),
    ("ridge", soft, "not optimal", "the soft threshold of this strength"),
    ("hard_threshold", lambda x, s: hard(x, s / 2), "factor of two", "halved"),
    ("hard_threshold", lambda x, s: hard(x, 2 * s), "factor of two", "doubled"),
    ("hard_threshold", lambda x, s: x * (np.abs(x) > s), "wrong strength", "not sqrt(2 s)"),
    ("hard_threshold", lambda x, s: soft(x, np.sqrt(2 * s)), "not optimal", "shrunk by it"),
    ("hard_threshold", soft, "not optimal", "the soft threshold of this strength"),
    ("huber", lambda x, s: huber(x, 2 * s), "factor of two", "doubled"),
    ("huber", lambda x, s: huber(x, s / 2), "factor of two", "halved"),
    ("huber", lambda x, s: huber(x, s, 1.5), "parameter", "gamma is doubled"),
    (
        "huber",
        lambda x, s: np.where(np.abs(x) <= 0.75, x / (1 + s), x - s * 0.75 * np.sign(x)),
        "not optimal",
        "changes at gamma, not at",
    ),
    ("mcp", lambda x, s: mcp(x, s / 2), "factor of two", "halved"),
    ("mcp", lambda x, s: mcp(x, s, 2 * s) if s else x, "parameter", "counted in strengths"),
    ("mcp", lambda x, s: mcp(x, s, 4.0), "parameter", "gamma is doubled"),
    (
        "mcp",
        lambda x, s: np.where(np.abs(x) > 2, x, 2 * soft(x, s)),
        "parameter",
        "1 - 1/gamma, not by 1 - s/gamma",
    ),
    (
        "mcp",
        lambda x, s: np.where(np.abs(x) <= s, 0, x) if s >= 2 else mcp(x, s),
        "not optimal",
        "the threshold stays s",
    ),
    ("mcp", lambda x, s: soft(x, s), "not optimal", "the soft threshold"),
    ("elastic_net", lambda x, s: elastic_net(x, 2 * s), "factor of two", "doubled"),
    ("elastic_net", lambda x, s: elastic_net(x, s, 1.0), "parameter", "gamma is doubled"),
    ("elastic_net", lambda x, s: soft(x / (1 + 0.5 * s), s), "not optimal", "divides before"),
    ("elastic_net", lambda x, s: soft(x, s) / 1.5, "wrong strength", "divided by 1 + gamma"),
    ("elastic_net", soft, "not optimal", "the soft threshold"),
]


@pytest.mark.parametrize(("name", "fn", "convention", "words"), WRONG)
def test_planted_faults_are_named(name, fn, convention, words):
    report = kit.check_prox(kept(fn), asked(name))
    assert report.verdict == "wrong" and report.convention == convention, f"\n{report}"
    assert words in report.fault.detail and len(report.faults) == 1, f"\n{report}"


def test_another_normalisation_of_huber():
    """The Moreau envelope of the 1-norm is Huber's function over gamma."""
    report = kit.check_prox(kept(lambda x, s: huber(x, s / 0.25, 0.25)), Huber(knee=0.25))
    assert report.convention == "parameter" and "Moreau envelope" in report.fault.detail


@pytest.mark.parametrize("ties", ["zero", "away", None])
@pytest.mark.parametrize("r", [L0(), MCP(knee=1.0)], ids=repr)
def test_where_the_prox_jumps(r, ties):
    def strict(x, s):
        return r.prox(x, s)

    def inclusive(x, s):
        at = math.sqrt(2 * s) if isinstance(r, L0) else math.sqrt(s) if s >= 1 else math.inf
        return np.where(np.abs(x) == at, x, r.prox(x, s))

    for fn, goes in ((strict, "zero"), (inclusive, "away")):
        report = kit.check_prox(fn, r, ties=ties)
        assert bool(report) == (ties in (None, goes)), f"\n{report}"
        if not report:
            assert report.convention == "wrong tie" and "threshold is" in report.fault.detail
        if isinstance(r, L0):
            to = {"zero": "to its level", "away": "nowhere"}[goes]
            assert to in report.beyond["at a jump"]


def test_a_strength_that_is_built_in():
    fixed = lambda x: x * (np.abs(x) > 0.5)  # noqa: E731
    assert kit.check_prox(fixed, "hard_threshold", strength=0.125)
    report = kit.check_prox(fixed, "hard_threshold", strength=0.5)
    assert report.convention == "wrong strength" and "not sqrt(2 s)" in report.fault.detail
    assert "at strength 0.5" in str(report)


def test_a_library_may_refuse_strength_0():
    def refusing(x, tau):
        if tau <= 0:
            raise ValueError("tau must be positive")
        return soft(x, tau).astype(x.dtype)

    report = kit.check_prox(refusing, "soft_threshold")
    assert report and "tau must be positive" in report.beyond["strength 0"]


def test_a_penalty_of_other_levels():
    r = L0(Levels([-1, 1]))
    assert kit.check_prox(r.prox, r)
    report = kit.check_prox(lambda x, s: r.prox(x, 2 * s), r)
    assert report.convention == "factor of two"
    signed = lambda x, s: np.where(np.abs(x - np.sign(x)) ** 2 <= 2 * s, np.sign(x), x)  # noqa: E731
    assert kit.check_prox(signed, r).convention == "sign(0)"


def test_mistakes_are_told():
    check = kit.check_prox
    with pytest.raises(ValueError, match="did you mean 'hard_threshold'"):
        check(hard, "hard_treshold")
    with pytest.raises(ValueError, match="gamma is no option of ridge, which has levels"):
        kit.penalty("ridge", gamma=1)
    with pytest.raises(ValueError, match="strength must be None except for a penalty"):
        check(hard, "binary_l1", strength=1)
    with pytest.raises(ValueError, match="ties must be None for Huber"):
        check(hard, "huber", ties="away")
    with pytest.raises(ValueError, match="ties must be one of 'zero', 'away', got 'up'"):
        check(hard, "hard_threshold", ties="up")
    with pytest.raises(ValueError, match="strength must be a number >= 0"):
        check(hard, "hard_threshold", strength=-1)


@pytest.mark.parametrize("dtype", [object, complex, "U5", "datetime64[s]"])
def test_a_result_that_holds_no_real_numbers_is_misuse(dtype):
    for report in (
        kit.check_prox(lambda x, s: np.asarray(x).astype(dtype), "binary_l1"),
        kit.check_quantizer(lambda x: np.asarray(x).astype(dtype), "binary"),
    ):
        assert report.verdict == "misuse" and "not of real numbers" in report.fault.detail
