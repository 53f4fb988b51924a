"""The survey of quantizers: what it measures, its record, and what notebook 13 says of it.

No library of the survey is needed, nor the network: functions in NumPy stand in for them.
"""

import datetime
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

import proxquant_np as pq
from proxquant_np import plotting

ROOT = Path(__file__).parents[1]
RECORD = json.loads((ROOT / "figures/survey.json").read_text("utf-8"))
NOTEBOOK = ROOT / "notebooks/13_a_survey_of_quantizers.ipynb"
MEASURED = {name: e["measured"] for name, e in RECORD["entries"].items() if "measured" in e}


@pytest.fixture(autouse=True)
def root_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def measures():
    from benchmarks import survey_measures

    return survey_measures


@pytest.fixture
def entries():
    from benchmarks import survey_entries

    return survey_entries


# What is measured, on functions whose behaviour is known


def narrow(w):
    """Integers of 4 bits, scale max|w| / 7 of each row, ties to even."""
    return pq.prox.Integers(4, axis=0).quantize(w)


def test_a_quantizer_that_is_known(measures):
    found = measures.quantizer_record(narrow, 32, 7)
    assert found["zero"] == {"0": 0.0, "-0": 0.0, "keeps the sign of -0": False}
    assert found["levels"] == {
        "count": 15,
        "values": 15,
        "from": -1.0,
        "to": 1.0,
        "thresholds": 14,
        "halfway": 14,
        "ties": 14,
        "ties go": "to even",
    }
    assert found["largest"] == {"positive": 1.0, "negative": 1.0}
    assert found["binary_already"]["kept to the bit"]
    assert found["constant"] == {"positive": [1.0], "negative": [1.0]}
    assert found["one_element"] == {"becomes": [1.0]}
    assert found["one_output"] == {"as among others": True}
    assert found["scale_shared_by"] == "the row"
    assert found["dtypes"] == {
        "float32": "float32",
        "float64": "float64",
        "more than float32": True,
    }
    assert found["again"] == {"second call moves": 0.0, "still from": 2, "drift": 0.0}
    assert found["odd"] == {"differs by": 0.0} and found["same_twice"] is True
    assert found["scaled"] == {"2^-20": 0.0, "2^20": 0.0} and found["zeros"] == [0.0]
    x, q = found["map_on_grid"]["x"], found["map_on_grid"]["q"]
    assert len(x) == len(q) == measures.SHOWN and q[0] == -1 and q[-1] == 1


def scale(w):
    return np.abs(w).max() / np.float32(7) or np.float32(1)


FAULTS = {
    "no level at 0": (lambda w: np.where(w > 0, 1.0, -1.0), "zero", "0", -1 / 7),
    "-0 stays -0": (lambda w: np.rint(w), "zero", "keeps the sign of -0", True),
    "ties up": (lambda w: np.floor(w / scale(w) + 0.5) * scale(w), "levels", "ties go", "up"),
    "ties down": (lambda w: np.ceil(w / scale(w) - 0.5) * scale(w), "levels", "ties go", "down"),
    "ties away": (
        lambda w: np.copysign(np.floor(np.abs(w) / scale(w) + 0.5), w) * scale(w),
        "levels",
        "ties go",
        "away from zero",
    ),
    "ties to zero": (
        lambda w: np.copysign(np.ceil(np.abs(w) / scale(w) - 0.5), w) * scale(w),
        "levels",
        "ties go",
        "to zero",
    ),
    "truncated": (lambda w: np.trunc(w), "levels", "halfway", 0),
    "clipped": (lambda w: np.clip(np.rint(w), -8, 6), "largest", "positive", 6 / 7),
    "largest negative lost": (lambda w: np.clip(np.rint(w), -6, 8), "largest", "negative", 6 / 7),
    "an offset": (lambda w: np.rint(w - 0.25) + 0.25, "zero", "0", 0.25 / 7),
    "constants to 0": (lambda w: w * (np.ptp(w) > 0), "constant", "positive", [0.0]),
    "a scale of both signs": (
        lambda w: np.clip(np.rint(w / np.ptp(w) * 15), -8, 7) * np.ptp(w) / 15,
        "one_sided",
        "largest",
        0.35,
    ),
    "an epsilon": (lambda w: np.rint(w / max(scale(w), 1e-3)) * scale(w), "scaled", "2^-20", 1.0),
    "float32 alone": (lambda w: w.astype(np.float32), "dtypes", "float64", "float32"),
    "float64 alone": (lambda w: w.astype(np.float64), "dtypes", "float32", "float64"),
    "float32 inside": (
        lambda w: (w.astype(np.float32) / 3).astype(w.dtype),
        "dtypes",
        "more than float32",
        False,
    ),
    "shrinking": (lambda w: w * np.float32(0.5), "again", "still from", "none of 20"),
    "one call too few": (lambda w: np.rint(w / 4) * 4 * (np.abs(w) != 4), "again", "still from", 3),
    "a shift": (lambda w: w + np.float32(7 / 4), "odd", "differs by", 0.5),
    "the tensor's scale": (
        lambda w: np.rint(w / scale(w)) * scale(w),
        "one_output",
        "as among others",
        False,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_measured(name, measures):
    fn, measure, key, value = FAULTS[name]
    found = measures.quantizer_record(fn, 32, 7)[measure]
    expected = pytest.approx(value, rel=2e-2) if isinstance(value, float) else value
    assert found[key] == expected
    assert measures.quantizer_record(narrow, 32, 7)[measure].get(key) != expected


@pytest.mark.parametrize(
    ("shared", "options"),
    [("the tensor", {}), ("the row", {"axis": 0}), ("the column", {"axis": 1})]
    + [(f"blocks of {block}", {"block": block}) for block in (8, 16)],
)
def test_what_shares_a_scale(shared, options, measures):
    fn = pq.prox.Integers(4, **options).quantize
    assert measures.quantizer_record(fn, 32, 7)["scale_shared_by"] == shared
    fixed = measures.quantizer_record(pq.prox.Rounded([-1, 0, 1]).quantize, 32, 7)
    assert fixed["scale_shared_by"] == "none: fixed levels"


def test_levels_that_are_floats(measures):
    """All levels of a float format are seen, though most of them are small."""
    found = measures.quantizer_record(pq.prox.Codebook("e4m3").quantize, 32, 448)["levels"]
    assert (found["count"], found["ties go"]) == (253, "to even")
    found = measures.quantizer_record(lambda w: w, 32, 1)["levels"]
    assert found["count"] == "more than 600"


def test_infinite_results_are_words(measures):
    found = measures.quantizer_record(lambda w: w * np.abs(w).max(), 32, 7)
    json.dumps(found, allow_nan=False)
    assert found["again"]["drift"] in ("inf", "nan")


def test_what_is_refused_is_said(measures):
    def picky(w):
        if w.shape == (1, 1) or w.dtype == np.float64:
            raise NotImplementedError
        return w[:1] if len(w) == 1 else w

    found = measures.quantizer_record(picky, 32, 1)
    assert found["one_element"] == {"refused": "NotImplementedError"}
    assert found["dtypes"] == {"float32": "float32", "float64": "refused: NotImplementedError"}
    short = measures.quantizer_record(lambda w: w[:, 1:], 32, 1)
    assert short["zeros"] == {"refused": "an array of shape (8, 31) for weights of shape (8, 32)"}


def soft(x, s):
    return np.copysign(np.maximum(np.abs(x) - s, 0), x)


def hard(x, s):
    return np.where(np.abs(x) > np.sqrt(2 * s), x, 0)


PROXES = {
    "soft": (soft, "soft_threshold", "objective", "factor", 1.0),
    "half of it": (lambda x, s: soft(x, s / 2), "soft_threshold", "objective", "factor", 0.5),
    "hard": (hard, "hard_threshold", "objective", "factor", 1.0),
    "hard at s": (
        lambda x, s: np.where(np.abs(x) > s, x, 0),
        "hard_threshold",
        "objective",
        "factor",
        "none of those tried",
    ),
    "ties to 0": (hard, "hard_threshold", "threshold", "a weight there goes", "to 0"),
    "ties kept": (
        lambda x, s: np.where(np.abs(x) >= np.sqrt(2 * s), x, 0),
        "hard_threshold",
        "threshold",
        "a weight there goes",
        "kept",
    ),
    "ridge": (lambda x, s: x / (1 + s), "ridge", "objective", "factor", 1.0),
    "ridge without 1/2": (lambda x, s: x / (1 + 2 * s), "ridge", "objective", "factor", 2.0),
    "huber": (
        lambda x, s: np.where(np.abs(x) <= 1 + s, x / (1 + s), soft(x, s)),
        "huber",
        "objective",
        "factor",
        1.0,
    ),
    "huber that changes at 1": (
        lambda x, s: np.where(np.abs(x) <= 1, x / (1 + s), soft(x, s)),
        "huber",
        "objective",
        "factor",
        "none of those tried",
    ),
    "mcp": (
        lambda x, s: np.where(np.abs(x) > 3, x, soft(x, s) / (1 - s / 3)),
        "mcp",
        "objective",
        "factor",
        1.0,
    ),
    "binary": (pq.prox.BinaryL2().prox, "binary_relax", "objective", "factor", 1.0),
    "-0": (soft, "soft_threshold", "zero", "keeps the sign of -0", True),
    "float64": (
        lambda x, s: soft(x, s) + 0.0,
        "soft_threshold",
        "zero",
        "keeps the sign of -0",
        False,
    ),
    "another of -x": (
        lambda x, s: np.maximum(x - s, 0),
        "soft_threshold",
        "odd",
        "differs by",
        3.5,
    ),
    "never idle": (lambda x, s: x / 2, "ridge", "strength_zero", "changes nothing", False),
    "one alone": (lambda x, s: x * x.size, "ridge", "one_element", "as among others", False),
}


@pytest.mark.parametrize("name", PROXES)
def test_proxes_that_are_known(name, measures):
    fn, penalty, measure, key, value = PROXES[name]
    expected = pytest.approx(value, abs=0.02) if isinstance(value, float) else value
    assert measures.prox_record(fn, penalty)[measure][key] == expected


# The process that answers


def answered(entries, monkeypatch, make, *requests):
    """What `serve` writes for an entry that is made so."""
    monkeypatch.setitem(entries.ENTRIES, "own", entries.Entry(make, "own", ("numpy==2",)))
    asked, answers = io.BytesIO(), io.BytesIO()
    for which, *arrays in [*requests, ("end",)]:
        for part in (which, len(arrays), *arrays)[: 1 if which == "end" else None]:
            entries.write(asked, part)
    asked.seek(0)
    entries.serve("own", asked, answers)
    answers.seek(0)
    found = []
    while answers.tell() < len(answers.getvalue()):
        found.append(entries.read(answers))
    return found


def test_the_process_answers(entries, monkeypatch):
    def double(w):
        w *= 2
        return w

    w = np.ones((2, 3), np.float32)
    versions, trained, error, after, out = answered(
        entries, monkeypatch, lambda: double, ("q", w.copy())
    )
    assert str(versions[0]) == f"numpy {np.__version__}" and not trained
    assert str(error) == "" and (after == 2).all() and (out == 2).all()
    pair = (lambda x, s: x * s, lambda w, g: 3 * g)
    parts = answered(entries, monkeypatch, lambda: pair, ("q", w, 0.5), ("g", w, 2 * w))
    assert parts[1] and (parts[4] == 0.5).all() and parts[4].dtype == np.float32
    assert (parts[7] == 6).all()


def test_errors_go_through_the_process_by_name(entries, monkeypatch):
    def refuse(w):
        raise KeyError("secret")

    *_, error, after, out = answered(entries, monkeypatch, lambda: refuse, ("q", np.ones(2)))
    assert str(error) == "KeyError" and out.size == 0 and (after == 1).all()
    *_, error, _, _ = answered(entries, monkeypatch, lambda: np.isnan, ("q", np.ones(2)))
    assert str(error) == "result of dtype bool"


def test_a_process_that_ends_is_said(tmp_path):
    from benchmarks import survey

    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho the last line >&2\n")
    program.chmod(0o755)
    found = survey.measured(program, "torch_fake_quantize", survey.ENTRIES["torch_fake_quantize"])
    assert found["failed"] and found["said"] == "the last line"


def test_a_real_entry(monkeypatch):
    """The whole way, with a package that is here."""
    pytest.importorskip("ml_dtypes")
    import sys

    from benchmarks import survey

    found = survey.measured(
        Path(sys.executable), "ml_dtypes_e2m1", survey.ENTRIES["ml_dtypes_e2m1"]
    )
    assert found["measured"]["levels"]["count"] == 15
    assert found["measured"]["input changed"] is False
    json.dumps(found, allow_nan=False)


# The record


def test_the_record_has_the_entries(entries):
    assert [*RECORD["entries"]] == [*entries.ENTRIES]
    assert len(MEASURED) >= 30
    for name, entry in entries.ENTRIES.items():
        found = RECORD["entries"][name]
        assert found["title"] == entry.title and found["requires"] == list(entry.requires)
        assert (found["width"], found["peak"]) == (entry.width, entry.peak)
        assert (found["kind"], found["penalty"]) == (entry.kind, entry.penalty)


def test_the_record_is_whole(measures):
    json.dumps(RECORD, allow_nan=False)
    names = {
        "quantizer": [m.__name__ for m in measures.QUANTIZER_MEASURES],
        "prox": [*measures.PROX_MEASURES],
    }
    for name, entry in RECORD["entries"].items():
        assert all(re.fullmatch(r"[\w.\-\[\]]+==[\w.]+", pin) for pin in entry["requires"]), name
        assert datetime.date.fromisoformat(entry["date"]) >= datetime.date(2026, 11, 28)
        if "failed" in entry:
            assert "measured" not in entry and entry["said"]
            continue
        assert [*entry["measured"]] == [*names[entry["kind"]], "input changed"], name
        pin = entry["requires"][0].replace("[torch]", "").replace("==", " ")
        assert entry["versions"][0].partition("+")[0] == pin
        assert entry["kit"] is None or entry["kit"]["verdict"] in (
            "right",
            "heuristic",
            "wrong",
            "misuse",
            "valid, optimum unknown",
        )
    assert all(why for why in RECORD["not installed"].values())


def test_adapters_are_short(entries):
    """A dozen lines each, without the decorator."""
    text = (ROOT / "benchmarks/survey_entries.py").read_text("utf-8")
    for name in entries.ENTRIES:
        (body,) = re.findall(rf"^def {name}\(\):\n(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
        assert sum(bool(line.strip()) for line in body.splitlines()) <= 12, name


def test_the_picture_is_that_of_the_record(tmp_path):
    figure = plotting.survey(RECORD)
    drawn = {name for name, m in MEASURED.items() if "q" in m["map_on_grid"]}
    assert [ax.get_title() for ax in figure.axes] == [
        name.replace("_", " ") for name in MEASURED if name in drawn
    ]
    plotting.save_figure(figure, RECORD, tmp_path / "survey")
    committed = ROOT / "figures/survey.json"
    assert (tmp_path / "survey.json").read_bytes() == committed.read_bytes()
    some = [*drawn][:3]
    assert len(plotting.survey(RECORD, some).axes) == 3


# What notebook 13 says


def text_of_notebook():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def at(name, *keys):
    found = MEASURED[name]
    for key in keys:
        found = found[key]
    return found


STATEMENTS = {
    "Rounding to even, as IEEE arithmetic does, is the most common": lambda: (
        sum(m["levels"].get("ties go") == "to even" for m in MEASURED.values() if "levels" in m)
        == max(
            sum(m["levels"].get("ties go") == way for m in MEASURED.values() if "levels" in m)
            for way in ("to even", "up", "down", "away from zero", "to zero", "up and down")
        )
    ),
    "*away from zero*": lambda: at("gguf_q8_0", "levels", "ties go") == "away from zero",
    "*up*": lambda: at("onnxruntime_4bits", "levels", "ties go") == "up",
    "*down*": lambda: at("gguf_q4_0", "levels", "ties go") == "down",
    "keep it, and waste one code": lambda: (
        at("quanto_int8", "largest") == {"positive": 1.0, "negative": 1.0}
        and at("quanto_int8", "levels", "count") == 255
    ),
    "smaller or larger by a fifteenth": lambda: (
        at("compressed_tensors_int4", "largest", "positive") == pytest.approx(14 / 15, abs=1e-5)
        and at("compressed_tensors_int4", "largest", "negative") == pytest.approx(16 / 15, abs=1e-5)
    ),
    "keep that one, and clip its opposite": lambda: (
        at("onnxruntime_4bits", "largest") == {"positive": 1.0, "negative": 1.0}
        and at("onnxruntime_4bits", "binary_already", "positive") == [0.875]
    ),
    "so each call shrinks them": lambda: (
        at("bitlinear_pytorch", "again", "still from") == "none of 20"
    ),
    "Those with $\\max|w|/7.5$ move, too, and upwards": lambda: (
        at("torchao_int4", "again", "drift") > 1
        and at("compressed_tensors_int4", "again", "drift") > 1
    ),
    "A ridge without its $\\frac12$ has factor 2": lambda: (
        at("pyunlocbox_l2", "objective", "factor") == 2
    ),
    "agree on $L_1$": lambda: all(
        e["measured"]["objective"]["factor"] == 1
        for e in RECORD["entries"].values()
        if e["penalty"] == "soft_threshold" and "measured" in e
    ),
    "Hard thresholding has none: all libraries cut at the number that they are given": lambda: all(
        e["measured"]["objective"]["factor"] == "none of those tried"
        and e["measured"]["threshold"]["at"] == 0.5
        for e in RECORD["entries"].values()
        if e["penalty"] == "hard_threshold" and "measured" in e
    ),
}


@pytest.mark.parametrize("words", STATEMENTS)
def test_statements_agree_with_the_record(words):
    assert words in text_of_notebook().replace("\n", " ")
    assert STATEMENTS[words]()


def test_each_surprise_has_its_script():
    text = NOTEBOOK.read_text("utf-8")
    scripts = re.findall(r"findings/([\w-]+)\.sh", text)
    assert len(set(scripts)) >= 5
    assert all((ROOT / f"findings/{name}.sh").is_file() for name in scripts if "{" not in name)
