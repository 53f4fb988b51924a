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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
def test_a_small_step_needs_no_new_pages():
    small = "MEGABYTES = 32"
    assert faults(small) < 500
    assert faults(small, PROXQUANT_KEEP_MEMORY="0") > 1_000
