"""The experiment runner: records, reruns, failures, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import proxquant_np
from proxquant_np.experiments import runner
from proxquant_np.experiments.runner import read_record, run_cells, write_record, write_text

ROOT = Path(__file__).parents[1]


def cell(a, b=0.0, log=None):
    """A cell that says it has run, and with how many threads it computes."""
    if log is not None:
        with open(log, "a") as file:
            file.write(f"{a}\n")
    if a == "bad":
        raise ValueError("no such method")
    x = np.random.default_rng(int(a)).normal(size=(300, 300))
    threads = {os.environ[name] for name in runner._ONE_THREAD}
    return {"sum": float((x @ x).sum() + b), "threads": sorted(threads)}


CELLS = {f"cell-{a}": {"a": a, "b": 0.1} for a in range(4)}


def run(cells=CELLS, jobs=2, **keywords):
    return run_cells(cell, cells, jobs=jobs, progress=False, **keywords)


def test_results_do_not_depend_on_jobs_and_environment_is_restored(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    results = run(jobs=1)
    assert run(jobs=3) == results
    assert list(results) == list(CELLS)
    assert len({r["sum"] for r in results.values()}) == 4
    assert all(r["threads"] == ["1"] for r in results.values())
    assert dict(os.environ) == before


def with_log(log, cells=CELLS):
    return {name: {**arguments, "log": str(log)} for name, arguments in cells.items()}


def test_finished_cells_are_read(tmp_path):
    log, out = tmp_path / "log", tmp_path / "deep" / "records"
    cells = with_log(log)
    first = run(dict(list(cells.items())[:2]), out=out)
    assert sorted(log.read_text().split()) == ["0", "1"]
    results = run(cells, out=out)
    assert sorted(log.read_text().split()) == ["0", "1", "2", "3"]  # each once
    assert {k: results[k] for k in first} == first
    assert list(results) == list(CELLS)
    assert run(cells, out=out) == results
    assert sorted(os.listdir(out)) == [f"{name}.json" for name in CELLS]  # no temporary file
    (out / "cell-0.json").write_text((out / "cell-0.json").read_text()[:-40])
    (out / "cell-1.json").unlink()
    cells["cell-2"]["b"] = 7.0
    again = run(cells, out=out)
    assert sorted(log.read_text().split()[4:]) == ["0", "1", "2"]
    assert again["cell-2"]["sum"] == pytest.approx(results["cell-2"]["sum"] + 6.9)
    assert [again[k] == results[k] for k in CELLS] == [True, True, False, True]


def test_record_holds_what_it_was_made_with(tmp_path):
    path = tmp_path / "a.json"
    write_record(path, {"a": 1, "pair": (1, 2)}, {"error": 0.1, "std": None})
    record = json.loads(path.read_text())
    assert record["arguments"] == {"a": 1, "pair": [1, 2]}
    assert record["environment"]["numpy"] == np.__version__
    assert read_record(path, {"pair": (1, 2), "a": 1}) == {"error": 0.1, "std": None}
    assert read_record(path, {"a": 1, "pair": [1, 3]}) is None
    assert read_record(path, {"a": 1}) is None
    assert read_record(tmp_path / "none.json", {"a": 1}) is None


def test_record_of_another_version_is_not_used(tmp_path, monkeypatch):
    write_record(tmp_path / "a.json", {}, 1.5)
    monkeypatch.setattr(proxquant_np, "__version__", "0.0.0")
    assert read_record(tmp_path / "a.json", {}) is None


@pytest.mark.parametrize("damage", ["", "[]", "{}", "null", '{"arguments": {}}', "\x00\xff", "{"])
def test_damaged_records_are_not_used(damage, tmp_path):
    (tmp_path / "a.json").write_bytes(damage.encode("latin-1"))
    assert read_record(tmp_path / "a.json", {}) is None


@pytest.mark.parametrize("result", [float("nan"), {"low": float("-inf")}, {1, 2}])
def test_results_that_json_cannot_hold(result, tmp_path):
    with pytest.raises((ValueError, TypeError)):
        write_record(tmp_path / "a.json", {}, result)
    assert os.listdir(tmp_path) == []


def test_text_is_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "σ\n")
    assert path.read_bytes() == "σ\n".encode()

    def fail(*arguments):
        raise OSError("No space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_bytes() == "σ\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_failing_cell_is_named_and_the_others_kept(jobs, tmp_path):
    log, before = tmp_path / "log", dict(os.environ)
    cells = {"one": {"a": 1}, "culprit": {"a": "bad"}, "three": {"a": 3}, "four": {"a": 4}}
    cells = with_log(log, cells)
    with pytest.raises(RuntimeError, match=r"cell 'culprit' failed: .*no such method") as raised:
        run(cells, jobs=jobs, out=tmp_path / "out")
    assert isinstance(raised.value.__cause__, ValueError)
    assert dict(os.environ) == before
    started = set(log.read_text().split()) - {"bad"}
    assert "1" in started
    if jobs == 1:
        assert started == {"1"}  # none was started after it
    kept = {f"{name}.json" for name, arguments in cells.items() if str(arguments["a"]) in started}
    assert set(os.listdir(tmp_path / "out")) == kept


def test_jobs_must_be_positive():
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        run(jobs=0)


def test_no_cells():
    assert run({}) == {}


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c_stops_all_and_keeps_what_is_finished(tmp_path):
    """As in a terminal: the signal reaches the workers too."""
    (tmp_path / "slow.py").write_text(
        textwrap.dedent(
            """
            import pathlib, sys, time
            from proxquant_np.experiments.runner import run_cells

            def cell(a):
                if a:
                    print("busy", flush=True)
                    time.sleep(60)
                return a

            if __name__ == "__main__":
                cells = {f"c{a}": {"a": a} for a in range(9)}
                run_cells(cell, cells, jobs=2, out=pathlib.Path("out"), progress=False)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, "slow.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert [process.stdout.readline() for _ in range(2)] == ["busy\n"] * 2
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert os.listdir(tmp_path / "out") == ["c0.json"]
