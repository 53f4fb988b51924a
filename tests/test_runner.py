"""The experiment runner: records, reruns, failures, and nothing left behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from runner_cells import cell, chain, complain, count, killed

from proxquant_np import provenance
from proxquant_np.autograd import threads
from proxquant_np.experiments.runner import (
    OutOfTime,
    environment,
    read_record,
    run_cells,
    write_record,
    write_text,
)

ROOT = Path(__file__).parents[1]


CELLS = {f"cell-{a}": {"a": a, "b": 0.1} for a in range(4)}


def run(cells=CELLS, jobs=2, **keywords):
    return run_cells(cell, cells, jobs=jobs, progress=False, **keywords)


def test_results_do_not_depend_on_jobs():
    before = threads.get_num_threads()
    results = run(jobs=1)
    assert run(jobs=3) == results
    assert list(results) == list(CELLS)
    assert len({r["sum"] for r in results.values()}) == 4
    assert all(r["threads"] == 1 for r in results.values())
    assert threads.get_num_threads() == before


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
    assert sorted(os.listdir(out)) == [".lock", *(f"{name}.json" for name in CELLS)]  # no temporary
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
    monkeypatch.setattr(provenance, "__version__", "0.0.0")
    assert read_record(tmp_path / "a.json", {}) is None


@pytest.mark.parametrize("damage", ["", "[]", "{}", "null", '{"arguments": {}}', "\x00\xff", "{"])
def test_damaged_records_are_not_used(damage, tmp_path):
    (tmp_path / "a.json").write_bytes(damage.encode("latin-1"))
    assert read_record(tmp_path / "a.json", {}) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_in_place_of_a_record_is_refused_before_the_run(kind, tmp_path):
    path = tmp_path / "cell-0.json"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="is a pipe or a device"):
        read_record(path, {})
    log = tmp_path / "log"
    with pytest.raises(OSError, match="is a pipe or a device"):
        run({"cell-0": {"a": 1, "b": 0.5, "log": str(log)}}, out=tmp_path)
    assert not log.exists()


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
    assert set(os.listdir(tmp_path / "out")) == {".lock", *kept}


def test_jobs_must_be_positive():
    with pytest.raises(ValueError, match="jobs must be an integer >= 1, got 0"):
        run(jobs=0)


def test_no_cells():
    assert run({}) == {}


def test_cells_start_from_others(tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    cells = with_log(log, {f"c{a}": {"a": a} for a in "dcba"})
    starts = {"cb": "ca", "cd": "cb", "cc": "ca"}
    options = dict(jobs=2, out=out, starts=starts, progress=False)
    results = run_cells(chain, cells, **options)
    assert list(results) == list(cells)
    a, b = "a" * 100, ("a" * 100 + "b") * 100
    assert results["cb"]["weights"] == b
    assert results["cd"]["weights"] == f"{b}d" * 100
    kept = {c: json.loads((out / f"c{c}.json").read_text())["arguments"]["start"] for c in "bd"}
    assert kept == {"b": a, "d": "sha256:" + hashlib.sha256(b.encode()).hexdigest()}  # b is long
    assert run_cells(chain, cells, **options) == results
    assert sorted(log.read_text().split()) == list("abcd")  # each once
    cells["cb"]["log"] = str(tmp_path / "another")  # and what starts from cb has the same start
    run_cells(chain, cells, **options)
    assert sorted(log.read_text().split()) == list("abcd")
    (out / "ca.json").unlink()
    run_cells(chain, cells, **options)
    assert sorted(log.read_text().split()) == list("aabcd")


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ({"cell-0": "cell-9"}, r"starts must name cells, got \['cell-9'\]"),
        ({"cell-0": "cell-0"}, "circle"),
    ],
)
def test_starts_that_make_no_sense(starts, message):
    with pytest.raises(ValueError, match=message):
        run(starts=starts)


@pytest.mark.parametrize("jobs", [1, 2])
def test_cells_whose_time_is_up_are_resumed(jobs, tmp_path, capsys):
    cells = {f"c{a}": {"a": a, "until": 7 if a == 1 else 99} for a in range(3)}
    options = dict(jobs=jobs, out=tmp_path, resumable=True, progress=False)
    with pytest.raises(OutOfTime, match="2 of 3 runs are finished and kept"):
        run_cells(count, cells, **options)
    (left,) = (tmp_path / "checkpoints").iterdir()
    # Other arguments: another run, which does not touch that checkpoint, and says so.
    other = {"c1": {"a": 1, "until": 99}}
    capsys.readouterr()
    assert run_cells(count, other, **options)["c1"]["found"] == 0
    assert f"c1 begins anew: {left.name} is of other arguments, code" in capsys.readouterr().err
    assert left.exists()
    deadline = time.monotonic() + 1e6
    results = run_cells(count, cells, deadline=deadline, **options)
    assert "begins anew" not in capsys.readouterr().err
    assert [result["found"] for result in results.values()] == [0, 7, 0]
    assert results["c1"]["deadline"] == pytest.approx(deadline, abs=5)
    assert results["c0"]["deadline"] is None  # from its record
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_cell_is_started_after_the_deadline(jobs, tmp_path):
    log = tmp_path / "log"
    with pytest.raises(OutOfTime, match="0 of 4"):
        run(with_log(log), jobs=jobs, deadline=time.monotonic() - 1)
    assert not log.exists()


def test_revision_is_that_of_the_checkout(tmp_path, monkeypatch):
    revision = environment()["revision"]
    if (ROOT / ".git").exists():
        git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        head = subprocess.run(git, capture_output=True, text=True).stdout.strip()
        assert revision.removesuffix("-dirty") == head
    provenance._revision.cache_clear()
    monkeypatch.setattr(provenance, "_ROOT", tmp_path / "proxquant_np")
    assert environment()["revision"] is None
    provenance._revision.cache_clear()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_is_told_in_one_line(tmp_path):
    cells = {str(a): {"a": a} for a in range(2)}
    with pytest.raises(OSError, match="was killed"):
        run_cells(killed, cells, jobs=2, out=tmp_path, progress=False)


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
                    while not pathlib.Path("out/c0.json").exists():
                        time.sleep(0.01)
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
    assert "\nKeyboardInterrupt\n" in err
    assert sorted(os.listdir(tmp_path / "out")) == [".lock", "c0.json"]


# Files that cannot be written, two processes in one folder ---------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("kind", "says"), [("full", "No space left"), ("damaged", "half")])
def test_errors_with_files_are_such(kind, says, jobs):
    with pytest.raises(OSError, match=f"cell 'c' failed: .*{says}"):
        run_cells(complain, {"c": {"kind": kind}}, jobs=jobs, progress=False)


PROGRAM = """
import pathlib, sys, time
from proxquant_np.experiments.runner import run_cells

def cell(a, wait):
    if a == 0 and wait:
        print("busy", flush=True)
        time.sleep(60)
    return {"square": a * a}

if __name__ == "__main__":
    cells = {f"c{a}": {"a": a, "wait": len(sys.argv) > 1} for a in range(3)}
    run_cells(cell, cells, jobs=1, out=pathlib.Path("out"), progress=False)
"""


@pytest.fixture
def program(tmp_path):
    """PROGRAM as a process; with an argument it stops in its first cell, having said so."""
    (tmp_path / "program.py").write_text(PROGRAM)
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "program.py", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        if arguments:
            assert process.stdout.readline() == "busy\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_one_process_at_a_time(program, tmp_path):
    """The second is refused and changes nothing; a lock does not outlive its process."""
    out = tmp_path / "out"
    first = program("wait")
    with pytest.raises(BlockingIOError, match=f"{out} is in use by another process"):
        run_cells(cell, CELLS, jobs=1, out=out, progress=False)
    second = program()
    assert "is in use by another process" in second.communicate(timeout=60)[1]
    assert second.returncode != 0
    assert os.listdir(out) == [".lock"]
    first.kill()
    first.communicate()
    third = program()
    assert (third.communicate(timeout=60), third.returncode) == (("", ""), 0)
    assert sorted(os.listdir(out)) == [".lock", "c0.json", "c1.json", "c2.json"]


def test_a_lock_that_cannot_be_held(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError, match=r"\.lock: unable to open"):
        run(out=tmp_path)
    (tmp_path / ".lock").rmdir()
    (tmp_path / ".lock").write_text("something else that is certainly no database" * 99)
    with pytest.raises(OSError, match=r"\.lock: file is not a database"):
        run(out=tmp_path)
    assert os.listdir(tmp_path) == [".lock"]
