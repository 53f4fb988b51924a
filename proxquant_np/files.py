"""Files are written whole or not at all, and read whole or refused. Text from outside is shown
with its unprintable characters escaped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file to write to, which replaces `path` once the block has ended without an error.

    It is a temporary file beside the target that is flushed to disk and then renamed. Whenever the
    process dies, the target holds either its old content or all of the new. Only a process killed
    while it writes leaves its temporary file (.NAME.*.tmp) behind. A symbolic link is followed:
    the file that it names is written. A file that is replaced passes on its permissions and, where
    the system allows that, its owner and group.

    Examples:
        >>> from pathlib import Path
        >>> with pq.training.written_whole("notes.txt") as file:
        ...     size = file.write(b"all or nothing")
        ...
        >>> Path("notes.txt").read_bytes()
        b'all or nothing'
    """
    target = Path(path)
    if target.is_symlink():
        target = Path(os.path.realpath(target))
    try:
        old = os.stat(target)
    except (FileNotFoundError, NotADirectoryError):
        old = None
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{shown(path)} cannot be written: {shown(target.parent)} is no folder; make it first"
        )
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise OSError(f"{shown(path)} is a folder or a device and is not replaced: choose a file")
    # A new file gets the permissions of the umask. A file that others may not read is never open
    # to them, not even while it is being written.
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=lambda p, flags: os.open(p, flags, mode)) as file:
            if old is not None:
                with contextlib.suppress(AttributeError, OSError):  # Windows; not our file
                    os.chown(file.fileno(), old.st_uid, old.st_gid)
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read_whole(path: str | os.PathLike) -> bytes:
    """The content of a file. OSError also for a pipe or a device, which may have no end.

    Examples:
        >>> from proxquant_np.files import read_whole
        >>> with pq.training.written_whole("notes.txt") as file:
        ...     size = file.write(b"all or nothing")
        ...
        >>> read_whole("notes.txt")
        b'all or nothing'
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # for a folder the system says so
        raise OSError(f"{shown(path)} is a pipe or a device, which may have no end: choose a file")
    try:
        return Path(path).read_bytes()
    except MemoryError:
        raise OSError(errno.ENOMEM, "not enough memory to read it", str(path)) from None


def read_json(text: str | bytes, *, finite: bool = False) -> Any:
    """The value of a JSON text.

    ValueError also for what Python's own reader accepts (duplicate keys and, if `finite`, NaN and
    infinity) and for what makes it fail (lists nested too deeply).

    Examples:
        >>> from proxquant_np.files import read_json
        >>> try:
        ...     read_json('{"seed": 1, "seed": 2}')
        ... except ValueError as error:
        ...     print(error)
        the key 'seed' occurs twice in an object
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {key!r} occurs twice in an object")
            found[key] = value
        return found

    def number(name: str) -> float:
        if finite:
            raise ValueError(f"{name} is not a number in JSON")
        return float(name)

    try:
        return json.loads(text, object_pairs_hook=distinct, parse_constant=number)
    except RecursionError:
        raise ValueError("its lists or objects are nested too deep") from None


def json_text(value: Any, path: str | os.PathLike) -> str:
    """The JSON text of a value, to be written to `path`.

    ValueError, which names the path, for NaN, infinity and values that JSON does not have.

    Examples:
        >>> from proxquant_np.files import json_text
        >>> try:
        ...     json_text({"error": np.nan}, "record.json")
        ... except ValueError as error:
        ...     print(str(error).partition(":")[0])
        record.json cannot be written
    """
    try:
        return json.dumps(value, allow_nan=False, indent=1) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{shown(path)} cannot be written: {error}") from error


def shown(thing: object) -> str:
    """str(thing) with unprintable characters escaped: for names, texts and paths from outside.

    Control characters could do anything to a terminal, and half a surrogate pair cannot be written
    at all.

    Examples:
        >>> from proxquant_np.files import shown
        >>> print(shown("conv\\x1b[2J\\n"))
        conv\\x1b[2J\\n
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(thing))
