"""Every regularizer with fixed levels: its prox against a search, and the base class's contract."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from prox_strategies import dtypes, fixed_regularizers, level_sets, strengths, weights

from proxquant_np.prox import BinaryL1, BinaryL2, LevelsL1, LevelsL2, arrays, sign_pm
from proxquant_np.prox.brute_force import objective, prox_fault

FIXED = [BinaryL1(), BinaryL2(), LevelsL1([-1, 0, 0.5]), LevelsL2([-1, 0, 0.5])]
every = pytest.mark.parametrize("r", FIXED, ids=repr)


def bits(a):
    return a.view(f"u{a.itemsize}")


# The mathematics


@given(fixed_regularizers(), weights(), strengths())
def test_prox_minimises_its_objective(r, w, s):
    assert prox_fault(r.prox, r, w, s) is None


@given(fixed_regularizers(), weights())
def test_strength_zero_is_the_identity_bit_for_bit(r, w):
    assert (bits(r.prox(w, 0)) == bits(w)).all()


@given(fixed_regularizers(), weights())
def test_infinite_strength_projects(r, w):
    assert (r.prox(w, np.inf) == r.project(w)).all()
    assert np.allclose(r.prox(w, 1e12), r.project(w), rtol=0, atol=1e-6)


@given(fixed_regularizers(), weights(), strengths())
def test_value_is_zero_exactly_on_q(r, w, s):
    q = r.project(w)
    assert r.value(q) == 0
    assert np.isin(q, r.levels(w)).all()
    assert (r.value(w) == 0) == bool((w == q).all())
    assert (r.project(q) == q).all()
    assert (r.prox(q, s) == q).all()  # so weights on Q stay there, at any strength


@given(fixed_regularizers(), weights())
def test_project_takes_the_nearest_level_and_the_upper_one_at_a_tie(r, w):
    levels = r.levels(w)[::-1].tolist()
    nearest = [
        min(levels, key=lambda q: abs(Fraction(q) - Fraction(x))) for x in w.ravel().tolist()
    ]
    assert r.project(w).ravel().tolist() == nearest  # min takes the first, so the uppermost


@given(
    st.sampled_from([BinaryL1(), BinaryL2(), LevelsL1([-2, -1, 1, 2]), LevelsL2([-2, 0, 2])]),
    weights(),
    strengths(),
)
def test_odd_away_from_ties(r, w, s):
    assume(not np.isin(w, [-1.5, -1, 0, 1, 1.5]).any())
    assert (r.prox(-w, s) == -r.prox(w, s)).all()


@given(fixed_regularizers(), weights(), strengths(), strengths())
def test_monotone_in_the_weights_and_in_the_strength(r, w, s, t):
    u = r.prox(np.sort(w, axis=None), s)
    assert (np.diff(u) >= -4 * np.finfo(w.dtype).eps * 8).all()
    weak, strong = r.prox(w, min(s, t)), r.prox(w, max(s, t))
    assert r.value(strong) <= r.value(weak) * (1 + 1e-5) + 1e-12


@given(weights(), strengths())
def test_binary_is_the_two_level_case(w, s):
    assert (BinaryL1().prox(w, s) == LevelsL1([-1, 1]).prox(w, s)).all()
    assert (BinaryL2().prox(w, s) == LevelsL2([-1, 1]).prox(w, s)).all()
    assert BinaryL1().value(w) == LevelsL1([-1, 1]).value(w)


@given(weights())
def test_values_are_those_of_the_definition(w):
    away = np.abs(np.abs(w.astype(np.float64)) - 1)
    assert np.isclose(BinaryL1().value(w), away.sum(), rtol=1e-6)
    assert np.isclose(BinaryL2().value(w), (away**2).sum() / 2, rtol=1e-6)


@given(weights(), strengths())
def test_the_formulas_of_the_paper(w, s):
    """Ours rearranges the published forms, to hit levels exactly and never overflow."""
    s = w.dtype.type(s)
    close = {"rtol": 0, "atol": 64 * np.finfo(w.dtype).eps}
    assert np.allclose(BinaryL1().prox(w, s), w - np.clip(w - sign_pm(w), -s, s), **close)
    assert np.allclose(BinaryL2().prox(w, s), (w + s * sign_pm(w)) / (1 + s), **close)


@given(weights(), strengths())
def test_binary_l1_is_its_readable_twin_bit_for_bit(w, s):
    s = w.dtype.type(s)
    assume(s > 0)
    twin = np.clip(np.where(w >= 0, 1, -1).astype(w.dtype), w - s, w + s)
    assert (bits(BinaryL1().prox(w, s)) == bits(twin)).all()


@given(weights(), st.floats(1, 10))
def test_binary_l1_is_the_sign_inside_the_unit_interval_once_the_strength_reaches_one(w, s):
    inside = w[np.abs(w) <= 1]
    assume(inside.size)
    assert (BinaryL1().prox(inside, s) == sign_pm(inside)).all()


@given(dtypes, st.floats(-1e-3, 1e-3))
def test_finite_time_quantization_is_exact(dtype, start):
    w = np.array([start], dtype)
    for _ in range(11):
        w = BinaryL1().prox(w, 0.1)
    assert abs(w[0]) == 1


def test_both_zeros_go_up():
    for dtype in (np.float32, np.float64):
        zeros = np.array([0.0, -0.0], dtype)
        assert sign_pm(zeros).tolist() == [1, 1]
        assert sign_pm(zeros).dtype == dtype
        for r in (BinaryL1(), BinaryL2(), LevelsL1([-1, 1]), LevelsL2([-1, 1])):
            assert (r.prox(zeros, 0.25) > 0).all()
            assert r.project(zeros).tolist() == [1, 1]
    assert sign_pm(-0.0).shape == ()


@given(weights())
def test_sign_pm_is_where(w):
    assert (sign_pm(w) == np.where(w >= 0, 1, -1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("s", [1e-40, 1e-30, 0.5, 1e30, 1e38, 1e300])
def test_huge_and_tiny_weights_and_strengths(dtype, s):
    top = np.finfo(dtype).max
    w = np.array([1e-30, -1e-30, 1e30, -1e30, top, -top, np.finfo(dtype).smallest_subnormal], dtype)
    for r in FIXED:
        u = r.prox(w, s)
        assert np.isfinite(u).all()
        assert (
            r.project(w) == r.levels(w)[[-1 if v > 0 else 0 for v in w]]
        ).all() or "Levels" in repr(r)
        assert r.value(w) > 0


# Levels


@given(level_sets(), dtypes)
def test_thresholds_are_exact(levels, dtype):
    """The last number below a midpoint goes down, the midpoint goes up."""
    r = LevelsL1(levels)
    for a, b in pairwise(levels):
        middle = dtype((a + b) / 2)
        assert r.project(np.array([np.nextafter(middle, dtype(-np.inf)), middle])).tolist() == [
            a,
            b,
        ]


@given(level_sets(), st.integers(-3, 3), dtypes)
@example([-4, -3], 0, np.float64)  # -0.5 is their sum's half rounded, and beyond it
def test_nearest_by_rational_arithmetic(levels, ulps, dtype):
    """Around every midpoint of levels with full mantissas, where a rounded one may be off."""
    levels = [float(dtype(v / 7)) for v in levels]
    r = LevelsL1(levels)
    for a, b in pairwise(levels):
        w = dtype(a / 2 + b / 2)
        for _ in range(abs(ulps)):
            w = np.nextafter(w, dtype(np.inf if ulps > 0 else -np.inf))
        exact = Fraction(float(w))
        nearest = b if Fraction(b) - exact <= exact - Fraction(a) else a
        assert r.project(np.array([w])).item() == nearest


def test_a_midpoint_that_float32_cannot_hold():
    one, after = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    assert LevelsL1([one, after]).project(np.array([one, after])).tolist() == [one, after]


@pytest.mark.parametrize(
    "levels", [[], [1, 0], [0, 0], [0.0, -0.0], [0, np.nan], [np.nan], [0, np.inf], [-np.inf, 0]]
)
def test_bad_levels_are_refused(levels):
    for kind in (LevelsL1, LevelsL2):
        with pytest.raises(ValueError, match="values"):
            kind(levels)


def test_levels_that_are_no_numbers_are_refused():
    for levels in (["a"], [None], 3.0, [[1.0], [2.0]], [1j]):
        with pytest.raises(TypeError, match="values"):
            LevelsL1(levels)


@pytest.mark.parametrize("levels", [[1, 1 + 1e-12], [1, 1e300]])
def test_levels_that_collide_in_the_dtype_of_the_weights_are_refused(levels):
    r = LevelsL1(levels)
    assert r.project(np.array([0.0])) == 1
    with pytest.raises(ValueError, match="float32"):
        r.project(np.array([0.0], np.float32))


def test_one_level_and_many():
    w = np.linspace(-2, 2, 41)
    assert (LevelsL1([0.5]).project(w) == 0.5).all()
    many = LevelsL2(np.arange(-128, 128) / 128)
    assert (many.project(w) == np.clip(np.floor(w * 128 + 0.5), -128, 127) / 128).all()


def test_the_levels_handed_out_are_a_copy():
    r = LevelsL1([-1, 1])
    r.levels(np.ones(1))[:] = 7
    assert r.levels(np.ones(1)).tolist() == [-1, 1]


def test_regularizers_are_values():
    assert LevelsL1([-1, 1]) == LevelsL1((-1.0, 1.0)) != LevelsL2([-1, 1])
    assert repr(LevelsL1([-1, 0.5])) == "LevelsL1(values=(-1.0, 0.5))"
    assert repr(BinaryL1()) == "BinaryL1()"
    assert {BinaryL1(), BinaryL1(), BinaryL2()} == {BinaryL2(), BinaryL1()}
    assert dataclasses.asdict(LevelsL2([0, 1])) == {"values": (0.0, 1.0)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        LevelsL1([0]).values = (1,)


# Arrays in, arrays out


@given(fixed_regularizers(), weights(), strengths())
def test_shape_and_dtype_are_kept_and_the_input_too(r, w, s):
    before = w.copy()
    w.flags.writeable = False
    for u in (r.prox(w, s), r.project(w)):
        assert type(u) is np.ndarray
        assert (u.dtype, u.shape) == (w.dtype, w.shape)
        assert not np.may_share_memory(u, w)
        u[...] = 7  # a fresh, writeable array
    assert (bits(w) == bits(before)).all()
    assert type(r.value(w)) is float
    assert r.levels(w).dtype == w.dtype


@given(fixed_regularizers(), weights(), strengths())
def test_out_and_out_is_w(r, w, s):
    expected = r.prox(w, s)
    out = np.full_like(w, 7)
    assert r.prox(w, s, out=out) is out
    assert (bits(out) == bits(expected)).all()
    projected = r.project(w)
    assert r.prox(w, s, out=w) is w
    assert (bits(w) == bits(expected)).all()
    again = r.project(projected, out=projected)
    assert again is projected


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_agree_with_the_whole_in_every_layout(r, dtype, monkeypatch):
    """Blocks of 64 bytes: many, and a ragged last one. And `out` in every relation to `w`."""
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 64)
    base = np.random.default_rng(0).normal(0, 1.5, 101).astype(dtype)
    one_by_one = np.array([r.prox(base[i : i + 1], 0.3)[0] for i in range(101)])

    def same(u, where=slice(None)):
        return (
            bits(np.ascontiguousarray(u)) == bits(np.ascontiguousarray(one_by_one[where]))
        ).all()

    assert same(r.prox(base, 0.3))
    assert same(r.prox(base[::-1], 0.3), slice(None, None, -1))
    assert same(r.prox(base[::2], 0.3), slice(None, None, 2))
    square, expected = base[:100].reshape(10, 10), one_by_one[:100].reshape(10, 10)
    assert (r.prox(square.T, 0.3) == expected.T).all()
    assert (r.prox(np.asfortranarray(square), 0.3) == expected).all()
    assert (r.prox(np.broadcast_to(base, (3, 101)), 0.3) == one_by_one).all()

    strided = np.zeros(202, dtype)[::2]
    assert same(r.prox(base, 0.3, out=strided))
    for shift in (-1, 1, 17, -17):  # out= overlaps the weights without being them
        buffer = np.zeros(150, dtype)
        w, out = buffer[20:121], buffer[20 + shift : 121 + shift]
        w[:] = base
        assert same(r.prox(w, 0.3, out=out))
    flipped = base.copy()
    assert same(r.prox(flipped, 0.3, out=flipped[::-1]))
    in_place = square.copy()
    r.prox(in_place.T, 0.3, out=in_place)
    assert (in_place == expected.T).all()
    in_place = base.copy()
    assert same(r.prox(in_place[:], 0.3, out=in_place))


@every
def test_array_likes_of_floats_are_accepted(r):
    assert r.prox([[0.5], [-2.0]], 0.25).dtype == np.float64
    assert r.prox(0.5, 0.25).shape == ()
    assert r.prox([0.5], np.float32(0.25)) == r.prox([0.5], 0.25)
    assert r.prox(np.float32(0.5), 1).dtype == np.float32


# Refusals


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_before_anything_is_written(r, bad):
    for dtype in (np.float32, np.float64):
        w = np.full((200_000,), 0.5, dtype)
        w[-1] = bad
        for call in (
            lambda w: r.prox(w, 0.1, out=w),
            lambda w: r.project(w, out=w),
            r.value,
            r.levels,
            sign_pm,
        ):
            with pytest.raises(ValueError, match=r"w must be finite.*\(200000,\).*\(199999,\)"):
                call(w)
        assert (w[:-1] == 0.5).all()


@every
def test_a_sum_that_overflows_is_no_reason_to_refuse(r):
    w = np.full(8, np.finfo(np.float32).max, np.float32)
    assert (r.project(w) == r.levels(w)[-1]).all()


@every
@pytest.mark.parametrize("bad", [-1, -1e-300, np.nan, -np.inf])
def test_bad_strengths_are_refused(r, bad):
    with pytest.raises(ValueError, match="strength"):
        r.prox(np.ones(2), bad)


@every
@pytest.mark.parametrize("bad", [None, "1", True, 1j, np.ones(2), [0.5]])
def test_strengths_that_are_no_numbers_are_refused(r, bad):
    with pytest.raises(TypeError, match="strength"):
        r.prox(np.ones(2), bad)


@every
@pytest.mark.parametrize(
    "bad", [[1, 2], np.ones(2, int), np.ones(2, bool), np.ones(2, np.float16), [1j], ["a"], [None]]
)
def test_weights_of_another_dtype_are_refused(r, bad):
    for call in (lambda w: r.prox(w, 1.0), r.project, r.value, r.levels, sign_pm):
        with pytest.raises(TypeError, match=r"w must be of dtype float32 or float64, got"):
            call(bad)


@every
def test_empty_weights_are_refused(r):
    for call in (lambda w: r.prox(w, 1.0), r.project, r.value, r.levels, sign_pm):
        with pytest.raises(ValueError, match=r"at least one weight, got shape \(3, 0\)"):
            call(np.ones((3, 0)))


@every
def test_bad_outputs_are_refused(r):
    w = np.ones((2, 3))
    frozen = np.ones((2, 3))
    frozen.flags.writeable = False
    for out, error in [
        (np.ones((3, 2)), ValueError),
        (np.ones(6), ValueError),
        (frozen, ValueError),
        (np.ones((2, 3), np.float32), TypeError),
        ([[0.0] * 3] * 2, TypeError),
    ]:
        for call in (lambda o: r.prox(w, 1.0, out=o), lambda o: r.project(w, out=o)):
            with pytest.raises(error, match="out"):
                call(out)
    with pytest.raises(TypeError, match="out"):  # nor a wider one
        r.project(w.astype(np.float32), out=w)


def test_objective_is_the_definition():
    x, u = np.array([0.5, -2.0]), np.array([1.0, -1.5])
    assert objective(BinaryL1(), u, x, 3) == 0.5 * (0.25 + 0.25) + 3 * 0.5
