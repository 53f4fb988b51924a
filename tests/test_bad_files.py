"""Whatever a file holds: the readers refuse it, and the command line says so in one line.

Packed files and checkpoints, truncated and with bits flipped at every offset, of other schemas, of
other kinds; targets that cannot be written; and arguments that make no sense.
"""

import io
import itertools
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
from proxquant_np.experiments import summary
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


def coded(**changes):
    """An entry of two weights, +1 and -1, and its data."""
    entry = {"name": "a", "dtype": "float32", "shape": [2], "bits": 1, "levels": 2, **changes}
    return entry, np.float32([-1, 1]).tobytes() + b"\x80"


def one_entry(file, *entries, data, model=None, regularizer="BinaryL1()"):
    header = {"schema": SCHEMA, "crc32": 0, "model": model, "regularizer": regularizer}
    retold(file, {**header, "entries": entries}, data)


@pytest.mark.parametrize(
    ("changes", "data", "says"),
    [
        ({"shape": [0]}, np.float32([-1, 1]).tobytes(), "make no sense"),
        ({"shape": [0, 3]}, np.float32([-1, 1]).tobytes(), "make no sense"),
        ({"shape": [0, 3], "axis": 0}, b"", "make no sense"),
        ({"shape": [3, 0], "axis": 1}, b"", "make no sense"),
        ({"shape": [0], "block": 1}, b"", "make no sense"),
        ({}, np.float32([-1, np.nan]).tobytes() + b"\x80", "NaN or infinite"),
        ({}, np.float32([-np.inf, 1]).tobytes() + b"\x80", "NaN or infinite"),
        ({}, np.float32([1, -1]).tobytes() + b"\x80", "do not ascend"),
        ({"dtype": "int32"}, np.int32([-1, 1]).tobytes() + b"\x80", "make no sense"),
        ({"name": 3}, None, "3 is not a text"),
        ({"shape": [2**70]}, None, "end too soon"),
    ],
)
def test_coded_entries_that_pack_cannot_have_written(changes, data, says, tmp_path, capsys):
    """`inspect` reads in full, too: what `load_packed` would refuse does not get by it."""
    entry, right = coded()
    one_entry(tmp_path / "net.npz", entry, data=right)
    assert packing.inspect(tmp_path / "net.npz")[0].levels.tolist() == [[-1, 1]]
    entry, right = coded(**changes)
    one_entry(tmp_path / "net.npz", entry, data=right if data is None else data)
    with pytest.raises(packing.PackedError, match=says):
        packing.inspect(tmp_path / "net.npz")
    refused(["inspect", tmp_path / "net.npz"], capsys)


def test_plain_entries_that_pack_cannot_have_written(tmp_path):
    entry, nan = {"name": "a", "dtype": "float32", "shape": [1]}, np.float32([np.nan]).tobytes()
    one_entry(tmp_path / "net.npz", entry, data=nan)
    with pytest.raises(packing.PackedError, match="NaN or infinite"):
        packing.inspect(tmp_path / "net.npz")
    for shape, data in (([0], b""), ([0, 3], b""), ([], bytes(4))):
        one_entry(tmp_path / "net.npz", {**entry, "shape": shape}, data=data)
        assert packing.inspect(tmp_path / "net.npz")[0].shape == tuple(shape)
        packing.table(tmp_path / "net.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_there_twice(tmp_path, capsys):
    file = tmp_path / "net.npz"
    entry, data = coded()
    one_entry(file, entry, entry, data=data * 2)
    assert "'a' is there twice" in refused(["inspect", file], capsys)
    one_entry(file, entry, {"name": "a", "same": "a"}, data=data)
    assert "'a' is there twice" in refused(["inspect", file], capsys)
    one_entry(file, {**entry, "name": "b", "same": "b"}, data=data)
    refused(["inspect", file], capsys)
    one_entry(file, entry, data=data)
    with zipfile.ZipFile(file) as archive:
        member = archive.read("packed.npy")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("packed.npy", member)
        archive.writestr("packed.npy", member)
    assert "'packed' twice" in refused(["inspect", file], capsys)


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000])
def test_headers_nested_too_deep(deep, tmp_path, capsys):
    text = zlib.compress(deep.encode())
    whole = len(text).to_bytes(4, "little") + text
    with open(tmp_path / "net.npz", "wb") as target:
        checkpoint.write_arrays(target, {"packed": np.frombuffer(whole, np.uint8)})
    assert "nested too deep" in refused(["inspect", tmp_path / "net.npz"], capsys)


LARGE = [
    {"name": "ResNet", "arguments": {"depth": 60_002}},
    {"name": "ResNet", "arguments": {"depth": 60_002, "width": 1}},
    {"name": "ResNet", "arguments": {"width": 2**40}},
    {"name": "MLP", "arguments": {"sizes": [2**20, 2**20]}},
    {"name": "MLP", "arguments": {"sizes": [1] * 100_000}},
    {"name": "SmallCNN", "arguments": {"width": 2**30}},
    {"name": "LSTMLanguageModel", "arguments": {"vocabulary_size": 2**40, "embedding_size": 9}
     | {"hidden_size": 9}},
    {"name": "LSTMLanguageModel", "arguments": {"vocabulary_size": 2, "embedding_size": 2}
     | {"hidden_size": 2, "num_layers": 10**9}},
]  # fmt: skip


@pytest.mark.parametrize("model", LARGE, ids=lambda model: str(model)[10:60])
def test_a_small_file_does_not_build_a_large_network(model, run_file, capsys, monkeypatch):
    """Either command gives it up after a number of weights that does not depend on the network."""
    drawn = []
    uniform = nn.init.uniform

    def counted(shape, *others):
        drawn.append(shape)
        return uniform(shape, *others)

    monkeypatch.setattr(nn.init, "uniform", counted)
    entry, data = coded()
    one_entry(run_file.with_name("net.npz"), entry, data=data, model=model)
    with pytest.raises(packing.PackedError, match="far more weights than there are values for"):
        pq.load_packed(run_file.with_name("net.npz"))
    arrays, meta = load_checkpoint(run_file)
    save_checkpoint(run_file, arrays, {**meta, "model": model})
    assert "far more weights" in refused(["pack", run_file], capsys)
    assert len(drawn) < 20_000


def test_a_rebuilt_network_draws_as_any_other(monkeypatch):
    def first(make):  # of those made without rng, which are counted
        monkeypatch.setattr(nn.init, "_counted", itertools.count())
        return make()

    description = pq.models.describe(small())
    rebuilt = first(lambda: pq.models.build(description))
    assert content(rebuilt) == content(first(lambda: MLP(**description["arguments"])))
    text = {"vocabulary_size": 9, "embedding_size": 4, "hidden_size": 4, "dropout": 0.5}
    text_model = {"name": "LSTMLanguageModel", "arguments": text}
    rebuilt = first(lambda: pq.models.build(text_model, largest=1000))
    other = first(lambda: pq.models.LSTMLanguageModel(**text))
    tokens = np.arange(8).reshape(4, 2)
    for _ in range(3):
        assert np.array_equal(rebuilt(tokens)[0].data, other(tokens)[0].data)


def test_what_cannot_be_packed(tmp_path, capsys):
    with pytest.raises(
        ValueError, match="must have parameters to pack, got a Sequential with none"
    ):
        pq.pack(nn.Sequential(nn.ReLU()), prox.BinaryL1(), tmp_path / "net.npz")
    model = small()
    model.layers[0].bias.data[0] = np.inf
    with pytest.raises(ValueError, match=r"layers.0.bias cannot be packed: it has NaN or infinite"):
        pq.pack(model, prox.BinaryL1(), tmp_path / "net.npz")
    assert not list(tmp_path.iterdir())
    one_entry(tmp_path / "empty.npz", data=b"")  # earlier versions wrote it
    assert packing.table(tmp_path / "empty.npz").startswith("a network of your own, BinaryL1()")


# What a file says is shown, never obeyed -------------------------------------------------------

EVIL = "a\x1b]0;title\x07\x1b[2J\r\n\u202e\x9b\ud800"


def harmless(text):
    return all(c.isprintable() or c == "\n" for c in text)


def test_inspect_shows_names_as_they_are_spelled(tmp_path, capsys):
    file = tmp_path / "net.npz"
    entry, data = coded(name=EVIL)
    for model in (None, {"name": EVIL, "arguments": {EVIL: EVIL}}):
        one_entry(file, entry, data=data, model=model, regularizer=EVIL)
        assert cli.main(["inspect", str(file)]) == 0
        out = capsys.readouterr().out
        assert harmless(out) and out.count("\n") == 4
        assert out.count(r"a\x1b]0;title\x07\x1b[2J\r\n\u202e\x9b\ud800") == (5 if model else 2)
    assert packing.inspect(file)[0].name == EVIL


def test_messages_show_what_files_say(run_file, tmp_path, capsys):
    """In every place that a message repeats, also of the path; of the API and of the commands."""
    file = tmp_path / f"{EVIL[:-1]}.npz"
    entry, data = coded()
    messages = []

    def refuses(call, kind=ValueError):
        with pytest.raises(kind) as raised:
            call()
        messages.append(str(raised.value))

    wrong = [{"name": EVIL}, {"dtype": EVIL}, {"bits": EVIL}, {"levels": EVIL}, {"axis": EVIL}]
    for change in wrong:
        one_entry(file, {**entry, **change}, data=data)
        refuses(lambda: packing.load_packed(file))
        one_entry(file, {**entry, **change}, {**entry, **change}, data=data)
        refuses(lambda: packing.inspect(file))
    for header in ({"schema": EVIL}, {EVIL: 1}, [EVIL], EVIL):
        retold(file, header, data)
        refuses(lambda: packing.inspect(file))
    for model in ({"name": EVIL}, {"name": "MLP", "arguments": {EVIL: EVIL}}):
        one_entry(file, entry, data=data, model={"arguments": {}, **model})
        refuses(lambda: packing.load_packed(file))
    arrays, meta = load_checkpoint(run_file)
    out = tmp_path / "out.npz"
    for change in ({"model": EVIL}, {"model": {"name": EVIL, "arguments": {EVIL: EVIL}}}, EVIL):
        save_checkpoint(file, arrays, {**meta, **change} if change is not EVIL else EVIL)
        refuses(lambda: packing.pack_checkpoint(file, out))
    save_checkpoint(file, arrays, {**meta, "identity": {"regularizer": EVIL, EVIL: EVIL}})
    refuses(lambda: packing.pack_checkpoint(file, out))
    train = pq.data.Split(np.eye(2, dtype=np.float32), np.arange(2))
    model = MLP((2, 2), batch_norm=False)
    sgd = pq.optim.SGD(model.parameters(), 0.1)
    options = {"steps": 1, "batch_size": 2, "progress": False}
    refuses(lambda: fit(model, sgd, train, checkpoint=file, **options))
    file.write_bytes(b"")
    refuses(lambda: load_checkpoint(file))
    refuses(lambda: pq.data.load_text(file))
    refuses(lambda: pq.data.load_cifar10(file))
    file.unlink()
    refuses(lambda: pq.data.load_text(file), OSError)
    refuses(lambda: pq.data.load_cifar10(file), OSError)
    for message in messages:
        assert harmless(message) and "\n" not in message, message
    for arguments in (["inspect", file], ["pack", file], ["claims", "--records", file]):
        assert harmless(refused(arguments, capsys))
    with pytest.raises(SystemExit):
        cli.main(["inspect", "a", EVIL])
    assert harmless(capsys.readouterr().err)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_no_file(run_file, tmp_path, capsys):
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    for arguments in (
        ["inspect", pipe],
        ["inspect", "/dev/zero"],
        ["pack", pipe],
        ["experiment", "resnet_cifar10", "--data", pipe],
        ["experiment", "language_model", "--data", pipe],
    ):
        line = refused(arguments, capsys)
        assert "pipe or a device" in line or "does not exist" in line or "folder or" in line
    assert "folder or a device" in refused(["pack", run_file, "--out", pipe], capsys)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_no_reader_waits_for_the_end_of_what_has_none(kind, tmp_path):
    path = tmp_path / "file"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    model = pq.nn.Linear(2, 2)
    for read in (
        lambda: load_checkpoint(path),
        lambda: pq.load_packed(path),
        lambda: packing.inspect(path),
        lambda: packing.pack_checkpoint(path, tmp_path / "out.npz"),
        lambda: pq.data.load_text(path),
        lambda: pq.interop.safetensors.load(model, path),
        lambda: summary.keep_summary(path, lambda held: (1, ()), 2),
    ):
        with pytest.raises(OSError, match="is a pipe or a device"):
            read()
    with pytest.raises(ValueError, match="must be a folder or a file"):
        pq.data.load_cifar10(path)
    path.rename(tmp_path / "ptb.train.txt")
    for name in ("ptb.valid.txt", "ptb.test.txt"):
        (tmp_path / name).write_text("a b\n")
    with pytest.raises(OSError, match="is a pipe or a device"):
        pq.data.load_text(tmp_path)
    (tmp_path / "ptb.train.txt").rename(tmp_path / "data_batch_1.bin")
    with pytest.raises(FileNotFoundError, match=r"holds no data_batch_1\.bin"):
        pq.data.load_cifar10(tmp_path)


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
    assert "layers.0.weight cannot be packed: block must divide" in line


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
