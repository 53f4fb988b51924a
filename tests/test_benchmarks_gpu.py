"""The benchmark for a GPU, on tiny networks and the duck array; and its refusal without a GPU."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from duck_array import asduck

pytest.importorskip("torch", reason="torch, of the extra bench, is not installed")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import gpu

    return gpu


def test_the_report(gpu, capsys):
    import torch

    waited = []
    here = gpu.Device(asduck, lambda: waited.append(1), lambda: 6, lambda: None)
    devices = {gpu.HERE: here, gpu.PEER: gpu.Device(torch.from_numpy)}
    tasks = {
        "ResNet": gpu.resnet(2, 8, depth=8, width=2),
        "language model": gpu.language_model(7, 4, 3, 2),
    }
    found = json.loads(json.dumps(gpu.report(devices, tasks, 2, 1000, 40, time.monotonic())))
    assert waited
    for row in found["rows"].values():
        assert row["ratio"] > 0 and all(t > 0 for t in row["seconds"].values())
    assert [len(curve["losses"]) for curve in found["epoch"].values()] == [40, 40, 1]
    ours, peer, _ = (curve["losses"] for curve in found["epoch"].values())
    np.testing.assert_allclose(ours[:5], peer[:5], rtol=1e-3)
    assert "times a copy" in capsys.readouterr().out


def test_a_fast_wrong_answer_stops_it(gpu, monkeypatch):
    import torch

    devices = {gpu.HERE: gpu.Device(asduck), gpu.PEER: gpu.Device(torch.from_numpy)}
    monkeypatch.setattr(gpu.F, "cross_entropy", lambda x, y: gpu.F.mean(x) * 2.0)
    with pytest.raises(SystemExit, match="disagrees with PyTorch"):
        gpu.measure(gpu.language_model(7, 4, 3, 2), devices, 2)


def test_without_a_gpu_one_line_says_so(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from benchmarks.gpu import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("benchmarks.gpu needs a GPU: ") and done.stderr.count("\n") == 1
