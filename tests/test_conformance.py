"""The conformance kit: its golden vectors, what it says of this package, and its command."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code

import proxquant_np as pq
from proxquant_np.conformance import make_vectors, vectors
from proxquant_np.optim import SGD, Adam, DualAveraging, ProxGradient
from proxquant_np.prox import BinaryL1, Constant, LevelsL1, MultiBitL2, Parq, TernaryL2, UniformL2
from proxquant_np.prox.brute_force import objective
from proxquant_np.training.metrics import sign_change

kit = pq.conformance
EPS = float(np.finfo(np.float64).eps)

# Golden vectors


def same(old, new):
    """Equal up to the rounding of a search, which may differ between machines."""
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(same(old[k], new[k]) for k in old)
    if isinstance(old, list):
        return len(old) == len(new) and all(map(same, old, new))
    return old == new or abs(old - new) <= 1e-7 * max(1, abs(old))


TABLES = [path.name for path in sorted(vectors.FOLDER.glob("*.json")) if path.stem != "manifest"]


def documented(name, schema):
    """Whether SCHEMA.md has the name, or one of the patterns it gives for several."""
    patterns = {"multibit_k": r"multibit_\d", "NAME_l2": r"\w+_l2"}
    names = [name, *(p for p, regex in patterns.items() if re.fullmatch(regex, name))]
    return any(f"`{known}`" in schema for known in names)


def test_golden_vectors_are_what_the_references_give():
    fresh = make_vectors.make()
    assert {*fresh, "SCHEMA.md"} == {path.name for path in vectors.FOLDER.iterdir()}
    for name in TABLES:
        assert same(vectors.table(name), json.loads(fresh[name])), name
    large, again = vectors.large(), make_vectors.large()
    assert list(large) == list(again)
    for key, array in large.items():
        assert np.allclose(array, again[key], rtol=1e-12, atol=0)


def test_a_changed_vector_would_be_seen():
    table = json.loads(vectors.read("prox.json"))
    table["levels_l1"]["cases"][2]["u"][3] += 1e-5
    assert not same(vectors.table("prox.json"), table)


def test_golden_vectors_are_small_whole_and_complete(tmp_path):
    assert sum(path.stat().st_size for path in vectors.FOLDER.iterdir()) < 300_000
    manifest = json.loads((vectors.FOLDER / "manifest.json").read_text("utf-8"))
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((vectors.FOLDER / name).read_bytes()).hexdigest() == digest
    assert set(vectors.table("prox.json")) == set(kit.PROXES)
    assert set(vectors.table("quantizers.json")) == set(kit.QUANTIZERS)
    assert set(vectors.table("rules.json")) == set(kit.RULES)
    assert set(vectors.table("steps.json")) == set(kit.STEPS)
    assert set(vectors.table("penalties.json")) == set(kit.PENALTIES)
    schema = (vectors.FOLDER / "SCHEMA.md").read_text("utf-8")
    for table in TABLES:
        assert [name for name in vectors.table(table) if not documented(name, schema)] == []
        keys = {key for entry in vectors.table(table).values() for c in entry["cases"] for key in c}
        assert [key for key in (table, *keys) if f"`{key}`" not in schema] == []

    written = kit.write_vectors(tmp_path / "new" / "folder")
    assert {path.name for path in written} == {path.name for path in vectors.FOLDER.iterdir()}
    assert all(path.read_bytes() == (vectors.FOLDER / path.name).read_bytes() for path in written)
    damaged = tmp_path / "new" / "folder" / "prox.json"
    damaged.write_bytes(damaged.read_bytes().replace(b"0.125", b"0.126", 1))
    with pytest.raises(ValueError, match=r"prox\.json is damaged"):
        vectors.read("prox.json", damaged.parent)
    (damaged.parent / "manifest.json").write_text('{"version": 2, "sha256": {}}')
    with pytest.raises(ValueError, match=r"version of .* must be one of 1, got 2"):
        vectors.read("prox.json", damaged.parent)


# This package against them, as SCHEMA.md says


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", kit.PROXES)
def test_proxes_reach_the_golden_objectives(name, dtype):
    r, eps = kit.PROXES[name], float(np.finfo(dtype).eps)
    fixed = r.elementwise
    for case in vectors.table("prox.json")[name]["cases"]:
        x, s = np.array(case["x"], dtype), case["strength"]
        u = r.prox(x, s)
        if fixed:
            assert np.allclose(u, case["u"], atol=1e-6)  # at ties, too
        if fixed or name in ("ternary_l2", "ternary_symmetric_l2", "multibit_2_l2"):
            cost = objective(r, u.astype(np.float64), x.astype(np.float64), s)
            assert cost <= case["objective"] + 64 * eps * (1 + s) * (1 + np.square(x).sum())


@pytest.mark.parametrize("name", kit.QUANTIZERS)
def test_quantizers_reach_the_golden_errors(name):
    r = kit.QUANTIZERS[name]
    best = isinstance(r, BinaryL1 | LevelsL1 | TernaryL2) or name in ("multibit_1", "multibit_2")
    for case in vectors.table("quantizers.json")[name]["cases"]:
        w = np.array(case["w"])
        error = 0.5 * np.square(r.project(w) - w).sum()
        slack = 64 * EPS * (case["error"] + np.square(w).sum())
        assert error >= case["error"] - slack
        assert error <= case["error"] + slack or not best


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", kit.RULES)
def test_rules_give_the_golden_weights(name, dtype):
    for case in vectors.table("rules.json")[name]["cases"]:
        w = np.array(case["w"], dtype)
        close = 64 * float(np.finfo(dtype).eps) * max(map(abs, case["w"] + case["q"]))
        assert kit.rule(name).quantize(w) == pytest.approx(np.array(case["q"]), rel=0, abs=close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", kit.PENALTIES)
def test_penalties_reach_the_golden_objectives(name, dtype):
    eps = float(np.finfo(dtype).eps)
    for case in vectors.table("penalties.json")[name]["cases"]:
        r = kit.penalty(name, **{k: case[k] for k in ("gamma",) if k in case})
        x, s = np.array(case["x"], dtype), case["strength"]
        u = r.prox(x, s)
        assert np.allclose(u, case["u"], atol=1e-6)
        cost = objective(r, u.astype(np.float64), x.astype(np.float64), s)
        assert cost <= case["objective"] + 64 * eps * (1 + s) * (1 + np.square(x).sum())


ESTIMATORS = {
    "identity": ("straight_through", {"clip": np.inf}),
    "clipped": ("straight_through", {"clip": 1}),
    "clipped_outside": ("straight_through", {"clip": 1, "ends": "outside"}),
    "scaled": ("straight_through", {"scale": "mean"}),
    "dorefa": ("dorefa_gradient", {}),
    "dorefa_constant": ("dorefa_gradient", {"maximum": "constant"}),
    "lsq": ("lsq_gradient", {"clip": (-8, 7)}),
    "pact": ("pact_gradient", {}),
}


def test_estimators_give_the_golden_gradients():
    table = vectors.table("gradients.json")
    assert table.keys() == ESTIMATORS.keys()
    assert {name for name, _ in ESTIMATORS.values()} == set(kit.ESTIMATORS)
    for name, (as_, said) in ESTIMATORS.items():
        model = kit.estimators.estimator(as_, **said)
        for case in table[name]["cases"]:
            w, g = np.array(case["w"]), np.array(case["g"])
            given, q = (w,), w
            if "s" in case:
                given = w, np.array(case["s"])
                q = case["s"] * np.clip(np.round(w / case["s"]), -8, 7)
            found = model.gradients(given, q, g)
            expected = [np.array(case[key]) for key in ("dw", "ds") if key in case]
            size = np.abs(g).sum() * (1 + max(np.abs(e).max() for e in expected))
            for (got, _), right in zip(found, expected, strict=True):
                assert got == pytest.approx(right, rel=0, abs=64 * EPS * size), name


def test_optimizers_take_the_golden_steps():
    for name in kit.STEPS:
        for case in vectors.table("steps.json")[name]["cases"]:
            p = pq.Tensor(np.array(case["point"]), requires_grad=True)
            lr, t = case["lr"], case.get("t", 1)
            base = Adam([p], lr) if "m" in case else SGD([p], lr)
            if "m" in case:
                state = base.state_dict()
                state["exp_avg.0"][...], state["exp_avg_sq.0"][...] = case["m"], case["v"]
                base.load_state_dict({**state, "steps": np.array([t - 1])})
            if name.startswith("lazy"):
                optimizer = DualAveraging(base, [p], BinaryL1())
            else:
                optimizer = ProxGradient(base, [p], BinaryL1(), Constant(case["strength"] / lr))
            p.grad = case["A"] @ p.data - case["b"]
            optimizer.step()
            assert np.allclose(p.data, case["weights"], atol=1e-7)
            if name.startswith("lazy"):
                assert np.allclose(optimizer.latent[0], case["latent"], rtol=1e-12)
            if "m" in case:
                state = base.state_dict()
                assert np.allclose(state["exp_avg.0"], case["new_m"], rtol=1e-12)
                assert np.allclose(state["exp_avg_sq.0"], case["new_v"], rtol=1e-12)


def test_sign_changes_are_the_golden_counts():
    for case in vectors.table("sign_change.json")["sign_change"]["cases"]:
        assert (
            sign_change(np.array(case["a"]), np.array(case["b"])) * len(case["a"])
            == (case["changed"])
        )


@pytest.mark.parametrize("name", ["binary_l1", "parq", "ternary_l2", "multibit_2_l2"])
def test_the_kit_passes_this_package(name):
    report = kit.check_prox(kit.PROXES[name].prox, name, exact=True)
    assert report and report.verdict == "right" and report.convention is None, report


def test_any_regularizer_can_be_the_definition():
    fixed, grid = LevelsL1((-0.5, 0.1, 3)), UniformL2(2)
    assert kit.check_prox(fixed.prox, fixed)
    assert not kit.check_prox(kit.PROXES["levels_l1"].prox, fixed)
    report = kit.check_quantizer(grid.project, grid)
    assert report and report.verdict == "heuristic"
    assert kit.check_quantizer(MultiBitL2(4).project, MultiBitL2(4))
    ternary = TernaryL2(projection="threshold")
    assert kit.check_quantizer(ternary.project, ternary).verdict == "heuristic"


def test_steps_of_another_regularizer():
    r = kit.PROXES["levels_l2"]

    def step(w, gradient, lr, strength):
        return r.prox(w - lr * gradient(w), strength)

    assert kit.check_step(step, "eager_sgd", regularizer="levels_l2")
    assert not kit.check_step(step, "eager_sgd")


def test_steps_of_a_plain_function():
    def shrink(w, strength):
        return w / w.dtype.type(1 + strength)

    def right(w, gradient, lr, strength):
        return shrink(w - lr * gradient(w), strength)

    def twice(w, gradient, lr, strength):
        return shrink(w - lr * gradient(w), lr * strength)

    def lazy(latent, gradient, lr):
        latent = latent - lr * gradient(BinaryL1().project(latent))
        return latent, BinaryL1().project(latent)

    assert kit.check_step(right, "eager_sgd", regularizer=shrink)
    assert kit.check_step(twice, "eager_sgd", regularizer=shrink).convention == "wrong strength"
    assert kit.check_step(lazy, "lazy_sgd", regularizer=lambda w, s: BinaryL1().prox(w, s))
    with pytest.raises(TypeError, match="Regularizer or a function"):
        kit.check_step(right, "eager_sgd", regularizer=BinaryL1)


# Without hypothesis, and with mistakes


def test_without_hypothesis_the_golden_cases_remain(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    right = kit.check_prox(BinaryL1().prox, "binary_l1")
    assert right and "extra proxquant-np[test]" in str(right)
    wrong = kit.check_prox(lambda x, s: x - np.clip(x - np.sign(x), -s, s), "binary_l1")
    assert wrong.convention == "sign(0)"
    assert wrong.fault.inputs["x"].tolist() == [0.0]


def test_counterexamples_are_shrunk():
    report = kit.check_quantizer(TernaryL2(projection="threshold").project, "ternary", exact=True)
    assert report.fault.inputs["w"].size <= 3


def test_only_float32_can_be_checked():
    def single(x, s):
        return BinaryL1().prox(x, s).astype(np.float32)

    assert kit.check_prox(single, "binary_l1", dtypes=["float32"])
    assert kit.check_prox(single, "binary_l1").convention == "dtype changed"


def test_user_mistakes_are_told():
    with pytest.raises(ValueError, match="'binary_l11'; did you mean 'binary_l1'"):
        kit.check_prox(lambda x, s: x, "binary_l11")
    with pytest.raises(ValueError, match="did you mean 'lazy_sgd'"):
        kit.check_step(lambda *a: a, "lazy-sgd")
    with pytest.raises(ValueError, match="axis=None and block=None"):
        kit.check_quantizer(lambda w: w, TernaryL2(axis=0))
    with pytest.raises(ValueError, match="must have fixed levels"):
        kit.check_prox(lambda x, s: x, Parq(TernaryL2()))
    with pytest.raises(TypeError, match="a name, a Regularizer"):
        kit.check_prox(lambda x, s: x, 3)
    for check in (kit.check_prox, kit.check_quantizer, kit.check_step):
        name = {kit.check_prox: "parq", kit.check_quantizer: "binary"}.get(check, "lazy_sgd")
        with pytest.raises(TypeError, match="fn must be a function, got 3"):
            check(3, name)
    with pytest.raises(TypeError, match="grad_fn must be a function, got None"):
        kit.check_gradient(np.sum, None, np.ones(2))
    with pytest.raises(ValueError, match="float32 or float64"):
        kit.check_gradient(np.sum, np.sum, np.ones(2, int))


def test_jax_functions():
    jax = pytest.importorskip("jax")

    def prox(x, s):
        return x - jax.numpy.clip(x - jax.numpy.where(x >= 0, 1.0, -1.0), -s, s)

    assert kit.check_prox(kit.from_jax(prox), "binary_l1", dtypes=["float32"])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"torch is not installed: install proxquant-np\[bench\]"):
        kit.from_torch(lambda x: x)


def test_the_package_loads_none_of_it_before_it_is_asked_for():
    unwanted = (
        "{'proxquant_np.conformance', 'hypothesis', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    code = (
        f"import sys, proxquant_np as pq; print({unwanted}); pq.conformance.check_prox; "
        f"print({unwanted}); pq.no_such_thing"
    )
    root = Path(__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert out.stdout.splitlines() == ["set()", "{'proxquant_np.conformance'}"]
    assert "has no attribute 'no_such_thing'" in out.stderr


# The command

MODULE = """
import numpy as np
import proxquant_np as pq

SIX = 6
exact = pq.prox.TernaryL2().project
threshold = pq.prox.TernaryL2(projection="threshold").project

def prox(x, s):
    return x - np.clip(x - np.sign(x), -s, s)

def lazy(z, gradient, lr):
    w = np.where(z >= 0, 1, -1).astype(z.dtype)
    z = z - lr * gradient(w)
    return z, np.where(z >= 0, 1, -1).astype(z.dtype)

def torch_prox(x, s):
    return x - (x - 2 * (x >= 0).to(x.dtype) + 1).clamp(-s, s)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module in the current folder."""
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([":exact", "--as", "ternary", "--exact"], 0, "PASSED: project as quantizer 'ternary'"),
        ([":threshold", "--as", "ternary"], 0, "HEURISTIC, passed"),
        ([":threshold", "--as", "ternary", "--exact"], 1, "but claimed to be exact: failed"),
        ([":prox", "--as", "binary_l1", "--dtype", "float32"], 1, "sign(0)"),
        ([":lazy", "--as", "lazy_sgd"], 0, "PASSED: lazy as step"),
    ],
)
def test_check(module, capsys, arguments, code, said):
    assert exit_code("check", module + arguments[0], *arguments[1:]) == code
    assert said in capsys.readouterr().out


def test_check_torch(module, capsys):
    pytest.importorskip("torch")
    assert (
        exit_code("check", f"{module}:torch_prox", "--as", "binary_l1", "--adapter", "torch") == 0
    )


@pytest.mark.parametrize(
    ("function", "name", "said"),
    [
        ("MODULE:prx", "binary_l1", "did you mean 'prox'?"),
        ("MODULE:prox", "binary-l1", "did you mean 'binary_l1'?"),
        ("MODUL:prox", "binary_l1", "did you mean"),
        ("no.such.thing:prox", "binary_l1", "no module 'no'"),
        ("MODULE", "binary_l1", "must be given as package.module:function, got"),
        ("MODULE:SIX", "binary_l1", "SIX must be a function, got 6"),
        ("broken:prox", "binary_l1", "importing broken failed: SyntaxError"),
        ("needy:prox", "binary_l1", "importing needy failed: No module named 'not_there'"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(module, capsys, function, name, said):
    Path("broken.py").write_text("def")
    Path("needy.py").write_text("import not_there")
    function = function.replace("MODULE", module).replace("MODUL", module[:-1])
    assert exit_code("check", function, "--as", name) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert said in err


def test_exact_is_not_for_steps(module, capsys):
    assert exit_code("check", f"{module}:lazy", "--as", "lazy_sgd", "--exact") == 2
    assert "--exact must be left out for a step" in capsys.readouterr().err


def test_vectors(tmp_path, capsys):
    assert exit_code("vectors", "--out", str(tmp_path / "out")) == 0
    assert (
        len(capsys.readouterr().out.splitlines()) == len(list((tmp_path / "out").iterdir())) == 11
    )
    (tmp_path / "taken").write_text("mine")
    assert exit_code("vectors", "--out", str(tmp_path / "taken")) == 2
    assert "taken" in capsys.readouterr().err
