"""Events: they serialise, come back equal, and carry no live object."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from pydantic import ValidationError
from workflows.context import JsonSerializer
from workflows.events import Event

from llama_index.packs.mixture_of_agents import DeltaEvent, Missing, MixtureOfAgentsWorkflow, ProgressEvent
from llama_index.packs.mixture_of_agents.events import (
    AskEvent,
    DeadlineEvent,
    ProposalEvent,
    ProposeEvent,
    SynthesizeEvent,
)
from llama_index.packs.mixture_of_agents.results import Proposal, Usage
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

PLACE = {"layer": st.integers(1, 9), "index": st.integers(0, 99)}
USAGE = st.builds(Usage, prompt_tokens=st.none() | st.integers(0, 10**6))
MESSAGE = st.builds(ChatMessage, role=st.sampled_from(["system", "user", "assistant"]), content=st.text())
PROPOSAL = st.builds(Proposal, proposer=st.text(), layer=st.integers(1, 9), text=st.text(), usage=USAGE)
MISSING = st.builds(Missing, proposer=st.text(), layer=st.integers(1, 9), reason=st.text())
EVENT = st.one_of(
    st.builds(AskEvent, query_str=st.none() | st.text(), messages=st.none() | st.lists(MESSAGE, max_size=3)),
    st.builds(ProposeEvent, **PLACE),
    st.builds(ProposalEvent, **PLACE, proposal=st.none() | PROPOSAL, missing=st.none() | MISSING),
    st.builds(SynthesizeEvent, layer=st.integers(1, 9)),
    st.builds(DeadlineEvent),
    st.builds(
        ProgressEvent,
        kind=st.sampled_from(["round", "asked", "answered", "missing", "retry", "synthesis"]),
        layer=st.integers(1, 9),
        proposer=st.text(),
        usage=USAGE,
        reason=st.text(),
    ),
    st.builds(DeltaEvent, delta=st.text()),
)


def there_and_back(event: Event) -> Event:
    serializer = JsonSerializer()
    returned = serializer.deserialize(serializer.serialize(event))
    assert isinstance(returned, Event)
    return returned


@given(event=EVENT)
def test_every_event_comes_back_from_json_as_it_was(event: Event) -> None:
    returned = there_and_back(event)
    assert type(returned) is type(event)
    assert returned.model_dump() == event.model_dump()


def test_a_question_with_an_image_comes_back_whole() -> None:
    blocks = [TextBlock(text="What is it?"), ImageBlock(image=b"\x89PNG", image_mimetype="image/png")]
    event = AskEvent(messages=[ChatMessage(blocks=blocks)])
    assert there_and_back(event).model_dump() == event.model_dump()


def test_an_event_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError):
        ProgressEvent(kind="thinking", layer=1)  # type: ignore[arg-type]


async def test_what_a_run_streams_is_plain_data_without_a_trace_of_the_models() -> None:
    proposers = [ScriptedLLM("one", model="a"), ScriptedLLM([OSError("down")] * 9, model="b")]
    workflow = MixtureOfAgentsWorkflow(proposers, ScriptedLLM("the answer", model="g"), max_retries=0)
    handler = workflow.run(query_str="Why?")
    events = [event async for event in handler.stream_events()]
    await handler

    told = [event for event in events if isinstance(event, (ProgressEvent, DeltaEvent))]
    assert {event.kind for event in told if isinstance(event, ProgressEvent)} == {
        "round", "asked", "answered", "missing", "synthesis",
    }  # fmt: skip
    for event in told:
        assert there_and_back(event).model_dump() == event.model_dump()
        assert "ScriptedLLM" not in json.dumps(event.model_dump(mode="json"))
