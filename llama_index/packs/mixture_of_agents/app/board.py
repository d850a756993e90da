"""What a run looks like from outside: who thinks, who answered, who is missing; and the words for it.

Pure: events and the time go in, a picture comes out. It knows neither terminals nor how a run is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from llama_index.packs.mixture_of_agents.answers.ranking import Choice
from llama_index.packs.mixture_of_agents.answers.shapes import shape_in_text
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.results import MixtureResponse, Task
from llama_index.packs.mixture_of_agents.seats.casting import RoleList

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.agents.results import CrewResponse

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
    """A part of a run in progress: roles being written, a round, its condensing, the finish.

    Attributes:
        layer: Its number, from 1; 0 before anything began.
        rounds: How many rounds of proposers there are.
        rows: Who was asked, in the order of asking.
        task: What they are asked for.
        chosen: Whose proposal is the answer, where none is written.
        agreement: How far the proposals agree, where that ends the rounds.
        is_condensed: Rounds read one text made of the proposals before.
        gate: What the gate said of this round, in order.
    """

    rounds: int
    layer: int = 0
    rows: tuple[Row, ...] = ()
    task: Task = "propose"
    chosen: str = ""
    agreement: str = ""
    is_condensed: bool = False
    gate: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[int, Task, bool]:
        """Which part of the run it is."""
        return self.layer, self.task, bool(self.chosen)

    @property
    def is_finish(self) -> bool:
        """Whether the answer is being written or chosen."""
        return self.layer > self.rounds

    @property
    def title(self) -> str:
        """What is going on."""
        if self.chosen:
            return f"Answer: what {self.chosen} said, word for word"
        if self.is_finish:
            return self._finish_title
        if self.task == "roles":
            return f"Roles for this question, before round {self.layer}"
        if self.task == "condense":
            return f"Round {self.layer} of {self.rounds}, condensed into one text"
        return f"Round {self.layer} of {self.rounds}: {self._round_task}"

    @property
    def _finish_title(self) -> str:
        if self.task == "rank":
            return "Ranking: which of these is the answer"
        return "Synthesis: one answer from all of these" if self.rounds else "Answer"

    @property
    def _round_task(self) -> str:
        if self.layer == 1:
            return "each answers alone"
        if self.is_condensed:
            return "each has read what is common to them and answers again"
        return "each has read them all and answers again"


def updated(board: Board, event: ProgressEvent, now: float, text: str = "") -> Board:
    """The board after an event.

    Args:
        board: The board before it.
        event: What happened.
        now: Monotonic seconds.
        text: The answer, where someone answered and it is known.
    """
    if event.kind == "round":
        return _opened(board, event)
    if event.kind == "agreed":
        return replace(board, agreement=printable(event.reason))
    if event.kind == "routed":
        opened = board if (event.layer, event.task) == (board.layer, board.task) else _opened(board, event)
        return replace(opened, gate=(*opened.gate, _gate_note(event)))
    if event.kind == "synthesis" and event.task == "propose":
        # Nobody is asked for the answer: it is there, among the proposals.
        return replace(_opened(board, event), rows=(), chosen=event.proposer)
    if event.kind in ("asked", "synthesis"):
        opened = board if (event.layer, event.task) == (board.layer, board.task) else _opened(board, event)
        return replace(opened, rows=(*opened.rows, Row(event.proposer, "thinking", now)))
    if (event.layer, event.task) != (board.layer, board.task):
        return board  # whom it is about has left the picture
    return replace(board, rows=_with_event(board.rows, event, now, text))


def _opened(board: Board, event: ProgressEvent) -> Board:
    """A new part of the run, as the event says."""
    is_condensed = board.is_condensed or event.task == "condense"
    return Board(board.rounds, event.layer, task=event.task, is_condensed=is_condensed)


def _with_event(rows: Sequence[Row], event: ProgressEvent, now: float, text: str) -> tuple[Row, ...]:
    """The rows, with the one changed that is about this proposer and still open."""
    at = next((i for i, row in enumerate(rows) if row.name == event.proposer and row.seconds is None), None)
    if at is None:
        return tuple(rows)
    return (*rows[:at], _changed(rows[at], event, now, text), *rows[at + 1 :])


def _changed(row: Row, event: ProgressEvent, now: float, text: str) -> Row:
    if event.kind == "answered":
        tokens, note = event.usage.completion_tokens, gist(event.task, text)
        return replace(row, state="answered", seconds=event.seconds, tokens=tokens, note=note)
    if event.kind == "missing":
        return replace(row, state="missing", seconds=now - row.since, note=printable(event.reason))
    if event.kind in ("act", "observe"):
        return replace(row, note=printable(_tool_note(event)))
    again = f"tries again after {event.seconds:.1f} s: {event.reason}"
    return replace(row, state="waiting", note=printable(again))


def _tool_note(event: ProgressEvent) -> str:
    """What an agent does with a tool, in a line."""
    if event.kind == "act":
        return f"uses {event.tool}"
    return f"{event.tool} failed: {event.reason}" if event.reason else f"has what {event.tool} found"


def lines(event: ProgressEvent, before: Board, after: Board) -> list[str]:
    """An event in lines of plain text; a part of the run begins with its title.

    Args:
        event: What happened.
        before: The board before it.
        after: The board after it.
    """
    if event.kind == "round":
        return []  # roles may come first
    if event.kind == "agreed":
        return [f"  {agreement_note(after)}"]
    if event.kind == "routed":
        return [*([after.title] if len(after.gate) == 1 else []), f"  {after.gate[-1]}"]
    if after.chosen:
        return [after.title]
    is_first = len(after.rows) == 1 and event.kind in ("asked", "synthesis")
    title = [after.title] if is_first and before.rows is not after.rows and not after.gate else []
    return [*title, *_said(event, after, is_first)]


def _gate_note(event: ProgressEvent) -> str:
    """Whom the gate asks, and why."""
    said = f"The gate asks {event.proposer or 'nobody more'}: {event.reason}"
    return " ".join(printable(said).split())


def agreement_note(board: Board) -> str:
    """That proposals agree, and what comes of it."""
    left = board.rounds - board.layer
    return f"They agree: {board.agreement}" + (f"; {count(left, 'round')} left out" if left else "")


def _said(event: ProgressEvent, board: Board, is_first: bool) -> list[str]:
    name = event.proposer
    if event.kind == "synthesis" and not is_first and any(row.state == "missing" for row in board.rows):
        return [f"  {name} stands in and starts the answer over"]
    if event.kind in ("asked", "synthesis"):
        return [f"  {name} {_DOING.get(event.task, 'is thinking')}"]
    if event.kind in ("act", "observe"):
        return [f"  {name} {_tool_note(event)}"]
    row = next((row for row in reversed(board.rows) if row.name == name), None)
    return [f"  {name} {_outcome(row) if row else event.kind}"]


_DOING = {
    "roles": "writes roles",
    "condense": "reads them and writes one text",
    "rank": "compares them",
    "synthesize": "writes",
}


def _outcome(row: Row) -> str:
    if row.state == "waiting":
        return row.note
    if row.state == "missing":
        return f"is missing: {row.note}"
    tokens = f", {count(row.tokens, 'token')}" if row.tokens is not None else ""
    said = f": {row.note}" if row.note else ""
    return f"answered in {row.seconds or 0.0:.1f} s{tokens}{said}"


def summary(response: MixtureResponse | CrewResponse, done: int, thing: str = "call") -> str:
    """What a run took, in one line.

    Args:
        response: What came out.
        done: How many calls went out, or tasks were done.
        thing: Which of the two.
    """
    read, written = response.usage.prompt_tokens, response.usage.completion_tokens
    known = read is not None and written is not None
    tokens = f"{read:,} tokens read, {written:,} written" if known else "tokens not reported by every model"
    tokens += f" · {dollars(response.usage.cost_usd)}" if response.usage.cost_usd else ""
    gone = f"{len(response.missing) or 'nobody'} missing{', degraded' if response.degraded else ''}"
    return " · ".join((f"{response.latency_seconds:.1f} s", count(done, thing), tokens, gone))


def degraded_note(missing: Sequence[object]) -> str:
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


def gist(task: Task, text: str) -> str:
    """An answer on one line: the names of written roles, the reason of a choice, else its first words."""
    if task == "roles":
        roles = shape_in_text(text, RoleList)
        return opening(", ".join(role.name for role in roles.roles)) if roles else opening(text)
    if task == "rank":
        choice = shape_in_text(text, Choice)
        return opening(choice.reason or f"number {choice.choice}") if choice else opening(text)
    return opening(text)


def printable(text: str) -> str:
    """Text without control characters: a model's words must not move the cursor or rename a window."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))
