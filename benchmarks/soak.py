"""Does memory stay flat over thousands of short runs in one process?

    python benchmarks/soak.py [--fits N] [--json OUT]

Each run builds one of the networks of tests/kill_run.py with one of the optimizers, in turn, trains
it for two epochs with validation and a checkpoint, resumes from that for another epoch, and reads
the checkpoint. The resident memory is read after each tenth of the runs; the program fails if, from
the second tenth on, it has grown by more than 1 KB a run, or if files or threads were left open.
"""

import argparse
import gc
import os
import sys
import tempfile
import threading
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import kill_run

from proxquant_np.training import load_checkpoint


def resident() -> int:
    """Bytes of this process that are in memory, after a garbage collection. Linux only."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """Files that this process holds open."""
    return len(os.listdir("/proc/self/fd"))


def short_run(case: str, folder: Path) -> None:
    """Two epochs, then, resumed, a third; then the checkpoint is read and removed."""
    file = folder / "run.npz"
    for steps in (26, 39):
        kill_run.run(case, steps=steps, checkpoint=file, checkpoint_every=13)
    assert load_checkpoint(file)[1]["step"] == 39
    file.unlink()


def main(arguments: list[str] | None = None) -> dict[str, object]:
    """Run, print, return the report; SystemExit if something has grown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fits", type=int, default=4000, help="of two calls of fit (default 4000)")
    parser.add_argument("--json", type=Path, help="file to write the report to")
    options = parser.parse_args(arguments)
    cases, sizes = [*kill_run.EVERY, "text"], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.fits):
            short_run(cases[i % len(cases)], Path(folder))
            if i == len(cases):  # everything is imported, every case has run
                before = open_files(), threading.active_count()
            if (i + 1) % (options.fits // 10) == 0:
                sizes.append(resident())
                print(f"{i + 1:6} runs {sizes[-1] / 1024:10,.0f} KB", flush=True)
        after = open_files(), threading.active_count()
        left = os.listdir(folder)
    growth = (sizes[-1] - sizes[1]) / (0.8 * options.fits)
    print(f"{growth:.1f} bytes a run; open files and threads {before}, at the end {after}")
    report = {"resident": sizes, "bytes a run": growth, "fits": options.fits, "left": left}
    if options.json is not None:
        harness.write_json(options.json, {**harness.machine(), **report})
    if growth > 1024 or after > before or left:
        raise SystemExit(f"something has grown or was left: {report}")
    return report


if __name__ == "__main__":
    main()
