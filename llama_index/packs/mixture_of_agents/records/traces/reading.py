"""Traces read back: runs, with their calls, whatever order their lines came in.

A line that was cut, because its process was killed, is reported and left out. What is no trace, or is of a
newer schema, is refused. It writes nothing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from pydantic import ValidationError

from llama_index.packs.mixture_of_agents.checks import shortened
from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.records.traces.crew_records import CrewRecord
from llama_index.packs.mixture_of_agents.records.traces.crew_schema import CrewDid, CrewEnded, CrewStarted
from llama_index.packs.mixture_of_agents.records.traces.kinds import ENTRIES, KINDS, Entry
from llama_index.packs.mixture_of_agents.records.traces.run_records import CallRecord, RunRecord
from llama_index.packs.mixture_of_agents.records.traces.schema import (
    SCHEMA,
    CallAnswered,
    CallAsked,
    CallMissing,
    CallRetried,
    GateRouted,
    MessageKept,
    Outcome,
    RoundAgreed,
    RunEnded,
    RunStarted,
)
from llama_index.packs.mixture_of_agents.results import Routing

_logger = logging.getLogger(__name__)

_HEAD = ("schema", "run", "time", "kind")
_MOST_DAMAGED_AT_FIRST = 10


@dataclass(frozen=True)
class TraceFile:
    """What is in a file.

    Attributes:
        runs: Of mixtures, in the order they began.
        problems: What could not be read, in words; the runs may lack it.
        crews: Runs of crews, likewise.
    """

    runs: list[RunRecord]
    problems: list[str]
    crews: list[CrewRecord] = field(default_factory=list)


def read_trace(path: str | os.PathLike[str]) -> list[RunRecord]:
    """The runs of mixtures in a trace, in the order they began; what could not be read is said in the log.

    Args:
        path: A file, or a folder of files (*.jsonl).

    Raises:
        TraceError: It cannot be read, is no trace, or is of a newer schema; of a folder, if no file can be.
    """
    return _with_problems_logged(path).runs


def read_crews(path: str | os.PathLike[str]) -> list[CrewRecord]:
    """The runs of crews in a trace; the argument and the error are `read_trace`'s."""
    return _with_problems_logged(path).crews


def _with_problems_logged(path: str | os.PathLike[str]) -> TraceFile:
    found = open_trace(path)
    for problem in found.problems:
        _logger.warning("%s", problem)
    return found


def open_trace(path: str | os.PathLike[str]) -> TraceFile:
    """The runs of a trace, and what could not be read of it; the arguments are `read_trace`'s.

    Raises:
        TraceError: It cannot be read, is no trace, or is of a newer schema.
    """
    place = Path(path)
    read = _read_folder(place) if place.is_dir() else [_read_file(place)]
    runs = sorted((run for found in read for run in found.runs), key=lambda run: run.started_at)
    crews = sorted((run for found in read for run in found.crews), key=lambda run: run.started_at)
    return TraceFile(runs, [problem for found in read for problem in found.problems], crews)


def _read_folder(folder: Path) -> list[TraceFile]:
    """Every file that can be read; one that cannot is a problem of its own, not of the others."""
    read: list[TraceFile] = []
    faults: list[TraceError] = []
    for path in _files_in(folder):
        try:
            read.append(_read_file(path))
        except TraceError as error:
            faults.append(error)
    if not read:
        raise faults[0]
    return [*read, *(TraceFile([], [str(fault)]) for fault in faults)]


def _files_in(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.jsonl"))
    if not found:
        raise TraceError(
            f"There are no traces (*.jsonl) in {folder}. Runs write them when asked to: trace=True in "
            "Python, and `moa ask` does by itself."
        )
    return found


def _read_file(path: Path) -> TraceFile:
    reading = _Reading(path)
    try:
        # Lines end in \n alone: a text may hold other ends of lines.
        with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    reading.take(number, line)
    except OSError as error:
        raise TraceError(f"The trace {path} cannot be read ({error}). See that the path is right.") from error
    return reading.result()


class _Reading:
    """A file, line by line; runs may stand in one another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs: list[RunRecord | CrewRecord] = []
        self._open: dict[str, _OpenRun] = {}
        self._lines = 0
        self._problems: list[str] = []

    def take(self, number: int, line: str) -> None:
        """Read the next line."""
        head = self._head(number, line)
        if head is None:
            return
        self._lines += 1
        if head["kind"] not in KINDS:  # of a later version that this schema can still be read of
            return
        try:
            entry = ENTRIES.validate_python({k: v for k, v in head.items() if k not in _HEAD[:3]})
            moment = _moment(head["time"])
        except (ValidationError, ValueError, TypeError) as error:
            raise self._refusal(number, f"its fields are wrong ({shortened(_fault(error))})") from error
        self._enter(number, str(head["run"]), moment, entry)

    def result(self) -> TraceFile:
        """What was read."""
        if not self._lines:
            raise TraceError(f"{self._path} is no trace: no line of it could be read. Pass another file.")
        runs = [run for run in self._runs if isinstance(run, RunRecord)]
        return TraceFile(runs, self._problems, [run for run in self._runs if isinstance(run, CrewRecord)])

    def _head(self, number: int, line: str) -> dict[str, Any] | None:
        try:
            head = json.loads(line)
        except (ValueError, RecursionError):
            self._problem(number, "was cut or damaged, and is left out")
            if not self._lines and number > _MOST_DAMAGED_AT_FIRST:
                raise self._refusal(number, "there is still no event") from None
            return None
        if not isinstance(head, dict) or not all(name in head for name in _HEAD):
            raise self._refusal(number, f"it lacks the fields {', '.join(_HEAD)}")
        schema = head["schema"]
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise self._refusal(number, "its schema is no version number")
        if schema > SCHEMA:
            raise TraceError(
                f"{self._path} is of trace schema {schema}, and this version reads up to {SCHEMA}. "
                "Run: pip install -U llama-index-packs-mixture-of-agents"
            )
        return head

    def _enter(self, number: int, run_id: str, moment: datetime, entry: Entry) -> None:
        opened = self._open.setdefault(run_id, _OpenRun(run_id, self._path))
        if isinstance(entry, (RunStarted, CrewStarted)):
            if opened.run is not None:  # the same run once more, from a checkpoint: what it knew stays
                opened = self._open[run_id] = _OpenRun(run_id, self._path, opened.messages)
            self._runs.append(opened.begin(moment, entry))
        elif not opened.take(moment, entry):
            self._problem(number, f"belongs to the run {run_id}, whose beginning is not there")

    def _problem(self, number: int, what: str) -> None:
        self._problems.append(f"{self._path}: line {number} {what}.")

    def _refusal(self, number: int, what: str) -> TraceError:
        return TraceError(
            f"{self._path} is no trace of this package: in line {number}, {what}. Pass a file that was "
            "written with trace=..., or by `moa`."
        )


class _OpenRun:
    """A run of which more lines may come."""

    def __init__(self, run_id: str, path: Path, messages: Mapping[str, ChatMessage] | None = None) -> None:
        self.run: RunRecord | CrewRecord | None = None
        self.messages: dict[str, ChatMessage] = dict(messages or {})
        self._run_id, self._path = run_id, path
        self._calls: dict[tuple[int, int, int], CallRecord] = {}

    def begin(self, moment: datetime, entry: RunStarted | CrewStarted) -> RunRecord | CrewRecord:
        """Its first line, but for messages."""
        asked = self._named(entry.question)
        if isinstance(entry, CrewStarted):
            self.run = CrewRecord(self._run_id, moment, entry, asked, path=self._path)
        else:
            self.run = RunRecord(self._run_id, moment, entry, asked, path=self._path)
        return self.run

    def take(self, moment: datetime, entry: Entry) -> bool:
        """Any other line; False for one that has no run."""
        if isinstance(entry, MessageKept):
            self.messages[entry.id] = _message(entry.message)
        elif isinstance(self.run, RunRecord):
            self._take_of_mixture(self.run, moment, entry)
        elif isinstance(self.run, CrewRecord):
            _take_of_crew(self.run, moment, entry)
        else:
            return False
        return True

    def _take_of_mixture(self, run: RunRecord, moment: datetime, entry: Entry) -> None:
        if isinstance(entry, RunEnded):
            run.ended, run.ended_at = entry, moment
        elif isinstance(entry, RoundAgreed):
            run.agreed = entry
        elif isinstance(entry, GateRouted):
            run.routed.append(Routing(**entry.model_dump(exclude={"kind"})))
        elif isinstance(entry, CallRetried):
            run.retries.append(entry)
        elif isinstance(entry, (CallAsked, CallAnswered, CallMissing)):
            self._take_call(run, entry)

    def _take_call(self, run: RunRecord, entry: CallAsked | Outcome) -> None:
        if isinstance(entry, CallAsked):
            call = CallRecord(entry, self._named(entry.messages))
            self._calls[entry.place] = call
            run.calls.append(call)
            return
        if entry.place not in self._calls:  # its question was on a line that was cut
            asked = CallAsked(**entry.model_dump(include={"layer", "index", "turn", "task", "proposer"}))
            self._take_call(run, asked)
        self._calls[entry.place].outcome = entry

    def _named(self, ids: Sequence[str]) -> list[ChatMessage]:
        # One that is lost makes the others useless: they would pass for another question.
        return [self.messages[name] for name in ids] if all(name in self.messages for name in ids) else []


def _take_of_crew(run: CrewRecord, moment: datetime, entry: Entry) -> None:
    if isinstance(entry, CrewDid):
        run.did.append(entry)
    elif isinstance(entry, CrewEnded) and run.ended is None:
        # Of a run that was taken up again and has ended, another part may end later.
        run.ended, run.ended_at = entry, moment


def _moment(written: str) -> datetime:
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        raise ValueError("time: it has no time zone")
    return moment


def _message(kept: dict[str, Any]) -> ChatMessage:
    try:
        return ChatMessage.model_validate(kept)
    except ValidationError:  # of a newer LlamaIndex, or redacted where it is not text
        return ChatMessage(role=MessageRole.USER, content=json.dumps(kept))


def _fault(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
