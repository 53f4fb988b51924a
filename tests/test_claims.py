"""CLAIMS.md is what the committed records say, and says what records say."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import nct, t

from proxquant_np import cli
from proxquant_np.experiments.claims import NOT_YET, ledger
from proxquant_np.experiments.statistics import compare, detectable

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "figures").exists(), reason="not part of the package")
def test_committed_ledger_is_the_generated_one():
    assert (ROOT / "CLAIMS.md").read_text("utf-8") == ledger(ROOT / "figures" / "records")


def record(quick=False, better=0.01):
    base = 0.03 + np.random.default_rng(0).normal(0, 1e-3, 10)
    other = base + better + np.random.default_rng(1).normal(0, 1e-3, 10)
    changed = {"sign_change": [0.2] * 10}
    methods = {
        "prox_quant": {"test_error": base.tolist(), **changed},
        "binary_connect": {"test_error": other.tolist(), **changed},
    }
    task = {"title": "MLP", "setting": {"quantizing_steps": 6000}, "methods": methods}
    return {"quick": quick, "seeds": 10, "tasks": {"mlp": task}}


@pytest.mark.parametrize(
    ("better", "verdict"),
    [(0.01, "supported"), (-0.01, "contradicted"), (0.0, "inconclusive at this scale")],
)
def test_verdicts_follow_the_record(better, verdict, tmp_path, capsys):
    (tmp_path / "binary_digits.json").write_text(json.dumps(record(better=better)))
    out = tmp_path / "CLAIMS.md"
    assert cli.main(["claims", "--records", str(tmp_path), "--out", str(out)]) == 0
    rows = [line for line in out.read_text("utf-8").splitlines() if "err less than" in line]
    assert f"**{verdict}**" in rows[0] and "| 10 |" in rows[0]
    assert NOT_YET in rows[1]  # the CNN is not in this record
    capsys.readouterr()


def test_quick_runs_and_absent_records_prove_nothing(tmp_path):
    nothing = ledger(tmp_path)
    (tmp_path / "binary_digits.json").write_text(json.dumps(record(quick=True)))
    assert ledger(tmp_path) == nothing
    assert "**" not in nothing and NOT_YET in nothing


@pytest.mark.parametrize("n", [5, 10, 30])
def test_what_is_detectable_is_found_four_times_in_five(n):
    d = np.random.default_rng(n).normal(0, 2, n)
    found = compare(d, np.zeros(n))
    shift = detectable(found) / found.std * np.sqrt(n)
    power = nct.sf(t.ppf(0.975, n - 1), n - 1, shift)
    assert power == pytest.approx(0.8, abs=0.03)
    assert detectable(compare([1.0], [2.0])) == np.inf
