"""How near a note is to a text: by the words they share, or by the angle between their embeddings.

Pure functions; files and models are not known here.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Sequence
from typing import Protocol

_MOST_WORDS = 64
_WORD = re.compile(r"\w+")
_LITTLE_WORDS = (
    "a an and are as at be by do does for from has have how i in is it me my of on or our the this to was we "
    "were what when where which who why will with you your"
)
_LITTLE = frozenset(_LITTLE_WORDS.split())


class Embedder(Protocol):
    """What is needed of an embedding model; LlamaIndex's have it."""

    def get_text_embedding(self, text: str) -> list[float]:
        """Where a text lies."""

    def get_query_embedding(self, query: str) -> list[float]:
        """Where a question lies."""


def words_of(text: str) -> list[str]:
    """Its words, each once, those that say something; all of them where none does."""
    found = list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))
    return ([word for word in found if word not in _LITTLE] or found)[:_MOST_WORDS]


def match_any(text: str) -> str:
    """A query for FTS5 that finds what shares a word with the text; empty where it has no words.

    Each word is quoted, so nothing in a text is read as FTS5's own syntax.
    """
    return " OR ".join(f'"{word}"' for word in words_of(text))


def match_all(text: str) -> str:
    """A query for FTS5 that finds what has every word of the text."""
    return " AND ".join(f'"{word}"' for word in dict.fromkeys(map(str.lower, _WORD.findall(text))))


def packed(vector: Sequence[float]) -> bytes:
    """An embedding as bytes, four for each number."""
    return array("f", vector).tobytes()


def nearness(stored: bytes | None, wanted: Sequence[float]) -> float:
    """The cosine of the angle between two embeddings; -2 where they cannot be compared."""
    vector = array("f")
    vector.frombytes(stored or b"")
    if not vector or len(vector) != len(wanted):
        return -2.0
    lengths = math.sqrt(sum(x * x for x in vector)) * math.sqrt(sum(y * y for y in wanted))
    return sum(x * y for x, y in zip(vector, wanted, strict=True)) / lengths if lengths else -2.0
