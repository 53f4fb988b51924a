"""What the command line can ask of the kit: each definition with its options, right and wrong."""

import pytest
from command_line import exit_code

from proxquant_np import conformance as kit
from proxquant_np.commands.conformance import FORMATS
from proxquant_np.prox.codebook import FLOATS

MODULE = """
import numpy as np

def soft(x, s):
    return (np.sign(x) * np.maximum(np.abs(x) - s, 0)).astype(x.dtype)

def hardshrink(x):
    return np.where(np.abs(x) > 0.5, x, 0).astype(x.dtype)

def firm(x, s):
    far = np.abs(x) > 2
    if s >= 2:
        return np.where(np.abs(x) > np.sqrt(2 * s), x, 0).astype(x.dtype)
    return np.where(far, x, soft(x, s) / (1 - s / 2)).astype(x.dtype)

rng = np.random.default_rng(0)

def by_chance(w, last=7):
    a = np.abs(w).max() / last or 1
    return (np.clip(np.floor(w / a + rng.random(w.shape)), -last, last) * a).astype(w.dtype)

def signs(w):
    return np.where(rng.random(w.shape) < (w + 1) / 2, 1, -1).astype(w.dtype)

def steps(w):
    return np.clip(np.round(w / 0.5), 0, 15).astype(w.dtype) * w.dtype.type(0.5)

def affine(w):
    low, high = min(w.min(), 0), max(w.max(), 0)
    a = (high - low) / 15 or 1.0
    z = int(np.round(-low / a))
    return (np.clip(np.round(w / a) + z, 0, 15).astype(np.uint8), a, z)

def powers(w, zero=False):
    top = np.abs(w).max()
    if not top:
        return w.copy()
    a = 2.0 ** np.floor(np.log2(4 * top / 3))
    levels = a / 2.0 ** np.arange(3)[::-1]
    i = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.abs(w), side="right")
    return (np.where(w >= 0, 1, -1) * levels[i]).astype(w.dtype)

def strict(w):
    return (np.sign(w) * (np.abs(w) > 0.25)).astype(w.dtype)

def wrapped(w):
    return ((np.round(w * 4) + 8) % 16 / 4 - 2).astype(w.dtype)
"""

CASES = [
    ("soft --as soft_threshold", 0, "PASSED"),
    ("soft --as hard_threshold", 1, "the soft threshold of this strength"),
    ("soft --as soft_threshold --levels=-1,1", 1, "WRONG"),
    ("hardshrink --as hard_threshold --strength 0.125", 0, "at a jump"),
    ("hardshrink --as hard_threshold --strength 0.125 --ties zero", 0, "PASSED"),
    ("hardshrink --as hard_threshold --strength 0.125 --ties away", 1, "wrong tie"),
    ("hardshrink --as hard_threshold --strength 0.125 --ties any", 0, "PASSED"),
    ("hardshrink --as hard_threshold --strength 0.5", 1, "not sqrt(2 s)"),
    ("firm --as mcp --gamma 2", 0, "PASSED"),
    ("firm --as mcp --gamma 1", 1, "gamma is doubled"),
    ("soft --as ridge --gamma 2", 2, "gamma is no option of ridge, which has levels"),
    ("soft --as binary_l1 --gamma 2", 2, "--gamma is for penalties: soft_threshold"),
    ("soft --as huber --exact", 2, "--exact must be left out for huber"),
    ("by_chance --as stochastic --bits 4", 0, "over the nearest levels"),
    ("by_chance --as stochastic --bits 4 --axis 0", 1, "one scale for the whole array"),
    ("by_chance --as stochastic", 1, "codes of 4 bits"),
    ("signs --as stochastic --levels=-1,1", 0, "PASSED"),
    ("signs --as stochastic --fraction 2 --bits 4", 1, "WRONG"),
    ("signs --as stochastic --levels=-1,1 --bits 2", 2, "bits is no option of stochastic"),
    ("steps --as lsq --step 0.5 --range unsigned", 0, "PASSED"),
    ("steps --as lsq --step 0.25 --range unsigned", 1, "the step is twice"),
    ("steps --as lsq --step 0", 2, "step must be a number > 0"),
    ("affine --as affine --bits 4", 0, "PASSED"),
    ("powers --as powers_of_two --powers 3 --no-zero", 0, "the least for a power of two"),
    ("powers --as powers_of_two --powers 3", 1, "0 is no level"),
    ("strict --as rounded --levels=-1,0,1 --thresholds=-0.25,0.25 --ties zero", 0, "PASSED"),
    ("strict --as rounded --levels=-1,0,1 --thresholds=-0.25,0.25 --ties away", 1, "towards 0"),
    ("strict --as rounded --levels=-1,0,1 --thresholds=-0.25,0.25 --ties any", 0, "PASSED"),
    ("wrapped --as fixed_point --bits 4 --fraction 2 --overflow wrap", 0, "PASSED"),
    ("wrapped --as fixed_point --bits 4 --fraction 2", 1, "beyond the range it wraps"),
    ("by_chance --as fp8 --format e9m9", 2, "invalid choice: 'e9m9'"),
]


def test_the_formats_are_those_of_the_package():
    assert set(FORMATS) == {"nf4", *FLOATS}


@pytest.mark.parametrize(("arguments", "code", "said"), CASES)
def test_check(tmp_path, monkeypatch, capsys, arguments, code, said):
    monkeypatch.setattr(kit.search, "SECONDS", 0.5)
    (tmp_path / "theirs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    function, *options = arguments.split()
    got = exit_code("check", f"theirs:{function}", *options)
    out, err = capsys.readouterr()
    assert got == code and said in out + err, out + err
