"""The usual names of distances: BinaryL1() is L1(Binary()), TernaryL2() is L2(Ternary())."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError
from typing import Any, ClassVar

from proxquant_np.prox.quantized_set import QuantizedSet
from proxquant_np.prox.text import to_text


class Named:
    """What a distance is by its name: its text, equality, and short names for some sets.

    A subclass with `of`, a class of sets, is a name for the distance to these. It takes the
    arguments of the set except those in `fixed`, has the set's attributes, and its repr follows the
    set's.

    Examples:
        >>> from proxquant_np.prox import L1, Levels
        >>> class SignL1(L1):
        ...     of, fixed = Levels, {"values": [-1, 1]}
        >>> SignL1(), SignL1() == L1(Levels([-1, 1]))
        (SignL1(), True)
    """

    of: ClassVar[Callable[..., QuantizedSet] | None] = None
    fixed: ClassVar[Mapping[str, Any]] = {}
    kind: ClassVar[type]
    set: QuantizedSet

    def __init_subclass__(cls) -> None:
        if "of" not in vars(cls):
            cls.kind = cls
            return

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.kind.__init__(self, self.of(*args, **kwargs, **self.fixed))

        cls.__init__ = __init__
        kept = inspect.signature(cls.of).parameters.values()
        cls.__signature__ = inspect.Signature([p for p in kept if p.name not in cls.fixed])
        # For `dataclasses`, above all `replace`, it has the fields of the set.
        cls.__dataclass_fields__ = {
            k: f
            for k, f in getattr(cls.of, "__dataclass_fields__", {}).items()
            if k not in cls.fixed
        }

    def __getattr__(self, name: str) -> Any:
        if self.of is None or name == "set" or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.set, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.set!r})" if self.of is None else to_text(self.set, name, self.fixed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self):
        return self.kind, self.set
