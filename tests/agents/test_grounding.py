"""Words that keep to what they rest on: strange names are found, everyday words and numbers are not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.agents import Crew, ToolUse
from llama_index.packs.mixture_of_agents.agents.grounding import grounded, names_in, unfounded
from tests.agents.crews import crew_of, followed, member, plan_text

FOUND = (
    "WS-111 -> WS-224 as adm.hugo by WMI (T1047) [security.jsonl:644]\n"
    "sync-telemetry.example 203.0.113.17 C:\\Temp\\pd64.exe"
)


def test_names_are_told_from_words_and_numbers() -> None:
    assert names_in(
        "On 3 hosts, e.g. WS-111, adm.hugo ran pd64.exe at 12:19; it's the 2nd of 40% (well-known)."
    ) == [
        "WS-111",
        "adm.hugo",
        "pd64.exe",
        "12:19",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Yes. WS-111 reached WS-224 as adm.hugo (T1047), see security.jsonl:644.",
        "The address 203.0.113.17 and sync-telemetry.example are known.",
        "ws-111 was first.",
        "<think>maybe WS-999</think>WS-111 was first.",
    ],
)
def test_words_that_keep_to_the_names_stand(text: str) -> None:
    assert grounded(text, [FOUND]) == ""


@pytest.mark.parametrize(
    ("text", "strange"),
    [
        ("WS-112 was reached from WS-111.", "WS-112"),
        ("The account adm.hugh was used on WS-111.", "adm.hugh"),
        ("203.0.113.18 was contacted by WS-111.", "203.0.113.18"),
        ("WS-11 was reached from WS-111.", "WS-11"),
        ("It rests on security.jsonl:645 and WS-111.", "security.jsonl:645"),
    ],
)
def test_a_name_that_was_changed_is_found(text: str, strange: str) -> None:
    assert unfounded(text, [FOUND]) == [strange]
    assert strange in grounded(text, [FOUND])


def test_words_that_name_nothing_where_much_was_found_do_not_stand() -> None:
    assert "names nothing" in grounded("Lateral movement is a way to move.", [FOUND])
    assert grounded("Nothing was found.", ["nothing"]) == ""


@settings(max_examples=100)
@given(st.lists(st.from_regex(r"[A-Z]{2}-[0-9]{3}", fullmatch=True), min_size=1, max_size=6, unique=True))
def test_what_repeats_its_sources_always_stands(names: list[str]) -> None:
    assert grounded(f"I saw {', '.join(names)}.", [f"found {name}" for name in names]) == ""
    assert unfounded(f"I saw {names[0]}9.", names) == [f"{names[0]}9"]


def find(host: str) -> str:
    """Find."""
    return FOUND


async def test_words_that_cannot_stand_are_set_aside_for_what_was_found() -> None:
    one = member(
        "logs", "WS-112 was reached.", tools=[find], always=[ToolUse("find", {"host": "a"})], check=grounded
    )
    told = await followed(crew_of([one], plan_text(("t1", "logs", [])), "Attack on WS-111."))
    (result,) = told.response.results
    assert result.text == f"find: {FOUND}"
    assert "its words were set aside: it names WS-112" in result.cut
    assert told.response.degraded


async def test_an_answer_that_cannot_stand_is_set_aside_for_the_next_and_at_last_for_the_results() -> None:
    def crew_that_says(aggregator: str, planner: str) -> Crew:
        one = member("logs", "WS-111.", tools=[find], always=[ToolUse("find", {"host": "a"})], check=grounded)
        return crew_of([one], [plan_text(("t1", "logs", [])), planner], aggregator, check=grounded)

    told = await followed(crew_that_says("WS-112 fell.", "WS-111 fell."))
    assert (str(told.response), told.response.answered_by) == ("WS-111 fell.", "planner")
    assert "WS-112" in told.response.missing[0].reason
    told = await followed(crew_that_says("WS-112 fell.", "WS-113 fell."))
    assert str(told.response) == "logs (t1):\nWS-111."
    told = await followed(crew_that_says("WS-111 fell.", "unused"))
    assert not told.response.degraded


async def test_a_check_that_fails_is_a_reason_not_to_trust_the_words() -> None:
    def broken(text: str, sources: object) -> str:
        raise RuntimeError("no check today")

    one = member("logs", "WS-111.", tools=[find], always=[ToolUse("find", {"host": "a"})], check=broken)
    told = await followed(crew_of([one], plan_text(("t1", "logs", []))))
    assert "no check today" in told.response.results[0].cut


def test_many_names_in_a_long_source_take_no_long_time() -> None:
    said = " ".join(f"host-{number}" for number in range(2_000))
    source = " ".join(f"srv-{number}.corp" for number in range(60_000))
    began = time.monotonic()
    assert len(unfounded(said, [source])) == 2_000
    assert time.monotonic() - began < 20
