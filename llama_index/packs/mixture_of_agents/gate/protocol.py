"""What a gate is to those who ask it: whom to ask next, or that it is enough, and how answers are weighed.

A gate reads the question and the answers that are there; never one of a model that was not asked. It places
no calls itself, and does not know how calls are placed, limited or paid for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.results import Decision, Proposal

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding


class GateDecision(BaseModel):
    """Whom to ask now.

    Attributes:
        ask: Names, the best first; empty when the answers that are there are enough.
        scores: For each proposer the gate can tell it of, the probability that its answer is right.
        confidence: The probability that the present weighted vote is right; None before there is an answer,
            or where the gate does not reckon with answers.
        reason: Why, in words.
    """

    model_config = ConfigDict(frozen=True)

    ask: tuple[str, ...] = ()
    scores: dict[str, float] = Field(default_factory=dict)
    confidence: float | None = None
    reason: str = ""


class Gate(Protocol):
    """Decides whom a question is worth asking."""

    @property
    def name(self) -> str:
        """Its kind: "rules", "neighbours", "network", "cascade", "gated"; or one of the caller's own."""

    def described(self) -> dict[str, Any]:
        """Its kind and settings, as JSON."""

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        """Whom to ask next.

        Args:
            messages: The caller's conversation.
            candidates: Everyone who may be asked, those who answered among them.
            proposals: The answers that are there.

        Raises:
            ConfigurationError: The gate was made for other proposers.
        """

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        """What each proposer's vote counts for this question; None to count heads."""


class MadeForSome(Protocol):
    """A gate that was made for certain proposers; it is asked before any call whether they fit."""

    def check(self, names: Sequence[str]) -> None:
        """Refuse those it was not made for.

        Args:
            names: Who sits in a layer.

        Raises:
            ConfigurationError: They do not fit.
        """


class Judge(Protocol):
    """A gate that can also name the answer; learned gates can."""

    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision | None:
        """The answer most likely right, and whose words it is in; None without any."""


def load_gate(
    path: str | os.PathLike[str],
    proposers: Sequence[str] | None = None,
    embed_model: BaseEmbedding | None = None,
) -> Gate:
    """Read a gate from the folder that `moa gate train` or `save_gate` wrote.

    Args:
        path: The folder.
        proposers: Names of those who will propose; the gate must have been made for the same.
        embed_model: For a gate trained with an embedding model of the caller's own: the same model.

    Raises:
        ConfigurationError: It cannot be read, is of a newer schema, holds numbers that are none, or was made
            for other proposers.
    """
    from llama_index.packs.mixture_of_agents.gate.saved import read_gate

    return read_gate(path, proposers, embed_model)


def question_of(messages: Sequence[ChatMessage]) -> str:
    """What the caller said last, as text."""
    asked = [message for message in messages if message.role.value == "user"] or list(messages)
    return (asked[-1].content or "") if asked else ""
