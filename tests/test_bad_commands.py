"""Every flag of every command with values that make no sense: exit code 2 and one clear line.

Nothing may begin, or be written, or end in a traceback. test_bad_files.py does the same for what
the files of `pack` and `inspect` hold, test_data_download.py for --download.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code

from proxquant_np import cli
from proxquant_np.commands import arguments as kinds
from proxquant_np.commands import conformance
from proxquant_np.commands import experiments as training
from proxquant_np.commands import figures as drawing
from proxquant_np.experiments import experiment, figures, runner, summary
from proxquant_np.experiments.catalog import EXPERIMENTS

NUMBERS = ["0", "-1", "1.5", "three", "", "nan", "inf", "1e3", "0x10", " 1", "+1", "1_0", "\u00b2"]
NUMBERS += ["1000000", "9" * 30, "9" * 5000]
NOWHERE = ["file", "file/x", "file/x/y"]  # as a folder
PATHS = ["--out", "--records", "--data", "checkpoint", "file"]

# What a command needs beside the flag that is tried, so that the flag alone is wrong.
NEEDED = {
    "experiment": ["binary_digits"],
    "check": ["math:sqrt", "--as", "binary_l1"],
    "vectors": ["--out", "new"],
    "pack": ["file"],
    "inspect": ["file"],
    "deploy": ["file", "--to", "onnx"],
}


def commands():
    """{command: its parser}."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for add in cli.COMMANDS:
        add(subparsers)
    return subparsers.choices


def flags(*types):
    """(command, flag) of all whose values are of these types."""
    return [
        (command, action.option_strings[0])
        for command, parser in commands().items()
        for action in parser._actions
        if action.type in types and action.option_strings
    ]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a file, a folder and nothing more; no cell may be run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(runner, "_attempt", lambda *arguments: pytest.fail("it began"))
    yield
    assert sorted(p.as_posix() for p in Path().rglob("*")) == ["file", "folder"]
    assert Path("file").read_text() == "x"


def refused(arguments, capsys):
    """The line that the user sees."""
    code = exit_code(*arguments)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    *before, line = filter(None, err.splitlines())
    assert not before or before[0].startswith(("usage: ", "binary_digits:"))  # a progress bar
    assert line.startswith("proxquant-np")
    return line


def test_all_flags_are_known_here():
    """A new kind of flag belongs into one of the tests below."""
    names = {training._experiment_name, drawing._figure_name}
    rules = {int, float, conformance._numbers, conformance._ends}  # refused in the tests of the kit
    shared = {
        kinds.positive,
        kinds.natural,
        kinds.as_path,
        kinds.as_shape,
        kinds.margin,
        kinds.seeds,
    }
    own = {*shared, *names, *rules, None}
    assert {action.type for p in commands().values() for action in p._actions} == own
    untyped = {
        (command, (action.option_strings or [action.dest])[-1])
        for command, parser in commands().items()
        for action in parser._actions
        if action.type is None and not action.choices and action.nargs != 0
    }
    assert untyped == {
        ("experiment", "--only"),
        ("experiment", "--dask"),
        ("check", "function"),
        ("check", "--as"),
        ("check", "--scale"),
        ("check", "--gradient"),
        ("check", "--step-scale"),
        ("pack", "--regularizer"),
        ("deploy", "--regularizer"),
    }


@pytest.mark.parametrize(("command", "flag"), flags(kinds.positive, kinds.natural))
def test_numbers(command, flag, capsys):
    least = 0 if flag == "--stream" else 1
    for number in (n for n in NUMBERS if n != "0" or least):
        line = refused([command, *NEEDED.get(command, []), f"{flag}={number}"], capsys)
        assert f"argument {flag}: must be an integer in {least}..999999, got" in line
        assert len(line) < 200


@pytest.mark.parametrize("m", ["0", "-1", "nan", "inf", "1e-3", "", "%", "0%", " 1", "9" * 30, "."])
def test_margins(m, capsys):
    line = refused(["claims", "--against", f"--margin={m}"], capsys)
    assert "argument --margin: must be a number > 0, or with % a part of the rival's, got" in line


@pytest.mark.parametrize("text", ["", "1,", "a", "-1", "3-", "2-1", "1,1", "0-3,2", "9" * 30])
def test_seeds(text, capsys):
    assert "argument --seeds: must " in refused(["claims", "--against", f"--seeds={text}"], capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--test", "sign"], "--test goes with --against"),
        (["--all"], "--all goes with --against"),
        (["--against", "--out", "new"], "--out does not go with --against"),
        (["--against"], "figures/records"),
        (["--against", "none.json"], "none.json"),
        (["--against", "file"], "file is not a whole record"),
        (["--against", "folder"], "folder holds no record of an experiment"),
        (["--against", "--test", "z"], "argument --test: invalid choice: 'z'"),
        (["--against", "--correction", "fdr"], "argument --correction: invalid choice: 'fdr'"),
    ],
)
def test_attacks(arguments, says, capsys):
    assert says in refused(["claims", *arguments], capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("claims --against none.json", "--against must be a record or folder of records whose"),
        ("claims --against", "--records must be a folder with the records, got figures/records"),
        ("claims --records none", "--records: there is no folder none with records"),
        ("inspect none", "file must be a file that pack wrote, got none: No such file"),
        ("inspect folder", "file must be a file that pack wrote, got folder: Is a directory"),
        ("pack none", "checkpoint must be a file that training.fit saved, got none: No such"),
        ("deploy none --to onnx", "file must be a file that training.fit or pack wrote, got none"),
        ("vectors --out file", "--out must be a folder to write to, got file: File exists"),
        ("vectors --out file/x", "--out must be a folder to write to, got file/x: Not a dir"),
        ("figures --out file", "--out must be a folder to write to, got file: File exists"),
        ("reproduce --out file", "--out must be a folder to write to, got file: Not a directory"),
        ("theorems --out file", "--out must be a folder to write to, got file: Not a directory"),
        ("search --out none/x", "--out: none/x cannot be written: none is no folder; make it"),
        ("experiment resnet_cifar10 --data none", "--data: source "),
        ("experiment paper_lstm --data none", "--data: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_argument(arguments, says, capsys):
    line = refused(arguments.split(), capsys)
    assert f"proxquant-np: argument {says}" in line
    assert "Errno" not in line


def test_of_what_is_written_beside_and_of_a_full_disk(monkeypatch, capsys):
    """A temporary file counts as its target; what is not the argument's fault is said as it is."""
    for error, says in [
        (
            PermissionError(13, "Permission denied", "new/.SCHEMA.md.1f.tmp"),
            "argument --out must be a folder",
        ),
        (OSError(28, "No space left on device", "new/x"), "argument --out: [Errno 28] No space"),
        (OSError(12, "Cannot allocate memory"), "[Errno 12] Cannot"),
    ]:

        def fail(folder, error=error):
            raise error

        monkeypatch.setattr("proxquant_np.conformance.write_vectors", fail)
        line = refused(["vectors", "--out", "new"], capsys)
        assert line.startswith(f"proxquant-np: {says}")


@pytest.mark.parametrize(("command", "flag"), flags(kinds.as_shape))
@pytest.mark.parametrize("shape", ["", "x", "3x", "3x0", "-3", "3,32", "3X3", "1.5", "9" * 30])
def test_shapes_that_are_none(command, flag, shape, capsys):
    line = refused([command, *NEEDED[command], f"{flag}={shape}"], capsys)
    assert f"argument {flag}: must be lengths such as 64 or 3x32x32, got" in line


@pytest.mark.parametrize(("command", "flag"), flags(kinds.as_path))
@pytest.mark.parametrize("path", ["", "a\0b"])
def test_paths_that_are_none(command, flag, path, capsys):
    line = refused([command, *NEEDED.get(command, []), f"{flag}={path}"], capsys)
    assert f"argument {flag}: must name a file or a folder, got" in line


@pytest.mark.parametrize("path", ["", "a\0b"])
@pytest.mark.parametrize("command", ["pack", "inspect"])
def test_files_that_are_none(command, path, capsys):
    assert "must name a file or a folder" in refused([command, path], capsys)


@pytest.mark.parametrize("out", ["file", "file/x", "x" * 300])
@pytest.mark.parametrize("command", ["reproduce", "experiment", "figures", "vectors"])
def test_folders_that_cannot_be(command, out, capsys):
    only = ["--only", "moreau_envelopes"] if command == "figures" else []
    needed = ["binary_digits"] if command == "experiment" else []
    line = refused([command, *needed, *only, "--out", out], capsys)
    assert out[:9] in line or "too long" in line


@pytest.mark.parametrize("out", ["folder", "none/x", "file/x", "x" * 300])
@pytest.mark.parametrize("command", ["search", "claims"])
def test_files_that_cannot_be_written(command, out, capsys):
    needed = ["--records", "folder"] if command == "claims" else []
    line = refused([command, *needed, "--out", out], capsys)
    assert out[:4] in line
    assert "is no folder; make it first" in line or not out.endswith("/x")


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="needs /dev/null")
def test_devices_are_not_replaced(capsys):
    """root could; through a link, so that nothing is lost if it did."""
    os.symlink("/dev/null", "device")
    try:
        line = refused(["claims", "--records", "folder", "--out", "device"], capsys)
        assert "device is a folder or a device" in line
        assert Path("device").is_symlink() and Path("/dev/null").is_char_device()
    finally:
        os.unlink("device")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_folders(capsys):
    Path("folder").chmod(0o500)
    try:
        for arguments in (
            ["reproduce", "--out", "folder/x"],
            ["experiment", "binary_digits", "--out", "folder"],
            ["search", "--out", "folder/x"],
            ["claims", "--records", "folder", "--out", "folder/x"],
            ["figures", "--only", "moreau_envelopes", "--out", "folder"],
            ["vectors", "--out", "folder"],
        ):
            refused(arguments, capsys)
    finally:
        Path("folder").chmod(0o700)


@pytest.mark.parametrize("records", ["none", "file", "x" * 300])
def test_records_that_are_not_there(records, capsys):
    """An empty ledger would take the place of CLAIMS.md."""
    line = refused(["claims", "--records", records, "--out", "new"], capsys)
    assert records[:9] in line


DAMAGED = ["", "{", "[]", "3", "null", "{}", "\0", "[" * 100_000]
DAMAGED += ['{"experiment": "binary_digits", "quick": false, "tasks": NaN}']
DAMAGED += ['{"experiment": "binary_digits", "quick": true, "quick": false}']
DAMAGED += ['{"experiment": "binary_digits", "quick": false, "seeds": 3}']
DAMAGED += ['{"experiment": "binary_digits", "quick": false, "seeds": 3, "tasks": [3]}']
DAMAGED += ['{"experiment": "binary_digits", "quick": false, "tasks": {}}']
DAMAGED += ['{"model": "none", "setting": {}, "methods": {}}']


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: content[:30])
def test_damaged_records(content, capsys):
    path = Path("folder") / f"{next(iter(EXPERIMENTS))}.json"
    path.write_text(content)
    try:
        line = refused(["claims", "--records", "folder", "--out", "new"], capsys)
        assert f"{path} is not a whole record" in line
    finally:
        path.unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_record_that_is_a_pipe(capsys):
    path = Path("folder") / f"{next(iter(EXPERIMENTS))}.json"
    os.mkfifo(path)
    try:
        line = refused(["claims", "--records", "folder", "--out", "new"], capsys)
        assert f"{path} is a pipe or a device" in line
    finally:
        path.unlink()


def test_results_that_json_cannot_hold_are_named(tmp_path):
    for write in (
        lambda: runner.write_record(tmp_path / "a.json", {}, {"error": np.nan}),
        lambda: summary.write_summary({"experiment": "a", "error": np.inf}, tmp_path),
    ):
        with pytest.raises(ValueError, match=r"/a\S*\.json cannot be written: Out of range"):
            write()
    assert not list(tmp_path.glob("a*"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("binary_digit", "did you mean 'binary_digits'?"),
        ("RESNET_CIFAR10", "there are binary_digits, budget_curve"),
        ("", "there are"),
        ("../x", "there are"),
        ("protocol", "there are"),
    ],
)
def test_experiments(text, says, capsys):
    line = refused(["experiment", text], capsys)
    assert f"no experiment is called {text!r}" in line and says in line


@pytest.mark.parametrize("name", ["", "MLP", "nope"])
def test_tasks(name, capsys):
    line = refused(["experiment", "binary_digits", "--only", name], capsys)
    assert f"has no task {name!r}; there are mlp, cnn" in line


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("resnet_cifar10", None, "needs --data: CIFAR-10's binary version"),
        ("resnet_cifar10", "none", "none does not exist"),
        ("resnet_cifar10", "file", "file must be a whole tar"),
        ("resnet_cifar10", "folder", "holds no data_batch_1.bin"),
        ("binary_digits", "folder", "takes no --data"),
        ("language_model", "none", "none does not exist"),
        ("language_model", "file", "too short"),
        ("language_model", "folder", "ptb.train.txt does not exist"),
    ],
)
def test_data(name, data, says, capsys):
    assert says in refused(["experiment", name, *(["--data", data] if data else [])], capsys)


@pytest.mark.parametrize("address", ["", "nothing", "http://x", "tcp://"])
def test_dask_that_is_not_there(address, monkeypatch, capsys):
    dask = pytest.importorskip("dask", reason="Dask is not installed (extra: sweep)")
    pytest.importorskip("distributed", reason="Dask is not installed (extra: sweep)")

    class Client:
        def __init__(self, address):
            raise {"nothing": OSError}.get(address, ValueError)("no answer")

    monkeypatch.setattr("distributed.Client", Client)
    arguments = ["experiment", "binary_digits", "--out", "out", "--dask", address]
    try:
        assert f"no Dask scheduler at {address}: no answer" in refused(arguments, capsys)
    finally:  # the folder is there before the scheduler is asked
        (Path("out/records/.lock")).unlink()
        for folder in ("out/records/checkpoints", "out/records", "out"):
            Path(folder).rmdir()
    assert dask


def test_dask_that_is_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    line = refused(["experiment", "binary_digits", "--dask", "tcp://127.0.0.1:1"], capsys)
    assert "pip install 'proxquant-np[sweep]'" in line


@pytest.mark.parametrize("name", ["", "nope", "moreau_envelope"])
def test_figures(name, capsys):
    line = refused(["figures", "--only", name], capsys)
    assert f"no figure is called {name!r}" in line
    assert ("did you mean 'moreau_envelopes'" in line) == (name == "moreau_envelope")
    assert "moreau_envelopes" in figures.FIGURES


@pytest.mark.parametrize(
    "function", ["", "x", "x:", ":y", "none:f", "math:none", "math:pi", "a b:c", "..:x", "os.:x"]
)
def test_functions_to_check(function, capsys):
    line = refused(["check", function, "--as", "binary_l1"], capsys)
    assert function.partition(":")[0] in line


@pytest.mark.parametrize(("name", "says"), [("binary_l", "did you mean"), ("", "must be one of")])
def test_definitions_to_check_by(name, says, capsys):
    assert says in refused(["check", "math:sqrt", "--as", name], capsys)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("absmax --bits=x", "argument --bits: invalid int value: 'x'"),
        ("absmax --bits=-4", "n_bits must be an integer >= 2"),
        ("absmax --axis=7", "axis must be 0, 1 or -1 for a check, got 7"),
        ("absmax --axis=0 --block=4", "axis or block must be None"),
        ("absmax --block=0", "block must be an integer >= 1, got 0"),
        ("absmax --block=1000000000", "block must be at most 65536 for a check, got 1000000000"),
        ("absmax --divisor=nan", "divisor must be a number > 0"),
        ("absmax --scale=-", "scale must be one of"),
        ("absmax --levels=1,2", "levels is no option of absmax"),
        ("rounded --levels=a,b", "--levels: must be numbers with commas between them, got 'a,b'"),
        ("rounded --levels=", "--levels: must be numbers with commas between them, got ''"),
        ("rounded --levels=1,nan", "must be finite, strictly increasing"),
        ("rounded --levels=0,1 --thresholds=,", "--thresholds: must be numbers with commas"),
        ("rounded --levels=0,1 --thresholds=2", "thresholds must be 1 numbers"),
        ("fixed_point --fraction=99", "fraction must be an integer"),
        ("powers_of_two --powers=99", "n must be an integer"),
        ("binary --bits=4", "--bits is for published rules"),
    ],
)
def test_options_of_rules(options, says, capsys):
    assert says in refused(["check", "math:sqrt", "--as", *options.split()], capsys)


def test_adapters_that_are_not_installed(monkeypatch, capsys):
    for adapter in ("torch", "jax"):
        monkeypatch.setitem(sys.modules, adapter, None)
        line = refused(["check", "math:sqrt", "--as", "binary_l1", "--adapter", adapter], capsys)
        assert adapter in line


@pytest.mark.parametrize(
    "arguments",
    [[], ["none"], ["reproduce", "extra"], ["experiment"], ["check", "math:sqrt"], ["vectors"]]
    + [
        [c, "--nothing"]
        for c in ("reproduce", "search", "claims", "figures", "pack", "inspect", "deploy")
    ],
)
def test_usage(arguments, capsys):
    refused(arguments, capsys)


def test_a_full_disk_in_a_cell_is_one_line(monkeypatch, capsys):
    def full(*arguments, **keywords):
        raise OSError("cell 'mlp-full-precision-seed0' failed: No space left on device")

    monkeypatch.setattr(experiment, "run_cells", full)
    assert "No space left" in refused(["experiment", "binary_digits", "--quick"], capsys)
