"""What a run looks like from outside: who thinks, who answered, who is missing; and the words for it.

Pure: events and the time go in, a picture comes out. It knows neither terminals nor how a run is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse

State = Literal["thinking", "waiting", "answered", "missing"]


@dataclass(frozen=True)
class Row:
    """One model that was asked.

    Attributes:
        name: Whose row it is.
        state: "waiting" is the pause before another try.
        since: When it was asked, in the clock of `updated`.
        seconds: How long it took, once that is known.
        tokens: What it wrote, where it said so.
        note: First words of its answer; or why it waits or is missing.
    """

    name: str
    state: State
    since: float
    seconds: float | None = None
    tokens: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Stage:
    """A stage of the preparations before a run.

    Attributes:
        title: What is done.
        since: When it began, in the view's clock.
        detail: How far it has come.
        is_done: Whether it is over.
    """

    title: str
    since: float
    detail: str = ""
    is_done: bool = False

    def at(self, detail: str) -> Stage:
        """The same, further on."""
        return replace(self, detail=detail)

    def done(self) -> Stage:
        """The same, over."""
        return replace(self, is_done=True)


@dataclass(frozen=True)
class Board:
    """A layer in progress: a round of proposers, or the synthesis.

    Attributes:
        layer: Its number, from 1; 0 before anything began.
        rounds: How many rounds of proposers there are.
        rows: Who was asked, in the order of asking.
    """

    rounds: int
    layer: int = 0
    rows: tuple[Row, ...] = ()

    @property
    def is_synthesis(self) -> bool:
        """Whether the answer is being written."""
        return self.layer > self.rounds

    @property
    def title(self) -> str:
        """What is going on."""
        if self.is_synthesis:
            return "Synthesis: one answer from all of these" if self.rounds else "Answer"
        task = "each answers alone" if self.layer == 1 else "each has read them all and answers again"
        return f"Round {self.layer} of {self.rounds}: {task}"


def updated(board: Board, event: ProgressEvent, now: float, text: str = "") -> Board:
    """The board after an event.

    Args:
        board: The board before it.
        event: What happened.
        now: Monotonic seconds.
        text: The answer, where someone answered and it is known.
    """
    if event.layer != board.layer:
        board = replace(board, layer=event.layer, rows=())
    if event.kind == "round":
        return board
    if event.kind in ("asked", "synthesis"):
        return replace(board, rows=(*board.rows, Row(event.proposer, "thinking", now)))
    return replace(board, rows=_with_event(board.rows, event, now, text))


def _with_event(rows: Sequence[Row], event: ProgressEvent, now: float, text: str) -> tuple[Row, ...]:
    """The rows, with the one changed that is about this proposer and still open."""
    at = next((i for i, row in enumerate(rows) if row.name == event.proposer and row.seconds is None), None)
    if at is None:
        return tuple(rows)
    return (*rows[:at], _changed(rows[at], event, now, text), *rows[at + 1 :])


def _changed(row: Row, event: ProgressEvent, now: float, text: str) -> Row:
    if event.kind == "answered":
        tokens = event.usage.completion_tokens
        return replace(row, state="answered", seconds=event.seconds, tokens=tokens, note=opening(text))
    if event.kind == "missing":
        return replace(row, state="missing", seconds=now - row.since, note=printable(event.reason))
    again = f"tries again after {event.seconds:.1f} s: {event.reason}"
    return replace(row, state="waiting", note=printable(again))


def line(event: ProgressEvent, board: Board) -> str:
    """An event in one line of plain text.

    Args:
        event: What happened.
        board: The board after it.
    """
    if event.kind == "round":
        return board.title
    if event.kind == "synthesis":
        return f"{board.title} ({event.proposer} writes)" if len(board.rows) == 1 else _stands_in(event)
    if event.kind == "asked":
        return f"  {event.proposer} is thinking"
    row = next((row for row in reversed(board.rows) if row.name == event.proposer), None)
    return f"  {event.proposer} {_outcome(row) if row else event.kind}"


def _stands_in(event: ProgressEvent) -> str:
    return f"  {event.proposer} stands in and starts the answer over"


def _outcome(row: Row) -> str:
    if row.state == "waiting":
        return row.note
    if row.state == "missing":
        return f"is missing: {row.note}"
    tokens = f", {count(row.tokens, 'token')}" if row.tokens is not None else ""
    said = f": {row.note}" if row.note else ""
    return f"answered in {row.seconds or 0.0:.1f} s{tokens}{said}"


def summary(response: MixtureResponse, calls: int) -> str:
    """What a run took, in one line.

    Args:
        response: What came out.
        calls: How many calls went out.
    """
    read, written = response.usage.prompt_tokens, response.usage.completion_tokens
    known = read is not None and written is not None
    tokens = f"{read:,} tokens read, {written:,} written" if known else "tokens not reported by every model"
    gone = f"{len(response.missing)} missing, degraded" if response.degraded else "nobody missing"
    return " · ".join((f"{response.latency_seconds:.1f} s", count(calls, "call"), tokens, gone))


def degraded_note(missing: Sequence[Missing]) -> str:
    """Why an answer is less than was asked for; empty when it is not."""
    gone = "; ".join(printable(str(one)) for one in missing)
    return f"The answer is degraded. Missing: {gone}" if missing else ""


def count(number: int, thing: str) -> str:
    """A number of things, in words: "1 call", "1,200 tokens"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def dollars(cost: float | None) -> str:
    """An amount of money in words; what is unknown is never nothing."""
    if cost is None:
        return "price not known"
    if cost == 0 or cost >= 1:
        return f"${cost:,.2f}"
    return f"${cost:.4f}" if cost >= 0.001 else f"${cost:.2g}"


def opening(text: str, limit: int = 160) -> str:
    """The first words of an answer, on one line."""
    words = " ".join(printable(as_reference(text)).split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def printable(text: str) -> str:
    """Text without control characters: a model's words must not move the cursor or rename a window."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))
