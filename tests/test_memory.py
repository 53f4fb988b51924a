"""How much freed memory is kept: a little by default, all if asked by a call or a variable."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
import proxquant_np as pq
from proxquant_np.cli import main
MEGABYTES = 256
{}
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(1 << 20) for _ in range(MEGABYTES // 8)]
    del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
step()
print(step())
"""
COMMAND = "main(['inspect', 'no such file'])"


def faults(code, **environment):
    """Pages that the second of two steps had to be given anew; one writes 256 a megabyte."""
    run = subprocess.run(
        [sys.executable, "-c", CODE.format(code)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PROXQUANT_KEEP_MEMORY"} | environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
def test_memory_is_kept_if_asked():
    assert faults("") > 2_000
    assert faults("assert pq.keep_memory()") < 1_000
    assert faults("", PROXQUANT_KEEP_MEMORY="1") < 1_000
    assert faults(COMMAND) < 1_000
    assert faults(COMMAND, PROXQUANT_KEEP_MEMORY="0") > 2_000


@pytest.mark.parametrize("value", ["", "0", "1", "yes", "2", " 1", "true\x1b"])
def test_a_value_that_says_nothing_is_named(value):
    """In a warning, for a program must not fail for it; and in no word of the others."""
    run = subprocess.run(
        [sys.executable, "-c", "import proxquant_np"],
        capture_output=True,
        text=True,
        env=os.environ | {"PROXQUANT_KEEP_MEMORY": value},
        check=True,
    )
    if value in ("", "0", "1"):
        assert run.stderr == ""
    else:
        assert run.stderr.count("RuntimeWarning") == 1
        assert "PROXQUANT_KEEP_MEMORY must be 1, to keep" in run.stderr
        assert f"or not set, got {value!r}: it counts as not set" in run.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
def test_a_command_takes_a_value_that_says_nothing_as_not_set():
    assert faults(COMMAND, PROXQUANT_KEEP_MEMORY="yes") < 1_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
def test_a_small_step_needs_no_new_pages():
    small = "MEGABYTES = 32"
    assert faults(small) < 500
    assert faults(small, PROXQUANT_KEEP_MEMORY="0") > 1_000
