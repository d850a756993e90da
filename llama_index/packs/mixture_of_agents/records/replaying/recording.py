"""A mixture rebuilt from its record: who sat where, with no model behind them, and with changes.

What is kept the same asks the same, so that its answers are found in the record; what is changed, and what
reads of it, is not. It builds proposers, not mixtures, and asks nobody.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.errors import (
    CheckpointError,
    ConfigurationError,
    MissingExtraError,
    TraceError,
)
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, SeatFacts
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.records.replaying.stand_ins import ModelFor, RecordedProposer
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.results import Role

AGGREGATOR = "aggregator"
ROLE_WRITER = "role_writer"
_REFUSALS = frozenset(
    error.__name__ for error in (ConfigurationError, MissingExtraError, CheckpointError, TraceError)
)


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise than it was.

    Attributes:
        swap: Live models in the place of recorded ones, by the proposer's name, "aggregator" or
            "role_writer".
        drop: Names of proposers to leave out, in every round.
        prompt: Another question; None for the recorded one.
    """

    swap: Mapping[str, Any] = field(default_factory=dict)
    drop: Collection[str] = ()
    prompt: str | Sequence[ChatMessage] | None = None


@dataclass(frozen=True)
class Company:
    """Who takes part in a replay.

    Attributes:
        layers: The proposers of each round.
        aggregator: Who writes the answer.
        role_writer: Who writes roles for the question; None where nobody does.
        question: The conversation.
        called: What each proposer is called now, by its recorded name: another model may bring its own.
    """

    layers: list[list[Proposer]]
    aggregator: Proposer
    role_writer: Proposer | None
    question: list[ChatMessage]
    called: dict[str, str]


class Recording:
    """A recorded run, to be run again.

    Args:
        run: The run.
        model_for: Makes the models of calls that have to go out; None where none may.

    Raises:
        TraceError: Its trace lacks the question, was redacted, or holds no call.
    """

    def __init__(self, run: RunRecord, model_for: ModelFor | None = None) -> None:
        if run.started.redacted or not run.question:
            why = "were redacted" if run.started.redacted else "are not all in the trace"
            raise TraceError(f"The contents of run {run.run_id} {why}, so it cannot be run again.")
        if not run.calls and _was_refused(run):  # every call would go out, and under no budget
            why = "" if run.ended is None or run.ended.error is None else f": {run.ended.error.message}"
            raise TraceError(f"Run {run.run_id} asked nobody, so nothing of it can be replayed{why or '.'}")
        self.run, self._model_for = run, model_for

    @property
    def mixture(self) -> MixtureFacts:
        """Whom it asked."""
        return self.run.mixture

    @property
    def names(self) -> list[str]:
        """Every proposer's name, in order."""
        return list(dict.fromkeys(seat.name for layer in self.mixture.layers for seat in layer))

    def company(self, changes: Changes) -> Company:
        """The proposers of a replay.

        Raises:
            TraceError: A change names nobody of this run, or leaves a round empty.
        """
        self.check(changes)
        kept = [[seat for seat in layer if seat.name not in changes.drop] for layer in self._pinned(changes)]
        layers = [[self._seated(seat, seat.name, changes) for seat in layer] for layer in kept]
        if not all(layers):
            raise TraceError("A round would have no proposers left; drop fewer of them.")
        takes_roles = any(proposer.takes_role for layer in layers for proposer in layer)
        writer = self.mixture.role_writer if takes_roles else None
        return Company(
            layers=layers,
            aggregator=self._seated(self.mixture.aggregator, AGGREGATOR, changes),
            role_writer=None if writer is None else self._seated(writer, ROLE_WRITER, changes),
            question=self._question(changes.prompt),
            called={
                seat.name: proposer.name
                for seats, proposers in zip(kept, layers, strict=True)
                for seat, proposer in zip(seats, proposers, strict=True)
            },
        )

    def _seated(self, seat: SeatFacts, called: str, changes: Changes) -> Proposer:
        if called not in changes.swap:
            return RecordedProposer(seat, self._model_for)
        proposer = _swapped(seat, changes.swap[called])
        proposer.takes_role = seat.takes_role
        return proposer

    def _question(self, prompt: str | Sequence[ChatMessage] | None) -> list[ChatMessage]:
        if prompt is None:
            return list(self.run.question)
        if isinstance(prompt, str):
            return [ChatMessage(role=MessageRole.USER, content=prompt)]
        return list(prompt)

    def _pinned(self, changes: Changes) -> list[list[SeatFacts]]:
        """The seats; where somebody is dropped, everyone else keeps the role that was written for it.

        Else fewer roles would be asked for, and all of them, and all answers, be other ones.
        """
        ended = self.run.ended
        if not changes.drop or changes.prompt is not None or ROLE_WRITER in changes.swap:
            return self.mixture.layers
        if ended is None or not ended.roles:
            return self.mixture.layers
        casts = {cast.layer: cast.roles for cast in ended.roles}
        return [
            _with_roles(layer, casts[max(number for number in casts if number <= place)])
            if min(casts) <= place
            else layer
            for place, layer in enumerate(self.mixture.layers, 1)
        ]

    def check(self, changes: Changes) -> None:
        """Refuse changes that name nobody; models need not be made for it.

        Raises:
            TraceError: A change names nobody of this run, or one that is to be left out.
        """
        for name in changes.drop:
            if name not in self.names:
                raise _unknown(name, self.names)
        swappable = [*self.names, AGGREGATOR, *([ROLE_WRITER] if self.mixture.role_writer else [])]
        for name in changes.swap:
            if name not in swappable:
                raise _unknown(name, swappable)
            if name in changes.drop:
                raise TraceError(f"{name!r} is to be left out and to be another model; say one of the two.")

    def extracted(self) -> dict[str, str | None]:
        """The answer that a vote found in each proposal of the round it counted, by the stripped text."""
        decision = None if self.run.ended is None else self.run.ended.decision
        if decision is None:
            return {}
        answers = {name: answer for answer, names in decision.votes.items() for name in names}
        return {as_reference(one.text): answers.get(one.proposer) for one in self.run.last_proposals()}


def _was_refused(run: RunRecord) -> bool:
    """Whether it was refused before any call, or killed; a gate that decides nothing ends a run otherwise."""
    if run.ended is None:
        return True
    return run.ended.error is not None and run.ended.error.type in _REFUSALS


def _with_roles(seats: Sequence[SeatFacts], roles: Sequence[Role]) -> list[SeatFacts]:
    written = iter(roles)
    kept = []
    for seat in seats:
        role = next(written, None) if seat.takes_role else None
        changes = {"role": str(role) if role else seat.role, "takes_role": False}
        kept.append(seat.model_copy(update=changes))
    return kept


def _swapped(seat: SeatFacts, model: Any) -> Proposer:
    """Another model in the same place: in its role, with its settings where it takes any."""
    if isinstance(model, Proposer):
        return model.replaced(name=seat.name, role=model.role or seat.role)
    # A name that was the old model's would be a lie.
    proposer = Proposer(model, name=None if seat.name == seat.identity.model else seat.name, role=seat.role)
    if not proposer.is_llm:
        return proposer.replaced(timeout=seat.timeout)
    return proposer.replaced(
        temperature=seat.temperature, max_tokens=seat.max_tokens, seed=seat.seed, timeout=seat.timeout
    )


def _unknown(name: str, names: Sequence[str]) -> TraceError:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return TraceError(
        f"Nobody in this run is called {name!r}; there are {', '.join(map(repr, names))}.{hint}"
    )
