"""The command line's treatment of its users' mistakes: one clear line and exit code 2."""

import pytest

import proxquant_np
from proxquant_np import cli
from proxquant_np.experiments.tasks import TASKS


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


def test_out_that_is_a_file(tmp_path, capsys):
    file = tmp_path / "taken"
    file.write_text("mine")
    assert cli.main(["reproduce", "--out", str(file)]) == 2
    err = capsys.readouterr().err
    assert str(file) in err
    assert "Traceback" not in err
    assert file.read_text() == "mine"
