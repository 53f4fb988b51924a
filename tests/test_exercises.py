"""Every exercise fails as it is given, with a message that helps, and passes as it is solved."""

import contextlib
import io
from functools import cache
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks" / "exercises"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
PASSED = ("PASSED", "HEURISTIC, passed")


def cells(name, solved):
    folder = FOLDER / "solutions" if solved else FOLDER
    return nbformat.read(folder / f"{name}.ipynb", as_version=4).cells


def tags(cell):
    return cell.metadata.get("tags", [])


@cache
def checks(name, solved, replace=None):
    """What each check prints; with `replace`, (right, wrong) in one stub, only the check of that.

    Nothing is caught: an exception anywhere in the notebook is one here.
    """
    namespace, said, changed = {}, [], replace is None
    for cell in cells(name, solved):
        if cell.cell_type != "code" or ("check" in tags(cell) and not changed):
            continue
        source = cell.source
        if "stub" in tags(cell) and replace and replace[0] in source:
            source, changed = source.replace(*replace), True
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, f"{name}, {cell.id}", "exec"), namespace)
        if "check" in tags(cell):
            said.append(printed.getvalue())
            if replace:
                break
    return said


def test_there_are_exercises_and_solutions():
    assert 6 <= len(NAMES) <= 9
    assert NAMES == sorted(path.stem for path in (FOLDER / "solutions").glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_differs_in_its_stubs_alone(name):
    given, solved = cells(name, False), cells(name, True)
    assert [(c.id, c.cell_type, tags(c)) for c in given] == [
        (c.id, c.cell_type, tags(c)) for c in solved
    ]
    differ = [a.id for a, b in zip(given, solved, strict=True) if a.source != b.source]
    assert differ == [c.id for c in given if "stub" in tags(c)]
    kinds = [tag for c in given for tag in tags(c)]
    assert kinds == ["stub", "check"] * (len(kinds) // 2)


@pytest.mark.parametrize("name", NAMES)
def test_exercises_are_committed_blank_and_solutions_executed(name):
    blank = [c for c in cells(name, False) if c.cell_type == "code"]
    assert all(c.execution_count is None and not c.outputs for c in blank)
    done = [c for c in cells(name, True) if c.cell_type == "code"]
    assert [c.execution_count for c in done] == list(range(1, len(done) + 1))
    for cell in done:
        if "check" in tags(cell):
            (output,) = cell.outputs
            assert output.text.startswith(PASSED)


@pytest.mark.parametrize("name", NAMES)
def test_stubs_fail_and_say_what_to_do(name):
    said = checks(name, solved=False)
    assert said
    for text in said:
        assert text.startswith("WRONG")
        assert "Traceback" not in text
        assert name == "8_find_the_bug" or "NotImplementedError: replace this line" in text


@pytest.mark.parametrize("name", NAMES)
def test_solutions_pass(name):
    for text in checks(name, solved=True):
        assert text.startswith(PASSED), text


def test_the_bugs_are_named():
    said = checks("8_find_the_bug", solved=False)
    for text, word in zip(said, ["sign(0)", "factor of two", "not nearest"], strict=True):
        assert f"\n  {word}: " in text


@pytest.mark.parametrize(
    ("name", "right", "wrong", "words"),
    [
        ("1_binary_prox", "q = np.where(x >= 0", "q = np.where(x > 0", "sign(0): 0 goes"),
        ("1_binary_prox", "-strength, strength", "-2 * strength, 2 * strength", "factor of two"),
        ("1_binary_prox", "x - np.clip(x - q, -strength, strength)", "q", "wrong strength"),
        ("1_binary_prox", " / (1 + strength)", "", "no division by 1 + s"),
        ("2_nearest_level", '"right"', '"left"', "wrong tie"),
        ("2_nearest_level", ".astype(w.dtype)", "", "dtype changed"),
        ("2_nearest_level", "midpoints = (", "midpoints = LEVELS[1:] + 0 * (", "greedy"),
        ("3_exact_ternary", "sums**2 / m", "sums / m", "not optimal although claimed"),
        ("3_exact_ternary", "return sums[best]", "return 2 * sums[best]", "factor of two"),
        ("4_lazy_step", "gradient(pq.prox.sign_pm(latent))", "gradient(latent)", "gradient point"),
        ("4_lazy_step", "return latent, pq", "return pq.prox.sign_pm(latent), pq", "latent overw"),
        ("4_lazy_step", "**t", "**(t + 1)", "bias correction"),
        ("5_eager_step", "(weights), strength", "(weights), lr * strength", "by lr once more"),
        ("5_eager_step", " - lr * d, strength)", ", strength) - lr * d", "order: "),
        ("6_vjp", "g * y * (1 - y)", "g * (1 - y * y)", "wrong gradient"),
        ("6_vjp", "g.sum(axis=0)", "g", "not summed"),
        ("6_vjp", "p / len(classes)", "p", "not averaged: 6 times"),
        ("7_stability", "<= 0", "< 0", "but BinaryConnect stays"),
        ("7_stability", "<= 0", ">= 0", "but BinaryConnect leaves it at step"),
        ("7_stability", "(1 + minimiser) / 2", "(1 - minimiser) / 2", "you say"),
        ("7_stability", "(1 + minimiser) / 2", "0 * minimiser + 0.5", "you say"),
        ("7_stability", "t / 150", "t / 60", "lambda passed 1 before"),
        ("7_stability", "t / 150", "t / 400", "was not above 1"),
        ("7_stability", "t / 150", "-t", "homotopy(1) is -1; lambda must be a number >= 0"),
        ("7_stability", "t / 150", "0 if t < 299 else 1e9", "at t = 299 the prox carries a weight"),
        ("7_stability", "t / 150", "2 - t / 300", "lambda falls from 2 to 1.997 at t = 1"),
        ("7_stability", "t / 150", "t / 299", "was not above 1"),
        ("7_stability", "t / 150", "print(end='')", "homotopy(0) is None; lambda must be"),
        ("7_stability", "t / 150", "float('nan')", "homotopy(0) is nan; lambda must be"),
        ("7_stability", "bool((s * g <= 0).all())", "s * g <= 0", "one True or False for all"),
        ("7_stability", "return bool((s * g <= 0).all())", "...", "you say None; one True or Fa"),
        ("7_stability", "(1 + minimiser) / 2", "(1 + minimiser.mean()) / 2", "shape (3,)"),
    ],
)
def test_likely_mistakes_are_named(name, right, wrong, words):
    (text,) = checks(name, solved=True, replace=(right, wrong))
    assert not text.startswith(PASSED)
    assert words in text


@pytest.mark.parametrize(
    ("name", "right", "also_right"),
    [
        ("7_stability", "bool((s * g <= 0).all())", "(s * g <= 0).all()"),
        ("7_stability", "bool((s * g <= 0).all())", "all((g == 0) | (np.sign(g) == -s))"),
        ("7_stability", "(1 + minimiser) / 2", "list(0.5 + minimiser / 2)"),
        ("7_stability", "t / 150", "0.01 * t"),
        ("7_stability", "t / 150", "(t / 200) ** 2"),
        ("7_stability", "t / 150", "0.5 if t < 150 else 1.5"),
        ("7_stability", "t / 150", "5 * (t >= 200)"),
        ("7_stability", "t / 150", "max(0, t - 100) / 40"),
        ("7_stability", "t / 150", "pq.prox.Linear(0.008)(t)"),
        ("7_stability", "t / 150", "np.float32(t) / 100"),
    ],
)
def test_other_right_answers_pass(name, right, also_right):
    (text,) = checks(name, solved=True, replace=(right, also_right))
    assert text.startswith(PASSED), text
