"""Conversations as plain text, and text that must not pass for control tokens.

Messages are mappings with "role" and "content". This file knows neither tokenizers nor LlamaIndex.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

ChatTurn = Mapping[str, str]

# Chat templates know four roles; these are other names for them.
_ROLES = {"developer": "system", "chatbot": "assistant", "model": "assistant", "function": "tool"}
# Thoughts and cache marks of earlier turns are not for the model to read again.
_BLOCK_TYPES = ("text", "thinking", "cache")

PLAIN_STOPS = ("\nUser:", "\nSystem:")


def chat_turn(role: str, content: str | None, block_types: Iterable[str]) -> ChatTurn:
    """Make a turn of a message's parts.

    Args:
        role: Whose words they are; the many names for a role become the one that templates know.
        content: The text, or None if there is none.
        block_types: Kinds of content in the message.

    Returns:
        The turn.

    Raises:
        ConfigurationError: The message holds something other than text.
    """
    for kind in block_types:
        if kind not in _BLOCK_TYPES:
            raise ConfigurationError(
                f"a message has a block of type {kind!r}, and this model reads text only; remove it, or ask "
                "a model that takes it"
            )
    return {"role": _ROLES.get(role, role), "content": content or ""}


def plain_prompt(turns: Sequence[ChatTurn]) -> str:
    """Write a conversation for a model without a chat template.

    One paragraph per message, `Role: content`, and `Assistant:` at the end for the model to go on
    from. Its answers are cut at `PLAIN_STOPS`, where such a model starts to play the next role.

    Args:
        turns: The messages, oldest first.

    Returns:
        The prompt.
    """
    paragraphs = [f"{turn['role'].capitalize()}: {turn['content'].strip()}" for turn in turns]
    return "\n\n".join([*paragraphs, "Assistant:"])


def defuse(text: str, control_tokens: Collection[str]) -> str:
    """Break up control tokens that stand in someone's words.

    A tokenizer cannot tell an end-of-turn mark that the chat template wrote from one that a user or
    another model's answer contains, which would let that text speak as the system. A space after the
    first character makes it ordinary text that still reads the same.

    Args:
        text: A message's content.
        control_tokens: The tokenizer's special tokens; one-character tokens are left alone.

    Returns:
        Text that contains none of them.
    """
    for token in control_tokens:
        if len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
