"""The recipes of CONTRIBUTING.md, done word for word on a copy of the package.

A block of Python is a new file, a diff is an edit; the text above each ends with the name of the
file. A block of commands is run. What is added without its line in tests/ must fail a test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
CODE_LINES = 30  # a set is to be no longer


def blocks(title):
    """(language, content, the last file named before it) of each block of a section."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    parts = re.split(r"^```(\w+)\n(.*?)^```\n", section, flags=re.MULTILINE | re.DOTALL)
    file = None
    for prose, language, content in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        file = [file, *re.findall(r"`([\w/]+\.py)`", prose)][-1]
        yield language, content, file


def apply(folder, language, content, file):
    """Do what a block says: write the file, or put the new lines of a diff for the old ones."""
    path = folder / file
    if language == "python":
        assert not path.exists()
        path.write_text(content, "utf-8")
        return
    lines = [(line[:1], line[1:]) for line in content.splitlines(keepends=True)]
    assert {sign for sign, _ in lines} <= {" ", "+", "-"}
    before, after = ("".join(x for s, x in lines if s in kept) for kept in (" -", " +"))
    text = path.read_text("utf-8")
    assert text.count(before) == 1, f"{file} has no such lines, or several:\n{before}"
    path.write_text(text.replace(before, after), "utf-8")


def run(folder, command):
    """A command of the recipe, in the copy, with this Python and without more processes."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": "-n0"}
    python = f'"{sys.executable}"'
    command = command.replace(".venv/bin/python", python)
    command = command.replace(".venv/bin/proxquant-np", f"{python} -m proxquant_np")
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def copy(tmp_path):
    """The parts of the project that recipes touch."""
    for name in ("proxquant_np", "tests", "docs", "figures/records"):
        ignored = shutil.ignore_patterns("__pycache__", ".*", "frozen")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("pyproject.toml", "CONTRIBUTING.md", "CLAIMS.md", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def passed(result):
    """How many tests a run of pytest passed; none may have failed."""
    assert result.returncode == 0, result.stdout + result.stderr
    return int(re.findall(r"(\d+) passed", result.stdout)[0])


def linted(folder):
    """Whether it is as ruff wants it, where there is ruff."""
    ruff = ".venv/bin/python -m ruff"
    return (
        find_spec("ruff") is None
        or not run(folder, f"{ruff} check && {ruff} format --check").returncode
    )


def lines_of_code(source):
    """Without blank lines and docstrings."""
    return [line for line in re.sub(r'"""[^"]*"""', "", source).splitlines() if line.strip()]


@pytest.mark.parametrize("steps", [slice(4), slice(4, 8)], ids=["set", "distance"])
def test_a_new_set_or_distance(steps, copy):
    file, export, test, command = list(blocks("A new set or distance"))[steps]
    languages = [language for language, _, _ in (file, export, test, command)]
    assert languages == ["python", "diff", "diff", "bash"]
    assert len(lines_of_code(file[1])) <= CODE_LINES
    apply(copy, *file)
    apply(copy, *export)
    left_out = run(copy, command[1])
    assert left_out.returncode == 1 and "in tests/prox_strategies.py" in left_out.stdout
    apply(copy, *test)
    assert passed(run(copy, command[1])) >= 4 and linted(copy)


def test_a_new_op(copy):
    *edits, derive, command = blocks("A new op")
    assert [language for language, _, _ in edits] == ["diff"] * 3
    for edit in edits[:2]:
        apply(copy, *edit)
    left_out = run(copy, ".venv/bin/python -m pytest tests/test_ops.py -k registry")
    assert left_out.returncode == 1 and "softsign" in left_out.stdout
    apply(copy, *edits[2])
    stale = run(copy, ".venv/bin/python -m pytest tests/test_derivatives.py")
    assert stale.returncode == 1 and "softsign" in stale.stdout
    assert run(copy, derive[1]).returncode == 0
    assert passed(run(copy, command[1])) >= 7 and linted(copy)


def test_a_new_experiment(copy):
    file, *edits, commands = blocks("A new experiment")
    assert [language for language, _, _ in edits] == ["diff"] * 3
    quick, claims = commands[1].splitlines()
    apply(copy, *file)
    unknown = run(copy, quick)
    assert unknown.returncode == 2 and "no experiment is called 'relaxation'" in unknown.stderr
    for edit in edits:
        apply(copy, *edit)
    for command in (quick + " --seeds 1", claims):
        result = run(copy, command)
        assert result.returncode == 0, result.stdout + result.stderr
    assert (copy / "results-relaxation-quick" / "relaxation-record.json").is_file()
    ledger = (copy / "CLAIMS.md").read_text("utf-8")
    assert "`proxquant-np experiment relaxation --seeds 10`" in ledger
    assert "| BinaryRelax errs less than BinaryConnect | mlp | not yet measured |" in ledger
    assert "relaxation" in run(copy, ".venv/bin/proxquant-np experiment --help").stdout
    assert linted(copy)
