"""Tar archives from outside: read in place, never unpacked, and named if they are damaged."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from proxquant_np.files import shown


class Refused(ValueError):
    """An archive or a folder that is intact, but not the right one."""


def only_path(archive: Path, name: str, paths: Iterable[tuple[str, str]]) -> str:
    """The path in the archive of the file of this name, among (name, path) of all.

    `Refused` if several folders have one: which is meant is not for us to guess.

    Examples:
        >>> from pathlib import Path
        >>> from proxquant_np.data.archives import only_path
        >>> only_path(Path("my.tar"), "a.txt", [("a.txt", "data/a.txt"), ("b.txt", "b.txt")])
        'data/a.txt'
    """
    found = sorted({path for other, path in paths if other == name})
    if len(found) > 1:
        raise Refused(
            f"{shown(archive)} must hold one file called {shown(name)}, got "
            f"{shown(', '.join(found[:3]))}"
        )
    return found[0]


@contextmanager
def whole_tar(archive: Path, kind: str, instead: str = "") -> Iterator[tarfile.TarFile]:
    """The open archive, which is read up to the checksum at its end when the block is left.

    kind: what it must be a whole one of. instead: what to get, the end of the message.

    Raises:
        ValueError: the archive is damaged. `Refused` and FileNotFoundError pass as they are.
    """
    try:
        with tarfile.open(archive) as tar:
            yield tar
            while tar.fileobj.read(1 << 20):
                pass
    except (Refused, FileNotFoundError):
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        raise ValueError(
            f"{shown(archive)} must be a whole {kind}, but reading it failed: "
            f"{shown(' '.join(str(error).split()))}{instead}"
        ) from error
