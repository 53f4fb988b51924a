"""Every regularizer still gives the bits that it gave before sets and distances were told apart.

tests/frozen/prox_bits.json holds what prox_bits.py wrote of the package of that time: checksums,
and, where bits hang on the BLAS kernel or the processor, sums that are compared to a few ulp.
Four checksums are newer: at infinite strength PublishedTernary is now its rule, applied once.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import prox_bits
import pytest

FROZEN = json.loads((Path(__file__).parent / "frozen" / "prox_bits.json").read_text("utf-8"))
REGULARIZERS = {repr(r): r for r in prox_bits.regularizers()}
ARRAYS = list(prox_bits.arrays())


def differences(r, recorded):
    """The places among ARRAYS of the results that are not as recorded."""
    for i, (w, known) in enumerate(zip(ARRAYS, recorded, strict=True)):
        if isinstance(known, str):
            same = prox_bits.bits(r, w) == known
        else:
            close = 64 * np.finfo(w.dtype).eps
            same = np.allclose(prox_bits.moments(r, w), known, rtol=close, atol=0)
        if not same:
            yield i


def test_every_regularizer_is_compared():
    assert REGULARIZERS.keys() == FROZEN.keys()
    checksums = [entry for entries in FROZEN.values() for entry in entries]
    assert len(checksums) > 1700
    assert sum(isinstance(entry, str) for entry in checksums) > 1300


@pytest.mark.parametrize("name", FROZEN)
def test_the_bits_of_before(name):
    assert not list(differences(REGULARIZERS[name], FROZEN[name]))


DISTANCES = [r for r in REGULARIZERS.values() if getattr(r, "of", None)]


@pytest.mark.parametrize("r", DISTANCES, ids=repr)
def test_a_distance_to_the_set_has_the_bits_of_its_name(r):
    distance = r.kind(r.set)
    for w in ARRAYS[3::7]:
        assert prox_bits.bits(distance, w) == prox_bits.bits(r, w)


@pytest.mark.parametrize(("name", "off"), [("BinaryL1()", 1e-7), ("MultiBitL2(n_bits=2)", 1e-4)])
def test_a_change_is_seen(name, off, monkeypatch):
    r = REGULARIZERS[name]
    kernel = type(r)._prox

    def off_by_a_little(self, x, s, out, tmp):
        kernel(self, x, s, out, tmp)
        out *= 1 + off

    monkeypatch.setattr(type(r), "_prox", off_by_a_little)
    assert len(list(differences(r, FROZEN[name]))) == len(ARRAYS)
