"""What comes out of a mixture: proposals, who was missing, what it used, the answer.

Plain frozen records that serialise to JSON. They know nothing of LLMs, events or how they were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True)

Task = Literal["propose", "roles", "condense", "synthesize", "rank"]
"""What a call is for: an answer of a proposer's, roles for proposers, one text of a round's answers, the
final answer, a choice among answers."""


class Usage(BaseModel):
    """Tokens and money one call, or a whole run, took.

    Attributes:
        prompt_tokens: Tokens read; None where the model did not say.
        completion_tokens: Tokens written, thinking included; None where the model did not say.
        cost_usd: US dollars; None where no price is known.
        cached_tokens: Those of `prompt_tokens` that the provider had read before; None where nobody said.
        reasoning_tokens: Those of `completion_tokens` spent on thinking; None where nobody said.
        estimated: Some of the tokens were counted here, not reported.
    """

    model_config = _FROZEN

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False

    @classmethod
    def total(cls, parts: Iterable[Usage]) -> Usage:
        """Add up, and stay honest: one unknown part makes that sum unknown."""
        listed = list(parts)
        return cls(
            prompt_tokens=_sum(part.prompt_tokens for part in listed),
            completion_tokens=_sum(part.completion_tokens for part in listed),
            cost_usd=_sum(part.cost_usd for part in listed),
            cached_tokens=_sum_of_known(part.cached_tokens for part in listed),
            reasoning_tokens=_sum_of_known(part.reasoning_tokens for part in listed),
            estimated=any(part.estimated for part in listed),
        )


def _sum(values: Iterable[Any]) -> Any:
    listed = list(values)
    return None if not listed or any(value is None for value in listed) else sum(listed)


def _sum_of_known(counts: Iterable[int | None]) -> int | None:
    """Parts of a whole that few models report: who says nothing adds nothing."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


class CallUsage(BaseModel):
    """What one call used, answered or not.

    Attributes:
        proposer: Who was called.
        layer: 1 for the first round; `num_layers` for the finish.
        task: What for.
        usage: What it used; unknown where nobody can say.
    """

    model_config = _FROZEN

    proposer: str
    layer: int
    task: Task
    usage: Usage = Usage()


class Proposal(BaseModel):
    """One model's answer in one layer.

    Attributes:
        proposer: The proposer's name.
        layer: 1 for the first round.
        text: The answer as the model gave it.
        usage: What the call used.
        latency_seconds: Wall time of the call, its retries and waits within.
        details: What else is known of the call, as JSON: "finish_reason", "retries", "sparse_moe" (the
            routing statistics of a local model).
    """

    model_config = _FROZEN

    proposer: str
    layer: int
    text: str
    usage: Usage = Usage()
    latency_seconds: float = 0.0
    details: dict[str, Any] = Field(default_factory=dict)

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


class Role(BaseModel):
    """A role a proposer answers in.

    Attributes:
        name: A few words, "Cautious economist".
        perspective: What it looks at first.
        instructions: What it does.
    """

    model_config = _FROZEN

    name: str
    perspective: str = ""
    instructions: str = ""

    def __str__(self) -> str:
        parts = (f"You are {self.name}.", self.perspective, self.instructions)
        return " ".join(part.strip() for part in parts if part.strip())


class Cast(BaseModel):
    """Who proposed in which role, where roles were to be written for the question.

    Attributes:
        layer: The first round these roles are for.
        roles: In proposer order.
        is_fixed: Nobody wrote them for this question: the fixed ones stand in.
        written: How many were written; fixed ones fill up.
        writing: The role writer's answer; None where it gave none.
    """

    model_config = _FROZEN

    layer: int
    roles: list[Role]
    is_fixed: bool = False
    written: int = 0
    writing: Proposal | None = None


class Decision(BaseModel):
    """How an answer was chosen among the proposals, where none was written anew.

    Attributes:
        chosen: Whose proposal it is.
        reason: Why, in words.
        answer: What was extracted of it and counted; None where nothing was counted.
        votes: Each extracted answer, and who gave it.
        abstained: Whose proposals no answer could be extracted from.
        ties: Answers with as many votes as the chosen one's, the chosen one's among them; empty for no tie.
    """

    model_config = _FROZEN

    chosen: str
    reason: str = ""
    answer: str | None = None
    votes: dict[str, list[str]] = Field(default_factory=dict)
    abstained: list[str] = Field(default_factory=list)
    ties: list[str] = Field(default_factory=list)


class Routing(BaseModel):
    """What a gate decided: whom to ask of a layer, or that what is there is enough.

    Attributes:
        layer: The layer.
        asked: Who was asked then, the best first; empty for enough.
        scores: The gate's score of each proposer it could tell.
        confidence: The probability that the answers there are right; None where the gate does not say.
        reason: Why, in words.
    """

    model_config = _FROZEN

    layer: int
    asked: list[str] = Field(default_factory=list)
    scores: dict[str, float] = Field(default_factory=dict)
    confidence: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        asked = f"asks {', '.join(self.asked)}" if self.asked else "asks nobody more"
        return f"{asked}: {self.reason}" if self.reason else asked


class MixtureResponse(BaseModel):
    """The mixture's answer, and how it came about. `str()` of it is the answer alone.

    Attributes:
        text: The answer.
        proposals: Every proposal of every round, in layer order, then proposer order.
        missing: Every call that gave nothing, in the same order.
        usage: The whole run's use; None where any part is unknown.
        calls: What each call used, in layer order; `usage_by` adds them up.
        latency_seconds: Wall time of the run.
        run_id: The run's identity.
        synthesizer: Name of the model whose words `text` is.
        finish: How the last round became the answer.
        decision: How the answer was chosen, where it was chosen and not written.
        roles: Who proposed in which role, where roles were written for the question.
        condensed: What was passed on after each round, where that was condensed.
        stopped_after: The round after which the others were skipped because its proposals agreed.
        routed: What the gate decided, in order; empty without one.
        message: The final assistant message; it carries tool calls where there are any.
    """

    model_config = _FROZEN

    text: str
    proposals: list[Proposal] = Field(default_factory=list)
    missing: list[Missing] = Field(default_factory=list)
    usage: Usage = Usage()
    calls: list[CallUsage] = Field(default_factory=list)
    latency_seconds: float = 0.0
    run_id: str = ""
    synthesizer: str = ""
    finish: str = "synthesize"
    decision: Decision | None = None
    roles: list[Cast] = Field(default_factory=list)
    condensed: list[Proposal] = Field(default_factory=list)
    stopped_after: int | None = None
    routed: list[Routing] = Field(default_factory=list)
    message: ChatMessage = Field(default_factory=lambda: ChatMessage(role=MessageRole.ASSISTANT), repr=False)

    @property
    def degraded(self) -> bool:
        """True when anyone who was asked is missing from the answer."""
        return bool(self.missing)

    def usage_by(self, what: Literal["proposer", "layer", "task"]) -> dict[str | int, Usage]:
        """Tokens and money of each proposer, each layer, or each task, in the order they came in."""
        keys = dict.fromkeys(getattr(call, what) for call in self.calls)
        return {
            key: Usage.total(call.usage for call in self.calls if getattr(call, what) == key) for key in keys
        }

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Everything but the chat message, as JSON-ready values."""
        return {**self.model_dump(mode="json", exclude={"message"}), "degraded": self.degraded}

    def _repr_html_(self) -> str:
        rows = [(str(r.layer), "gate", str(r), "", "") for r in self.routed]
        rows += [(str(p.layer), p.proposer, p.text, _seconds(p), _tokens(p.usage)) for p in self.proposals]
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
