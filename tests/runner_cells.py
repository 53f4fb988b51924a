"""Cells of the runner's tests, apart: the processes that run them need not import pytest."""

import os
import signal
from pathlib import Path

import numpy as np

from proxquant_np.autograd import threads
from proxquant_np.experiments.runner import OutOfTime
from proxquant_np.training import CheckpointError


def cell(a, b=0.0, log=None):
    """A cell that says it has run, and with how many threads it computes."""
    if log is not None:
        with open(log, "a") as file:
            file.write(f"{a}\n")
    if a == "bad":
        raise ValueError("no such method")
    x = np.random.default_rng(int(a)).normal(size=(300, 300))
    return {"sum": float((x @ x).sum() + b), "threads": threads.get_num_threads()}


def chain(a, log, start=None):
    """A cell with weights, and what it was started from."""
    with open(log, "a") as file:
        file.write(f"{a}\n")
    return {"weights": f"{start or ''}{a}" * 100}


def count(a, until, checkpoint, deadline):
    """Counts to ten in a file; at `until` its time is up."""
    path = Path(f"{checkpoint}.txt")
    done = int(path.read_text()) if path.exists() else 0
    for n in range(done + 1, 11):
        path.write_text(str(n))
        if n == until and done < until:
            raise OutOfTime
    return {"a": a, "found": done, "deadline": deadline}


def killed(a):
    if a == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return a


def complain(kind):
    """A cell that fails as its files do."""
    raise {"full": OSError(28, "No space left on device"), "damaged": CheckpointError("half")}[kind]
