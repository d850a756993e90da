"""`__all__` is what a public module shows: no more, no less, and in order.

Public modules are the doors a user imports from. Read from the source, so that nothing need be installed;
the package's own names are checked against the contract of the design.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.policy.tree import PACKAGE, PACKAGE_NAME, parse, python_files, shown

CONTRACT = {
    "MixtureOfAgentsPack",
    "MixtureOfAgentsWorkflow",
    "MixtureOfAgentsLLM",
    "Proposer",
    "Proposal",
    "Missing",
    "Usage",
    "MixtureResponse",
    "ProgressEvent",
    "DeltaEvent",
    "MixtureError",
    "ConfigurationError",
    "MixtureTimeoutError",
}


def _declared(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            names: list[str] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            return names
    return None


def _visible(tree: ast.Module, *, with_imports: bool) -> set[str]:
    """Public names a module binds at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif with_imports and isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names |= {alias.asname or alias.name for alias in node.names}
    return {name for name in names if not name.startswith("_")}


def _with_all() -> list[Path]:
    return [path for path in python_files(PACKAGE) if _declared(parse(path)) is not None]


def test_the_package_shows_the_contract() -> None:
    package = importlib.import_module(PACKAGE_NAME)
    assert set(package.__all__) == CONTRACT
    assert all(getattr(package, name, None) is not None for name in CONTRACT)


def test_the_package_shows_nothing_else() -> None:
    tree = parse(PACKAGE / "__init__.py")
    assert _visible(tree, with_imports=True) == CONTRACT


@pytest.mark.parametrize("path", _with_all(), ids=shown)
def test_all_is_sorted_and_names_each_once(path: Path) -> None:
    declared = _declared(parse(path)) or []
    assert declared == sorted(set(declared))


def test_all_is_what_a_module_defines() -> None:
    for path in _with_all():
        if path.name != "__init__.py":
            tree = parse(path)
            assert set(_declared(tree) or []) == _visible(tree, with_imports=False), shown(path)


def test_the_pack_loads_as_the_downloader_loads_it() -> None:
    """LlamaIndex's downloader executes `__init__.py` under another name: relative imports break there."""
    for node in ast.walk(parse(PACKAGE / "__init__.py")):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"relative import on line {node.lineno}"
