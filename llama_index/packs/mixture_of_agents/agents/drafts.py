"""What a planner wrote, read tolerantly and mended where it is clear what was meant.

Models write "depends_on" for "needs", number their tasks, name an agent by its skill, need tasks that are not
there. What can be mended without guessing at the plan's meaning is mended, and said. It asks nobody.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field, create_model, model_validator

from llama_index.packs.mixture_of_agents.agents.plans import RESERVED, Plan, Task

_LONGEST_ID = 40
_LONGEST_INSTRUCTIONS = 4_000
_ANY_PART = "Do your part of the request."
_WORD = re.compile(r"[^\W_]{4,}")

_OTHER_NAMES = {
    "id": ("task_id", "name", "number", "key"),
    "agent": ("assignee", "assigned_to", "agent_name", "specialist", "who", "role"),
    "instructions": ("instruction", "task", "description", "prompt", "goal", "what", "details"),
    "needs": ("depends_on", "dependencies", "depends", "requires", "after", "inputs", "prerequisites"),
}


class DraftTask(BaseModel):
    """A task as a model wrote it.

    Attributes:
        id: Its name; may be empty.
        agent: Whom it is for, in whatever words.
        instructions: What is to be done.
        needs: Names of tasks.
    """

    id: str = ""
    agent: str = ""
    instructions: str = ""
    needs: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _under_our_names(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"instructions": given}
        if not isinstance(given, Mapping):
            return given
        said = {str(key).strip().casefold().replace(" ", "_"): value for key, value in given.items()}
        taken = {name: _first(said, (name, *others)) for name, others in _OTHER_NAMES.items()}
        return {
            "needs": _names_in(taken.pop("needs")),
            **{name: _text(value) for name, value in taken.items()},
        }

    @model_validator(mode="after")
    def _says_something(self) -> DraftTask:
        if not self.instructions.strip() and not self.agent.strip():
            raise ValueError("a task says who does what")
        return self


class DraftPlan(BaseModel):
    """A plan as a model wrote it.

    Attributes:
        tasks: Its tasks.
    """

    tasks: list[DraftTask]


def shape_to_ask_for(agents: Sequence[str], most: int, *, exact: bool = False) -> type[BaseModel]:
    """The shape of a plan that is asked for: agents are chosen from those there are.

    It is stricter than `DraftPlan`, which is what is read: a model that is held to a schema cannot name an
    agent that nobody knows, and one that is not may, and is understood.

    Args:
        agents: The names of all agents.
        most: Tasks a plan may have.
        exact: Bounds for every part, for a model whose text is held to the schema; others may refuse them.
    """
    ids = [f"t{number}" for number in range(1, most + 1)]
    bounds: dict[str, dict[str, Any]] = {"id": {}, "instructions": {}, "needs": {}, "tasks": {}}
    if exact:
        of_ids = {"items": {"type": "string", "enum": ids}, "maxItems": 3}
        bounds = {"id": {"enum": ids}, "instructions": {"maxLength": 160}, "needs": of_ids}
        bounds["tasks"] = {"minItems": 1, "maxItems": most}
    task = create_model(
        "PlannedTask",
        id=(str, Field(json_schema_extra=bounds["id"])),
        agent=(str, Field(description="Who does it.", json_schema_extra={"enum": list(agents)})),
        instructions=(
            str,
            Field(
                description="What it is to do, complete in itself.", json_schema_extra=bounds["instructions"]
            ),
        ),
        needs=(
            list[str],
            Field(description="Ids of tasks whose results it needs.", json_schema_extra=bounds["needs"]),
        ),
    )
    tasks: Any = list[task]  # type: ignore[valid-type]
    return create_model(
        "Plan",
        __doc__="The plan: which specialist does what, and what must be done first.",
        tasks=(tasks, Field(json_schema_extra=bounds["tasks"])),
    )


def mended(
    draft: DraftPlan, agents: Mapping[str, str], done: Mapping[str, str], gone: Collection[str] = ()
) -> Plan:
    """A plan from what was written, with what was meant where that is clear; it may still have faults.

    Args:
        draft: As it was written.
        agents: Skills of each agent, by its name.
        done: Who did each task that is done already, by the task's id.
        gone: Ids of tasks that failed; they are not used again.
    """
    mending = _Mending(agents, done)
    drafts = [task for task in draft.tasks if not mending.repeats(task)]
    mending.name(drafts, {*done, *gone})
    tasks = [mending.task(number) for number in range(len(drafts))]
    return Plan(tasks=tasks, source="planner", notes=mending.notes)


def nearest_agent(wanted: str, instructions: str, agents: Mapping[str, str]) -> str | None:
    """Who is meant by a name that nobody has: by spelling, else by words of skills; None where unclear.

    Args:
        wanted: The name that was written.
        instructions: What is to be done.
        agents: Skills of each agent, by its name.
    """
    by_spelling = {_plain(name): name for name in agents}
    close = difflib.get_close_matches(_plain(wanted), list(by_spelling), n=1, cutoff=0.7)
    if close:
        return by_spelling[close[0]]
    for said in (wanted, instructions):
        shared = Counter({name: len(_words(said) & _words(f"{name} {agents[name]}")) for name in agents})
        ranked = shared.most_common(2)
        if ranked and ranked[0][1] > 0 and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
            return ranked[0][0]
    return None


class _Mending:
    """One draft on its way to a plan.

    Args:
        agents: Skills of each agent, by its name.
        done: Who did each task that is done already.
    """

    def __init__(self, agents: Mapping[str, str], done: Mapping[str, str]) -> None:
        self._agents, self._done = agents, done
        self._drafts: Sequence[DraftTask] = ()
        self._ids: list[str] = []
        self.notes: list[str] = []

    def repeats(self, task: DraftTask) -> bool:
        """Whether it is done already."""
        repeats = bool(task.id.strip()) and self._done.get(task.id.strip()) == task.agent.strip()
        if repeats:
            self.notes.append(f"task {task.id!r} is done already and was left out")
        return repeats

    def name(self, drafts: Sequence[DraftTask], taken: Collection[str]) -> None:
        """Give each task a name that no other has."""
        self._drafts, used = drafts, {*taken, *RESERVED}
        for number, task in enumerate(drafts, 1):
            wanted = _line(task.id)[:_LONGEST_ID] or f"t{number}"
            name, turn = wanted, 2
            while name in used:
                name, turn = f"{wanted}-{turn}", turn + 1
            used.add(name)
            self._ids.append(name)

    def task(self, number: int) -> Task:
        """One task of the plan."""
        draft, name = self._drafts[number], self._ids[number]
        return Task(
            id=name,
            agent=self._agent(draft, name),
            instructions=draft.instructions.strip()[:_LONGEST_INSTRUCTIONS] or _ANY_PART,
            needs=self._needs(draft, name),
        )

    def _agent(self, draft: DraftTask, name: str) -> str:
        wanted = _line(draft.agent)
        nearest = nearest_agent(wanted, draft.instructions, self._agents)
        if wanted in self._agents or nearest is None:
            return wanted
        if _plain(nearest) != _plain(wanted):
            self.notes.append(f"task {name!r} was for {wanted!r}, whom nobody knows; {nearest!r} does it")
        return nearest

    def _needs(self, draft: DraftTask, name: str) -> list[str]:
        found: list[str] = []
        for need in map(_line, draft.needs):
            meant = self._meant(need)
            if meant is None or meant == name:
                what = "no task" if meant is None else "itself"
                self.notes.append(f"task {name!r} needed {need!r}, which is {what}: dropped")
            elif meant not in found:
                found.append(meant)
        return found

    def _meant(self, need: str) -> str | None:
        """The task that is meant by a name: a new one, one that is done, or an agent's only one."""
        pairs = list(zip(self._drafts, self._ids, strict=True))
        named = [known for draft, known in pairs if _line(draft.id) == need]
        if named:
            return named[-1]
        by_agent = [known for draft, known in pairs if _line(draft.agent) == need]
        return need if need in self._done else by_agent[0] if len(by_agent) == 1 else None


def _line(text: str) -> str:
    return " ".join(text.split())


def _first(said: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((said[name] for name in names if said.get(name) not in (None, "")), None)


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _names_in(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        value = re.split(r"[,;\s]+and\s+|[,;]", value)
    listed = value if isinstance(value, (list, tuple)) else [value]
    names = [_text(item.get("id") if isinstance(item, Mapping) else item).strip() for item in listed]
    return [name for name in names if name and name.casefold() not in ("none", "null", "n/a", "[]", "-")]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _words(text: str) -> set[str]:
    return {word.casefold().removesuffix("s") for word in _WORD.findall(text)}
