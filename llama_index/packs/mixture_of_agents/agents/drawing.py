"""Plans drawn: as a tree for a terminal, and as a Mermaid flowchart. It decides nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llama_index.packs.mixture_of_agents.agents.plans import Plan, Task

_LONGEST = 90
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")


def as_text(plan: Plan, marks: Mapping[str, str]) -> str:
    """A plan as a tree: each task stands once, below the last of those it needs.

    Args:
        plan: The plan.
        marks: What stands before a task, by its name.
    """
    below: dict[str, list[Task]] = {}
    for task in plan.tasks:
        below.setdefault(_parent(plan, task), []).append(task)
    lines = [f"Plan ({plan.source}, {len(plan.tasks)} tasks)"]
    lines += _branches(below, "", "", marks)
    levels = plan.levels()
    # A plan with a circle can be looked at, too: what hangs on no root comes last.
    rest = [task for task in plan.tasks if task.id not in levels]
    lines += [f"   (in a circle) {_head(task, marks)}: {_short(task.instructions)}" for task in rest]
    return "\n".join([*lines, *(f"  note: {_short(note, 300)}" for note in plan.notes)])


def _parent(plan: Plan, task: Task) -> str:
    order = {name: place for place, name in enumerate(plan.ids)}
    needs = [need for need in task.needs if need in order]
    return max(needs, key=lambda need: order[need], default="")


def _branches(
    below: Mapping[str, list[Task]], parent: str, indent: str, marks: Mapping[str, str]
) -> list[str]:
    lines, children = [], below.get(parent, [])
    for task in children:
        is_last = task is children[-1]
        more = f" (needs {', '.join(task.needs)})" if len(task.needs) > 1 else ""
        branch = "└─" if is_last else "├─"
        lines.append(f"{indent}{branch} {_head(task, marks)}{more}: {_short(task.instructions)}")
        lines += _branches(below, task.id, indent + ("   " if is_last else "│  "), marks)
    return lines


def _head(task: Task, marks: Mapping[str, str]) -> str:
    mark = f"[{marks[task.id]}] " if marks.get(task.id) else ""
    return f"{mark}{_short(task.id, 40)} {_short(task.agent, 60)}"


def _short(text: str, limit: int = _LONGEST) -> str:
    """A text on one line, without what could move a terminal's cursor."""
    line = " ".join(_NOT_PLAIN.sub(" ", text).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def as_mermaid(plan: Plan) -> str:
    """A plan as a Mermaid flowchart, from the request through the tasks to the answer."""
    places = {name: f"n{number}" for number, name in enumerate(plan.ids, 1)}
    needed = {need for task in plan.tasks for need in task.needs}
    lines = ["flowchart TD", '  request(["request"])']
    for task in plan.tasks:
        label = f"<b>{_escaped(task.id)}</b> {_escaped(task.agent)}<br/>{_escaped(_short(task.instructions))}"
        lines.append(f'  {places[task.id]}["{label}"]')
    lines.append('  answer(["answer"])')
    for task in plan.tasks:
        sources = [places[need] for need in task.needs if need in places] or ["request"]
        lines += [f"  {source} --> {places[task.id]}" for source in sources]
    lines += [f"  {places[name]} --> answer" for name in plan.ids if name not in needed]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """A text that can neither end a label nor be markup; Mermaid takes entities written so."""
    plain = " ".join(_NOT_PLAIN.sub(" ", text).split())
    return "".join(
        character if character.isalnum() or character in " .,:!?+/_-()" else f"#{ord(character)};"
        for character in plain
    )
