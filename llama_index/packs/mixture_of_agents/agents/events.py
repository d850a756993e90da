"""What a crew says of itself while it works: frozen events that serialise, written to the run's stream.

The ten words of an agent at work: plan, task, perceive, remember, reason, act, observe, result, aggregate,
answer. The events that only carry the flow inside stand at the end. Nobody who reads or sends them is known
here.
"""

from __future__ import annotations

from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage
from pydantic import ConfigDict, Field
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent

from llama_index.packs.mixture_of_agents.agents.plans import Plan, Task
from llama_index.packs.mixture_of_agents.agents.results import Observation, Suspicion, TaskMissing, TaskResult
from llama_index.packs.mixture_of_agents.results import Usage


class CrewEvent(Event):
    """Something a crew did.

    Attributes:
        run_id: Which run.
        seconds: Since it began.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str = ""
    seconds: float = 0.0


class PlanEvent(CrewEvent):
    """There is a plan, or something became of it.

    Attributes:
        plan: The plan.
        state: It was made, is carried out as it is now, or takes the place of one that failed in parts.
        faults: What was wrong with what the planner first wrote.
    """

    plan: Plan
    state: Literal["made", "confirmed", "again"] = "made"
    faults: list[str] = Field(default_factory=list)


class TaskEvent(CrewEvent):
    """A task begins.

    Attributes:
        task: The task.
        absent: Tasks it needs that have no result.
    """

    task: Task
    absent: list[str] = Field(default_factory=list)


class _AtWork(CrewEvent):
    """Something an agent did.

    Attributes:
        task: The task it works on.
        agent: Its name.
    """

    task: str
    agent: str


class PerceiveEvent(_AtWork):
    """An agent takes in what it is given.

    Attributes:
        results: Tasks whose results it is given.
        notes: How many notes of others it is given.
        tools: Tools that are used before it says anything.
    """

    results: list[str] = Field(default_factory=list)
    notes: int = 0
    tools: list[str] = Field(default_factory=list)


class RememberEvent(_AtWork):
    """An agent's memory is asked, or is given something to keep.

    Attributes:
        kind: It "recalls" or "keeps".
        texts: What, of bounded length.
        failed: Why that failed; empty where it did not.
    """

    kind: Literal["recalls", "keeps"]
    texts: list[str] = Field(default_factory=list)
    failed: str = ""


class ReasonEvent(_AtWork):
    """An agent thinks: a piece of it, or all of it.

    Attributes:
        text: What it says to itself, or as its result.
    """

    text: str


class ActEvent(_AtWork):
    """An agent calls a tool.

    Attributes:
        tool: The tool's name.
        arguments: What it is called with, as JSON of bounded length.
    """

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    # As LlamaIndex's own events say it, so that a crew in a mixture is heard like any agent.

    @property
    def tool_name(self) -> str:
        """The tool's name."""
        return self.tool

    @property
    def tool_kwargs(self) -> dict[str, Any]:
        """What it is called with."""
        return self.arguments


class ObserveEvent(_AtWork):
    """An agent has a tool's answer.

    Attributes:
        observation: The answer.
        warnings: What in it looks like orders to a model.
    """

    observation: Observation
    warnings: list[Suspicion] = Field(default_factory=list)

    @property
    def tool_name(self) -> str:
        """The tool's name."""
        return self.observation.tool

    @property
    def tool_kwargs(self) -> dict[str, Any]:
        """What it was called with."""
        return self.observation.arguments

    @property
    def tool_output(self) -> Observation:
        """Its answer."""
        return self.observation


class ResultEvent(CrewEvent):
    """What became of a task: exactly one of `result` and `missing` is set.

    Attributes:
        result: Its result.
        missing: Why there is none.
        warnings: What in the result looks like orders to a model.
    """

    result: TaskResult | None = None
    missing: TaskMissing | None = None
    warnings: list[Suspicion] = Field(default_factory=list)


class AggregateEvent(CrewEvent):
    """The results are put together.

    Attributes:
        agent: Who writes; said again where someone stands in and starts over.
        results: Tasks whose results it reads.
        missing: Tasks that have none.
        warnings: How many suspicious texts it is warned of.
    """

    agent: str
    results: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    warnings: int = 0


class AnswerEvent(CrewEvent):
    """The answer is there; its pieces were written before, as `DeltaEvent`.

    Attributes:
        text: The answer.
        agent: Whose words it is.
        usage: What the whole run used.
    """

    text: str
    agent: str = ""
    usage: Usage = Field(default_factory=Usage)


class PlanQuestionEvent(InputRequiredEvent):
    """Someone is asked to confirm the plan, or to change it; a `PlanDecisionEvent` answers.

    Attributes:
        plan: The plan.
        drawn: The same as a tree of text.
        faults: What is wrong with the changed plan that was sent; empty at first.
    """

    model_config = ConfigDict(frozen=True)

    plan: Plan
    drawn: str = ""
    faults: list[str] = Field(default_factory=list)


class PlanDecisionEvent(HumanResponseEvent):
    """What someone says to a plan.

    Attributes:
        approved: False to carry out nothing.
        plan: What to carry out instead; None for the plan as it is.
        reason: Why not.
    """

    model_config = ConfigDict(frozen=True)

    approved: bool = True
    plan: Plan | None = None
    reason: str = ""


class WriteQuestionEvent(InputRequiredEvent):
    """Someone is asked whether a tool may write; a `WriteDecisionEvent` with the same number answers.

    Attributes:
        question: Its number in the run.
        what: What is about to be written, and where.
    """

    model_config = ConfigDict(frozen=True)

    question: int
    what: str


class WriteDecisionEvent(HumanResponseEvent):
    """What someone says to a tool that wants to write: `approved` for yes."""

    model_config = ConfigDict(frozen=True)

    question: int
    approved: bool


# What follows carries the flow inside a run, and is not written to its stream.


class RequestEvent(StartEvent):
    """A request comes in; `history` is the conversation before it, `plan` one that was made by hand."""

    request: str
    history: list[ChatMessage] = Field(default_factory=list)
    plan: Plan | None = None


class PlannedEvent(Event):
    """The plan in the run's state is to be carried out."""


class WorkEvent(Event):
    """Do one task."""

    task: str


class WorkedEvent(Event):
    """What became of it: exactly one of `result` and `missing` is set."""

    task: str
    result: TaskResult | None = None
    missing: TaskMissing | None = None
    warnings: list[Suspicion] = Field(default_factory=list)


class ReplanEvent(Event):
    """Parts failed: make another plan for what is left."""


class AggregationEvent(Event):
    """All tasks are settled: answer."""
