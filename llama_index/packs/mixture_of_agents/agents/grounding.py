"""Whether words keep to what they are about: names in them that nothing they rest on has.

A small model changes names as it goes (a host WS-111 becomes WS-112). Names of that kind can be told without
understanding: they hold digits, dots, colons or hyphens. Whether the sentences around them are true is not
known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llama_index.packs.mixture_of_agents.prompts import as_reference

_NAME = re.compile(r"[^\W_][\w.:@/\\-]*[\w]")
_TELLING = re.compile(r"\d.*[^\W\d]|[^\W\d].*\d|\w[.:@\\/-]\w.*[.:@\\/-]|\d+[.:-]\d+|\w+[.]\w{1,}")
_IN_A_WORD = re.compile(r"\w")
_PLAIN_NUMBER = re.compile(r"\d+(?:\.\d+)?%?|\d+(?:st|nd|rd|th|s)", re.IGNORECASE)
_ABBREVIATION = re.compile(r"(?:e\.g|i\.e|etc|vs|no|a\.m|p\.m|u\.s|ph\.d)", re.IGNORECASE)
_MOST_TOLD = 5
_MUCH = 3


def names_in(text: str) -> list[str]:
    """The names in a text that are telling: with digits and letters, or parted by dots, colons or hyphens.

    Plain numbers and words are none.
    """
    found = (match[0].rstrip(".:-/\\") for match in _NAME.finditer(text))
    return list(dict.fromkeys(name for name in found if _is_telling(name)))


def unfounded(text: str, sources: Sequence[str]) -> list[str]:
    """The names in a text that none of its sources has.

    Args:
        text: What was said.
        sources: What it rests on.
    """
    known = "\n".join(sources).casefold()
    return [name for name in names_in(text) if not _stands_in(name.casefold(), known)]


def grounded(text: str, sources: Sequence[str]) -> str:
    """Why a text cannot stand on its sources, in words; empty where nothing speaks against it.

    It names something that is in none of them; or it names nothing, where they name much.

    Args:
        text: What was said.
        sources: What it rests on.
    """
    said = as_reference(text)
    strangers = unfounded(said, sources)
    if strangers:
        more = ", and more" if len(strangers) > _MOST_TOLD else ""
        return f"it names {', '.join(strangers[:_MOST_TOLD])}{more}, of which nothing that was found speaks"
    if not names_in(said) and len(names_in("\n".join(sources))) >= _MUCH:
        return "it names nothing of what was found"
    return ""


def _stands_in(name: str, known: str) -> bool:
    """Whether a name stands there as a whole, or as a part that ends where a sign does."""
    place = known.find(name)
    while place >= 0:
        end = place + len(name)
        if not _IN_A_WORD.match(known[place - 1 : place]) and not _IN_A_WORD.match(known[end : end + 1]):
            return True
        place = known.find(name, place + 1)
    return False


def _is_telling(name: str) -> bool:
    if _PLAIN_NUMBER.fullmatch(name) or _ABBREVIATION.fullmatch(name):
        return False
    return bool(_TELLING.search(name))
