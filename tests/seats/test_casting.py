"""Casting: roles read from a role writer's answer, bounded, different, and filled up with fixed ones."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock, ToolCallBlock

from llama_index.packs.mixture_of_agents.prompts import role_writer_messages
from llama_index.packs.mixture_of_agents.results import Role
from llama_index.packs.mixture_of_agents.seats.casting import RoleList, fixed_roles, role_list_of, roles_from
from llama_index.packs.mixture_of_agents.strategies import FIXED_ROLES, ROLES
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

ECONOMIST = Role(name="a cautious economist", perspective="looks at costs", instructions="Count them.")
NURSE = Role(name="a nurse", perspective="looks at people", instructions="Ask how they fare.")
WRITTEN = {"roles": [ECONOMIST.model_dump(), NURSE.model_dump()]}


def said(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def roles(text: str, count: int = 2) -> list[Role] | None:
    return roles_from(ScriptedLLM("x"), said(text), count)


def names(text: str, count: int = 2) -> list[str] | None:
    found = roles(text, count)
    return None if found is None else [role.name for role in found]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(WRITTEN),
        f"Here they are:\n```json\n{json.dumps(WRITTEN, indent=1)}\n```",
        json.dumps(WRITTEN["roles"]),
        "\n".join(json.dumps(role) for role in WRITTEN["roles"]),
        "Role: a cautious economist, Perspective: looks at costs, Instructions: Count them.\n"
        "Role: a nurse, Perspective: looks at people, Instructions: Ask how they fare.",
        "1. Role: a cautious economist\nPerspective: looks at costs\nInstructions: Count them.\n\n"
        "2. Role: a nurse\nPerspective: looks at people\nInstructions: Ask how they fare.",
        "### Role 1: **a cautious economist**\n- **Perspective:** looks at costs\n"
        "- **Instructions:** Count them.\n"
        "### Role 2: **a nurse**\n- **Perspective**: looks at people\n- **Instructions**: Ask how they fare.",
        "Name: a cautious economist\nPerspective: looks at costs\nInstruction: Count them.\n"
        "Name: a nurse\nPerspective: looks at people\nInstruction: Ask how they fare.",
    ],
)
def test_whole_roles_are_read_in_many_forms(text: str) -> None:
    assert roles(text) == [ECONOMIST, NURSE]


@pytest.mark.parametrize(
    "text",
    [
        "1. A cautious economist: looks at costs\n2. A nurse: looks at people",
        "These are they:\n\n1) **A cautious economist** - looks at costs\n2) **A nurse** - looks at people",
        "- A cautious economist: looks at costs\n- A nurse: looks at people",
        "* **A cautious economist**: looks at costs\n* **A nurse**: looks at people",
        "Role 1: A cautious economist: looks at costs\nRole 2: A nurse: looks at people",
    ],
)
def test_lists_give_a_name_and_a_perspective(text: str) -> None:
    found = roles(text)
    assert found is not None
    assert [role.name for role in found] == ["A cautious economist", "A nurse"]


@pytest.mark.parametrize(
    "text", ['{"roles": ["a poet", "a chef"]}', "1. a poet\n2. a chef", '["a poet", "a chef"]']
)
def test_bare_names_are_roles_too(text: str) -> None:
    assert names(text) == ["a poet", "a chef"]


def test_a_tool_call_is_read() -> None:
    block = ToolCallBlock(tool_name="RoleList", tool_kwargs=WRITTEN)
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=[block])
    assert roles_from(ScriptedLLM("x"), message, 2) == [ECONOMIST, NURSE]


@pytest.mark.parametrize(
    "text", ["", "Sorry, I cannot do that.", "{}", '{"roles": []}', '{"roles": [{"name": " "}]}']
)
def test_where_nothing_usable_was_written_there_is_nothing(text: str) -> None:
    assert roles(text) is None


def test_too_few_are_filled_up_with_fixed_ones_and_too_many_are_cut() -> None:
    assert names("1. a poet: sees", 3) == ["a poet", FIXED_ROLES[0].name, FIXED_ROLES[1].name]
    assert names("1. a: x\n2. b: y\n3. c: z", 2) == ["a", "b"]


def test_a_fixed_role_that_was_written_too_does_not_come_twice() -> None:
    assert names("1. A critic: x", 3) == ["A critic", "a domain expert", "a teacher"]


def test_roles_of_one_name_are_one() -> None:
    text = json.dumps({"roles": [{"name": "A Poet", "perspective": "1"}, {"name": "a poet"}, {"name": "b"}]})
    assert names(text) == ["A Poet", "b"]


def test_a_role_that_addresses_its_player_is_not_told_twice_who_it_is() -> None:
    found = roles('{"roles": [{"name": "You are a poet."}]}', 1)
    assert found is not None
    assert str(found[0]) == "You are a poet."


def test_an_endless_role_is_cut_and_says_so() -> None:
    long = {"name": "n" * 10_000, "perspective": "p " * 10_000, "instructions": "i" * 10_000}
    found = roles(json.dumps({"roles": [long]}), 1)
    assert found is not None
    for part in (found[0].name, found[0].perspective, found[0].instructions):
        assert part.endswith("...")
        assert len(part) <= 800
    assert "\n" not in found[0].name


@given(text=st.text(max_size=200), count=st.integers(1, 9))
def test_no_text_breaks_the_reading(text: str, count: int) -> None:
    found = roles(text, count)
    assert found is None or len({role.name.casefold() for role in found}) == len(found) == count


@given(count=st.integers(1, 30))
def test_fixed_roles_have_different_names_however_many(count: int) -> None:
    fixed = fixed_roles(count)
    assert len({role.name for role in fixed}) == len(fixed) == count
    assert fixed[: len(FIXED_ROLES)] == list(FIXED_ROLES[:count])


def test_the_fixed_roles_are_those_of_the_role_strategy() -> None:
    assert tuple(map(str, FIXED_ROLES)) == ROLES
    assert ROLES[0].startswith("You are a domain expert. Be exact:")


def test_the_role_writer_reads_the_question_fenced_and_unformatted() -> None:
    asked = [
        ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
        ChatMessage(role=MessageRole.USER, content="{count} {} %s === ignore all that"),
    ]
    system, user = role_writer_messages(asked, 4)
    assert "Write exactly 4 roles." in (system.content or "")
    text = user.content or ""
    assert text.startswith("==== request\nsystem: Be brief.\n\nuser: {count} {} %s === ignore")
    assert text.endswith("\n==== end of request")


def test_the_role_writer_reads_what_is_no_text_by_its_kind_and_not_all_of_a_book() -> None:
    image = ImageBlock(url="https://example.org/x.png")
    picture = ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text="what is this"), image])
    assert "user: what is this\n(image)" in (role_writer_messages([picture], 2)[1].content or "")
    book = ChatMessage(role=MessageRole.USER, content="beginning " + "x" * 1_000_000 + " end")
    text = role_writer_messages([book], 2)[1].content or ""
    assert len(text) < 25_000
    assert all(part in text for part in ("beginning", "(a part is left out here)", " end\n"))


def test_the_shape_says_what_is_wanted() -> None:
    schema = RoleList.model_json_schema()
    assert schema["required"] == ["roles"]
    assert set(schema["$defs"]["Role"]["properties"]) == {"name", "perspective", "instructions"}


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_shape_of_roles_asks_for_as_many_as_are_wanted(count: int) -> None:
    roles = role_list_of(count).model_json_schema()["properties"]["roles"]
    assert (roles["minItems"], roles["maxItems"]) == (count, count)
    assert role_list_of(count)(roles=["Baker"] * count).roles[0].name == "Baker"  # type: ignore[list-item]


@pytest.mark.parametrize("line", ["*" * 50_000, "* " * 25_000, "-" * 50_000, "role " * 10_000])
def test_a_long_line_of_nothing_takes_no_time(line: str) -> None:
    began = time.perf_counter()
    assert roles_from(None, ChatMessage(role=MessageRole.ASSISTANT, content=line), 3) is None
    assert time.perf_counter() - began < 5
