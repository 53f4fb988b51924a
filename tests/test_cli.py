"""The command line's treatment of its users' mistakes: one clear line and exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

import proxquant_np
from proxquant_np import cli
from proxquant_np.experiments import experiment, search
from proxquant_np.experiments.tasks import TASKS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["reproduce", "--seeds", "0"],
        ["reproduce", "--seeds", "-1"],
        ["reproduce", "--seeds", "three"],
        ["reproduce", "--seeds", "1.5"],
        ["reproduce", "--jobs", "0"],
        ["reproduce", "--unknown"],
        ["reproduce", "--model", "transformer"],
        ["search", "--model", ""],
        ["search", "--trials", ""],
    ],
)
def test_mistakes_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reproduce", "search"])
def test_every_network_can_be_named(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "{" + ",".join(TASKS) + "}" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out.strip() == proxquant_np.__version__


def test_the_package_itself_is_the_command_line():
    def run(*arguments):
        command = [sys.executable, "-m", "proxquant_np", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"{proxquant_np.__version__}\n")
    assert run("--help").stdout.startswith("usage: proxquant-np ")
    done = run("inspect", "no such file")
    assert done.returncode == 2 and done.stderr.startswith("proxquant-np: ")


@pytest.mark.parametrize(
    ("command", "kept"),
    [("reproduce", "; finished runs are kept, run again to go on"), ("search", "")],
)
def test_ctrl_c_says_what_is_kept(command, kept, tmp_path, monkeypatch, capsys):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    for module in (experiment, search):
        monkeypatch.setattr(module, "run_cells", stop)
    assert cli.main([command, "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == f"\nstopped{kept}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "says"), [("none/chosen.json", "none is no folder; make it"), (".", "a folder")]
)
def test_a_search_that_could_not_be_written_does_not_begin(
    out, says, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(search, "run_cells", lambda *a, **k: pytest.fail("it began"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["search", "--out", out]) == 2
    err = capsys.readouterr().err
    assert err.startswith("proxquant-np: ") and says in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_out_that_is_a_file(tmp_path, capsys):
    file = tmp_path / "taken"
    file.write_text("mine")
    assert cli.main(["reproduce", "--out", str(file)]) == 2
    err = capsys.readouterr().err
    assert str(file) in err
    assert "Traceback" not in err
    assert file.read_text() == "mine"
