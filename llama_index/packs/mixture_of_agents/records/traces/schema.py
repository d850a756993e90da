"""What stands in a trace: the kinds of lines and their fields, in a numbered version.

A trace is JSONL. Each line is one event, with a head (`schema`, `run`, `time`, `kind`) and the fields of its
kind: one of the classes here for a mixture's run, one of `crew_schema` for a crew's. This module neither
reads nor writes files.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.facts import MixtureFacts, ModelIdentity
from llama_index.packs.mixture_of_agents.results import Cast, Decision, Missing, Routing, Usage

SCHEMA = 1
"""Goes up when a reader of the old lines would misread the new ones. A new kind, or a new field, is no such
change: readers leave out what they do not know."""

_FROZEN = ConfigDict(frozen=True)

Status = Literal["answered", "failed", "timeout", "cancelled"]


class RunStarted(BaseModel):
    """A run begins. Its first line, but for the messages of the question, which stand before it.

    Attributes:
        mixture: Whom it asks.
        question: The caller's conversation, as ids of messages.
        packages: Versions of what it ran on, by name.
        redacted: Contents were altered before they were written.
    """

    model_config = _FROZEN

    kind: Literal["run_started"] = "run_started"
    mixture: MixtureFacts
    question: list[str]
    packages: dict[str, str] = Field(default_factory=dict)
    redacted: bool = False


class MessageKept(BaseModel):
    """A message, once for each run, before the first line that names it.

    Attributes:
        id: The beginning of its content's SHA-256.
        message: A LlamaIndex ChatMessage.
    """

    model_config = _FROZEN

    kind: Literal["message"] = "message"
    id: str
    message: dict[str, Any]


class _Placed(BaseModel):
    """A call's place in its run.

    Attributes:
        layer: 1 for the first round.
        index: The proposer's place in it.
        turn: Which pass of an answer that takes several.
        task: What it is for.
        proposer: Whom it goes to.
    """

    model_config = _FROZEN

    layer: int
    index: int
    turn: int = 0
    task: str = "propose"
    proposer: str

    @property
    def place(self) -> tuple[int, int, int]:
        """Layer, index and turn: no two calls of a run have the same."""
        return self.layer, self.index, self.turn


class CallAsked(_Placed):
    """A call is about to be placed; `proposers.Call` describes the fields.

    Attributes:
        identity: Which model that is.
        sampling: The settings it was to go out with.
        may_call_tools: Whether tool calls count as an answer.
        messages: What it says, as ids of messages.
    """

    kind: Literal["call_asked"] = "call_asked"
    identity: ModelIdentity = ModelIdentity()
    sampling: Sampling = Sampling()
    may_call_tools: bool = False
    messages: list[str] = Field(default_factory=list)


class CallRetried(BaseModel):
    """A call waits and is tried again.

    Attributes:
        layer: As for `CallAsked`.
        proposer: Likewise.
        task: Likewise.
        seconds: How long it waits.
        reason: What failed.
    """

    model_config = _FROZEN

    kind: Literal["call_retry"] = "call_retry"
    layer: int
    proposer: str
    task: str = "propose"
    seconds: float = 0.0
    reason: str = ""


class CallAnswered(_Placed):
    """A call's answer.

    Attributes:
        sampling: The settings it went out with.
        text: The answer.
        usage: What the answer took when it was made; `cost_usd` is in US dollars.
        latency_seconds: Wall time, its retries and waits within.
        retries: Tries after the first; None where nobody counted.
        source: Empty for a call that went out. Else what answered it from a store: nothing was spent now.
        details: What else is known of it, such as "finish_reason", or "sparse_moe" (routing statistics).
    """

    kind: Literal["call_answered"] = "call_answered"
    sampling: Sampling = Sampling()
    text: str
    usage: Usage = Usage()
    latency_seconds: float = 0.0
    retries: int | None = None
    source: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class CallMissing(_Placed):
    """A call that gave nothing.

    Attributes:
        sampling: As for `CallAnswered`.
        reason: Why, in words.
        status: The HTTP status where there was one.
        usage: What it took all the same.
        source: Empty for a call that went out; else what refused it.
    """

    kind: Literal["call_missing"] = "call_missing"
    sampling: Sampling = Sampling()
    reason: str
    status: int | None = None
    usage: Usage = Usage()
    source: str = ""


class RoundAgreed(BaseModel):
    """The proposals of a round agree, so the remaining rounds are skipped.

    Attributes:
        layer: That round.
        reason: How far they agree.
    """

    model_config = _FROZEN

    kind: Literal["agreed"] = "agreed"
    layer: int
    reason: str = ""


class GateRouted(Routing):
    """What the gate decided: whom to ask of a round, or that what is there is enough."""

    kind: Literal["routed"] = "routed"


class RunError(BaseModel):
    """What ended a run.

    Attributes:
        type: The error's class.
        message: What it said.
    """

    model_config = _FROZEN

    type: str
    message: str = ""


class RunEnded(BaseModel):
    """A run is over. A run without this line was killed, or still goes on.

    Attributes:
        status: How it ended.
        text: The answer; after a timeout, as much of it as there was.
        synthesizer: Name of the model whose words `text` is.
        finish: How the last round became the answer.
        usage: The whole run's use.
        latency_seconds: Wall time of the run.
        missing: Every call that gave nothing.
        decision: How the answer was chosen, where it was chosen and not written.
        roles: Who proposed in which role, where roles were written for the question.
        stopped_after: The round after which the others were skipped.
        error: What ended it, where there is no answer.
    """

    model_config = _FROZEN

    kind: Literal["run_ended"] = "run_ended"
    status: Status
    text: str = ""
    synthesizer: str = ""
    finish: str = ""
    usage: Usage = Usage()
    latency_seconds: float = 0.0
    missing: list[Missing] = Field(default_factory=list)
    decision: Decision | None = None
    roles: list[Cast] = Field(default_factory=list)
    stopped_after: int | None = None
    error: RunError | None = None


Outcome = CallAnswered | CallMissing
