"""The gallery: each counterexample breaks its conclusion, and only without the assumption."""

from __future__ import annotations

import pytest

from proxquant_np.theory import GALLERY


@pytest.mark.parametrize("one", GALLERY, ids=lambda c: f"{c.theorem}: {c.assumption}")
def test_the_conclusion_holds_with_the_assumption_and_fails_without(one):
    assert one.holds(True) is True
    assert one.holds(False) is False


def test_no_assumption_is_listed_twice():
    names = [(c.theorem, c.assumption) for c in GALLERY]
    assert len(set(names)) == len(names) > 30
    assert all(c.problem for c in GALLERY)
