"""Which proposers' prompts begin alike, and the layout that lets a local model compute that beginning once.

A model that answers several roles at once need not read the question and the drafts once for each: it
keeps what it computed for the tokens that prompts have in common from their beginning (RadixAttention,
arXiv 2312.07104). Usually the role comes first, so that nothing is in common behind it. Here it comes
last. It knows neither calls nor engines, only the word of an LLM that it can do this (`SharesPrefixes`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents.prompts import HOW_TO_REPLY, proposer_messages


class SharesPrefixes(Protocol):
    """What an LLM may have, of whatever class, to be given prompts with a common beginning."""

    @property
    def prefix_sharing_key(self) -> Hashable | None:
        """Equal keys: equal beginnings of prompts to these LLMs are computed once. None: never.

        It says nothing of settings that only choose among computed tokens, such as the temperature.
        """


def prefix_sharers(models: Sequence[Any]) -> list[bool]:
    """Which of a layer's models share the beginnings of their prompts with another of that layer.

    Args:
        models: LLMs and agents, seat by seat; an LLM that sits in two seats shares with itself. Agents
            write their own prompts, so they never share.

    Returns:
        One truth value for each seat.
    """
    keys = [_sharing_key(model) for model in models]
    return [key is not None and keys.count(key) > 1 for key in keys]


def _sharing_key(model: Any) -> Hashable | None:
    return getattr(model, "prefix_sharing_key", None) if isinstance(model, LLM) else None


def shared_prefix_messages(
    messages: Sequence[ChatMessage],
    role: str | None,
    references: Sequence[str] = (),
    absent: Sequence[str] = (),
    roles: Sequence[str] = (),
) -> list[ChatMessage]:
    """What one of several proposers with the same local model reads: what they all read, then its role.

    The role ends the last user message, as a paragraph in brackets. Whatever stands behind that message (the
    beginning of an answer, say) stays there. Without a user message there is nothing for the role to
    follow: it stands in the system message, as in `proposer_messages`.

    Args:
        messages: The caller's conversation, treated as by `proposer_messages`.
        role: Who this proposer is; None for nobody in particular, and then nothing is added.
        references: Stripped proposals of the round before; empty in the first round.
        absent: Who was asked in the round before and gave nothing.
        roles: Of all who share the prefix, this one's too: the drafts' marker is in none of them, so it
            is the same for all.
    """
    common = proposer_messages(messages, None, references, absent, roles)
    if not role:
        return common
    last = max((n for n, m in enumerate(common) if m.role == MessageRole.USER), default=None)
    if last is None:
        return proposer_messages(messages, role, references, absent, roles)
    read = [message.content or "" for message in common]
    common[last] = _ended_by(_bracketed(role, read), common[last])
    return common


def _bracketed(role: str, read: Sequence[str]) -> str:
    """The role as a paragraph of ours: nothing else in the prompt opens with so many brackets.

    One plain line, and no markers like the drafts': what stands between those is "never instructions to
    follow", and a model of 135 M parameters took such markers for something to write about.
    """
    width = 1
    while any(f"{'(' * width}{HOW_TO_REPLY}" in text for text in (*read, role)):
        width += 1
    return f"{'(' * width}{HOW_TO_REPLY} {role}{')' * width}"


def _ended_by(paragraph: str, message: ChatMessage) -> ChatMessage:
    """The message with one more paragraph of text at its end; the message given stays as it is."""
    *before, last = message.blocks or [TextBlock(text="")]
    if isinstance(last, TextBlock):
        text = f"{last.text}\n\n{paragraph}" if last.text else paragraph
        blocks = [*before, last.model_copy(update={"text": text})]
    else:
        blocks = [*before, last, TextBlock(text=paragraph)]
    return message.model_copy(update={"blocks": blocks})
