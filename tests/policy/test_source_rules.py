"""House rules that no linter holds: what may not stand in a file, and how long one may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.policy.tree import PACKAGE, ROOT, TESTS, all_files, parse, python_files, shown

LONGEST = 350
# Written in two parts, so that this file does not hold what it looks for.
LEFT_OVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|HA" r"CK|X" r"XX)\b")
MACHINE_PATH = re.compile(r"(^|[^.A-Za-z])/(work|farm)" r"/", re.MULTILINE)
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}

SOURCES = python_files(PACKAGE)
TEST_SOURCES = python_files(TESTS)


def _project_texts() -> list[Path]:
    folders = [PACKAGE, TESTS, ROOT / "examples", ROOT / "benchmarks", ROOT / ".ci"]
    top = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    files = top + [path for folder in folders if folder.is_dir() for path in all_files(folder)]
    return sorted(path for path in files if _is_text(path))


def _is_text(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def test_no_path_of_one_machine() -> None:
    wrong = [
        shown(path) for path in _project_texts() if MACHINE_PATH.search(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_nothing_is_left_for_later() -> None:
    wrong = [
        f"{shown(path)}: {match.group()}"
        for path in _project_texts()
        if (match := LEFT_OVER.search(path.read_text(encoding="utf-8")))
    ]
    assert not wrong


def test_every_packaged_file_is_text() -> None:
    """LlamaIndex's downloader writes each file as text, so nothing else survives the journey."""
    assert [shown(path) for path in all_files(PACKAGE) if not _is_text(path)] == []


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_module_stays_short_and_explains_itself(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert ast.get_docstring(parse(path)), "a module says in its docstring what it does"


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_the_oldest_python_reads_it(path: Path) -> None:
    parse(path)


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_bare_assert_in_the_package(path: Path) -> None:
    """`python -O` removes them: what must hold is checked and refused with a message."""
    lines = [node.lineno for node in ast.walk(parse(path)) if isinstance(node, ast.Assert)]
    assert not lines


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_error_is_swallowed(path: Path) -> None:
    handlers = [node for node in ast.walk(parse(path)) if isinstance(node, ast.ExceptHandler)]
    lines = [handler.lineno for handler in handlers if _swallows(handler)]
    assert not lines, "name the errors and say what happens instead"


def _swallows(node: ast.ExceptHandler) -> bool:
    """Whether a handler takes every error, or takes a broad one and does nothing."""
    if node.type is None:
        return True
    silent = all(isinstance(statement, ast.Pass) for statement in node.body)
    return silent and ast.unparse(node.type) in ("Exception", "BaseException")


@pytest.mark.parametrize("path", SOURCES + TEST_SOURCES, ids=shown)
def test_names_say_what_a_file_is_for(path: Path) -> None:
    assert not VAGUE_NAMES & {*path.relative_to(ROOT).parts, path.stem}


def test_no_init_above_the_pack() -> None:
    """`llama_index` and `llama_index.packs` are namespaces that other distributions share."""
    assert not (ROOT / "llama_index" / "__init__.py").exists()
    assert not (ROOT / "llama_index" / "packs" / "__init__.py").exists()
