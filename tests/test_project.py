"""The project's own files agree with one another: packages, versions, commands."""

import os
import re
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import proxquant_np

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]

MAIN_JOB = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/proxquant-np reproduce"
TESTS = (
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest"
)


def packages(requirements):
    """The requirements as a set, with proxquant-np[a,b] replaced by the extras a and b."""
    found = set(requirements)
    for requirement in requirements:
        if own := re.fullmatch(rf"{PROJECT['name']}\[(.*)\]", requirement):
            found.remove(requirement)
            found.update(*(packages(EXTRAS[extra]) for extra in own[1].split(",")))
    return found


def conda_packages(text):
    """The entries of the `dependencies:` list; of YAML, just what that file uses."""
    _, _, listed = text.partition("\ndependencies:\n")
    return re.findall(r"^  - ([^\s:]+)$", listed, re.MULTILINE)


def test_conda_environment_equals_pyproject():
    listed = conda_packages((ROOT / "environment.yml").read_text("utf-8"))
    ours = packages(PROJECT["dependencies"]) | packages(EXTRAS["dev"])
    assert len(listed) == len(set(listed))
    assert set(listed) == ours | {f"python{PROJECT['requires-python']}", "pip"}


def test_extras():
    assert set(EXTRAS) == {
        "test",
        "notebooks",
        "lint",
        "dev",
        "bench",
        "interop",
        "docs",
        "browser",
        "sweep",
        "gpu",
    }
    others = set().union(*(packages(EXTRAS[name]) for name in EXTRAS if name != "gpu"))
    assert not packages(EXTRAS["gpu"]) & others
    assert packages(EXTRAS["test"]) | packages(EXTRAS["notebooks"]) < packages(EXTRAS["dev"])


def test_version():
    assert proxquant_np.__version__ == PROJECT["version"]
    try:
        installed = metadata.version(PROJECT["name"])
    except metadata.PackageNotFoundError:
        return  # run from the checkout alone
    assert installed == PROJECT["version"]


def test_console_script_exists():
    module, _, function = PROJECT["scripts"]["proxquant-np"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_import_is_light():
    heavy = "{'matplotlib', 'scipy'} & {name.partition('.')[0] for name in sys.modules}"
    code = f"import sys, proxquant_np; print(sorted({heavy}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (out.stdout, out.stderr) == ("[]\n", "")


def test_readme_shows_the_two_commands():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("python3 ")] == [MAIN_JOB, TESTS]


def test_the_docs_say_how_versions_are_tested():
    """Each command by its name; the lowest versions with all that is tested beyond the newest."""
    text = (ROOT / "docs" / "versions.md").read_text("utf-8")
    newest, lowest, another = re.findall(r"```bash\n(.*)\n```", text)
    assert os.access(ROOT / newest, os.X_OK)
    python = PROJECT["requires-python"].removeprefix(">=")
    assert lowest.startswith(f"python{python} -m venv ") and "--resolution lowest-direct" in lowest
    for command in (lowest, another):
        (extras,) = re.findall(r"-e '\.\[(.*)\]'", command)
        assert "test" in extras.split(",") and set(extras.split(",")) <= set(EXTRAS)
        assert command.endswith("-m pytest")


def test_every_bound_is_a_lowest_version():
    for listed in (PROJECT["dependencies"], *EXTRAS.values()):
        for requirement in packages(listed):
            assert re.fullmatch(r"[\w-]+>=\d[\d.]*(,<\d[\d.]*)?", requirement), requirement


@pytest.mark.parametrize("ruff_succeeds", [True, False])
def test_ci_lints_while_it_installs_and_runs_the_command_of_the_readme(tmp_path, ruff_succeeds):
    """Runs the real .ci/run in a folder whose python3, pip and ruff only write down their call."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    readme = f"Text.\n```bash\n{MAIN_JOB}\n```\n```bash\n{TESTS}\n```\nThen python3 -m pytest\n"
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_bytes((ROOT / ".ci/run").read_bytes())
    log = tmp_path / "log"
    commands = [".venv/bin/python", ".venv/bin/pip", ".venv-lint/bin/pip", ".venv-lint/bin/ruff"]
    for name in ("bin/python3", *commands):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        result = 0 if ruff_succeeds or file.name != "ruff" else 1
        call = f'echo $HYPOTHESIS_PROFILE {file.name} "$@"'
        file.write_text(f'#!/bin/sh\n{call} >> "{log}"\nexit {result}\n')
        file.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HYPOTHESIS_PROFILE": ""}
    run = subprocess.run(["bash", tmp_path / ".ci/run"], env=env, capture_output=True)
    (ruff,) = EXTRAS["lint"]
    lint = ["python3 -m venv .venv-lint", f"pip install -q {ruff}", "ruff check"]
    lint += ["ruff format --check"] * ruff_succeeds
    tests = ["python3 -m venv .venv", "pip install -q -e .[test]"]
    tests += ["ci python -m pytest"] * ruff_succeeds
    calls = [line.strip() for line in log.read_text().splitlines()]
    assert [call for call in calls if call in lint] == lint
    assert [call for call in calls if call in tests] == tests
    assert len(calls) == len(lint) + len(tests) and (run.returncode == 0) == ruff_succeeds
    assert not ruff_succeeds or calls[-1] == tests[-1]  # after all else


def test_ci_is_executable():
    assert (ROOT / ".ci/run").stat().st_mode & stat.S_IXUSR


def test_the_citation_names_this_version_and_the_paper():
    """Of YAML, just what that file uses; its schema was checked by cffconvert."""
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.*)$", text, re.MULTILINE)[1] == PROJECT["version"]
    assert re.search(r"^  - name: (.*)$", text, re.MULTILINE)[1] == PROJECT["authors"][0]["name"]
    paper = text.partition("preferred-citation:")[2]
    assert re.findall(r"family-names: (\w+)", paper) == ["Bai", "Wang", "Liberty"]
    for named in ("ProxQuant: Quantized Neural Networks via Proximal Operators", "1810.00861"):
        assert named in paper and named in (ROOT / "README.md").read_text("utf-8")
