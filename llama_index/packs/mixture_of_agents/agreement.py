"""When the proposals of a round agree, so that remaining rounds can be skipped.

`Agreement` compares extracted answers, `Similarity` embeddings. They see texts alone: who wrote them, and
what is skipped, is not known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index.packs.mixture_of_agents.answers.extracting import (
    Extractor,
    extracted,
    extractor_label,
    extractor_named,
)
from llama_index.packs.mixture_of_agents.calls.threads import in_thread
from llama_index.packs.mixture_of_agents.checks import number, shortened, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.prompts import as_reference

_logger = logging.getLogger(__name__)

_LEAST = 2
"""A single proposal agrees with nobody."""
_ROUNDING = 1e-6
_LONGEST_ANSWER = 60


class EarlyStop(Protocol):
    """A rule for skipping the remaining rounds."""

    def described(self) -> dict[str, Any]:
        """The rule as plain values: its `name`, and its settings."""

    async def agreed(self, texts: Sequence[str]) -> str | None:
        """Why these proposals agree, in words; None where they do not.

        Args:
            texts: The proposals of one round, in proposer order, as the models gave them.
        """


@dataclass(frozen=True)
class Agreement:
    """Proposals agree when enough of them have the same extracted answer.

    Args:
        extract: What is compared: "answer", "number", "choice", "text", "regex:PATTERN", or a function of a
            text that returns the answer or None.
        share: Of all proposals of the round, so many must have it; above 0, at most 1. Two at least.

    Raises:
        ConfigurationError: There is no such extractor, or the share is none.
    """

    extract: str | Extractor = "answer"
    share: float = 1.0

    def __post_init__(self) -> None:
        extractor_named(self.extract)
        number("share", self.share, 0, 1)
        if not self.share:
            raise ConfigurationError("share must be above 0, or nobody would have to agree; found 0.")

    def described(self) -> dict[str, Any]:
        """The rule as plain values."""
        return {"name": "agreement", "extract": extractor_label(self.extract), "share": self.share}

    async def agreed(self, texts: Sequence[str]) -> str | None:
        """Why these proposals agree, in words; None where they do not."""
        answers = Counter(answer for text in texts if (answer := self._answer(text)) is not None)
        if not answers:
            return None
        answer, count = answers.most_common(1)[0]
        if count < _LEAST or count + _ROUNDING < self.share * len(texts):
            return None
        brief = answer if len(answer) <= _LONGEST_ANSWER else f"{answer[:_LONGEST_ANSWER]}..."
        return f"{count} of {len(texts)} proposals say {brief}"

    def _answer(self, text: str) -> str | None:
        try:
            return extracted(extractor_named(self.extract), text)
        except MixtureError as problem:
            _logger.warning("a proposal counts as agreeing with none: %s", problem)
            return None


@dataclass(frozen=True)
class Similarity:
    """Proposals agree when even the two least alike have embeddings that are close.

    Args:
        embed_model: A LlamaIndex embedding model.
        threshold: The least cosine of any two, above 0, at most 1; what is close depends on the model.

    Raises:
        ConfigurationError: It is no embedding model, or the threshold is none.
    """

    embed_model: BaseEmbedding
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not isinstance(self.embed_model, BaseEmbedding):
            raise ConfigurationError(
                f"Similarity needs a LlamaIndex embedding model; found {shown(self.embed_model)}. Pass an "
                "object such as OpenAIEmbedding()."
            )
        number("threshold", self.threshold, 0, 1)
        if not self.threshold:
            raise ConfigurationError("threshold must be above 0, or all texts would agree; found 0.")

    def described(self) -> dict[str, Any]:
        """The rule as plain values; nothing of the embedding model but its names."""
        return {
            "name": "similarity",
            "embed_model": f"{type(self.embed_model).__name__}({self.embed_model.model_name})",
            "threshold": self.threshold,
        }

    async def agreed(self, texts: Sequence[str]) -> str | None:
        """Why these proposals agree, in words; None where they do not.

        Raises:
            MixtureError: The embedding model failed.
        """
        said = [as_reference(text) for text in texts]
        if len(said) < _LEAST or not all(said):
            return None
        smallest = _smallest_cosine(await _embedded(self.embed_model, said))
        if smallest + _ROUNDING < self.threshold:
            return None
        return f"the {len(said)} proposals are alike, with a cosine of {smallest:.3f} or more"


async def _embedded(model: BaseEmbedding, texts: list[str]) -> list[list[float]]:
    """The texts' embeddings, without blocking the loop.

    In a thread, by the sync method that every class has: most async methods are the sync one underneath, and
    a real one keeps connections of a loop that may be gone by the next run.
    """
    try:
        try:
            return await in_thread(lambda: model.get_text_embedding_batch(texts))
        except NotImplementedError:
            return await model.aget_text_embedding_batch(texts)
    except (asyncio.CancelledError, MixtureError):
        raise
    except Exception as error:
        said = shortened(f"{type(error).__name__}: {error}")
        raise MixtureError(
            f"The embedding model {type(model).__name__} failed: {said}", causes=[error]
        ) from error


def _smallest_cosine(embeddings: Sequence[Sequence[float]]) -> float:
    """The cosine of the two vectors least alike; -1 where a vector has no direction."""
    import numpy as np

    vectors = np.asarray(embeddings, dtype=float)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        return -1.0
    unit = vectors / lengths
    return float((unit @ unit.T).min())
