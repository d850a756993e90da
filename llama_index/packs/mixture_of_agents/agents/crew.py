"""A crew: a planner, members with skills, and an aggregator, behind three ways to ask.

    crew = Crew([Member("logs", "reads Windows logs", llm, tools=[...]), ...], planner=llm)
    response = crew.run("Is this lateral movement, and what should I do?")
    print(response, response.plan.as_text())

What happens in between is `workflow`'s.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage
from workflows.events import Event, StopEvent

from llama_index.packs.mixture_of_agents.agents.holding import Check, HeldTo
from llama_index.packs.mixture_of_agents.agents.live_crew import wound_up
from llama_index.packs.mixture_of_agents.agents.members import Member, as_members
from llama_index.packs.mixture_of_agents.agents.options import Confirm, CrewSetup
from llama_index.packs.mixture_of_agents.agents.planning import Planning
from llama_index.packs.mixture_of_agents.agents.plans import Plan
from llama_index.packs.mixture_of_agents.agents.results import CrewResponse, TaskResult
from llama_index.packs.mixture_of_agents.agents.speaking import Speaker
from llama_index.packs.mixture_of_agents.agents.workflow import CrewWorkflow
from llama_index.packs.mixture_of_agents.calls.threads import run_blocking
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.trace import Trace, trace_from


class Crew:
    """A planner breaks a request up, specialists do the parts, an aggregator answers.

    Args:
        members: `Member`s, or agents with a name and a description.
        planner: The LLM, or Proposer, that makes plans; None for a crew of one, whose member does the
            request as its only task.
        aggregator: Who writes the answer; the planner by default, who also stands in for it. With neither,
            the result of the only member is the answer.
        name: As whom a mixture knows it.
        max_tasks: Tasks a plan may have, at most 64; a longer plan is sent back, then done without.
        max_concurrency: Tasks done at once, over all runs of this crew.
        max_retries: Tries after the first, for a model's transient failures.
        timeout: Seconds for a run, without those a person is waited for; None for no limit.
        task_timeout: Seconds for a task, and for a call of planner or aggregator, where whoever does it has
            no limit of its own; None for no limit.
        replans: Whether a second plan is made, once, for what failed.
        confirm: Is shown the plan before it runs: a function that returns another plan, False to carry out
            nothing, or anything else to go on; or "events" for a `PlanQuestionEvent` on the stream that waits
            for a `PlanDecisionEvent` (with `workflow.run`).
        check: Says why an answer cannot stand on the results, or nothing; such an answer is set aside, and
            the next one asked for, at last the results as they are. `grounding.grounded` is one. The answer
            is not streamed then. Like held_to, it needs a planner or an aggregator; else it is the Member's.
        held_to: Of the results: arguments for the call that writes the answer, such as `{"regex": ...}` for a
            local model, so that it can say nothing that was not found. Where the call refuses them, or the
            answer is cut off, the next one is asked. Plain or async. The answer is not streamed then.
        material_characters: How much of all results the aggregator is given; the middle of what is longer
            is left out.
        trace: Where each run writes down what it does: True for files of their own in logs/moa, a path, or a
            `records.trace.Trace`.
        prices: Your own prices, over those that come with the package, as `records.prices.Prices` takes them.

    Attributes:
        workflow: It as a LlamaIndex workflow, and as an agent that a mixture takes as a proposer.
        members: By name.

    Raises:
        ConfigurationError: Something cannot work.
    """

    def __init__(
        self,
        members: Sequence[Any],
        planner: Any = None,
        aggregator: Any = None,
        *,
        name: str = "crew",
        max_tasks: int = 12,
        max_concurrency: int = 4,
        max_retries: int = 2,
        timeout: float | None = 600,
        task_timeout: float | None = 180,
        replans: bool = True,
        confirm: Confirm | Literal["events"] | None = None,
        check: Check | None = None,
        held_to: HeldTo[TaskResult] | None = None,
        material_characters: int = 24_000,
        trace: bool | str | os.PathLike[str] | Trace | None = None,
        prices: Mapping[str, Any] | None = None,
    ) -> None:
        self.members = {member.name: member for member in as_members(members)}
        if planner is None and len(self.members) > 1:
            raise ConfigurationError(
                f"a crew of {len(self.members)} needs a planner: pass an LLM; only a crew of one has none"
            )
        known = Prices(prices)
        speakers = _speakers(planner, aggregator, max_retries, known, task_timeout)
        planning = None
        if planner is not None:
            planning = Planning(speakers[0], _skills(self.members.values()), max_tasks)
        self.workflow = CrewWorkflow(
            CrewSetup(
                name=name,
                members=self.members,
                planning=planning,
                writers=[*reversed(speakers)],
                max_tasks=max_tasks,
                max_concurrency=max_concurrency,
                max_retries=max_retries,
                timeout=timeout,
                task_timeout=task_timeout,
                replans=replans and planning is not None,
                confirm=confirm,
                check=check,
                held_to=held_to,
                material_characters=material_characters,
                trace=trace_from(trace),
                prices=known,
            )
        )

    def run(
        self, request: str, *, history: Sequence[ChatMessage] = (), plan: Plan | None = None
    ) -> CrewResponse:
        """Ask and wait: in a script, inside a running loop, in a notebook.

        Args:
            request: What is asked.
            history: The conversation before it.
            plan: A plan of one's own; the planner is not asked then.

        Raises:
            ConfigurationError: The request is empty, or the plan cannot be carried out.
            PlanRejectedError: Whoever was shown the plan said no.
            CrewTimeoutError: The run's time was up.
            MixtureError: Nobody had an answer.
        """
        return run_blocking(self.arun(request, history=history, plan=plan))

    async def arun(
        self, request: str, *, history: Sequence[ChatMessage] = (), plan: Plan | None = None
    ) -> CrewResponse:
        """Ask; the arguments and errors are `run`'s."""
        async for item in self.astream(request, history=history, plan=plan):
            if isinstance(item, CrewResponse):
                return item
        raise RuntimeError("a run ended without a response or an error")

    async def astream(
        self, request: str, *, history: Sequence[ChatMessage] = (), plan: Plan | None = None
    ) -> AsyncGenerator[Event | CrewResponse, None]:
        """Ask and follow: every event as it happens, pieces of the answer, at last the response.

        Leaving the generator cancels the run. The arguments and errors are `run`'s.
        """
        if self.workflow.setup.confirm == "events":
            raise ConfigurationError(
                "confirm='events' needs someone to answer them: use crew.workflow.run(request=...) and send "
                "a PlanDecisionEvent, or pass a function as confirm."
            )
        handler = self.workflow.run(request=request, history=history, plan=plan, attended=False)
        try:
            async for event in handler.stream_events():
                if not isinstance(event, StopEvent):
                    yield event
            response: CrewResponse = await handler
            yield response
        finally:
            if not handler.is_done():
                await handler.cancel_run()
            await wound_up(handler)


def _speakers(
    planner: Any, aggregator: Any, max_retries: int, prices: Prices, seconds: float | None
) -> list[Speaker]:
    """The planner, and who writes the answer where that is someone else; one that hangs is stood in for."""
    given = [planner] if aggregator is None or aggregator is planner else [planner, aggregator]
    proposers = [one if isinstance(one, Proposer) else Proposer(one) for one in given if one is not None]
    return [
        Speaker(proposer, max_retries, prices, seconds if proposer.timeout is None else proposer.timeout)
        for proposer in proposers
    ]


def _skills(members: Any) -> dict[str, str]:
    return {member.name: member.skills for member in members if isinstance(member, Member)}
