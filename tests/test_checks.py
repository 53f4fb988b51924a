"""Checks of arguments: what passes comes back as plain numbers, what does not is named."""

import math

import numpy as np
import pytest

from proxquant_np.checks import (
    check_callable,
    check_choice,
    check_counts,
    check_instance,
    check_integer,
    check_number,
)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_come_back_plain(value):
    assert type(check_integer("n", value, least=3, most=3)) is int


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), 1, np.int8(1)])
def test_numbers_come_back_plain(value):
    assert type(check_number("x", value, least=0, most=1)) is float


def test_infinity_passes_unless_it_is_excluded():
    assert check_number("strength", math.inf, least=0) == math.inf
    with pytest.raises(ValueError, match="lr must be a number >= 0 and < inf, got inf"):
        check_number("lr", math.inf, least=0, below=math.inf)


@pytest.mark.parametrize(
    ("check", "error", "words"),
    [
        (lambda: check_integer("n", 2, least=3), ValueError, "n must be an integer >= 3, got 2"),
        (lambda: check_integer("n", 4, most=3), ValueError, "n must be an integer <= 3, got 4"),
        (lambda: check_integer("n", 3.0), TypeError, "n must be an integer, got 3.0"),
        (lambda: check_integer("n", True), TypeError, "n must be an integer, got True"),
        (lambda: check_number("x", False), TypeError, "x must be a number, got False"),
        (lambda: check_number("x", "1"), TypeError, "x must be a number, got '1'"),
        (lambda: check_number("x", math.nan), ValueError, "x must be a number, got nan"),
        (
            lambda: check_number("x", 10**400, below=math.inf),
            ValueError,
            "x must be a number below 1.8e308, got 10000000000000000000...",
        ),
        (lambda: check_number("x", -1, least=0), ValueError, "x must be a number >= 0, got -1"),
        (lambda: check_number("x", 0, above=0), ValueError, "x must be a number > 0, got 0"),
        (lambda: check_number("x", 2, most=1), ValueError, "x must be a number <= 1, got 2"),
        (lambda: check_number("x", 1, below=1), ValueError, "x must be a number < 1, got 1"),
        (lambda: check_choice("c", "z", "ab"), ValueError, "c must be one of 'a', 'b', got 'z'"),
        (lambda: check_choice("c", ["a"], "a"), ValueError, "c must be one of 'a', got ['a']"),
        (lambda: check_choice("c", [], {"a": 1}), ValueError, "c must be one of 'a', got []"),
        (
            lambda: check_choice("c", np.array(["a", "b"]), ("a", "b")),
            ValueError,
            "c must be one of 'a', 'b', got array(['a', 'b'], dtype='<U1')",
        ),
        (lambda: check_instance("m", 3, str, "a name"), TypeError, "m must be a name, got 3"),
        (lambda: check_callable("f", 3), TypeError, "f must be a function, got 3"),
    ],
)
def test_what_is_refused_is_named(check, error, words):
    with pytest.raises(error) as raised:
        check()
    assert str(raised.value) == words


def test_what_passes_comes_back():
    assert check_choice("c", "a", "ab") == "a"
    assert check_instance("m", "x", str, "a name") == "x"
    assert check_callable("f", len) is len


def test_counts_are_integers_from_1_on():
    check_counts(rows=1, columns=np.int64(2))
    with pytest.raises(ValueError, match="columns must be an integer >= 1, got 0"):
        check_counts(rows=1, columns=0)
