"""How the last round becomes an answer: written anew, written in passes, chosen by a model, or voted.

`Finish` is the protocol; a way of the caller's own is an object with the same members. A finish decides
whom to ask what and reads what comes back; its `Desk` places the calls. It knows neither rounds nor
workflows.

    synthesize   one model writes from all drafts (arXiv 2406.04692)
    sequential   the same over a sliding window of drafts (Self-MoA-Seq, arXiv 2502.00674)
    rank         a model picks the best draft and says why
    vote         the answer that most drafts give; no call at all
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.answers.extracting import Extractor, extractor_label, extractor_named
from llama_index.packs.mixture_of_agents.answers.ranking import Choice, choice_among, choice_from
from llama_index.packs.mixture_of_agents.answers.shapes import shaped_request
from llama_index.packs.mixture_of_agents.answers.voting import checked_weights, voted
from llama_index.packs.mixture_of_agents.checks import has_methods, shown, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.opinions import verdict_of, weights_of
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.prompts import as_reference, ranking_messages
from llama_index.packs.mixture_of_agents.results import Decision, Missing, Proposal, Task
from llama_index.packs.mixture_of_agents.seats.seat import Seat
from llama_index.packs.mixture_of_agents.synthesis import Reading, reading_for

_MOST_RANKERS = 3
"""A choice that two more models could not make either is not worth a call to each that is left."""


@dataclass(frozen=True)
class Request:
    """One call of a finish.

    Attributes:
        attempt: Whom it goes to: an index of the desk's writers.
        messages: What it says.
        task: What it is for.
        turn: Which pass over the drafts, from 0.
        is_answer: Its words are the answer, so they are streamed and may be tool calls.
        options: Keyword arguments of the call.
    """

    attempt: int
    messages: Sequence[ChatMessage]
    task: Task = "synthesize"
    turn: int = 0
    is_answer: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The answer, and how it came about.

    Attributes:
        answer: Whose words, and the words.
        message: The whole message, where it was written for this.
        decision: How it was chosen, where it was.
    """

    answer: Proposal
    message: ChatMessage | None = None
    decision: Decision | None = None


class Desk(Protocol):
    """What a finish works with.

    Attributes:
        messages: The caller's conversation.
        proposals: Of the last round that has any, in proposer order; empty when nobody proposed.
        missing: Who that round lacks.
        writers: Who may be asked, best first: the aggregator, then the models whose proposals these are.
        gate: Who knows how far to trust whom; None for nobody.
    """

    messages: Sequence[ChatMessage]
    proposals: Sequence[Proposal]
    missing: Sequence[Missing]
    writers: Sequence[Seat]
    gate: Gate | None

    async def ask(self, request: Request) -> tuple[Proposal | Missing, ChatMessage | None]:
        """Place a call; what came of it, with the whole message where there is one."""

    def give_up(self, attempt: int, reason: str) -> None:
        """A writer answered, but not so that it could be used: it counts as missing."""


class Finish(Protocol):
    """A way to finish.

    Attributes:
        name: As the command line and results call it.
        writes: The aggregator writes the answer, so that its tools and settings of a call mean something.
    """

    name: str
    writes: bool

    def described(self) -> dict[str, Any]:
        """Its name and settings, as JSON."""

    async def finish(self, desk: Desk) -> Finished | None:
        """The answer; None when nobody who was asked could give one."""


class Synthesize:
    """One model reads all drafts and writes the answer; drafts that do not fit are read in passes."""

    name = "synthesize"
    writes = True
    _window: int | None = None

    def described(self) -> dict[str, Any]:
        """Its name and settings, as JSON."""
        return {"name": self.name}

    async def finish(self, desk: Desk) -> Finished | None:
        """The answer of the first writer that gives one."""
        for attempt, seat in enumerate(desk.writers):
            # A stand-in writes for everyone: the role it proposed in is not the answer's.
            role = seat.proposer.role if attempt == 0 else None
            reading = reading_for(seat, desk.messages, desk.proposals, desk.missing, role, most=self._window)
            written = await _written(desk, attempt, reading)
            if written is not None:
                return written
        return None


async def _written(desk: Desk, attempt: int, reading: Reading) -> Finished | None:
    so_far, last = "", reading.turns - 1
    for turn in range(last):
        record, _ = await desk.ask(Request(attempt, reading.prompt(turn, so_far), turn=turn))
        if isinstance(record, Missing):
            return None
        so_far = as_reference(record.text)
    request = Request(attempt, reading.prompt(last, so_far), turn=last, is_answer=True)
    record, message = await desk.ask(request)
    return None if isinstance(record, Missing) else Finished(record, message)


class Sequential(Synthesize):
    """The same over a sliding window, so that any number of drafts fits (arXiv 2502.00674, Self-MoA-Seq).

    Args:
        window: Drafts in one pass, 2 or more; from the second pass on, the text so far is one of them.

    Raises:
        ConfigurationError: The window is too small.
    """

    name = "sequential"

    def __init__(self, window: int = 4) -> None:
        whole_number("window", window, 2, hint="The text so far takes one place from the second pass on.")
        self._window: int = window

    def described(self) -> dict[str, Any]:
        """Its name and settings, as JSON."""
        return {"name": self.name, "window": self._window}


class Rank:
    """A model reads all drafts, picks the best and says why; the answer is that draft, word for word."""

    name = "rank"
    writes = False

    def described(self) -> dict[str, Any]:
        """Its name and settings, as JSON."""
        return {"name": self.name}

    async def finish(self, desk: Desk) -> Finished | None:
        """The proposal that the first writer to make a readable choice chooses."""
        if len(desk.proposals) == 1:
            return _chosen(desk.proposals[0], "the only proposal")
        for attempt, seat in enumerate(desk.writers[:_MOST_RANKERS]):
            role = seat.proposer.role if attempt == 0 else None
            reading = reading_for(
                seat, desk.messages, desk.proposals, desk.missing, role, form=ranking_messages
            )
            picked = await _picked(desk, attempt, reading)
            if picked is not None:
                return _chosen(*picked)
        return None


async def _picked(desk: Desk, attempt: int, reading: Reading) -> tuple[Proposal, str] | None:
    """The draft that one writer picks; over a sliding window, the best so far stands for those before."""
    best, reason = -1, ""
    for turn in range(reading.turns):
        drafts = [*([best] if turn else []), *reading.windows[turn]]
        if len(drafts) == 1:  # a draft too long to stand beside others has none to be better than
            best = drafts[0]
            continue
        choice = await _choice(desk, attempt, turn, reading, best, len(drafts))
        if choice is None:
            return None
        best, reason = drafts[choice.choice - 1], choice.reason
    return desk.proposals[best], reason


async def _choice(
    desk: Desk, attempt: int, turn: int, reading: Reading, best: int, count: int
) -> Choice | None:
    model = desk.writers[attempt].proposer.model
    prompt = reading.prompt(turn, reading.references[best] if turn else "")
    messages, options = shaped_request(model, prompt, choice_among(count))
    record, _ = await desk.ask(Request(attempt, messages, "rank", turn, options=options))
    if isinstance(record, Missing):
        return None
    said = ChatMessage(role=MessageRole.ASSISTANT, content=record.text)
    choice = choice_from(model, said, count)
    if choice is None:
        desk.give_up(attempt, f"its choice among {count} drafts could not be read: {shown(record.text)}")
    return choice


class Vote:
    """The answer that most drafts give; the text is the first draft that gives it. No model is asked.

    With a gate, and without weights of its own, answers count as the gate has learned to trust them.

    Args:
        extract: What counts as a draft's answer: "answer", "number", "choice", "text", "regex:PATTERN", or
            a function of the text that gives the answer or None.
        weights: What each proposer's vote is worth, by name; 1 for those who are not named.

    Raises:
        ConfigurationError: There is no such way to extract, or a weight is no finite number >= 0.
    """

    name = "vote"
    writes = False

    def __init__(
        self, extract: str | Extractor = "answer", weights: Mapping[str, float] | None = None
    ) -> None:
        self._extractor = extractor_named(extract)
        self._label = extractor_label(extract)
        self._weights = checked_weights(weights) or None

    def described(self) -> dict[str, Any]:
        """Its name and settings, as JSON."""
        weights = {"weights": self._weights} if self._weights else {}
        return {"name": self.name, "extract": self._label, **weights}

    async def finish(self, desk: Desk) -> Finished | None:
        """The proposal of the majority; ties go to the earliest proposer and are reported."""
        decision = self._verdict(desk) or voted(desk.proposals, self._extractor, self._weights_at(desk))
        chosen = next(p for p in desk.proposals if p.proposer == decision.chosen)
        return Finished(chosen, decision=decision)

    def _verdict(self, desk: Desk) -> Decision | None:
        """What a gate that can name the answer says, where the caller gave no weights."""
        return None if self._weights else verdict_of(desk.gate, desk.messages, desk.proposals)

    def _weights_at(self, desk: Desk) -> Mapping[str, float] | None:
        return self._weights or weights_of(desk.gate, desk.messages, desk.proposals)


def _chosen(proposal: Proposal, reason: str) -> Finished:
    return Finished(proposal, decision=Decision(chosen=proposal.proposer, reason=reason))


FINISHES: Mapping[str, type[Synthesize] | type[Rank] | type[Vote]] = {
    "synthesize": Synthesize,
    "sequential": Sequential,
    "rank": Rank,
    "vote": Vote,
}


def finish_named(finish: object) -> Finish:
    """The way to finish of that name with its usual settings, or the caller's own object.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(finish, str) and finish in FINISHES:
        return FINISHES[finish]()
    own: Any = finish
    if has_methods(own, "finish", "described") and _is_told(own):
        return own  # type: ignore[no-any-return]
    raise ConfigurationError(
        f"finish must be one of {', '.join(map(repr, FINISHES))}, or an object with name, writes, "
        f"described() and finish(desk), as finishes.Finish describes it; found {shown(finish)}."
    )


def _is_told(finish: Any) -> bool:
    """Whether a way of the caller's own says what is asked of it, in forms that can be recorded."""
    if not isinstance(getattr(finish, "name", None), str) or not isinstance(
        getattr(finish, "writes", None), bool
    ):
        return False
    try:
        return isinstance(json.loads(json.dumps(finish.described())), dict)
    except (TypeError, ValueError):
        return False
