"""The runner on a Dask cluster: a real scheduler and workers on loopback, some of them killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import kill_run
import numpy as np
import pytest

import proxquant_np.functional as F
from proxquant_np import Tensor, cli
from proxquant_np.experiments.runner import run_cells

pytest.importorskip("distributed", reason="needs the extra `sweep`: Dask")

TESTS = Path(__file__).parent
pytestmark = pytest.mark.filterwarnings("default")  # of Dask's, not of ours


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


class Cluster:
    """A scheduler, and workers that nobody starts again, as many as in `threads`."""

    def __init__(self, folder, threads, **environment):
        self.folder, self.file = folder, folder / "scheduler.json"
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        self.environment = {**os.environ, "PYTHONPATH": path, **environment}
        self.log, self.workers = open(folder / "dask.log", "w"), []
        self.scheduler = self.started("scheduler", "--host", "tcp://127.0.0.1", "--port", "0")
        for n in threads:
            self.add_worker(n)
        self.wait_for(self.file.exists)
        self.address = json.loads(self.file.read_text())["address"]
        self.wait_for(lambda: self.count() == len(threads))

    def started(self, *command):
        command = [sys.executable, "-m", "dask", *command, "--scheduler-file", str(self.file)]
        return subprocess.Popen(
            [*command, "--no-dashboard"],
            cwd=self.folder,
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
        )

    def add_worker(self, threads):
        n = ["--nthreads", str(threads)]
        self.workers.append(self.started("worker", *n, "--no-nanny", "--host", "127.0.0.1"))

    def count(self):
        from distributed import Client

        with Client(self.address) as client:
            return len(client.nthreads())

    def wait_for(self, condition):
        stop = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < stop and self.scheduler.poll() is None, self.log.name
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


def test_a_killed_worker_loses_nothing(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    cells = {f"seed{seed}": {"seed": seed, "log": str(log)} for seed in range(6)}
    with Cluster(tmp_path, [1, 1]) as cluster:
        results = run_cells(
            train, cells, jobs=1, dask=cluster.address, out=out, resumable=True, progress=False
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


def last(a, log, out, checkpoint, deadline):
    """Writes a checkpoint. The last cell kills the worker that ran all the others, when they are
    recorded; then it ends.
    """
    with open(log, "a") as file:
        print(os.getpid(), a, file=file)
    Path(f"{checkpoint}-part.npz").write_text("something")
    if a == 9:
        stop = time.monotonic() + 60
        while len(list(Path(out).glob("c?.json"))) < 4:
            assert time.monotonic() < stop
            time.sleep(0.05)
        for pid in {int(line.split()[0]) for line in Path(log).read_text().splitlines()}:
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        time.sleep(3)  # the scheduler notices
    return os.getpid()


def test_a_finished_cell_does_not_run_again_when_its_worker_is_lost(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    cells = {f"c{a}": {"a": a, "log": str(log), "out": str(out)} for a in (9, 0, 1, 2, 3)}
    with Cluster(tmp_path, [1, 1]) as cluster:
        run_cells(
            last, cells, jobs=1, dask=cluster.address, out=out, resumable=True, progress=False
        )
    lines = [line.split()[1] for line in log.read_text().splitlines()]
    assert sorted(lines) == ["0", "1", "2", "3", "9"]  # each once
    assert not list((out / "checkpoints").iterdir())


def digest(seed, case):
    """Large enough for several threads of BLAS and of this package, if they were let."""
    rng = np.random.default_rng(seed)
    x = Tensor(rng.normal(size=(32, 8, 32, 32)).astype(np.float32))
    w = Tensor(rng.normal(size=(8, 8, 3, 3)).astype(np.float32), requires_grad=True)
    v = rng.normal(size=(512, 512)).astype(np.float32)
    for _ in range(1 + 3 * (seed % 2)):  # they end at different times
        w.grad = None
        F.conv2d(x, w, padding=1).tanh().sum().backward()
        w.data = w.data - 1e-3 * w.grad
        v = np.tanh(v @ v / 512)
    return [os.getpid(), hashlib.sha256(w.data.tobytes() + v.tobytes()).hexdigest()]


def test_two_cells_in_one_worker_compute_the_bits_of_a_local_run(tmp_path):
    cells = {f"c{seed}": {"seed": seed, "case": "adam"} for seed in range(8)}
    local = run_cells(digest, cells, jobs=1, progress=False)
    threads = {f"{name}_NUM_THREADS": "2" for name in ("OMP", "OPENBLAS", "PROXQUANT")}
    with Cluster(tmp_path, [2], **threads) as cluster:
        found = run_cells(digest, cells, jobs=1, dask=cluster.address, progress=False)
    assert {name: value[1] for name, value in found.items()} == {
        name: value[1] for name, value in local.items()
    }
    (worker,) = {value[0] for value in found.values()}
    assert worker == cluster.workers[0].pid


def where(a, checkpoint, deadline):
    Path(f"{checkpoint}.npz").write_text("mine")
    return [os.getpid(), Path(checkpoint).is_absolute()]


def test_a_relative_folder_and_a_cluster_of_one_thread(tmp_path, monkeypatch):
    """The worker is in another folder; and it is the worker that computes."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with Cluster(tmp_path, [1]) as cluster:
        results = run_cells(
            where,
            {"c0": {"a": 0}, "c1": {"a": 1}},
            jobs=1,
            dask=cluster.address,
            out=Path("out"),
            resumable=True,
            progress=False,
        )
        assert results == {name: [cluster.workers[0].pid, True] for name in ("c0", "c1")}
        made = json.loads((here / "out" / "c0.json").read_text())["environment"]
        assert len(made["digest"]) == 64 and made["device"] == "cpu"
    assert sorted(p.name for p in (here / "out").glob("*.json")) == ["c0.json", "c1.json"]
    assert not list((here / "out" / "checkpoints").iterdir())


def fatal(a, out):
    if a == 1:
        while not Path(out, "c0.json").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return a


def test_a_cell_that_no_worker_can_finish_is_reported(tmp_path):
    """Here one lost worker is enough for the scheduler to give it up; by default, four."""
    once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with Cluster(tmp_path, [1, 1], **once) as cluster:
        with pytest.raises(OSError, match=r"given up: each worker that ran it was lost .* kept"):
            out = tmp_path / "out"
            cells = {f"c{a}": {"a": a, "out": str(out)} for a in range(3)}
            run_cells(fatal, cells, jobs=1, dask=cluster.address, out=out, progress=False)
    assert (out / "c0.json").exists() and not (out / "c1.json").exists()


def slow(a):
    time.sleep(0.1 if a == 0 else 5)
    return a


def test_without_workers_it_waits_and_says_so(tmp_path, capsys):
    with Cluster(tmp_path, []) as cluster:

        def help():
            time.sleep(2)
            cluster.add_worker(1)

        helper = threading.Thread(target=help)
        helper.start()
        cells = {f"c{a}": {"a": 0} for a in range(3)}
        found = run_cells(slow, cells, jobs=1, dask=cluster.address, progress=False)
        helper.join()
    assert found == dict.fromkeys(cells, 0)
    said = f"waiting for a worker: the Dask scheduler at {cluster.address} has none\n"
    assert capsys.readouterr().err == said


def test_a_scheduler_that_goes_is_one_line(tmp_path):
    """With a real command line: its error is one line, its exit code 2, its records are kept."""
    out = tmp_path / "out"
    arguments = ["experiment", "methods", "--only", "mlp", "--seeds", "1", "--out", str(out)]
    with Cluster(tmp_path, [1]) as cluster:
        process = subprocess.Popen(
            [sys.executable, "-m", cli.__name__, *arguments, "--dask", cluster.address, "--quick"],
            env=cluster.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        records = out / "records"
        cluster.wait_for(lambda: list(records.glob("*.json")) or process.poll() is not None)
        cluster.scheduler.kill()
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 2, err
    last = err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("proxquant-np: the Dask scheduler at") and "is gone" in last
    assert "Traceback" not in err and "distributed" not in err, err
    assert list(records.glob("*.json"))
