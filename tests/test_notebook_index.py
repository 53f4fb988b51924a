"""notebooks/README.md lists every notebook, and its minutes are those of the exercises."""

import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
INDEX = (FOLDER / "README.md").read_text("utf-8")
LINK = r"\]\(([^)#]+)\)"


def section(title):
    """Of the index, the part under this heading."""
    (part,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", INDEX, re.DOTALL | re.MULTILINE)
    return part


def timed(text):
    """(minutes, link) of the rows of a timetable."""
    return [
        (int(m), link) for m, link in re.findall(rf"^\| (\d+) \| .*?{LINK}", text, re.MULTILINE)
    ]


def test_every_notebook_is_listed():
    lessons = {path.name for path in FOLDER.glob("*.ipynb")}
    exercises = {f"exercises/{path.name}" for path in (FOLDER / "exercises").glob("*.ipynb")}
    assert lessons <= set(re.findall(LINK, section("What each one teaches")))
    assert lessons | exercises <= {link for _, link in timed(section("A weekend alone"))}


def test_links_lead_somewhere():
    links = re.findall(LINK, INDEX)
    assert links and all((FOLDER / link).exists() for link in links)


def test_the_lecture_takes_90_minutes():
    assert sum(minutes for minutes, _ in timed(section("A lecture of 90 minutes"))) == 90


def test_the_hours_of_the_weekend():
    days = re.split("Sunday|Monday", section("A weekend alone"))
    hours = [sum(minutes for minutes, _ in timed(day)) / 60 for day in days]
    assert [round(2 * h) / 2 for h in hours] == [5.5, 5, 3.5]
    assert "Five and a half hours, five, and three and a half." in days[-1]


@pytest.mark.parametrize(
    "path", sorted((FOLDER / "exercises").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_exercises_take_what_they_say(path):
    text = nbformat.read(path, as_version=4).cells[0].source
    minutes = dict((link, m) for m, link in timed(section("A weekend alone")))
    assert f"*{minutes[f'exercises/{path.name}']} minutes." in text
