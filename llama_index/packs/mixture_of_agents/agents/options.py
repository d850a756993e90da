"""A crew as it is carried out: who is in it, who plans and answers, and its limits, all checked.

It knows nothing of the workflow's events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from llama_index.packs.mixture_of_agents import checks
from llama_index.packs.mixture_of_agents.agents.holding import Check, HeldTo, refuse_no_functions
from llama_index.packs.mixture_of_agents.agents.members import Member
from llama_index.packs.mixture_of_agents.agents.planning import Planning
from llama_index.packs.mixture_of_agents.agents.plans import Plan, Task, faults
from llama_index.packs.mixture_of_agents.agents.results import TaskResult
from llama_index.packs.mixture_of_agents.agents.speaking import Speaker
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.nesting import Nesting
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.trace import Trace

MOST_TASKS = 64
"""As many tasks as the runtime does at once, which it reads from the class."""
CREWS = Nesting("crew", deepest=3)

Confirm: TypeAlias = Callable[[Plan], "Plan | bool | Awaitable[Plan | bool | None] | None"]
"""Is shown a plan: gives another to be carried out instead, False for none, anything else for this one."""


@dataclass(frozen=True)
class CrewSetup:
    """What a crew's workflow needs to know; `Crew` makes it from its arguments.

    Attributes:
        name: The crew's.
        members: By name.
        planning: Makes plans; None for a crew of one.
        writers: Who writes the answer; further ones stand in. With none, the results are the answer.
        max_tasks: Tasks a plan may have.
        max_concurrency: Tasks done at once.
        max_retries: Tries after the first, for a model's transient failures.
        timeout: Seconds for a run, without those a person is waited for; None for no limit.
        task_timeout: Seconds for a task; None for no limit.
        replans: Whether a second plan is made after failures.
        confirm: Who is shown the plan before it is carried out.
        check: Says why an answer cannot stand.
        held_to: Of the results: arguments for the call that writes the answer.
        material_characters: How much of all results the aggregator is given.
        trace: Writes down each run; None for none.
        prices: Know what calls cost.
    """

    name: str
    members: Mapping[str, Member]
    planning: Planning | None
    writers: Sequence[Speaker]
    max_tasks: int
    max_concurrency: int
    max_retries: int
    timeout: float | None
    task_timeout: float | None
    replans: bool
    confirm: Confirm | Literal["events"] | None
    check: Check | None
    held_to: HeldTo[TaskResult] | None
    material_characters: int
    trace: Trace | None
    prices: Prices

    def __post_init__(self) -> None:
        checks.whole_number("max_tasks", self.max_tasks, 1)
        checks.number("max_tasks", self.max_tasks, 1, MOST_TASKS)
        checks.whole_number("max_concurrency", self.max_concurrency, 1)
        checks.whole_number("max_retries", self.max_retries, 0)
        checks.whole_number("material_characters", self.material_characters, 1)
        checks.seconds("timeout", self.timeout, none="for no limit")
        checks.seconds("task_timeout", self.task_timeout, none="for no limit")
        if self.confirm not in (None, "events") and not callable(self.confirm):
            raise ConfigurationError(
                "confirm must be a function of the plan, 'events' or None; found "
                f"{checks.shown(self.confirm)}"
            )
        refuse_no_functions(self.name, self.check, self.held_to)
        self._check_writers()

    def _check_writers(self) -> None:
        """There is an answer to check and hold, written in a call that takes arguments."""
        for name in ("check", "held_to"):
            if getattr(self, name) is not None and not self.writers:
                raise ConfigurationError(
                    f"the {name} of {self.name!r} is of the answer that an aggregator writes, and here the "
                    f"member's result is the answer; pass {name} to the Member, or an aggregator to the crew"
                )
        agents = [writer.name for writer in self.writers if not writer.is_llm]
        if self.held_to is not None and agents:
            raise ConfigurationError(
                f"{agents[0]!r} is an agent, whose answer cannot be held_to anything; pass an LLM to write it"
            )

    def check_plan(self, plan: Any, done: Collection[str] = (), gone: Collection[str] = ()) -> None:
        """Refuse a plan that cannot be carried out.

        Args:
            plan: The plan.
            done: Tasks that have a result already.
            gone: Tasks that will have none.

        Raises:
            ConfigurationError: It cannot.
        """
        if not isinstance(plan, Plan):
            raise ConfigurationError(f"a plan must be a Plan; found {checks.shown(plan)}")
        wrong = self.faults_of(plan, done, gone)
        if wrong:
            raise ConfigurationError(f"the plan cannot be carried out: {'; '.join(wrong)}")

    def faults_of(self, plan: Plan, done: Collection[str] = (), gone: Collection[str] = ()) -> list[str]:
        """What keeps a plan from being carried out, in words; the arguments are `check_plan`'s.

        What is done already stands in a second plan, too, and is no task to be counted.
        """
        most = self.max_tasks + sum(name in done for name in plan.ids)
        again = [
            f"task {name!r} failed before; a new try needs a new id" for name in plan.ids if name in gone
        ]
        return [*faults(plan, list(self.members), most, done), *again]

    def only_task(self, request: str) -> Plan:
        """The plan of a crew of one."""
        (name,) = self.members
        return Plan(tasks=[Task(id="t1", agent=name, instructions=request)], source="given")

    def too_deep(self, depth: int) -> MixtureError:
        """So many crews are inside each other that no further one is run."""
        return MixtureError(
            f"crew {self.name!r} was not run: {depth} crews are at work inside each other, and no more "
            "may be; one of them seems to ask itself"
        )
