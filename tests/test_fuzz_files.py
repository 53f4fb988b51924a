"""Damage of every kind, also behind the checksums, to every kind of file that is read.

A reader returns something, or raises what it says it raises: never an error from inside, a warning,
or Python objects. `python tests/test_fuzz_files.py SECONDS` goes on for so long, with other damage
each time; what it finds belongs into REGRESSIONS.
"""

import atexit
import gzip
import io
import json
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import proxquant_np as pq
from proxquant_np import packing, prox
from proxquant_np.data import Text, cifar10, load_cifar10, load_text
from proxquant_np.models import MLP
from proxquant_np.training import CheckpointError, load_checkpoint, save_checkpoint
from proxquant_np.training.checkpoint import write_arrays

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


# Damage ------------------------------------------------------------------------------------------

TOKENS = [b"\0", b"\xff", b"-1", b"1e999", b"NaN", b"[" * 3000, b"{}", b"null", b"9" * 30, b"'O'"]
TOKENS += [b"\x7f\xff\xff\xff", b"\xff" * 8, b"../", b"PK\x01\x02", b"\x1f\x8b", b'"', b"\n", b"\\"]
EDIT = st.tuples(
    st.sampled_from(["flip", "set", "insert", "delete", "repeat", "cut"]),
    st.floats(0, 1, exclude_max=True),  # where
    st.one_of(st.integers(0, 255).map(lambda b: bytes([b])), st.sampled_from(TOKENS)),
    st.integers(1, 40),
)


def damaged(content, edits):
    """The content after every edit in turn."""
    content = bytearray(content)
    for kind, where, token, n in edits:
        i = int(where * len(content))
        if kind == "flip" and content:
            content[i] ^= token[0] or 1
        elif kind == "set":
            content[i : i + len(token)] = token
        elif kind == "insert":
            content[i:i] = token
        elif kind == "delete":
            del content[i : i + n]
        elif kind == "repeat":
            content[i:i] = content[i : i + n]
        elif kind == "cut":
            del content[i:]
    return bytes(content)


# Readers, each with what it may raise ------------------------------------------------------------


def write(name, content):
    path = FOLDER / name
    path.write_bytes(content)
    return path


def read_checkpoint(content):
    try:
        arrays, _ = load_checkpoint(write("run.npz", content))
    except CheckpointError as error:
        return error
    assert all(type(a) is np.ndarray and a.dtype != object for a in arrays.values())
    try:
        packing.pack_checkpoint(FOLDER / "run.npz", FOLDER / "out.npz", prox.BinaryL1())
    except ValueError as error:
        return error


def read_packed(content):
    path = write("net.npz", content)
    try:
        packing.table(path)
        pq.load_packed(path)
    except packing.PackedError as error:
        return error


def read_cifar10(content, name="c.tar"):
    before, cifar10.RECORDS = cifar10.RECORDS, 1
    try:
        splits = load_cifar10(write(name, content), 1)
    except (ValueError, FileNotFoundError) as error:
        assert cifar10._GET in str(error)  # it was this package that said so
        return error
    finally:
        cifar10.RECORDS = before
    assert [p.x.shape for p in splits] == [(n, 3, 32, 32) for n in (4, 1, 1)]
    assert splits.train.y.max() < 10


def read_text(content):
    for level in ("character", "word"):
        try:
            text = load_text(write("a.txt", content), level)
        except ValueError as error:
            assert type(error) is ValueError, repr(error)
            assert "a.txt" in str(error)
            return error
        assert isinstance(text, Text) and text.splits.train.x.max() < len(text.vocabulary)


# Whole files, and their parts behind the checksums -----------------------------------------------


def small_checkpoint():
    model = MLP((2, 2), batch_norm=False)
    arrays = {f"model/{name}": value for name, value in model.state_dict().items()}
    meta = {
        "model": pq.models.describe(model),
        "quantized": ["layers.0.weight"],
        "identity": {"regularizer": "BinaryL1()"},
    }
    save_checkpoint(FOLDER / "whole", arrays, meta)
    return (FOLDER / "whole").read_bytes()


def members(archive):
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive(contents):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return whole.getvalue()


def small_packed():
    pq.pack(MLP((3, 2), batch_norm=False), prox.TernaryL2(), FOLDER / "whole.npz")
    return (FOLDER / "whole.npz").read_bytes()


def header_and_data(packed):
    (content,) = members(packed).values()
    content = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False).tobytes()
    end = 4 + int.from_bytes(content[:4], "little")
    return zlib.decompress(content[4:end]), content[end:]


def packed_of(header, data):
    """A packed file with this header, its checksum made right if it has one."""
    try:
        told = json.loads(header)
        header = json.dumps({**told, "crc32": zlib.crc32(data)}).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    text, whole = zlib.compress(header), io.BytesIO()
    content = len(text).to_bytes(4, "little") + text + data
    write_arrays(whole, {"packed": np.frombuffer(content, np.uint8)})
    return whole.getvalue()


def small_tar():
    rng, whole = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name in cifar10.FILES:
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = 3073
            entry.pax_headers = {"comment": "a"}
            tar.addfile(entry, io.BytesIO(b"\1" + rng.bytes(3072)))
    return whole.getvalue()


CHECKPOINT, PACKED, TAR = small_checkpoint(), small_packed(), small_tar()
HEADER, DATA = header_and_data(PACKED)
TEXT = "the cat sat\non the mat\u00e9\n\nthe end\n".encode() * 4


def inner_checkpoint(edits, which):
    parts = members(CHECKPOINT)
    name = sorted(parts)[which % len(parts)]
    return archive({**parts, name: damaged(parts[name], edits)})


def compressed(module_name, content):
    module = __import__(module_name)
    return module.compress(content)


KINDS = {
    "checkpoint": (read_checkpoint, lambda e, n: damaged(CHECKPOINT, e)),
    "arrays": (read_checkpoint, inner_checkpoint),
    "packed": (read_packed, lambda e, n: damaged(PACKED, e)),
    "header": (read_packed, lambda e, n: packed_of(damaged(HEADER, e), DATA)),
    "codes": (read_packed, lambda e, n: packed_of(HEADER, damaged(DATA, e))),
    "tar": (read_cifar10, lambda e, n: damaged(TAR, e)),
    "tar inside gzip": (read_cifar10, lambda e, n: gzip.compress(damaged(TAR, e), 1)),
    "gzip": (read_cifar10, lambda e, n: damaged(gzip.compress(TAR, 1, mtime=0), e)),
    "bzip2": (read_cifar10, lambda e, n: damaged(compressed("bz2", TAR), e)),
    "xz": (read_cifar10, lambda e, n: damaged(compressed("lzma", TAR), e)),
    "text": (read_text, lambda e, n: damaged(TEXT, e)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(kind):
    read, make = KINDS[kind]
    assert read(make([], 0)) is None


@pytest.mark.parametrize("kind", KINDS)
@given(edits=st.lists(EDIT, min_size=1, max_size=4), which=st.integers(0, 3))
def test_damaged(kind, edits, which):
    read, make = KINDS[kind]
    error = read(make(edits, which))
    assert error is None or "\n" not in str(error).strip()


REGRESSIONS = [("xz", [("flip", 0.5, b"\0", 1)])]  # an LZMAError from inside


@pytest.mark.parametrize(("kind", "edits"), REGRESSIONS)
def test_regressions(kind, edits):
    read, make = KINDS[kind]
    assert "must be a whole tar" in str(read(make(edits, 0)))


if __name__ == "__main__":
    import traceback
    import warnings

    warnings.simplefilter("error")
    until, tried, kinds = time.time() + float(sys.argv[1]), 0, set(KINDS)
    one_round = settings(
        max_examples=400, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )(test_damaged)
    while time.time() < until and kinds:
        for kind in sorted(kinds):
            try:
                one_round(kind)
            except Exception:
                kinds.remove(kind)
                traceback.print_exc()
            tried += 400
        print(f"{tried} files", flush=True)
