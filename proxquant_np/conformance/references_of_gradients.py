"""Gradients through quantizers in plain Python, one weight at a time: slow, and as published.

The golden vectors of `gradients.json` come from here; estimators.py is held against them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

List = Sequence[float]


def clipped(w: List, g: List, low: float, high: float, outside: bool = False) -> list[float]:
    """g_i where low <= w_i <= high, or where low < w_i < high, else 0.

    Examples:
        >>> from proxquant_np.conformance.references_of_gradients import clipped
        >>> clipped([1.0, 1.5], [3.0, 3.0], -1, 1)
        [3.0, 0.0]
    """
    within: Callable[[float], bool] = lambda x: low < x < high if outside else low <= x <= high  # noqa: E731
    return [d if within(x) else 0.0 for x, d in zip(w, g, strict=True)]


def scaled(w: List, g: List) -> list[float]:
    """g_i times the mean of |w|.

    Examples:
        >>> from proxquant_np.conformance.references_of_gradients import scaled
        >>> scaled([1.0, -2.0], [1.0, 2.0])
        [1.5, 3.0]
    """
    mean = sum(map(abs, w)) / len(w)
    return [mean * d for d in g]


def dorefa(w: List, g: List, constant: bool) -> list[float]:
    """The gradient of sum_i g_i tanh(w_i) / max_j |tanh(w_j)|, the maximum differentiated or not.

    Examples:
        >>> import math
        >>> from proxquant_np.conformance.references_of_gradients import dorefa
        >>> dorefa([0.0, 1.0], [1.0, 1.0], True)[0] == 1 / math.tanh(1.0)
        True
    """
    t = [math.tanh(x) for x in w]
    m = max(range(len(t)), key=lambda i: abs(t[i]))
    top, sign = abs(t[m]), math.copysign(1, t[m])
    dw = [d * (1 - x * x) / top for x, d in zip(t, g, strict=True)]
    if not constant:
        total = sum(d * x for x, d in zip(t, g, strict=True))
        dw[m] -= sign * (1 - t[m] * t[m]) * total / top**2
    return dw


def lsq(w: List, g: List, s: float, low: int, high: int) -> tuple[list[float], float]:
    """(what w receives, what the step s receives), the latter times 1 / sqrt(n high).

    Examples:
        >>> from proxquant_np.conformance.references_of_gradients import lsq
        >>> lsq([0.75, 9.0], [1.0, 1.0], 0.5, -2, 1)
        ([0.0, 0.0], 1.414213562373095)
    """
    dw, total = [], 0.0
    for x, d in zip(w, g, strict=True):
        v = x / s
        dw.append(d if low < v < high else 0.0)
        total += d * (low if v <= low else high if v >= high else round(v) - v)
    return dw, total / math.sqrt(len(w) * high)


def pact(w: List, g: List, alpha: float) -> tuple[list[float], float]:
    """(what w receives, what the clip alpha receives).

    Examples:
        >>> from proxquant_np.conformance.references_of_gradients import pact
        >>> pact([0.5, 2.0], [3.0, 4.0], 1.0)
        ([3.0, 0.0], 4.0)
    """
    dw = [d if 0 <= x < alpha else 0.0 for x, d in zip(w, g, strict=True)]
    return dw, float(sum(d for x, d in zip(w, g, strict=True) if x >= alpha))
