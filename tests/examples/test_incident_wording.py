"""Whatever a model can choose when it words an incident is true of what was found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.incident_response import report, team, wording
from examples.incident_response.findings import Findings
from examples.incident_response.generate import Scenario, generate
from examples.incident_response.tools import IncidentTools
from llama_index.packs.mixture_of_agents.agents import CrewResponse
from llama_index.packs.mixture_of_agents.agents.grounding import grounded
from llama_index.packs.mixture_of_agents.agents.results import Observation, TaskResult
from tests.examples.incident_crews import bundle
from tests.examples.incident_crews import wording as small_model

TOOLS = ("find_movement", "find_signs", "match_indicators", "containment_steps")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[IncidentTools]:
    """Of every scenario, and one in which log lines speak to a model."""

    def made(seed: int, scenario: Scenario, injections: bool) -> IncidentTools:
        folder = tmp_path_factory.mktemp("bundle")
        return IncidentTools(generate(seed, folder, scenario=scenario, with_injections=injections)[0])

    return [
        made(3, "lateral", False),
        made(11, "lateral", True),
        made(4, "foothold", False),
        made(5, "none", False),
    ]


def arguments(tools: IncidentTools, *names: str) -> dict[str, Any]:
    seen = [Observation(tool=name, output=getattr(tools, name)()) for name in names]
    return dict(wording.held_to(tools)(seen))


def moves_in(text: str, tools: IncidentTools) -> set[tuple[str, str]]:
    """Each "A to B" in a text where both are hosts."""
    hosts = "|".join(map(re.escape, sorted(tools.bundle.roles, key=len, reverse=True)))
    return set(re.findall(rf"\b({hosts})(?= (?:to|->) ({hosts})\b)", text))


def assert_servers_stay_on(text: str, tools: IncidentTools) -> None:
    """Nobody is told to isolate what is no workstation."""
    (isolated,) = re.findall(r"(?:Isolate|Cut off|Contain) ([^.]*)\.", text) or [""]
    servers = [host for host, role in tools.bundle.roles.items() if role != "workstation"]
    assert not [host for host in servers if re.search(rf"\b{re.escape(host)}\b", isolated)]


@pytest.mark.parametrize("seed", [1, 7, 10, 11, 12, 15])
def test_a_path_that_branches_is_told_as_it_branches(seed: int, tmp_path: Path) -> None:
    tools = bundle(tmp_path, seed)
    edges = {(step.source, step.target) for step in tools.findings.path}
    seen = [Observation(tool=name, output=getattr(tools, name)()) for name in TOOLS]
    said = CrewResponse(text="So.", plan=None)
    for text in (
        seen[0].output.splitlines()[0],
        report.as_markdown(said, tools).split("## Verdict")[1].split("\n## ")[0],
        wording.answer_held_to(tools)([TaskResult(task="t", agent="a", text="x", observations=seen)])[
            "regex"
        ].replace("\\", ""),
    ):
        assert moves_in(text, tools) == edges


def test_hosts_without_accounts_and_steps_without_lines_are_worded(bundles: list[IncidentTools]) -> None:
    found = bundles[0].findings
    bare = found.model_copy(
        update={
            "accounts": [],
            "path": [step.model_copy(update={"lines": []}) for step in found.path],
            "signs": [sign.model_copy(update={"lines": []}) for sign in found.signs],
        }
    )
    for sentences in (wording.verdict(bare), wording.movement(bare), wording.beginning(bare)):
        assert sentences
        assert all(re.compile(sentence) for sentence in sentences)


def test_there_are_tokens_enough_to_say_all_of_it(bundles: list[IncidentTools]) -> None:
    for tools in bundles:
        held = arguments(tools, *TOOLS)
        longest = len(re.sub(r"\\", "", held["regex"]))  # a token has a character at least
        assert held["max_tokens"] >= longest


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_text_that_may_be_chosen_stands_on_what_was_found(
    data: st.DataObject, bundles: list[IncidentTools]
) -> None:
    tools = data.draw(st.sampled_from(bundles))
    names = data.draw(st.lists(st.sampled_from(TOOLS), min_size=1, unique=True))
    pattern = arguments(tools, *names)["regex"]
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    sources = [getattr(tools, name)() for name in names]
    assert grounded(text, sources) == ""
    assert team.denies(text, sources) == ""


@given(data=st.data())
def test_every_answer_that_may_be_chosen_stands_on_what_was_found(
    data: st.DataObject, bundles: list[IncidentTools]
) -> None:
    tools = data.draw(st.sampled_from(bundles))
    seen = [Observation(tool=name, output=getattr(tools, name)()) for name in TOOLS]
    results = [TaskResult(task="t1", agent="a", text="x", observations=seen)]
    pattern = wording.answer_held_to(tools)(results)["regex"]
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    assert grounded(text, [one.output for one in seen]) == ""
    assert team.denies(text, [one.output for one in seen]) == ""
    assert ("no lateral movement" in text) != tools.findings.lateral_movement
    assert all(host in text for host in tools.findings.hosts)
    assert moves_in(text, tools) <= {(step.source, step.target) for step in tools.findings.path}
    assert_servers_stay_on(text, tools)


@pytest.mark.parametrize("place", range(4))
def test_every_step_host_account_and_indicator_is_named(place: int, bundles: list[IncidentTools]) -> None:
    tools = bundles[place]
    found: Findings = tools.findings
    pattern = arguments(tools, *TOOLS)["regex"]
    for name in [*found.hosts, *found.accounts, *found.indicators]:
        assert re.escape(name) in pattern


def test_it_denies_movement_where_there_is_none(bundles: list[IncidentTools]) -> None:
    for tools in bundles:
        pattern = arguments(tools, "find_movement")["regex"]
        assert ("no lateral movement" in pattern) != tools.findings.lateral_movement


def test_what_failed_or_was_not_used_is_not_worded(bundles: list[IncidentTools]) -> None:
    failed = Observation(tool="find_movement", output="no logs", is_error=True)
    assert wording.held_to(bundles[0])([failed]) == {}
    assert wording.held_to(bundles[0])([]) == {}


async def test_a_small_models_calls_are_held_and_a_large_ones_are_not(tmp_path: Path) -> None:
    tools, small = bundle(tmp_path, 3), small_model()
    await team.crew(tools, small, small=True).arun("Is this lateral movement?")
    held = [call.options.get("regex") for call in small.calls]
    assert sum(pattern is not None for pattern in held) == 4  # three specialists, and whoever answers
    large = small_model()
    await team.crew(tools, large, small=False).arun("Is this lateral movement?")
    assert not any("regex" in call.options for call in large.calls)
