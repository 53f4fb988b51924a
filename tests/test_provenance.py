"""What a result was made with: the digest of the package, whose code it was, and how it is said."""

import hashlib
import importlib
import json
import runpy
import shutil
import sys
import types
from pathlib import Path

import pytest

import proxquant_np as pq
from proxquant_np import provenance
from proxquant_np.experiments import claims, summary
from proxquant_np.experiments.runner import read_record, run_cells
from proxquant_np.provenance import described, environment, grouped, in_words, is_same_code

ROOT = Path(__file__).parents[1]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of a package in miniature; called, it gives its digest."""
    root = tmp_path / "package"
    for name, content in {
        "__init__.py": b"a = 1\n",
        "experiments/b.py": b"b = 2\n",
        "data/digits.npz": b"\x00\r\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    def digest():
        provenance.package_digest.cache_clear()
        monkeypatch.setattr(provenance, "_ROOT", root)
        try:
            return provenance.package_digest()
        finally:
            provenance.package_digest.cache_clear()

    digest.root = root
    return digest


def test_digest_is_of_names_and_contents(package):
    root, whole = package.root, package()
    parts = [("__init__.py", b"a = 1\n"), ("data/digits.npz", b"\x00\r\n")]
    parts.append(("experiments/b.py", b"b = 2\n"))
    text = b"".join(f"{name}\0{len(content)}\0".encode() + content for name, content in parts)
    assert whole == hashlib.sha256(text).hexdigest()  # whatever the system
    for name in ("__init__.py", "data/digits.npz", "experiments/b.py"):
        before = (root / name).read_bytes()
        (root / name).write_bytes(before + b"#")
        assert package() != whole
        (root / name).write_bytes(before)
    (root / "__init__.py").rename(root / "a.py")
    assert package() != whole


def test_digest_leaves_out_what_does_not_belong_to_the_code(package):
    root, whole = package.root, package()
    (root / "__init__.py").write_bytes(b"a = 1\r\n")  # a checkout on Windows
    for name in (
        "__pycache__/a.cpython-311.pyc",
        "experiments/__pycache__/b.cpython-314.pyc",
        ".DS_Store",
        ".cache/x.py",
        "experiments/chosen/regime_map-w16-t300.json",  # what a search writes
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    assert package() == whole
    (root / "data/digits.npz").write_bytes(b"\x00\n")  # no text
    assert package() != whole


def test_digest_of_an_installed_copy_is_that_of_the_checkout(tmp_path, monkeypatch):
    checkout = provenance.package_digest()
    shutil.copytree(provenance._ROOT, tmp_path / "proxquant_np")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path / "proxquant_np")
    provenance.package_digest.cache_clear()
    assert provenance.package_digest() == checkout


@pytest.mark.parametrize(
    ("held", "revision"), [("abc-dirty\n", "abc-dirty"), ("", None), (None, None)]
)
def test_an_installed_copy_knows_the_revision_of_its_wheel(held, revision, package, monkeypatch):
    digest = package()
    monkeypatch.setattr(provenance, "_ROOT", package.root)
    if held is not None:
        (package.root / ".revision").write_text(held)
    assert provenance._revision.__wrapped__() == revision
    assert package() == digest


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_what_is_built_holds_the_revision(tmp_path, monkeypatch):
    """In a wheel and a source distribution; a wheel from the latter has its; if editable, none."""
    interface = types.ModuleType("interface")
    interface.BuildHookInterface = object
    for name in ("", ".builders", ".builders.hooks", ".builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, f"hatchling{name}", types.ModuleType("hatchling"))
    monkeypatch.setitem(sys.modules, "hatchling.builders.hooks.plugin.interface", interface)
    built = runpy.run_path(str(ROOT / "hatch_build.py"))

    def included(root, version="standard"):
        hook, data = built["Revision"](), {"force_include": {}}
        hook.root = str(root)
        hook.initialize(version, data)
        found = {name: Path(file).read_text() for file, name in data["force_include"].items()}
        hook.finalize(version, data, "")
        assert not any(folder.exists() for folder in hook.made)
        return found

    made = {built["NAME"]: f"{provenance._revision.__wrapped__()}\n"}
    assert included(ROOT) == made
    assert included(ROOT, "editable") == included(tmp_path) == {}
    (tmp_path / built["NAME"]).parent.mkdir()
    (tmp_path / built["NAME"]).write_text("abc\n")
    assert included(tmp_path) == {built["NAME"]: "abc\n"}
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert included(tmp_path) == {}  # no git


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"processor": "another", "blas": "another", "machine": "arm64", "cores": 1}, True),
        ({"numpy": "2.0.0"}, False),
        ({"python": "3.99"}, False),
        ({"digest": "0" * 64}, False),
        ({"revision": "0" * 40}, True),  # the digest says more: it knows what was changed
        ({"digest": None, "revision": "0" * 40}, False),
        ({"digest": None, "revision": None}, False),
        ({"digest": None, "revision": "r"}, True),
        ({"digest": None, "revision": "r-dirty"}, False),
    ],
)
def test_same_code(changed, same, monkeypatch):
    monkeypatch.setattr(provenance, "_revision", lambda: "r")
    assert is_same_code({**environment(), **changed}) is same
    old = {k: v for k, v in environment().items() if k not in ("digest", "blas", "device")}
    assert is_same_code(old)  # of the same revision


def test_runs_are_counted_and_described():
    a, b = {**environment(), "revision": "0123456789abcdef-dirty"}, {"proxquant_np": "0.1.0"}
    groups = grouped([b, a, None, a])
    assert [group["runs"] for group in groups] == [2, 1, 1]
    first, second, third = described(groups)
    version = provenance.__version__
    start = f"2 of 4 runs are from proxquant_np {version} at revision 0123456789ab, changed"
    assert first.startswith(start)
    assert a["digest"][:12] in first and f"device {a['device']}" in first
    assert second.count("unknown") == 7
    assert third == "1 of 4 runs are from code and machines that were not recorded"
    assert in_words(a) in first


def square(a, log):
    with open(log, "a") as file:
        file.write(f"{a}\n")
    return a * a


def test_stale_records_are_told_and_run_again_if_asked(tmp_path):
    """As the report has it: every record says another NumPy."""
    log, out = tmp_path / "log", tmp_path / "out"
    cells = {f"c{a}": {"a": a, "log": str(log)} for a in range(4)}
    options = dict(jobs=1, out=out, progress=False)
    first = run_cells(square, cells, **options)
    assert set(map(str, first.made.values())) == {str(environment())}
    for name in ("c1", "c2"):
        record = json.loads((out / f"{name}.json").read_text())
        record["environment"]["numpy"] = "1.99"
        (out / f"{name}.json").write_text(json.dumps(record))
    again = run_cells(square, cells, **options)
    assert again == first and len(log.read_text().split()) == 4
    assert [group["runs"] for group in grouped(again.made.values())] == [2, 2]
    assert again.made["c1"]["numpy"] == "1.99"
    fresh = run_cells(square, cells, rerun="stale", **options)
    assert log.read_text().split()[4:] == ["1", "2"]
    assert fresh == first and fresh.made == first.made
    assert read_record(out / "c1.json", cells["c1"]) == 1
    with pytest.raises(ValueError, match="rerun must be one of None, 'stale', got 'all'"):
        run_cells(square, cells, rerun="all", **options)


def test_old_records_and_summaries_stay_readable(tmp_path):
    """Of before digests: what was not recorded is called unknown, or not recorded."""
    old = {"revision": "r", "python": "3", "numpy": "2", "machine": "m"}
    old["proxquant_np"] = provenance.__version__  # runs of another version are made again
    path = tmp_path / "out" / "c0.json"
    path.parent.mkdir()
    arguments = {"a": 0, "log": str(tmp_path / "log")}
    path.write_text(json.dumps({"arguments": arguments, "environment": old, "result": 7}))
    found = run_cells(square, {"c0": arguments}, jobs=1, out=path.parent, progress=False)
    assert found == {"c0": 7} and found.made == {"c0": old}
    kept = {"tasks": {"a": {"methods": {m: {"error": [0, 0, 0]} for m in "xy"}}}}
    assert summary.runs_of(kept) == [{"runs": 6, "environment": None}]


def test_runs_of_another_setting_are_kept(tmp_path):
    """Whatever is run into the same folder: both records stay, and both are read again."""
    log, out = tmp_path / "log", tmp_path / "out"
    options = dict(jobs=1, out=out, progress=False)
    full, quick = ({"c": {"a": a, "log": str(log)}} for a in (5, 2))
    run_cells(square, full, **options)
    before = (out / "c.json").read_bytes()
    for _ in range(2):
        assert run_cells(square, quick, **options) == {"c": 4}
        assert run_cells(square, full, **options) == {"c": 25}
    assert (out / "c.json").read_bytes() == before
    assert len(list(out.glob("c*.json"))) == 2 and log.read_text().split() == ["5", "2"]


def test_checkpoints_of_other_code_are_not_resumed(tmp_path, monkeypatch):
    from proxquant_np.experiments.runner import _checkpoint

    here = _checkpoint(tmp_path, "c", {"a": 1})
    assert _checkpoint(tmp_path, "c", {"a": 1}) == here != _checkpoint(tmp_path, "c", {"a": 2})
    monkeypatch.setattr(provenance, "package_digest", lambda: "other")
    assert _checkpoint(tmp_path, "c", {"a": 1}) != here


def test_the_ledger_and_the_figures_carry_it(tmp_path):
    folder = Path(__file__).parents[1] / "figures"
    if not folder.exists():
        pytest.skip("not part of the package")
    record = json.loads((folder / "records" / "methods-record.json").read_text("utf-8"))
    total = summary.runs_of(record)[0]["runs"]
    assert json.loads((folder / "methods.json").read_text("utf-8"))["runs"][0]["runs"] == total
    text = f"{total} of {total} runs are from code and machines that were not recorded"
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "methods.json").write_text(json.dumps(record))
    assert text in claims.ledger(tmp_path / "records")
    made = environment()
    record["runs"] = [{"runs": total - 1, "environment": made}, {"runs": 1, "environment": None}]
    (tmp_path / "records" / "methods.json").write_text(json.dumps(record))
    page = claims.ledger(tmp_path / "records")
    assert f"- {total - 1} of {total} runs are from {in_words(made)}." in page
    assert f"- 1 of {total} runs are from code and machines that were not recorded." in page


def test_the_package_has_no_names_but_its_own():
    assert pq.conformance is importlib.import_module("proxquant_np.conformance")
    for name in ("conform", "zebra"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(pq, name)
