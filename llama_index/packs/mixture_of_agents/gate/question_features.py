"""A question as numbers, without any model: hashed words and pairs of words, and what can be counted.

Feature hashing is Weinberger et al.'s (arXiv 0902.2206); the hash is CRC-32, the same in every process. An
embedding of the question may take the words' place. Answers are not looked at here.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.ballots import Floats, Question

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

BUCKETS = 256
COUNTED = 8
_LONGEST = 20_000
_WORD = re.compile(r"[^\W\d_]+|[0-9]+|[%$€£]")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")


class QuestionFeatures:
    """Turns questions into rows of numbers.

    Args:
        embed_model: A LlamaIndex embedding model, for what a question means; None for its words.
    """

    def __init__(self, embed_model: BaseEmbedding | None = None) -> None:
        self._embed_model = embed_model

    def rows(self, questions: Sequence[str]) -> Floats:
        """A row for each question: its words or meaning at length 1, then what was counted.

        Raises:
            ConfigurationError: The embedding model gave numbers that are none.
        """
        if not questions:
            return np.zeros((0, BUCKETS + COUNTED))
        meant = [hashed_words(question) for question in questions]
        if self._embed_model is not None:
            found = self._embed_model.get_text_embedding_batch(list(questions))
            meant = [_unit(np.array(row, dtype=np.float64)) for row in found]
        rows = np.stack([np.append(m, counted(q)) for m, q in zip(meant, questions, strict=True)])
        if not np.isfinite(rows).all():
            raise ConfigurationError(
                "The embedding model gave NaN or infinite numbers for a question; pass another embed_model."
            )
        return rows


def hashed_words(question: str) -> Floats:
    """Words and pairs of neighbours, each counted in a bucket of its hash, by the root of its count."""
    words = [word.casefold() for word in _WORD.findall(question[:_LONGEST])]
    # A number is a number: which one it is says little of who can answer.
    plain = ["0" if word.isdigit() else word for word in words]
    row = np.zeros(BUCKETS)
    for term in (*plain, *(f"{one} {two}" for one, two in pairwise(plain))):
        row[zlib.crc32(term.encode("utf-8", "replace")) % BUCKETS] += 1
    return _unit(np.sqrt(row))


def counted(question: str) -> Floats:
    """Length, numbers, sentences and signs, each at a size of about 1."""
    text = question[:_LONGEST]
    facts = Question.of(text)
    sizes = [math.log10(1 + abs(float(v))) for v in facts.values if _is_plain(v)]
    return np.array(
        [
            min(len(text), 2_000) / 300,
            math.log1p(facts.count),
            math.log1p(len(_SENTENCE.findall(text))),
            max(sizes, default=0.0) / 3,
            float("%" in text or "percent" in text),
            float("$" in text),
            float(any(not v.lstrip("-").isdigit() for v in facts.values)),
            math.log1p(len(text.split())) / 3,
        ]
    )


def _is_plain(value: str) -> bool:
    return "/" not in value and len(value) <= 60


def _unit(row: Floats) -> Floats:
    length = float(np.linalg.norm(row))
    return row / length if length else row
