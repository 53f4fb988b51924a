"""Environment variables that make no sense: commands work all the same, or say so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NONSENSE = {
    "OMP_NUM_THREADS": "x",
    "OPENBLAS_NUM_THREADS": "-1",
    "MKL_NUM_THREADS": "",
    "PYTHONIOENCODING": "ascii",
    "COLUMNS": "x",
    "TMPDIR": "/none",
    "HOME": "/none",
    "LC_ALL": "x",
    "TERM": "",
    "TZ": "x",
}


def run_command(tmp_path, *arguments, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "proxquant_np.cli", *arguments, "--out", "new"]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)


def test_what_is_not_this_packages_affair(tmp_path):
    run = run_command(tmp_path, "figures", "--only", "moreau_envelopes", **NONSENSE)
    assert (run.returncode, run.stdout) == (0, "wrote new/moreau_envelopes.png\n"), run.stderr
    assert "Traceback" not in run.stderr
    assert len(os.listdir(tmp_path / "new")) == 3


@pytest.mark.parametrize(
    "command",
    [
        "figures",
        "figures --only moreau_envelopes",
        "reproduce",
        "experiment methods",
        f"claims --records {ROOT}/figures/records",
    ],
)
def test_a_backend_that_matplotlib_does_not_know(command, tmp_path):
    """It is found out before the work, not after."""
    run = run_command(tmp_path, *command.split(), MPLBACKEND="nonsense")
    assert run.returncode == 2 and run.stdout == ""
    line = run.stderr.splitlines()[-1]
    assert line.startswith("proxquant-np") and "matplotlib cannot be imported" in line
    assert "'nonsense' is not a valid value for backend" in line
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.iterdir())
