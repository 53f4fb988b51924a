"""Checkpoint files: exact, whole or not at all, and refused as soon as one bit is wrong."""

import errno
import io
import json
import os
import sys
import zipfile

import numpy as np
import pytest

from proxquant_np.training import CheckpointError, checkpoint, load_checkpoint, save_checkpoint
from proxquant_np.training import written_whole as open_whole

# The names make entries of the archive's directory 64 bytes long: then a single flipped bit in a
# length can hide whole entries, and only a list of the names can tell.
ARRAYS = {
    "weight".ljust(14, "_"): np.array([[0.0, -0.0, np.nan], [np.inf, 1e-45, -3.5]], np.float32),
    "counts".ljust(14, "_"): np.array([1, -2], np.int64),
    "number".ljust(14, "_"): np.array(0.1),
}
META = {"step": 3, "state": {"big": 2**127 + 1}, "names": ["a", None, True]}


def equal(a, b):
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes()
        for k in b
    )


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "run.npz"
    save_checkpoint(file, ARRAYS, META)
    return file


def test_round_trip_is_exact(file):
    arrays, meta = load_checkpoint(file)
    assert equal(arrays, ARRAYS)
    assert meta == META
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::2],
        np.array([True, False]),
        np.array("text"),
        3.5,
        7,
    ],
)
def test_any_plain_array_and_any_name(array, tmp_path):
    names = ["a", "file", "allow_pickle", "deep/er.name", "a.npy"]
    save_checkpoint(tmp_path / "run.npz", dict.fromkeys(names, array), {"schema": 7, "arrays": 8})
    arrays, meta = load_checkpoint(tmp_path / "run.npz")
    assert list(arrays) == names
    for value in arrays.values():
        assert value.dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(value, array)
    assert meta == {"schema": 7, "arrays": 8}


def test_numpy_reads_it_too(file):
    with np.load(file, allow_pickle=False) as found:
        assert equal({k: found[k] for k in ARRAYS}, ARRAYS)


def test_truncated_anywhere(file):
    whole = file.read_bytes()
    for n in range(len(whole)):
        file.write_bytes(whole[:n])
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            load_checkpoint(file)


def test_flipped_bits(file):
    """Each byte once: refused, or the flip is where nothing is said (a date, a padding)."""
    whole, harmless = file.read_bytes(), 0
    for i in range(len(whole)):
        damaged = bytearray(whole)
        damaged[i] ^= 1 << (i % 8)
        file.write_bytes(damaged)
        try:
            arrays, meta = load_checkpoint(file)
        except CheckpointError:
            continue
        assert equal(arrays, ARRAYS), i
        assert meta == META, i
        harmless += 1
    assert harmless < len(whole) / 3


def test_entries_hidden_by_one_bit(file):
    """The last but one entry of the directory takes the last one for its comment."""
    damaged = bytearray(file.read_bytes())
    entry = damaged.rfind(b"PK\x01\x02", 0, damaged.rfind(b"PK\x01\x02"))
    damaged[entry + 32] ^= 64
    file.write_bytes(damaged)
    with zipfile.ZipFile(file) as archive:
        assert len(archive.namelist()) == len(ARRAYS)  # of one more
    with pytest.raises(CheckpointError, match="arrays are missing"):
        load_checkpoint(file)


def test_header_that_asks_for_less(file):
    """A smaller shape: numpy.load reads that much, and never comes to the checksum."""
    save_checkpoint(file, {"a": np.arange(5000)}, {})
    file.write_bytes(file.read_bytes().replace(b"'shape': (5000,)", b"'shape': (1000,)"))
    with np.load(file, allow_pickle=False) as found:
        assert found["a"].shape == (1000,)
    with pytest.raises(CheckpointError, match="CRC"):
        load_checkpoint(file)


def rewritten(file, text=None, **arrays):
    members = {**ARRAYS, "__meta__": np.array(text), **arrays}
    np.savez(file, **{k: v for k, v in members.items() if v is not None})


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_other_schema(file, schema):
    rewritten(file, json.dumps({"schema": schema, "whatever": 1}))
    with pytest.raises(CheckpointError, match=f"schema {schema!r}; this version reads schema 1"):
        load_checkpoint(file)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "3", "{}", "null"])
def test_archives_that_are_no_checkpoints(file, text):
    rewritten(file, text)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_checkpoint(file)
    rewritten(file, '{"schema": 1}')
    with pytest.raises(CheckpointError, match="arrays are missing"):
        load_checkpoint(file)


def test_other_files(file):
    for content in (b"", b"text", b"PK\x05\x06" + bytes(18), np.lib.format.MAGIC_PREFIX * 20):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=str(file)):
            load_checkpoint(file)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_objects_are_neither_written_nor_unpickled(file):
    whole = file.read_bytes()
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        save_checkpoint(file, {**ARRAYS, "trap": np.array([Trap()])}, META)
    assert file.read_bytes() == whole
    pickled = io.BytesIO()
    np.save(pickled, np.array([Trap()]), allow_pickle=True)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("trap.npy", pickled.getvalue())
    with pytest.raises(CheckpointError, match=r"[Oo]bject"):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("meta", "kind", "says"),
    [
        ({1, 2}, TypeError, r"got set \{1, 2\}"),
        (1j, TypeError, "got complex 1j"),
        (np.complex64(1j), TypeError, "got complex64"),
        (np.array([Ellipsis]), TypeError, "got ndarray"),
        (np.datetime64("2026-11-01"), TypeError, "got datetime64"),
        ({1: 0, "1": 0}, ValueError, "'1' occurs twice"),
        ("circle", ValueError, "Circular"),
        ("deep", ValueError, "not be read back"),
    ],
)
def test_meta_that_json_cannot_hold(meta, kind, says, file):
    """Nor can what it would not give back."""
    whole = file.read_bytes()
    if isinstance(meta, str):
        inner = outer = []
        for _ in range(100_000 if meta == "deep" else 1):
            inner.append([])
            inner = inner[0]
        inner.extend([outer] * (meta == "circle"))
        meta = outer
    with pytest.raises(kind, match=says):
        save_checkpoint(file, ARRAYS, {"a": meta})
    assert file.read_bytes() == whole


def test_numpy_scalars_in_meta(file):
    scalars = [np.float32(0.5), np.int8(-3), np.bool_(True), np.float64("inf"), np.str_("a")]
    save_checkpoint(file, ARRAYS, {"a": scalars, "b": np.arange(2)})
    assert load_checkpoint(file)[1] == {"a": [0.5, -3, True, np.inf, "a"], "b": [0, 1]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("__meta__", ValueError),
        ("a\0b", ValueError),
        ("\ud800", ValueError),
        ("ä" * 40_000, ValueError),
        (3, TypeError),
        (None, TypeError),
    ],
)
def test_names_that_would_not_be_read_again(name, kind, file):
    whole = file.read_bytes()
    with pytest.raises(kind, match="names of arrays must be"):
        save_checkpoint(file, {**ARRAYS, name: np.ones(1)}, META)
    assert file.read_bytes() == whole


def test_every_other_name_is_read_again(file):
    names = ["", ".npy", "/", "../a", "__meta__.npy", "a\nb\x1b[2J", "ä", "C:\\a", "x" * 65_000]
    save_checkpoint(file, dict.fromkeys(names, np.ones(1)), META)
    assert list(load_checkpoint(file)[0]) == names


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


TEXT = npy(np.array(json.dumps({"schema": 1, "arrays": ["a"], "meta": 0})))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("a.npy", npy(1)), ("a.npy", npy(2))], "'a' twice"),
        ([("a", npy(1)), ("a.npy", npy(2))], "'a' twice"),
        ([("a.npy", npy(1)), ("__meta__.npy", TEXT)], "'__meta__' twice"),
        ([("a.npy", npy(np.ones(3)) + b"more")], "'a' is longer than its header says"),
    ],
)
def test_members_that_say_two_things(pairs, says, file):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in [("__meta__.npy", TEXT), *pairs]:
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": 2, "schema": 1, "arrays": [], "meta": 0}', "'schema' occurs twice"),
        ('{"schema": 1, "arrays": [], "meta": {"a": {"b": 1, "b": 1}}}', "'b' occurs twice"),
        ('{"schema": 1, "arrays": [], "meta": ' + "[" * 100_000, "nested too deep"),
        ('{"schema": 1, "arrays": []}', "not a whole checkpoint"),
        ('{"schema": true, "arrays": [], "meta": 0}', "schema True"),
    ],
)
def test_texts_that_say_two_things_or_nothing(text, says, file):
    np.savez(file, __meta__=np.array(text))
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_pipes_and_devices_are_refused(kind, tmp_path):
    path = tmp_path / "run.npz"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path = "/dev/zero"
    with pytest.raises(OSError, match="is a pipe or a device"):
        load_checkpoint(path)
    with pytest.raises(OSError, match="is a folder or a device"):
        save_checkpoint(path, ARRAYS, META)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444])
def test_a_replaced_file_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(b"old")
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 1, 2)
    before = path.stat()
    with open_whole(path) as file:
        assert os.fstat(file.fileno()).st_mode == before.st_mode  # while it is written, too
        file.write(b"new")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    with open_whole(tmp_path / "new") as file:
        file.write(b"new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(there, tmp_path):
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "target", tmp_path / "link"
    link.symlink_to("deep/target")
    if there:
        target.write_bytes(b"old")
    with open_whole(link) as file:
        file.write(b"new")
    assert os.readlink(link) == "deep/target" and target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["target"]
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"), open_whole(circle) as file:
        file.write(b"new")
    assert circle.is_symlink()


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.npz")
    with pytest.raises(IsADirectoryError):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        save_checkpoint(tmp_path / "none" / "run.npz", ARRAYS, META)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_folder(file):
    file.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            save_checkpoint(file, {}, {})
    finally:
        file.parent.chmod(0o700)
    assert equal(load_checkpoint(file)[0], ARRAYS)
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_full_disk_or_interrupt_keeps_the_old_file(file, call, error, monkeypatch):
    def fail(*arguments, **keywords):
        raise error

    owner = np.lib.format if call == "write" else checkpoint.os
    monkeypatch.setattr(owner, {"write": "write_array"}.get(call, call), fail)
    with pytest.raises(type(error)):
        save_checkpoint(file, {"new": np.ones(3)}, {})
    monkeypatch.undo()
    assert equal(load_checkpoint(file)[0], ARRAYS)
    assert os.listdir(file.parent) == [file.name]


def test_written_whole(tmp_path):
    path = tmp_path / "text"
    with open_whole(path) as file:
        file.write(b"old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), open_whole(str(path)) as file:
        file.write(b"half of the n")
        file.flush()
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["text"]
    with open_whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
