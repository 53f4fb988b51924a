"""Is a run that was killed, however often and whenever, the run that was not?

    python benchmarks/kills.py [--kills N] [--seed S] [--cases CASE ...] [--json OUT]

A small checkpointed run (tests/kill_run.py), with every optimizer in turn, is a process that gets
SIGKILL at a random moment: while it starts, computes, or writes its checkpoint, which it does every
third step. It is started again on the same file, and killed again, until it comes to its end
between two kills. Then everything it left (weights, statistics, optimizer, history) must be equal
to the bit to what a run in peace leaves. The program stops at the first difference, at a checkpoint
that cannot be read, and at a step that was lost although it was saved.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import kill_run

from proxquant_np.training import load_checkpoint


def start(case: str, file: Path) -> subprocess.Popen:
    """The run, going on from `file` if that is there."""
    command = [sys.executable, kill_run.__file__, case, str(file)]
    pipe = subprocess.PIPE  # unbuffered: what readline read ahead would be lost to communicate
    return subprocess.Popen(command, 0, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)


def kill(case: str, file: Path, rng: random.Random) -> str | None:
    """Start the run, kill it at a random moment; the digest it ended with, if it was quicker."""
    before = load_checkpoint(file)[1]["step"] if file.exists() else 0
    child = start(case, file)
    begun = [child.stdout.readline() for _ in range(rng.choice([0, rng.randint(1, 40)]))]
    time.sleep(rng.random() * (0.004 if begun else 0.8))  # in the run, or while it starts
    child.kill()
    out, err = child.communicate()
    lines = (b"".join(begun) + out).decode().split()
    if child.returncode == 0:
        return lines[-1]
    if err:
        raise SystemExit(f"{case} failed:\n{err.decode()}")
    done = load_checkpoint(file)[1]["step"] if file.exists() else 0
    steps = [int(line) for line in lines if line.isdecimal()]
    if done < before or (steps and (steps[0] != before or done < steps[-1] - 2)):
        raise SystemExit(f"{case} lost steps: from {before} it began {steps}, {done} are saved")
    return None


def run(case: str, kills: int, rng: random.Random, folder: Path) -> Counter:
    """So many kills, of as many runs as it takes; what was counted."""
    wanted = kill_run.digest(*kill_run.run(case, schedule=kill_run.decay))
    counts: Counter = Counter()
    file = folder / f"{case}.npz"
    while counts["kills"] < kills or file.exists():
        if counts["kills"] < kills:
            digest = kill(case, file, rng)
            counts["kills"] += digest is None
        else:
            out, err = start(case, file).communicate()
            if err:
                raise SystemExit(f"{case} cannot be resumed:\n{err.decode()}")
            digest = out.decode().split()[-1]
        if digest is not None:
            if digest != wanted:
                raise SystemExit(f"{case}: a killed run is not the run in peace, see {file}")
            counts["whole runs"] += 1
            file.unlink()
    for left in folder.glob(f".{file.name}.*.tmp"):  # it was killed while it wrote
        counts["killed while writing"] += 1
        left.unlink()
    if list(folder.iterdir()):
        raise SystemExit(f"{case} left {list(folder.iterdir())}")
    return counts


def main(arguments: list[str] | None = None) -> dict[str, dict[str, int]]:
    """Kill, print, and return the counts by case."""
    cases = [*kill_run.EVERY, "text"]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="in all (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    parser.add_argument("--json", type=Path, help="file to write the counts to")
    options = parser.parse_args(arguments)
    rng, report = random.Random(options.seed), {}
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(options.cases):
            n = (options.kills + i) // len(options.cases)  # these add up to all of them
            report[case] = dict(run(case, n, rng, Path(folder)))
            print(f"{case:20}", *(f"{v:4} {k}" for k, v in report[case].items()), flush=True)
    if options.json is not None:
        harness.write_json(options.json, {**harness.machine(), "counts": report})
    return report


if __name__ == "__main__":
    main()
