"""Whatever a file holds: the readers refuse it, and the command line says so in one line.

Packed files and checkpoints, truncated and with bits flipped at every offset, of other schemas, of
other kinds; targets that cannot be written; and arguments that make no sense.
"""

import io
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxquant_np as pq
from proxquant_np import cli, nn, packing, prox
from proxquant_np.models import MLP
from proxquant_np.packing.file import SCHEMA
from proxquant_np.training import checkpoint, fit, load_checkpoint, save_checkpoint


def small():
    return MLP((3, 2), batch_norm=False)


@pytest.fixture(params=[".npz", ".safetensors"])
def file(request, tmp_path):
    """A small packed network."""
    if request.param == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed (extra: interop)")
    file = tmp_path / f"net{request.param}"
    pq.pack(small(), prox.TernaryL2(), file)
    return file


@pytest.fixture
def run_file(tmp_path):
    """The checkpoint of a small run."""
    file, model = tmp_path / "run.npz", MLP((2, 2), batch_norm=False)
    train = pq.data.Split(np.eye(2, dtype=np.float32), np.arange(2))
    weights = nn.quantizable_parameters(model)
    optimizer = pq.optim.ProxGradient(
        pq.optim.SGD(model.parameters(), 0.1), weights, prox.BinaryL1(), prox.Linear(0.1)
    )
    fit(model, optimizer, train, steps=1, batch_size=2, checkpoint=file, progress=False)
    return file


def refused(arguments, capsys):
    """The line that the command line ends with, having done nothing."""
    assert cli.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("proxquant-np: ") and err.count("\n") == 1
    return err


def content(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


# Packed files ------------------------------------------------------------------------------------


def test_truncated_anywhere(file):
    whole = file.read_bytes()
    for n in range(len(whole)):
        file.write_bytes(whole[:n])
        with pytest.raises(packing.PackedError, match="not a whole packed file"):
            packing.inspect(file)


def test_flipped_bits(file):
    """Each byte once: refused, or the flip is where nothing is said (a date, a padding)."""
    whole, wanted, harmless = file.read_bytes(), content(pq.load_packed(file)), 0
    for i in range(len(whole)):
        damaged = bytearray(whole)
        damaged[i] ^= 1 << i % 8
        file.write_bytes(damaged)
        try:
            loaded = pq.load_packed(file)
        except packing.PackedError:
            continue
        assert content(loaded) == wanted, i
        harmless += 1
    assert harmless < len(whole) / 3


@given(st.binary(max_size=60), st.sampled_from([b"", b"PK\x03\x04", b"\x08" + bytes(7) + b"{}"]))
def test_any_other_bytes(tmp_path_factory, rest, start):
    for suffix in ("npz", "safetensors") if "safetensors" in sys.modules else ("npz",):
        file = tmp_path_factory.getbasetemp() / f"any.{suffix}"
        file.write_bytes(start + rest)
        with pytest.raises(packing.PackedError, match="not a whole packed file"):
            packing.inspect(file)


def told(file):
    """Header and data of a packed file."""
    with np.load(file, allow_pickle=False) as archive:
        whole = archive["packed"].tobytes()
    end = 4 + int.from_bytes(whole[:4], "little")
    return json.loads(zlib.decompress(whole[4:end])), whole[end:]


def retold(file, header, data):
    """Write a packed file with a header of one's own, and a right checksum."""
    if isinstance(header, dict) and "crc32" in header:
        header = {**header, "crc32": zlib.crc32(data)}
    text = zlib.compress(json.dumps(header).encode())
    whole = len(text).to_bytes(4, "little") + text + data
    with open(file, "wb") as target:
        checkpoint.write_arrays(target, {"packed": np.frombuffer(whole, np.uint8)})


NONSENSE = [
    None,
    True,
    -1,
    0,
    3,
    2**70,
    1.5,
    "x",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
    "O",
    "<f4",
    "object",
]


@pytest.mark.parametrize("file", [".npz"], indirect=True)
def test_headers_with_anything_in_any_place(file):
    """Every value at every place of the header, in turn: refused, or the network that it tells."""
    header, data = told(file)
    places = [(header, key) for key in header if key != "crc32"]
    places += [(header["model"], key) for key in header["model"]]
    places += [(header["model"]["arguments"], key) for key in header["model"]["arguments"]]
    places += [(entry, key) for entry in header["entries"] for key in entry]
    tried = 0
    for owner, key in places:
        right = owner[key]
        for value in [*NONSENSE, ...]:
            owner[key] = value
            if value is ...:
                del owner[key]
            retold(file, header, data)
            tried += 1
            try:
                loaded = pq.load_packed(file)
            except packing.PackedError as error:
                assert "\n" not in str(error).strip()
            else:
                assert isinstance(loaded, MLP)
                packing.table(file)
            owner[key] = right
    assert tried > 200


@pytest.mark.parametrize("file", [".npz"], indirect=True)
def test_headers_that_are_something_else(file):
    _, data = told(file)
    for header in (*NONSENSE, {"schema": SCHEMA}, {"schema": SCHEMA, "crc32": 0, "entries": 3}):
        retold(file, header, data)
        with pytest.raises(packing.PackedError):
            packing.inspect(file)


@pytest.mark.parametrize("file", [".npz"], indirect=True)
@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "1", None])
def test_another_schema(file, schema, capsys):
    header, data = told(file)
    retold(file, {**header, "schema": schema}, data)
    with pytest.raises(packing.PackedError, match=f"schema {schema!r}; this version reads schema"):
        pq.load_packed(file)
    assert "this version reads schema 1" in refused(["inspect", file], capsys)


@pytest.mark.parametrize("file", [".npz"], indirect=True)
def test_data_that_do_not_end_where_they_should(file):
    header, data = told(file)
    for other in (data[:-1], data + b"\0", b"", data * 2):
        retold(file, header, other)
        with pytest.raises(packing.PackedError, match="not a whole packed file"):
            packing.inspect(file)


@pytest.mark.parametrize("file", [".npz"], indirect=True)
def test_codes_beyond_the_levels_and_infinite_levels(file):
    header, data = told(file)
    entry = header["entries"][0]
    assert entry["bits"] == 2 and entry["levels"] == 3
    at = 4 * (2 if entry.get("symmetric") else 3)
    retold(file, header, data[:at] + b"\xff" + data[at + 1 :])  # code 3 of levels 0, 1, 2
    with pytest.raises(packing.PackedError, match="beyond its levels"):
        packing.inspect(file)
    retold(file, header, data[: at - 4] + np.float32(np.inf).tobytes() + data[at:])
    with pytest.raises(packing.PackedError, match="NaN or infinite"):
        pq.load_packed(file)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_nothing_is_unpickled(tmp_path):
    pickled = io.BytesIO()
    np.save(pickled, np.array([Trap()]), allow_pickle=True)
    for name in ("packed.npy", "__meta__.npy"):
        with zipfile.ZipFile(tmp_path / "trap.npz", "w") as archive:
            archive.writestr(name, pickled.getvalue())
        with pytest.raises(packing.PackedError):
            pq.load_packed(tmp_path / "trap.npz")
        with pytest.raises(checkpoint.CheckpointError):
            load_checkpoint(tmp_path / "trap.npz")


# The command line --------------------------------------------------------------------------------


def test_pack_and_inspect(run_file, capsys):
    assert cli.main(["pack", str(run_file)]) == 0
    assert cli.main(["inspect", str(run_file.with_name("run.packed.npz"))]) == 0
    packed, inspected = capsys.readouterr().out.split("wrote ")
    assert "BinaryL1()" in packed and "layers.0.weight" in packed
    assert inspected.partition("\n")[2] == packed


def test_inspect_truncated_and_flipped(file, capsys):
    """Every seventh byte: what the readers say is tested above, here how it is passed on."""
    whole = file.read_bytes()
    for n in range(0, len(whole), 7):
        file.write_bytes(whole[:n])
        assert str(file) in refused(["inspect", file], capsys)
        damaged = bytearray(whole)
        damaged[n] ^= 255
        file.write_bytes(damaged)
        assert cli.main(["inspect", str(file)]) in (0, 2)
        assert capsys.readouterr().err.count("\n") <= 1


def test_pack_truncated_and_flipped_checkpoints(run_file, capsys):
    whole, out = run_file.read_bytes(), run_file.with_name("out.npz")
    for n in range(0, len(whole), 101):
        run_file.write_bytes(whole[:n])
        assert "not a whole checkpoint" in refused(["pack", run_file, "--out", out], capsys)
        assert not out.exists()
        damaged = bytearray(whole)
        damaged[n] ^= 255
        run_file.write_bytes(damaged)
        code = cli.main(["pack", str(run_file), "--out", str(out)])
        assert (code, capsys.readouterr().err.count("\n")) in ((0, 0), (2, 1))
        assert out.exists() == (code == 0)
        out.unlink(missing_ok=True)
    assert os.listdir(run_file.parent) == [run_file.name]


def test_checkpoints_with_anything_in_their_meta(run_file, capsys):
    arrays, meta = load_checkpoint(run_file)
    out = run_file.with_name("out.npz")
    places = [(meta, key) for key in ("model", "quantized", "identity")]
    places += [(meta["model"], key) for key in meta["model"]] + [(meta["identity"], "regularizer")]
    for owner, key in places:
        right = owner[key]
        for value in NONSENSE:
            owner[key] = value
            save_checkpoint(run_file, arrays, meta)
            code = cli.main(["pack", str(run_file), "--out", str(out)])
            assert (code, capsys.readouterr().err.count("\n")) in ((0, 0), (2, 1)), (key, value)
            owner[key] = right


def test_meta_that_is_no_mapping(run_file, capsys):
    arrays, _ = load_checkpoint(run_file)
    for meta in NONSENSE:
        save_checkpoint(run_file, arrays, meta)
        refused(["pack", run_file], capsys)


def test_one_kind_of_file_for_another(file, run_file, capsys):
    assert "not a whole packed file" in refused(["inspect", run_file], capsys)
    assert "not a whole checkpoint" in refused(["pack", file], capsys)


def test_missing_files_and_folders(file, run_file, tmp_path, capsys):
    nowhere = tmp_path / "none" / "x.npz"
    assert "none" in refused(["inspect", nowhere], capsys)
    assert "none" in refused(["pack", nowhere], capsys)
    assert "none" in refused(["pack", run_file, "--out", nowhere], capsys)
    refused(["inspect", tmp_path], capsys)
    refused(["pack", tmp_path], capsys)
    refused(["pack", run_file, "--out", tmp_path], capsys)
    assert "the checkpoint itself" in refused(["pack", run_file, "--out", run_file], capsys)
    assert sorted(os.listdir(tmp_path)) == sorted([file.name, run_file.name])


@pytest.mark.parametrize("text", ["", "Binary", "BinaryL1(", "MultiBitL2(0)", "print(1)"])
def test_regularizers_that_make_no_sense(text, run_file, capsys):
    line = refused(["pack", run_file, "--regularizer", text], capsys)
    assert "regularizer must be one of" in line
    assert os.listdir(run_file.parent) == [run_file.name]


def test_a_regularizer_that_does_not_fit(run_file, capsys):
    line = refused(["pack", run_file, "--regularizer", "MultiBitL2(1, block=3)"], capsys)
    assert "layers.0.weight cannot be packed: block is 3" in line


@pytest.mark.parametrize(
    "arguments", [["pack"], ["inspect"], ["pack", "a", "b"], ["inspect", "-x"]]
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_package(run_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    out = run_file.with_name("out.safetensors")
    assert "pip install 'proxquant-np[interop]'" in refused(
        ["pack", run_file, "--out", out], capsys
    )
    assert os.listdir(run_file.parent) == [run_file.name]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_full_disk_keeps_what_was_there(suffix, run_file, monkeypatch, capsys):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed (extra: interop)")
    out = run_file.with_name(f"out{suffix}")
    out.write_bytes(b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    assert "No space left" in refused(["pack", run_file, "--out", out], capsys)
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(run_file.parent)) == sorted([out.name, run_file.name])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_nobody_takes(run_file):
    """Standard output closed or full: no traceback of the library's own making of the file."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "proxquant_np.cli", "pack", str(run_file)]
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, env=env, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode != 0
    assert isinstance(pq.load_packed(run_file.with_name("run.packed.npz")), MLP)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_folder(run_file, capsys):
    run_file.parent.chmod(0o500)
    try:
        refused(["pack", run_file], capsys)
    finally:
        run_file.parent.chmod(0o700)
    assert os.listdir(run_file.parent) == [run_file.name]
