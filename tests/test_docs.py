"""The site builds without a warning, and its links and figures lead somewhere.

All but the first test need the extra `docs`. The notebooks are not executed here: test_notebooks.py
does that, and the documented command.
"""

import json
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]


def test_what_the_site_changes_in_a_page_leaves_a_notebook_whole():
    read_source = runpy.run_path(str(ROOT / "docs/conf.py"))["read_source"]
    for path in ROOT.glob("notebooks/**/*.ipynb"):
        before = path.read_text("utf-8")
        source = [before]
        read_source(None, path.relative_to(ROOT).with_suffix("").as_posix(), source)
        cells, changed = (json.loads(text)["cells"] for text in (before, source[0]))
        assert [c.keys() for c in cells] == [c.keys() for c in changed]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline"):
        pytest.importorskip(module, reason=f"{module}, of the extra docs, is not installed")
    out = tmp_path_factory.mktemp("build") / "html"
    options = ["-q", "-W", "-c", "docs", "-D", "nb_execution_mode=off", ".", str(out)]
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return out


class Page(HTMLParser):
    """The addresses that a page names, and the ids it defines."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        self.targets += [attributes[key] for key in ("href", "src") if attributes.get(key)]


def broken(folder):
    """(page, address) wherever a page names a file or an anchor that is not there."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].ids):
                yield str(path.relative_to(folder.resolve())), target


def test_links_and_figures_are_there(site):
    assert list(broken(site)) == []


def test_nothing_is_loaded_from_a_network(site):
    for path in site.rglob("*.html"):
        loaded = [part.split('"')[0] for part in path.read_text("utf-8").split(' src="')[1:]]
        assert not [address for address in loaded if urlsplit(address).netloc]
    assert (site / "_static/mathjax/tex-chtml.js").is_file()


def test_every_notebook_and_layer_has_a_page(site):
    notebooks = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/exercises/*.ipynb")]
    layers = [path.parent for path in ROOT.glob("proxquant_np/*/__init__.py")]
    pages = [path.relative_to(ROOT).with_suffix(".html") for path in notebooks]
    pages += [Path("docs/api") / f"{path.name}.html" for path in layers]
    assert len(pages) > 25 and not [page for page in pages if not (site / page).is_file()]


def test_docstrings_are_rendered_as_they_read(site):
    text = (site / "docs/api/prox.html").read_text("utf-8")
    assert "R(w) = sum_i | |w_i| - 1 |." in text  # not a substitution, not a link
    assert 'class="go">array([-1.25, -0.75,  0.45,  1.  ])' in text  # an example


def test_formulas_in_tables_are_whole(site):
    for path in site.rglob("*.html"):
        cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", path.read_text("utf-8"), re.DOTALL)
        assert not [cell for cell in cells if "$" in cell]  # left over where a | splits a formula


def test_broken_links_are_caught(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="a.html#x"><a href="https://e.org/z">')
    (tmp_path / "b.html").write_text('<a href="a.html#y"><img src="c.png"><a href="#z">')
    found = [("b.html", "a.html#y"), ("b.html", "c.png"), ("b.html", "#z")]
    assert list(broken(tmp_path)) == found
