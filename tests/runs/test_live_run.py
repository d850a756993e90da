"""A run's state is data that serialises; its live side is found by its own tasks only."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock

from llama_index.packs.mixture_of_agents import ConfigurationError, Missing, Proposal, Usage
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.calls.slots import CallSlots
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.runs.live_run import (
    Asked,
    LiveRun,
    begun_in,
    conversation,
    current_run,
)
from llama_index.packs.mixture_of_agents.runs.mixture import seat_mixture
from llama_index.packs.mixture_of_agents.runs.states import MixtureState
from llama_index.packs.mixture_of_agents.seats.placing import Outcome, Placing
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

MESSAGE = st.builds(ChatMessage, role=st.sampled_from(["system", "user", "assistant"]), content=st.text())
USAGE = st.builds(
    Usage, prompt_tokens=st.none() | st.integers(0, 10**6), cost_usd=st.none() | st.floats(0, 9)
)
PROPOSAL = st.builds(Proposal, proposer=st.text(), layer=st.integers(1, 4), text=st.text(), usage=USAGE)
MISSING = st.builds(
    Missing,
    proposer=st.text(),
    layer=st.integers(1, 4),
    reason=st.text(),
    status=st.none() | st.integers(400, 599),
)
STATE = st.builds(
    MixtureState,
    run_id=st.text(),
    messages=st.lists(MESSAGE, max_size=3),
    proposals=st.lists(PROPOSAL, max_size=5),
    missing=st.lists(MISSING, max_size=5),
)


def live_run(run_id: str = "r", clock: Any = lambda: 12.0) -> LiveRun:
    mixture = seat_mixture([ScriptedLLM("x")], ScriptedLLM("y"), timeout=5)
    return LiveRun(
        mixture=mixture, placing=Placing(CallSlots(None), [], 0, clock), run_id=run_id, started=2.0
    )


def call(layer: int, index: int) -> Call:
    return Call("r", layer, index, f"p{index}", [], Sampling())


@given(state=STATE)
def test_a_state_comes_back_from_json_as_it_was(state: MixtureState) -> None:
    assert MixtureState.model_validate(json.loads(json.dumps(state.model_dump(mode="json")))) == state


@given(state=STATE)
def test_references_are_the_last_round_with_proposals_and_whom_it_lacks(state: MixtureState) -> None:
    proposals, missing = state.references()
    if not state.proposals:
        assert (proposals, missing) == ([], [])
        return
    layer = max(proposal.layer for proposal in state.proposals)
    assert proposals == [proposal for proposal in state.proposals if proposal.layer == layer]
    assert missing == [gone for gone in state.missing if gone.layer == layer]


@given(state=STATE, outcomes=st.lists(PROPOSAL | MISSING, max_size=6))
def test_a_closed_round_is_added_in_order_and_the_state_before_is_unchanged(
    state: MixtureState, outcomes: list[Proposal | Missing]
) -> None:
    before = state.model_copy(deep=True)
    after = state.with_outcomes(outcomes)
    assert state == before
    assert after.proposals == [*state.proposals, *(o for o in outcomes if isinstance(o, Proposal))]
    assert after.missing == [*state.missing, *(o for o in outcomes if isinstance(o, Missing))]


@pytest.mark.parametrize(
    ("query_str", "messages"),
    [
        (None, None),
        ("Why?", [ChatMessage(content="Why?")]),
        ("", None),
        (" \n\t ", None),
        (None, []),
        (None, [ChatMessage(content="  ")]),
        (None, [ChatMessage(content=None), ChatMessage(blocks=[])]),
    ],
)
def test_no_question_or_two_are_refused(query_str: str | None, messages: list[ChatMessage] | None) -> None:
    with pytest.raises(ConfigurationError):
        conversation(query_str, messages)


def test_a_question_becomes_one_user_message_and_a_conversation_stays_as_it_is() -> None:
    asked = [ChatMessage(role="system", content="Be brief."), ChatMessage(content="Why?")]
    assert conversation("Why?", None) == [ChatMessage(role=MessageRole.USER, content="Why?")]
    assert conversation(None, asked) == asked


def test_an_image_alone_is_a_question() -> None:
    shown = [ChatMessage(blocks=[ImageBlock(image=b"png", image_mimetype="image/png")])]
    assert conversation(None, shown) == shown
    assert conversation(None, [ChatMessage(blocks=[TextBlock(text=" "), *shown[0].blocks])])


def test_what_is_there_so_far_is_told_in_proposer_order() -> None:
    run = live_run()
    for layer, index in ((2, 0), (1, 1), (1, 0), (2, 1), (2, 2)):
        run.asked[(layer, index, 0)] = Asked(f"p{index}", "propose")
    for layer, index in ((2, 0), (1, 1), (1, 0)):
        record = Proposal(proposer=f"p{index}", layer=layer, text="x")
        run.outcomes[(layer, index, 0)] = Outcome(call(layer, index), record)
    run.outcomes[(2, 1, 0)] = Outcome(call(2, 1), Missing(proposer="p1", layer=2, reason="down"))
    run.streamed = "The sky"

    partial = run.partial()

    assert [(p.layer, p.proposer) for p in partial.proposals] == [(1, "p0"), (1, "p1"), (2, "p0")]
    assert [gone.proposer for gone in partial.missing] == ["p1", "p2"]
    assert (partial.text, partial.run_id, partial.latency_seconds) == ("The sky", "r", 10.0)


def test_the_timeouts_error_says_how_long_and_what_to_change() -> None:
    error = live_run().timeout_error()
    assert "5 s" in str(error)
    assert "quorum" in str(error)
    assert error.partial.run_id == "r"


async def test_tasks_find_the_run_they_were_begun_in_and_no_other() -> None:
    async def which() -> str:
        await asyncio.sleep(0.001)
        return current_run().run_id

    tasks = [
        begun_in(live_run(run_id), lambda: asyncio.ensure_future(which())) for run_id in map(str, range(20))
    ]
    assert await asyncio.gather(*tasks) == [str(n) for n in range(20)]
    with pytest.raises(LookupError):
        current_run()


def test_a_run_is_forgotten_when_beginning_it_fails() -> None:
    with pytest.raises(IndexError):
        begun_in(live_run(), lambda: [][0])
    with pytest.raises(LookupError):
        current_run()


async def test_ending_a_run_ends_the_timers_of_its_rounds() -> None:
    mixture = seat_mixture([ScriptedLLM("x")], ScriptedLLM("y"), layer_timeout=30)
    placing = Placing(CallSlots(None), [], 0, lambda: 0.0)
    run = LiveRun(mixture=mixture, placing=placing, run_id="r", started=0.0)
    run.round(1)
    run.end()
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert [timer for timer in scheduled if not timer.cancelled()] == []
