"""The page of derivatives is what its script makes of the source, and misses no operation."""

import runpy
from pathlib import Path

import proxquant_np.functional as F

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "derivatives.py"))
FUSED = {"conv2d", "max_pool2d", "avg_pool2d", "batch_norm", "embedding", "lstm"}


def test_the_committed_page_is_what_the_script_makes():
    assert (ROOT / "docs" / "derivatives.md").read_text("utf-8") == SCRIPT["page"]()


def test_every_operation_is_on_it():
    page = SCRIPT["page"]()
    listed = {row.split("`")[1].split("(")[0] for row in page.splitlines() if row[:3] == "| `"}
    assert listed == set(F.__all__) - FUSED
    assert all(f"`{name}`" in page for name in FUSED)


def test_formulas_are_read_from_the_source(tmp_path):
    source = tmp_path / "ops.py"
    source.write_text(
        """
@differentiable
def scale(input: Array, factor: Array) -> Traced:
    '''factor |x|.'''
    return y, lambda g: (lambda: _only(_times(g, factor), input > 0), None)
"""
    )
    wanted = "| `scale(input, factor)` | factor \\|x\\|. | `g * factor [input > 0]`, - |"
    assert SCRIPT["rows"](source) == [wanted]
