"""Looks at a bundle: short, sorted, and each row names the line it rests on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from examples.incident_response.findings import Findings, findings
from examples.incident_response.generate import generate
from examples.incident_response.logs import read
from examples.incident_response.looks import MOST_ROWS, LogLooks
from llama_index.packs.mixture_of_agents.agents.tools.bounding import all_bounded
from llama_index.packs.mixture_of_agents.agents.tools.typed import typed_tool

SEED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(SEED, tmp_path_factory.mktemp("looked-at"))[0]


@pytest.fixture(scope="module")
def looks(folder: Path) -> LogLooks:
    return LogLooks(read(folder))


@pytest.fixture(scope="module")
def found(folder: Path) -> Findings:
    return findings(folder)


def test_events_are_counted(looks: LogLooks, folder: Path) -> None:
    count = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.jsonl"))
    told = looks.count_events()
    assert told.startswith(f"{count} events")
    assert sum(int(row.rpartition(": ")[2]) for row in told.splitlines()[1:]) == count


def test_logons_between_hosts_name_both_sides_and_can_be_narrowed(looks: LogLooks, found: Findings) -> None:
    step = found.path[0]
    rows = looks.logons_between_hosts(step.target.lower()).splitlines()
    assert any(row.startswith(f"{step.source} -> {step.target} as {step.account}") for row in rows)
    assert all(step.target in row for row in rows if not row.startswith("(and"))
    assert len(looks.logons_between_hosts().splitlines()) <= MOST_ROWS + 1


def test_services_and_explicit_credentials_are_listed(looks: LogLooks, folder: Path) -> None:
    services = (folder / "system.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(looks.installed_services().splitlines()) == len(services)
    assert looks.installed_services("NOWHERE-1") == "There are none."
    assert all(
        re.search(r"\[security\.jsonl:\d+\]$", row) for row in looks.explicit_credentials().splitlines()
    )


def test_a_process_is_shown_with_what_it_started(looks: LogLooks, found: Findings) -> None:
    (first, *_) = [sign for sign in found.signs if sign.technique == "T1566.001"]
    rows = looks.process_tree(first.lines[0]).splitlines()
    assert rows[0] == f"{first.host}, above: winword.exe"
    assert "powershell.exe" in rows[1]
    assert rows[2].startswith("  "), "the loader, one step in"
    assert looks.process_tree("security.jsonl:999999") == "That line tells of no process."


def test_a_forged_log_in_which_everything_started_everything_is_shown_once(tmp_path: Path) -> None:
    data = {"Image": "x.exe", "ParentImage": "x.exe", "ProcessId": "4", "ParentProcessId": "4", "User": "u"}
    record = {"TimeCreated": "2026-03-02T00:00:00Z", "Computer": "A", "Channel": "Sysmon", "EventID": 1}
    (tmp_path / "sysmon.jsonl").write_text((json.dumps({**record, "EventData": data}) + "\n") * 300)
    rows = LogLooks(read(tmp_path)).process_tree("sysmon.jsonl:1").splitlines()
    assert len(rows) < 2 * MOST_ROWS
    lines = [row.rpartition("[")[2] for row in rows if row.endswith("]")]
    assert len(set(lines)) == len(lines) or len(lines) < MOST_ROWS


async def test_looks_become_tools_within_bounds(looks: LogLooks) -> None:
    tools = all_bounded([typed_tool(look) for look in looks.looks()])
    for tool in tools:
        arguments = {"line": "sysmon.jsonl:1"} if tool.metadata.name == "process_tree" else {}
        output = await tool.acall(**arguments)
        assert not output.is_error, output.content


def test_an_empty_bundle_is_said(tmp_path: Path) -> None:
    (tmp_path / "security.jsonl").write_text("")
    looks = LogLooks(read(tmp_path))
    assert looks.count_events() == "There are no events."
    assert looks.logons_between_hosts() == looks.explicit_credentials() == "There are none."
