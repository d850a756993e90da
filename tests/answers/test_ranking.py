"""Ranking: the choice among drafts, in a shape or in plain words, and none where there is no such draft."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock

from llama_index.packs.mixture_of_agents.answers.ranking import Choice, choice_among, choice_from
from llama_index.packs.mixture_of_agents.prompts import RANK, ranking_messages
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


def said(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def number(text: str, count: int = 4) -> int | None:
    choice = choice_from(ScriptedLLM("x"), said(text), count)
    return choice.choice if choice else None


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ('{"choice": 2, "reason": "it is right"}', 2),
        ('```json\n{"choice": "2"}\n```', 2),
        ("2", 2),
        ("#2", 2),
        ("**2**", 2),
        ("2. It has the facts.", 2),
        ("2: it has the facts", 2),
        ("Draft 2", 2),
        ("Draft 2 is best because draft 1 is wrong.", 2),
        ("Draft 1 is bad, draft 2 is the best.", 2),
        ("**Draft 2** is clearly the strongest.", 2),
        ("I choose draft 3.", 3),
        ("The best draft is 2.", 2),
        ("Best: 2", 2),
        ("My choice: Draft 1", 1),
        ("Choice: 2\nReason: all of it", 2),
        ("Draft 1 has errors. Draft 2 is fine. I would pick draft 2.", 2),
        ("The best answer is number 4, as 3 says.", 4),
        ("<think>Draft 1 is best.</think>Draft 3 is best.", 3),
    ],
)
def test_a_choice_is_understood_however_it_is_said(text: str, choice: int) -> None:
    assert number(text) == choice


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Neither.",
        "Draft 1 and draft 2 differ.",
        "2 of the drafts are wrong",
        "In 2023 it was so",
        "3.5",
        "{}",
    ],
)
def test_what_settles_on_no_draft_is_no_choice(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize("text", ["Draft 5 is best", "0", '{"choice": 5}', '{"choice": -1}', "Draft 9"])
def test_a_number_without_a_draft_is_no_choice(text: str) -> None:
    assert number(text) is None


@given(choice=st.integers(-2, 8), count=st.integers(1, 6))
def test_only_drafts_there_are_can_be_chosen(choice: int, count: int) -> None:
    text = Choice(choice=choice, reason="{} %s").model_dump_json()
    assert number(text, count) == (choice if 1 <= choice <= count else None)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert number(text) in (None, 1, 2, 3, 4)


def test_a_tool_call_is_read_with_its_reason() -> None:
    block = ToolCallBlock(tool_name="Choice", tool_kwargs={"choice": 1, "reason": " as {it} is "})
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=[block])
    assert choice_from(ScriptedLLM("x"), message, 2) == Choice(choice=1, reason="as {it} is")


def test_the_reason_of_a_plain_answer_is_the_answer_and_is_bounded() -> None:
    choice = choice_from(None, said("Draft 1 is best. " + "word " * 2_000), 2)
    assert choice is not None
    assert choice.reason.startswith("Draft 1 is best. word")
    assert len(choice.reason) <= 2_010


def test_a_very_long_answer_is_read_in_good_time() -> None:
    for piece in ("best ", "draft 1 ", "* ", "choose draft "):
        choice_from(None, said(piece * (1_000_000 // len(piece))), 2)


def test_the_prompt_holds_fenced_drafts_and_who_is_absent() -> None:
    asked = [ChatMessage(role=MessageRole.USER, content="{x} %s?")]
    system, user = ranking_messages(asked, ["first {y}", "=== second"], ["gone"], "A judge.")
    text = system.content or ""
    assert system.role == MessageRole.SYSTEM
    assert text.startswith("A judge.")
    assert RANK in text
    assert "==== draft 1\nfirst {y}\n==== end of draft 1" in text
    assert "No draft came from: gone." in text
    assert user.content == "{x} %s?"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_shape_of_a_choice_allows_no_draft_that_is_not_there(count: int) -> None:
    number = choice_among(count).model_json_schema()["properties"]["choice"]
    assert (number["minimum"], number["maximum"]) == (1, count)
    assert choice_among(count).__name__ == "Choice"


@pytest.mark.parametrize(
    "text",
    [
        "My choice" + " " * 50_000 + "is unclear",
        "choice " * 8_000,
        "best is the " * 5_000,
        "(" * 50_000 + "1",
    ],
    ids=["spaces", "choices", "praise", "brackets"],
)
def test_a_long_text_of_nothing_takes_no_time(text: str) -> None:
    began = time.perf_counter()
    assert choice_from(None, said(text), 3) is None
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("text", ["I would not choose draft 1. Take two.", "Don't pick draft 1; both fail."])
def test_what_is_not_chosen_is_no_choice(text: str) -> None:
    assert choice_from(None, said(text), 3) is None


def test_json_that_cannot_be_read_is_not_searched_for_numbers() -> None:
    assert choice_from(None, said('{"choice": 2} or {"choice": 1}'), 3) is None
