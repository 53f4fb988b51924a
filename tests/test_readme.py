"""The README says what is so: its example runs, its links exist, its table is the measured one."""

import json
import re
from pathlib import Path

import numpy as np

from proxquant_np.experiments.binary_digits import EXPERIMENT
from proxquant_np.experiments.families import MEAN_LAMBDA
from proxquant_np.experiments.statistics import compare
from proxquant_np.experiments.summary import read_summary, table

ROOT = Path(__file__).parents[1]
STALE = "\nSome were made by other code than this: --rerun stale runs them again."
README = (ROOT / "README.md").read_text("utf-8")


def test_the_example_runs(capsys, monkeypatch, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in example.splitlines() if line]) == 10
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    error = float(re.search(r"error=(\d\.\d+)", capsys.readouterr().out).group(1))
    assert error < 0.2


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    missing = [x for x in links if not x.startswith("http") and not (ROOT / x).exists()]
    assert not missing


def test_the_table_is_the_committed_measurement():
    shown = table(EXPERIMENT, read_summary(ROOT / "figures" / "summary.json"))
    assert shown.removesuffix(STALE) in README


PAIRS = {
    "each at the rate its search chose": "as searched",
    "both at ProxQuant's rate": "at ProxQuant's rate",
    "both at BinaryConnect's rate (sum of ProxQuant's strengths kept)": "at BinaryConnect's rate, "
    "the sum of strengths kept",
    "as searched, BinaryConnect's rate falling": "as searched, the rival's rate falling",
    "as published (sum of strengths kept)": "as published, the sum of strengths kept",
}


def test_the_curve_is_that_of_the_ledger():
    """Its numbers, and in bold the differences that stand after Holm's correction."""
    ledger = (ROOT / "CLAIMS.md").read_text("utf-8")
    section = ledger.partition("## The budget: ")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| ProxQuant .*? than BinaryConnect, (.*?) \| (.*) \| ours \|$", section, re.M
    )
    cells = {pair: row.split(" | ") for pair, row in rows if row.count(" | ") == 5}  # the MLP's
    for label, pair in PAIRS.items():
        expected = []
        for cell in cells[pair]:
            bold, number, verdict = re.match(r"(\**)([-+.\d]+) ([^*\[]*)", cell).groups()
            stands = bold and verdict != "equal within m"
            expected.append(f"**{number}**" if stands else number)
        assert f"| {label} | {' | '.join(expected)} |" in README.splitlines()
    words = {"as searched": "as searched", "at": "at equal rates", "as published": "as published"}
    sizes = {
        said: sum(row.count(" | ") + 1 for pair, row in rows if pair.startswith(first))
        for first, said in words.items()
    }
    assert f"below: {', '.join(f'{n} {said}' for said, n in sizes.items())}." in README


def recorded(name, task):
    path = ROOT / "figures" / "records" / f"{name}-record.json"
    return json.loads(path.read_text("utf-8"))["tasks"][task]


def test_what_is_said_of_ten_seeds_is_what_their_records_hold():
    (said,) = re.findall(r"^These are the first three of ten seeds.*?(?=\n\n)", README, re.M | re.S)
    found = []
    for name in ("haswell", "by-seed", "published"):
        methods = recorded(f"binary_digits-{name}", "mlp")["methods"]
        eager, lazy = (methods[m]["test_error"] for m in ("prox_quant", "binary_connect"))
        pairs = compare(100 * np.array(eager), 100 * np.array(lazy))
        assert pairs.n == 10
        found.append(tuple(f"{x:.2f}" for x in (pairs.mean, pairs.low, pairs.high)))
    assert re.findall(r"([\d.]+) (?:points )?more, \[([-\d.]+), ([\d.]+)\]", said) == found
    methods = recorded("binary_digits-by-seed", "mlp")["methods"]
    of_three = [
        f"{100 * np.mean(methods[m]['test_error'][:3]):.2f}"
        for m in ("binary_connect", "prox_quant")
    ]
    assert f"{of_three[0]} % for BinaryConnect and {of_three[1]} % for ProxQuant" in README
    searches = [recorded(f"binary_digits-stream{i}", "mlp")["methods"] for i in range(3)]
    spans = []
    for method in ("binary_connect", "prox_quant"):
        signs = [100 * np.mean(methods[method]["sign_change"]) for methods in searches]
        spans.append((f"{min(signs):.0f}", f"{max(signs):.0f}"))
    assert re.findall(r"(\d+) to (\d+) %", said) == spans


WEIGHTS = {
    "levels -1 and +1 (the paper's)": ("prox_quant_pm1", "binary_connect_pm1"),
    "one fitted scale for each matrix": ("prox_quant_1", "binary_connect"),
    "2 bits by rows, rival times 0.3 (the paper's)": (
        "prox_quant_2_rows",
        "straight_through_2_rescaled",
    ),
    "3 bits by rows, rival times 0.3 (the paper's)": (
        "prox_quant_3_rows",
        "straight_through_3_rescaled",
    ),
    "2 bits by rows": ("prox_quant_2_rows", "straight_through_2_rows"),
    "3 bits by rows": ("prox_quant_3_rows", "straight_through_3_rows"),
}


def test_the_perplexities_are_those_of_the_records():
    names = sorted((ROOT / "figures" / "records").glob("language_model-stream*-record.json"))
    searches = [recorded(path.stem.removesuffix("-record"), "lstm64")["methods"] for path in names]
    for weights, pair in WEIGHTS.items():
        means = ([np.mean(found[m]["test_perplexity"]) for m in pair] for found in searches)
        cells = " | ".join(f"{eager:.2f}, {lazy:.2f}" for eager, lazy in means)
        assert f"| {weights} | {cells} |" in README.splitlines()


def test_what_is_said_of_the_resnet_as_published_is_what_its_record_holds():
    (said,) = re.findall(r"^As published, in six epochs.*?(?=\n\n)", README, re.M | re.S)
    methods = recorded("resnet_cifar10-published", "resnet8")["methods"]
    ours = ("prox_quant", "prox_quant_ternary")
    for first, second in zip(ours, ("binary_connect", "straight_through_ternary"), strict=True):
        errors = (100 * np.array(methods[m]["test_error"]) for m in (second, first))
        found = compare(*errors)
        assert f"{found.mean:.1f} " in said and f"[{found.low:.1f}, {found.high:.1f}]" in said
    means = {m: np.mean(methods[m]["test_error"]) for m in ("trained_ternary", ours[1])}
    assert f"and {100 * (means['trained_ternary'] - means[ours[1]]):.0f} less" in said
    signs = [np.mean(methods[m]["sign_change"]) for m in ("prox_quant", "binary_connect")]
    assert f"{100 * (signs[0] - signs[1]):.0f} points *more*" in said
    gaps = [np.mean(methods[m]["gap"]) for m in ("prox_quant", "full_precision")]
    assert f"{100 * gaps[0] / gaps[1]:.0f} % of the binary" in said


def test_the_factor_of_lambda_is_that_of_the_record():
    task = recorded("resnet_cifar10", "resnet8")
    used, steps = task["hyperparameters"]["prox_quant"], task["setting"]["quantizing_steps"]
    factor = used["reach"] / (used["lr"] * steps) / MEAN_LAMBDA
    for page in ("README.md", "docs/old_and_new_verdicts.md"):
        text = (ROOT / page).read_text("utf-8")
        assert re.findall(r"(\d+) times the published", text) == [f"{factor:.0f}"]
