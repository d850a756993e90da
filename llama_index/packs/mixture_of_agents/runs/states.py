"""What a run has come to, as data: it stands in the workflow's store and serialises. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, Field

from llama_index.packs.mixture_of_agents.events import ProposalEvent
from llama_index.packs.mixture_of_agents.results import Cast, Missing, Proposal, Role, Routing, Usage
from llama_index.packs.mixture_of_agents.runs.rounds import last_round_with_proposals


class Staged(BaseModel):
    """An outcome of a layer that is still open, and its place."""

    index: int
    outcome: Proposal | Missing


class MixtureState(BaseModel):
    """What a run has come to; all of it serialises.

    Attributes:
        run_id: The run's identity.
        messages: The caller's conversation.
        proposals: Of every closed round, in layer order, then proposer order.
        missing: Likewise.
        beside: Who gave nothing though asked, but for a proposal: to write roles, to condense a round. No
            draft is missing for that.
        roles: Written for the question, or standing in where they could not be.
        condensed: What rounds passed on in one text.
        staged: Outcomes of the open layer: a gate may ask for more before it is closed.
        routed: What the gate decided.
        spent: What answers used that are not kept.
        stopped_after: The round whose proposals agreed, so that the others are skipped.
    """

    run_id: str = ""
    messages: list[ChatMessage] = Field(default_factory=list)
    proposals: list[Proposal] = Field(default_factory=list)
    missing: list[Missing] = Field(default_factory=list)
    beside: list[Missing] = Field(default_factory=list)
    roles: list[Cast] = Field(default_factory=list)
    condensed: list[Proposal] = Field(default_factory=list)
    staged: list[Staged] = Field(default_factory=list)
    routed: list[Routing] = Field(default_factory=list)
    spent: list[Usage] = Field(default_factory=list)
    stopped_after: int | None = None

    def references(self) -> tuple[list[Proposal], list[Missing]]:
        """The proposals the next call sees, of the last round that has any, and who that round lacks."""
        layer = last_round_with_proposals([proposal.layer for proposal in self.proposals])
        proposals = [proposal for proposal in self.proposals if proposal.layer == layer]
        return proposals, [missing for missing in self.missing if missing.layer == layer]

    def all_missing(self) -> list[Missing]:
        """Every call so far that gave nothing, in layer order."""
        return sorted([*self.beside, *self.missing], key=lambda gone: gone.layer)

    def passed_on(self) -> tuple[list[Proposal], list[Missing]]:
        """What the next round reads: the condensed text of the last one, where there is one."""
        proposals, missing = self.references()
        condensed = [text for text in self.condensed if proposals and text.layer == proposals[0].layer]
        return condensed or proposals, missing

    def roles_at(self, layer: int) -> list[Role]:
        """The roles for that layer, for its seats that take one; empty where none were written."""
        casts = [cast for cast in self.roles if cast.layer <= layer]
        return casts[-1].roles if casts else []

    def usages(self) -> list[Usage]:
        """What every answer so far used."""
        written = [cast.writing for cast in self.roles if cast.writing is not None]
        kept = (*self.proposals, *self.condensed, *written)
        return [*(record.usage for record in kept), *self.spent]

    def with_stage(self, events: Sequence[ProposalEvent]) -> MixtureState:
        """This state and what one more stage of the open layer came to, in whatever order."""
        outcomes = [
            Staged(index=event.index, outcome=outcome)
            for event in events
            if (outcome := event.proposal or event.missing) is not None
        ]
        return self.model_copy(update={"staged": [*self.staged, *outcomes]})

    def closed(self) -> MixtureState:
        """This state with the open layer closed, its outcomes in proposer order."""
        ordered = sorted(self.staged, key=lambda staged: staged.index)
        return self.model_copy(update={"staged": []}).with_outcomes([staged.outcome for staged in ordered])

    def with_outcomes(self, outcomes: Sequence[Proposal | Missing]) -> MixtureState:
        """This state and one more closed round, given in proposer order."""
        proposals = [outcome for outcome in outcomes if isinstance(outcome, Proposal)]
        missing = [outcome for outcome in outcomes if isinstance(outcome, Missing)]
        return self.model_copy(
            update={"proposals": [*self.proposals, *proposals], "missing": [*self.missing, *missing]}
        )
