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
    assert len(NAMES) == 12
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
    def kept(text):  # a counterexample depends on the version that searches, and on its imports
        return text.splitlines()[: 2 if text.startswith("HEURISTIC") else None]

    said = checks(name, solved=True)
    committed = [c.outputs[0].text for c in cells(name, True) if "check" in tags(c)]
    assert [*map(kept, said)] == [*map(kept, committed)]  # of which each says PASSED, see above


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
        (
            "1_binary_prox",
            "x - np.clip(x - q, -strength, strength)",
            "np.clip(x, -1, 1)",
            "not opt",
        ),
        (
            "1_binary_prox",
            "return (x + strength * q) / (1 + strength)",
            "...",
            "is there a return?",
        ),
        (
            "2_nearest_level",
            "return LEVELS[",
            "return np.round(w)  # ",
            "not among the levels",
        ),
        (
            "2_nearest_level",
            "np.clip(nearest_level(x), x - strength, x + strength)",
            "x",
            "changes no",
        ),
        ("3_exact_ternary", "np.sort(sizes)[::-1]", "np.sort(sizes)", "wrong scale"),
        ("3_exact_ternary", "if side.any()", "if True", "argmax of an empty sequence"),
        (
            "3_exact_ternary",
            "best_scale(np.abs(w[side]))",
            "best_scale(np.abs(w).ravel())",
            "not opt",
        ),
        ("4_lazy_step", "latent - lr * gradient", "latent + lr * gradient", "along the gradient"),
        (
            "4_lazy_step",
            "return latent, pq.prox.sign_pm(latent)",
            "return latent",
            "not arrays",
        ),
        ("4_lazy_step", "0.1 * g", "g", "without the factor 1 - beta1"),
        ("4_lazy_step", "0.001 * g * g", "0.001 * abs(g)", "averages |g|"),
        (
            "4_lazy_step",
            "/ (np.sqrt(v / (1 - 0.999**t)) +",
            "/ (v / (1 - 0.999**t) +",
            "by its root",
        ),
        ("5_eager_step", "gradient(weights)", "gradient(pq.prox.sign_pm(weights))", "at P(w)"),
        (
            "5_eager_step",
            "BinaryL1().prox(weights - lr * g",
            "BinaryL2().prox(weights - lr * g",
            "sq",
        ),
        ("5_eager_step", "(weights), strength)", "(weights), np.inf)", "projects, whatever"),
        ("6_vjp", "g * y * (1 - y)", "y * (1 - y)", "does not depend on g"),
        ("6_vjp", "g.T @ x", "x.T @ g", "the gradient of input 1 has shape (3, 4)"),
        ("6_vjp", "p / len(classes), None", "-p / len(classes), None", "its sign is wrong"),
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
        (
            "9_a_cycle",
            "lr * strength / (2",
            "2 * strength / (2",
            "the weight of the cycle, not its la",
        ),
        ("9_a_cycle", " - lr)", ")", "w is (z + s)/(1 + s), not s/(1 + s)"),
        ("9_a_cycle", "lr * strength / (2 * (1 + strength) - lr)", "lr / 2", "w is not 1"),
        ("9_a_cycle", "lr * strength / (2", "-lr * strength / (2", "must be a positive number"),
        ("9_a_cycle", "lr * strength / (2", "0.1 * lr * strength / (2", "as w = prox(z) is"),
        ("9_a_cycle", "strength / lr * (w", "strength * (w", "lambda = s / lr"),
        ("9_a_cycle", "pq.prox.sign_pm(np.float64(w))", "1", "nearest to a negative weight is -1"),
        ("9_a_cycle", "w + strength / lr", "strength / lr", "you say -1.4, the slope is -1.1"),
        ("9_a_cycle", "lam / (1 + lam)", "strength / (1 + strength)", "lambda = s / lr"),
        ("9_a_cycle", "lam / (1 + lam)", "1.0", "at a level the loss still has a slope"),
        ("9_a_cycle", "lam / (1 + lam)", "0", "must be a positive number"),
        ("10_adams_bound", "** (t - k)", "** (0 * k)", "equal gradients always move it by 1 lr"),
        ("10_adams_bound", "** (t - k)", "** (k - 1)", "in the reverse order"),
        (
            "10_adams_bound",
            "** (t - k)",
            "** (t - k) * (k == t)",
            "a single gradient is not the best",
        ),
        ("10_adams_bound", "** (t - k)", "** (t - k) * (-1.0) ** k", "cancel in m"),
        ("10_adams_bound", "1e-3 * (beta1", "(beta1", "more than 0.001"),
        ("10_adams_bound", "1e-3 * (beta1", "0 * (beta1", "all gradients are 0"),
        (
            "10_adams_bound",
            "np.arange(1, t + 1)",
            "np.arange(t + 1)",
            "shape (2,); it must be (1,)",
        ),
        (
            "10_adams_bound",
            "(1 - beta2) * (1 - beta1**2 / beta2)",
            "1 - beta2",
            "a single gradient's",
        ),
        ("10_adams_bound", "beta1**2 / beta2))", "beta1 / beta2))", "the squares of beta1^(t-k)"),
        ("10_adams_bound", "(1 - beta2) * (1", "(1 - beta2) / (1", "below the line"),
        (
            "10_adams_bound",
            "return lam >= bound and lr * bound <= 1",
            "return lam > 1",
            "do not shrink",
        ),
        ("10_adams_bound", " and lr * bound <= 1", "", "takes it past 0"),
        ("10_adams_bound", " and lr * bound <= 1", " and lr * lam <= 1", "but it stays"),
        ("11_your_own_set", "[0.5, *(", "[*(", "-0.5 is missing (2 of 15 levels are)"),
        ("11_your_own_set", "+ [0.0]", "+ [0.0, -0.0]", "0 is there twice"),
        ("11_your_own_set", "reversed(positive)", "positive", "ascending order"),
        ("11_your_own_set", "+ positive)", "+ positive + [8.0])", "8 is no number of this format"),
        ("11_your_own_set", ".astype(x.dtype)", "", "weights of float32 have levels of float64"),
        ("11_your_own_set", "self.scale * ", "", "scale is not used"),
        ("12_a_fair_comparison", '"trials", ', "", "B of the ledger: you do not name trials"),
        ("12_a_fair_comparison", '"start", ', "", "two starts: you do not name start"),
        ("12_a_fair_comparison", '"seeds", "start"', '"lr", "seeds", "start"', "A of the ledger"),
        ("12_a_fair_comparison", '!= "validation"', '== "none"', "both looked at the test split"),
        (
            "12_a_fair_comparison",
            '!= "validation":',
            '!= "validation" or 1:',
            "wrongly: nothing but",
        ),
        ("12_a_fair_comparison", 'in one["lr_range"]', '== one["lr_range"][1]', "1e-4 is an end"),
        ("12_a_fair_comparison", "< 5", "< 3", "three pairs: you do not name seeds"),
        (
            "12_a_fair_comparison",
            "sum(first[key] for key in steps) != sum(second[key] for key in steps)",
            "first[steps[0]] != second[steps[0]]",
            "F of the ledger: you name fine_tuning_steps, wrongly",
        ),
        ("12_a_fair_comparison", "    return found", "    return not found", "a set of keys"),
        (
            "12_a_fair_comparison",
            "    return found",
            "    return {'colour'}",
            "'colour' is no setting",
        ),
        (
            "12_a_fair_comparison",
            "return -np",
            "return np",
            "the flattered error is the smaller one",
        ),
        ("12_a_fair_comparison", "return -np.random", "return 0 * -np.random", "independent"),
    ],
)
def test_likely_mistakes_are_named(name, right, wrong, words):
    (text,) = checks(name, solved=True, replace=(right, wrong))
    assert not text.startswith(PASSED)
    assert words in text


@pytest.mark.parametrize(
    ("name", "right", "also_right"),
    [
        (
            "1_binary_prox",
            "x - np.clip(x - q, -strength, strength)",
            "np.clip(q, x - strength, x + strength)",
        ),
        (
            "1_binary_prox",
            "x - np.clip(x - q, -strength, strength)",
            "np.where(abs(x - q) <= strength, q, x - strength * np.sign(x - q)).astype(x.dtype)",
        ),
        (
            "1_binary_prox",
            "(x + strength * q) / (1 + strength)",
            "x - strength / (1 + strength) * (x - q)",
        ),
        (
            "2_nearest_level",
            'np.searchsorted(midpoints, w, side="right")',
            "np.digitize(w, midpoints)",
        ),
        ("3_exact_ternary", "sums**2 / m", "sums / np.sqrt(m)"),
        (
            "4_lazy_step",
            "gradient(pq.prox.sign_pm(latent))",
            "gradient(np.copysign(1, latent + 0))",
        ),
        ("5_eager_step", "0.1 * g", "(1 - 0.9) * g"),
        ("6_vjp", "g * y * (1 - y)", "g * np.exp(-x) * y**2"),
        (
            "6_vjp",
            "g @ weight, g.T @ x, g.sum(axis=0)",
            "[g @ weight, g.T @ x, np.ones(len(g)) @ g]",
        ),
        (
            "8_find_the_bug",
            "np.where(w >= 0, w.dtype.type(1), w.dtype.type(-1))",
            "1 - 2 * (w < 0).astype(w.dtype)",
        ),
        (
            "9_a_cycle",
            "lr * strength / (2 * (1 + strength) - lr)",
            "strength / (2 * (1 + strength) / lr - 1)",
        ),
        ("9_a_cycle", "lam / (1 + lam)", "strength / (lr + strength)"),
        ("10_adams_bound", "1e-3 * (beta1", "-1e-6 * (beta1"),
        (
            "10_adams_bound",
            "1e-3 * (beta1 / beta2) ** (t - k)",
            "list(1e-3 * (beta2 / beta1) ** (k - t))",
        ),
        ("10_adams_bound", "lr * bound <= 1", "lr * bound < 1"),
        ("11_your_own_set", "2.0 ** (e - 1) * (1 + m / 2)", "2.0 ** (e - 2) * (2 + m)"),
        ("11_your_own_set", "self.scale * float4_levels()", "float4_levels() * float(self.scale)"),
        ("12_a_fair_comparison", "    return found", "    return sorted(found)"),
        ("12_a_fair_comparison", "normal(size=(20000, n)).min", "normal(size=(9000, n)).min"),
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
