"""The autograd of notebook 08 has 100 lines, and its gradients are the library's."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxquant_np import Tensor

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "08_autograd_in_100_lines.ipynb"
(SOURCE,) = (
    cell.source
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells
    if "autograd" in cell.metadata.get("tags", [])
)
SHAPES = [(3, 4), (4,), (1, 4), (3, 1), (1, 1), ()]
OPERATIONS = {  # of two values, whose shapes broadcast to (3, 4), or of the first of them alone
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (b * b + 1),
    "@": lambda a, b: (full(a) @ np.arange(20.0).reshape(4, 5) @ np.ones((5, 1))) / 50,
    "@ between values": lambda a, b: full(a) @ (full(b) * np.eye(3, 4))[[0, 1, 2, 0]] / 4,
    "array @": lambda a, b: np.arange(9.0).reshape(3, 3) @ full(a) / 9,
    "number +": lambda a, b: 2 + a,
    "array -": lambda a, b: np.arange(4.0) - a,
    "number /": lambda a, b: 1 / (a * a + 1),
    "**": lambda a, b: a**2,
    "exp": lambda a, b: (a * 0.5).exp(),
    "log": lambda a, b: (a * a + 1).log(),
    "tanh": lambda a, b: a.tanh(),
    "relu": lambda a, b: a.relu(),
    "sum": lambda a, b: full(a).sum(axis=1)[:3].sum() * 0.1,
    "sum, axis 0": lambda a, b: full(a).sum(axis=0) * 0.1,
    "mean": lambda a, b: a.mean(),
    "[rows, columns]": lambda a, b: full(a)[np.array([0, 1, 0]), np.array([3, 1, 3])].sum(),
}


def full(a):
    """The same, repeated to shape (3, 4)."""
    return a + np.zeros((3, 4))


def node_class(source):
    namespace = {}
    exec(compile(source, NOTEBOOK.name, "exec"), namespace)
    return namespace["Node"]


Node = node_class(SOURCE)


def gradients(leaf, arrays, program):
    """Those of the program's value: each step applies an operation to two of the values so far."""
    leaves = [leaf(a) for a in arrays]
    values = list(leaves)
    for name, i, j in program:
        values.append(OPERATIONS[name](values[i % len(values)], values[j % len(values)]))
    total = sum((full(v).tanh() * 0.5).sum() for v in values)
    total.backward()
    return [v.grad for v in leaves]


def trainable(a):
    return Tensor(a, requires_grad=True)


def disagreement(cls, arrays, program):
    """Where the gradients are not the library's, in words; None if they are."""
    wanted = gradients(trainable, arrays, program)
    try:
        found = gradients(cls, arrays, program)
    except Exception as error:
        return f"raised {error!r}"
    for i, (g, w) in enumerate(zip(found, wanted, strict=True)):
        if g.shape != w.shape or not np.allclose(g, w, 1e-9, 1e-9):
            return f"input {i}: {g}, the library has {w}"
    return None


steps = st.tuples(st.sampled_from(list(OPERATIONS)), st.integers(0, 9), st.integers(0, 9))
arrays = st.tuples(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3), st.integers(0, 99))
arrays = arrays.map(
    lambda drawn: [np.random.default_rng(drawn[1]).normal(size=s) for s in drawn[0]]
)


def test_it_has_100_lines():
    assert len(SOURCE.splitlines()) <= 100


@given(arrays, st.lists(steps, max_size=6))
def test_gradients_are_the_librarys(arrays, program):
    assert disagreement(Node, arrays, program) is None


def everything():
    """Arrays of each shape, and a program of each operation on each of them, with its neighbour."""
    arrays = [np.random.default_rng(0).normal(size=shape) for shape in SHAPES]
    return arrays, [(name, i, i + 1) for name in OPERATIONS for i in range(len(SHAPES))]


def test_every_operation_on_every_shape():
    assert disagreement(Node, *everything()) is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("parent.grad = parent.grad + unbroadcast", "parent.grad = unbroadcast"),
        (
            "if not waiting[parent]:\n                    ready",
            "if True:\n                    ready",
        ),
        (
            "g = g.sum(axis=tuple(range(g.ndim - len(shape))))",
            "g = g[(0,) * (g.ndim - len(shape))]",
        ),
        ("if n == 1), keepdims=True)", "if n == 1), keepdims=True) * 1.0001"),
        ("g * b), (other, lambda g: g * a)", "g * a), (other, lambda g: g * b)"),
        ("(other, lambda g: a.T @ g)", "(other, lambda g: a.T @ g * 2)"),
        ("g @ b.T", "g @ b.T[::-1]"),
        ("g * (n * x ** (n - 1))", "g * x ** (n - 1)"),
        ("g * y))\n\n    def log", "g))\n\n    def log"),
        ("g / x)", "g * x)"),
        ("1 - y * y", "1 - y"),
        ("(x > 0)", "(x != 0)"),
        ("np.expand_dims(g, axis)", "np.expand_dims(g, axis) / 2"),
        ("np.add.at(full, index, g)", "full[index] = g"),
        ("lift(b) + -a", "a + -lift(b)"),
        ("lift(b) * a**-1", "a * lift(b) ** -1"),
        ("lift(b) @ a", "a @ lift(b)"),
        ("1 / a.data.size", "1 / len(np.atleast_1d(a.data))"),
    ],
)
def test_planted_mistakes_are_caught(right, wrong):
    assert SOURCE.count(right) == 1
    assert disagreement(node_class(SOURCE.replace(right, wrong)), *everything())


def test_deep_graphs_do_not_recurse():
    x = y = Node(1.0)
    for _ in range(20_000):
        y = y + 0.0
    y.backward()
    assert x.grad == 1
