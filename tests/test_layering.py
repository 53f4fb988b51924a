"""Imports only ever point down the list of layers: reads those of every file of the package."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "proxquant_np"
NAME = PACKAGE.name

# From the bottom up. A module may import its own part and the parts listed before it.
LAYERS = [
    "checks",
    "libraries",
    "files",
    "autograd",
    "provenance",
    "functional",
    "prox",
    "nn",
    "models",
    "optim",
    "theory",
    "data",
    "training",
    "interop",
    "packing",
    "plotting",
    NAME,  # the package's own __init__: the public names
    "conformance",
    "experiments",
    "commands",
    "cli",
    "__main__",
]


def imports(tree, package):
    """(line, absolute dotted name) of all imports of a module that lies in `package`.

    `from a import b` gives a.b, which may be a module of its own.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*parent, *filter(None, [node.module])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def part(module):
    """The entry of LAYERS that an absolute dotted name belongs to; None outside the package."""
    top, *below = module.split(".")
    if top == NAME:
        return below[0] if below and below[0] in LAYERS else NAME


def violations(source, path):
    """One line for every import in `source` that breaks the layering.

    `path` says where the source stands in the package, as in "prox/binary.py".
    """
    *folders, file = Path(path).parts
    mine = folders[0] if folders else NAME if file == "__init__.py" else file.removesuffix(".py")
    if mine not in LAYERS:
        return [f"{path}: {mine} is not in the list of layers"]
    found = []
    for line, module in imports(ast.parse(source), [NAME, *folders]):
        numpy_only = {"numpy", *sys.stdlib_module_names}
        own = part(module) in ("prox", "checks", "libraries")
        if mine == "prox" and not own and module.split(".")[0] not in numpy_only:
            found.append(f"{path}:{line}: prox is NumPy only, but imports {module}")
        elif part(module) in LAYERS[LAYERS.index(mine) + 1 :]:
            found.append(f"{path}:{line}: {mine} imports {module}, which lies above it")
    return found


def test_imports_point_down():
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        found += violations(file.read_text("utf-8"), file.relative_to(PACKAGE).as_posix())
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("autograd/ops.py", "from proxquant_np import functional"),
        ("autograd/ops.py", "from .. import functional"),
        ("autograd/deep/ops.py", "from ...nn.layers import Linear"),
        ("functional.py", "from .nn import Linear"),
        ("nn/layers.py", "def f():\n    import proxquant_np.optim.sgd as sgd"),
        ("nn/layers.py", "import proxquant_np as pq"),
        ("nn/layers.py", "from proxquant_np import Tensor"),
        ("data/digits.py", "from proxquant_np.training import fit"),
        ("training/__init__.py", "import numpy, proxquant_np.plotting"),
        ("__init__.py", "from proxquant_np.cli import main"),
        ("experiments/runner.py", "if TYPE_CHECKING:\n    from proxquant_np.cli import main"),
        ("prox/binary.py", "from proxquant_np.autograd import Tensor"),
        ("prox/binary.py", "from ..functional import clip"),
        ("prox/binary.py", "import scipy.optimize"),
        ("utils.py", "import numpy"),
        ("helpers/shapes.py", "import numpy"),
    ],
)
def test_planted_violations_are_caught(path, source):
    assert len(violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("autograd/ops.py", "import scipy\nfrom proxquant_np.autograd.tensor import Tensor"),
        ("prox/binary.py", "from functools import cache\nimport numpy as np\nfrom . import levels"),
        (
            "training/fit.py",
            "from proxquant_np import data, functional as F\nfrom ..nn import Module",
        ),
        ("__init__.py", "from . import prox, training\nfrom .autograd import Tensor"),
        ("cli.py", "from proxquant_np import __version__, experiments"),
    ],
)
def test_downward_imports_pass(path, source):
    assert violations(source, path) == []


def graph(folder, sources):
    """{module: the modules of the same folder that it imports, anywhere in the file}."""
    package = [NAME, folder]
    found = {}
    for name, source in sources.items():
        dotted = [module.split(".") for _, module in imports(ast.parse(source), package)]
        below = {module[2] for module in dotted if module[:2] == package and len(module) > 2}
        assert "import_module" not in source, f"{name} hides an import"
        found[name] = below & sources.keys() - {name}
    return found


@pytest.mark.parametrize("folder", ["experiments", "commands"])
def test_no_module_of_a_part_imports_in_a_circle(folder):
    """Names are looked up above what they name: nothing below has to import it by its name."""
    files = (PACKAGE / folder).glob("*.py")
    sources = {file.stem: file.read_text("utf-8") for file in files if file.stem != "__init__"}
    TopologicalSorter(graph(folder, sources)).prepare()  # CycleError names the circle


def test_a_circle_within_functions_is_caught():
    sources = {
        "protocol": "def train():\n    from proxquant_np.experiments import catalog",
        "catalog": "from proxquant_np.experiments import stability",
        "stability": "from proxquant_np.experiments.protocol import METHODS",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(graph("experiments", sources)).prepare()
    with pytest.raises(AssertionError, match="protocol hides an import"):
        graph("experiments", {"protocol": "importlib.import_module(name)"})
