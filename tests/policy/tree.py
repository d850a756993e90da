"""Where things are in this project, and its Python files parsed.

Knows paths and syntax only; what is allowed in them is for the tests to say.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE_NAME = "llama_index.packs.mixture_of_agents"
PACKAGE = ROOT.joinpath(*PACKAGE_NAME.split("."))
TESTS = ROOT / "tests"


def python_files(folder: Path) -> list[Path]:
    """Every Python source under `folder`, sorted."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def all_files(folder: Path) -> list[Path]:
    """Every file under `folder` that someone wrote, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )


def parse(path: Path) -> ast.Module:
    """The syntax tree of one file, as the oldest supported Python reads it."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def shown(path: Path) -> str:
    """A path as a message shows it."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def pyproject() -> dict[str, Any]:
    """The contents of `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
