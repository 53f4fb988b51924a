"""Writes derivatives.md, the derivative of every operation on one page, from the source itself.

    python docs/derivatives.py

Reads `autograd/ops.py` and `autograd/losses.py` as text: an operation's definition is the first
line of its docstring, its VJP the expression that it returns. Python's spelling becomes formulas
where it is a matter of notation (`_only(g, y > 0)` is g [y > 0]); what is not one expression is
named, and linked to.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "derivatives.md"
SOURCES = ("ops", "losses")
HEAD = """# The derivatives

The vector-Jacobian product (VJP) of every operation: $g$ is the gradient of the loss in the
result $y$, and the table says what it becomes in each argument. $[\\cdot]$ is 1 where the
condition holds, else 0; a dash is an argument that takes no gradient. Broadcasting is undone
afterwards: the gradient is summed over the axes along which the argument was repeated. What is
taken at kinks and at infinite slopes is a table of its own, at the top of
[ops.py](../proxquant_np/autograd/ops.py). The fused operations (`conv2d`, `max_pool2d`,
`avg_pool2d`, `batch_norm`, `embedding`, `lstm`) derive theirs in their own files.

Written by `python docs/derivatives.py`, which reads the source.
"""


class _Notation(ast.NodeTransformer):
    """Helpers to the formulas that they stand for."""

    def visit_Call(self, node):
        self.generic_visit(node)
        name = ast.unparse(node.func)
        if name == "_idle_is_zero":
            return node.args[1].body
        if name == "_times":
            return ast.BinOp(node.args[0], ast.Mult(), node.args[1])
        if name == "_only":
            return ast.BinOp(node.args[0], ast.Mult(), ast.List([node.args[1]], ast.Load()))
        return node


def entries(vjp: ast.expr | None, functions: dict[str, ast.FunctionDef]) -> list[str]:
    """What the VJP returns, one formula (or the name of a function) for each argument."""
    if not isinstance(vjp, ast.Lambda):
        return [_body(functions.get(ast.unparse(vjp)) if vjp else None)]
    body = _Notation().visit(vjp.body)
    parts = body.elts if isinstance(body, ast.Tuple) else [body]
    return [_formula(part.body if isinstance(part, ast.Lambda) else part) for part in parts]


def _body(function: ast.FunctionDef | None) -> str:
    """The formula of a function that only returns; else where to look."""
    if function and len(function.body) == 1 and isinstance(function.body[0], ast.Return):
        return _formula(_Notation().visit(function.body[0].value))
    return "see the source"


def _formula(part: ast.expr) -> str:
    text = ast.unparse(part)
    if text == "None":
        return "-"
    text = re.sub(r"\bnp\.", "", text)
    text = re.sub(r"\* \[", "[", text).replace("pairwise_sum(", "sum(")
    return f"`{text}`"


def rows(path: Path) -> list[str]:
    """A table row for each operation of a file, in its order; one more for each further case."""
    found, tree = [], ast.parse(path.read_text("utf-8")).body
    documented = {f.name: ast.get_docstring(f) for f in tree if isinstance(f, ast.FunctionDef)}
    for op in tree:
        if "differentiable" not in map(ast.unparse, getattr(op, "decorator_list", [])):
            continue
        functions = {f.name: f for f in ast.walk(op) if isinstance(f, ast.FunctionDef)}
        returned = [r.value for r in ast.walk(op) if isinstance(r, ast.Return)]
        vjps = [pair.elts[1] for pair in returned if _is_traced(pair)]
        cases = list(dict.fromkeys(tuple(entries(vjp, functions)) for vjp in vjps or [None]))
        takes = [a.arg for a in op.args.args if _kind(a).startswith("Array")]
        takes = [a.arg for a in op.args.args[: max(map(len, cases))]] or takes
        name = op.name.removeprefix("_")
        said = (documented[name] or "").split("\n")[0]
        head = f"`{name}({', '.join(takes) or 'tensors'})`", said
        for case in cases:
            found.append("| " + " | ".join(map(_escape, (*head, ", ".join(case)))) + " |")
            head = "", ""
    return found


def _is_traced(value: ast.expr | None) -> bool:
    """Whether it is (y, vjp)."""
    pair = isinstance(value, ast.Tuple) and len(value.elts) == 2
    return pair and isinstance(value.elts[1], ast.Lambda | ast.Name)


def _kind(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation else ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for source in SOURCES:
        path = ROOT / "proxquant_np" / "autograd" / f"{source}.py"
        lines += [f"## {source}.py", "", "| operation | value | VJP |", "|---|---|---|"]
        lines += [*rows(path), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
