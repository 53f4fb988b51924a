"""Signals to the main process and to all: nothing is lost, nothing left running, no traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kill_run
import pytest

from proxquant_np import cli
from proxquant_np.experiments import runner, workers
from proxquant_np.experiments.runner import run_cells
from proxquant_np.training import load_checkpoint

TESTS = Path(__file__).parent
ROOT = TESTS.parent
pytestmark = pytest.mark.skipif(not hasattr(os, "setsid"), reason="needs POSIX signals")

PROGRAM = """
import os, sys, time
from pathlib import Path
import kill_run
from proxquant_np import cli
from proxquant_np.experiments.runner import run_cells

def announce(optimizer):
    step = optimizer.step

    def announced():
        with open(f"step-{os.getpid()}", "a") as file:
            print(optimizer.state_dict()["steps"].max(), file=file)
        time.sleep(float(os.environ.get("SLEEP", 0)))
        step()

    optimizer.step = announced

def cell(seed, checkpoint, deadline):
    resumed = Path(f"{checkpoint}.npz").exists()
    with open("log", "a") as file:
        print(os.getpid(), seed, "resumed" if resumed else "began", file=file)
    arguments = dict(seed=seed, schedule=kill_run.decay, checkpoint=f"{checkpoint}.npz")
    return kill_run.digest(*kill_run.run("adam", announce, checkpoint_every=20, **arguments))

def main(options):
    cells = {f"c{seed}": {"seed": seed} for seed in range(3)}
    jobs = int(sys.argv[1])
    run_cells(cell, cells, jobs=jobs, out=Path("out"), resumable=True, progress=False)

def add(commands):
    commands.add_parser("cells").set_defaults(run=main, stopped="; kept")

if __name__ == "__main__":
    cli.COMMANDS = (add,)
    sys.exit(cli.main(["cells"]))
"""


def start(command, folder, **environment):
    """In a session of its own, as in a terminal of its own."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(condition, seconds=60.0):
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.02)


def runs(pid):
    """Whether a process computes; one that has ended and waits to be noticed does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # no /proc
        return True


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("whom", ["SIGTERM", "SIGHUP", "SIGINT", "SIGINT to all", "SIGKILL"])
def test_nothing_is_lost_and_nothing_left_running(whom, jobs, tmp_path):
    name = whom.split()[0]
    (tmp_path / "program.py").write_text(PROGRAM)
    process = start(["program.py", str(jobs)], tmp_path, SLEEP="0.02")
    log, checkpoints = tmp_path / "log", tmp_path / "out" / "checkpoints"
    wait_for(lambda: len(list(checkpoints.glob("c*.npz"))) == jobs)
    (os.killpg if "all" in whom else os.kill)(process.pid, getattr(signal, name))
    _, err = process.communicate(timeout=30)
    pids = {int(line.split()[0]) for line in log.read_text().splitlines()}
    assert len(pids) == jobs
    wait_for(lambda: not any(map(runs, pids)), 2 * workers.GRACE)
    number = getattr(signal, name)
    assert process.returncode == (-number if name == "SIGKILL" else 128 + number), err
    if name != "SIGKILL":
        assert err == "\nstopped; kept\n"
    found = [load_checkpoint(path)[1]["step"] for path in checkpoints.glob("c*.npz")]
    begun = [int(path.read_text().split()[-1]) for path in tmp_path.glob("step-*")]
    if name != "SIGKILL" or jobs > 1:  # the step was finished and saved, not only each 20th
        assert sorted(found) == [step + 1 for step in sorted(begun)]
    else:
        assert begun[0] - 20 <= found[0] <= begun[0]
    assert not list(tmp_path.rglob("*.tmp"))

    again = start(["program.py", str(jobs)], tmp_path)
    assert again.communicate(timeout=60) == ("", "")
    lines = sorted(line.split()[1:] for line in log.read_text().splitlines())
    resumed = [line for line in lines if line[1] == "resumed"]
    assert len(resumed) == jobs and len(lines) == 3 + jobs  # nothing began twice
    for seed in range(3):
        undisturbed = kill_run.run("adam", seed=seed, schedule=kill_run.decay)
        record = json.loads((tmp_path / "out" / f"c{seed}.json").read_text())
        assert record["result"] == kill_run.digest(*undisturbed)


def test_ctrl_c_at_any_moment_prints_no_traceback(tmp_path):
    """From when Python itself is up: while NumPy loads, while workers start, in training."""
    arguments = ["experiment", "methods", "--quick", "--only", "mlp", "--jobs", "2"]
    for n in range(8):
        anew = tmp_path / str(n)  # what an earlier run has finished would leave too little to do
        anew.mkdir()
        process = start([str(ROOT / "proxquant_np_command.py"), *arguments], anew)
        time.sleep(0.15 + 0.3 * n)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        if "init_import_site" in err:
            continue  # Python itself, on a machine so busy that it was not up yet
        assert process.returncode in (130, -signal.SIGINT), err
        for word in ("Traceback", "KeyboardInterrupt", "Warning"):
            assert word not in err, err


def test_signals_that_are_ignored_stay_so(monkeypatch):
    """nohup ignores SIGHUP; a script's background, SIGINT."""
    before = (
        signal.signal(signal.SIGHUP, signal.SIG_IGN),
        signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        with pytest.raises(KeyboardInterrupt), cli._as_ctrl_c() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not received
            os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGINT, before[1])


def pid(a):
    time.sleep(0.2)
    return os.getpid()


@pytest.mark.parametrize("jobs", [40, 999_999])
def test_no_more_processes_than_cells(jobs, monkeypatch):
    sizes = []

    class Processes(workers.Processes):
        def __init__(self, n):
            sizes.append(n)
            super().__init__(n)

    monkeypatch.setattr(runner.workers, "Processes", Processes)
    found = run_cells(pid, {"a": {"a": 0}, "b": {"a": 1}}, jobs=jobs, progress=False)
    assert sizes == [2] and len(found) == 2


# Progress ----------------------------------------------------------------------------------------

FIT = """
import sys
if sys.argv[1:] == ["none"]:
    sys.stderr = None
import kill_run
from proxquant_np.experiments.runner import run_cells

kill_run.fit = lambda *a, fit=kill_run.fit, **options: fit(*a, **{**options, "progress": True})
found = kill_run.digest(*kill_run.run("adam"))
run_cells(int, {"a": {}}, jobs=1, progress=True)
print(found, flush=True)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "redirected", ["2>&-", "2>/dev/full", "none", "2>&1 >out | true"], ids=lambda r: r
)
def test_progress_is_never_worth_a_run(redirected, tmp_path):
    """Standard error closed, full, None as in a service, a pipe that nobody reads."""
    (tmp_path / "fit.py").write_text(FIT)
    path = os.pathsep.join([str(ROOT), str(TESTS)])
    done = subprocess.run(
        f"{sys.executable} fit.py {redirected}",
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    file = tmp_path / "out"
    printed = file.read_text() if file.exists() else done.stdout
    assert printed == f"{kill_run.digest(*kill_run.run('adam'))}\n", done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full"])
def test_an_error_that_cannot_be_said_is_a_code(redirected, tmp_path):
    command = f"{sys.executable} -m proxquant_np.cli inspect none {redirected}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
