"""A choice among numbered drafts, read from whatever the model that chose said.

The shape asked for is `Choice`; a plain "Draft 2 is best because ..." is understood, too. A number without a
draft is no choice. It does not know what the drafts are, nor what becomes of the choice.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, Field, create_model

from llama_index.packs.mixture_of_agents.answers.shapes import read_shape
from llama_index.packs.mixture_of_agents.prompts import as_reference

_LONGEST_REASON = 2_000
_LONGEST_READ = 4_000
_RUNS = re.compile(r"([\s*_`#\"'(\[])[\s*_`#\"'(\[]+")
"""Runs of space and markup; read as one, so that a text of nothing else takes no time."""

_NAMED = r"(?:draft|answer|reply|response|proposal|option|candidate|choice|number|no\.)"
_DIGITS = (
    r"[*_`\"'(\[\#\s]*(?:(?:is|number|no\.)\s*)?[:=]?[*_`\"'(\[\#\s]*(?P<number>[0-9]{1,4})(?![0-9.,]*[0-9])"
)
_PRAISED = re.compile(
    rf"\b{_NAMED}{_DIGITS}[*_`\"')\]\s]*(?:(?:is|was|seems|looks)\s+(?:by\s+far\s+|clearly\s+)?(?:the\s+)?"
    r"(?:best|better|strongest|most|right|correct|one|winner)|wins|stands\s+out|should\s+win)\b",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"\b(?:choose|chose|chosen|choice|pick|picked|select|selected|prefer|best|winner)\b"
    rf"(?:(?!\b(?:because|since|as|than|but|while|not)\b)[^.\n]){{0,60}}?(?:\b{_NAMED}\b)?{_DIGITS}",
    re.IGNORECASE,
)
_DENIED = re.compile(r"(?:\bnot|n['\u2019]t|\bnever|\bcannot)\s+(?:\w+\s+){0,2}\Z", re.IGNORECASE)
_MENTIONED = re.compile(rf"\b{_NAMED}{_DIGITS}", re.IGNORECASE)
_BARE = re.compile(r"\W*(?P<number>[0-9]{1,4})(?:\W*\Z|[*_`]*(?:\s*[):,;\u2013-]|\.(?![0-9])|\s*\n))")


class Choice(BaseModel):
    """Which draft the user should get, and why.

    Attributes:
        choice: The number of the draft, from 1.
        reason: Why this one, in one or two sentences.
    """

    choice: int = Field(description="The number of the draft the user should get, from 1.")
    reason: str = Field(default="", description="Why this one, in one or two sentences.")


@lru_cache(maxsize=64)
def choice_among(count: int) -> type[Choice]:
    """The shape of a choice among so many drafts: its schema allows the number of no other."""
    number = Field(ge=1, le=count, description=f"The number of the best draft, 1 to {count}.")
    return create_model("Choice", __base__=Choice, __doc__=Choice.__doc__, choice=(int, number))


def choice_from(model: Any, message: ChatMessage, count: int) -> Choice | None:
    """The choice in an answer; None where it names no draft there is.

    Args:
        model: Who chose.
        message: Its answer.
        count: How many drafts there were.
    """
    shaped = read_shape(model, message, Choice)
    if shaped is not None:
        return _within(shaped, count)
    text = as_reference(message.content or "")[:_LONGEST_READ]
    # Where JSON was written and could not be read, a number in it may be anyone's.
    number = None if "{" in text else _number(_RUNS.sub(r"\1", text))
    return None if number is None else _within(Choice(choice=number, reason=text), count)


def _within(choice: Choice, count: int) -> Choice | None:
    if not 1 <= choice.choice <= count:
        return None
    reason = choice.reason.strip()
    cut = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
    return choice.model_copy(update={"reason": cut})


def _number(text: str) -> int | None:
    """The draft a plain text settles on: praised, stated, alone at its beginning, or the only one named."""
    for pattern in (_PRAISED, _STATED):
        for found in pattern.finditer(text):
            if not _is_denied(text, found):
                return int(found["number"])
    bare = _BARE.match(text)
    if bare:
        return int(bare["number"])
    named = {int(found["number"]) for found in _MENTIONED.finditer(text) if not _is_denied(text, found)}
    return named.pop() if len(named) == 1 else None


def _is_denied(text: str, found: re.Match[str]) -> bool:
    """Whether a "not" stands right before what was found."""
    return bool(_DENIED.search(text, max(0, found.start() - 30), found.start()))
