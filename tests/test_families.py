"""Families of fair pairs: what each changes, and that the ledger keeps them apart."""

import dataclasses
import json

import numpy as np
import pytest
from test_claims import record, records, rows  # noqa: F401  (records is a fixture)

from proxquant_np import cli, models, nn, optim, plotting, prox
from proxquant_np.data import load_digits
from proxquant_np.experiments import bases, families, protocol, summary
from proxquant_np.experiments.catalog import EXPERIMENTS, experiment_named
from proxquant_np.experiments.experiment import SEARCHED
from proxquant_np.experiments.protocol import METHODS, Phases, quantize
from proxquant_np.experiments.runner import OutOfTime
from proxquant_np.experiments.statistics import corrected
from proxquant_np.experiments.tasks import TASKS, Setting
from proxquant_np.experiments.verdicts import Rules, verdicts


@pytest.mark.parametrize(
    ("name", "family"), [(n, f) for n, e in EXPERIMENTS.items() for f in e.families]
)
def test_every_family_is_whole(name, family):
    chosen = experiment_named(name).of_family(family)
    assert chosen.family == family and chosen.claims
    for claim in chosen.claims:
        assert {claim.first, claim.second} <= chosen.methods.keys()
    for method in chosen.methods.values():
        assert method.start == "full_precision" or method.start in chosen.methods
        assert family != families.PUBLISHED or method.source
    for task in chosen.tasks:
        for method in chosen.methods:
            assert chosen.hyperparameters(task, method)["lr"] > 0


def test_searched_is_the_experiment_itself():
    chosen = experiment_named("binary_digits")
    assert chosen.of_family(None) is chosen is chosen.of_family(SEARCHED)
    with pytest.raises(ValueError, match="must be one of 'searched', got 'published'"):
        experiment_named("ablation").of_family("published")


def test_equal_rates_are_equal_and_keep_the_mean_of_lambda_or_the_sum_of_strengths():
    chosen = experiment_named("binary_digits").of_family(families.EQUAL_RATES)
    found = {name: chosen.hyperparameters("cnn", name) for name in chosen.methods}
    for claim in chosen.claims:
        assert found[claim.first]["lr"] == found[claim.second]["lr"]
    own, moved = found["prox_quant"], found["prox_quant_at_binary_connect"]
    assert own["lr"] != moved["lr"]
    assert own["reach"] / own["lr"] == pytest.approx(moved["reach"] / moved["lr"], rel=0.01)
    assert found["prox_quant_at_binary_connect_reach"] == {**own, "lr": moved["lr"]}
    assert {c.text.rpartition(", at ")[2] for c in chosen.claims} == {
        "ProxQuant's rate",
        "BinaryConnect's rate",
        "BinaryConnect's rate, the sum of strengths kept",
    }
    for claim in chosen.claims:  # ProxQuant's own pair, or one in which one method is another
        text, owner, keeps_sum = families.without_rate(claim.text)
        (whole,) = (c for c in experiment_named("binary_digits").claims if c.text == text)
        assert (claim.first == whole.first) == (owner == "ProxQuant")
        assert chosen.methods[claim.first].keeps_sum == keeps_sum


@pytest.mark.parametrize(
    "name", [n for n, e in EXPERIMENTS.items() if families.EQUAL_RATES in e.families]
)
def test_each_claim_at_its_rivals_rate_is_there_with_the_sum_kept(name):
    """In each of these experiments ProxQuant comes first, and has a reach."""
    chosen = experiment_named(name).of_family(families.EQUAL_RATES)
    held = [one for one in chosen.claims if one.text.endswith(families.SUM_KEPT)]
    assert len(held) == len(chosen.claims) / 3
    for claim in held:
        own = chosen.methods[claim.first].shares
        for task in chosen.tasks:
            kept, searched = (chosen.hyperparameters(task, m) for m in (claim.first, own))
            rival = chosen.hyperparameters(task, claim.second)
            assert kept == {"lr": rival["lr"], "reach": searched["reach"]}


def quantized(chosen, task, name, steps, checkpoint=None, **running):
    """The result of quantizing the digits' MLP by a method of an experiment, as its record has it,
    and the history."""
    setting = {"quantizing_steps": steps, "fine_tuning_steps": 1, "batch_size": 32}
    phases = Phases(TASKS["mlp"], load_digits(), setting, 0, checkpoint, **running)
    h, network = chosen.hyperparameters(task, name), TASKS["mlp"].build(0, None)
    history, result = quantize(phases, network, chosen.methods[name], h)
    return result, history


def test_the_strengths_really_given_sum_to_the_reach_where_that_is_kept():
    """With the mean of lambda kept, or lambda as it is while the rate falls, they do not."""
    chosen, task, strengths = experiment_named("budget_curve"), "mlp-t1000", {}
    for name in chosen.methods:
        result, history = quantized(chosen, task, name, 50)
        assert ("strengths" in result) == name.startswith("prox_quant"), name
        if "strengths" in result:
            strengths[name] = result["strengths"]
            lam = np.divide(history.steps["strength"], history.steps["lr"])
            assert np.diff(lam) == pytest.approx(lam[1])  # lambda_t = rate * t, whatever the rate
    reach = chosen.hyperparameters(task, "prox_quant")["reach"]
    kept = ("prox_quant", "prox_quant_at_binary_connect_reach", "prox_quant_falling_reach")
    for name in kept:
        assert strengths.pop(name) == pytest.approx(reach, rel=1e-12), name
    assert strengths.pop("prox_quant_reach") == pytest.approx(families.REACH, rel=1e-12)
    rates = [chosen.hyperparameters(task, m)["lr"] for m in ("binary_connect", "prox_quant")]
    less = {
        "prox_quant_at_binary_connect": reach * rates[0] / rates[1],
        "prox_quant_falling": reach * bases.FALLING.share(50),
        "prox_quant_mean": 50 * 0.01 * families.MEAN_LAMBDA,
    }
    assert strengths == pytest.approx(less, rel=0.01) and max(less.values()) < 0.25 * reach


def test_the_sum_of_strengths_survives_an_interruption(monkeypatch, tmp_path):
    monkeypatch.setattr(protocol, "EVERY", 20)
    run = experiment_named("budget_curve"), "mlp-t1000", "prox_quant_falling_reach", 50
    with pytest.raises(OutOfTime):
        quantized(*run, str(tmp_path / "run"), deadline=0.0)
    resumed, _ = quantized(*run, str(tmp_path / "run"))
    assert resumed["strengths"] == quantized(*run)[0]["strengths"]


def test_methods_with_a_phase_that_projects_have_no_sum_of_strengths():
    chosen = experiment_named("methods")
    for name in ("binary_connect", "bop", "projected_gradient", "binary_relax_hard"):
        assert "strengths" not in quantized(chosen, "mlp", name, 10)[0]
    assert quantized(chosen, "mlp", "binary_relax", 10)[0]["strengths"] > 10


def test_what_a_falling_rate_leaves_of_the_strengths():
    t = np.arange(200)
    rate = np.where(t < 81, 1, np.where(t < 122, 0.1, 0.01))
    assert bases.FALLING.share(200) == pytest.approx((rate * t).sum() / t.sum())
    assert bases.CONSTANT.share(200) == 1.0 and 0 < bases.FALLING.share(1) <= 1
    with pytest.raises(ValueError, match="must fall at given steps, got one that validation"):
        bases.Base(divided=1.2).share(200)


def test_the_published_rate_falls_for_binary_connect_alone():
    """What `fit` recorded of each step."""
    chosen = experiment_named("binary_digits").of_family(families.PUBLISHED)
    task = dataclasses.replace(TASKS["mlp"])
    rates, last = {}, {}
    for name in ("binary_connect", "prox_quant"):
        setting = dataclasses.asdict(Setting(1, 200, 1))
        setting.pop("split", None)
        phases = Phases(task, load_digits(), setting, seed=0)
        kept = []
        fit = phases.fit

        def noting(phase, model, optimizer, fit=fit, kept=kept, **options):
            kept.append(optimizer.lr)
            return fit(phase, model, optimizer, **options)

        phases.fit = noting
        method = chosen.methods[name]
        h = chosen.hyperparameters("mlp", name)
        history, _ = quantize(phases, task.build(0, None), method, h)
        rates[name], last[name] = history.steps["lr"], kept[-1]
    assert set(rates["prox_quant"]) == {0.01} and last["prox_quant"] == 0.01
    falling = np.array(rates["binary_connect"])
    assert falling[80] == 0.01 and falling[[81, 121]] == pytest.approx(1e-3)
    assert falling[[122, 199]] == pytest.approx(1e-4)
    assert last["binary_connect"] == pytest.approx(1e-4)


def test_the_mean_of_lambda_says_the_same_as_the_reach():
    """reach = lr * mean * steps; at the published length the two published numbers are one."""
    w = TASKS["mlp"].build(0, None)

    def rate(**strength):
        base = optim.Adam(w.parameters(), 0.02)
        groups = METHODS["prox_quant"].groups(w, TASKS["mlp"].regularizer)
        return METHODS["prox_quant"].wrap(base, groups, 100, **strength).homotopy.rate

    assert rate(mean_lambda=3.0) == rate(reach=3.0 * 0.02 * 100)
    mean = np.mean([1e-4 * epoch for epoch in range(200)])
    assert mean == pytest.approx(families.MEAN_LAMBDA)
    assert pytest.approx(0.01 * mean * 390 * 200) == families.REACH


def test_the_warm_start_of_the_published_runs_falls_twice():
    schedule = bases.WARM_START.schedule(bases.WARM_START.lr, 200)
    assert [schedule(t) for t in (0, 99, 100, 149, 150)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 1e-3]
    )
    assert bases.CONSTANT.schedule(0.1, 200) is None


# In records and in the ledger --------------------------------------------------------------------


def test_a_record_and_its_cells_name_the_family(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = dataclasses.replace(
        TASKS["mlp"],
        quick=dataclasses.replace(
            TASKS["mlp"].quick,
            full_precision_steps=4,
            quantizing_steps=8,
            fine_tuning_steps=2,
        ),
    )
    monkeypatch.setitem(experiment_named("binary_digits").tasks, "mlp", task)
    run = ["experiment", "binary_digits", "--quick", "--only", "mlp", "--jobs", "1"]
    assert cli.main([*run, "--family", "published"]) == 0
    out = tmp_path / "results-binary_digits-published-quick"
    found = json.loads((out / "binary_digits-published-record.json").read_text())
    assert found["family"] == "published"
    assert found["tasks"]["mlp"]["hyperparameters"]["prox_quant"] == {
        "lr": 0.01,
        "mean_lambda": families.MEAN_LAMBDA,
    }
    cell = json.loads((out / "records" / "mlp-prox_quant-seed0.json").read_text())
    assert cell["arguments"]["family"] == "published"
    assert "as published" in capsys.readouterr().out
    published = (out / "binary_digits-published-record.json").read_bytes()
    assert cli.main([*run, "--out", str(out)]) == 0  # another family: a record of its own
    assert "family" not in json.loads((out / "binary_digits-record.json").read_text())
    assert (out / "binary_digits-published-record.json").read_bytes() == published


def test_the_ledger_keeps_families_apart(records):  # noqa: F811
    """Other verdicts in another family are a dependence on it, and stand side by side."""
    equal = record(better=-0.01)
    methods = equal["tasks"]["mlp"]["methods"]
    methods["binary_connect_at_prox_quant"] = methods.pop("binary_connect")
    page = records(
        binary_digits=record(better=0.01),
        binary_digits__published={**record(better=0.0), "family": "published"},
        binary_digits__equal={**equal, "family": "equal-rates"},
    )
    found = [line for line in rows(page, "err less than BinaryConnect's") if "| mlp | **" in line]
    verdicts = [line.split("|")[3].strip() for line in found]
    on = "**depends on the schedule and the rate**"
    alone = ["supported", "contradicted", "equal within m"]
    assert [v for v in verdicts if v != "**not yet measured**"] == [f"{on} ({v})" for v in alone]
    for family, words in (("published", "as published"), ("equal-rates", "at equal rates")):
        command = f"proxquant-np experiment binary_digits --seeds 10 --only mlp --family {family}"
        assert f"`{command}` ({words})" in page
    assert "as published (the authors' code, the rate and lambda" in page
    side = page.partition("## Family by family")[2].partition("\n## ")[0]
    (row,) = (line for line in side.splitlines() if "err less than BinaryConnect's" in line)
    cells = [cell.strip().split(",")[0] for cell in row.split("|")[3:7]]
    assert cells == ["supported", "equal within m", "contradicted", ""]


def test_the_ledger_shows_both_arms_at_the_rivals_rate(records):  # noqa: F811
    """One is equal, one contradicted; what is said of the hyperparameters tells them apart."""
    equal, chosen = record(better=0.0), experiment_named("binary_digits")
    kept = record(better=-0.01)["tasks"]["mlp"]["methods"]["prox_quant"]
    methods, moved = equal["tasks"]["mlp"]["methods"], "prox_quant_at_binary_connect"
    methods |= {moved: methods.pop("prox_quant"), f"{moved}_reach": kept}
    better = np.array(kept["test_error"]) + 0.01
    kept["test_error"] = better.tolist()
    found = chosen.of_family(families.EQUAL_RATES)
    equal["tasks"]["mlp"]["hyperparameters"] = {m: found.hyperparameters("mlp", m) for m in methods}
    page = records(
        binary_digits=record(better=0.01),
        binary_digits__equal={**equal, "family": "equal-rates"},
    )
    side = page.partition("## Family by family")[2].partition("\n## ")[0]
    (row,) = (line for line in side.splitlines() if "err less than BinaryConnect's" in line)
    cells = [cell.strip().split(",")[0] for cell in row.split("|")[3:8]]
    assert cells == ["supported", "", "", "equal within m", "contradicted"]
    for what in ("mean of lambda", "sum of strengths"):
        assert page.count(f"the same at the other's rate, with the {what} (prox_quant_at_") == 1


def test_signs_at_equal_rates_are_drawn_for_either_rate(monkeypatch, tmp_path):
    """In each figure both methods, from both starts, have one rate, and the titles say whose."""
    drawn = {}
    monkeypatch.setattr(
        plotting, "save_figure", lambda figure, _, path: drawn.update({path: figure})
    )
    chosen = experiment_named("stability").of_family(families.EQUAL_RATES)
    curves = {"change_from_start": {"w": [0.1]}, "change_from_last_epoch": {"w": [0.1]}}
    run = {"epochs": [1], "layers": curves}
    task = {"methods": dict.fromkeys(chosen.methods, run)}
    chosen.draw({"tasks": {"cnn": task}, "family": chosen.family}, tmp_path / "s")
    names = ["s_cnn_at_ProxQuant", "s_cnn_at_BinaryConnect", "s_cnn_at_BinaryConnect_reach"]
    assert [path.name for path in drawn] == names
    for path, figure in drawn.items():
        owner = path.name.split("_")[3]
        titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
        assert len(titles) == 4 and sum("from a BinaryConnect network" in t for t in titles) == 2
        for title in titles:
            title, kept, _ = title.partition(",\nthe sum of strengths kept")
            assert title.startswith(owner) != title.endswith(f"at {owner}'s rate")
            moved = path.name.endswith("_reach") and title.startswith("ProxQuant")
            assert bool(kept) == moved
    drawn.clear()
    for name in [name for name in task["methods"] if name.endswith("_reach")]:
        del task["methods"][name]  # as in records that were made before
    chosen.draw({"tasks": {"cnn": task}, "family": chosen.family}, tmp_path / "s")
    assert [path.name for path in drawn] == names[:2]


def test_the_ledger_of_one_family_has_no_such_table(records):  # noqa: F811
    assert "Family by family" not in records(binary_digits=record())


# The paper's own rows ----------------------------------------------------------------------------


def test_the_published_rival_is_rescaled_and_fitted_by_rows():
    chosen, rows = experiment_named("language_model"), prox.MultiBitL2(2, axis=0)
    for name, factor in (("straight_through_2_rescaled", 0.3), ("straight_through_2_rows", 1.0)):
        w = nn.Linear(8, 4, rng=0)
        fitted = rows.project(w.weight.data)
        lazy = chosen.methods[name].optimizer(w, 100, None, lr=0.01)
        assert isinstance(lazy, optim.DualAveraging)
        assert np.allclose(w.weight.data, factor * fitted, rtol=1e-6)
        assert len(np.unique(w.weight.data)) > 4 >= max(len(np.unique(r)) for r in w.weight.data)
    for name in ("binary_connect_pm1", "prox_quant_pm1"):
        assert chosen.methods[name].regularizer == prox.BinaryL1()
    by = {claim.first: claim.source for claim in chosen.claims}
    assert by["prox_quant_pm1"] == "paper" and by["prox_quant_1"] == "ours"


def test_binary_relax_projects_in_its_last_fifth():
    method = experiment_named("methods").methods["binary_relax_hard"]
    w = nn.Linear(8, 4, rng=0)
    lazy = method.optimizer(w, 100, prox.BinaryL1(), lr=0.01, last=50.0)
    lam = [lazy.lr * lazy.homotopy(t) for t in (0, 79, 80, 99)]
    assert lam == pytest.approx([1.0, 50.0, np.inf, np.inf])
    schedule = method.base.schedule(0.01, 100)
    assert (schedule(79), schedule(80)) == (0.01, pytest.approx(1e-3))
    lazy.steps = 80
    lazy.map_(lazy.latent, lazy.strength)
    assert set(np.unique(w.weight.data)) == {-1.0, 1.0}


def test_trained_ternary_spares_the_ends_and_keeps_its_schedule():
    chosen = experiment_named("resnet_cifar10")
    method, network = chosen.methods["trained_ternary"], models.ResNet(8, width=4, rng=0)
    lazy = method.optimizer(network, 100, None, lr=0.1)
    assert isinstance(lazy, optim.TrainedTernary) and isinstance(lazy.base, optim.SGD)
    assert len(lazy.params) == len(nn.quantizable_parameters(network, first=False, last=False))
    schedule = method.base.schedule(0.1, 400)
    assert [schedule(t) for t in (79, 80, 120, 300)] == pytest.approx([0.1, 0.01, 1e-3, 1e-4])
    published = chosen.of_family(families.PUBLISHED)
    assert published.tasks["resnet8"].warm_start is bases.WARM_START
    assert published.hyperparameters("resnet8", "full_precision") == {"lr": 0.1}
    ternary = published.hyperparameters("resnet8", "prox_quant_ternary")
    assert ternary["mean_lambda"] == pytest.approx(np.mean([1e-4 * e for e in range(400)]))


# The budget curve --------------------------------------------------------------------------------


@pytest.fixture
def curve():
    """A made-up summary: ProxQuant errs 2 points more at 200 steps, as much less from 4,000 on."""
    from proxquant_np.experiments import budget_curve

    rng, tasks = np.random.default_rng(0), {}
    for steps in budget_curve.BUDGETS["mlp"]:
        base = 0.05 + rng.normal(0, 1e-3, 6)
        more = {200: 0.02, 500: 0.02, 4000: -0.02, 8000: -0.02}.get(steps, 0.0)
        methods = {}
        for name in ("full_precision", *budget_curve.EXPERIMENT.methods):
            shift = more if name.startswith("prox_quant") else 0.0
            methods[name] = {"test_error": (base + shift + rng.normal(0, 1e-3, 6)).tolist()}
        tasks[f"mlp-t{steps}"] = {"methods": methods, "measure": "test_error"}
    return {"experiment": "budget_curve", "seeds": 6, "tasks": tasks}


def test_the_budget_curve_is_drawn_and_read(curve, tmp_path):
    from proxquant_np.experiments import budget_curve

    assert summary.draw(budget_curve.EXPERIMENT, curve, tmp_path / "b") == [
        tmp_path / "b_curve.png"  # and no row for each of 60 cells
    ]
    alone = {"mlp-t200": {**curve["tasks"]["mlp-t200"], "title": "MLP"}}
    one = {**curve, "tasks": alone}  # one number of steps is no curve
    assert summary.draw(budget_curve.EXPERIMENT, one, tmp_path / "c") == [tmp_path / "c.png"]
    data = json.loads((tmp_path / "b_curve.json").read_text("utf-8"))["networks"]["mlp"]
    assert data["steps"] == list(budget_curve.BUDGETS["mlp"])
    pairs = [how for panel in data["panels"].values() for how in panel]
    assert {*pairs} == {*budget_curve.PAIRS} and len(data["panels"]) == 3
    first = data["panels"]["Is it the rate?"]["as searched"][0]
    assert first["mean"] == pytest.approx(2.0, abs=0.2) and first["low"] < first["mean"]
    lines = list(budget_curve.EXPERIMENT.reading(curve))
    assert len(lines) == len(budget_curve.PAIRS) + 1  # a search has missed something
    (line,) = (line for line in lines if "mlp, as searched:" in line)
    assert "it turns between 500 and 4,000; contradicted at 200 to 500, equal within m at " in line
    assert line.endswith("1,000 to 2,000, supported at 4,000 to 8,000 steps.")
    for task in curve["tasks"].values():
        for name, values in task["methods"].items():
            if name.startswith("prox_quant"):
                values["test_error"] = [x + 0.1 for x in values["test_error"]]
    *lines, _ = budget_curve.EXPERIMENT.reading(curve)
    assert all("it does not turn" in line for line in lines)
    curve["tasks"]["mlp-t200"]["methods"]["prox_quant"]["test_error"] = curve["tasks"]["mlp-t200"][
        "methods"
    ]["binary_connect"]["test_error"]
    first, *_ = budget_curve.EXPERIMENT.reading(curve)
    assert "mlp, as searched: no turn is shown; equal within m at 200, contradicted at " in first


def test_the_budget_curve_tells_where_weights_are_projected_from_afar(curve):
    """Where more than a tenth of the warm start's gap is left; by which strengths, if known."""
    chosen, moved = experiment_named("budget_curve"), "prox_quant_at_binary_connect"
    for steps, left in ((200, 0.45), (500, 0.09), (1000, 0.18)):
        methods = curve["tasks"][f"mlp-t{steps}"]["methods"]
        methods["full_precision"]["gap"] = [0.9] * 6
        methods[moved]["gap"] = [left] * 6
        if steps > 200:
            methods[moved]["strengths"] = [0.345] * 6
    told = [line for line in chosen.reading(curve) if "from afar" in line]
    (line,) = told
    assert line.startswith("- mlp, at BinaryConnect's rate: ")
    assert line.endswith(
        " steps. ProxQuant is projected from afar, at 50% (with 200 steps), 20% (with 1,000 steps, "
        "strengths 0.34) of the warm start's gap."
    )


def test_a_search_that_missed_is_said_to_have(curve):
    """Where the published rate, which it could have tried, is better than the best of its trials;
    a rate that falls is none that it could have."""
    chosen = experiment_named("budget_curve")
    for task in curve["tasks"].values():
        methods = task["methods"]
        methods |= dict.fromkeys(("prox_quant_mean", "prox_quant_reach"), methods["prox_quant"])
        methods["binary_connect_constant"] = dict(methods["binary_connect"])
    assert not any("the search missed" in line for line in chosen.reading(curve))
    for name in ("binary_connect_constant", "binary_connect_published"):
        methods = curve["tasks"]["mlp-t1000"]["methods"]
        searched = np.array(methods["binary_connect"]["test_error"])
        methods[name]["test_error"] = (searched * 0.8).tolist()
    (line,) = (line for line in chosen.reading(curve) if "the search missed" in line)
    assert line.startswith("- mlp: the search missed better points, as the published rate shows: ")
    assert "BinaryConnect at the published rate, constant at 1,000 (20% lower)." in line


def test_a_record_made_before_is_drawn_and_read_without_its_new_pairs(curve, tmp_path):
    chosen = experiment_named("budget_curve")
    for task in curve["tasks"].values():
        for name in ("prox_quant_at_binary_connect_reach", "prox_quant_falling_reach"):
            del task["methods"][name]
    chosen.draw(curve, tmp_path / "b")
    data = json.loads((tmp_path / "b_curve.json").read_text("utf-8"))["networks"]["mlp"]
    drawn = {how for panel in data["panels"].values() for how in panel}
    assert len(drawn) == 8 == len(list(chosen.reading(curve))) - 1
    assert (
        "prox_quant_falling" in data["labels"] and "prox_quant_falling_reach" not in data["labels"]
    )


@pytest.fixture
def whole_curve(curve):
    """The same as a whole record."""
    chosen = experiment_named("budget_curve")
    for name, task in curve["tasks"].items():
        setting = dataclasses.asdict(chosen.tasks[name].setting)
        h = {method: chosen.hyperparameters(name, method) for method in task["methods"]}
        sizes = {"train": 1077, "validation": 360, "test": 360}
        task |= dict(title="MLP", setting=setting, hyperparameters=h, sizes=sizes)
    made = {"proxquant_np": "1", "revision": None, "python": "3", "numpy": "2", "machine": "m"}
    return {**curve, "quick": False, "environment": made}


def test_the_ledger_has_a_row_for_each_pair(whole_curve, records):  # noqa: F811
    from proxquant_np.experiments import budget_curve

    page = records(budget_curve__mlp=whole_curve)
    own = page.partition(f"## {budget_curve.EXPERIMENT.title}")[2].partition("\n## ")[0]
    table = [line for line in own.splitlines() if line.startswith("| ProxQuant errs less")]
    assert len(table) == len(budget_curve.PAIRS)
    assert all(len(line.split("|")) == 10 and "**+" in line and "**-" in line for line in table)
    assert "- mlp, as searched: it turns between 500 and 4,000;" in own
    assert "(figures/budget_curve-mlp_curve.png)" not in own  # none is drawn here
    assert page.count("has a lower perplexity than BinaryConnect, as searched") == 0


def test_the_families_of_a_budget_curve_are_corrected_apart(whole_curve):
    held = {"budget_curve-mlp": whole_curve}
    plain, whole = (
        [one for one in verdicts(held, Rules(correction=by)) if one.found is not None]
        for by in ("none", "experiment")
    )
    words = {"searched": "as searched", "equal-rates": "'s rate", "published": "as published"}
    sizes = []
    for family, said in words.items():
        own = [i for i, one in enumerate(plain) if one.claim.family == family]
        assert all(said in plain[i].claim.text for i in own)
        assert [whole[i].found for i in own] == corrected([plain[i].found for i in own])
        sizes.append(len(own))
    assert sizes == [24, 18, 18] and len(plain) == 60


def test_pairs_of_the_budget_curve_differ_in_one_thing():
    from proxquant_np.experiments import budget_curve

    chosen = budget_curve.EXPERIMENT
    found = {name: chosen.hyperparameters("mlp-t500", name) for name in chosen.methods}
    falls = {name: method.base.falls for name, method in chosen.methods.items()}
    assert found["prox_quant"]["lr"] == found["binary_connect_at_prox_quant"]["lr"]
    assert found["binary_connect"]["lr"] == found["prox_quant_at_binary_connect"]["lr"]
    own, moved = found["prox_quant"], found["prox_quant_at_binary_connect_reach"]
    assert moved == {"lr": found["binary_connect"]["lr"], "reach": own["reach"]}
    assert found["prox_quant_falling_reach"] == own
    assert falls["prox_quant_falling_reach"] == bases.FALLING.falls
    for name in ("prox_quant", "binary_connect"):
        assert found[f"{name}_falling"] == found[name]
        assert falls[f"{name}_falling"] == bases.FALLING.falls and not falls[name]
    assert found["binary_connect_published"] == found["binary_connect_constant"] == {"lr": 0.01}
    assert falls["binary_connect_published"] and not falls["binary_connect_constant"]
    for steps in (500, 8000):
        mean, reach = (
            chosen.methods[f"prox_quant_{kept}"].optimizer(
                TASKS["mlp"].build(0, None), steps, TASKS["mlp"].regularizer, **found[name]
            )
            for kept, name in (("mean", "prox_quant_mean"), ("reach", "prox_quant_reach"))
        )
        lam = np.array([[o.homotopy(t) for t in range(steps)] for o in (mean, reach)])
        assert lam[0].mean() == pytest.approx(families.MEAN_LAMBDA)
        assert 0.01 * lam[1].sum() == pytest.approx(families.REACH)
    assert chosen.hyperparameters("mlp-t500", "full_precision") == {"lr": 1e-3}


def test_the_name_of_a_row_stands_for_its_tasks():
    from proxquant_np.experiments.experiment import checked_tasks

    chosen = experiment_named("budget_curve")
    assert checked_tasks(chosen, ["cnn"]) == [t for t in chosen.tasks if t.startswith("cnn-")]
    assert checked_tasks(chosen, ["mlp-t500"]) == ["mlp-t500"]
    with pytest.raises(ValueError, match="no task 'ml'"):
        checked_tasks(chosen, ["ml"])
