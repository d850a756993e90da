"""What comes out of a crew: results of tasks, observations, who gave none, what looked suspicious.

Plain frozen records that serialise to JSON. They know nothing of models, events or how they were made.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.agents.plans import Plan
from llama_index.packs.mixture_of_agents.results import Usage

_FROZEN = ConfigDict(frozen=True)


NOT_WORDED = "not put in words"
"""Why a result is what tools said, word by word."""


class Suspicion(BaseModel):
    """A text that looks as if it gave orders to the model that reads it.

    Attributes:
        where: Whose text it is.
        form: Which well-known form it has.
        excerpt: The place, and what stands around it.
    """

    model_config = _FROZEN

    where: str
    form: str
    excerpt: str = ""

    def __str__(self) -> str:
        return f"{self.where} {self.form}: {self.excerpt!r}"


class Observation(BaseModel):
    """What a tool answered.

    Attributes:
        tool: Its name.
        arguments: What it was called with, as JSON of bounded length.
        output: Its answer, of bounded length.
        is_error: It failed; `output` says how.
        seconds: How long it took; 0 where nobody measured.
    """

    model_config = _FROZEN

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    output: str = ""
    is_error: bool = False
    seconds: float = 0.0

    @property
    def content(self) -> str:
        """The output, as LlamaIndex's ToolOutput calls it."""
        return self.output


class Note(BaseModel):
    """What one agent told another, or all of them.

    Attributes:
        sender: Who said it.
        to: To whom; empty for everyone.
        text: What was said.
    """

    model_config = _FROZEN

    sender: str
    to: str = ""
    text: str


class TaskResult(BaseModel):
    """What an agent made of its task.

    Attributes:
        task: The task's name in the plan.
        agent: Who did it.
        text: What it says.
        observations: The tools it used, in order, and what they answered.
        recalled: How many memories it was given.
        cut: Why it was stopped before it was through, in words; empty where it was not.
        usage: What its calls used.
        latency_seconds: Wall time.
    """

    model_config = _FROZEN

    task: str
    agent: str
    text: str
    observations: list[Observation] = Field(default_factory=list)
    recalled: int = 0
    cut: str = ""
    usage: Usage = Usage()
    latency_seconds: float = 0.0

    @property
    def is_worded(self) -> bool:
        """Whether somebody put it in words; else it is what tools said."""
        return NOT_WORDED not in self.cut

    def __repr__(self) -> str:
        # The workflow runtime writes a repr of every event, so it is kept short.
        return f"TaskResult({self.task!r}, {self.agent!r}, text={self.text[:60]!r})"


class TaskMissing(BaseModel):
    """A task without a result.

    Attributes:
        task: The task's name in the plan; "plan" for the planner's call, "answer" for the aggregator's.
        agent: Who was to do it.
        reason: Why there is none, in words a person can act on.
        status: The HTTP status where there was one.
        observations: What its tools had answered by then.
        usage: What its calls used.
    """

    model_config = _FROZEN

    task: str
    agent: str
    reason: str
    status: int | None = None
    observations: list[Observation] = Field(default_factory=list)
    usage: Usage = Usage()

    def __str__(self) -> str:
        status = f" (HTTP {self.status})" if self.status is not None else ""
        return f"{self.agent}, {self.task}: {self.reason}{status}"


class CrewResponse(BaseModel):
    """A crew's answer, and how it came about. `str()` of it is the answer alone.

    Attributes:
        text: The answer.
        plan: What was carried out; after a second plan, what was done of the first stands in it, too.
        first_plan: The plan before that; None where there was one plan only.
        results: Of every task that has one, in the plan's order.
        missing: Every task without one, and calls of planner and aggregator that failed.
        warnings: What looked like orders to a model in texts of tools, agents and memories.
        notes: What agents told each other.
        usage: The whole run's use; None where any part is unknown.
        latency_seconds: Wall time, without the time a person took to confirm.
        run_id: The run's identity.
        answered_by: Whose words `text` is.
    """

    model_config = _FROZEN

    text: str
    plan: Plan | None = None
    first_plan: Plan | None = None
    results: list[TaskResult] = Field(default_factory=list)
    missing: list[TaskMissing] = Field(default_factory=list)
    warnings: list[Suspicion] = Field(default_factory=list)
    notes: list[Note] = Field(default_factory=list)
    usage: Usage = Usage()
    latency_seconds: float = 0.0
    run_id: str = ""
    answered_by: str = ""

    @property
    def degraded(self) -> bool:
        """True when anything that was asked for is missing from the answer, or was cut short."""
        return bool(self.missing) or any(result.cut for result in self.results)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON-ready values."""
        return {**self.model_dump(mode="json"), "degraded": self.degraded}
