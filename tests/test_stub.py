"""The hand-written stub against the compiled module, argument by argument.

`make stubs` runs mypy's stubtest, which compares names and kinds. The signatures of pybind11's functions are hidden
from it, but they stand in the docstrings, so they are compared here.
"""

from __future__ import annotations

import ast
import inspect
from importlib import resources

import pytest

from memristore import _core

STUB = ast.parse((resources.files("memristore") / "_core.pyi").read_text(encoding="utf-8"))
# What a stub may call the types of numbers; the compiled side names protocols.
NUMBERS = {"int": "SupportsInt", "float": "SupportsFloat", "bool": "bool", "str": "str"}


def stub_functions() -> dict[str, ast.FunctionDef]:
    """Functions and methods of the stub by dotted name."""
    found = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
    for part in (node for node in STUB.body if isinstance(node, ast.ClassDef)):
        found |= {f"{part.name}.{node.name}": node for node in part.body if isinstance(node, ast.FunctionDef)}
    return found


def compiled_function(name: str) -> ast.FunctionDef:
    """Signature of a compiled function, from the first line of its docstring."""
    target: object = _core
    for part in name.split("."):
        target = getattr(target, part)
    line = (inspect.getdoc(target) or "").splitlines()[0]
    node = ast.parse(f"def {line}: ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


def arguments(node: ast.FunctionDef) -> list[tuple[str, str, str | None]]:
    """Name, way of passing and default of each argument, in order."""
    given = node.args
    assert given.vararg is None
    assert given.kwarg is None
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    rows = [("plain", arg, default) for arg, default in zip(positional, defaults, strict=True)]
    rows += [("keyword", arg, default) for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [(arg.arg, kind, ast.unparse(default) if default is not None else None) for kind, arg, default in rows]


def annotation(node: ast.FunctionDef, name: str) -> str:
    given = {arg.arg: arg.annotation for arg in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]}
    found = given[name]
    return ast.unparse(found) if found is not None else ""


@pytest.mark.parametrize("name", stub_functions())
def test_arguments_agree(name: str) -> None:
    stub, compiled = stub_functions()[name], compiled_function(name)
    assert arguments(stub) == arguments(compiled)
    for argument, _, _ in arguments(stub):
        wanted = NUMBERS.get(annotation(stub, argument))
        if wanted is not None:
            assert wanted in annotation(compiled, argument), f"{name}({argument})"


def test_every_compiled_name_is_in_the_stub() -> None:
    declared = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    declared |= {
        node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert declared == {name for name in dir(_core) if not name.startswith("_")}
