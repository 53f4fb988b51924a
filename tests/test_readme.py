"""The README says what is so: its example runs, its links exist, its table is the measured one."""

import json
import re
from pathlib import Path

from proxquant_np.experiments import binary_digits

ROOT = Path(__file__).parents[1]
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
    summary = json.loads((ROOT / "figures" / "summary.json").read_text("utf-8"))
    assert binary_digits.table(summary) in README
