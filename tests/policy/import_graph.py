"""Which module of a package imports which: the arrows, and what is wrong with them.

A module's *room* is its first name below the package: `base`, `gate`, `sparse_moe`. Knows nothing of
this project's rooms; the rules are given to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tests.policy.tree import parse, python_files

DOOR = "__init__"


@dataclass(frozen=True)
class Arrow:
    """One import statement that stays within the package."""

    source: str
    target: str
    line: int
    deferred: bool
    """Inside a function: it runs on use, not at import."""
    typing_only: bool
    """Under `if TYPE_CHECKING:`: it never runs."""

    @property
    def source_room(self) -> str:
        """The room the import is written in."""
        return room_of(self.source)

    @property
    def target_room(self) -> str:
        """The room that is imported."""
        return room_of(self.target)

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def room_of(module: str) -> str:
    """The room of a dotted name relative to the package; the package itself is its door."""
    return module.partition(".")[0] or DOOR


def rooms(package: Path) -> set[str]:
    """The rooms that exist."""
    return {room_of(_module_name(package, path)) for path in python_files(package)}


def arrows(package: Path, name: str) -> list[Arrow]:
    """Every import from one module of `package` to another. `name` is its dotted name."""
    sources = {_module_name(package, path): path for path in python_files(package)}
    found = []
    for module, path in sources.items():
        anchor = name if path.name == "__init__.py" and not module else f"{name}.{module}"
        base = anchor if path.name == "__init__.py" else anchor.rpartition(".")[0]
        for node, deferred, typing_only in _imports(parse(path)):
            for target in _targets(node, base):
                relative = _within(target, name, sources)
                if relative is not None and relative != module:
                    found.append(Arrow(module, relative, node.lineno, deferred, typing_only))
    return list(dict.fromkeys(found))


def unlisted(existing: AbstractSet[str], rules: Mapping[str, AbstractSet[str]]) -> set[str]:
    """Rooms that the rules do not mention."""
    return set(existing) - set(rules)


def forbidden(found: list[Arrow], rules: Mapping[str, AbstractSet[str]]) -> list[Arrow]:
    """Arrows between rooms that the rules do not allow."""
    return [
        arrow
        for arrow in found
        if arrow.source_room != arrow.target_room
        and arrow.target_room not in rules.get(arrow.source_room, frozenset())
    ]


def circle(found: list[Arrow]) -> list[str]:
    """Modules that import each other in a circle when they are loaded; empty if there are none."""
    graph: dict[str, set[str]] = {}
    for arrow in found:
        if not arrow.deferred and not arrow.typing_only:
            graph.setdefault(arrow.source, set()).add(arrow.target)
    done: set[str] = set()
    for start in sorted(graph):
        path = _circle_from(start, graph, done, [])
        if path:
            return path
    return []


def _circle_from(module: str, graph: Mapping[str, set[str]], done: set[str], trail: list[str]) -> list[str]:
    if module in trail:
        return [*trail[trail.index(module) :], module]
    if module in done:
        return []
    for target in sorted(graph.get(module, ())):
        path = _circle_from(target, graph, done, [*trail, module])
        if path:
            return path
    done.add(module)
    return []


def _module_name(package: Path, path: Path) -> str:
    """Dotted name below the package; the package's own `__init__` is the empty name."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imports(tree: ast.Module) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    pending: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while pending:
        node, deferred, typing_only = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, deferred, typing_only
            continue
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = typing_only or (isinstance(node, ast.If) and _is_type_checking(node.test))
        pending += [(child, inside, guarded) for child in ast.iter_child_nodes(node)]


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _targets(node: ast.Import | ast.ImportFrom, base: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    origin = node.module or ""
    if node.level:
        parent = base.split(".")[: len(base.split(".")) - node.level + 1]
        origin = ".".join([*parent, *([origin] if origin else [])])
    return [f"{origin}.{alias.name}" for alias in node.names]


def _within(target: str, name: str, sources: Mapping[str, Path]) -> str | None:
    """The longest module of the package that `target` names, or None if it is outside."""
    if target != name and not target.startswith(f"{name}."):
        return None
    relative = target.removeprefix(name).removeprefix(".")
    while relative and relative not in sources:
        relative = relative.rpartition(".")[0]
    return relative
