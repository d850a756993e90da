"""Making a plan: ask the planner, mend what is clear, ask once more what is wrong, else do without.

Whatever the planner writes, there is a plan that can be carried out. It carries none out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.agents.drafts import DraftPlan, mended, shape_to_ask_for
from llama_index.packs.mixture_of_agents.agents.plans import Plan, faults, one_for_each
from llama_index.packs.mixture_of_agents.agents.prompts import (
    NO_PLAN,
    planner_messages,
    repair_messages,
    replanner_messages,
)
from llama_index.packs.mixture_of_agents.agents.results import TaskMissing, TaskResult
from llama_index.packs.mixture_of_agents.agents.speaking import Said, Speaker
from llama_index.packs.mixture_of_agents.answers.shapes import read_shape, shaped_request
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.results import Usage


@dataclass(frozen=True)
class Planned:
    """What came of planning.

    Attributes:
        plan: The plan; None where a second one could not be made.
        faults: What was wrong with what was written first.
        usages: What each call used.
        missing: The planner's failure, where it gave no plan.
    """

    plan: Plan | None
    faults: list[str] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    missing: TaskMissing | None = None


@dataclass(frozen=True)
class Done:
    """What a second plan starts from.

    Attributes:
        results: Of tasks that are done.
        missing: Tasks that failed.
    """

    results: Sequence[TaskResult] = ()
    missing: Sequence[TaskMissing] = ()


class Planning:
    """A planner at work for one crew.

    Args:
        planner: Who plans.
        skills: Of each agent, by its name.
        most: Tasks a plan may have.
    """

    def __init__(self, planner: Speaker, skills: Mapping[str, str], most: int) -> None:
        self._planner, self._skills, self._most = planner, dict(skills), most
        exact = getattr(planner.model, "takes_json_schema", False) is True
        self._shape = shape_to_ask_for(list(skills), most, exact=exact)

    @property
    def identity(self) -> ModelIdentity:
        """Which model or agent plans."""
        return self._planner.identity

    async def plan(self, request: str, history: Sequence[ChatMessage]) -> Planned:
        """A plan for a request: the planner's, as it is or repaired, or one task for each agent."""
        asked = planner_messages(request, history, self._skills, self._most)
        planned = await self._asked(asked, Done())
        if planned.plan is not None:
            return planned
        reason = planned.missing.reason if planned.missing is not None else "; ".join(planned.faults)
        plan = one_for_each(request, self._skills, self._most, reason)
        return Planned(plan, planned.faults, planned.usages, planned.missing)

    async def plan_again(self, request: str, history: Sequence[ChatMessage], done: Done) -> Planned:
        """A plan for what is left after failures; none where the planner has none."""
        asked = planner_messages(request, history, self._skills, self._most)
        return await self._asked(replanner_messages(asked, done.results, done.missing), done)

    async def _asked(self, asked: list[ChatMessage], done: Done) -> Planned:
        said = await self._say(asked)
        if said.reason:
            return Planned(None, [], [said.usage], self._missing(said.reason, said))
        plan, wrong = self._read(said, done)
        if not wrong:
            return Planned(plan, [], [said.usage])
        again = await self._say(repair_messages(asked, said.text, wrong))
        usages = [said.usage, again.usage]
        plan, still = (None, [again.reason]) if again.reason else self._read(again, done)
        if not still and plan is not None:
            return Planned(plan.model_copy(update={"source": "repaired"}), wrong, usages)
        reason = f"{'; '.join(wrong)}; asked again: {'; '.join(still)}"
        return Planned(None, wrong, usages, self._missing(reason, again))

    async def _say(self, messages: list[ChatMessage]) -> Said:
        prepared, options = shaped_request(self._planner.model, messages, self._shape)
        return await self._planner.say(prepared, options)

    def _read(self, said: Said, done: Done) -> tuple[Plan | None, list[str]]:
        """The plan in what was said, and what is wrong with it."""
        draft = read_shape(self._planner.model, said.message, DraftPlan)
        if draft is None:
            return None, [NO_PLAN]
        finished = {result.task: result.agent for result in done.results}
        plan = mended(draft, self._skills, finished, [gone.task for gone in done.missing])
        return plan, faults(plan, self._skills, self._most, finished)

    def _missing(self, reason: str, said: Said) -> TaskMissing:
        return TaskMissing(task="plan", agent=self._planner.name, reason=reason, status=said.status)
