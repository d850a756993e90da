"""One mixture, one answer, one trace, whichever of its doors a question comes in by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.doors.recording import recorded

QUESTION = "Why is the sky blue?"
CONVERSATION = [
    ChatMessage(role="system", content="Be brief."),
    ChatMessage(role="user", content="Hello"),
    ChatMessage(role="assistant", content="Hi."),
    ChatMessage(role="user", content=QUESTION),
]
Asked = str | list[ChatMessage]
Door = Callable[[MixtureOfAgentsPack, Any], Awaitable[str]]


def as_messages(asked: Asked) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=asked)] if isinstance(asked, str) else asked


async def run(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    return str(pack.run(asked))


async def arun(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    return str(await pack.arun(asked))


async def astream(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    items = [item async for item in pack.astream(asked)]
    return str(items[-1])


async def workflow(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    return str(await pack.workflow.run(messages=as_messages(asked)))


async def chat(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    return pack.as_llm().chat(as_messages(asked)).message.content or ""


async def achat(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    return (await pack.as_llm().achat(as_messages(asked))).message.content or ""


async def stream_chat(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    pieces = list(pack.as_llm().stream_chat(as_messages(asked)))
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].message.content
    return pieces[-1].message.content or ""


async def astream_chat(pack: MixtureOfAgentsPack, asked: Asked) -> str:
    pieces = [piece async for piece in await pack.as_llm().astream_chat(as_messages(asked))]
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].message.content
    return pieces[-1].message.content or ""


async def complete(pack: MixtureOfAgentsPack, asked: str) -> str:
    return str(pack.as_llm().complete(asked))


async def acomplete(pack: MixtureOfAgentsPack, asked: str) -> str:
    return str(await pack.as_llm().acomplete(asked))


async def stream_complete(pack: MixtureOfAgentsPack, asked: str) -> str:
    pieces = list(pack.as_llm().stream_complete(asked))
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].text
    return str(pieces[-1])


async def astream_complete(pack: MixtureOfAgentsPack, asked: str) -> str:
    pieces = [piece async for piece in await pack.as_llm().astream_complete(asked)]
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].text
    return str(pieces[-1])


FOR_CONVERSATIONS: list[Door] = [run, astream, workflow, chat, achat, stream_chat, astream_chat]
FOR_TEXTS: list[Door] = [complete, acomplete, stream_complete, astream_complete]


def name_of(value: object) -> str:
    return getattr(value, "__name__", "") or ("text" if isinstance(value, str) else "conversation")


@pytest.mark.parametrize(
    ("door", "asked"),
    [
        *((door, QUESTION) for door in FOR_CONVERSATIONS + FOR_TEXTS),
        *((door, CONVERSATION) for door in FOR_CONVERSATIONS),
    ],
    ids=name_of,
)
async def test_every_door_gives_the_answer_and_the_trace_of_arun(door: Door, asked: Asked) -> None:
    expected, found = recorded(), recorded()
    answer = await arun(expected.pack, asked)
    assert await door(found.pack, asked) == answer == "the final answer"
    assert found.recorder.trace == expected.recorder.trace
    assert found.calls() == expected.calls()
    assert len(found.recorder.trace) == 7


class SharingLLM(ScriptedLLM):
    """One of several with the same weights, for which prompts are laid out alike."""

    @property
    def prefix_sharing_key(self) -> str:
        """Of all alike."""
        return "weights"


@pytest.mark.parametrize("door", FOR_CONVERSATIONS, ids=name_of)
async def test_every_door_lays_out_shared_prefixes_alike(door: Door) -> None:
    expected, found = recorded(SharingLLM, "role"), recorded(SharingLLM, "role")
    await arun(expected.pack, CONVERSATION)
    await door(found.pack, CONVERSATION)
    assert found.recorder.trace == expected.recorder.trace
    proposers = [messages for layer, _, _, messages, _, _ in found.recorder.trace if layer < 3]
    assert len(proposers) == 6
    assert all("(How to reply: You are" in (messages[-1].content or "") for messages in proposers)


async def test_a_door_can_be_used_again_and_again() -> None:
    mixture = recorded()
    for door in (run, arun, astream, chat, stream_chat, achat, astream_chat, run):
        mixture.recorder.entries.clear()
        assert await door(mixture.pack, QUESTION) == "the final answer"
        assert len(mixture.recorder.trace) == 7
