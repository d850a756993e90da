"""What a terminal shows, drawn into a string."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from llama_index.packs.mixture_of_agents.app.board import Board, Row
from llama_index.packs.mixture_of_agents.app.pictures import board_picture, spinner
from llama_index.packs.mixture_of_agents.app.screen import Screen
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.results import Usage

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A screen of a given width, and what is read on it."""

    def __init__(self, width: int = 80) -> None:
        self.file = StringIO()
        self.now = 0.0
        console = Console(file=self.file, force_terminal=True, width=width, height=30, highlight=False)
        self.screen = Screen(console, clock=lambda: self.now)

    def written(self) -> str:
        """Everything that was written, pictures drawn over too, without colours and cursor movement."""
        return _ESCAPES.sub("", self.file.getvalue()).replace("\r", "\n")

    def round(self, layer: int, *names: str) -> None:
        """A round in which everyone answers."""
        self.screen.show(ProgressEvent(kind="round", layer=layer))
        for name in names:
            self.screen.show(ProgressEvent(kind="asked", layer=layer, proposer=name))
        for name in names:
            usage = Usage(prompt_tokens=1, completion_tokens=12)
            event = ProgressEvent(kind="answered", layer=layer, proposer=name, seconds=1.5, usage=usage)
            self.screen.show(event, f"{name} says so")

    def synthesis(self, name: str = "aggregator") -> None:
        """Someone begins to write the answer."""
        self.screen.show(ProgressEvent(kind="synthesis", layer=3, proposer=name, task="synthesize"))


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def test_a_whole_run(terminal: Terminal) -> None:
    terminal.screen.begin(2)
    terminal.round(1, "expert", "critic")
    terminal.round(2, "expert", "critic")
    terminal.synthesis()
    for piece in ("The ", "answer [bold]is[/bold] ", "this."):
        terminal.screen.delta(piece)
    terminal.screen.finish("The answer [bold]is[/bold] this.", "2.0 s, 5 calls")
    terminal.screen.close()
    seen = terminal.written()
    for text in ("Round 1 of 2", "Round 2 of 2", "Synthesis", "✓ expert", "12 tokens", "critic says so"):
        assert text in seen
    assert seen.rstrip().endswith("The answer [bold]is[/bold] this.\n\n2.0 s, 5 calls")


def drawn(board: Board, now: float, *, is_unicode: bool = True) -> str:
    console = Console(file=StringIO(), width=80)
    with console.capture() as capture:
        console.print(board_picture(board, now, spinner(is_unicode), 77, is_unicode=is_unicode))
    return capture.get()


THINKING = Board(rounds=2, layer=1, rows=(Row("expert", "thinking", since=2.0),))


def test_the_time_that_someone_thinks_is_seen() -> None:
    assert re.search(r"expert +7\.5 s +thinks", drawn(THINKING, 9.5))


def test_with_ascii_alone_nothing_else_is_drawn() -> None:
    rows = (*THINKING.rows, Row("critic", "answered", 0.0, 1.0, 5, "Yes."), Row("third", "missing", 0.0, 1.0))
    assert drawn(replace(THINKING, rows=rows), 9.5, is_unicode=False).isascii()


def test_who_was_interrupted(terminal: Terminal) -> None:
    terminal.screen.begin(2)
    terminal.screen.show(ProgressEvent(kind="asked", layer=1, proposer="expert"))
    terminal.screen.close()
    assert re.search(r"▸ expert .*was interrupted", terminal.written())


def test_a_missing_one_and_why(terminal: Terminal) -> None:
    terminal.screen.begin(2)
    terminal.screen.show(ProgressEvent(kind="asked", layer=1, proposer="expert"))
    terminal.screen.show(ProgressEvent(kind="retry", layer=1, proposer="expert", seconds=2, reason="429"))
    terminal.screen.close()
    assert "↻ expert" in terminal.written()
    terminal.screen.show(ProgressEvent(kind="missing", layer=1, proposer="expert", reason="HTTP 500"))
    terminal.screen.close()
    assert re.search(r"✗ expert .*HTTP 500", terminal.written())


def test_an_answer_that_breaks_off_starts_over(terminal: Terminal) -> None:
    terminal.screen.begin(2)
    terminal.synthesis("first")
    terminal.screen.delta("This will ")
    terminal.screen.show(
        ProgressEvent(kind="missing", layer=3, proposer="first", reason="broke off", task="synthesize")
    )
    terminal.synthesis("second")
    terminal.screen.delta("The whole ")
    terminal.screen.delta("answer.")
    terminal.screen.finish("The whole answer.", "done")
    seen = terminal.written()
    assert "✗ first" in seen
    assert re.search(r"This will.*It starts over:\s+The whole answer\.\s+done", seen, re.DOTALL)


def test_the_proposal_that_stands_in_for_all_writers_is_shown_whole(terminal: Terminal) -> None:
    terminal.screen.begin(2)
    terminal.synthesis("first")
    terminal.screen.delta("This will ")
    terminal.screen.show(
        ProgressEvent(kind="missing", layer=3, proposer="first", reason="broke off", task="synthesize")
    )
    terminal.screen.delta("A proposal.")
    terminal.screen.finish("A proposal.", "done")
    assert re.search(r"It starts over:\s+A proposal\.\s+done", terminal.written())


def test_an_answer_that_was_not_streamed_is_printed(terminal: Terminal) -> None:
    terminal.screen.begin(0)
    terminal.screen.finish("All at once.", "done")
    assert terminal.written().count("All at once.") == 1


def test_the_cursor_is_given_back(terminal: Terminal) -> None:
    terminal.screen.begin(2)
    terminal.screen.show(ProgressEvent(kind="asked", layer=1, proposer="expert"))
    assert "\x1b[?25l" in terminal.file.getvalue()
    terminal.screen.close()
    assert terminal.file.getvalue().rindex("\x1b[?25h") > terminal.file.getvalue().rindex("\x1b[?25l")


def test_stages_of_preparation(terminal: Terminal) -> None:
    terminal.screen.stage("Fetching it")
    terminal.now = 4.0
    terminal.screen.stage("Making it", "layer 1 of 2")
    terminal.now = 9.0
    terminal.screen.begin(2)
    seen = terminal.written()
    assert "✓ Fetching it 4.0 s" in seen
    assert "✓ Making it 5.0 s" in seen


def test_a_stage_that_failed_is_not_ticked(terminal: Terminal) -> None:
    terminal.screen.stage("Fetching it")
    terminal.screen.close()
    assert "✓" not in terminal.written()


def test_roles_a_round_that_agrees_and_a_chosen_answer(terminal: Terminal) -> None:
    terminal.screen.begin(2)
    terminal.screen.show(ProgressEvent(kind="round", layer=1))
    terminal.screen.show(ProgressEvent(kind="asked", layer=1, proposer="judge", task="roles"))
    roles = ProgressEvent(kind="answered", layer=1, proposer="judge", seconds=1.0, task="roles")
    terminal.screen.show(roles, '{"roles": [{"name": "Nurse"}]}')
    terminal.round(1, "first")
    terminal.screen.show(ProgressEvent(kind="agreed", layer=1, reason="2 of 2 say 42"))
    terminal.screen.show(ProgressEvent(kind="synthesis", layer=3, proposer="first"))
    terminal.screen.delta("It is 42.")
    terminal.screen.finish("It is 42.", "done")
    seen = terminal.written()
    for text in ("Roles for this question", "Nurse", "They agree: 2 of 2 say 42; 1 round left out"):
        assert text in seen
    assert re.search(r"Answer: what first said, word for word\s+It is 42\.\s+done", seen)


def test_a_narrow_terminal_cuts_lines_instead_of_breaking_them() -> None:
    terminal = Terminal(width=40)
    terminal.screen.begin(1)
    terminal.screen.show(ProgressEvent(kind="asked", layer=1, proposer="expert"))
    event = ProgressEvent(kind="answered", layer=1, proposer="expert", seconds=1.0)
    terminal.screen.show(event, "word " * 40)
    terminal.screen.close()
    assert all(len(line) <= 40 for line in terminal.written().splitlines())


def test_words_of_a_model_cannot_move_the_cursor(terminal: Terminal) -> None:
    terminal.screen.begin(0)
    terminal.screen.delta("\x1b[2J\x1b]0;title\x07done ")
    assert "\x1b[2J" not in terminal.file.getvalue()
    assert "\x1b]0" not in terminal.file.getvalue()


def test_whom_a_gate_asks_is_seen() -> None:
    gate = ("The gate asks a: nobody has answered yet", f"The gate asks nobody more: {'sure ' * 30}")
    picture = drawn(Board(1, layer=1, rows=(Row("a", "thinking", 0.0),), gate=gate), 1.0)
    assert "    The gate asks a: nobody has answered yet\n" in picture
    assert len(picture.splitlines()) == 4
