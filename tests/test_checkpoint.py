"""Checkpoint files: exact, whole or not at all, and refused as soon as one bit is wrong."""

import errno
import io
import json
import os
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


def test_meta_that_json_cannot_hold(file):
    whole = file.read_bytes()
    with pytest.raises(TypeError, match="tolist"):
        save_checkpoint(file, ARRAYS, {"a": {1, 2}})
    assert file.read_bytes() == whole


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
