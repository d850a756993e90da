"""What stands in the trace of a crew: who is in it, each thing it did, how it ended.

Lines as `schema`'s, with kinds of their own. What a crew does, and how that is told, is not known here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.records.traces.schema import RunError, Status
from llama_index.packs.mixture_of_agents.results import Usage

_FROZEN = ConfigDict(frozen=True)


class MemberFacts(BaseModel):
    """Someone in a crew.

    Attributes:
        name: As its plans call it.
        skills: What it is good at, in the caller's words.
        identity: Which model or agent it is.
        tools: Names of the tools it was given.
    """

    model_config = _FROZEN

    name: str
    skills: str = ""
    identity: ModelIdentity = ModelIdentity()
    tools: list[str] = Field(default_factory=list)


class CrewFacts(BaseModel):
    """A whole crew.

    Attributes:
        name: Its name.
        members: Who does tasks.
        planner: Who makes plans; None where nobody does.
        writers: Who writes the answer, and who stands in, in that order.
    """

    model_config = _FROZEN

    name: str
    members: list[MemberFacts]
    planner: ModelIdentity | None = None
    writers: list[ModelIdentity] = Field(default_factory=list)


class CrewStarted(BaseModel):
    """A crew's run begins. Its first line, but for the messages of the request, which stand before it.

    Attributes:
        crew: Whom it asks.
        question: The conversation and the request at its end, as ids of messages.
        packages: Versions of what it ran on, by name.
        redacted: Contents were altered before they were written.
    """

    model_config = _FROZEN

    kind: Literal["crew_started"] = "crew_started"
    crew: CrewFacts
    question: list[str]
    packages: dict[str, str] = Field(default_factory=dict)
    redacted: bool = False


class CrewDid(BaseModel):
    """Something a crew did.

    Attributes:
        did: One of the ten words: plan, task, perceive, remember, reason, act, observe, result, aggregate,
            answer.
        seconds: Since the run began, without those a person was waited for.
        about: The fields of the event of that name (`agents.events`).
    """

    model_config = _FROZEN

    kind: Literal["crew_did"] = "crew_did"
    did: str
    seconds: float = 0.0
    about: dict[str, Any] = Field(default_factory=dict)


class Gap(BaseModel):
    """A task without a result, or with one that lacks something.

    Attributes:
        task: Its name in the plan; "plan" and "answer" are the planner's and the aggregator's calls.
        agent: Who was to do it.
        reason: Why.
        status: The HTTP status where there was one.
    """

    model_config = _FROZEN

    task: str
    agent: str
    reason: str
    status: int | None = None


class CrewEnded(BaseModel):
    """A crew's run is over. A run without this line was killed, waits for a person, or still goes on.

    Attributes:
        status: How it ended; "cancelled" also where a person said no to its plan.
        text: The answer.
        answered_by: Whose words it is.
        usage: The whole run's use; after a timeout, that of what was done by then.
        latency_seconds: Wall time, without the time a person took.
        missing: Every task without a result, and calls that failed.
        cut: Tasks whose results lack something, and why.
        warnings: How many texts looked like orders to a model.
        error: What ended it, where there is no answer.
    """

    model_config = _FROZEN

    kind: Literal["crew_ended"] = "crew_ended"
    status: Status
    text: str = ""
    answered_by: str = ""
    usage: Usage = Usage()
    latency_seconds: float = 0.0
    missing: list[Gap] = Field(default_factory=list)
    cut: list[Gap] = Field(default_factory=list)
    warnings: int = 0
    error: RunError | None = None
