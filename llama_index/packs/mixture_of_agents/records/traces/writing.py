"""From what a run has to say to lines in its file, in the thread that writes.

The event loop only hands things over. What cannot be written costs a warning, never the run. It knows the
lines' head, and of their kinds only which of them speak of messages.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from llama_index.packs.mixture_of_agents.records.traces.kinds import Entry
from llama_index.packs.mixture_of_agents.records.traces.lines import Appender, append
from llama_index.packs.mixture_of_agents.records.traces.redaction import Redaction, cleaned
from llama_index.packs.mixture_of_agents.records.traces.schema import SCHEMA, MessageKept

_PATIENCE = 2.0
"""Seconds an ending run waits for its last lines to be on disk; after that they follow by themselves."""
_MOST_RECENT = 32
_NUMBERS = {"layer", "index", "turn", "usage", "sampling", "latency_seconds", "messages", "question"}
"""Fields of lines that nobody can have written a key into; most of a line is in them."""
_BEGINNINGS = ("run_started", "crew_started")
_WITH_MESSAGES = {**dict.fromkeys(_BEGINNINGS, "question"), "call_asked": "messages"}


class RunWriter:
    """Puts the events of one run into lines, and appends them to its file. It lives in the writing thread.

    Args:
        path: The file; its folder is made.
        run_id: The run.
        redaction: What is left out.
        on_failure: Told the first time the file cannot be written; nothing is written after that.
    """

    def __init__(
        self, path: Path, run_id: str, redaction: Redaction, on_failure: Callable[[Path, OSError], None]
    ) -> None:
        self.path = path
        self._run_id, self._redaction, self._on_failure = run_id, redaction, on_failure
        self._kept: set[str] = set()
        self._recent: OrderedDict[int, tuple[ChatMessage, str]] = OrderedDict()
        self._failed = False

    def write(self, now: float, make: Callable[[Redaction], Entry], messages: Sequence[ChatMessage]) -> None:
        """Write an event, and before it those messages it speaks of that are not in the file yet."""
        if self._failed:
            return
        ids, new = self._ids(messages)
        entry = make(self._redaction)
        field = _WITH_MESSAGES.get(entry.kind)
        if field is not None:
            entry = entry.model_copy(update={field: ids})
        try:
            if entry.kind in _BEGINNINGS:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            append(self.path, "".join(self._line(now, each) for each in (*new, entry)))
        except OSError as error:
            self._failed = True
            self._on_failure(self.path, error)

    def _line(self, now: float, entry: Entry) -> str:
        moment = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="microseconds")
        head = {"schema": SCHEMA, "run": self._run_id, "time": moment, "kind": entry.kind}
        body = _plain(entry)
        if not isinstance(entry, MessageKept):  # messages are clean already
            body.update(cleaned({name: held for name, held in body.items() if name not in _NUMBERS}))
        return json.dumps({**head, **body}) + "\n"

    def _ids(self, messages: Sequence[ChatMessage]) -> tuple[list[str], list[MessageKept]]:
        new: list[MessageKept] = []
        return [self._id(message, new) for message in messages], new

    def _id(self, message: ChatMessage, new: list[MessageKept]) -> str:
        """The message's id; it is added to the new ones where it is not in the file yet."""
        seen = self._recent.get(id(message))
        if seen is not None:  # one object stands in the calls of a whole round
            return seen[1]
        kept = self._redaction.message(_plain(message, without_none=True))
        name = sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
        if name not in self._kept:
            self._kept.add(name)
            new.append(MessageKept(id=name, message=kept))
        self._recent[id(message)] = message, name  # held, so that no other object gets its id
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
        return name


def _plain(record: BaseModel, without_none: bool = False) -> dict[str, Any]:
    try:
        return record.model_dump(mode="json", exclude_none=without_none)
    except (PydanticSerializationError, UnicodeDecodeError):  # an object of the caller's own is in it
        return record.model_dump(exclude_none=without_none)


class Pen:
    """What a run writes with: it hands over to the thread that writes, with the time.

    Args:
        writer: Writes it down.
        appender: Runs the writer.
        clock: Seconds since 1970.
        began: When the run did, by that clock.
    """

    def __init__(
        self, writer: RunWriter, appender: Appender, clock: Callable[[], float], began: float
    ) -> None:
        self._writer, self._appender, self._clock, self._began = writer, appender, clock, began

    @property
    def path(self) -> Path:
        """The file it writes to."""
        return self._writer.path

    def put(self, make: Callable[[Redaction], Entry], messages: Sequence[ChatMessage] = ()) -> None:
        """Have something written that happens now.

        Args:
            make: Makes the line, in the thread that writes.
            messages: What it speaks of.
        """
        self._put(self._clock(), make, messages)

    def begin(self, make: Callable[[Redaction], Entry], messages: Sequence[ChatMessage]) -> None:
        """Have its first line written; the arguments are `put`'s."""
        self._put(self._began, make, messages)

    def _put(
        self, moment: float, make: Callable[[Redaction], Entry], messages: Sequence[ChatMessage]
    ) -> None:
        writer = self._writer
        self._appender.put(lambda: writer.write(moment, make, messages))

    def drain(self) -> None:
        """Have all that was put on disk, if that can be done soon."""
        self._appender.drain(_PATIENCE)
