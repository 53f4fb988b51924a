"""The readers of the golden vectors in other languages: what they accept, refuse and name.

Those in JavaScript need node, those in C++ a g++ that knows from_chars of a double.
"""

import functools
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from proxquant_np.conformance import vectors, write_vectors

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/golden_vectors"
LANGUAGES = {"javascript": ("node", 18), "c++": ("g++", 11)}

pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="docs/ is part of the repository, not of the package"
)


@functools.cache
def tool(language):
    """The path of what runs or compiles the language; skips where it is not installed."""
    name, lowest = LANGUAGES[language]
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    option = "--version" if name == "node" else "-dumpversion"
    said = subprocess.run([path, option], capture_output=True, text=True, check=True).stdout
    if int(re.search(r"\d+", said)[0]) < lowest:
        pytest.skip(f"{name} is older than {lowest}")
    return path


def program(language, folder, **changes):
    """The command that runs the check, in which `changes` replace the bodies of functions."""
    path = tool(language)
    suffix = ".mjs" if language == "javascript" else ".cpp"
    folder.mkdir()
    for file in FOLDER.iterdir():
        shutil.copy(file, folder)
    source = folder / f"binary_l1{suffix}"
    text = source.read_text("utf-8")
    for old, new in changes.values():
        assert text.count(old) == 1
        text = text.replace(old, new)
    source.write_text(text, "utf-8")
    if language == "javascript":
        return [path, str(source)]
    binary = folder / "binary_l1"
    options = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([path, *options, "-o", str(binary), str(source)], check=True, timeout=120)
    return [str(binary)]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """From a language to the command that runs its check as it is."""
    folder = tmp_path_factory.mktemp("readers")
    return functools.cache(lambda language: program(language, folder / language[0]))


@pytest.fixture(params=LANGUAGES)
def command(request, commands):
    return commands(request.param)


def run(command, golden=vectors.FOLDER):
    """(exit status, output, errors)"""
    done = subprocess.run([*command, str(golden)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def rewritten(folder, name, change):
    """Golden vectors in `folder`, one file changed and its checksum with it."""
    write_vectors(folder)
    content = change(old := (folder / name).read_bytes())
    assert content != old
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


def number_of_cases():
    tables = {"prox.json": ["binary_l1"], "quantizers.json": ["binary"]}
    tables |= {f"{name}.json": vectors.table(f"{name}.json") for name in ("sign_change", "steps")}
    return {
        file: sum(len(vectors.table(file)[kind]["cases"]) for kind in kinds)
        for file, kinds in tables.items()
    }


def test_binary_l1_is_right_in_every_case(command):
    count = number_of_cases()
    once = sum(count.values())
    twice = once + count["prox.json"] + count["quantizers.json"]  # in float32 and in float64
    checks = twice if command[0].endswith("node") else 2 * once
    assert run(command) == (0, f"{checks} checks, 0 faults\n", "")


SIGN = {"javascript": "(x >= 0 ? 1 : -1)", "c++": "return x >= 0 ? 1 : -1"}
CLIP = {
    "javascript": (
        "Math.min(Math.max(x - sign(x), -strength), strength)",
        "strength * (x - sign(x))",
    ),
    "c++": ("std::clamp(x - sign(x), -strength, strength)", "strength * (x - sign(x))"),
}
SIGNS = {
    "zero": {"javascript": "Math.sign(x)", "c++": "return (x > 0) - (x < 0)"},
    "minus": {"javascript": "(x > 0 ? 1 : -1)", "c++": "return x > 0 ? 1 : -1"},
    "negative_zero": {
        "javascript": "(x > 0 || Object.is(x, 0) ? 1 : -1)",
        "c++": "return std::copysign(Real(1), x)",
    },
    "nan_at_zero": {"javascript": "x / Math.abs(x)", "c++": "return x / std::abs(x)"},
}
ZERO = r"prox\.json binary_l1\[1\] in float(32|64): u\[0\] is"
NAMED = {
    "zero": [ZERO + " 0, not 0.125", r"quantizers\.json binary\[0\]", r"sign_change\[1\]"],
    "minus": [ZERO + " -0.125, not 0.125", r"quantizers\.json binary\[0\]", r"lazy_sgd\[6\]"],
    "negative_zero": [
        ZERO.replace("0\\]", "1\\]") + " -0.125, not",
        r"quantizers\.json binary\[1\]",
    ],
    "nan_at_zero": [ZERO + " -?nan, not 0.125", r"binary_l1\[1\] in float64: objective"],
    "clip": [r"prox\.json binary_l1\[1\] in float64: objective", r"eager_sgd\[\d\] in float64"],
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("bug", NAMED)
def test_a_planted_bug_is_named(bug, language, tmp_path):
    if bug == "clip":
        change = CLIP[language]
    else:
        change = SIGN[language], SIGNS[bug][language]
    status, out, errors = run(program(language, tmp_path / "reader", planted=change))
    assert (status, errors) == (1, "")
    assert [p for p in NAMED[bug] if not re.search(p, out, re.IGNORECASE)] == [], out
    faults = len(out.splitlines()) - 1
    assert out.splitlines()[-1].endswith(f" {faults} faults")


def test_the_page_shows_what_a_planted_bug_gives(tmp_path):
    planted = SIGN["javascript"], SIGNS["zero"]["javascript"]
    out = run(program("javascript", tmp_path / "reader", planted=planted))[1]
    page = (ROOT / "docs/golden_vectors.md").read_text("utf-8")
    assert re.search(r"```text\n(.*?)```", page, re.DOTALL)[1] == "".join(
        out.splitlines(keepends=True)[:2]
    )


def test_another_version_is_refused(command, tmp_path):
    write_vectors(tmp_path)
    manifest = tmp_path / "manifest.json"
    text = manifest.read_text("utf-8")
    for old, new, words in (
        ('"version": 1', '"version": 2', "version .*must be 1, got 2"),
        ("proxquant-np golden", "other", "format"),
    ):
        assert text.count(old) == 1
        manifest.write_text(text.replace(old, new), "utf-8")
        status, out, errors = run(command, tmp_path)
        assert (status, out) == (2, "") and re.search(words, errors), errors


@pytest.mark.parametrize("checksum", ["old", "new"])
def test_a_truncated_file_is_refused(command, checksum, tmp_path):
    """Wherever it ends, and even if the manifest was made for the truncated file."""
    whole = vectors.read("prox.json")
    for length in (0, 1, 30, 200, 401, len(whole) // 2, len(whole) - 3):
        golden = rewritten(tmp_path, "prox.json", lambda content, n=length: content[:n])
        if checksum == "old":
            shutil.copy(vectors.FOLDER / "manifest.json", golden)
        status, out, errors = run(command, golden)
        assert (status, out) == (2, ""), length
        assert errors.startswith("the golden vectors cannot be read: "), length


def test_what_contradicts_the_schema_is_refused(command, tmp_path):
    for old, new in (
        (b"0.5, -0.5", b"NaN, -0.5"),
        (b"0.5, -0.5", b"inf, -0.5"),
        (b"0.5, -0.5", b"null, -0.5"),
        (b"0.5, -0.5", b"0.1, -0.5"),  # no float32 number
        (b'"x": [0.0, ', b'"x": ['),
        (b'"u": [0.0, ', b'"u": [0.0, 0.0, '),
        (b'"u"', b'"v"'),
        (b'"strength": 0.0', b'"strength": []'),
        (b'"binary_l1"', b'"binary_l0"'),
        (b"\n}", b"\n}}"),
    ):
        change = lambda content, old=old, new=new: content.replace(old, new, 1)  # noqa: E731
        status, out, errors = run(command, rewritten(tmp_path, "prox.json", change))
        assert (status, out) == (2, "") and "cannot be read" in errors, new


def test_a_changed_result_is_found(command, tmp_path):
    change = lambda content: content.replace(b'"u": [0.125', b'"u": [0.126', 1)  # noqa: E731
    status, out, _ = run(command, rewritten(tmp_path, "prox.json", change))
    assert status == 1 and "prox.json binary_l1[1] in float32: u[0] is 0.125, not 0.126" in out


def javascript(code):
    """What the code prints, which may use everything that read.mjs exports."""
    code = f"import * as golden from {json.dumps((FOLDER / 'read.mjs').as_uri())}; {code}"
    command = [tool("javascript"), "--input-type=module", "-e", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_every_json_file_is_read_in_javascript_as_in_python():
    folder = json.dumps(str(vectors.FOLDER))
    for name in ("prox", "quantizers", "rules", "steps", "sign_change"):
        code = "(k, v) => Object.is(v, -0) ? '-0' : v"
        out = javascript(
            f"console.log(JSON.stringify(golden.cases({folder}, '{name}.json'), {code}))"
        )
        table = vectors.table(f"{name}.json").items()
        want = [
            {"place": f"{name}.json {kind}[{i}]", "kind": kind, **case}
            for kind, entry in table
            for i, case in enumerate(entry["cases"])
        ]
        assert json.loads(out) == signed(want)


def signed(value):
    """With "-0" in the place of -0.0, which == does not tell from 0.0."""
    if isinstance(value, dict):
        return {key: signed(v) for key, v in value.items()}
    if isinstance(value, list):
        return [signed(v) for v in value]
    return "-0" if isinstance(value, float) and repr(value) == "-0.0" else value


def test_the_large_arrays_are_read_in_javascript():
    code = "Object.entries(golden.arrays(%s)).map(([k, v]) => [k, v.constructor.name, [...v]])"
    out = json.loads(
        javascript(f"console.log(JSON.stringify({code % json.dumps(str(vectors.FOLDER))}))")
    )
    types = {np.dtype("f4"): "Float32Array", np.dtype("f8"): "Float64Array"}
    assert out == [
        [name, types[a.dtype], a.reshape(-1).tolist()] for name, a in vectors.large().items()
    ]


def test_every_value_is_as_the_schema_says():
    """Finite, one length in a case, the inputs float32 numbers; without another language."""
    inputs = {"x", "w", "strength", "A", "b", "point", "lr", "m", "v", "t", "a"}
    for name in ("prox", "quantizers", "rules", "steps", "sign_change"):
        for kind, entry in vectors.table(f"{name}.json").items():
            for case in entry["cases"]:
                arrays = {key: np.array(value, float) for key, value in case.items()}
                sizes = {n for a in arrays.values() for n in a.shape}
                assert len(sizes) == 1 and 0 not in sizes, (name, kind)
                for key, a in arrays.items():
                    assert a.ndim < 2 or key == "A"
                    assert np.isfinite(a).all()
                    assert key not in inputs or np.array_equal(a, a.astype(np.float32)), (kind, a)
    assert vectors.read("rules.json").isascii()


COUNTS = {
    "javascript": (
        "count.mjs",
        """import { cases } from "./read.mjs";
for (const file of process.argv.slice(3))
  console.log(file, cases(process.argv[2], file).length);
""",
    ),
    "c++": (
        "count.cpp",
        """#include <iostream>
#include "read.hpp"
int main(int argc, char** argv) {
    for (int i = 2; i < argc; i++)
        std::cout << argv[i] << " " << cases(argv[1], argv[i]).size() << "\\n";
}
""",
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_file_can_be_read(language, tmp_path):
    path, (name, text) = tool(language), COUNTS[language]
    for file in FOLDER.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / name).write_text(text, "utf-8")
    command = [path, str(tmp_path / name)]
    if language == "c++":
        command = [str(tmp_path / "count")]
        source = str(tmp_path / name)
        subprocess.run([path, "-std=c++17", "-o", *command, source], check=True, timeout=120)
    files = [p.name for p in sorted(vectors.FOLDER.glob("*.json")) if p.stem != "manifest"]
    done = subprocess.run([*command, str(vectors.FOLDER), *files], capture_output=True, text=True)
    sizes = [sum(len(e["cases"]) for e in vectors.table(file).values()) for file in files]
    expected = "".join(f"{file} {size}\n" for file, size in zip(files, sizes, strict=True))
    assert (done.stdout, done.stderr) == (expected, "")
