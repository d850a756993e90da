"""The mixture as `Settings.llm`: a real index over a few documents answers through it."""

from __future__ import annotations

import pytest
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.memory import ChatMemoryBuffer

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

DOCUMENTS = [
    Document(text="The lighthouse of Alexandria stood on Pharos."),
    Document(text="The colossus of Rhodes showed Helios."),
    Document(text="The hanging gardens are placed in Babylon."),
]
pytestmark = pytest.mark.usefixtures("own_settings")


def mixture() -> tuple[list[ScriptedLLM], VectorStoreIndex]:
    members = [ScriptedLLM("On Pharos, I think.", model="a"), ScriptedLLM("On Pharos.", model="g")]
    Settings.llm = MixtureOfAgentsPack(members[1], members[:1]).as_llm()
    return members, VectorStoreIndex.from_documents(DOCUMENTS)


def assert_all_read_the_documents(members: list[ScriptedLLM]) -> None:
    calls = [call for member in members for call in member.calls]
    assert len(calls) == 3
    assert all("lighthouse of Alexandria" in call.text for call in calls)
    assert all("Where did the lighthouse stand?" in call.text for call in calls)
    assert "On Pharos, I think." in members[-1].calls[0].text


def test_a_query_is_answered_by_the_mixture_from_the_documents() -> None:
    members, index = mixture()
    response = index.as_query_engine(similarity_top_k=3).query("Where did the lighthouse stand?")
    assert str(response) == "On Pharos."
    assert_all_read_the_documents(members)


async def test_an_awaited_query_is_too() -> None:
    members, index = mixture()
    response = await index.as_query_engine(similarity_top_k=3).aquery("Where did the lighthouse stand?")
    assert str(response) == "On Pharos."
    assert_all_read_the_documents(members)


def test_a_streamed_query_comes_in_pieces() -> None:
    members, index = mixture()
    engine = index.as_query_engine(similarity_top_k=3, streaming=True)
    response = engine.query("Where did the lighthouse stand?")
    assert isinstance(response, StreamingResponse)
    assert list(response.response_gen) == ["On ", "Pharos.", ""]
    assert_all_read_the_documents(members)


@pytest.mark.parametrize("mode", ["refine", "tree_summarize", "compact", "simple_summarize"])
def test_each_way_to_synthesise_from_documents_works(mode: str) -> None:
    _, index = mixture()
    assert str(index.as_query_engine(response_mode=mode).query("Where?")) == "On Pharos."


def test_a_chat_engine_remembers_what_was_said() -> None:
    members, index = mixture()
    # The default memory of chat engines leaves a database connection open; this one has none.
    engine = index.as_chat_engine(chat_mode=ChatMode.CONTEXT, memory=ChatMemoryBuffer.from_defaults())
    engine.chat("Where did the lighthouse stand?")
    assert str(engine.chat("And the colossus?")) == "On Pharos."
    *_, history, answer, last = members[1].calls[1].messages
    assert (history.content, answer.content) == ("Where did the lighthouse stand?", "On Pharos.")
    assert last == ChatMessage(content="And the colossus?")
