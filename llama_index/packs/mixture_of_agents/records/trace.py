"""The trace of a run, of a mixture or of a crew: what was done, and how it ended, a line of JSON for each.

Lines are written as things happen, so a killed run leaves a readable trace. The event loop only hands them
over; a thread puts them into words and writes. What cannot be written costs a warning, never the run.
`traces.schema` and `crew_schema` say what the lines hold. It knows nothing of how a mixture is run.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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
from llama_index.packs.mixture_of_agents.records.traces.lines import Appender
from llama_index.packs.mixture_of_agents.records.traces.redaction import Redact, Redaction
from llama_index.packs.mixture_of_agents.records.traces.writing import Pen, RunWriter
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

FOLDER = "logs/moa"
_DISTRIBUTIONS = ("llama-index-packs-mixture-of-agents", "llama-index-core", "llama-index-workflows")

_logger = logging.getLogger(__name__)


class Trace:
    """Writes down each run of the mixture or crew it is given to: `MixtureOfAgentsPack(..., trace=Trace())`.

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
        return RunTrace(start, self.pen(start.run_id))

    def pen(self, run_id: str) -> Pen:
        """What a run that begins now writes with, of a mixture or of a crew."""
        now = self._clock()
        path = self.path or self.folder / _file_name(now, run_id)
        # Absolute, so that a process that moves elsewhere during the run leaves it in one piece.
        writer = RunWriter(path.absolute(), run_id, self._redaction, self._warn)
        return Pen(writer, self._appender, self._clock, now)

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


class RunTrace:
    """Watches one run (`policies.RunWatch`) and hands what happens to the thread that writes.

    Args:
        start: The run.
        pen: Writes it down.
    """

    def __init__(self, start: RunStart, pen: Pen) -> None:
        self._pen = pen
        mixture = start.mixture
        pen.begin(lambda redaction: started(mixture, packages(), redaction), start.messages)

    @property
    def path(self) -> Path:
        """The file it is written to."""
        return self._pen.path

    def asks(self, call: Call) -> None:
        """A call is about to be placed."""
        self._pen.put(lambda _: asked(call), call.messages)

    def happened(self, event: ProgressEvent) -> None:
        """A retry, an agreement, a gate's decision; what else the run says is in the calls."""
        if event.kind == "retry":
            self._pen.put(lambda redaction: retried(event, redaction))
        elif event.kind == "agreed":
            self._pen.put(lambda redaction: agreed(event, redaction))
        elif event.routing is not None:
            routing = event.routing
            self._pen.put(lambda redaction: routed(routing, redaction))

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """A call's final outcome."""
        self._pen.put(lambda redaction: outcome_of(call, record, usage, source, redaction))

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """The run is over; its lines are on disk before the caller has the answer."""
        self._pen.put(lambda redaction: ended(outcome, redaction))
        self._pen.drain()


@lru_cache(maxsize=1)
def packages() -> dict[str, str]:
    """What runs here run on, by name."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a copy of the sources, as download-llamapack makes
            found[name] = "not installed"
    return found
