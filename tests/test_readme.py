"""The README says what is so: its example runs, its links exist, its table is the measured one."""

import re
from pathlib import Path

from proxquant_np.experiments.binary_digits import EXPERIMENT
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
