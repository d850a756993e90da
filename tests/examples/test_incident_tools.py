"""The agents' tools over a bundle: what they say, what they keep count of, and what they do not give."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.incident_response import containment
from examples.incident_response.findings import Findings
from examples.incident_response.injections import INJECTIONS
from examples.incident_response.tools import IncidentTools
from llama_index.packs.mixture_of_agents.agents.tools.typed import typed_tool
from tests.examples.incident_crews import bundle


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> IncidentTools:
    return bundle(tmp_path_factory.mktemp("attacked"), 21, injections=True)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> IncidentTools:
    return bundle(tmp_path_factory.mktemp("quiet"), 21, "none")


def test_movement_is_told_step_by_step_with_its_lines(attacked: IncidentTools) -> None:
    head, count, *steps = attacked.find_movement().splitlines()
    path = attacked.findings.path
    assert head.startswith(f"This is lateral movement: {path[0].source} to ")
    assert count == f"{len(path)} steps in {attacked.findings.events} events:"
    assert steps == [f"{number}. {step}" for number, step in enumerate(path, 1)]


def test_where_nothing_is_found_that_is_said(quiet: IncidentTools) -> None:
    assert quiet.find_movement().startswith("No lateral movement in ")
    assert quiet.find_signs() == "No host shows signs of a compromise."
    assert quiet.match_indicators() == "None of the known indicators was seen on a compromised host."
    assert quiet.containment_steps().startswith("1. Close the alert as unconfirmed")


def test_logons_that_failed_are_told_of_a_foothold(tmp_path: Path) -> None:
    tools = bundle(tmp_path, 21, "foothold")
    failed = len(tools.findings.failed)
    assert failed > 0
    assert f"{failed} logons from a compromised host failed." in tools.find_movement()


def test_what_was_used_is_counted(tmp_path: Path) -> None:
    tools = bundle(tmp_path, 22, "none")
    tools.steps()
    assert tools.used == []
    tools.find_signs()
    tools.look_up("203.0.113.17")
    assert tools.used == ["find_signs", "look_up"]


def test_an_indicator_is_looked_up_in_any_case(attacked: IncidentTools) -> None:
    assert "Copper Lynx" in attacked.look_up(" Sync-Telemetry.EXAMPLE ")
    assert attacked.look_up("example.org") == "not in the table"


def test_lines_are_read_by_name_within_bounds(attacked: IncidentTools) -> None:
    text = attacked.read_lines(["sysmon.jsonl:1"])
    assert text.startswith('sysmon.jsonl:1 {"TimeCreated"')
    many = attacked.read_lines([f"security.jsonl:{number}" for number in range(1, 41)])
    assert many.endswith("(20 more lines not read)")
    assert max(map(len, many.splitlines())) < 640


@pytest.mark.parametrize(
    "name",
    [
        "security.jsonl:0",
        "security.jsonl:999999",
        "security.jsonl:-1",
        "security.jsonl:\u00b2",
        "x",
        "alert.json:1",
    ],
)
def test_a_line_that_is_none_is_said_to_be_none(attacked: IncidentTools, name: str) -> None:
    assert "no such line" in attacked.read_lines([name])


async def test_a_model_that_gives_other_arguments_is_told_which_there_are(attacked: IncidentTools) -> None:
    with pytest.raises(Exception, match="Its arguments are: lines"):
        await typed_tool(attacked.read_lines).acall(path="truth.json")


def test_only_who_reads_lines_sees_what_attackers_wrote(attacked: IncidentTools) -> None:
    told = [attacked.find_movement(), attacked.find_signs(), attacked.match_indicators()]
    told.append(attacked.containment_steps())
    assert not any(one.text in text for one in INJECTIONS for text in told)


# What to do.


def _order(steps: list[str], *words: str) -> list[int]:
    return [next(n for n, step in enumerate(steps) if step.startswith(word)) for word in words]


def test_steps_stop_the_spread_before_anything_else(attacked: IncidentTools) -> None:
    steps, found = attacked.steps(), attacked.findings
    kinds = _order(
        steps, "Isolate", f"Disable {found.accounts[0]}", "Block", "Before any restart", "Do not let"
    )
    assert kinds == sorted(kinds)
    for host in found.hosts:
        assert sum(f" {host}, a " in step for step in steps[: len(found.hosts)]) == 1
    for account in found.accounts:
        assert any(step.startswith(f"Disable {account},") for step in steps)


def test_servers_are_not_cut_off_and_workstations_are(attacked: IncidentTools) -> None:
    roles = attacked.bundle.roles
    for step in attacked.steps()[: len(attacked.findings.hosts)]:
        host = next(name for name in attacked.findings.hosts if f" {name}, a " in step)
        assert step.startswith("Isolate") == (roles[host] == "workstation")


def test_each_step_on_a_host_names_a_line_it_rests_on(attacked: IncidentTools) -> None:
    lines = attacked.findings.lines()
    for step in attacked.steps()[: len(attacked.findings.hosts)]:
        assert step.partition("[")[2].partition("]")[0] in lines


def test_a_stolen_directory_is_worse_than_a_used_administrator(attacked: IncidentTools) -> None:
    found = attacked.findings
    copied = found.signs[0].model_copy(update={"technique": "T1003.003"})
    stolen = found.model_copy(update={"signs": [copied], "accounts": ["da.eva"], "path": []})
    used = stolen.model_copy(update={"signs": []})

    def told(one: Findings) -> str:
        return "\n".join(containment.steps(one, attacked.bundle))

    assert "Reset krbtgt twice" in told(stolen)
    assert "a domain administrator was used" in told(used)
    assert "krbtgt" not in told(used)
