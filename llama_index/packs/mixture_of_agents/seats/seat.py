"""A proposer in its place: the way to call it, with all settings resolved, and the same as plain facts."""

from __future__ import annotations

from dataclasses import dataclass

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents.calls.endpoint import Endpoint
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.proposers import Proposer


@dataclass(frozen=True)
class Seat:
    """A proposer in its place.

    Attributes:
        proposer: Who sits there.
        sampling: Its settings, resolved.
        endpoint: The way to call it.
        shares_prefix: Others of its layer have the same local model, so their prompts begin alike.
    """

    proposer: Proposer
    sampling: Sampling
    endpoint: Endpoint
    shares_prefix: bool = False

    @classmethod
    def of(cls, proposer: Proposer, defaults: Sampling, shares_prefix: bool = False) -> Seat:
        """Seat a proposer, with `defaults` where its own settings say nothing."""
        return cls(proposer, proposer.sampling.over(defaults), proposer.endpoint(defaults), shares_prefix)

    @property
    def name(self) -> str:
        """The proposer's name."""
        return self.proposer.name

    @property
    def metadata(self) -> LLMMetadata:
        """What its LLM says of itself; an agent says nothing."""
        model = self.proposer.model
        if isinstance(model, LLM):
            return model.metadata
        return LLMMetadata(context_window=-1, num_output=-1)

    def facts(self) -> SeatFacts:
        """What makes this seat what it is, as plain facts."""
        proposer, metadata = self.proposer, self.metadata
        return SeatFacts(
            name=proposer.name,
            identity=proposer.identity,
            role=proposer.role,
            takes_role=proposer.takes_role,
            temperature=self.sampling.temperature,
            max_tokens=self.sampling.max_tokens,
            seed=self.sampling.seed,
            timeout=proposer.timeout,
            context_window=metadata.context_window if metadata.context_window > 0 else None,
            num_output=metadata.num_output if metadata.num_output > 0 else None,
            shares_prefix=self.shares_prefix,
        )
