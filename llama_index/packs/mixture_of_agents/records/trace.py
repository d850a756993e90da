"""The trace of a run: what was asked, what came back, how it ended, one line of JSON for each.

Lines are written as things happen, so a killed run leaves a readable trace. The event loop only hands them
over; a thread puts them into words and writes. What cannot be written costs a warning, never the run.
`traces.schema` says what the lines hold. It knows nothing of how a mixture is run.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from llama_index.packs.mixture_of_agents.checks import path as checked_path
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.traces.entries import (
    agreed,
    asked,
    ended,
    outcome_of,
    retried,
    routed,
    started,
)
from llama_index.packs.mixture_of_agents.records.traces.lines import Appender, append
from llama_index.packs.mixture_of_agents.records.traces.redaction import Redact, Redaction, cleaned
from llama_index.packs.mixture_of_agents.records.traces.schema import SCHEMA, Entry, MessageKept
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

FOLDER = "logs/moa"
_PATIENCE = 2.0
"""Seconds an ending run waits for its last lines to be on disk; after that they follow by themselves."""
_MOST_RECENT = 32
_NUMBERS = {"layer", "index", "turn", "usage", "sampling", "latency_seconds", "messages", "question"}
"""Fields of lines that nobody can have written a key into; most of a line is in them."""
_DISTRIBUTIONS = ("llama-index-packs-mixture-of-agents", "llama-index-core", "llama-index-workflows")

_logger = logging.getLogger(__name__)


class Trace:
    """Writes down each run of the mixtures it is given to: `MixtureOfAgentsPack(..., trace=Trace())`.

    Args:
        path: A file to append every run to; None for a file of its own for each run, in `folder`.
        folder: Where those files go; it is made where there is none. They are named by time and run.
        redact: What is left out of texts and messages, as `Redaction` describes it. Keys are never written.
        clock: Seconds since 1970.

    Raises:
        ConfigurationError: Something cannot work.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        folder: str | os.PathLike[str] = FOLDER,
        redact: Redact = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = None if path is None else checked_path("path", path)
        self.folder = checked_path("folder", folder)
        if self.path is not None and self.path.is_dir():
            raise ConfigurationError(
                f"The trace {self.path} is a folder. Pass the path of a file, or folder={str(self.path)!r} "
                "for a file of its own for each run."
            )
        self._redaction = Redaction(redact)
        self._clock = clock
        self._appender = Appender()
        self._warned = False

    def for_run(self, start: RunStart) -> RunTrace:
        """Begin the trace of a run."""
        now = self._clock()
        path = self.path or self.folder / _file_name(now, start.run_id)
        # Absolute, so that a process that moves elsewhere during the run leaves it in one piece.
        writer = RunWriter(path.absolute(), start.run_id, self._redaction, self._warn)
        return RunTrace(start, writer, self._appender, self._clock, now)

    def _warn(self, path: Path, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        _logger.warning(
            "The trace %s cannot be written (%s); runs go on without one. Make room and see that its folder "
            "may be written to, or choose another.",
            path,
            error,
        )


def trace_from(given: Any) -> Trace | None:
    """What a caller means by `trace`: True for files in the usual folder, a path, a Trace, or nothing.

    Raises:
        ConfigurationError: It is something else.
    """
    if given is None or given is False:
        return None
    if given is True:
        return Trace()
    return given if isinstance(given, Trace) else Trace(checked_path("trace", given))


def _file_name(now: float, run_id: str) -> str:
    moment = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{moment}-{re.sub(r'[^A-Za-z0-9_-]', '_', run_id)[:64]}.jsonl"


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
        field = {"run_started": "question", "call_asked": "messages"}.get(entry.kind)
        if field is not None:
            entry = entry.model_copy(update={field: ids})
        try:
            if entry.kind == "run_started":
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


class RunTrace:
    """Watches one run (`policies.RunWatch`) and hands what happens to the thread that writes.

    Args:
        start: The run.
        writer: Writes it down.
        appender: Runs the writer.
        clock: Seconds since 1970.
        now: When it began, by that clock.
    """

    def __init__(
        self, start: RunStart, writer: RunWriter, appender: Appender, clock: Callable[[], float], now: float
    ) -> None:
        self._writer, self._appender, self._clock = writer, appender, clock
        mixture = start.mixture
        self._put(lambda redaction: started(mixture, _packages(), redaction), start.messages, now)

    @property
    def path(self) -> Path:
        """The file it is written to."""
        return self._writer.path

    def asks(self, call: Call) -> None:
        """A call is about to be placed."""
        self._put(lambda _: asked(call), call.messages)

    def happened(self, event: ProgressEvent) -> None:
        """A retry, an agreement, a gate's decision; what else the run says is in the calls."""
        if event.kind == "retry":
            self._put(lambda redaction: retried(event, redaction))
        elif event.kind == "agreed":
            self._put(lambda redaction: agreed(event, redaction))
        elif event.routing is not None:
            routing = event.routing
            self._put(lambda redaction: routed(routing, redaction))

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """A call's final outcome."""
        self._put(lambda redaction: outcome_of(call, record, usage, source, redaction))

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """The run is over; its lines are on disk before the caller has the answer."""
        self._put(lambda redaction: ended(outcome, redaction))
        self._appender.drain(_PATIENCE)

    def _put(
        self,
        make: Callable[[Redaction], Entry],
        messages: Sequence[ChatMessage] = (),
        now: float | None = None,
    ) -> None:
        moment, writer = self._clock() if now is None else now, self._writer
        self._appender.put(lambda: writer.write(moment, make, messages))


@lru_cache(maxsize=1)
def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a copy of the sources, as download-llamapack makes
            found[name] = "not installed"
    return found
