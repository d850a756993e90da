"""What travels through the workflow and out of its stream: small, serialisable, never a live object.

Inner events carry places (layer, index), not texts: the texts stand once, in the run's state. This
module knows nothing of who sends or reads them.
"""

from __future__ import annotations

from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage
from pydantic import Field
from workflows.events import Event, StartEvent

from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Routing, Task, Usage


class AskEvent(StartEvent):
    """A question comes in: one string, or a conversation; exactly one of the two."""

    query_str: str | None = None
    messages: list[ChatMessage] | None = None
    checkpoint: str | None = None


class CastEvent(Event):
    """Have roles written, then open the layer."""

    layer: int


class GateEvent(Event):
    """Ask the gate whom to ask, or ask next, in the layer."""

    layer: int


class ProposeEvent(Event):
    """Ask one proposer of one layer. `layer` counts from 1, `index` from 0 in proposer order."""

    layer: int
    index: int


class ProposalEvent(Event):
    """One proposer's outcome: exactly one of `proposal` and `missing` is set."""

    layer: int
    index: int
    proposal: Proposal | None = None
    missing: Missing | None = None


class CondenseEvent(Event):
    """A round is closed: put its proposals into one text, then open the next."""

    layer: int


class SynthesizeEvent(Event):
    """All rounds are done: finish."""

    layer: int


class DeadlineEvent(Event):
    """The run's `timeout` has passed."""


class ProgressEvent(Event):
    """Who is thinking, who answered, who is missing; written to the stream as it happens.

    Attributes:
        kind: "round" opens a layer; "asked", "answered" and "missing" name a proposer of it;
            "synthesis" opens the final answer; "retry" says a call waits and is tried again; "agreed"
            says that the remaining rounds are skipped; "routed" says whom the gate asks; "act" and "observe"
            say that an agent called a tool, and what that brought.
        layer: 1 for the first round; `num_layers` for the synthesis.
        proposer: Whom it is about; empty for "round".
        seconds: How long the call took, or how long a retry will wait.
        usage: What an answered call used.
        reason: Why someone is missing, why a call is retried, or how far proposals agree.
        task: What the call is for, where it is about a call.
        status: The HTTP status behind a retry, where there was one.
        tool: The tool an agent called; empty where it is about no tool.
        arguments: What the tool was called with, as JSON of bounded length.
        output: What the tool answered, of bounded length; `reason` has it, too, where the tool failed.
        routing: All of what the gate decided, where it is about that.
    """

    kind: Literal[
        "round", "asked", "answered", "missing", "retry", "synthesis", "agreed", "routed", "act", "observe"
    ]
    layer: int
    proposer: str = ""
    seconds: float = 0.0
    usage: Usage = Field(default_factory=Usage)
    reason: str = ""
    task: Task = "propose"
    status: int | None = None
    tool: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    output: str = ""
    routing: Routing | None = None


class DeltaEvent(Event):
    """A piece of the final answer, as the synthesis is produced."""

    delta: str
