"""The teacher's kit: quiz answers run, slides show present figures and formulas, plans add up."""

import doctest
import json
import re
import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/teaching"

pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="docs/ is part of the repository, not of the package"
)


def displayed(text):
    return re.findall(r"^\$\$(.*?)\$\$", text, re.MULTILINE | re.DOTALL)


def test_every_question_has_an_answer_that_holds():
    text = (FOLDER / "quiz.md").read_text("utf-8")
    questions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(questions) == 12
    assert all(
        q.count("<details>") == q.count("</details>") == 1 and ">>> " in q for q in questions
    )
    result = doctest.testfile(str(FOLDER / "quiz.md"), module_relative=False, encoding="utf-8")
    assert result.failed == 0 and result.attempted > 30


def test_formulas_on_slides_are_those_of_the_notebooks():
    cells = [
        cell
        for path in ROOT.glob("notebooks/*.ipynb")
        for cell in json.loads(path.read_text("utf-8"))["cells"]
    ]
    taught = {f for cell in cells for f in displayed("".join(cell["source"]))}
    shown = displayed((FOLDER / "slides.md").read_text("utf-8"))
    assert len(shown) > 6 and not [formula for formula in shown if formula not in taught]


def test_figures_on_slides_are_drawn_by_the_package():
    figures = re.findall(
        r"\]\(../../(figures/[\w-]+)\.png\)", (FOLDER / "slides.md").read_text("utf-8")
    )
    assert len(figures) > 8
    assert all((ROOT / f"{name}.json").is_file() for name in figures)  # the numbers it shows


def test_minutes_of_the_short_plan():
    plan = (FOLDER / "plans.md").read_text("utf-8").split("## 20 minutes")[1].split("## ")[0]
    assert sum(map(int, re.findall(r"^\| (\d+) \|", plan, re.MULTILINE))) == 20
    titles = re.findall(r"^## (.+)", (FOLDER / "slides.md").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r'"([^"]+)"', plan)
    assert named and set(named) <= set(titles)


def test_pages_are_printed(tmp_path):
    pytest.importorskip("playwright", reason="playwright, of the extra browser, is not installed")
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("there is no Chromium on the path")
    page = tmp_path / "docs/teaching/slides.html"
    page.parent.mkdir(parents=True)
    page.write_text(
        "<script>MathJax = {startup: {promise: Promise.resolve()}}</script><p>x", "utf-8"
    )
    print_slides = runpy.run_path(str(FOLDER / "pdf.py"))["print_slides"]
    assert [path.read_bytes()[:5] for path in print_slides(tmp_path)] == [b"%PDF-"] * 2
    with pytest.raises(SystemExit, match="build the site first"):
        print_slides(tmp_path / "elsewhere")
