"""Gradients through quantizers: right ones in three styles pass, planted faults are named."""

import math
import sys

import numpy as np
import pytest
from command_line import exit_code

import proxquant_np as pq
import proxquant_np.functional as F

kit = pq.conformance
check = kit.check_gradient
sign = pq.prox.sign_pm


def ternary(w):
    return np.clip(np.round(w), -1, 1)


# Right ones, in NumPy


def identity(w, g):
    return g.copy()


def clipped(w, g):
    return g * (np.abs(w) <= 1)


def strictly_clipped(w, g):
    return np.where((w > -1) & (w < 1), g, 0)


def dorefa(w):
    return pq.prox.DoReFa(2).quantize(w)


def dorefa_vjp(w, g):
    t = np.tanh(w)
    i = np.abs(t).argmax()
    top = abs(t[i])
    dt = g / top
    dt[i] -= np.sign(t[i]) * np.sum(g * t) / top**2
    return dt * (1 - t**2)


def dorefa_constant(w, g):
    t = np.tanh(w)
    return g * (1 - t * t) / np.abs(t).max()


LOW, HIGH = -8, 7


def lsq(w, s):
    return (np.round(np.clip(w / s, LOW, HIGH)) * s).astype(w.dtype)


def lsq_vjp(w, s, g, factor=None, strict=True):
    v = w / s
    within = (v > LOW) & (v < HIGH) if strict else (v >= LOW) & (v <= HIGH)
    d = np.where(within, np.round(v) - v, np.where(v < 0, LOW, HIGH))
    factor = 1 / math.sqrt(w.size * HIGH) if factor is None else factor
    return g * within, np.array(factor * np.sum(g * d), s.dtype)


def pact(w, a):
    return (np.round(np.clip(w / a, 0, 1) * 15) / 15 * a).astype(w.dtype)


def pact_vjp(w, a, g):
    return g * ((w >= 0) & (w < a)), np.array(np.sum(g[w >= a]), a.dtype)


def pact_rounded_vjp(w, a, g):
    """Not PACT's: what rounding leaves is differentiated too."""
    within = (w >= 0) & (w < a)
    d = np.where(within, (pact(w, a) - w) / a, w >= a)
    return g * within, np.array(np.sum(g * d), a.dtype)


INF = {"clip": math.inf}
RIGHT = [
    (sign, identity, "straight_through", INF),
    (sign, clipped, "straight_through", {"clip": 1}),
    (sign, clipped, "straight_through", {"clip": (-1, 1), "ends": "inside"}),
    (sign, strictly_clipped, "straight_through", {"clip": 1, "ends": "outside"}),
    (ternary, lambda w, g: 0.5 * g, "straight_through", {"scale": 0.5}),
    (ternary, lambda w, g: g * abs(w).mean(), "straight_through", {"scale": "mean"}),
    (ternary, lambda w, g: g * abs(w).max(), "straight_through", {"scale": "max"}),
    (ternary, lambda w, g: g * (abs(w) <= 0.7), "straight_through", {"clip": 0.7}),
    (
        lambda w: np.clip(w, 0, 2).round(),
        lambda w, g: g * ((w >= 0) & (w < 2)),
        "straight_through",
        {"clip": (0, 2), "ends": "lower"},
    ),
    (dorefa, dorefa_vjp, "dorefa_gradient", {}),
    (dorefa, dorefa_constant, "dorefa_gradient", {"maximum": "constant"}),
    (lsq, lsq_vjp, "lsq_gradient", {"clip": (LOW, HIGH)}),
    (
        lsq,
        lambda w, s, g: lsq_vjp(w, s, g, strict=False),
        "lsq_gradient",
        {"clip": (LOW, HIGH), "ends": "inside"},
    ),
    (
        lsq,
        lambda w, s, g: lsq_vjp(w, s, g, factor=0.01),
        "lsq_gradient",
        {"clip": (LOW, HIGH), "step_scale": 0.01},
    ),
    (pact, pact_vjp, "pact_gradient", {}),
]


@pytest.mark.parametrize(("fn", "vjp", "as_", "options"), RIGHT)
def test_right_ones_pass(fn, vjp, as_, options):
    report = check(fn, vjp, as_=as_, **options)
    assert report and report.verdict == "right", report


@pytest.mark.parametrize(("fn", "vjp", "as_", "options"), RIGHT)
def test_which_it_is(fn, vjp, as_, options):
    asked = check(fn, vjp, as_=as_, **options)
    report = check(fn, vjp, as_="straight_through")
    assert report, report
    assert report.definition == asked.definition


def told(report):
    assert not report and report.verdict == "wrong", report
    return [fault.convention for fault in report.faults]


FAULTS = [
    # the ends on the wrong side
    (sign, strictly_clipped, "straight_through", {"clip": 1}, "wrong ends"),
    (sign, clipped, "straight_through", {"clip": 1, "ends": "outside"}, "wrong ends"),
    (sign, clipped, "straight_through", {"clip": 1, "ends": "lower"}, "wrong ends"),
    (ternary, lambda w, g: g * (abs(w) < 0.7), "straight_through", {"clip": 0.7}, "wrong ends"),
    # times the quantized value, or the weight
    (sign, lambda w, g: g * sign(w), "straight_through", INF, "wrong factor"),
    (ternary, lambda w, g: g * ternary(w), "straight_through", INF, "wrong factor"),
    (sign, lambda w, g: g * w, "straight_through", INF, "wrong factor"),
    (sign, lambda w, g: clipped(w, g) * sign(w), "straight_through", {"clip": 1}, "wrong factor"),
    (sign, lambda w, g: 2 * g, "straight_through", INF, "wrong factor"),
    (sign, identity, "straight_through", {"scale": "mean"}, "wrong factor"),
    # beyond the levels
    (sign, clipped, "straight_through", INF, "wrong clip"),
    (sign, identity, "straight_through", {"clip": 1}, "wrong clip"),
    (sign, lambda w, g: g * (abs(w) <= 1.3), "straight_through", {"clip": 1}, "wrong clip"),
    (sign, lambda w, g: g * (w <= 1), "straight_through", {"clip": 1}, "wrong clip"),
    (sign, lambda w, g: -g, "straight_through", INF, "direction"),
    (sign, lambda w, g: np.zeros_like(w), "straight_through", INF, "wrong factor"),
    (sign, lambda w, g: np.ones_like(w), "straight_through", INF, "wrong estimator"),
    (sign, lambda w, g: g * np.exp(-(w**2)), "straight_through", INF, "wrong estimator"),
    (dorefa, dorefa_constant, "dorefa_gradient", {}, "wrong estimator"),
    (dorefa, dorefa_vjp, "dorefa_gradient", {"maximum": "constant"}, "wrong estimator"),
    (dorefa, identity, "dorefa_gradient", {}, "wrong estimator"),
    (dorefa, lambda w, g: 0.5 * dorefa_vjp(w, g), "dorefa_gradient", {}, "wrong factor"),
    (dorefa, lambda w, g: g * (1 - np.tanh(w) ** 2), "dorefa_gradient", {}, "wrong estimator"),
    (pact, pact_rounded_vjp, "pact_gradient", {}, "wrong estimator"),
    (
        pact,
        lambda w, a, g: (pact_vjp(w, a, g)[0], -pact_vjp(w, a, g)[1]),
        "pact_gradient",
        {},
        "direction",
    ),
    (
        pact,
        lambda w, a, g: (g * ((w >= 0) & (w <= a)), pact_vjp(w, a, g)[1]),
        "pact_gradient",
        {},
        "wrong ends",
    ),
]


@pytest.mark.parametrize(("fn", "vjp", "as_", "options", "convention"), FAULTS)
def test_planted_faults_are_named(fn, vjp, as_, options, convention):
    report = check(fn, vjp, as_=as_, **options)
    assert told(report)[0] == convention, report
    assert len(report.faults) == 1, report


def learned(**changes):
    """LSQ's gradient, with the step's turned, scaled, without what rounding leaves, ..."""

    def vjp(w, s, g):
        dw, ds = lsq_vjp(w, s, g, changes.get("factor"), changes.get("strict", True))
        return changes.get("data", 1) * dw, changes.get("sign", 1) * ds

    return vjp


LSQ_FAULTS = [
    (learned(sign=-1), ["direction"]),
    (learned(factor=1), ["gradient scale"]),
    (learned(factor=24**-0.5), ["gradient scale"]),
    (learned(factor=1 / 24), ["gradient scale"]),
    (learned(factor=1 / (24 * 7)), ["gradient scale"]),
    (learned(factor=0.3), ["gradient scale"]),
    (learned(strict=False), ["wrong ends"]),
    (learned(data=2), ["wrong factor"]),
    (learned(sign=-1, factor=1), ["direction", "gradient scale"]),
    (learned(data=2, strict=False, factor=1), ["wrong factor", "wrong ends", "gradient scale"]),
    (lambda w, s, g: (g.copy(), lsq_vjp(w, s, g)[1]), ["wrong clip"]),
]


@pytest.mark.parametrize(("vjp", "conventions"), LSQ_FAULTS)
def test_faults_of_learned_steps_are_named(vjp, conventions):
    report = check(lsq, vjp, as_="lsq_gradient", clip=(LOW, HIGH))
    assert told(report) == conventions, report


def test_the_step_is_left_out():
    report = check(lsq, lambda w, s, g: lsq_vjp(w, s, g)[0], as_="lsq_gradient", clip=(LOW, HIGH))
    assert told(report) == ["result"]


# Others' libraries


def test_our_straight_through():
    def through(w):
        return F.straight_through(w, sign)

    def hubara(w):
        return F.straight_through(w, sign, backward=lambda w: abs(w) <= 1)

    assert check(through, as_="straight_through", clip=math.inf)
    assert check(hubara, as_="straight_through", clip=1)
    assert told(check(hubara, as_="straight_through", clip=math.inf)) == ["wrong clip"]
    assert "identity (Bengio et al. 2013)" in check(through, as_="straight_through").definition
    report = check(hubara, as_="straight_through")
    assert "clipped (Hubara et al. 2016): g where -1 <= w <= 1" in report.definition
    report = check(lambda w: F.straight_through(F.clip(w, -1, 1), sign), as_="straight_through")
    assert report and "clipped" in report.definition


def test_torch():
    torch = pytest.importorskip("torch")

    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            ctx.save_for_backward(w)
            return torch.where(w >= 0, 1.0, -1.0).to(w.dtype)

        @staticmethod
        def backward(ctx, g):
            (w,) = ctx.saved_tensors
            return g * (w.abs() <= 1)

    for fn in (Sign.apply, kit.from_torch(Sign.apply)):
        assert check(fn, as_="straight_through", clip=1)
        assert told(check(fn, as_="straight_through", clip=1, ends="outside")) == ["wrong ends"]
    assert told(check(torch.round, as_="straight_through")) == ["wrong factor"]
    assert told(check(torch.round, as_="straight_through", clip=math.inf)) == ["wrong factor"]

    def detached(w):
        return w + (w.round() - w).detach()

    assert check(detached, as_="straight_through", clip=math.inf)
    hard = torch.nn.Hardtanh()
    report = check(lambda w: hard(w).round(), as_="straight_through")
    assert told(report) == ["wrong factor"]
    report = check(lambda w: detached(hard(w)), as_="straight_through")
    assert report and "-1 < w < 1" in report.definition, report
    report = check(lambda w: detached(w.clamp(-1, 1)), as_="straight_through")
    assert report and "-1 <= w <= 1" in report.definition, report

    def tanh_normalised(w):
        t = torch.tanh(w)
        x = (t / t.abs().max() / 2 + 0.5) * 3
        return 2 * detached(x) / 3 - 1

    assert check(tanh_normalised, as_="dorefa_gradient")
    assert check(tanh_normalised, inputs=np.ones((2, 5)) + np.arange(5.0), as_="dorefa_gradient")

    def learned_step(w, s):
        k = 1 / math.sqrt(w.numel() * HIGH)
        s = (s - s * k).detach() + s * k
        return detached((w / s).clamp(LOW, HIGH)) * s

    assert check(learned_step, as_="lsq_gradient", clip=(LOW, HIGH), ends="inside")
    report = check(learned_step, as_="straight_through")
    assert report and "LSQ" in report.definition and "1/sqrt(n q)" in report.definition

    def unscaled(w, s):
        return detached((w / s).clamp(LOW, HIGH)) * s

    report = check(unscaled, as_="lsq_gradient", clip=(LOW, HIGH), ends="inside")
    assert told(report) == ["gradient scale"]

    def fake(w):
        return torch.fake_quantize_per_tensor_affine(w, 0.5, 0, -8, 7)

    report = check(fake, as_="straight_through", dtypes=["float32"])
    assert report and "-4.25 <= w < 3.75" in report.definition, report

    def fake_learned(w, s):
        k = 1 / math.sqrt(w.numel() * HIGH)
        zero = torch.zeros(1)
        return torch._fake_quantize_learnable_per_tensor_affine(w, s.view(1), zero, LOW, HIGH, k)

    asked = {"as_": "lsq_gradient", "clip": (LOW, HIGH), "dtypes": ["float32"]}
    report = check(fake_learned, **asked)
    assert told(report) == ["wrong clip"] and "-8.5 <= w/s < 7.5, not" in str(report)
    report = check(lambda w: detached(w / 0.1).clamp(-7, 7) * 0.1, as_="straight_through", clip=0.7)
    assert told(report) == ["wrong clip"] and "-0.75 < w < 0.75, not" in str(report)
    assert report.fault.got != report.fault.expected


# Misuse and arguments


def test_misuse_and_form():
    report = check(ternary, as_="straight_through")
    assert report.verdict == "misuse" and "pass its backward grad_fn(w, g)" in str(report)
    report = check(sign, lambda w: w, as_="straight_through")
    assert report.verdict == "misuse" and "fn(w, g)" in str(report)
    report = check(sign, lambda w, g: None, as_="straight_through")
    assert report.verdict == "misuse" and "is there a return" in str(report)
    report = check(sign, lambda w, g: g.astype(np.float64), as_="straight_through", clip=math.inf)
    assert told(report) == ["dtype changed"]
    report = check(sign, lambda w, g: g.sum(), as_="straight_through")
    assert told(report)[0] == "shape changed"

    def spoils(w, g):
        g *= abs(w) <= 1
        return g

    assert told(check(sign, spoils, as_="straight_through", clip=1)) == ["input mutated"]

    def single(w, g):
        return (g.astype(np.float32) * np.float32(1)).astype(w.dtype)

    assert told(check(sign, single, as_="straight_through", clip=math.inf)) == ["precision"]


def test_a_gradient_that_is_meant_to_be_straight_through_is_pointed_at():
    report = check(sign, identity, np.array([0.3, -0.4]))
    assert told(report) == ["wrong gradient"] and 'as_="straight_through"' in report.fault.detail


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"as_": "straight"}, "as_ must be one of straight_through, .*'straight'; did you mean"),
        ({"as_": "straight_through", "clip": 0}, "clip must be a number > 0, got 0"),
        ({"as_": "straight_through", "clip": (1, 1)}, "clip must be .* a pair low < high"),
        ({"as_": "straight_through", "clip": 1, "ends": "both"}, "ends must be one of 'inside'"),
        ({"as_": "straight_through", "maximum": "constant"}, "maximum is nothing that"),
        ({"as_": "straight_through", "scale": "median"}, "scale must be one of 'mean', 'max'"),
        ({"as_": "lsq_gradient"}, "clip must be the first and the last code"),
        ({"as_": "lsq_gradient", "clip": 7, "step_scale": "n"}, "step_scale must be one of"),
        ({"as_": "dorefa_gradient", "maximum": "free"}, "maximum must be one of"),
        ({"clip": 1}, "clip must be None unless as_ is given, got 1"),
        ({"as_": "straight_through", "inputs": np.ones(0)}, "inputs must be the weights"),
        ({"as_": "straight_through", "inputs": [np.ones(2), -1.0]}, "one step > 0"),
        ({"as_": "straight_through", "dtypes": ["int8"]}, "dtypes must be"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        check(sign, identity, **options)


# The command

MODULE = """
import numpy as np
import proxquant_np as pq
import proxquant_np.functional as F
def q(w): return pq.prox.sign_pm(w)
def backward(w, g): return g * (abs(w) <= 1)
def through(w): return F.straight_through(w, q)
def lsq(w, s): return (np.clip(w / s, -8, 7).round() * s).astype(w.dtype)
def lsq_backward(w, s, g):
    v = w / s
    within = (v > -8) & (v < 7)
    d = np.where(within, v.round() - v, np.where(v < 0, -8, 7))
    return g * within, np.array(np.sum(g * d), s.dtype)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        ("q --gradient mine:backward --as straight_through --clip 1", 0, "PASSED: backward"),
        ("q --gradient mine:backward --as straight_through --clip inf", 1, "wrong clip: it passes"),
        ("q --gradient mine:backward --as straight_through", 0, "where -1 <= w <= 1, else 0"),
        ("q --gradient mine:backward --as straight_through --scale 1e-3", 1, "not 0.001 g"),
        ("through --as straight_through --clip inf", 0, "identity (Bengio et al. 2013)"),
        ("through --as straight_through --clip 1 --ends outside", 1, "not where -1 < w < 1"),
        ("q --as straight_through", 2, "--gradient MODULE:FUNCTION"),
        ("q --as straight_through --bits 2", 2, "--bits is not for straight_through, which has"),
        ("q --as straight_through --exact", 2, "--exact must be left out for a gradient"),
        ("q --as straight_through --clip one", 2, "must be a number or two, as 1 or -8,7"),
        ("q --as straight_through --clip 1,2,3", 2, "clip must be a number > 0 or a pair"),
        (
            "q --as binary --clip 1",
            2,
            "--clip is for gradients through quantizers",
        ),
        ("lsq --gradient mine:lsq_backward --as lsq_gradient --clip=-8,7", 1, "not 1/sqrt(n q)"),
        (
            "lsq --gradient mine:lsq_backward --as lsq_gradient --clip=-8,7 --step-scale 1",
            0,
            "LSQ's (Esser et al. 2020)",
        ),
    ],
)
def test_the_command(arguments, code, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MODULE)
    assert exit_code("check", *f"mine:{arguments}".split()) == code
    out = capsys.readouterr()
    assert shown in out.out + out.err
