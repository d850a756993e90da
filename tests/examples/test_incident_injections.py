"""Texts in logs that give orders to a model: planted where they hide, flagged, and not told on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.incident_response.findings import findings
from examples.incident_response.generate import generate
from examples.incident_response.injections import INJECTIONS, speaks_to_a_model
from examples.incident_response.logs import read
from examples.incident_response.looks import LogLooks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(4, tmp_path_factory.mktemp("injected"), with_injections=True)[0]


def test_there_are_a_dozen_patterns_and_each_is_of_its_own_kind() -> None:
    assert len(INJECTIONS) >= 12
    assert len({injection.name for injection in INJECTIONS}) == len(INJECTIONS)


def test_each_pattern_is_in_the_logs_and_the_truth_names_it(folder: Path) -> None:
    values = {value for event in read(folder).events for value in event.data.values()}
    assert {injection.text for injection in INJECTIONS} <= values
    truth = json.loads((folder.parent / "truth.json").read_text(encoding="utf-8"))
    assert len(truth["injections"]) == len(INJECTIONS)


def test_each_pattern_is_flagged_with_its_line_and_nothing_else_is(folder: Path, tmp_path: Path) -> None:
    events = {event.line: event for event in read(folder).events}
    flagged = [events[line] for line in findings(folder).addressed]
    texts = {injection.text for injection in INJECTIONS}
    assert len(flagged) == len(texts)
    assert all(texts & set(event.data.values()) for event in flagged)
    assert findings(generate(4, tmp_path)[0]).addressed == []


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda injection: injection.name)
def test_a_pattern_is_recognised_in_any_case_and_in_the_middle(injection: object) -> None:
    text = getattr(injection, "text")  # noqa: B009 - the fixture is typed as any object
    assert speaks_to_a_model(text)
    assert speaks_to_a_model(f"before {text.upper()} after")


@pytest.mark.parametrize(
    "text",
    [
        "cmd.exe /c del C:\\Temp\\user.log",
        "powershell.exe -Command Get-Item 'C:\\Program Files\\System Tools'",
        "msiexec.exe /i update.msi /quiet IGNOREOLD=1",
        "net.exe user assistant /domain",
    ],
)
def test_ordinary_commands_are_not_flagged(text: str) -> None:
    assert not speaks_to_a_model(text)


def test_what_is_told_of_findings_has_no_text_of_the_attackers(folder: Path) -> None:
    found = findings(folder)
    looks = LogLooks(read(folder))
    told = [*map(str, found.signs), *map(str, found.path), looks.count_events(), looks.installed_services()]
    told += [looks.logons_between_hosts(), looks.explicit_credentials()]
    for injection in INJECTIONS:
        assert not any(injection.text in text for text in told)
    assert not any(speaks_to_a_model(text) for text in told)


def test_injections_do_not_change_the_findings(folder: Path, tmp_path: Path) -> None:
    plain = findings(generate(4, tmp_path)[0])
    injected = findings(folder)
    assert [(s.source, s.target, s.account) for s in injected.path] == [
        (s.source, s.target, s.account) for s in plain.path
    ]
