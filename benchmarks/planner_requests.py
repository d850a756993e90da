"""A planner at ten requests: are its plans valid, are dependencies kept, is what may run at once run at once.

python -m benchmarks.planner_requests [--local]

With scripted models every agent takes a known time, so the wall time of a plan can be held against the
time of its longest chain, which no order of work can beat, and against its tasks one after another.
`--local` has the embedded default model plan the same requests (about four minutes on two cores).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from benchmarks.machine import in_a_line, machine
from llama_index.packs.mixture_of_agents import Proposer
from llama_index.packs.mixture_of_agents.agents import Crew, CrewResponse, Member, Plan, Task
from llama_index.packs.mixture_of_agents.agents.events import ResultEvent, TaskEvent
from llama_index.packs.mixture_of_agents.agents.planning import Planned
from llama_index.packs.mixture_of_agents.agents.plans import faults
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM

SKILLS = {
    "logs": "reads Windows and Sysmon event logs, and finds what hosts and accounts did",
    "intel": "knows threats by their addresses, domains and file hashes",
    "data": "finds and reads data: lists tables, answers questions in SQL",
    "analysis": "analyses tables: groups, ranks, joins, and counts over time",
    "charts": "draws charts: bars, lines, areas and points",
    "writer": "writes reports and advice in plain words",
}
MOST = 12


@dataclass(frozen=True)
class Asked:
    """A request, and a plan that does it.

    Attributes:
        request: What is asked.
        tasks: Agent and needs of each task, by its name.
    """

    request: str
    tasks: Mapping[str, tuple[str, list[str]]] = field(default_factory=dict)

    def plan_text(self) -> str:
        """The plan as a planner writes it."""
        listed = [
            {"id": name, "agent": agent, "instructions": f"{self.request} Do {name}.", "needs": needs}
            for name, (agent, needs) in self.tasks.items()
        ]
        return json.dumps({"tasks": listed})


REQUESTS = (
    Asked("Who logged on to FS-01 last night?", {"a": ("logs", [])}),
    Asked("Which threat uses 203.0.113.17, and did we see it?", {"a": ("intel", []), "b": ("logs", [])}),
    Asked(
        "Is this lateral movement, and what should I do?",
        {"a": ("logs", []), "b": ("intel", []), "c": ("writer", ["a", "b"])},
    ),
    Asked(
        "Find last year's sales, rank the regions, and draw them.",
        {"a": ("data", []), "b": ("analysis", ["a"]), "c": ("charts", ["b"])},
    ),
    Asked(
        "Rank products by profit; draw one chart of profit and one of units.",
        {"a": ("analysis", []), "b": ("charts", ["a"]), "c": ("charts", ["a"])},
    ),
    Asked(
        "Count failed logons by host and by hour, and say what stands out.",
        {"a": ("logs", []), "b": ("analysis", ["a"]), "c": ("analysis", ["a"]), "d": ("writer", ["b", "c"])},
    ),
    Asked(
        "Compare four hosts, each on its own.",
        {"a": ("logs", []), "b": ("logs", []), "c": ("logs", []), "d": ("logs", [])},
    ),
    Asked(
        "Check data quality, analyse sales, and write a report with a chart.",
        {
            "a": ("data", []),
            "b": ("analysis", []),
            "c": ("charts", ["b"]),
            "d": ("writer", ["a", "b", "c"]),
        },
    ),
    Asked(
        "Match every address in the proxy table against known threats and advise.",
        {"a": ("data", []), "b": ("intel", ["a"]), "c": ("logs", ["a"]), "d": ("writer", ["b", "c"])},
    ),
    Asked(
        "Look from six sides at the outage of Tuesday and put it together.",
        {
            **{name: (agent, []) for name, agent in zip("abcdef", SKILLS, strict=True)},
            "g": ("writer", [*"abcdef"]),
        },
    ),
)


@dataclass(frozen=True)
class Timed:
    """A plan as it was carried out by agents that take a known time.

    Attributes:
        request: What was asked.
        tasks: How many tasks the plan has.
        chain: How many of them can only follow one another.
        seconds: Wall time, planner and aggregator within.
        ideal: Of the longest chain, planner and aggregator within.
        serial: Of one task after another.
        valid: Whether the plan can be carried out, and all of it was.
        in_order: Whether no task began before all it needs had ended.
        at_once: Most tasks that were in work at one time.
    """

    request: str
    tasks: int
    chain: int
    seconds: float
    ideal: float
    serial: float
    valid: bool
    in_order: bool
    at_once: int

    @property
    def ratio(self) -> float:
        """Wall time in ideal times."""
        return self.seconds / self.ideal


async def timed(asked: Asked, latency: float = 0.2) -> Timed:
    """Carry a request out with models that take so many seconds a call."""
    members = [Member(name, skills, LatencyLLM(latency, model=name)) for name, skills in SKILLS.items()]
    planner = ScriptedLLM(asked.plan_text(), model="planner", latency=latency)
    crew = Crew(members, planner, LatencyLLM(latency, "the answer", model="writer"), max_concurrency=8)
    began, events = time.perf_counter(), [item async for item in crew.astream(asked.request)]
    seconds = time.perf_counter() - began
    (response,) = [item for item in events if isinstance(item, CrewResponse)]
    plan = response.plan or Plan(tasks=[])
    chain, both = max(plan.levels().values(), default=0), 2 * latency
    return Timed(
        asked.request,
        len(plan.tasks),
        chain,
        seconds,
        chain * latency + both,
        len(plan.tasks) * latency + both,
        _is_as_written(plan, asked) and not response.degraded,
        in_order(plan, events),
        most_at_once(events),
    )


def _is_as_written(plan: Plan, asked: Asked) -> bool:
    written = {name: (agent, needs) for name, (agent, needs) in asked.tasks.items()}
    carried_out = {task.id: (task.agent, task.needs) for task in plan.tasks}
    return plan.source == "planner" and not faults(plan, SKILLS, MOST) and carried_out == written


def in_order(plan: Plan, events: Sequence[Any]) -> bool:
    """Whether no task began before every task it needs had a result."""
    begun = {event.task.id: place for place, event in enumerate(events) if isinstance(event, TaskEvent)}
    ended = {
        event.result.task: place
        for place, event in enumerate(events)
        if isinstance(event, ResultEvent) and event.result is not None
    }
    return all(ended[need] < begun[task.id] for task in plan.tasks for need in task.needs)


def most_at_once(events: Sequence[Any]) -> int:
    """The most tasks that had begun and not ended, as the events stand."""
    steps = (
        1 if isinstance(event, TaskEvent) else -1
        for event in events
        if isinstance(event, (TaskEvent, ResultEvent))
    )
    return max(accumulate(steps), default=0)


@dataclass(frozen=True)
class Made:
    """A plan that a real model made.

    Attributes:
        request: What was asked.
        plan: What there was to carry out in the end.
        faults: What was wrong with what it wrote first.
        seconds: Of planning, repair within.
        valid: Whether it can be carried out.
    """

    request: str
    plan: Plan
    faults: list[str]
    seconds: float
    valid: bool

    @property
    def came(self) -> str:
        """How: at once, after a repair, or as one task for each agent."""
        return {"planner": "at once", "repaired": "after repair"}.get(self.plan.source, "fell back")


async def made(asked: Asked, llm: Any) -> Made:
    """Have a model plan a request; nothing is carried out."""
    members = [Member(name, skills, ScriptedLLM("unused", model=name)) for name, skills in SKILLS.items()]
    planner = Proposer(llm, max_tokens=300, temperature=0.0, seed=1)
    planning = Crew(members, planner, max_tasks=MOST).workflow.setup.planning
    began = time.perf_counter()
    planned: Planned = await planning.plan(asked.request, []) if planning is not None else Planned(None)
    plan = planned.plan or Plan(tasks=[])
    return Made(
        asked.request,
        plan,
        planned.faults,
        time.perf_counter() - began,
        not faults(plan, SKILLS, MOST),
    )


def table_of_times(measured: Sequence[Timed]) -> str:
    """What was measured with scripted models, as a Markdown table."""
    head = "| request | tasks | chain | wall | ideal | ratio | one by one | at once | valid | in order |"
    rows = [
        f"| {one.request} | {one.tasks} | {one.chain} | {one.seconds:.2f} s | {one.ideal:.2f} s | "
        f"{one.ratio:.2f} | {one.serial:.2f} s | {one.at_once} | {_yes(one.valid)} | {_yes(one.in_order)} |"
        for one in measured
    ]
    return "\n".join([head, "|---|" + "---:|" * 7 + "---|---|", *rows])


def table_of_plans(measured: Sequence[Made]) -> str:
    """What a real model planned, as a Markdown table; the counts stand below it."""
    head = "| request | plan | tasks | agents | seconds | can be carried out |"
    rows = [
        f"| {one.request} | {one.came} | {len(one.plan.tasks)} | {_agents(one.plan.tasks)} "
        f"| {one.seconds:.1f} | {_yes(one.valid)} |"
        for one in measured
    ]
    ways = [one.came for one in measured]
    counts = ", ".join(f"{ways.count(way)} {way}" for way in ("at once", "after repair", "fell back"))
    return "\n".join([head, "|---|---|---:|---|---:|---|", *rows, "", f"Of {len(ways)}: {counts}."])


def _agents(tasks: Sequence[Task]) -> str:
    return ", ".join(task.agent for task in tasks)


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


async def measure_local() -> list[Made]:
    """The plans of the embedded default model, one request after another."""
    from llama_index.packs.mixture_of_agents.app.ordering import local_model
    from llama_index.packs.mixture_of_agents.app.view import View

    llm = local_model(View())
    return [await made(asked, llm) for asked in REQUESTS]


async def _timed_all() -> list[Timed]:
    return [await timed(asked) for asked in REQUESTS]


def main() -> None:
    """Measure and print."""
    print(in_a_line(machine(("llama-index-core", "llama-index-workflows"))), flush=True)
    print(f"\nScripted models, 0.2 s a call:\n\n{table_of_times(asyncio.run(_timed_all()))}", flush=True)
    if "--local" in sys.argv[1:]:
        print(f"\nThe embedded default model:\n\n{table_of_plans(asyncio.run(measure_local()))}")


if __name__ == "__main__":
    main()
