"""The two programs of benchmarks that look for what only many runs show, in their smallest form."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def program(name, *arguments):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kills():
    done = program("kills.py", "--kills", "4", "--cases", "bop", "parq")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("   2 kills") == 2 and done.stdout.count("whole runs") == 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_soak():
    """So few runs still allocate: only that the program works, and what it leaves open."""
    done = program("soak.py", "--fits", "30")
    assert "30 runs" in done.stdout, done.stderr
    assert "'left': []" in done.stderr or done.returncode == 0, done.stderr
