"""Imports point one way, from the doors down to the ground, and never in a circle.

The table is the design's "direction of imports". A room that is not in it fails the test: put it on the
floor where it belongs, and let it know no more than that floor may.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy import import_graph
from tests.policy.import_graph import Arrow
from tests.policy.tree import PACKAGE, PACKAGE_NAME

# From the top floor to the ground. A room may import rooms on lower floors, none on its own.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"app"}),
    frozenset({"__init__"}),
    frozenset({"config"}),
    frozenset({"base"}),
    frozenset({"llm"}),
    frozenset({"workflow"}),
    frozenset({"runs"}),
    frozenset({"finishes"}),
    frozenset({"synthesis"}),
    frozenset({"seats"}),
    frozenset({"strategies", "gate", "agreement"}),
    frozenset({"policies"}),
    frozenset({"proposers", "events"}),
    frozenset({"calls", "spreading"}),
    frozenset({"answers"}),
    frozenset({"reports", "prompts", "locks", "checks"}),
    frozenset({"errors"}),
    frozenset({"results", "facts", "fingerprints", "nesting", "databases"}),
)

# Beside the floors: nothing in the core imports them, and they know only this. What a crew did is a record,
# too; records know no agents.
BESIDE: dict[str, frozenset[str]] = {
    "agents": frozenset(
        {
            "policies",
            "proposers",
            "events",
            "calls",
            "answers",
            "facts",
            "prompts",
            "results",
            "errors",
            "checks",
            "locks",
            "nesting",
            "records",
        }
    ),
    "records": frozenset(
        {
            "policies",
            "proposers",
            "events",
            "facts",
            "calls",
            "prompts",
            "results",
            "errors",
            "checks",
            "fingerprints",
            "locks",
            "databases",
        }
    ),
    "providers": frozenset({"errors"}),
    "testing": frozenset({"errors"}),
    "sparse_moe": frozenset({"errors"}),
}

# The doors put the parts together, so they alone also see what stands beside.
SEES_BESIDE = frozenset({"app", "config", "base"})


def _rules() -> dict[str, frozenset[str]]:
    rules = dict(BESIDE)
    for number, floor in enumerate(FLOORS):
        below = frozenset[str]().union(*FLOORS[number + 1 :])
        for room in floor:
            rules[room] = below | (frozenset(BESIDE) if room in SEES_BESIDE else frozenset())
    return rules


def test_every_room_is_in_the_table() -> None:
    missing = import_graph.unlisted(import_graph.rooms(PACKAGE), _rules())
    assert not missing, f"give these rooms a place in FLOORS or BESIDE: {sorted(missing)}"


def test_no_arrow_runs_back_up() -> None:
    wrong = import_graph.forbidden(import_graph.arrows(PACKAGE, PACKAGE_NAME), _rules())
    assert not wrong, "\n".join(map(str, wrong))


def test_no_circles() -> None:
    found = import_graph.circle(import_graph.arrows(PACKAGE, PACKAGE_NAME))
    assert not found, " -> ".join(found)


def test_the_application_reaches_optional_parts_on_use_only() -> None:
    """`moa --help` must not load torch, nor config the application."""
    at_import = [
        arrow
        for arrow in import_graph.arrows(PACKAGE, PACKAGE_NAME)
        if arrow.source_room in SEES_BESIDE
        and arrow.target_room == "sparse_moe"
        and not (arrow.deferred or arrow.typing_only)
    ]
    assert not at_import, "\n".join(map(str, at_import))


# The rules are only as good as the reading of the files: samples with known faults.


def _package(folder: Path, **modules: str) -> Path:
    for name, source in {"__init__": "", **modules}.items():
        path = folder.joinpath(*name.split("__in__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "statement",
    [
        "import demo.top",
        "from demo import top",
        "from demo.top import thing",
        "from .top import thing",
        "from . import top",
        "if True:\n    import demo.top as t",
        "class Door:\n    import demo.top",
        "try:\n    import demo.top\nexcept ImportError:\n    raise",
    ],
)
def test_an_arrow_is_seen_however_it_is_written(tmp_path: Path, statement: str) -> None:
    package = _package(tmp_path / "demo", top="thing = 1", ground=statement)
    rules = {"__init__": set[str](), "top": {"ground"}, "ground": set[str]()}
    (wrong,) = import_graph.forbidden(import_graph.arrows(package, "demo"), rules)
    assert (wrong.source, wrong.target, wrong.deferred, wrong.typing_only) == ("ground", "top", False, False)


def test_deferred_and_typing_only_imports_are_told_apart(tmp_path: Path) -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from demo.top import thing\n"
        "def use():\n    from demo.top import thing\n"
    )
    package = _package(tmp_path / "demo", top="thing = 1", ground=source)
    found = sorted(import_graph.arrows(package, "demo"), key=lambda arrow: arrow.line)
    assert found == [
        Arrow("ground", "top", 3, deferred=False, typing_only=True),
        Arrow("ground", "top", 5, deferred=True, typing_only=False),
    ]


def test_relative_imports_in_sub_packages_resolve(tmp_path: Path) -> None:
    package = _package(
        tmp_path / "demo",
        gate__in____init__="from .rules import rule",
        gate__in__rules="from ..ground import thing",
        ground="thing = 1",
    )
    pairs = {(arrow.source, arrow.target) for arrow in import_graph.arrows(package, "demo")}
    assert pairs == {("gate", "gate.rules"), ("gate.rules", "ground")}


def test_a_circle_is_found_and_a_deferred_import_breaks_it(tmp_path: Path) -> None:
    package = _package(tmp_path / "demo", a="import demo.b", b="import demo.c", c="import demo.a")
    assert import_graph.circle(import_graph.arrows(package, "demo")) == ["a", "b", "c", "a"]
    _package(package, c="def use():\n    import demo.a")
    assert import_graph.circle(import_graph.arrows(package, "demo")) == []


def test_a_new_room_is_noticed(tmp_path: Path) -> None:
    package = _package(tmp_path / "demo", known="", cellar__in__wine="")
    assert import_graph.unlisted(import_graph.rooms(package), {"__init__": set(), "known": set()}) == {
        "cellar"
    }
