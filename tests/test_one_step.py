"""docs/one_step.md quotes the code as it is, in the order in which a step runs it."""

import doctest
import functools
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path

import pytest

import proxquant_np as pq

PAGE = (Path(__file__).parents[1] / "docs" / "one_step.md").read_text("utf-8")
QUOTES = re.findall(
    r"^\*\*`([\w.]+)`\*\* in \[([\w/.]+)\][^\n]*\n\n```python\n(.*?)^```", PAGE, re.M | re.S
)


def quoted(name, file):
    """The function of this name in a file of the package; of a property, its getter."""
    module = importlib.import_module("proxquant_np." + file.removesuffix(".py").replace("/", "."))
    found = functools.reduce(getattr, name.split("."), module)
    return inspect.unwrap(found.fget if isinstance(found, property) else found)


def missing(quote, source):
    """The first part of `quote`, between lines `...`, that does not follow in `source`; or None."""
    left = source.splitlines()
    for part in re.split(r"^ *\.\.\.\n", quote, flags=re.M):
        wanted = textwrap.dedent(part).splitlines()
        for i in range(len(left)):
            if textwrap.dedent("\n".join(left[i : i + len(wanted)])).splitlines() == wanted:
                left = left[i + len(wanted) :]
                break
        else:
            return part
    return None


def test_every_excerpt_names_its_source():
    assert PAGE.count("```python\n") == len(QUOTES) + 1  # and the numbers at the end


@pytest.mark.parametrize(("name", "file", "quote"), QUOTES, ids=[name for name, *_ in QUOTES])
def test_quotes_are_in_the_source(name, file, quote):
    source = inspect.getsource(quoted(name, file))
    part = missing(quote, source)
    assert part is None, f"{name} has not, or not in this order:\n{part}\n{source}"


def test_a_changed_line_is_noticed():
    source = "    a = 1\n    if a:\n        b = 2\n    c = 3\n"
    assert missing("a = 1\n...\n    b = 2\nc = 3\n", source) is None
    for quote in ("a = 2\n", "b = 2\n...\na = 1\n", "a = 1\nc = 3\n", "if a:\nb = 2\n"):
        assert missing(quote, source)


def test_a_step_runs_the_quoted_functions_in_this_order():
    expected = [quoted(name, file).__code__ for name, file, _ in QUOTES]
    model = pq.models.MLP((64, 8, 10), rng=0)
    weights = pq.quantizable_parameters(model)
    sgd = pq.optim.SGD(model.parameters(), lr=0.1)
    optimizer = pq.optim.ProxGradient(sgd, weights, pq.prox.BinaryL1(), pq.prox.Linear(1.0))
    x, y = pq.data.load_digits().train
    entered = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: event == "call" and entered.append(frame.f_code))
    try:
        pq.training.fit(model, optimizer, (x[:64], y[:64]), steps=2, batch_size=32)
    finally:
        sys.setprofile(before)
    calls = iter(entered)
    late = [code.co_qualname for code in expected if code not in calls]  # each after the last
    assert not late


def test_the_numbers():
    (example,) = re.findall(r"```python\n(>>> .*?)```", PAGE, re.S)
    test = doctest.DocTestParser().get_doctest(example, {}, "one_step", None, 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
