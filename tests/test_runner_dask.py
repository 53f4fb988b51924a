"""The runner on a Dask cluster: a real scheduler, two workers on loopback, one of them killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kill_run
import pytest

from proxquant_np.experiments.runner import run_cells

pytest.importorskip("distributed", reason="needs the extra `sweep`: Dask")

TESTS = Path(__file__).parent


def train(seed, log, checkpoint, deadline):
    """Train with checkpoints; the first time that seed 1 comes here, its worker dies on the way."""
    resumed = Path(f"{checkpoint}.npz").exists()
    with open(log, "a") as file:
        print(os.getpid(), seed, "resumed" if resumed else "began", file=file)

    def schedule(step):
        if seed == 1 and step == 100 and not resumed:
            os.kill(os.getpid(), signal.SIGKILL)
        return kill_run.decay(step)

    arguments = dict(seed=seed, schedule=schedule, checkpoint_every=40)
    return kill_run.digest(*kill_run.run("adam", checkpoint=f"{checkpoint}.npz", **arguments))


@contextlib.contextmanager
def cluster(folder):
    """The address of a scheduler with two workers that nobody starts again."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", file, "--no-dashboard"]
    scheduler = ["scheduler", *common, "--host", "tcp://127.0.0.1", "--port", "0"]
    worker = ["worker", *common, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(folder / "dask.log", "w"))
        for command in (scheduler, worker, worker):
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path},
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        stop = time.time() + 120
        while not file.exists():
            assert time.time() < stop and process.poll() is None, log.name
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        from distributed import Client

        with Client(address) as client:
            client.wait_for_workers(2, timeout=120)
        yield address


@pytest.mark.filterwarnings("default")  # of Dask's, not of ours
def test_a_killed_worker_loses_nothing(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    cells = {f"seed{seed}": {"seed": seed, "log": str(log)} for seed in range(6)}
    with cluster(tmp_path) as address:
        results = run_cells(
            train, cells, jobs=1, dask=address, out=out, resumable=True, progress=False
        )
    lines = [line.split() for line in log.read_text().splitlines()]
    began = [("began", str(seed)) for seed in range(6)]
    assert sorted((how, seed) for _, seed, how in lines) == [*began, ("resumed", "1")]
    assert len({process for process, *_ in lines}) == 2  # both worked
    first, second = (process for process, seed, _ in lines if seed == "1")
    assert first != second
    assert sorted(path.name for path in out.glob("*.json")) == [f"{name}.json" for name in cells]
    assert not list((out / "checkpoints").iterdir())

    undisturbed = {
        name: kill_run.digest(*kill_run.run("adam", seed=cell["seed"], schedule=kill_run.decay))
        for name, cell in cells.items()
    }
    assert results == undisturbed
