"""Sets and regularizers to text and back, for files and command lines."""

from __future__ import annotations

import ast
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.regularizer import Regularizer


def to_text(thing: Any, name: str | None = None, hidden: Collection[str] = ()) -> str:
    """NAME(field=value, ...) of a dataclass, with the fields that differ from their defaults.

    name: by default, the name of its class. `parse` is the inverse.

    Examples:
        >>> from proxquant_np.prox.text import to_text
        >>> to_text(pq.prox.MultiBit(2, axis=0), "MultiBitL2")
        'MultiBitL2(axis=0, n_bits=2)'
    """
    given = {f.name: getattr(thing, f.name) for f in fields(thing) if f.name not in hidden}
    told = [f"{f.name}={given[f.name]!r}" for f in fields(thing) if _is_told(f, given)]
    return f"{name or type(thing).__name__}({', '.join(told)})"


def _is_told(field, given):
    return field.name in given and given[field.name] != field.default


def parse(text: str) -> Regularizer | QuantizedSet:
    """The set or regularizer that a text such as "MultiBitL2(n_bits=2, axis=0)" describes.

    Arguments are literals, sets or regularizers; nothing is evaluated. The names are those of
    `proxquant_np.prox` and of all other subclasses that have been defined.

    Raises:
        ValueError: the text is anything else.

    Examples:
        >>> from proxquant_np.prox.text import parse
        >>> parse("MultiBitL2(n_bits=2, axis=0)"), parse("L1(Binary())")
        (MultiBitL2(axis=0, n_bits=2), L1(Binary()))
    """
    kinds = {kind.__name__: kind for kind in [*_below(Regularizer), *_below(QuantizedSet)]}

    def built(node: ast.expr) -> Any:
        if not isinstance(node, ast.Call):
            return ast.literal_eval(node)
        name = ast.unparse(node.func)
        if name not in kinds:
            raise ValueError(f"no set or regularizer is called {name!r}")
        return kinds[name](*map(built, node.args), **{k.arg: built(k.value) for k in node.keywords})

    try:
        found = built(ast.parse(text.strip(), mode="eval").body)
        if not isinstance(found, Regularizer | QuantizedSet):
            raise ValueError("not a call of a regularizer")
    except Exception as error:  # a syntax error, or whatever a constructor raises
        names = sorted(k for k in kinds if k[-2:] in ("L1", "L2") and _is_ours(kinds[k]))
        raise ValueError(
            f"regularizer must be one of {', '.join(names)} with its arguments, such as "
            f"'MultiBitL2(n_bits=2)', got {text!r}: {error}"
        ) from error
    return found


def _below(kind):
    """All subclasses; of those with the same name, the one of this package wins."""
    found = kind.__subclasses__()
    found = [*found, *(below for each in found for below in _below(each))]
    return sorted(found, key=_is_ours)


def _is_ours(kind):
    return kind.__module__.startswith("proxquant_np.prox.")
