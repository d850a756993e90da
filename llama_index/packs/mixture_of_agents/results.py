"""What comes out of a mixture: proposals, who was missing, what it used, the answer.

Plain frozen records that serialise to JSON. They know nothing of LLMs, events or how they were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True)


class Usage(BaseModel):
    """Tokens and money one call, or a whole run, took.

    Attributes:
        prompt_tokens: Tokens read; None where the model did not say.
        completion_tokens: Tokens written; None where the model did not say.
        cost_usd: US dollars; None where no price is known.
    """

    model_config = _FROZEN

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None

    @classmethod
    def total(cls, parts: Iterable[Usage]) -> Usage:
        """Add up, and stay honest: one unknown part makes that sum unknown."""
        listed = list(parts)
        return cls(
            prompt_tokens=_sum(part.prompt_tokens for part in listed),
            completion_tokens=_sum(part.completion_tokens for part in listed),
            cost_usd=_sum(part.cost_usd for part in listed),
        )


def _sum(values: Iterable[Any]) -> Any:
    listed = list(values)
    return None if not listed or any(value is None for value in listed) else sum(listed)


class Proposal(BaseModel):
    """One model's answer in one layer.

    Attributes:
        proposer: The proposer's name.
        layer: 1 for the first round.
        text: The answer as the model gave it.
        usage: What the call used.
        latency_seconds: Wall time of the call, its retries and waits within.
    """

    model_config = _FROZEN

    proposer: str
    layer: int
    text: str
    usage: Usage = Usage()
    latency_seconds: float = 0.0

    def __repr__(self) -> str:
        # The workflow runtime writes a repr of every event, so it is kept short.
        return f"Proposal({self.proposer!r}, layer={self.layer}, text={self.text[:60]!r})"


class Missing(BaseModel):
    """A model that was asked and has no place in the answer.

    Attributes:
        proposer: Who; the aggregator too is named here when it failed.
        layer: 1 for the first round; the aggregator's layer is `num_layers`.
        reason: Why, in words a person can act on.
        status: The HTTP status where there was one.
    """

    model_config = _FROZEN

    proposer: str
    layer: int
    reason: str
    status: int | None = None

    def __str__(self) -> str:
        status = f" (HTTP {self.status})" if self.status is not None else ""
        return f"{self.proposer}, layer {self.layer}: {self.reason}{status}"


class MixtureResponse(BaseModel):
    """The mixture's answer, and how it came about. `str()` of it is the answer alone.

    Attributes:
        text: The answer.
        proposals: Every proposal of every round, in layer order, then proposer order.
        missing: Every call that gave nothing, in the same order.
        usage: The whole run's use; None where any part is unknown.
        latency_seconds: Wall time of the run.
        run_id: The run's identity.
        synthesizer: Name of the model whose words `text` is.
        message: The final assistant message; it carries tool calls where there are any.
    """

    model_config = _FROZEN

    text: str
    proposals: list[Proposal] = Field(default_factory=list)
    missing: list[Missing] = Field(default_factory=list)
    usage: Usage = Usage()
    latency_seconds: float = 0.0
    run_id: str = ""
    synthesizer: str = ""
    message: ChatMessage = Field(default_factory=lambda: ChatMessage(role=MessageRole.ASSISTANT), repr=False)

    @property
    def degraded(self) -> bool:
        """True when anyone who was asked is missing from the answer."""
        return bool(self.missing)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Everything but the chat message, as JSON-ready values."""
        return {**self.model_dump(mode="json", exclude={"message"}), "degraded": self.degraded}

    def _repr_html_(self) -> str:
        rows = [(str(p.layer), p.proposer, p.text, _seconds(p), _tokens(p.usage)) for p in self.proposals]
        rows += [(str(m.layer), m.proposer, f"missing: {m.reason}", "", "") for m in self.missing]
        rows.append(
            ("answer", self.synthesizer, self.text, f"{self.latency_seconds:.1f}", _tokens(self.usage))
        )
        return _html_table(("layer", "who", "text", "seconds", "tokens"), rows)


def _seconds(proposal: Proposal) -> str:
    return f"{proposal.latency_seconds:.1f}"


def _tokens(usage: Usage) -> str:
    return "" if usage.completion_tokens is None else str(usage.completion_tokens)


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(_html_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _html_cell(text: str) -> str:
    return f'<td style="text-align:left;white-space:pre-wrap">{escape(text)}</td>'
