"""Published quantizers by name: right ones in three styles pass, planted faults are named.

The faults are of kinds that have been published.
"""

import math

import numpy as np
import pytest
from command_line import exit_code

import proxquant_np as pq
from proxquant_np.conformance import references
from proxquant_np.prox import (
    Affine,
    CentredBinary,
    Codebook,
    DoReFa,
    FixedPoint,
    Integers,
    PowersOfTwo,
    Rounded,
)
from proxquant_np.prox.codebook import codebook

kit = pq.conformance


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    monkeypatch.setattr(kit.search, "SECONDS", 0.5)


# Right ones: in NumPy, in torch, in a loop


def absmax(w, bits=4, axis=None):
    last = 2 ** (bits - 1) - 1
    a = np.abs(w).max(axis=axis, keepdims=True) / last
    a = np.where(a > 0, a, 1)
    return (np.clip(np.round(w / a), -last, last) * a).astype(w.dtype)


def absmax_rows(w):
    return absmax(w, axis=tuple(range(1, w.ndim)))


def absmax_blocks(w, block=8):
    return absmax(w.reshape(-1, block), axis=1).reshape(w.shape)


def absmean(w):
    a = np.abs(w).mean() or w.dtype.type(1)
    return (np.clip(np.round(w / a), -1, 1) * a).astype(w.dtype)


def affine_codes(w, bits=4):
    low, high = min(w.min(), 0), max(w.max(), 0)
    a = (high - low) / (2**bits - 1) or 1.0
    z = int(np.round(-low / a))
    return np.clip(np.round(w / a) + z, 0, 2**bits - 1).astype(np.uint8), a, z


def affine(w):
    codes, a, z = affine_codes(w)
    return ((codes.astype(int) - z) * a).astype(w.dtype)


def fp4(w):
    values = codebook("e2m1")[7:]
    a = np.abs(w).max() / 6 or 1
    x = np.abs(w) / a
    i = np.abs(x[..., None] - values).argmin(-1)
    tie = (i < 7) & (x * 2 == values[i] + values[np.minimum(i + 1, 7)]) & (i % 2 == 1)
    return (np.copysign(values[i + tie], w) * a).astype(w.dtype)


def powers(w, n=4):
    top = np.abs(w).max()
    if not top:
        return w.copy()
    a = 2.0 ** math.floor(math.log2(4 * top / 3))
    levels = np.append(0, a / 2.0 ** np.arange(n)[::-1])
    i = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.abs(w), side="right")
    return (np.copysign(levels[i], w) + 0.0).astype(w.dtype)


def dorefa(w, bits=2):
    n, t = 2**bits - 1, np.tanh(w)
    x = t / (2 * (np.abs(t).max() or 1)) + 0.5
    return (2 * np.round(n * x) / n - 1).astype(w.dtype)


def centred(w):
    return (np.where(w > w.mean(), 1, -1) * np.abs(w).mean()).astype(w.dtype)


def ternary(w):
    return np.clip(np.round(w), -1, 1)


def fixed(w):
    return np.clip(np.round(w * 4), -8, 7) / 4


def loop(rule):
    """The definition, weight by weight."""
    definition = references.reference(rule)

    def fn(w):
        q = [float(x) for x in definition([references.Fraction(x) for x in w.ravel().tolist()])]
        return np.array(q, w.dtype).reshape(w.shape)

    return fn


RIGHT = [
    (absmax, Integers(4)),
    (absmax_rows, Integers(4, axis=0)),
    (lambda w: absmax(w, axis=tuple(range(w.ndim - 1))), Integers(4, axis=-1)),
    (absmax_blocks, Integers(4, block=8)),
    (absmean, "absmean"),
    (affine, Affine(4)),
    (affine_codes, Affine(4)),
    (fp4, "fp4"),
    (powers, "powers_of_two"),
    (dorefa, "dorefa"),
    (centred, "centred_binary"),
    (ternary, "rounded"),
    (fixed, "fixed_point"),
]
LOOPS = [
    Integers(4),
    Integers(4, "full", divisor=8),
    Integers(2, scale="mean"),
    Affine(2),
    Codebook("e2m1"),
    Codebook("e2m1", "power"),
    PowersOfTwo(4),
    DoReFa(2),
    CentredBinary(),
    Rounded((-1, 0, 1)),
    FixedPoint(4, 2, "wrap"),
]


@pytest.mark.parametrize(("fn", "definition"), RIGHT)
def test_right_ones_in_numpy_pass(fn, definition):
    report = kit.check_quantizer(fn, definition)
    assert report and report.verdict == "right" and not report.faults, f"\n{report}"


@pytest.mark.parametrize("rule", LOOPS, ids=repr)
def test_right_ones_in_a_loop_pass(rule, monkeypatch):
    few = {k: v[:16] for k, v in kit.vectors.large().items() if k.startswith("weights.")}
    monkeypatch.setattr(kit.vectors, "large", lambda: few)  # fractions take their time
    report = kit.check_quantizer(loop(rule), rule)
    assert report and report.verdict == "right", f"\n{report}"


def test_right_ones_in_torch_pass():
    torch = pytest.importorskip("torch")

    def absmean(w):
        scale = 1.0 / w.abs().mean().clamp(min=1e-5)
        return (w * scale).round().clamp(-1, 1) / scale

    def rows(w):
        a = w.abs().amax(dim=tuple(range(1, w.ndim)), keepdim=True) / 7
        a = torch.where(a > 0, a, 1)
        return (w / a).round().clamp(-8, 7) * a

    def affine(w):
        low, high = min(float(w.min()), 0), max(float(w.max()), 0)
        a = (high - low) / 255 or 1.0
        return torch.fake_quantize_per_tensor_affine(w, a, round(-low / a), 0, 255)

    def fp8(w):
        a = w.abs().max() / 448
        a = torch.where(a > 0, a, 1)
        return (w / a).to(torch.float8_e4m3fn).to(w.dtype) * a

    def dorefa(w):
        t = w.tanh()
        x = t / (2 * t.abs().max().clamp(min=1e-30)) + 0.5
        return 2 * torch.round(3 * x) / 3 - 1

    def centred(w):
        return torch.where(w > w.mean(), 1.0, -1.0).to(w.dtype) * w.abs().mean()

    for fn, definition in (
        (absmean, "absmean"),
        (rows, Integers(4, axis=0)),
        (affine, "affine"),
        (fp8, "fp8"),
        (dorefa, "dorefa"),
        (centred, "centred_binary"),
    ):
        report = kit.check_quantizer(kit.from_torch(fn), definition, dtypes=["float32"])
        assert report and report.verdict == "right", f"\n{report}"


# Planted faults


def with_scale(measure, last=7, first=None, out=1.0):
    def fn(w):
        a = measure(w) or w.dtype.type(1)
        return (np.clip(np.round(w / a), -last if first is None else first, last) * a * out).astype(
            w.dtype
        )

    return fn


def top(w):
    return np.abs(w).max()


def sign_of_centred(w):
    return (np.sign(w - w.mean()) * np.abs(w).mean()).astype(w.dtype)


def truncating(w):
    a = top(w) / 7 or w.dtype.type(1)
    return (np.trunc(w / a) * a).astype(w.dtype)


def half_up(w):
    a = top(w) / 7 or w.dtype.type(1)
    return (np.clip(np.floor(w / a + 0.5), -7, 7) * a).astype(w.dtype)


def moves_again(w):
    """Right where it is asked about raw weights; of few values it halves the scale."""
    q = absmax(w)
    return (absmax(w) * (0.5 if q.tobytes() == w.tobytes() and len(w) > 8 else 1)).astype(w.dtype)


def affine_fault(zero=True, signed_zero=False, from_zero=True, bits=4):
    def fn(w):
        low, high = (min(w.min(), 0), max(w.max(), 0)) if from_zero else (w.min(), w.max())
        a = (high - low) / (2**bits - 1) or 1.0
        z = int(np.round(-low / a)) if zero else -low / a
        return ((np.clip(np.round(w / a + z), 0, 2**bits - 1) - z) * a).astype(w.dtype)

    return fn


def nf4_of(values, measure=top):
    def fn(w):
        a = measure(w) or w.dtype.type(1)
        i = np.abs((w / a)[..., None] - values).argmin(-1)
        return (values[i] * a).astype(w.dtype)

    return fn


NF4 = codebook("nf4")


def mx(round_up=False, measure=top):
    def fn(w):
        if not top(w):
            return w.copy()
        power = math.log2(measure(w))
        a = 2.0 ** ((math.ceil if round_up else math.floor)(power) - 2)
        x, values = np.abs(w) / a, codebook("e2m1")[7:]
        i = np.abs(x[..., None] - values).argmin(-1)
        tie = (i < 7) & (x * 2 == values[i] + values[np.minimum(i + 1, 7)]) & (i % 2 == 1)
        return (np.copysign(values[i + tie], w) * a).astype(w.dtype)

    return fn


def powers_fault(zero=True, shift=0, n=4, side="right"):
    def fn(w):
        m = np.abs(w).max()
        if not m:
            return w.copy()
        a = 2.0 ** (math.floor(math.log2(4 * m / 3)) + shift)
        levels = a / 2.0 ** np.arange(n)[::-1]
        levels = np.append(0, levels) if zero else levels
        i = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.abs(w), side=side)
        return (np.copysign(levels[i], w) + 0.0).astype(w.dtype)

    return fn


def dorefa_fault(bits=2, out=1.0, zero=False, clip=False):
    def fn(w):
        n, t = 2**bits - 1, np.tanh(w)
        x = t / (2 * (np.abs(t).max() or 1)) + 0.5
        if clip:
            x = np.clip(w, -1, 1) / 2 + 0.5
        q = out * (2 * np.round(n * x) / n - 1)
        return (np.where(w == 0, 0, q) if zero else q).astype(w.dtype)

    return fn


WRONG = [
    # absmax integers
    (with_scale(lambda w: np.abs(w).mean() / 7), Integers(4), "wrong reduction", "the mean of |w|"),
    (with_scale(lambda w: max(w.max() / 7, 0)), Integers(4), "wrong reduction", "max(w)"),
    (with_scale(lambda w: top(w) / 14), Integers(4), "factor of two", "scale is half"),
    (with_scale(lambda w: top(w) / 7, out=2), Integers(4), "factor of two", "results are twice"),
    (with_scale(lambda w: top(w) / 8, first=-8), Integers(4), "wrong range", "asymmetric"),
    (with_scale(lambda w: top(w) / 7.5, first=-8), Integers(4), "wrong range", "7.5, so that"),
    (with_scale(lambda w: top(w) / 3, 3), Integers(4), "wrong range", "codes of 3 bits"),
    (truncating, Integers(4), "not nearest", "cast to an integer"),
    (half_up, Integers(4), "wrong tie", "to the upper one, not to the even"),
    (moves_again, Integers(4), "not idempotent", "a second call moves"),
    (lambda w: w.copy(), Integers(4), "not the rule", ""),
    # one fault hides another
    (
        with_scale(lambda w: top(w) / 8, first=-8, out=0.5),
        Integers(4),
        "factor of two",
        "results are half",
    ),
    # per axis, per block
    (absmax, Integers(4, axis=0), "wrong reduction", "one scale for the whole array"),
    (lambda w: absmax(w, axis=0), Integers(4, axis=0), "wrong reduction", "axis 1"),
    (absmax, Integers(4, block=8), "wrong reduction", "one scale for the whole array"),
    (
        lambda w: absmax(w.reshape(len(w), -1), axis=1).reshape(w.shape) / 2,
        Integers(4, axis=0),
        "factor of two",
        "results are half",
    ),
    # BitNet
    (with_scale(top, 1), "absmean", "wrong reduction", "max|w|"),
    (with_scale(lambda w: np.median(np.abs(w)), 1), "absmean", "wrong reduction", "the median"),
    (with_scale(lambda w: np.abs(w).mean() / 2, 1), "absmean", "factor of two", "scale is half"),
    (with_scale(lambda w: np.abs(w).mean(), 1, -2), "absmean", "wrong range", "from -2 to 1"),
    (
        with_scale(lambda w: np.abs(w).mean() + 1e-5, 1),
        "absmean",
        "wrong scale",
        "1e-05 is added",
    ),
    (absmean, "absmedian", "wrong reduction", "the mean of |w|"),
    # affine
    (affine_fault(zero=False), Affine(4), "not the rule", ""),
    (affine_fault(from_zero=False), Affine(4), "not the rule", ""),
    (affine_fault(bits=5), Affine(4), "wrong range", "codes of 5 bits"),
    (lambda w: affine(w) / 2, Affine(4), "factor of two", "results are half"),
    (
        lambda w: (affine_codes(w)[0], affine_codes(w)[1], 0),
        Affine(4),
        "not the rule",
        "",
    ),
    # codebooks
    (nf4_of(NF4, lambda w: w.std()), "nf4", "wrong reduction", "the standard deviation"),
    (nf4_of(NF4 / 2), "nf4", "factor of two", "half"),
    (nf4_of(codebook("e2m1"), lambda w: top(w) / 6), "nf4", "wrong range", "those of e2m1"),
    (nf4_of(NF4[NF4 != 0]), "nf4", "not the rule", ""),
    (mx(round_up=True), "mxfp4", "wrong reduction", "the power of two above max|w|"),
    (fp4, "mxfp4", "wrong reduction", "max|w| over the largest value"),
    (mx(), "fp4", "wrong reduction", "a power of two"),
    (nf4_of(codebook("e2m1"), lambda w: top(w) / 6), "fp4", "wrong tie", ""),
    # powers of two
    (powers_fault(zero=False), "powers_of_two", "wrong range", "0 is no level"),
    (powers_fault(), PowersOfTwo(4, zero=False), "sign(0)", "0 is a level"),
    (powers_fault(shift=-1), "powers_of_two", "factor of two", "scale is half"),
    (powers_fault(n=3), "powers_of_two", "wrong range", "3 powers, not 4"),
    (powers_fault(side="left"), "powers_of_two", "wrong tie", "towards 0"),
    # DoReFa
    (dorefa_fault(3), "dorefa", "wrong range", "codes of 3 bits"),
    (dorefa_fault(out=0.5), "dorefa", "factor of two", "results are half"),
    (dorefa_fault(zero=True), "dorefa", "sign(0)", "one more level"),
    (dorefa_fault(clip=True), "dorefa", "not the rule", ""),
    # centred binary
    (sign_of_centred, "centred_binary", "sign(0)", "as with numpy.sign"),
    (lambda w: centred(w) / 2, "centred_binary", "factor of two", "results are half"),
    (
        lambda w: (np.where(w > w.mean(), 1, -1) * np.abs(w - w.mean()).mean()).astype(w.dtype),
        "centred_binary",
        "wrong reduction",
        "mean|w - mean(w)|",
    ),
    (
        lambda w: (np.where(w >= w.mean(), 1, -1) * np.abs(w).mean()).astype(w.dtype),
        "centred_binary",
        "wrong tie",
        "to the upper one",
    ),
    # fixed levels
    (lambda w: np.clip(np.floor(w + 0.5), -1, 1), "rounded", "wrong tie", "to the upper one"),
    (lambda w: np.clip(np.round(w), -1, 1) / 2, "rounded", "factor of two", "half"),
    (
        lambda w: np.clip(np.round(w), -1, 1),
        Rounded((-1, 0, 1), "zero", (-0.25, 0.25)),
        "not the rule",
        "nearest level",
    ),
    (
        lambda w: ((w >= 0.25) * 1.0 - (w <= -0.25)).astype(w.dtype),
        Rounded((-1, 0, 1), "zero", (-0.25, 0.25)),
        "wrong tie",
        "away from 0",
    ),
    # fixed point
    (lambda w: (np.round(w * 4) + 8) % 16 / 4 - 2, "fixed_point", "wrong range", "wraps"),
    (lambda w: np.clip(np.round(w * 8), -8, 7) / 8, "fixed_point", "wrong range", "3 bits behind"),
    (
        lambda w: np.clip(np.floor(w * 4 + 0.5), -8, 7) / 4,
        "fixed_point",
        "wrong tie",
        "to the upper",
    ),
]


@pytest.mark.parametrize(("fn", "definition", "convention", "words"), WRONG)
def test_planted_faults_are_named(fn, definition, convention, words):
    report = kit.check_quantizer(fn, definition)
    assert report.verdict == "wrong" and report.convention == convention, f"\n{report}"
    assert words in report.fault.detail, f"\n{report}"


def test_two_faults_are_both_named():
    both = with_scale(lambda w: top(w) / 8, first=-8, out=0.5)
    report = kit.check_quantizer(both, Integers(4))
    assert [f.convention for f in report.faults][:2] == ["factor of two", "wrong range"]


def test_any_tie():
    assert kit.check_quantizer(half_up, Integers(4), any_tie=True)
    assert not kit.check_quantizer(truncating, Integers(4), any_tie=True)
    with pytest.raises(ValueError, match="any_tie must be False"):
        kit.check_quantizer(half_up, "ternary", any_tie=True)


def test_a_scale_that_fits_nothing_is_misuse():
    report = kit.check_quantizer(lambda w: (np.rint(w).astype(int), np.ones(5)), Integers(4))
    assert report.verdict == "misuse" and "shape (5,)" in report.fault.detail


def test_the_report_says_how_far_a_rule_is_from_the_least():
    gaps = kit.check_quantizer(absmean, "absmean").gaps
    assert all(name.startswith("the least") and gap > 0.2 for name, gap in gaps.items()) and gaps


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="levels is no option of absmax, which has bits, range"):
        kit.rule("absmax", levels=(1, 2))
    with pytest.raises(ValueError, match="did you mean 'absmax'"):
        kit.rule("absmx")
    with pytest.raises(ValueError, match="exact must be False for Integers"):
        kit.check_quantizer(absmax, Integers(4), exact=True)
    with pytest.raises(ValueError, match="axis must be 0, 1 or -1"):
        kit.check_quantizer(absmax, Integers(4, axis=2))


# The command

MODULE = """
import numpy as np

def int4(w, axis=None):
    a = np.abs(w).max(axis=axis, keepdims=True) / 7
    a = np.where(a > 0, a, 1)
    return (np.clip(np.round(w / a), -7, 7) * a).astype(w.dtype)

def rows(w):
    return int4(w, tuple(range(1, w.ndim)))

def blocks(w):
    return int4(w.reshape(-1, 16), 1).reshape(w.shape)

def ternary(w):
    return np.clip(np.round(w), -1, 1)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("int4 --as absmax --bits 4", 0, "PASSED: int4 as quantizer 'absmax': Integers(n_bits=4)"),
        ("int4 --as absmax", 1, "codes of 4 bits"),
        ("rows --as absmax --bits 4 --axis 0", 0, "PASSED"),
        ("int4 --as absmax --bits 4 --axis 0", 1, "one scale for the whole array"),
        ("blocks --as absmax --bits 4 --block 16", 0, "PASSED"),
        ("int4 --as absmax --bits 4 --scale least-squares", 1, "WRONG"),
        ("int4 --as absmax --bits 4 --ties any", 0, "PASSED"),
        ("int4 --as absmax --bits 4 --ties away", 1, "to the even one"),
        ("ternary --as rounded --levels=-1,0,1", 0, "PASSED"),
        ("ternary --as rounded --levels=-2,0,1 --ties up", 1, "WRONG"),
        ("int4 --as absmax --levels=-1,0,1", 2, "levels is no option of absmax"),
        ("int4 --as ternary --bits 3", 2, "--bits is for published rules"),
        ("int4 --as absmax --bits 9", 2, "n_bits must be an integer >= 2 and <= 8, got 9"),
        ("int4 --as absmax --scale median --bits 4 --range full", 1, "WRONG"),
        ("ternary --as fixed_point --bits 2 --fraction 0 --overflow saturate", 1, "WRONG"),
    ],
)
def test_check_with_options(tmp_path, monkeypatch, capsys, arguments, code, said):
    (tmp_path / "people.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    function, *options = arguments.split()
    got = exit_code("check", f"people:{function}", *options)
    out, err = capsys.readouterr()
    assert got == code and said in out + err, out + err
