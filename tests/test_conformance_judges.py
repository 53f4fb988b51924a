"""The judges of the kit, one sentence of what they say at a time, on inputs made for it."""

from __future__ import annotations

import os
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

from proxquant_np.conformance import (
    check_gradient,
    check_prox,
    check_quantizer,
    search,
)
from proxquant_np.conformance.fitted import FittedJudge, _exhaustive
from proxquant_np.conformance.form import Subject
from proxquant_np.prox import BinaryL1, MultiBitL2, TernaryL2, UniformL2, sign_pm
from proxquant_np.prox.brute_force import exhaustive_prox, uniform_codes


def details(report):
    return {fault.convention: fault.detail for fault in report.faults}


@pytest.mark.parametrize("r", [UniformL2(3), MultiBitL2(3)], ids=repr)
def test_the_packages_own_heuristic_has_no_gap_to_itself(r):
    gaps = check_quantizer(lambda w: r.project(w), r).gaps
    assert gaps and max(map(abs, gaps.values())) < 1e-12


def test_the_gap_is_the_excess_over_the_least():
    half_off = TernaryL2(symmetric=True)

    def off(w):
        return half_off.project(w) * w.dtype.type(1.5)

    for name, gap in check_quantizer(off, "ternary_symmetric").gaps.items():
        assert gap > 0.1, name


@pytest.mark.parametrize(("n_bits", "known"), [(2, True), (3, False)])
def test_two_bits_have_a_known_optimum_and_three_have_not(n_bits, known):
    r = MultiBitL2(n_bits, "greedy")
    names = check_quantizer(r.project, r).gaps
    assert names and all(name.startswith("the least") == known for name in names)


def test_what_is_expected_is_the_prox_of_the_definition():
    r = TernaryL2(symmetric=True)
    report = check_prox(lambda x, s: r.prox(x, 2 * s), r)
    (fault,) = report.faults
    assert np.allclose(fault.expected, r.prox(fault.inputs["x"], fault.inputs["strength"]))


def test_an_epsilon_in_the_scale_is_shown():
    r = TernaryL2(symmetric=True)
    detail = details(check_quantizer(lambda w: r.project(w) * (1 + 2e-6), r, dtypes=["float64"]))
    assert "1 +2e-06: an epsilon" in " ".join(detail.values())


@pytest.mark.parametrize("w", [[-3.0, -1.0, 0.5, 2.0], [-5.0, -4.0, -3.5, -1.0], [1.0, 1.5, 4.0]])
def test_the_optimum_of_a_grid_with_an_offset_may_lie_below_zero(w):
    w, r = np.array(w), UniformL2(2, symmetric=False)
    error, q = _exhaustive(r, w)
    least, best = exhaustive_prox(w, np.inf, uniform_codes(len(w), 2, False), offset=True)
    assert np.isclose(error, least, atol=1e-12) and np.allclose(q, best)


def test_zeros_that_stay_beside_two_levels_are_a_third_level():
    r = UniformL2(1, symmetric=False)
    report = check_quantizer(lambda w: np.where(w == 0, 0, r.project(w)).astype(w.dtype), r)
    assert "not quantized" in details(report) and "sign(0)" not in details(report)


def test_two_negative_levels_are_one_too_many():
    def halved_at_the_top(w):
        q = TernaryL2().project(w)
        return np.where((q < 0) & (w == w.min()), q / 2, q).astype(w.dtype)

    detail = details(check_quantizer(halved_at_the_top, "ternary"))["not quantized"]
    assert "2 different negative levels, one is possible" in detail


def test_the_largest_weight_at_the_wrong_level_is_found():
    def largest_to_zero(w):
        q = TernaryL2(symmetric=True).project(w)
        i = np.argmax(np.abs(w))
        flat = q.reshape(-1)
        if (np.abs(flat) == np.abs(flat[i])).sum() > 1:
            flat[i] = 0
        return q

    report = check_quantizer(largest_to_zero, "ternary_symmetric", exact=True)
    assert "not nearest" in details(report)


def test_of_several_faults_of_a_shape_the_one_that_ended_the_call_is_told():
    def vectors_only(w):
        if w.ndim > 1:
            return np.full(w.shape, np.nan, np.float64)
        return sign_pm(w)

    report = check_quantizer(vectors_only, "binary", dtypes=["float32"])
    assert "NaN: the result holds NaN" in details(report)["rank"]


def test_a_search_leaves_no_folder_where_it_is_run(monkeypatch):
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", "")
    monkeypatch.delenv("HYPOTHESIS_STORAGE_DIRECTORY")
    monkeypatch.setattr(search, "sys", SimpleNamespace(modules={}))
    assert search.smallest(lambda case: False, lambda st: st.integers(), 3)[1] is None
    folder = os.environ["HYPOTHESIS_STORAGE_DIRECTORY"]
    assert folder == os.path.join(tempfile.gettempdir(), "hypothesis")


def test_a_search_finds_the_same_after_other_checks(monkeypatch):
    """What searches drew before is tried first: of these functions no golden case tells all."""
    monkeypatch.setattr(search, "_tried", {})
    wrong = [
        (lambda w: sign_pm(w + w.dtype.type(1 / 32)), "binary"),
        (lambda w: np.where(w.mean() > 0.5, w, sign_pm(w)), "binary"),
        (lambda w: np.round(w), "rounded"),
    ]

    right = {"binary": sign_pm, "ternary": TernaryL2().project}

    def reports():
        return [repr(check_quantizer(*pair)) for pair in wrong]

    alone = []
    for pair in wrong:
        search._tried.clear()
        alone.append(repr(check_quantizer(*pair)))
    search._tried.clear()
    for dtypes in (["float32"], ["float32", "float64"]):
        for definition in ("binary", "ternary"):
            check_quantizer(right[definition], definition, dtypes=dtypes)
    assert search._tried and reports() == reports() == alone


def test_values_are_named_although_some_weights_are_refused():
    def halved(x, strength):
        if np.abs(x).max() > 3:
            raise ValueError("weights up to 3")
        return BinaryL1().prox(x, strength / 2)

    report = check_prox(halved, "binary_l1")
    assert details(report)["factor of two"] == "the strength is halved"
    assert "weights up to 3" in details(report)["raised"]


def test_going_away_from_the_level_is_called_that():
    report = check_prox(lambda x, s: x + np.clip(x - sign_pm(x), -s, s), "binary_l1")
    assert "goes away from the nearest level" in details(report).values()


def test_a_threshold_a_little_below_zero_is_found():
    """At -1/32: only weights between that and 0 tell; and at -3/64 they are few."""
    for below in (1 / 32, 3 / 64):
        report = check_quantizer(lambda w, t=below: sign_pm(w + w.dtype.type(t)), "binary")
        assert report.verdict == "wrong" and "not nearest" in details(report)


def test_a_search_ends_when_the_time_is_up(monkeypatch):
    calls = []

    def doubled(w):
        calls.append(w)
        return 2 * sign_pm(w)

    check_quantizer(doubled, "binary")
    whole = len(calls)
    calls.clear()
    monkeypatch.setattr(search, "SECONDS", 0.0)
    assert "stopped after 0 s" in check_quantizer(doubled, "binary").checked
    assert len(calls) < whole / 2


def test_precision_is_judged_near_the_point_that_was_given():
    """A function that is not defined near 0 is no sign that it takes float32 only."""

    def only_above_one_half(x):
        if x.min() < 0.5:
            raise ValueError("too small")
        return (x**2).sum()

    right = check_gradient(only_above_one_half, lambda x: 2 * x, [np.array([1.0, 2.0])])
    wrong = check_gradient(
        only_above_one_half, lambda x: 2 * x * (1 + 1e-5), [np.array([1.0, 2.0])]
    )
    assert right and not wrong


def test_a_weight_of_zero_is_expected_at_the_upper_of_two_levels():
    """Where both are as near: as sign_pm has it."""
    r, w = MultiBitL2(3, "greedy"), np.array([0.0, 1.0, 2.5, 4.0])
    error, q = FittedJudge(Subject(r.project, False), r, ["float64"], False)._least(w)
    assert q[0] > 0 and np.isclose(error, 0.5 * np.square(q - w).sum())
