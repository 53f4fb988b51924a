"""The attack on the ledger's verdicts: by hand, and on the committed records."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from proxquant_np import cli
from proxquant_np.experiments.attack import attack, read
from proxquant_np.experiments.catalog import experiment_named
from proxquant_np.experiments.records import read_records
from proxquant_np.experiments.statistics import (
    CONTRADICTED,
    EQUAL,
    SUPPORTED,
    Equality,
    compare,
    corrected,
)
from proxquant_np.experiments.verdicts import Rules, verdicts

RECORDS = Path(__file__).parents[1] / "figures" / "records"
PAIR = "prox_quant", "binary_connect"
D = np.array([-0.02, -0.01, -0.03, -0.012, -0.025, -0.018, 0.004, 0.002])  # p 0.012 and 0.29


def record(difference=D, name="binary_digits", task="mlp", measure="test_error", **more):
    base = np.linspace(0.04, 0.05, len(difference))
    values = (base + difference).tolist(), base.tolist()
    methods = {name: {measure: own} for name, own in zip(PAIR, values, strict=True)}
    setting = dict(full_precision_steps=2, quantizing_steps=6, fine_tuning_steps=1, batch_size=3)
    tasks = {task: {"title": "MLP", "setting": setting, "methods": methods, "hyperparameters": {}}}
    return dict(experiment=name, quick=False, seeds=len(difference), tasks=tasks, **more)


def write(path, planted):
    path.write_text(json.dumps(planted))
    return str(path)


def run(*arguments, capsys):
    alone = [] if "--records" in arguments else ["--records", "nowhere"]  # not the committed ones
    assert cli.main(["claims", "--against", *arguments, *alone]) == 0
    return capsys.readouterr().out


def test_what_does_not_change_is_not_printed(tmp_path, capsys):
    file = write(tmp_path / "mine.json", record())
    said = "0 of 1 verdicts change with the rules of the ledger.\n"
    assert run(file, capsys=capsys) == said
    shown = run(file, "--all", capsys=capsys)
    assert shown.endswith(said)
    ledger, against = shown.splitlines()[1:3]
    assert ledger.removeprefix("  ledger ") == against.removeprefix("  against")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]  # nothing is written


@pytest.mark.parametrize(
    ("arguments", "verdict", "p", "words"),
    [
        (["--test", "sign"], "inconclusive at this scale", 2 * 37 / 256, "the test sign"),
        (["--seeds", "5-7"], "too few pairs for a verdict", None, "the seeds 5, 6, 7"),
        (["--seeds", "0,2,5-7"], "inconclusive at this scale", None, "the seeds 0, 2, 5, 6, 7"),
        (
            ["--seeds", "0,2,5-7", "--margin", "3"],
            EQUAL,
            None,
            "the margin 3, the seeds 0, 2, 5, 6, 7",
        ),
    ],
)
def test_what_changes_is(arguments, verdict, p, words, tmp_path, capsys):
    file = write(tmp_path / "mine.json", record())
    claim, old, new, _, last = run(file, *arguments, capsys=capsys).splitlines()
    assert claim == "mine, mlp: \"ProxQuant's binary weights err less than BinaryConnect's\""
    assert old.startswith("  ledger   supported ") and new.startswith(f"  against  {verdict} ")
    assert old.endswith(", p 0.014, 8 seeds") or ", p 0.01" in old
    assert p is None or f", p {p:.2g}" in new
    assert last == f"1 of 1 verdicts changes with {words}."


def test_margins_are_in_the_unit_of_the_ledger():
    """Points of error; a perplexity's own unit; percent are of the rival."""
    claim = experiment_named("binary_digits").claims[0]
    task = record()["tasks"]["mlp"]
    ours, rival = (task["methods"][name]["test_error"] for name in PAIR)
    found = Rules(equal=Equality(3.0, "")).compare(claim, task)
    assert found == compare(ours, rival, margin=0.03)
    found = Rules(equal=Equality(0.5, "", relative=True)).compare(claim, task)
    assert found == compare(ours, rival, margin=0.5 * np.array(rival))
    of_text = dataclasses.replace(claim, measure="test_perplexity")
    task = record(measure="test_perplexity")["tasks"]["mlp"]
    found = Rules(equal=Equality(3.0, "")).compare(of_text, task)
    assert found == compare(ours, rival, margin=3.0)


def test_claims_of_being_on_par_allow_the_margin():
    on_par = next(claim for claim in experiment_named("language_model").claims if claim.margin)
    claim = dataclasses.replace(on_par, first=PAIR[0], second=PAIR[1])
    task = record(-D, measure="test_perplexity")["tasks"]["mlp"]
    methods = task["methods"]
    ours, rival = (np.array(methods[name]["test_perplexity"]) for name in PAIR)
    assert claim.compare(methods) == compare(ours, rival * 1.02)
    by = Rules(equal=Equality(0.5, "", relative=True))
    assert by.compare(claim, task) == compare(ours, rival * 1.5)
    assert Rules(equal=Equality(3.0, "")).compare(claim, task) == compare(ours, rival + 3)


def test_splits_that_overlap(tmp_path, capsys):
    """--test resampled widens what was split by seed, and leaves what was not."""
    fixed, by_seed = record(), record()
    task = by_seed["tasks"]["mlp"]
    task["setting"]["split"] = "by seed"
    task["sizes"] = {"train": 6, "validation": 2, "test": 2}
    for planted, changes in ((fixed, 0), (by_seed, 1)):
        file = write(tmp_path / "mine.json", planted)
        said = run(file, "--test", "resampled", capsys=capsys)
        assert said.splitlines()[-1].startswith(f"{changes} of 1 verdicts change")
        assert said.endswith("with the test resampled (where each seed draws its own split).\n")
    ours, rival = (task["methods"][name]["test_error"] for name in PAIR)
    (claim, _) = experiment_named("binary_digits").claims
    found = Rules(test="resampled").compare(claim, task)
    assert found == compare(ours, rival, overlap=1 / 3, margin=claim.equal.margin)
    assert found.std == pytest.approx(np.std(D, ddof=1) * np.sqrt(1 + 8 / 3))


def test_corrections_are_over_an_experiment_or_over_all():
    """The same pairs in two experiments are one comparison."""
    more = {"a": record(), "b": record(-D, task="cnn"), "methods": record(name="methods")}
    plain = [v.found for v in verdicts(more) if v.found is not None]
    assert len(plain) == 3 and plain[0] == plain[2]
    by_experiment = verdicts(more, Rules(correction="experiment"))
    found = [v.found for v in by_experiment if v.found is not None]
    assert found == [*corrected(plain[:2]), plain[2]]
    found = [v.found for v in verdicts(more, Rules(correction="all")) if v.found is not None]
    assert found == [*corrected(plain[:2]), corrected(plain[:2])[0]]


def test_records_that_have_no_verdict(tmp_path, capsys):
    quick = write(tmp_path / "quick.json", {**record(), "quick": True})
    theorems = {"experiment": "theorems", "quick": False, "theorems": {}}
    theorems = write(tmp_path / "theorems.json", theorems)
    file = write(tmp_path / "mine.json", record())
    for arguments, says in (
        ([quick], "quick.json is a record of --quick, which has no verdict"),
        ([theorems], "theorems.json is a record of theorems, which has no verdict"),
        ([file, file], "the record mine must be given once, got two"),
        ([file, "--seeds", "3-8"], "seeds must be in 0..7, which mine has, got 8"),
    ):
        assert cli.main(["claims", "--against", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line


def test_the_ledgers_verdict_is_that_beside_all_its_records(tmp_path, capsys):
    """What the ledger says depends on something, an attack on one record does not say holds."""
    folder = tmp_path / "records"
    folder.mkdir()
    file = write(folder / "binary_digits-record.json", record())
    write(folder / "binary_digits-stream1-record.json", record(-D, stream=1))
    write(folder / "theorems.json", {"experiment": "theorems", "quick": False, "theorems": {}})
    shown = run(file, "--records", str(folder), "--all", capsys=capsys).splitlines()
    assert shown[1].startswith("  ledger   depends on the search  -1.36 percentage")
    shown = run(file, "--records", str(tmp_path / "none"), "--all", capsys=capsys).splitlines()
    assert shown[1].startswith("  ledger   supported ")


def test_records_with_fewer_seeds_are_left_out(tmp_path, capsys):
    """Seeds that count are those of the records that have them, and it is said which do not."""
    folder = tmp_path / "records"
    folder.mkdir()
    write(folder / "binary_digits-record.json", record())
    write(folder / "methods-record.json", record(D[:5], name="methods"))
    *_, n, left = run("--records", str(folder), "--seeds", "3-7", capsys=capsys).splitlines()
    assert n == "1 of 1 verdicts changes with the seeds 3, 4, 5, 6, 7."
    assert left == "Left out, for they have fewer seeds: methods."


@pytest.mark.parametrize(("n", "must"), [(5, True), (6, False)])
@pytest.mark.parametrize("test", ["sign", "sign-flip", "wilcoxon"])
def test_a_test_that_cannot_decide_is_said_to_be_one(test, n, must, tmp_path, capsys):
    file = write(tmp_path / "mine.json", record(np.linspace(-0.03, -0.02, n)))
    said = run(file, "--test", test, capsys=capsys).splitlines()[-1]
    told = "Of these 1 must: so few pairs are never significant by that test."
    assert said == told if must else said.startswith("0 of 1 verdicts change with ")


def planted(change):
    made = record()
    change(made, made["tasks"]["mlp"], made["tasks"]["mlp"]["methods"])
    return made


def _by_seed(task, **sizes):
    task["setting"]["split"] = "by seed"
    task["sizes"] = sizes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r, t, m: t.pop("methods"), "it has no 'methods'"),
        (lambda r, t, m: t.pop("setting"), "it has no 'setting'"),
        (lambda r, t, m: t["setting"].pop("quantizing_steps"), "it has no 'quantizing_steps'"),
        (lambda r, t, m: _by_seed(t, train=6), "it has no 'test'"),
        (lambda r, t, m: _by_seed(t, train=6, test=0), "sizes of test must be an integer >= 1"),
        (lambda r, t, m: t.update(methods=[]), "mlp: methods must be an object, got []"),
        (lambda r, t, m: m.update(prox_quant=3), "mlp: prox_quant must be an object, got 3"),
        (
            lambda r, t, m: m["prox_quant"].update(test_error=0.1),
            "mlp: prox_quant: test_error must be a list, got 0.1",
        ),
        (
            lambda r, t, m: m["prox_quant"]["test_error"].pop(),
            "test_error must have a value for each of 8 seeds, got 7",
        ),
        (lambda r, t, m: r.update(seeds=9), "a value for each of 9 seeds, got 8"),
        (
            lambda r, t, m: m["prox_quant"].update(test_error=[None] + [0.1] * 7),
            "test_error must be a number >= 0 and <= 1, got None",
        ),
        (lambda r, t, m: m["prox_quant"].update(test_error=[True] * 8), "<= 1, got True"),
        (lambda r, t, m: m["prox_quant"].update(test_error=["0"] * 8), "<= 1, got '0'"),
        (lambda r, t, m: m["prox_quant"].update(test_error=[3.9] * 8), "<= 1, got 3.9"),
        (lambda r, t, m: m["prox_quant"].update(sign_change=[-5.0] * 8), "<= 1, got -5.0"),
        (lambda r, t, m: r["tasks"].update(foo=t), "a task must be one of 'mlp', 'cnn', "),
        (lambda r, t, m: r.update(stream="x"), "stream must be an integer >= 0, got 'x'"),
        (lambda r, t, m: r.update(family="x"), "family must be one of 'searched', 'published'"),
        (
            lambda r, t, m: m["prox_quant"].update(seconds=[1.5, 2, 3, 4, 5, 6, 1.5, 7]),
            "mlp: seeds 0 and 6 must be two runs, got one twice",
        ),
    ],
)
def test_what_cannot_have_been_measured(change, says, tmp_path, capsys):
    file = write(tmp_path / "mine.json", planted(change))
    assert cli.main(["claims", "--against", file]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine.json is not a whole record: " in line and says in line


def test_a_record_of_no_claim(tmp_path, capsys):
    file = write(tmp_path / "mine.json", planted(lambda r, t, m: m.pop("binary_connect")))
    assert cli.main(["claims", "--against", file]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("mine must measure two methods of a claim, got none")


@pytest.mark.skipif(not RECORDS.exists(), reason="not part of the package")
def test_the_committed_records(capsys):
    """Holm over all takes verdicts, and gives none that decides more."""
    records = read([RECORDS])
    assert "theorems" in read_records(RECORDS) and "theorems" not in records
    assert attack(records, Rules()).startswith("0 of ")
    *_, last = run("--records", str(RECORDS), "--correction", "all", capsys=capsys).splitlines()
    changed = [
        (old.text, new.text)
        for old, new in zip(
            verdicts(records), verdicts(records, Rules(correction="all")), strict=True
        )
        if old.text != new.text
    ]
    n = len([v for v in verdicts(records) if v.found is not None])
    assert changed and last.startswith(f"{len(changed)} of {n} verdicts change with Holm")
    assert not {new for _, new in changed} & {SUPPORTED, CONTRADICTED}
