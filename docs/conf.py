"""The site: the README as its front page, the executed notebooks, and the API reference.

    python -m sphinx -W -c docs . build/html

Its source folder is the repository itself, so nothing is copied and every relative link holds. The
site needs no network: MathJax is among its files.
"""

import os
import re
import shutil
from pathlib import Path

import proxquant_np

ROOT = Path(__file__).parents[1]
FUNCTIONAL = "proxquant_np.functional"  # documents what it imports

project = "proxquant_np"
version = release = proxquant_np.__version__
copyright = "the proxquant_np developers"
root_doc = "README"
include_patterns = [
    "*.md",
    "benchmarks/README.md",
    "docs/**.md",
    "notebooks/**.ipynb",
    "notebooks/README.md",
    "proxquant_np/conformance/golden/SCHEMA.md",
]
exclude_patterns = [".*", "build", "dist", "results*", "notebooks/exercises/solutions"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",
]

html_theme = "furo"
html_title = "proxquant_np"
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
INTERACTIVE = "docs/interactive"  # pages that are whole as they are

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# A link to a source file leads to that file as viewcode shows it.
myst_url_schemes = {
    "http": None,
    "https": None,
    "source": "_modules/{{path}}.html",
    "interactive": "{{path}}",
}

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # of its renderers the one that has tables and formulas
nb_ipywidgets_js = {}  # would come from a network, for sliders that need a kernel anyway
# Sliders need a kernel. Without one the notebooks show their first position.
paths = [str(Path(__file__).parent / "without_sliders"), os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))

default_role = "py:obj"  # `name` in a docstring is a link where it names something here, else code
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_mock_imports = ["torch", "safetensors", "onnx"]  # optional: documented without them
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signatures stay readable; the docstrings give shapes and dtypes
napoleon_numpy_docstring = False
add_module_names = False
maximum_signature_line_length = 68

CONTENTS = """
```{toctree}
:hidden:
:caption: Learn
notebooks/README
```
```{toctree}
:hidden:
:caption: Teach
docs/teaching/plans
docs/teaching/slides
docs/teaching/quiz
```
```{toctree}
:hidden:
:caption: Look up
docs/api
docs/derivatives
docs/theorems
docs/paper
docs/one_step
docs/golden_vectors
proxquant_np/conformance/golden/SCHEMA
docs/paper_scale
docs/old_and_new_verdicts
docs/other_arrays
docs/deployment
CLAIMS
benchmarks/README
CHANGELOG
CONTRIBUTING
docs/versions
SECURITY
```
"""
NOTEBOOKS = """
```{toctree}
:hidden:
:glob:
*
exercises/?_*
exercises/??_*
```
"""


def read_source(app, docname, source):
    """Add what a page needs on the site only: the contents, and links to pages instead of files."""
    folder = (ROOT / docname).parent
    source[0] += {"README": CONTENTS, "notebooks/README": NOTEBOOKS}.get(docname, "")
    source[0] = re.sub(r"\]\((proxquant_np/\w+/\w+)\.py\)", r"](source:\1)", source[0])
    up = "../" * docname.count("/")
    interactive = f"](interactive:{up}{INTERACTIVE}/"
    source[0] = re.sub(r"\]\((docs|\.\.)/interactive/", interactive, source[0])
    source[0] = re.sub(r"\]\(proxquant_np/(\w+)/\)", r"](docs/api/\1.md)", source[0])

    def without_folders(link):
        text, target = link.groups()
        path = folder / target
        if path.is_dir():
            readme = path / "README.md"
            return f"[{text}]({target.rstrip('/')}/README.md)" if readme.is_file() else text
        return link[0]

    source[0] = re.sub(r"\[([^][]*)\]\(([\w./-]+)\)", without_folders, source[0])


def as_rst(app, what, name, obj, options, lines):
    """Turn docstrings, plain text with a little Markdown, into reStructuredText."""
    out, literal, before, examples = [], None, "", False
    for line in lines:
        indented = line.startswith("    ")
        examples = examples or line == "Examples:"  # the last section: left as it is
        if not before and not examples and not literal:
            literal = (
                "formula" if indented else "files" if re.match(r"\S+\.py\b.*  ", line) else None
            )
            if literal:
                out += [".. code-block:: text", ""]
        elif (literal == "files" and not line) or (literal == "formula" and line and not indented):
            literal = None
        shift = "    " if literal == "files" else ""
        out.append(shift + (line if literal or examples else escaped(line)))
        before = line.strip()
    lines[:] = out


def escaped(line):
    """The line with reStructuredText's special characters escaped outside `code`."""
    kept = r"(`[^`]*`|\*\*[^*]+\*\*|(?<!\w)\*\w+\*(?!\w))"
    parts = re.split(kept, line)
    return "".join(p if i % 2 else re.sub(r"([\\*|_])", r"\\\1", p) for i, p in enumerate(parts))


def foreign(app, what, name, obj, skip, options):
    """Skip what a module only imports, except from its own package and in `functional`."""
    here = app.env.temp_data.get("autodoc:module", "")
    home = getattr(obj, "__module__", None) or here
    if not (home.startswith(here) or (here, "proxquant_np") == (FUNCTIONAL, home.split(".")[0])):
        return True
    return None


def describe_figures(app, doctree):
    """Describe the figures of notebooks in words: the section, and the text before them."""
    from docutils import nodes  # here: who only reads the sources needs no docutils

    prose = (nodes.title, nodes.paragraph)
    for image in doctree.findall(nodes.image):
        if image.get("alt"):
            continue
        before = image
        while before.parent and not isinstance(before, nodes.section):
            cell, before = before, before.parent
        text = [n.astext() for n in before.children[: before.index(cell)]]
        text = [t for t, n in zip(text, before.children, strict=False) if isinstance(n, prose)]
        text = "Figure. " + ". ".join(text[:1] + text[1:][-1:])
        image["alt"] = re.sub(
            r"\\(?:text|mathrm|mathbb)?|[{}]", "", text
        )  # formulas, to be read out


def lesson_command(app, doctree):
    """Put the command that opens a notebook in JupyterLab under its title."""
    from docutils import nodes

    page = app.env.docname
    if page.startswith("notebooks/") and (ROOT / f"{page}.ipynb").exists():
        command = f".venv/bin/jupyter lab {page}.ipynb"
        line = nodes.paragraph("", classes=["lesson"])
        line += nodes.Text("To turn the knobs, ")
        line += nodes.reference(
            "", "set up once", refuri="../" * (page.count("/") - 1) + "README.html"
        )
        line += [nodes.Text(", then "), nodes.literal("", command)]
        next(doctree.findall(nodes.section)).insert(1, line)


def finish(app, error):
    """Copy the front page to the name that servers look for, and the interactive pages."""
    if not error and app.builder.format == "html":
        out = Path(app.outdir)
        shutil.copy(out / "README.html", out / "index.html")
        (out / INTERACTIVE).mkdir(parents=True, exist_ok=True)
        for page in (ROOT / INTERACTIVE).glob("*.html"):
            shutil.copy(page, out / INTERACTIVE)


def setup(app):
    """Connect the functions above."""
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", as_rst, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", foreign)
    app.connect("doctree-read", describe_figures)
    app.connect("doctree-read", lesson_command)
    app.connect("build-finished", finish)
