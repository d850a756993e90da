"""Prompts of proposers who read the same page and are asked for different things at its end.

It knows no model, only how a tokenizer writes a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage

from benchmarks.prefix_layout import QUESTIONS, Count, Tokenize

Conversation = list[ChatMessage]

PAGE = "\n\n".join([QUESTIONS["with three pages of text"]] * 2)

TASKS = (
    "List, one after another, all the facts that the text above gives, in your own words.",
    "Tell a child of ten at length what the text above says, with examples.",
    "Write an essay of three paragraphs on the text above and what follows from it.",
    "Write ten questions for an examination on the text above, each with its answer.",
)


def proposals(
    tokenize: Tokenize, common: int, page: str = PAGE, tasks: Sequence[str] = TASKS
) -> list[Conversation]:
    """Conversations that begin alike for so many tokens, or a word more.

    Args:
        tokenize: Conversation to token ids, chat template included.
        common: Tokens that all prompts should begin with.
        page: What they all read; its words are taken until there are enough.
        tasks: What differs, one for each.

    Raises:
        ValueError: The page is too short.
    """
    words = page.split(" ")
    for taken in range(1, len(words) + 1):
        asked = [_asked(" ".join(words[:taken]), task) for task in tasks]
        if Count.of([*map(tokenize, asked)]).common >= common:
            return asked
    raise ValueError(f"the page of {len(words)} words has fewer than {common} tokens; give a longer one")


def _asked(page: str, task: str) -> Conversation:
    return [ChatMessage(role="user", content=f"{page}\n\n{task}")]
