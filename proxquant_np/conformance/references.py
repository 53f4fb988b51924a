"""Published quantizers in plain Python, one weight at a time, with fractions: slow, and exact.

The golden vectors of `rules.json` come from here. Nothing of proxquant_np.prox is used, so that the
two can be held against each other. Weights are a list that shares one scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

Numbers = Sequence[Fraction]


def round_to_integer(x: Fraction, ties: str) -> int:
    """The integer nearest to `x`; of two, the one that `ties` says.

    Examples:
        >>> from fractions import Fraction
        >>> from proxquant_np.conformance.references import round_to_integer
        >>> [round_to_integer(Fraction(5, 2), ties) for ties in ("even", "away", "zero")]
        [2, 3, 2]
    """
    below = math.floor(x)
    if x - below != Fraction(1, 2):
        return round(x)
    even = below + below % 2
    out = below + (x > 0)
    return {"up": below + 1, "down": below, "even": even, "away": out, "zero": 2 * below + 1 - out}[
        ties
    ]


def nearest(x: Fraction, levels: Numbers, ties: str) -> Fraction:
    """The level nearest to `x`, ascending levels; "even" counts them from 0, either way.

    Examples:
        >>> from fractions import Fraction
        >>> from proxquant_np.conformance.references import nearest
        >>> nearest(Fraction(1, 2), [Fraction(0), Fraction(1)], "even")
        Fraction(0, 1)
    """
    best = min(abs(x - level) for level in levels)
    found = [level for level in levels if abs(x - level) == best]
    if len(found) == 1:
        return found[0]
    if ties in ("up", "down"):
        return found[ties == "up"]
    if ties == "even":
        zero = min(range(len(levels)), key=lambda i: abs(levels[i]))
        return next(level for level in found if (levels.index(level) - zero) % 2 == 0)
    outer, inner = sorted(found, key=abs, reverse=True)
    if abs(outer) == abs(inner):  # x is 0
        return max(found)
    return outer if ties == "away" else inner


def reduced(w: Numbers, scale: str) -> Fraction:
    """The maximum, mean or median of |w|.

    Examples:
        >>> from proxquant_np.conformance.references import reduced
        >>> reduced([-3, 1, 2], "mean")
        Fraction(2, 1)
    """
    sizes = sorted(map(abs, w))
    if scale == "mean":
        return Fraction(sum(sizes), len(w))
    if scale == "max":
        return Fraction(sizes[-1])
    return Fraction(sizes[len(w) // 2] + sizes[(len(w) - 1) // 2], 2)


def integers(
    w: Numbers, n_bits: int, full: bool, scale: str, ties: str, divisor: float | None = None
) -> list[Fraction]:
    """a clip(round(w / a)), a = the maximum, mean or median of |w| over the divisor.

    Examples:
        >>> from proxquant_np.conformance.references import integers
        >>> [int(q) for q in integers([7, -2], 4, False, "max", "even")]
        [7, -2]
    """
    last = 2 ** (n_bits - 1) - 1
    if divisor is None:
        divisor = last if scale == "max" else math.sqrt(last)
    a = reduced(w, scale) / Fraction(divisor)
    if a == 0:
        return [Fraction(0)] * len(w)
    return [a * min(max(round_to_integer(x / a, ties), -last - full), last) for x in w]


def affine(w: Numbers, n_bits: int, ties: str) -> list[Fraction]:
    """a (clip(round(w / a) + z) - z), the range from min(w, 0) to max(w, 0).

    Examples:
        >>> from proxquant_np.conformance.references import affine
        >>> [int(q) for q in affine([-1, 2], 2, "even")]
        [-1, 2]
    """
    low, high = min(*w, 0), max(*w, 0)
    last = 2**n_bits - 1
    if low == high:
        return [Fraction(0)] * len(w)
    a = Fraction(high - low, last)
    z = round_to_integer(-low / a, "even")
    return [a * (min(max(round_to_integer(x / a, ties) + z, 0), last) - z) for x in w]


def codebook(w: Numbers, values: Numbers, power: bool, ties: str) -> list[Fraction]:
    """a times the value nearest to w / a; a = max|w| / largest value, or a power of two.

    Examples:
        >>> from fractions import Fraction
        >>> from proxquant_np.conformance.references import codebook
        >>> codebook([Fraction(6), Fraction(4)], [Fraction(v) for v in (0, 4, 6)], False, "even")
        [Fraction(6, 1), Fraction(4, 1)]
    """
    top, largest = reduced(w, "max"), max(values)
    if top == 0:
        return [Fraction(0)] * len(w)
    a = Fraction(2) ** (_exponent(top) - _exponent(largest)) if power else top / largest
    return [a * nearest(x / a, values, ties) for x in w]


def _exponent(x):
    """floor(log2(x)), exactly."""
    k = 0
    while Fraction(2) ** k > x:
        k -= 1
    while Fraction(2) ** (k + 1) <= x:
        k += 1
    return k


def powers_of_two(w: Numbers, n: int, zero: bool, ties: str) -> list[Fraction]:
    """The nearest of 0 and +-2^k, ..., +-2^(k-n+1), k = floor(log2(4/3 max|w|)).

    Examples:
        >>> from fractions import Fraction
        >>> from proxquant_np.conformance.references import powers_of_two
        >>> powers_of_two([Fraction(5), Fraction(-2, 3)], 2, True, "away")
        [Fraction(4, 1), Fraction(0, 1)]
    """
    top = reduced(w, "max")
    if top == 0:
        return [Fraction(0)] * len(w)
    k = _exponent(top * Fraction(4, 3))
    powers = [Fraction(2) ** (k - i) for i in range(n)]
    levels = sorted([*powers, *(-p for p in powers), *[Fraction(0)] * zero])
    return [nearest(x, levels, ties) for x in w]


def dorefa(w: Numbers, n_bits: int) -> list[Fraction]:
    """2/n round(n (tanh(w) / (2 max|tanh(w)|) + 1/2)) - 1, a tie to even.

    Examples:
        >>> from proxquant_np.conformance.references import dorefa
        >>> [str(q) for q in dorefa([0.0, 1.0], 2)]
        ['1/3', '1']
    """
    n = 2**n_bits - 1
    top = max(math.tanh(abs(x)) for x in w) or 1.0
    parts = [n * (math.tanh(x) / (2 * top) + 0.5) for x in w]
    return [Fraction(2 * round(part), n) - 1 for part in parts]


def centred_binary(w: Numbers, scale: str, ties: str) -> list[Fraction]:
    """a sign(w - mean(w)), a the mean of |w| or of |w - mean(w)|.

    Examples:
        >>> from proxquant_np.conformance.references import centred_binary
        >>> [int(q) for q in centred_binary([1, 2, 6, 3], "mean", "down")]
        [-3, -3, 3, -3]
    """
    middle = Fraction(sum(w), len(w))
    a = reduced(w if scale == "mean" else [x - middle for x in w], "mean")
    up: Callable[[Fraction], bool] = lambda x: x >= middle if ties == "up" else x > middle  # noqa: E731
    return [a if up(x) else -a for x in w]


def rounded(w: Numbers, levels: Numbers, thresholds: Numbers | None, ties: str) -> list[Fraction]:
    """The nearest level, or the last one whose threshold is passed: "zero", |w| > t is strict.

    Examples:
        >>> from fractions import Fraction
        >>> from proxquant_np.conformance.references import rounded
        >>> rounded([Fraction(1, 4)], [-1, 0, 1], [Fraction(-1, 4), Fraction(1, 4)], "away")
        [1]
    """
    if thresholds is None:
        return [nearest(x, levels, ties) for x in w]

    def passed(x, t):
        on = {"up": True, "down": False, "away": t >= 0, "zero": t <= 0}[ties]
        return x > t or (x == t and on)

    return [levels[sum(passed(x, t) for t in thresholds)] for x in w]


def fixed_point(w: Numbers, n_bits: int, fraction: int, wrap: bool, ties: str) -> list[Fraction]:
    """2^-fraction k, k = round(2^fraction w), clipped to n bits or taken modulo 2^n_bits.

    Examples:
        >>> from fractions import Fraction
        >>> from proxquant_np.conformance.references import fixed_point
        >>> [str(q) for q in fixed_point([Fraction(9, 4)], 4, 2, True, "even")]
        ['-7/4']
    """
    unit, half = Fraction(2) ** -fraction, 2 ** (n_bits - 1)
    codes = [round_to_integer(x / unit, ties) for x in w]
    if wrap:
        return [unit * ((k + half) % (2 * half) - half) for k in codes]
    return [unit * min(max(k, -half), half - 1) for k in codes]


def by_chance(w: Numbers, levels: Numbers) -> list[tuple[Fraction, Fraction, Fraction]]:
    """For each weight its neighbouring levels and the probability of the upper one, (x-l)/(h-l).

    Beyond the ends, the two levels next to it, and certainty.

    Examples:
        >>> from fractions import Fraction
        >>> from proxquant_np.conformance.references import by_chance
        >>> [[str(part) for part in x] for x in by_chance([Fraction(1, 4), 3], [-1, 0, 1])]
        [['0', '1', '1/4'], ['0', '1', '1']]
    """
    found = []
    for x in w:
        i = max(i for i in range(len(levels) - 1) if i == 0 or levels[i] <= x)
        low, high = Fraction(levels[i]), Fraction(levels[i + 1])
        found.append((low, high, min(max((x - low) / (high - low), Fraction(0)), Fraction(1))))
    return found


def reference(rule: Any) -> Callable[[Numbers], list[Fraction]]:
    """The definition above of a set with a rule, by its parameters.

    Examples:
        >>> from proxquant_np.conformance.references import reference
        >>> [int(q) for q in reference(pq.prox.Integers(4))([7, 2, -3])]
        [7, 2, -3]
    """
    kind, ties = type(rule).__name__, rule.ties
    if kind == "Integers":
        full, scale, divisor = rule.range == "full", rule.scale, rule.divisor
        return lambda w: integers(w, rule.n_bits, full, scale, ties, divisor)
    if kind == "Codebook":
        values = [Fraction(v) for v in FORMATS[rule.format]]
        return lambda w: codebook(w, values, rule.scale == "power", ties)
    if kind == "Rounded":
        levels = [Fraction(v) for v in rule.values]
        cuts = None if rule.thresholds is None else [Fraction(v) for v in rule.thresholds]
        return lambda w: rounded(w, levels, cuts, ties)
    if kind == "FixedPoint":
        wrap = rule.overflow == "wrap"
        return lambda w: fixed_point(w, rule.n_bits, rule.fraction, wrap, ties)
    return {
        "Affine": lambda w: affine(w, rule.n_bits, ties),
        "PowersOfTwo": lambda w: powers_of_two(w, rule.n, rule.zero, ties),
        "DoReFa": lambda w: dorefa(w, rule.n_bits),
        "CentredBinary": lambda w: centred_binary(w, rule.scale, ties),
    }[kind]


def float_values(exponent: int, mantissa: int, bias: int, top: float) -> list[float]:
    """The values of a small float format up to `top`, with subnormal ones, ascending.

    Examples:
        >>> from proxquant_np.conformance.references import float_values
        >>> [v for v in float_values(2, 1, 1, 6.0) if v >= 0]
        [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    steps, found = 2**mantissa, set()
    for e in range(2**exponent):
        for m in range(steps):
            size = m / steps * 2.0 ** (1 - bias) if e == 0 else (1 + m / steps) * 2.0 ** (e - bias)
            found |= {size, 0.0 - size} if size <= top else set()
    return sorted(found)


FORMATS = {
    "nf4": sorted(
        [
            *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
            *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0, 1.0),
            *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
            *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023),
        ]
    ),
    "e2m1": float_values(2, 1, 1, 6.0),
    "e2m3": float_values(2, 3, 1, 7.5),
    "e3m2": float_values(3, 2, 3, 28.0),
    "e4m3": float_values(4, 3, 7, 448.0),
    "e5m2": float_values(5, 2, 15, 57344.0),
    "e4m3ieee": float_values(4, 3, 7, 240.0),
    "e4m3fnuz": float_values(4, 3, 8, 240.0),
    "e5m2fnuz": float_values(5, 2, 16, 57344.0),
}
"""The values of each format."""
