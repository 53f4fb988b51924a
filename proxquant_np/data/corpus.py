"""The files of a text: one, or a corpus of three parts in a folder or an archive.

Nothing of an archive is unpacked to disk or run: its parts are read, and everything else in it,
links and names that lead elsewhere included, is left alone.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path

from proxquant_np.data.archives import Refused, only_path, whole_tar
from proxquant_np.files import read_whole, shown

PENN_TREEBANK = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
PARTS = ("train", "valid", "test")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
LARGEST = 1 << 30  # bytes of a part of an archive, which may be packed a thousandfold
_GET = f"{', '.join(PENN_TREEBANK)}, from T. Mikolov's simple-examples.tgz, folder data"


def read_texts(path: Path) -> dict[str, str]:
    """Texts by the names of their files: the only one, or training, validation and test.

    The parts are those named as the Penn Treebank's, or else the only files with train, valid and
    test in their names, wiki.train.tokens, say. Byte order marks and Windows line ends are gone.

    Raises:
        FileNotFoundError: there is nothing at that path, or a part is missing.
        ValueError: a file is not UTF-8, or empty; or several may be a part; or the archive is
            damaged, or holds a link or more than a gibibyte in place of a part.
        OSError: a pipe or a device.

    Examples:
        >>> from pathlib import Path
        >>> from proxquant_np.data.corpus import read_texts
        >>> for name in ("my.train.txt", "my.valid.txt", "my.test.txt"):
        ...     _ = Path(name).write_text("a b\\n", "utf-8")
        ...
        >>> read_texts(Path())
        {'my.train.txt': 'a b\\n', 'my.valid.txt': 'a b\\n', 'my.test.txt': 'a b\\n'}
    """
    if path.is_dir():
        names = _three(path, [p.name for p in path.iterdir() if not p.is_dir()])
        return {name: _text(path / name, read_whole(path / name)) for name in names}
    if not path.exists():
        wanted = "a UTF-8 text file, or a folder or tar archive with the Penn Treebank's three"
        raise FileNotFoundError(f"{shown(path)} does not exist; expected {wanted} files")
    if path.is_file() and path.name.lower().endswith(ARCHIVES):
        return _from_archive(path)
    return {path.name: _text(path, read_whole(path))}


def _three(source: Path, names: Iterable[str]) -> list[str]:
    """The names of training, validation and test part."""
    found, names = [], sorted(names)
    for part, usual in zip(PARTS, PENN_TREEBANK, strict=True):
        fitting = [name for name in names if part in name.lower()]
        if usual in names:
            fitting = [usual]
        if not fitting:
            raise FileNotFoundError(
                f"{shown(source / usual)} does not exist, nor another file with {part} in its "
                f"name; expected a corpus of three parts such as {_GET}"
            )
        if len(fitting) > 1:
            raise Refused(
                f"{shown(source)} must hold one file with {part} in its name, got "
                f"{shown(', '.join(fitting[:3]))}"
            )
        found += fitting
    return found


def _from_archive(archive: Path) -> dict[str, str]:
    with whole_tar(archive, "tar archive of three text files") as tar:
        members = {m.name: m for m in tar if not m.isdir()}
        paths = [(name.rsplit("/", 1)[-1], name) for name in members]
        names = _three(archive, {name for name, _ in paths})
        chosen = {name: only_path(archive, name, paths) for name in names}
        found = {name: _part(tar, members[path]) for name, path in chosen.items()}
    return {name: _text(archive / name, content) for name, content in found.items()}


def _part(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isfile():
        raise Refused(f"{shown(member.name)} must be a file, got a link or a device in an archive")
    if member.size > LARGEST:
        raise Refused(
            f"{shown(member.name)} must have at most {LARGEST:,} bytes, got {member.size:,}"
        )
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _text(file: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{shown(file)} must be UTF-8 text, but its byte {error.start} ({error.reason}) is not"
        ) from None
    if not text.strip():
        raise ValueError(f"{shown(file)} is empty; expected UTF-8 text")
    return text.removeprefix("\ufeff").replace("\r\n", "\n")
