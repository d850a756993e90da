"""The Pants targets in `BUILD` match the tree, and every import is a declared requirement.

Reads `BUILD` as what it is, calls with literal arguments; knows only the target kinds used there.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.policy.tree import PACKAGE, PACKAGE_NAME, ROOT, TESTS, all_files, parse, pyproject, python_files

Targets = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def targets() -> Targets:
    tree = ast.parse((ROOT / "BUILD").read_text(encoding="utf-8"))
    calls = [
        node.value for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert len(calls) == len(tree.body), "BUILD holds targets only"
    return [
        (ast.unparse(call.func), {str(word.arg): ast.literal_eval(word.value) for word in call.keywords})
        for call in calls
    ]


def _matched(fields: dict[str, Any]) -> list[Path]:
    """The files a target's globs take, as Pants reads them: `!` excludes, `**` crosses folders."""
    wanted: list[str] = [glob for glob in fields["sources"] if not glob.startswith("!")]
    refused = [_pattern(glob[1:]) for glob in fields["sources"] if glob.startswith("!")]
    found = {path for glob in wanted for path in ROOT.glob(glob) if path.is_file()}
    return sorted(
        path
        for path in found
        if not any(pattern.match(path.relative_to(ROOT).as_posix()) for pattern in refused)
    )


def _pattern(glob: str) -> re.Pattern[str]:
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    parts = re.split(r"(\*\*/|\*\*|\*)", glob)
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts) + r"\Z")


def _of_kind(targets: Targets, kind: str) -> dict[str, Any]:
    (fields,) = [fields for name, fields in targets if name == kind]
    return fields


def test_sources_are_the_package(targets: Targets) -> None:
    assert _matched(_of_kind(targets, "python_sources")) == python_files(PACKAGE)


def test_data_is_the_rest_of_the_package(targets: Targets) -> None:
    rest = [path for path in all_files(PACKAGE) if path.suffix != ".py"]
    assert _matched(_of_kind(targets, "resources")) == rest


def test_every_test_file_has_one_target(targets: Targets) -> None:
    tests = _matched(_of_kind(targets, "python_tests"))
    support = _matched(_of_kind(targets, "python_test_utils"))
    assert sorted(tests + support) == python_files(TESTS)
    assert all(path.name.startswith("test_") for path in tests)


def test_names_are_unique_and_dependencies_exist(targets: Targets) -> None:
    names = Counter(fields["name"] for _, fields in targets)
    assert max(names.values()) == 1
    needed = {name for _, fields in targets for name in fields.get("dependencies", [])}
    assert needed <= {f":{name}" for name in names}


def test_requirements_come_from_this_project(targets: Targets) -> None:
    fields = _of_kind(targets, "python_requirements")
    assert (ROOT / fields["source"]).is_file()
    assert set(fields["module_mapping"]) <= {canonicalize_name(one.name) for one in _base_requirements()}


def _base_requirements() -> list[Requirement]:
    return [Requirement(text) for text in pyproject()["project"]["dependencies"]]


def _extra_requirements(extra: str) -> list[Requirement]:
    return [Requirement(text) for text in pyproject()["project"]["optional-dependencies"][extra]]


# Rooms that may use an extra's libraries.
EXTRAS_OF_ROOM = {
    "sparse_moe": ("sparse-moe",),
    "app": ("cli", "sparse-moe", "plots"),
    "records": ("otel",),
    "gate": ("gate",),
    "agents": ("tables", "mcp", "plots"),
}
# Clients whose own tables are consulted where the user has installed them, and done without elsewhere.
CONSULTED_BY_ROOM = {"sampling": {"llama_index.llms.anthropic"}}


def _third_party_imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def _is_own_or_standard(module: str) -> bool:
    top = module.partition(".")[0]
    return module.startswith(PACKAGE_NAME) or top in sys.stdlib_module_names or top == "__future__"


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def _modules_of(requirement: Requirement) -> set[str]:
    """The import names a requirement provides."""
    name = canonicalize_name(requirement.name)
    kind, _, rest = name.removeprefix("llama-index-").partition("-")
    if name == "llama-index-workflows":
        return {"workflows"}
    if name == "llama-index-instrumentation":
        return {"llama_index_instrumentation"}
    if name.startswith("llama-index-"):
        return {f"llama_index.{kind}" + (f".{rest.replace('-', '_')}" if rest else "")}
    provided = {
        module
        for module, distributions in _installed().items()
        if name in {canonicalize_name(distribution) for distribution in distributions}
    }
    return provided or {name.replace("-", "_")}


def _allowed_imports(room: str) -> set[str]:
    required = _base_requirements()
    for extra in EXTRAS_OF_ROOM.get(room, ()):
        required += _extra_requirements(extra)
    modules = {module for requirement in required for module in _modules_of(requirement)}
    return modules | CONSULTED_BY_ROOM.get(room, set())


@pytest.mark.parametrize("path", python_files(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_import_is_a_declared_requirement(path: Path) -> None:
    allowed = _allowed_imports(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    undeclared = [
        f"line {line}: {module}"
        for module, line in _third_party_imports(path)
        if not _is_own_or_standard(module)
        and not any(module == name or module.startswith(f"{name}.") for name in allowed)
    ]
    assert not undeclared


def test_globs_are_read_as_pants_reads_them() -> None:
    pattern = _pattern("tests/**/test_*.py")
    assert pattern.match("tests/test_a.py")
    assert pattern.match("tests/x/y/test_a.py")
    assert not pattern.match("tests/x/a.py")
    assert not pattern.match("tests/test_x/a.py")
