"""Each published rule has right versions in three styles, and three planted faults or more."""

import math

import numpy as np
import pytest
from test_conformance_rules import RIGHT, WRONG, loop

import proxquant_np as pq
from proxquant_np.prox import Affine, Codebook, Integers, PowersOfTwo, Rounded
from proxquant_np.prox.codebook import FLOATS, codebook

kit = pq.conformance
KINDS = {
    Integers: "absmax",
    Affine: "affine",
    PowersOfTwo: "powers_of_two",
    Rounded: "rounded",
}


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    monkeypatch.setattr(kit.search, "SECONDS", 0.5)
    few = {k: v[:32] for k, v in kit.vectors.large().items() if k.startswith("weights.")}
    monkeypatch.setattr(kit.vectors, "large", lambda: few)  # fractions take their time


def name_of(definition):
    return definition if isinstance(definition, str) else KINDS[type(definition)]


# Floats of few bits, by their exponents: no table


def few_bits(x, name, top=None, flush=False):
    """x rounded half to even to a float format, saturating."""
    _, mantissa, bias, largest = FLOATS[name]
    e = np.maximum(np.frexp(x)[1] - 1, 1 - bias)
    step = np.ldexp(1.0, e - mantissa)
    q = np.clip(np.rint(x / step) * step, -(top or largest), top or largest)
    return np.where(np.abs(q) < 2.0 ** (1 - bias), 0, q) if flush else q


def scaled(name, measure=lambda w: np.abs(w).max(), out=1.0, top=None, **how):
    def fn(w):
        x = w.astype(np.float64)
        a = measure(x) / (top or FLOATS[name][3]) or 1
        return (few_bits(x / a, name, top, **how) * a * out).astype(w.dtype)

    return fn


def microscaled(name, exponent=math.floor, overflow=None, out=1.0, as_="", **how):
    def fn(w):
        x = w.astype(np.float64)
        size = np.abs(x).max()
        if not size:
            return w.copy()
        largest = FLOATS[as_ or name][3]
        a = 2.0 ** (exponent(math.log2(size)) - math.floor(math.log2(largest)))
        q = few_bits(x / a, name, **how)
        if overflow is not None:
            q = np.where(np.abs(x / a) > 1.0357142857142858 * largest, overflow, q)
        return (q * a * out).astype(w.dtype)

    return fn


def with_scale(measure, last, out=1.0):
    def fn(w):
        a = measure(w) or w.dtype.type(1)
        return (np.clip(np.round(w / a), -last, last) * a * out).astype(w.dtype)

    return fn


def median(w):
    return np.median(np.abs(w))


def lsq(w, step=0.25, first=-8, last=7):
    return (np.clip(np.round(w / step), first, last) * step).astype(w.dtype)


def nf4(w):
    a = np.abs(w).max() or w.dtype.type(1)
    values = codebook("nf4")
    return (values[np.abs((w / a)[..., None] - values).argmin(-1)] * a).astype(w.dtype)


NUMPY = {
    "absmax": with_scale(lambda w: np.abs(w).max() / 127, 127),
    "absmedian": with_scale(median, 1),
    "nf4": nf4,
    "fp8": scaled("e4m3"),
    "mxfp4": microscaled("e2m1"),
    "mxfp8": microscaled("e4m3"),
    "lsq": lsq,
}
FAULTS = [
    ("absmedian", with_scale(lambda w: median(w) / 2, 1), "factor of two", "scale is half"),
    ("absmedian", with_scale(lambda w: np.abs(w).max(), 1), "wrong reduction", "max|w|"),
    ("absmedian", with_scale(median, 1, 2.0), "factor of two", "results are twice"),
    ("fp4", scaled("e2m1", lambda w: np.abs(w).mean()), "wrong reduction", "the mean of |w|"),
    ("fp4", scaled("e2m1", flush=True), "wrong range", "subnormal values are flushed"),
    ("fp4", scaled("e2m3"), "wrong range", "those of e2m3"),
    ("mxfp4", microscaled("e2m1", flush=True), "wrong range", "subnormal values are flushed"),
    ("mxfp4", microscaled("e2m1", round), "wrong reduction", "nearest to max|w|"),
    ("mxfp4", microscaled("e2m1", out=0.5), "factor of two", "results are half"),
    ("fp8", scaled("e5m2"), "wrong range", "those of e5m2"),
    ("fp8", scaled("e4m3fnuz"), "wrong range", "those of e4m3fnuz"),
    ("fp8", scaled("e4m3ieee"), "wrong range", "those of e4m3ieee"),
    ("fp8", scaled("e4m3", flush=True), "wrong range", "subnormal values are flushed"),
    ("fp8", scaled("e4m3", lambda w: np.abs(w).mean()), "wrong reduction", "the mean of |w|"),
    ("fp8", scaled("e4m3", out=2.0), "factor of two", "results are twice"),
    ("mxfp8", microscaled("e4m3", math.ceil), "wrong reduction", "the power of two above"),
    ("mxfp8", microscaled("e4m3", overflow=np.nan), "NaN", "NaN or infinity"),
    ("mxfp8", microscaled("e5m2"), "wrong range", "those of e5m2"),
    ("mxfp8", microscaled("e4m3", flush=True), "wrong range", "subnormal values are flushed"),
    ("mxfp8", scaled("e4m3"), "wrong reduction", "max|w| over the largest value"),
    ("lsq", lambda w: lsq(w, 0.5), "factor of two", "the step is twice"),
    ("lsq", lambda w: lsq(w, first=-7), "wrong range", "from -1.75 to 1.75"),
    ("lsq", lambda w: lsq(w) / 2, "factor of two", "half"),
]


def test_each_rule_has_three_faults_and_a_right_one_in_numpy():
    planted = [name_of(definition) for _, definition, *_ in WRONG] + [name for name, *_ in FAULTS]
    few = {name: planted.count(name) for name in kit.RULES if planted.count(name) < 3}
    assert not few
    right = {name_of(definition) for _, definition in RIGHT} | NUMPY.keys()
    assert right >= set(kit.RULES)


@pytest.mark.parametrize(("name", "fn", "convention", "words"), FAULTS)
def test_planted_faults_are_named(name, fn, convention, words):
    report = kit.check_quantizer(fn, name)
    assert report.verdict == "wrong" and report.convention == convention, f"\n{report}"
    assert words in report.fault.detail, f"\n{report}"


@pytest.mark.parametrize("name", NUMPY)
def test_right_ones_in_numpy_pass(name):
    report = kit.check_quantizer(NUMPY[name], name)
    assert report.verdict == "right", f"\n{report}"


@pytest.mark.parametrize("name", kit.RULES)
def test_right_ones_in_a_loop_pass(name):
    rule = kit.rule(name)
    report = kit.check_quantizer(loop(rule), rule, dtypes=["float32"])
    assert report.verdict == "right", f"\n{report}"


def in_torch():
    torch = pytest.importorskip("torch")

    def scale(measure):
        a = measure
        return torch.where(a > 0, a, 1)

    def symmetric(measure, last):
        def fn(w):
            a = measure(w) / last  # a median may be 0 although a weight is not: all become 0
            return (w / scale(a)).round().clamp(-last, last) * a

        return fn

    def affine(w):
        low, high = min(float(w.min()), 0), max(float(w.max()), 0)
        a = (high - low) / 255 or 1.0
        return torch.fake_quantize_per_tensor_affine(w, a, round(-low / a), 0, 255)

    def table(name, power=False):
        values = torch.tensor(codebook(name))
        codes = torch.arange(len(values)) - len(values) // 2

        def fn(w):
            x, top = w.double(), w.abs().max().double()
            a = top / values[-1]
            if power:
                last = math.floor(math.log2(float(values[-1])))
                a = 2.0 ** (torch.floor(torch.log2(top)) - last) if top else top
            a = scale(a)
            far = (x[..., None] / a - values).abs()
            worse = far + 1e-9 * (codes % 2 != 0) if name != "nf4" else far
            return (values[worse.argmin(-1)] * a).to(w.dtype)

        return fn

    def powers(w):
        top = w.abs().max()
        if not top:
            return w.clone()
        a = 2.0 ** torch.floor(torch.log2(4 * top / 3))
        levels = torch.cat([torch.zeros(1), a / 2.0 ** torch.arange(3, -1, -1)])
        i = torch.bucketize(w.abs().contiguous(), (levels[1:] + levels[:-1]) / 2, right=True)
        return torch.copysign(levels[i], w)

    def dorefa(w):
        t = w.tanh()
        return 2 * torch.round(3 * (t / (2 * t.abs().max().clamp(min=1e-30)) + 0.5)) / 3 - 1

    return {
        "absmax": symmetric(lambda w: w.abs().max(), 127),
        "absmean": symmetric(lambda w: w.abs().mean(), 1),
        "absmedian": symmetric(lambda w: w.abs().quantile(0.5), 1),
        "affine": affine,
        "nf4": table("nf4"),
        "fp4": table("e2m1"),
        "fp8": table("e4m3"),
        "mxfp4": table("e2m1", power=True),
        "mxfp8": table("e4m3", power=True),
        "powers_of_two": powers,
        "dorefa": dorefa,
        "centred_binary": lambda w: torch.where(w > w.mean(), 1.0, -1.0) * w.abs().mean(),
        "rounded": lambda w: w.round().clamp(-1, 1),
        "lsq": lambda w: (w / 0.25).round().clamp(-8, 7) * 0.25,
        "fixed_point": lambda w: (w * 4).round().clamp(-8, 7) / 4,
    }


@pytest.mark.parametrize("name", kit.RULES)
def test_right_ones_in_torch_pass(name):
    report = kit.check_quantizer(kit.from_torch(in_torch()[name]), name, dtypes=["float32"])
    assert report.verdict == "right", f"\n{report}"


def test_the_tables_of_floats_are_those_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name, theirs in {
        "e2m1": "float4_e2m1fn",
        "e2m3": "float6_e2m3fn",
        "e3m2": "float6_e3m2fn",
        "e4m3": "float8_e4m3fn",
        "e5m2": "float8_e5m2",
        "e4m3ieee": "float8_e4m3",
        "e4m3fnuz": "float8_e4m3fnuz",
        "e5m2fnuz": "float8_e5m2fnuz",
    }.items():
        dtype = getattr(ml_dtypes, theirs)
        values = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
        values = np.unique(values[np.isfinite(values)])
        assert np.array_equal(values, codebook(name)), name
        assert Codebook(name).format == name
