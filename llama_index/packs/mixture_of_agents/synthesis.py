"""Reading drafts: who may write from them, how many at a time, and one pass of it, streamed or not.

Candidates are tried in turn: the aggregator, then the models of the last round. References that would
overflow a candidate's context window are read over a sliding window (Self-MoA-Seq, arXiv 2502.00674). It
does not know how calls are placed or what happens when every candidate fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from llama_index.core.base.llms.types import ChatMessage, ContentBlock, MessageRole, TextBlock
from llama_index.core.llms.llm import LLM
from llama_index.core.utils import get_tokenizer

from llama_index.packs.mixture_of_agents.calls.endpoint import Reply
from llama_index.packs.mixture_of_agents.errors import BrokenStreamError
from llama_index.packs.mixture_of_agents.prompts import (
    aggregator_messages,
    as_reference,
    sliding_windows,
    without_tool_turns,
)
from llama_index.packs.mixture_of_agents.results import Missing, Proposal
from llama_index.packs.mixture_of_agents.seats.seat import Seat

ESTIMATE_MARGIN = 1.15
"""A model's own tokenizer may need so many more tokens than the one that estimates."""


class Form(Protocol):
    """What a reader of drafts is told: `prompts.aggregator_messages`, for instance."""

    def __call__(
        self,
        messages: Sequence[ChatMessage],
        references: Sequence[str],
        absent: Sequence[str] = (),
        role: str | None = None,
    ) -> list[ChatMessage]:
        """The messages of one pass."""


@dataclass(frozen=True)
class Reading:
    """One candidate's task: what it reads, pass by pass.

    Attributes:
        messages: The caller's conversation.
        references: Stripped proposals, in proposer order.
        absent: Who gave none.
        windows: Indices of references per pass; one pass unless they overflow the window.
        role: Who reads; None for nobody in particular.
        form: What it is told to do with them.
    """

    messages: Sequence[ChatMessage]
    references: Sequence[str]
    absent: Sequence[str]
    windows: Sequence[Sequence[int]]
    role: str | None = None
    form: Form = aggregator_messages

    def prompt(self, turn: int, carried: str) -> list[ChatMessage]:
        """What is read in that pass: its references, behind what the passes before came to."""
        texts = [self.references[index] for index in self.windows[turn]] if self.windows else []
        drafts = [*([carried] if turn else []), *texts]
        return self.form(self.messages, drafts, self.absent, self.role)

    @property
    def turns(self) -> int:
        """How many passes it takes."""
        return max(1, len(self.windows))


def reading_for(
    seat: Seat,
    messages: Sequence[ChatMessage],
    proposals: Sequence[Proposal],
    missing: Sequence[Missing],
    role: str | None = None,
    *,
    most: int | None = None,
    form: Form = aggregator_messages,
) -> Reading:
    """Lay out what a candidate reads, so that each pass fits its context window.

    Args:
        seat: The candidate.
        messages: The caller's conversation.
        proposals: What it reads.
        missing: Who gave none.
        role: Who it is; None for nobody in particular.
        most: Drafts in one pass, what is carried over from the pass before among them; None for as many
            as fit.
        form: What it is told to do with them.
    """
    references = [as_reference(proposal.text) for proposal in proposals]
    absent = [gone.proposer for gone in missing]
    unsized = [0] * len(references)
    windows = sliding_windows(unsized, budget=1, carried=0, most=most)
    reading = Reading(messages, references, absent, windows, role, form)
    room = _room(seat)
    whole = replace(reading, windows=[range(len(references))] if references else [])
    if room is None or _byte_length(whole.prompt(0, "")) <= room:
        return reading  # a token is at least one byte, so this fits without counting any
    return replace(reading, windows=_windows(reading, room, get_tokenizer(), most))


def _room(seat: Seat) -> int | None:
    """Tokens the prompt may have: the context window less the answer; None where nobody knows."""
    metadata = seat.metadata
    if metadata.context_window <= 0:
        return None
    answer = seat.sampling.max_tokens or max(0, metadata.num_output)
    return max(1, metadata.context_window - answer)


def _windows(
    reading: Reading, room: int, tokenize: Callable[[str], Sequence[Any]], most: int | None
) -> list[list[int]]:
    def tokens(text: str) -> int:
        return int(len(tokenize(text)) * ESTIMATE_MARGIN) + 1

    frame = reading.form(reading.messages, [""], reading.absent, reading.role)
    sizes = [tokens(text) + tokens("=== draft 00\n=== end of draft 00\n\n") for text in reading.references]
    budget = room - sum(tokens(message.content or "") for message in frame)
    return sliding_windows(sizes, budget, carried=max(sizes, default=0), most=most)


def _byte_length(messages: Sequence[ChatMessage]) -> int:
    # A caller's text may hold half a surrogate pair, which the strict codec refuses.
    return sum(len((message.content or "").encode(errors="surrogatepass")) + 16 for message in messages)


def candidates(
    aggregator: Seat, layers: Sequence[Sequence[Seat]], proposals: Sequence[Proposal]
) -> list[Seat]:
    """Who may write the answer, in order: the aggregator, then the models whose proposals it reads."""
    layer = proposals[0].layer if proposals else 0
    seats = layers[layer - 1] if 0 < layer <= len(layers) else ()
    answered = {proposal.proposer for proposal in proposals}
    stand_ins = [seat for seat in seats if seat.name in answered and isinstance(seat.proposer.model, LLM)]
    return [aggregator, *stand_ins]


async def speak(
    seat: Seat,
    prompt: Sequence[ChatMessage],
    options: dict[str, Any],
    on_delta: Callable[[str], None] | None = None,
) -> Reply:
    """Write from drafts, in one call.

    Args:
        seat: Who writes.
        prompt: What it reads.
        options: Keyword arguments of the call; a call without tools is told of tool turns in words.
        on_delta: Told each piece of the answer; None for no streaming.

    Raises:
        BrokenStreamError: The stream failed after a piece had been passed on.
    """
    if not options.get("tools"):
        prompt = without_tool_turns(prompt)
    if on_delta is None:
        return await seat.endpoint.reply(prompt, options)
    return await _streamed(seat, prompt, options, on_delta)


async def _streamed(
    seat: Seat, prompt: Sequence[ChatMessage], options: dict[str, Any], on_delta: Callable[[str], None]
) -> Reply:
    said = _Said()
    try:
        async for reply in seat.endpoint.stream(prompt, options):
            delta = said.take(reply)
            if delta:
                on_delta(delta)
    except NotImplementedError:
        last = await seat.endpoint.reply(prompt, options)
        on_delta(last.text)
        return last
    except Exception as error:
        if said.text:
            raise BrokenStreamError(f"The stream of {seat.name} failed part-way: {error}") from error
        raise
    return said.whole()


@dataclass
class _Said:
    """A stream so far, whether its pieces hold deltas, the whole text so far, or both.

    Attributes:
        text: What has been passed on.
        others: The newest blocks that are no text (tool calls).
        has_deltas: Whether the class streams deltas, so that a piece without one adds nothing.
        last: The last piece.
    """

    text: str = ""
    others: list[ContentBlock] = field(default_factory=list)
    has_deltas: bool = False
    last: Reply | None = None

    def take(self, reply: Reply) -> str:
        """Take the next piece in, and tell what it adds to the text."""
        self.last = reply
        self.others = [b for b in reply.message.blocks if not isinstance(b, TextBlock)] or self.others
        self.has_deltas = self.has_deltas or bool(reply.delta)
        delta = reply.delta
        if not delta and reply.text.startswith(self.text):
            delta = reply.text[len(self.text) :]
        elif not self.has_deltas:
            delta = reply.text
        self.text += delta
        return delta

    def whole(self) -> Reply:
        """The last piece's message, with everything said where its class only streams deltas."""
        if self.last is None:
            return Reply(ChatMessage(role=MessageRole.ASSISTANT, content=""))
        message = self.last.message
        if len(message.content or "") < len(self.text):
            message = message.model_copy(update={"blocks": [TextBlock(text=self.text), *self.others]})
        return replace(self.last, message=message, delta="")
