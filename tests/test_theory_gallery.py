"""The gallery: each counterexample breaks its conclusion, and only without the assumption."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from proxquant_np.theory import GALLERY, Quadratic, gallery


@pytest.mark.parametrize("one", GALLERY, ids=lambda c: f"{c.theorem}: {c.assumption}")
def test_the_conclusion_holds_with_the_assumption_and_fails_without(one):
    assert one.holds(True) is True
    assert one.holds(False) is False


def test_no_assumption_is_listed_twice():
    names = [(c.theorem, c.assumption) for c in GALLERY]
    assert len(set(names)) == len(names) > 30
    assert all(c.problem for c in GALLERY)


def numbers(found):
    """What a function of `theory` returned, as flat numbers."""
    if isinstance(found, tuple):
        return [number for part in found for number in numbers(part)]
    found = getattr(found, "iterates", found)
    return np.ravel(found).astype(float).tolist() if np.ndim(found) or found is not None else []


@pytest.mark.parametrize("i", range(len(GALLERY)), ids=lambda i: GALLERY[i].problem)
def test_the_problem_is_the_one_that_the_notebook_shows(i, monkeypatch):
    """All that the functions of `theory` are given and return in the replays, to nine digits."""
    seen = []

    def given(argument):
        """The numbers of an argument; of a loss, or its gradient, those of a quadratic."""
        argument = getattr(argument, "__self__", argument)
        if isinstance(argument, Quadratic):
            return given(argument.a) + given(argument.b)
        if isinstance(argument, list | tuple):
            return [number for part in argument for number in given(part)]
        array = isinstance(argument, np.ndarray | np.generic | int | float)
        return np.ravel(argument).astype(float).tolist() if array else []

    def spy(function):
        def called(*arguments, **keywords):
            for argument in (*arguments, *keywords.values()):
                seen.extend(given(argument))
            found = function(*arguments, **keywords)
            if not isinstance(found, str) and not hasattr(found, "verdict"):
                seen.extend(numbers(found))
            return found

        return called

    for name, function in vars(gallery).items():
        if callable(function) and name.islower() and not name.startswith("_"):
            if function.__module__.startswith("proxquant_np.theory."):
                monkeypatch.setattr(gallery, name, spy(function))
    assert [GALLERY[i].holds(kept) for kept in (True, False)] == [True, False]
    text = " ".join(f"{x + 0.0:.9g}" for x in np.round(seen, 9))
    assert zlib.crc32(text.encode()) == CHECKSUMS[i]


# fmt: off
CHECKSUMS = [
    0x00000000, 0x00000000, 0x00000000, 0x00000000, 0xD3643082, 0xEC24ED5F, 0xF520477A,
    0x80C0C702, 0xE8D40205, 0x527CE344, 0x297C5288, 0xAEE86736, 0xD2BA1A18, 0xD0CDAAD6,
    0x3A26C41D, 0xCFB2E2C3, 0x6D4BF736, 0xC0A6116E, 0x438E1B0D, 0xFB8C07DC, 0x9F82D737,
    0xA04BAD58, 0xFE7A4E0B, 0x7210553A, 0x3247A0FF, 0xBC0B3E91, 0xC45E668D, 0xE4975EAF,
    0xC77AFD05, 0x00000000, 0x7611496E, 0xB3F248CC, 0xA37901D9, 0x2DD873EF, 0x98CBFA54,
    0x00000000, 0x00000000, 0x00000000, 0x00000000,
]
# fmt: on
