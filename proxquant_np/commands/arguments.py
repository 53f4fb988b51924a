"""What the arguments of the commands may be, and how a command says that it cannot go on."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from proxquant_np.experiments.statistics import Equality


class Unfinished(Exception):
    """The command ended in good order before its work was done; its message says how to go on."""


Mistake = argparse.ArgumentTypeError
"""Of the user: its message is the one line to be printed."""


def check_matplotlib() -> None:
    """Mistake if it does not like the environment: to be asked before hours of work, not after."""
    try:
        import matplotlib  # noqa: F401
    except ValueError as error:  # an unknown MPLBACKEND
        raise Mistake(f"matplotlib cannot be imported: {error}") from None


def one_of(kind: str, text: str, names: Iterable[str]) -> str:
    """The text, if it is one of the names; else Mistake, with the nearest."""
    names = list(names)
    if text in names:
        return text
    close = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
    raise Mistake(f"no {kind} is called {text!r}; {hint}")


def positive(text: str, least: int = 1) -> int:
    """A number of runs, processes or minutes: 1 to 999,999."""
    if not text.isdecimal() or len(text) > 6 or int(text) < least:  # so many would never end
        raise Mistake(f"must be an integer in {least}..999999, got {text[:20]!r}")
    return int(text)


def natural(text: str) -> int:
    """The number of a stream: 0 to 999,999."""
    return positive(text, least=0)


def margin(text: str) -> Equality:
    """A difference that does not matter: a number > 0 or, with %, a part of the rival's mean."""
    number = re.fullmatch(r"(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})(%?)", text, re.ASCII)
    if number is None or not float(number[1]):
        raise Mistake(f"must be a number > 0, or with % a part of the rival's, got {text[:20]!r}")
    return Equality(float(number[1]) / (100 if number[2] else 1), "as asked", bool(number[2]))


def seeds(text: str) -> tuple[int, ...]:
    """Numbers of seeds, and ranges of them: 0,2,5-8."""
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part, re.ASCII)
        if ends is None:
            raise Mistake(f"must be numbers and ranges like 0,2,5-8, got {text[:20]!r}")
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    if not found or len(found) > len({*found}):
        raise Mistake(f"must name at least one seed, and none twice, got {text[:20]!r}")
    return tuple(found)


def as_path(text: str) -> Path:
    """The path of a file or a folder."""
    if not text or "\0" in text:
        raise Mistake(f"must name a file or a folder, got {text!r}")
    return Path(text)


def as_shape(text: str) -> tuple[int, ...]:
    """The shape of an input, such as 64 or 3x32x32."""
    lengths = text.split("x")
    if not all(n.isascii() and n.isdecimal() and len(n) < 7 and int(n) > 0 for n in lengths):
        raise Mistake(f"must be lengths such as 64 or 3x32x32, got {text[:20]!r}")
    return tuple(map(int, lengths))
