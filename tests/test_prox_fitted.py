"""Quantizers with fitted levels: exact ones against all codes, heuristics against exact ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from prox_strategies import strengths, weights

from proxquant_np.prox import (
    LevelsL2,
    MultiBit,
    MultiBitL1,
    MultiBitL2,
    TernaryL1,
    TernaryL2,
    Uniform,
    UniformL2,
    fitted,
    multibit,
    ternary,
)
from proxquant_np.prox.brute_force import (
    excess_error,
    exhaustive_prox,
    multibit_codes,
    objective,
    ternary_codes,
    uniform_codes,
)

EXACT = {
    TernaryL2(): lambda n: ternary_codes(n, symmetric=False),
    TernaryL2(symmetric=True): lambda n: ternary_codes(n, symmetric=True),
    MultiBitL2(1, "exact"): lambda n: multibit_codes(n, 1),
    MultiBitL2(2, "exact"): lambda n: multibit_codes(n, 2),
}
HEURISTIC = {  # and the exact projection on the same set, or on a larger one
    TernaryL2(projection="threshold"): TernaryL2(),
    TernaryL2(projection="threshold", rounds=0): TernaryL2(),
    TernaryL2(symmetric=True, projection="threshold"): TernaryL2(symmetric=True),
    TernaryL2(symmetric=True): TernaryL2(),
    UniformL2(2): TernaryL2(symmetric=True),
    UniformL2(2, projection="least_squares"): TernaryL2(symmetric=True),
    MultiBitL2(1, "greedy"): MultiBitL2(1, "exact"),
    MultiBitL2(1, "alternating"): MultiBitL2(1, "exact"),
    MultiBitL2(2, "greedy"): MultiBitL2(2, "exact"),
    MultiBitL2(2, "alternating"): MultiBitL2(2, "exact"),
    MultiBitL2(1, "exact"): MultiBitL2(2, "exact"),
}
ALL = [
    *EXACT,
    *HEURISTIC,
    MultiBitL2(3),
    MultiBitL2(8, "greedy"),
    UniformL2(4),
    UniformL2(3, False),
]
ALL += [UniformL2(8, False, "least_squares"), TernaryL1(), MultiBitL1(2)]
exact = pytest.mark.parametrize("r", EXACT, ids=repr)
every = pytest.mark.parametrize("r", dict.fromkeys(ALL), ids=repr)

ADVERSARIAL = {
    "one": [0.7],
    "one negative": [-0.7],
    "zero": [0.0],
    "negative zeros": [-0.0, -0.0, 0.0],
    "constant": [0.3] * 5,
    "constant negative": [-0.3] * 5,
    "ties": [1.0, -1.0, 0.5, -0.5, 0.5],
    "tie between two answers": [1.0, 3.0, 5.0],
    "a tie at the threshold": [2.0, 1.0, 1.0, -1.0],
    "one outlier": [1e6, 1.0, 1.0, -1.0, 0.5],
    "lopsided": [10.0, 9.0, -0.1, -0.2, 0.05],
    "all positive": [0.1, 0.2, 0.4, 3.0],
    "all negative": [-0.1, -0.2, -0.4, -3.0],
    "two magnitudes": [1.0, -1.0, 1.0, -0.25, 0.25],
    "geometric": [1.0, -0.5, 0.25, -0.125, 0.0625, 1e-3],
}


def error(r, w):
    return 0.5 * np.square(np.subtract(w, r.project(w), dtype=np.float64)).sum()


# Exactness


@exact
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_exact_projections_reach_the_optimum_of_all_codes(r, case, dtype, scale):
    unit = np.array(ADVERSARIAL[case], dtype)
    least, _ = exhaustive_prox(unit, np.inf, EXACT[r](unit.size))
    rounding = 16 * np.finfo(dtype).eps * np.abs(unit).max() ** 2
    w = unit * dtype(scale)
    assert error(r, w) / float(scale) ** 2 <= least + rounding


@exact
@settings(max_examples=10)
@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=2)), s=strengths())
def test_exact_proxes_reach_the_optimum_over_weights_levels_and_codes(r, w, s):
    """The identity (w + s P(w)) / (1 + s), against minimising over u and the levels together."""
    least, _ = exhaustive_prox(w, s, EXACT[r](w.size))
    u = r.prox(w, s)
    scale = max(1, float(np.abs(w).max())) ** 2
    assert objective(r, u, w, s) <= least + 64 * np.finfo(w.dtype).eps * scale
    least, _ = exhaustive_prox(w, np.inf, EXACT[r](w.size))
    assert r.value(w) == pytest.approx(
        least, rel=1e-5, abs=64 * float(np.finfo(w.dtype).eps) * scale
    )


@cache
def all_codes(r, n):
    """All codes B of n weights, and their pseudoinverses, which fit the levels by least squares."""
    b = np.array(list(EXACT[r](n)))
    return b, np.linalg.pinv(b)


@exact
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=1, min_side=5, max_side=8)))
@example(w=np.array([0.9, -1.4, 0.2, 0.5, -0.05, -0.6, 2.2, 0.31]))
@example(w=np.array([1, 1, 1, -1, -1, -1, 0.5, 0.5], np.float32))
@example(w=np.array([0.3] * 8, np.float32))
@example(w=np.array([-0.0, 0.0, -0.0, 0.0, -0.0, 0.0]))
@settings(max_examples=10)
def test_eight_weights(r, scale, w):
    b, inverse = all_codes(r, w.size)
    a = inverse @ w.astype(np.float64)
    left = np.square(w - (b @ a[..., None])[..., 0]).sum(axis=1)
    least = 0.5 * left[(a >= -1e-9 * np.abs(w).max()).all(axis=1)].min()
    rounding = 16 * np.finfo(w.dtype).eps * float(np.abs(w).max()) ** 2
    with np.errstate(under="ignore"):
        scaled = w * w.dtype.type(scale)
    assert error(r, scaled) / float(scale) ** 2 <= least + rounding


@exact
@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=6)), s=strengths())
def test_exact_quantizers_fix_their_own_points(r, w, s):
    q = r.project(w)
    assert r.value(q) == 0
    assert (r.project(q) == q).all()
    assert (r.prox(q, s) == q).all()


# Idempotence

OPTIONS = [
    *(TernaryL2(symmetric=s, projection="threshold", rounds=n) for s in (0, 1) for n in (0, 2)),
    *(TernaryL2(symmetric=bool(s)) for s in (0, 1)),
    *(MultiBitL2(k, p) for k in (1, 2, 3, 4, 8) for p in ("greedy", "alternating")),
    *(MultiBitL2(k, "exact") for k in (1, 2)),
    *(UniformL2(k, s, p) for k in (2, 3, 8) for s in (True, False) for p in Uniform.projections),
    UniformL2(1, False),
    TernaryL1(),
    TernaryL1(symmetric=True),
    MultiBitL1(1),
    MultiBitL1(2),
]


@pytest.mark.parametrize("r", OPTIONS, ids=repr)
@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    where=st.sampled_from([{}, {"axis": 0}, {"axis": -1}, {"block": 12}]),
    kind=st.sampled_from(["normal", "heavy", "grid", "offset", "outlier"]),
)
def test_what_project_returns_is_its_own_projection_and_has_the_value_zero(
    r, seed, dtype, where, kind
):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(6, 24))
    w = {
        "normal": w,
        "heavy": w**5,
        "grid": np.rint(2 * w),
        "offset": w + 100,
        "outlier": np.where(w == w.max(), 1e6, w),
    }[kind].astype(dtype)
    r = replace(r, **where)
    q = r.project(w)
    assert (r.project(q) == q).all()
    assert r.value(q) == 0
    assert (r.prox(q, 0.5) == q).all()


def test_the_default_three_bits_keep_what_they_returned():
    r = MultiBitL2(3)
    q = r.project([9.0, -5.0, -4.0])
    assert (r.project(q) == q).all()
    assert r.value(q) == 0
    kernels = np.random.default_rng(0).normal(size=(64, 144)).astype(np.float32)
    for n_bits in (3, 4):
        per_channel = MultiBitL2(n_bits, axis=0)
        q = per_channel.project(kernels)
        assert (per_channel.project(q) == q).all()


@pytest.mark.parametrize("projection", ["greedy", "alternating"])
def test_few_weights_off_the_codes_are_no_points_of_q(projection):
    """Four magnitudes of three bits satisfy |m_2 + m_3 - m_1| = m_4; these do not."""
    r = MultiBitL2(3, projection)
    assert r.value([9.0, 5.0, 4.0, 0.0]) == 0
    assert r.value([9.0, 5.0, 4.0, 1.0]) > 0.01
    least, _ = exhaustive_prox(np.array([9.0, 5, 4, 1]), np.inf, multibit_codes(4, 3))
    assert error(r, np.array([9.0, 5, 4, 1])) >= least - 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_bits", range(1, 6))
def test_no_quantized_row_is_dismissed_at_the_first_look(n_bits, dtype):
    """Rows of sums of fitted numbers, off by some rounding; whole numbers among them, whose sums
    often coincide."""
    rng = np.random.default_rng(n_bits)
    taken = 0
    for length in (3, 6, 8, 17):
        r = MultiBitL2(n_bits, block=length)
        a = rng.normal(size=(300, n_bits)) * 10.0 ** rng.integers(-3, 4, (300, 1))
        a[::3] = np.rint(a[::3] * 4) / 4
        rows = np.einsum("rk,rlk->rl", a, rng.choice([-1.0, 1.0], (300, length, n_bits)))
        rows = (rows * (1 + rng.integers(-9, 10, rows.shape) * np.finfo(dtype).eps)).astype(dtype)
        ulps = np.finfo(dtype).eps * np.abs(rows).max(axis=1).astype(np.float64)
        may_be = r.set._may_be_quantized(np.sort(rows[:, : 4 * 2**n_bits]), ulps)
        for row, possible, ulp in zip(rows, may_be, ulps, strict=True):
            values = np.unique(row)
            if len(values) <= 2**n_bits and r.set._own_levels(values, ulp) is not None:
                assert possible, row
                taken += 1
    assert taken > 100


@pytest.mark.parametrize("n_bits", [3, 4])
def test_short_blocks_off_the_codes_are_not_searched_one_by_one(n_bits, monkeypatch):
    calls = []
    monkeypatch.setattr(multibit, "_are_sums", lambda *arguments: calls.append(arguments))
    w = np.random.default_rng(0).normal(size=(1000, 2**n_bits // 2)).astype(np.float32)
    MultiBitL2(n_bits, block=w.shape[1]).project(w)
    assert len(calls) <= 10


@pytest.mark.parametrize("r", HEURISTIC, ids=repr)
@settings(max_examples=50)
@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=9)))
def test_no_heuristic_beats_the_exact_projection(r, w):
    slack = 64 * np.finfo(w.dtype).eps * float(np.square(w, dtype=np.float64).sum())
    assert error(HEURISTIC[r], w) <= error(r, w) + slack


@pytest.mark.parametrize("r", HEURISTIC, ids=repr)
def test_no_heuristic_beats_the_exact_projection_on_large_tensors(r):
    rng = np.random.default_rng(1)
    for w in (rng.normal(size=70_000), rng.laplace(size=70_000) - 0.5, rng.standard_cauchy(999)):
        assert excess_error(r, HEURISTIC[r], w) >= -1e-9
        assert excess_error(r, HEURISTIC[r], w.astype(np.float32)) >= -1e-6


@pytest.mark.parametrize("r", HEURISTIC, ids=repr)
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_no_heuristic_beats_the_exact_projection_on_adversarial_weights(r, case):
    for dtype in (np.float32, np.float64):
        w = np.array(ADVERSARIAL[case], dtype)
        slack = 64 * np.finfo(dtype).eps * float(np.square(w, dtype=np.float64).sum())
        assert error(HEURISTIC[r], w) <= error(r, w) + slack


def test_no_bound_holds_for_the_published_heuristics():
    """One outlier misleads the threshold 0.7 mean|w|; two magnitudes, a greedy first term."""
    w = np.random.default_rng(6).uniform(-1e-4, 1e-4, 100_000)
    w[0] = 1
    assert excess_error(TernaryL2(projection="threshold"), TernaryL2(), w) > 1000
    two = np.array([1.0, -1.0, 1.0, 1.0, -0.25, 0.2501])  # nearly; a heuristic keeps points of Q
    assert error(MultiBitL2(2, "exact"), two) < 1e-8 < 1e-3 < error(MultiBitL2(2, "greedy"), two)


def test_excess_error():
    q = np.array([1.0, 0, -1])
    assert excess_error(TernaryL2(), TernaryL2(), q) == 0
    assert excess_error(MultiBitL2(1), TernaryL2(), q) == np.inf
    assert excess_error(LevelsL2([0]), LevelsL2([0.5]), np.array([1.5])) == 1.25


@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=9)), k=st.integers(2, 8))
@example(w=np.random.default_rng(7).normal(size=3000).astype(np.float32), k=3)
@example(w=np.random.default_rng(7).laplace(size=3000), k=8)
def test_no_round_raises_the_error(w, k):
    slack = 64 * np.finfo(w.dtype).eps * float(np.square(w, dtype=np.float64).sum())
    for family in (
        lambda n: MultiBitL2(k, rounds=n),
        lambda n: TernaryL2(projection="threshold", rounds=n),
        lambda n: TernaryL2(symmetric=True, projection="threshold", rounds=n),
        lambda n: UniformL2(k, projection="least_squares", rounds=n),
        lambda n: UniformL2(k, False, "least_squares", rounds=n),
    ):
        errors = [error(family(n), w) for n in range(4)]
        assert (np.diff(errors) <= slack).all()
    assert error(MultiBitL2(k, rounds=0), w) == error(MultiBitL2(k, "greedy"), w)


# Levels


@every
@given(w=weights(shapes=array_shapes(min_dims=1, max_dims=3, max_side=5)))
@example(w=np.array([1.0, -0.5]))  # halfway between -4/7 and -3/7, not between their roundings
def test_every_weight_goes_to_its_nearest_level_the_upper_at_a_tie(r, w):
    w[np.abs(w) < 1e-6] = 0  # so that distances are exact below
    levels, q = r.levels(w), r.project(w)
    assert levels.dtype == w.dtype
    assert (np.diff(levels) >= 0).all()
    distance = np.abs(
        np.subtract.outer(w.astype(np.longdouble), levels[::-1].astype(np.longdouble))
    )
    assert (q == levels[::-1][distance.argmin(axis=-1)]).all()


@pytest.mark.parametrize("family", [TernaryL2, lambda **axis: MultiBitL2(2, **axis)])
def test_projection_takes_the_very_levels_it_names_along_an_inner_axis(family):
    """Whose rows are strided in memory: a sum there may round otherwise."""
    r = family(axis=1)
    w = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    levels = r.levels(w)
    assert all(set(q) <= set(a) for q, a in zip(r.project(w).T, levels, strict=True))


def test_levels_of_known_weights():
    w = np.array([2.0, 4.0, 0.1, -1.0, -0.1])
    assert TernaryL2().levels(w).tolist() == [-1, 0, 3]
    assert MultiBitL2(1).levels(w).tolist() == [-1.44, 1.44]
    assert np.allclose(MultiBitL2(2, "exact").levels(w), [-4, -0.8, 0.8, 4])
    assert UniformL2(2).levels(w).tolist() == [-4, 0, 4]
    assert np.allclose(UniformL2(2, False).levels(w), [-1, 2 / 3, 7 / 3, 4])
    assert TernaryL2().levels(np.zeros(3)).tolist() == [0, 0, 0]
    assert not np.signbit(TernaryL2().levels(np.zeros(3))).any()


def test_one_bit_per_channel_is_binary_weights_with_a_scale():
    """Rastegari et al. 2016: sign(w) times mean|w| of the channel, the least squares answer."""
    w = np.random.default_rng(2).normal(size=(4, 3, 3, 3))
    scale = np.abs(w).mean(axis=(1, 2, 3), keepdims=True)
    assert np.allclose(MultiBitL2(1, axis=0).project(w), np.where(w >= 0, scale, -scale))


@pytest.mark.parametrize("projection", MultiBit.projections)
def test_binary_weights_with_a_scale_are_optimal_in_every_channel(projection):
    """No codes and no scale do better, so that for one bit all three projections are exact."""
    w = np.random.default_rng(8).normal(size=(5, 2, 2, 2))
    q = MultiBitL2(1, projection, axis=0).project(w)
    for kernel, binary in zip(w, q, strict=True):
        least, _ = exhaustive_prox(kernel, np.inf, multibit_codes(8, 1))
        assert 0.5 * np.square(kernel - binary).sum() == pytest.approx(least, rel=1e-12)


def test_the_threshold_heuristic_step_by_step():
    w = np.random.default_rng(3).normal(0.1, 1, 1000)
    cut = 0.7 * np.abs(w).mean()
    pos, neg = w[w >= cut].mean(), w[w <= -cut].mean()
    for rounds in range(3):
        r = TernaryL2(projection="threshold", rounds=rounds)
        assert np.allclose(r.levels(w), [neg, 0, pos])
        pos, neg = w[w >= pos / 2].mean(), w[w <= neg / 2].mean()


def test_alternating_step_by_step():
    """Least squares on the codes of the nearest levels, with the codes written out."""
    w = np.random.default_rng(4).normal(size=200)
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    a, left = [], w
    for _ in range(3):
        a.append(np.abs(left).mean())
        left = left - np.where(left >= 0, a[-1], -a[-1])
    for rounds in range(3):
        r = MultiBitL2(3, rounds=rounds)
        assert np.allclose(r.levels(w), np.sort(signs @ a))
        codes = signs[np.abs(np.subtract.outer(w, signs @ a)).argmin(axis=1)]
        a = np.linalg.lstsq(codes, w)[0]


def test_uniform_least_squares_step_by_step():
    """From the grid that spans the weights: nearest codes, then a line through the weights."""
    w = np.random.default_rng(4).normal(0.5, 1, size=200)
    for symmetric, c in ((True, np.arange(-3.0, 4)), (False, np.arange(8.0))):
        span = np.abs(w).max() if symmetric else np.ptp(w)
        a, z = span / c[-1], 0.0 if symmetric else w.min()
        for rounds in range(4):
            r = UniformL2(3, symmetric, "least_squares", rounds=rounds)
            assert np.allclose(r.levels(w), z + a * c)
            code = np.clip(np.rint((w - z) / a), c[0], c[-1])
            a, z = np.polyfit(code, w, 1) if not symmetric else (code @ w / (code @ code), 0.0)


def test_the_grid_of_weights_that_use_part_of_it():
    """They keep their values, also where the weights have one sign; codes beyond go to the end."""
    for w, steps in (([0.5, 1.0], 2), ([-0.5, -1.0], 2), ([1.0, 3.0], 3), ([0.0, -2.0], 1)):
        top = max(map(abs, w))
        grid = np.clip(np.arange(-3, 4), -steps, steps) * top / steps
        assert UniformL2(3).levels(w).tolist() == grid.tolist()


def test_sums_of_fitted_numbers_are_told_to_rounding_of_the_largest():
    """2.7, 1.1, 0.9 and |2.7 - 1.1 - 0.9|: four magnitudes of three bits."""
    for ulps, on_q in ((12, True), (100, False)):
        w = np.array([2.7, 1.1, 0.9, 2.7 - 1.1 - 0.9 + ulps * 2.7 * np.finfo(float).eps])
        assert (MultiBitL2(3, "greedy").value(w) == 0) == on_q


def test_codes_of_a_uniform_grid():
    one, symmetric = list(uniform_codes(1, 2, False)), list(uniform_codes(2, 2, True))
    assert [b.item() for b in one] == [0, 1, 2, 3]
    assert len(symmetric) == 9 and symmetric[0].tolist() == [[-1], [-1]]


# Layouts


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_and_blocks_are_tensors_of_their_own(r, dtype, monkeypatch):
    """Any rank and layout; tiles of 64 bytes, so that rows are cut and grouped in many ways."""
    w = np.random.default_rng(5).normal(size=(3, 4, 5, 2)).astype(dtype)
    w[0] *= 1e30
    w[1] *= 1e-30
    for tile in (64, 1 << 18):
        monkeypatch.setattr(fitted, "BLOCK_BYTES", tile)
        for axis in (0, 2, -1):
            per_channel = replace(r, axis=axis)
            q, levels = per_channel.project(w), per_channel.levels(w)
            assert len(levels) == w.shape[axis]
            for i in range(w.shape[axis]):
                part = w.take(i, axis)
                close = {"rtol": 1e-5, "atol": 1e-5 * np.abs(part).max()}
                assert np.allclose(q.take(i, axis), r.project(part), **close)
                assert np.allclose(levels[i], r.levels(part), **close)
            for layout in (
                np.asfortranarray(w),
                w[::-1][::-1],
                w.swapaxes(1, 3).copy().swapaxes(1, 3),
            ):
                assert (per_channel.project(layout) == q).all()
            in_place = w.copy()
            per_channel.project(in_place, out=in_place)
            assert (in_place == q).all()
            out = np.zeros((3, 4, 5, 4), dtype)[..., ::2]
            per_channel.project(w, out=out)
            assert (out == q).all()
            assert np.isfinite(per_channel.prox(w, 0.5)).all()
        per_block = replace(r, block=8)
        q, levels = per_block.project(w), per_block.levels(w)
        assert len(levels) == 15
        for part, got in zip(w.reshape(15, 8), q.reshape(15, 8), strict=True):
            assert np.allclose(got, r.project(part), rtol=1e-5, atol=1e-5 * np.abs(part).max())


@every
def test_the_ends_of_layouts(r):
    """Rows of one weight, one row of all, and each axis by both of its names."""
    w = np.random.default_rng(9).normal(size=(2, 3, 4, 5))
    flat = w.reshape(-1)
    assert (replace(r, block=w.size).project(w) == r.project(w)).all()
    assert (
        replace(r, block=1).project(w) == replace(r, axis=0).project(flat).reshape(w.shape)
    ).all()
    for axis in range(4):
        one, other = replace(r, axis=axis), replace(r, axis=axis - 4)
        assert (one.prox(w, 0.5) == other.prox(w, 0.5)).all()
        assert (one.levels(w) == other.levels(w)).all()
    for v in flat[:9]:
        assert r.project(np.array(v)) == replace(r, axis=-1).project(np.array([v]))


@every
@given(w=weights(shapes=array_shapes(min_dims=0, max_dims=3, max_side=3)), s=strengths())
def test_shape_dtype_and_input_are_kept(r, w, s):
    before = w.copy()
    w.flags.writeable = False
    for u in (r.prox(w, s), r.project(w)):
        assert (u.dtype, u.shape) == (w.dtype, w.shape)
        assert np.isfinite(u).all()
    assert w.tobytes() == before.tobytes()
    assert (r.prox(w, np.inf) == r.project(w)).all()
    assert r.prox(w, 0).tobytes() == w.tobytes()


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", ["smallest_subnormal", "tiny", "max"])
def test_the_ends_of_the_floating_point_range(r, dtype, scale):
    w = np.array([1, -1, 0.5, 0.25, 0]) * (getattr(np.finfo(dtype), scale) / 2 ** (scale == "max"))
    w = w.astype(dtype)
    q = r.project(w)
    assert np.isfinite(q).all()
    assert np.abs(q - w).max() <= np.abs(w).max()


@given(
    w=weights(shapes=array_shapes(min_dims=1, max_dims=2, max_side=6)), power=st.integers(-90, 90)
)
def test_scaling_by_a_power_of_two_scales_the_projection(w, power):
    """From every range to the safe one and back: exact wherever nothing becomes subnormal."""
    w[np.abs(w) < 1e-6] = 0
    scale = w.dtype.type(2.0**power)
    for r in (
        TernaryL2(),
        MultiBitL2(2, "exact"),
        TernaryL2(projection="threshold"),
        MultiBitL2(3),
    ):
        assert np.allclose(r.project(w * scale), r.project(w) * scale, rtol=1e-5, atol=0)


# Refusals


def test_bad_parameters_are_refused():
    for make, kind, name in [
        (lambda: TernaryL2(projection="greedy"), ValueError, "projection"),
        (lambda: TernaryL2(rounds=-1), ValueError, "rounds"),
        (lambda: TernaryL2(axis=0, block=2), ValueError, "axis=0 and block=2"),
        (lambda: TernaryL2(axis=0.0), TypeError, "axis"),
        (lambda: TernaryL2(block=0), ValueError, "block"),
        (lambda: MultiBitL2(0), ValueError, "n_bits"),
        (lambda: MultiBitL2(9), ValueError, "n_bits"),
        (lambda: MultiBitL2(2.0), TypeError, "n_bits"),
        (lambda: MultiBitL2(True), TypeError, "n_bits"),
        (lambda: MultiBitL2(3, "exact"), ValueError, "n_bits must be 1 or 2 .*got 3"),
        (lambda: MultiBitL2(2, "threshold"), ValueError, "projection"),
        (lambda: UniformL2(1), ValueError, "n_bits"),
        (lambda: UniformL2(9, False), ValueError, "n_bits"),
        (lambda: UniformL2(2, projection="exact"), ValueError, "projection"),
    ]:
        with pytest.raises(kind, match=name):
            make()


def test_weights_that_do_not_fit_are_refused():
    w = np.ones((2, 3))
    with pytest.raises(ValueError, match="axis must be one of the 2 axes"):
        TernaryL2(axis=2).project(w)
    with pytest.raises(ValueError, match=r"block must divide .*, 6 in \(2, 3\), got 4"):
        TernaryL2(block=4).project(w)
    for bad in (np.full(2, np.nan), np.ones((2, 0))):
        with pytest.raises(ValueError, match="w "):
            TernaryL2().prox(bad, 1.0)


def test_repr_shows_what_is_not_default():
    assert repr(TernaryL2()) == "TernaryL2()"
    assert repr(MultiBitL2(2, axis=0)) == "MultiBitL2(axis=0, n_bits=2)"
    assert eval(repr(UniformL2(4, False))) == UniformL2(4, False)


def test_the_defaults():
    """Results are recorded under names that do not say them."""
    assert TernaryL2() == TernaryL2(symmetric=False, projection="exact", rounds=2)
    assert MultiBitL2(3) == MultiBitL2(3, "alternating", rounds=2)
    assert UniformL2(4) == UniformL2(4, True, "max", rounds=10)


def long_rows():
    """Rows long enough for the search by runs, some of them with many equal entries."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=70_001)
    yield from (normal, rng.standard_cauchy(70_001), rng.uniform(1, 2, 70_001))
    yield from (np.round(normal), np.abs(normal), -np.abs(normal), np.full(70_001, 0.3))
    yield np.concatenate([np.full(66_000, 1e-3), rng.uniform(5, 6, 3)])
    yield np.repeat([3.0, 1.0, 0.0, -2.0], 20_000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("row", list(long_rows()), ids=lambda row: "")
def test_long_rows_have_the_best_mean_of_a_full_search(row, sign, dtype):
    row = np.sort((sign * row).astype(dtype))[::-1]
    sums, m = np.cumsum(row, dtype=np.float64), np.arange(1, row.size + 1)
    i = np.argmax(sums / np.sqrt(m))
    wanted = max(sums[i] / m[i], 0)
    assert ternary._best_mean(row[None])[0] == pytest.approx(wanted, rel=1e-12)
