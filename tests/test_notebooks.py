"""Every notebook runs from top to bottom in a clean kernel, and is committed so executed.

What a cell printed is compared with what it prints now. Where that depends on the machine, the cell
has a tag, and beside it in its metadata a "why":

    digits-vary    the words are compared, the numbers are not
    text-varies    nothing is

To execute a notebook again, in place:

    OMP_NUM_THREADS=1 jupyter nbconvert --to notebook --execute --inplace \
        --ExecutePreprocessor.record_timing=False notebooks/NAME.ipynb
"""

import difflib
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DIGITS, TEXT = "digits-vary", "text-varies"
NUMBER = re.compile(r"[-+]?(\d[\d,]*\.?\d*|\.\d+|nan|inf)(e[-+]?\d+)?%?")


def tags(cell):
    return set(cell.metadata.get("tags", [])) & {DIGITS, TEXT}


def text_of(cell):
    """What the cell shows as text: all it printed, then its results, pictures and sliders aside."""
    shown = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout"]
    for output in cell.outputs:
        data = output.get("data", {})
        if not any("widget" in kind for kind in data):  # a slider is there only with ipywidgets
            shown += [data[kind] + "\n" for kind in ("text/markdown", "text/plain") if kind in data]
    return "".join(shown)


def compared(cell):
    if TEXT in tags(cell):
        return ""
    if DIGITS in tags(cell):
        return " ".join(NUMBER.sub("#", text_of(cell)).split())
    return text_of(cell)


def stale(committed, fresh):
    """For each code cell whose committed text is not that of the fresh run, both, line by line."""
    found = []
    for i, (old, new) in enumerate(zip(committed.cells, fresh.cells, strict=True)):
        if old.cell_type == "code" and compared(old) != compared(new):
            both = (text_of(cell).splitlines() for cell in (old, new))
            lines = difflib.unified_diff(*both, "committed", "now", lineterm="", n=0)
            found.append(f"cell {i}:\n" + "\n".join(lines))
    return found


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_varies_says_why(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert ("why" in cell.metadata) == bool(tags(cell)), cell.source
        assert len(tags(cell)) < 2 and cell.metadata.get("why", "x").strip()


@pytest.mark.filterwarnings("default")  # of the Jupyter machinery, not of ours
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, tmp_path):
    committed, notebook = (nbformat.read(path, as_version=4) for _ in range(2))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    resources = {"metadata": {"path": str(tmp_path)}}
    kernel = {"env": os.environ | {"OMP_NUM_THREADS": "1"}}
    # A reply whose coming the client misses, once in some hundred runs, is found at the timeout.
    NotebookClient(notebook, timeout=120, resources=resources).execute(**kernel)
    differ = stale(committed, notebook)
    assert not differ, "\n\n".join([f"{path.name} was executed with other code:", *differ])


def notebook_of(printed, result=None, **metadata):
    """A notebook of one cell with these outputs."""
    make = nbformat.v4
    outputs = [make.new_output("stream", name="stdout", text=text) for text in printed]
    if result is not None:
        outputs.append(make.new_output("execute_result", data={"text/plain": result}))
    return make.new_notebook(cells=[make.new_code_cell(outputs=outputs, metadata=metadata)])


@pytest.mark.parametrize(
    ("old", "new", "metadata", "differ"),
    [
        ((["34 cases\n"],), (["30 cases\n"],), {}, True),
        ((["a\n", "b\n"],), (["a\nb\n"],), {}, False),  # a kernel splits streams as it likes
        (([], "3"), ([], "4"), {}, True),
        ((["a\n"],), ([],), {}, True),
        ((["error 1.2%, -3e-16\n"],), (["error   10%, 4\n"],), {"tags": [DIGITS]}, False),
        ((["error 1.2%: supported\n"],), (["error 1.2%: tie\n"],), {"tags": [DIGITS]}, True),
        ((["error 1.2%\n"],), (["error 1.2%\nerror 1%\n"],), {"tags": [DIGITS]}, True),
        ((["a\n"],), (["b\n"],), {"tags": [TEXT]}, False),
        ((["a\n"],), (["b\n"],), {"tags": ["autograd"]}, True),
    ],
)
def test_stale_outputs_are_caught(old, new, metadata, differ):
    assert bool(stale(notebook_of(*old, **metadata), notebook_of(*new, **metadata))) == differ


def test_thirty_lines_are_thirty_lines():
    """Notebook 12 promises a network of one's own, from data to a packed file, in 30 lines."""
    cells = nbformat.read(ROOT / "notebooks/12_your_own_network.ipynb", as_version=4).cells
    (cell,) = (cell for cell in cells if "thirty-lines" in cell.metadata.get("tags", []))
    assert sum(bool(line.strip()) for line in cell.source.splitlines()) <= 30
    for part in ("Spirals(pq.nn.Module)", "TernaryL2", "MultiBitL2(2", "checkpoint=", "pack("):
        assert part in cell.source
