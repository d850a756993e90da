"""What a crew does, as lines for a terminal: one for each event that is worth one. It watches nothing."""

from __future__ import annotations

import re
from typing import Any

from workflows.events import Event

from llama_index.packs.mixture_of_agents.agents.events import (
    ActEvent,
    AggregateEvent,
    AnswerEvent,
    ObserveEvent,
    PerceiveEvent,
    PlanEvent,
    ReasonEvent,
    RememberEvent,
    ResultEvent,
    TaskEvent,
)
from llama_index.packs.mixture_of_agents.agents.results import Observation
from llama_index.packs.mixture_of_agents.agents.thoughts import Thoughts

_LONGEST = 150
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]+")


class Narrator:
    """Tells one run, event by event; an agent's thoughts, which come word by word, a line each."""

    def __init__(self) -> None:
        self._thoughts = Thoughts()

    def lines(self, event: Event) -> list[str]:
        """What is to be said now that this has happened; empty where that is nothing."""
        return [line for each in self._thoughts.after(event) if (line := told(each))]


def told(event: Event) -> str:
    """An event in words; empty where it is not worth a line.

    Texts of tools, agents and memories are cut to a line and rid of what could move a cursor.
    """
    if isinstance(event, PlanEvent):
        # A plan that somebody changed is told once more, as it is carried out.
        return planned(event) if event.state == "made" or event.plan.source == "edited" else ""
    words = _of_end(event) or _of_task(event) or _of_agent(event)
    if not words:
        return ""
    seconds = getattr(event, "seconds", 0.0)
    return f"{seconds:7.2f} s  {words}"


def planned(event: PlanEvent) -> str:
    """A plan in words, drawn, whether or not it is news."""
    drawn = event.plan.as_text().replace("\n", "\n           ")
    faults = f" (sent back: {_line('; '.join(event.faults))})" if event.faults else ""
    return f"{event.seconds:7.2f} s  plan       {event.state}{faults}\n           {drawn}"


def _of_end(event: Event) -> str:
    if isinstance(event, AggregateEvent):
        lacks = f", without {', '.join(event.missing)}" if event.missing else ""
        return f"aggregate  {event.agent} reads {', '.join(event.results) or 'nothing'}{lacks}"
    if isinstance(event, AnswerEvent):
        return f"answer     {_line(event.text)}"
    return ""


def _of_task(event: Event) -> str:
    if isinstance(event, TaskEvent):
        return f"task       {event.task.id} {event.task.agent}: {_line(event.task.instructions)}"
    if isinstance(event, ResultEvent) and event.result is not None:
        one = event.result
        cut = f" ({_line(one.cut)})" if one.cut else ""
        return f"result     {one.task} {one.agent} in {one.latency_seconds:.1f} s{cut}: {_line(one.text)}"
    if isinstance(event, ResultEvent) and event.missing is not None:
        return (
            f"result     {event.missing.task} {event.missing.agent} has none: {_line(event.missing.reason)}"
        )
    return ""


def _of_agent(event: Event) -> str:
    who = f"{getattr(event, 'task', '')} {getattr(event, 'agent', '')}"
    if isinstance(event, PerceiveEvent):
        given = [*(f"the result of {name}" for name in event.results)]
        given += [f"{event.notes} notes"] if event.notes else []
        return f"perceive   {who} is given {', '.join(given) or 'its task alone'}"
    if isinstance(event, RememberEvent):
        what = event.failed or f"{len(event.texts)} texts"
        return f"remember   {who} {event.kind} {_line(what)}" if event.texts or event.failed else ""
    if isinstance(event, ActEvent):
        return f"act        {who} uses {event.tool}({_arguments(event.arguments)})"
    if isinstance(event, ObserveEvent):
        return f"observe    {who} {_observed(event.observation)}{_warned(len(event.warnings))}"
    if isinstance(event, ReasonEvent):
        return f"reason     {who}: {_line(event.text)}"
    return ""


def _observed(observation: Observation) -> str:
    failed = " failed" if observation.is_error else ""
    return f"{observation.tool}{failed}: {_line(observation.output)}"


def _warned(count: int) -> str:
    return f" [{count} suspicious]" if count else ""


def _arguments(arguments: dict[str, Any]) -> str:
    return _line(", ".join(f"{name}={value!r}" for name, value in arguments.items()))


def _line(text: str) -> str:
    line = " ".join(_NOT_PLAIN.sub(" ", text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
