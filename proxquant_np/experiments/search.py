"""The search for hyperparameters: the same number of trials for every method.

Each task and method has points of its own, that fill the space evenly (Halton's, scrambled). They
are measured on the validation split, from seeds that no measurement uses. What is chosen, and every
trial, is the report that `Task.found` reads.

If the best trial of a method lies at an end of what was tried, the best may lie beyond: its range
grows there, by FACTOR, and is searched where it grew. The other methods that start from the same
network get as many new trials, within their ranges, so that none is searched more than another.
That is repeated until every best trial has others around it, but EXTENSIONS times at most.

Where a trial is expensive, successive halving spares most of it: all trials run for a part of the
steps, the better half for more, and only the best of them to the end (HALVING). A point keeps its
rate and mean lambda at every length, but what is best in few steps need not be so in many: the
report holds all rungs, so that one can see how far they agree.

A search repeated with another stream draws other points and has other seeds: whether a verdict
survives that is part of it. Earlier reports drew at random, the same for all tasks, on two seeds;
they have no "scheme".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from proxquant_np import provenance
from proxquant_np.experiments import experiment as experiments
from proxquant_np.experiments.experiment import Experiment
from proxquant_np.experiments.protocol import FULL_PRECISION, rounded
from proxquant_np.experiments.runner import run_cells
from proxquant_np.experiments.tasks import same_data, same_steps
from proxquant_np.files import json_text, read_json, read_whole, written_whole

SCHEME = "Halton points"
FIRST_SEED, SEEDS = 1000, 3  # not those of a measurement; each stream has the next three
EXTENSIONS, FACTOR = 3, 10.0


class Rung(NamedTuple):
    """What trials that are left run for: a part of the steps, with the first `seeds` seeds."""

    steps: float
    seeds: int


WHOLE = (Rung(1.0, SEEDS),)
HALVING = (Rung(0.25, 1), Rung(0.5, 1), *WHOLE)
"""After each rung but the last, the better half of a method's trials go on."""


def search(
    experiment: Experiment,
    task: str,
    trials: int,
    *,
    quick: bool = False,
    data: str | None = None,
    stream: int = 0,
    halving: bool = False,
    **running: Any,
) -> dict[str, Any]:
    """Search with the same number of trials for every method, on the validation split.

    A trial is scored by its validation error (or perplexity), and by its loss where those are
    equal, averaged over the seeds. A method that starts from another one's network starts from the
    best of its trials, and is searched after it. The report holds

    - "chosen": the best point of each method, as hyperparameters;
    - "trials": every trial of each method, with its scores and, with `halving`, those of each of
      the "rungs" that it reached; one that did not reach the last has no score of its own;
    - "at_first": the number of trials, before ranges grew;
    - "space": the ranges at first; "extended": those that grew, as they were in the end; "at_edge":
      the coordinates in which even then nothing was tried beyond the best on one side;
    - what all that was made with.

    running: arguments of `run_cells`; with its `out`, what is finished is not run again.

    Raises:
        ValueError: the experiment has no method to search, or all trials of one failed.
    """
    setting, rungs = experiments.settings(experiment, quick)[task], HALVING if halving else WHOLE
    whole = _Search(experiment, task, data, stream, rungs, setting, running)
    for methods in stages(experiment):
        whole.stage(methods, trials)
    own = whole.methods
    ends = {name: {k: v for k, v in m.space.items() if v != m.first[k]} for name, m in own.items()}
    return {
        "chosen": {name: whole.hyperparameters(m.best()) for name, m in own.items()},
        "scheme": SCHEME,
        "stream": stream,
        "at_first": trials,
        **({"halving": [rung._asdict() for rung in rungs]} if halving else {}),
        "at_edge": {name: m.at_edge() for name, m in own.items()},
        "space": {name: m.first for name, m in own.items()},
        "extended": {name: grown for name, grown in ends.items() if grown},
        "seeds": whole.seeds,
        "task": experiment.tasks[task].title,
        "setting": setting,
        **experiment.tasks[task].about(data),
        "environment": provenance.environment(),
        "runs": provenance.grouped(whole.made),
        "trials": {name: [whole.logged(t) for t in m.trials] for name, m in own.items()},
    }


def stages(experiment: Experiment) -> list[list[str]]:
    """The methods that are searched: full precision, those that start from it, and so on.

    Raises:
        ValueError: there is none but full precision, as where all are as published.
    """
    left = {name: m.start for name, m in experiment.methods.items() if m.is_searched}
    found, done = [[FULL_PRECISION]], {FULL_PRECISION}
    while stage := [name for name, start in left.items() if start in done and name not in done]:
        found.append(stage)
        done |= {*stage}
    if len(found) == 1:
        raise ValueError(
            f"experiment must have a method to search, got {experiment.stem}, where all are fixed"
        )
    return found


@dataclass
class _Trial:
    """A point of a method, its score on each rung that it reached, and its runs on the last."""

    method: str
    number: int
    point: Mapping[str, float]
    scores: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[int, Any] = field(default_factory=dict)

    def order(self, rung: int) -> list[float]:
        """By which trials are compared after a rung: the mean measure, then the mean loss."""
        score = self.scores[rung] if rung < len(self.scores) else {"failed": "not reached"}
        return [math.inf] if "failed" in score else [*score.values()]


@dataclass
class _Method:
    """The trials of a method, in a space that grows."""

    name: str
    first: dict[str, tuple[float, float]]
    halton: Any
    rungs: int
    trials: list[_Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.space = dict(self.first)

    def draw(self, n: int, tried: Mapping[str, tuple[float, float]]) -> list[_Trial]:
        """The next n points of the space, even in their logarithms, without those in `tried`."""
        if not self.space:  # nothing to choose: one trial, from which others start
            self.trials = [_Trial(self.name, 0, {})]
            return self.trials
        low, high = np.log(np.array([*self.space.values()]).T)
        drawn: list[_Trial] = []
        while len(drawn) < n:
            x = np.exp(low + (high - low) * self.halton.random(1)[0])
            point = {
                key: float(np.clip(rounded(value), *self.space[key]))
                for key, value in zip(self.space, x, strict=True)
            }
            if not tried or any(not a <= point[key] <= b for key, (a, b) in tried.items()):
                drawn.append(_Trial(self.name, len(self.trials) + len(drawn), point))
        self.trials += drawn
        return drawn

    def best(self) -> _Trial:
        return min(self.trials, key=lambda t: t.order(self.rungs - 1))

    def at_edge(self) -> dict[str, str]:
        """The coordinates in which the best trial is the "lowest" or the "highest" of all."""
        found = {}
        for name, value in self.best().point.items():
            tried = sorted(t.point[name] for t in self.trials)
            if tried[0] < tried[-1] and value in (tried[0], tried[-1]):
                found[name] = "lowest" if value == tried[0] else "highest"
        return found

    def grow(self) -> dict[str, tuple[float, float]]:
        """Extend the space where the best trial is at an edge; the space before, {} if none is."""
        before = dict(self.space)
        for name, end in self.at_edge().items():
            low, high = self.space[name]
            lower = (rounded(low / FACTOR), high)
            self.space[name] = lower if end == "lowest" else (low, rounded(high * FACTOR))
        return {} if self.space == before else before


@dataclass
class _Search:
    """One call of `search`."""

    experiment: Experiment
    task: str
    data: str | None
    stream: int
    rungs: Sequence[Rung]
    setting: Mapping[str, Any]
    running: Mapping[str, Any]
    methods: dict[str, _Method] = field(default_factory=dict)
    made: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = FIRST_SEED + SEEDS * self.stream
        self.seeds = list(range(first, first + SEEDS))

    def stage(self, names: Iterable[str], trials: int) -> None:
        """Search these methods, and extend their ranges together."""
        stage = [self.methods.setdefault(name, self.method(name)) for name in names]
        self.run([t for m in stage for t in m.draw(trials, {})])
        for _ in range(EXTENSIONS):
            grown = {m.name: m.grow() for m in stage}
            if not any(grown.values()):
                break
            more = math.ceil(trials / 4)
            self.run([t for m in stage for t in m.draw(more, grown[m.name])])
        for m in stage:
            if m.best().order(m.rungs - 1) == [math.inf]:
                last = self.logged(m.trials[-1])
                raise ValueError(f"every trial of {m.name} failed, the last one: {last}")

    def method(self, name: str) -> _Method:
        from scipy.stats import qmc  # here: it is slow to import

        fixed = name == FULL_PRECISION and self.experiment.tasks[self.task].warm_start.lr
        space = {} if fixed else dict(self.experiment.space(name))
        seed = [self.stream, *f"{self.experiment.name} {self.task} {name}".encode()]
        halton = qmc.Halton(max(1, len(space)), rng=np.random.default_rng(seed))
        return _Method(name, space, halton, len(self.rungs))

    def run(self, trials: list[_Trial]) -> None:
        """Score these trials, rung by rung."""
        for k, rung in enumerate(self.rungs):
            if k:
                trials = _better_half(trials, k - 1)
            seeds = self.seeds[: rung.seeds]
            cells = {
                self.name(t, k, seed): self.cell(t, rung.steps, seed)
                for t in trials
                for seed in seeds
            }
            function = functools.partial(trial, self.experiment, self.data)
            results = run_cells(
                function, cells, resumable=True, description=self.task, **self.running
            )
            self.made += results.made.values()
            for t in trials:
                t.runs = {seed: results[self.name(t, k, seed)] for seed in seeds}
                t.scores.append(self.score([*t.runs.values()]))

    def name(self, t: _Trial, rung: int, seed: int) -> str:
        """Of a cell. The whole trials have the same names with halving and without."""
        stream = f"-stream{self.stream}" if self.stream else ""
        part = "" if rung == len(self.rungs) - 1 else f"-rung{rung}"
        return f"{self.task}-{t.method}{stream}-{t.number}{part}-seed{seed}"

    def cell(self, t: _Trial, part: float, seed: int) -> dict[str, Any]:
        """The arguments of a run for a part of the steps."""
        setting = {
            key: max(min(1, value), round(part * value)) if key.endswith("_steps") else value
            for key, value in self.setting.items()
        }
        h = self.hyperparameters(t, setting["quantizing_steps"])
        cell = self.experiment.arguments(self.task, t.method, seed, setting, h, self.data)
        if t.method != FULL_PRECISION:
            start = self.methods[self.experiment.methods[t.method].start].best()
            cell["start"] = start.runs[seed]["weights"]
        return cell

    def hyperparameters(self, t: _Trial, steps: int | None = None) -> dict[str, float]:
        if not t.point:
            return self.experiment.hyperparameters(self.task, t.method)
        if t.method == FULL_PRECISION:
            return dict(t.point)
        steps = self.setting["quantizing_steps"] if steps is None else steps
        return self.experiment.methods[t.method].hyperparameters(t.point, steps)

    def score(self, runs: list[Mapping[str, Any]]) -> dict[str, Any]:
        """The means over the runs, or the reason why one failed."""
        for run in runs:
            if "failed" in run:
                return {"failed": run["failed"]}
        scored = f"validation_{self.experiment.tasks[self.task].measure}", "validation_loss"
        return {name: round(float(np.mean([run[name] for run in runs])), 6) for name in scored}

    def logged(self, t: _Trial) -> dict[str, Any]:
        """A trial as the report has it."""
        last = t.scores[-1] if len(t.scores) == len(self.rungs) else {}
        rungs = {"rungs": t.scores} if len(self.rungs) > 1 else {}
        return {**t.point, **self.hyperparameters(t), **last, **rungs}


def _better_half(trials: list[_Trial], rung: int) -> list[_Trial]:
    """Of each method, the half of its trials (rounded up) that scored better on this rung."""
    of_method: dict[str, list[_Trial]] = {}
    for t in sorted(trials, key=lambda t: t.order(rung)):
        of_method.setdefault(t.method, []).append(t)
    kept = {id(t) for own in of_method.values() for t in own[: math.ceil(len(own) / 2)]}
    return [t for t in trials if id(t) in kept]


def write_search(
    experiment: Experiment, task: str, trials: int, path: Path, **options: Any
) -> Path:
    """Search, and write the report to `path`, which is returned.

    Raises:
        ValueError: as `search`.
        FileExistsError: the file holds a search on other data, with another setting or stream, of
            more methods or trials.
        OSError: the file cannot be written. All are raised before the search begins.
    """
    methods = [name for stage in stages(experiment) for name in stage]
    lost = [*_lost(experiment, task, trials, path, methods, **options)]
    if lost:
        raise FileExistsError(f"{path} holds {lost[0]}, and is kept: choose another --out")
    with written_whole(path) as file:  # opened first, so as not to fail at the end
        report = search(experiment, task, trials, **options)
        file.write(json_text(report, path).encode())
    return path


def _lost(
    experiment: Experiment,
    task: str,
    trials: int,
    path: Path,
    methods: list[str],
    *,
    quick: bool = False,
    data: str | None = None,
    stream: int = 0,
    **rest: Any,
) -> Iterator[str]:
    """In words, what the report in a file has that a search like this would lose."""
    try:
        held = read_json(read_whole(path))
        of, setting = held["trials"], held["setting"]
        # Before "at_first" was noted, ranges seldom grew; a method with no range has one trial.
        n = held.get("at_first") or min((len(t) for t in of.values() if len(t) > 1), default=1)
        if not same_data(held, experiment.tasks[task].about(data)):
            names = [held[kind].get("name", "?") for kind in ("text", "images") if kind in held]
            yield f"a search on other data ({', '.join(names)})"
        if not same_steps(setting, experiments.settings(experiment, quick)[task]):
            yield "a search on another setting"
        if held.get("stream", stream) != stream:
            yield f"a search of stream {held['stream']}"
        if more := [name for name in of if name not in methods]:
            yield f"a search that has {', '.join(more)}, too"
        if n > trials:
            yield f"a search of {n} trials per method, more than {trials}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # there is no search yet, or none that is whole


def trial(experiment: Experiment, path: str | None = None, /, **arguments: Any) -> dict[str, Any]:
    """A cell of a search: as `experiments.train`, but divergence is a result, too."""
    try:
        return experiments.train(experiment, path, **arguments)
    except (FloatingPointError, ValueError) as error:
        return {"failed": str(error)}
