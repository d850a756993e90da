"""A conversation with a mixture: what was said so far, and what lies behind each answer.

It holds and tells; it asks nobody, and knows no terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.app.board import count, dollars, printable
from llama_index.packs.mixture_of_agents.results import MixtureResponse, Usage


@dataclass
class Conversation:
    """Turns so far.

    Attributes:
        turns: Each question, and the response to it.
    """

    turns: list[tuple[str, MixtureResponse]] = field(default_factory=list)

    @property
    def last(self) -> MixtureResponse | None:
        """The newest response; None before there is any."""
        return self.turns[-1][1] if self.turns else None

    def asking(self, question: str) -> list[ChatMessage]:
        """The conversation with one more question."""
        return [*self.messages(), ChatMessage(role=MessageRole.USER, content=question)]

    def messages(self) -> list[ChatMessage]:
        """What was said so far. A question that nobody answered is not part of it."""
        said = []
        for question, response in self.turns:
            said.append(ChatMessage(role=MessageRole.USER, content=question))
            said.append(ChatMessage(role=MessageRole.ASSISTANT, content=response.text))
        return said

    def add(self, question: str, response: MixtureResponse) -> None:
        """One more turn."""
        self.turns.append((question, response))

    def reset(self) -> None:
        """Begin anew."""
        self.turns.clear()

    def saved(self) -> str:
        """Everything, as JSON; `messages` can be a row of a batch."""
        messages = [{"role": said.role.value, "content": said.content} for said in self.messages()]
        turns = [{"question": question, **response.to_dict()} for question, response in self.turns]
        return json.dumps({"messages": messages, "turns": turns}, indent=2) + "\n"


def proposals_of(response: MixtureResponse, layer: int | None = None) -> str:
    """What lies behind an answer: who proposed what, round by round, and how it was decided.

    Args:
        response: The answer.
        layer: One round alone; None for all.
    """
    layers = sorted({said.layer for said in response.proposals} | {gone.layer for gone in response.missing})
    parts = [part for at in layers if layer in (None, at) for part in _layer(response, at)]
    if layer is None:
        parts += _decided(response)
    return "\n\n".join(parts) or "Nobody proposed anything there."


def _layer(response: MixtureResponse, layer: int) -> Iterator[str]:
    proposals = [said for said in response.proposals if said.layer == layer]
    if proposals:
        yield f"Round {layer}"
    for cast in response.roles:
        if cast.layer == layer:
            origin = "ours, nobody wrote any" if cast.is_fixed else "written for this question"
            yield "\n".join([f"roles, {origin}:", *(f"  {printable(str(role))}" for role in cast.roles)])
    for said in proposals:
        took = _took(said.latency_seconds, said.usage)
        yield f"{printable(said.proposer)} ({took}):\n{printable(said.text)}"
    for gone in response.missing:
        if gone.layer == layer:
            yield f"missing: {printable(str(gone))}"
    for text in response.condensed:
        if text.layer == layer:
            yield f"passed on, condensed by {printable(text.proposer)}:\n{printable(text.text)}"


def _decided(response: MixtureResponse) -> list[str]:
    told = []
    if response.stopped_after is not None:
        told.append(f"They agreed after round {response.stopped_after}; the others were left out.")
    if response.decision is not None:
        chosen, reason = printable(response.decision.chosen), printable(response.decision.reason)
        told.append(f"Chosen: {chosen}" + (f", because {reason}" if reason else ""))
        told += [
            f"  {printable(answer)}: {', '.join(map(printable, who))}"
            for answer, who in response.decision.votes.items()
        ]
        if response.decision.ties:
            told.append(f"  a tie of {', '.join(map(printable, response.decision.ties))}")
    return told


def _took(seconds: float, usage: Usage) -> str:
    tokens = "" if usage.completion_tokens is None else f", {count(usage.completion_tokens, 'token')}"
    return f"{seconds:.1f} s{tokens}"


def usage_of(responses: Sequence[MixtureResponse]) -> str:
    """What the last turn and all turns took."""
    if not responses:
        return "Nothing was asked yet."
    turns = count(len(responses), "turn")
    total = Usage.total(response.usage for response in responses)
    return f"last: {_usage(responses[-1].usage)}\nall:  {_usage(total)}, {turns}"


def _usage(usage: Usage) -> str:
    about = "about " if usage.estimated else ""
    read, written = usage.prompt_tokens, usage.completion_tokens
    known = read is not None and written is not None
    tokens = (
        f"{about}{read:,} tokens read, {written:,} written" if known else "tokens not reported by every model"
    )
    return f"{tokens}, {dollars(usage.cost_usd)}"


def missing_of(response: MixtureResponse) -> str:
    """Who is missing from an answer, and why."""
    if not response.missing:
        return "Nobody is missing."
    return "\n".join(printable(str(gone)) for gone in response.missing)


def command_in(line: str) -> tuple[str, str] | None:
    """A command and what stands behind it; None for a question, be it about "/etc/hosts"."""
    word, _, rest = line.strip().partition(" ")
    if not word.startswith("/") or not word[1:].isalpha():
        return None
    return word[1:].lower(), rest.strip()
