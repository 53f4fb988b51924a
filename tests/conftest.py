"""Hypothesis profiles: `dev` (the default, few examples), `ci` (more, the same in every run).

The environment variable HYPOTHESIS_PROFILE chooses. Neither has a deadline or the health check for
slow data: a verdict must not depend on how busy the machine is.
"""

import gc
import itertools
import os

# Several test processes share the cores, so BLAS gets one thread in each. Said before NumPy loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from proxquant_np.nn import init

any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", any_speed, max_examples=25, print_blob=True)
settings.register_profile("ci", any_speed, max_examples=100, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_finish():
    """Thousands of tests live to the end: the garbage collector need not walk them each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Layers without a seed draw the same in every run, whichever tests this process ran before."""
    init._counted = itertools.count()


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made and their data written, but they are not drawn, which takes a second each.

    For tests of all else that a command does: their pictures hold these words.
    """
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: file.write(b"not drawn"))
