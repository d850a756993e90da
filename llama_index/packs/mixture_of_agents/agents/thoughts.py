"""What agents think, which comes word by word, gathered into pieces that are worth a line.

It knows events, and not who reads them.
"""

from __future__ import annotations

from collections.abc import Iterator

from workflows.events import Event

from llama_index.packs.mixture_of_agents.agents.events import CrewEvent, ReasonEvent

_LONGEST, _LONGEST_WAIT = 2_000, 1.0
"""Characters, and seconds, of a thought before a part of it is passed on."""


class Thoughts:
    """Passes a run's events on, in order, but for thoughts: these wait until their task goes on."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[ReasonEvent]] = {}

    def after(self, event: Event) -> Iterator[Event]:
        """What is to be told now that this has happened."""
        if not isinstance(event, ReasonEvent):
            yield from self._whole(_task_of(event))
            yield event
            return
        pieces = self._pieces.setdefault(event.task, [])
        pieces.append(event)
        is_late = event.seconds - pieces[0].seconds > _LONGEST_WAIT
        if is_late or sum(len(piece.text) for piece in pieces) > _LONGEST:
            yield from self._whole(event.task)

    def rest(self) -> Iterator[CrewEvent]:
        """Thoughts that are left at a run's end."""
        for task in list(self._pieces):
            yield from self._whole(task)

    def _whole(self, task: str) -> Iterator[CrewEvent]:
        pieces = self._pieces.pop(task, [])
        if pieces:
            yield pieces[0].model_copy(update={"text": "".join(piece.text for piece in pieces)})


def _task_of(event: Event) -> str:
    record = getattr(event, "result", None) or getattr(event, "missing", None) or event
    return str(getattr(record, "task", ""))
