"""A full disk: what was there stays, nothing half-written is left, and the error says why.

Once a file system of 64 KB, where mounting is allowed, and once a limit on the size of a file,
which fails at the same places.
"""

import contextlib
import errno
import json
import os
import shutil
import subprocess

import kill_run
import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np import cli, plotting, prox
from proxquant_np.experiments.runner import run_cells, write_record
from proxquant_np.models import MLP
from proxquant_np.training import load_checkpoint, save_checkpoint

OLD = {"old": np.arange(3)}
BIG = np.random.default_rng(0).normal(size=20_000)  # 160 KB
LEFT = 8192
FULL = "No space left|File too large"


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request, tmp_path):
    """A folder, and a context in which nothing of more than LEFT bytes can be written to it."""
    if request.param == "limit":
        resource = pytest.importorskip("resource", reason="no limits on this system")
        tmp_path.joinpath("folder").mkdir()

        @contextlib.contextmanager
        def full():
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (LEFT, before[1]))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

        yield tmp_path / "folder", full
        return

    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a small file system")

    @contextlib.contextmanager
    def full():
        state = os.statvfs(mounted)
        (mounted / "filling").write_bytes(bytes(state.f_bavail * state.f_frsize - LEFT))
        yield

    (mounted / "folder").mkdir()
    yield mounted / "folder", full
    subprocess.run(["umount", str(mounted)], check=True)


@contextlib.contextmanager
def refused(folder):
    """Within, writing fails as on a full disk, and changes nothing."""
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with pytest.raises(OSError, match=FULL) as raised:
        yield
    assert raised.value.errno in (errno.ENOSPC, errno.EFBIG, None)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_checkpoint(disk):
    folder, full = disk
    save_checkpoint(folder / "run.npz", OLD, {})
    with full(), refused(folder):
        save_checkpoint(folder / "run.npz", {"big": BIG}, {})
    assert load_checkpoint(folder / "run.npz")[0]["old"].tolist() == [0, 1, 2]


def test_a_run_whose_checkpoint_grows_too_large(disk, tmp_path):
    """The checkpoint before is whole, and on another disk the run goes on from it."""
    folder, full = disk
    whole = kill_run.digest(*kill_run.run("adam", steps=60))
    kill_run.run("adam", steps=30, checkpoint=folder / "run.npz")
    with full(), refused(folder):
        kill_run.run("adam", steps=60, checkpoint=folder / "run.npz", checkpoint_every=15)
    shutil.copy(folder / "run.npz", tmp_path / "moved.npz")
    resumed = kill_run.run("adam", steps=60, checkpoint=tmp_path / "moved.npz")
    assert kill_run.digest(*resumed) == whole


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_pack(suffix, disk, capsys):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed (extra: interop)")
    folder, full = disk
    out = folder / f"net{suffix}"
    pq.pack(MLP((3, 2), batch_norm=False), prox.BinaryL1(), out)
    large = MLP((1000, 500), batch_norm=False)  # 62 KB of signs, 2 KB of all else
    with full(), refused(folder):
        pq.pack(large, prox.BinaryL1(), out)


def test_record(disk):
    folder, full = disk
    write_record(folder / "a.json", {}, 1)
    with full(), refused(folder):
        write_record(folder / "a.json", {}, BIG.tolist())
    assert json.loads((folder / "a.json").read_text())["result"] == 1


def numbers(n):
    return BIG[:n].tolist()


@pytest.mark.parametrize("jobs", [1, 2])
def test_records_of_cells(jobs, disk):
    """The first is kept, the second does not fit."""
    folder, full = disk
    with full(), pytest.raises(OSError, match=f"cell 'b' failed: .*({FULL})"):
        run_cells(
            numbers, {"a": {"n": 1}, "b": {"n": 20_000}}, jobs=jobs, out=folder, progress=False
        )
    assert {p.name for p in folder.iterdir()} <= {".lock", "a.json"}


def test_figure(disk):
    folder, full = disk
    data = {"title": "a", "rows": [{"label": "b", "verdict": "supported", "mean": 0.0}]}
    data["rows"][0] |= {"low": -1.0, "high": 1.0}
    old = [(folder / f"figure.{kind}") for kind in ("png", "svg", "json")]
    for path in old:
        path.write_text("old")
    with full(), refused(folder):
        plotting.save_figure(plotting.differences(data), data, folder / "figure")


def test_the_command_line(disk, tmp_path, capsys):
    folder, full = disk
    large = MLP((1000, 500), batch_norm=False)
    meta = {"model": pq.models.describe(large), "quantized": ["layers.0.weight"]}
    meta["identity"] = {"regularizer": "BinaryL1()"}
    arrays = {f"model/{name}": value for name, value in large.state_dict().items()}
    save_checkpoint(tmp_path / "run.npz", arrays, meta)
    (folder / "net.npz").write_bytes(b"old")
    with full():
        code = cli.main(["pack", str(tmp_path / "run.npz"), "--out", str(folder / "net.npz")])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "No space left" in err or "File too large" in err
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("net.npz", b"old")]
