"""The picture of a run: events in, rows and words out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.app.board import (
    Board,
    count,
    degraded_note,
    line,
    opening,
    printable,
    summary,
    updated,
)
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage


def after(*events: ProgressEvent, rounds: int = 2, text: str = "") -> Board:
    board = Board(rounds)
    for number, event in enumerate(events):
        board = updated(board, event, float(number), text)
    return board


def asked(name: str, layer: int = 1) -> ProgressEvent:
    return ProgressEvent(kind="asked", layer=layer, proposer=name)


def answered(name: str, layer: int = 1) -> ProgressEvent:
    usage = Usage(prompt_tokens=10, completion_tokens=7)
    return ProgressEvent(kind="answered", layer=layer, proposer=name, seconds=1.5, usage=usage)


def test_who_thinks_and_who_answered() -> None:
    board = after(
        ProgressEvent(kind="round", layer=1), asked("a"), asked("b"), answered("a"), text="It is\nso."
    )
    assert [(row.name, row.state, row.seconds, row.tokens) for row in board.rows] == [
        ("a", "answered", 1.5, 7),
        ("b", "thinking", None, None),
    ]
    assert board.rows[0].note == "It is so."


def test_a_new_layer_begins_with_an_empty_board() -> None:
    board = after(asked("a"), answered("a"), ProgressEvent(kind="round", layer=2))
    assert board.layer == 2
    assert board.rows == ()


def test_a_missing_one_took_as_long_as_it_was_waited_for() -> None:
    board = after(asked("a"), ProgressEvent(kind="missing", layer=1, proposer="a", reason="HTTP 500"))
    assert (board.rows[0].state, board.rows[0].seconds, board.rows[0].note) == ("missing", 1.0, "HTTP 500")


def test_after_a_retry_it_may_still_answer() -> None:
    retry = ProgressEvent(kind="retry", layer=1, proposer="a", seconds=2.0, reason="HTTP 429")
    assert after(asked("a"), retry).rows[0].state == "waiting"
    assert after(asked("a"), retry, answered("a")).rows[0].state == "answered"


def test_who_stands_in_for_the_aggregator_has_a_row_of_its_own() -> None:
    synthesis = ProgressEvent(kind="synthesis", layer=3, proposer="a")
    down = ProgressEvent(kind="missing", layer=3, proposer="a", reason="down")
    board = after(synthesis, down, synthesis, answered("a", 3))
    assert [row.state for row in board.rows] == ["missing", "answered"]


@pytest.mark.parametrize(
    ("layer", "title"),
    [
        (1, "Round 1 of 2: each answers alone"),
        (2, "Round 2 of 2: each has read them all and answers again"),
        (3, "Synthesis: one answer from all of these"),
    ],
)
def test_titles(layer: int, title: str) -> None:
    assert Board(2, layer).title == title


def test_an_aggregator_alone_has_nothing_to_synthesise() -> None:
    assert Board(0, 1).title == "Answer"


def test_lines() -> None:
    board = after(asked("a"), answered("a"), text="Yes.")
    assert line(answered("a"), board) == "  a answered in 1.5 s, 7 tokens: Yes."
    assert line(asked("a"), board) == "  a is thinking"
    gone = ProgressEvent(kind="missing", layer=1, proposer="b", reason="down")
    assert line(gone, after(asked("b"), gone)) == "  b is missing: down"
    retry = ProgressEvent(kind="retry", layer=1, proposer="b", seconds=2, reason="HTTP 429")
    assert line(retry, after(asked("b"), retry)) == "  b tries again after 2.0 s: HTTP 429"


def test_lines_of_the_synthesis() -> None:
    first = ProgressEvent(kind="synthesis", layer=3, proposer="a")
    second = ProgressEvent(kind="synthesis", layer=3, proposer="b")
    assert line(first, after(first)) == "Synthesis: one answer from all of these (a writes)"
    assert line(second, after(first, second)) == "  b stands in and starts the answer over"


def test_summary_says_what_it_took() -> None:
    response = MixtureResponse(
        text="x", usage=Usage(prompt_tokens=1200, completion_tokens=34), latency_seconds=2.34
    )
    assert summary(response, 7) == "2.3 s · 7 calls · 1,200 tokens read, 34 written · nobody missing"


def test_summary_is_honest_about_what_is_not_known() -> None:
    gone = Missing(proposer="b", layer=1, reason="HTTP 500")
    response = MixtureResponse(text="x", missing=[gone], latency_seconds=1)
    assert summary(response, 1) == "1.0 s · 1 call · tokens not reported by every model · 1 missing, degraded"


def test_degraded_note_names_everyone() -> None:
    missing = [
        Missing(proposer="b", layer=1, reason="down", status=500),
        Missing(proposer="c", layer=2, reason="x"),
    ]
    assert degraded_note(missing) == (
        "The answer is degraded. Missing: b, layer 1: down (HTTP 500); c, layer 2: x"
    )
    assert degraded_note([]) == ""


def test_counts() -> None:
    assert [count(n, "call") for n in (0, 1, 1200)] == ["0 calls", "1 call", "1,200 calls"]


def test_an_opening_leaves_out_what_the_next_round_does_not_see() -> None:
    assert opening("<think>hm</think>assistant: Well,\n\nyes.") == "Well, yes."


@given(st.text(), st.integers(2, 50))
def test_an_opening_is_one_short_line(text: str, limit: int) -> None:
    short = opening(text, limit)
    assert len(short) <= limit
    assert "\n" not in short


@given(st.text())
def test_printable_text_cannot_move_the_cursor(text: str) -> None:
    assert not set(printable(text)) & {chr(n) for n in [*range(9), *range(11, 32), *range(127, 160)]}


def test_printable_keeps_words_and_lines() -> None:
    assert printable("a\x1b[2Jb\r\n\tc\x9b") == "a[2Jb\n\tc"


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True), st.randoms())
def test_rows_stand_in_order_of_asking_whatever_the_order_of_answers(
    names: list[str], random: object
) -> None:
    order = sorted(names, key=lambda _: random.random())  # type: ignore[attr-defined]
    board = after(*map(asked, names), *map(answered, order))
    assert [row.name for row in board.rows] == names
    assert {row.state for row in board.rows} == {"answered"}


def test_openings_come_from_proposals() -> None:
    assert opening(Proposal(proposer="a", layer=1, text="First.\nSecond.").text) == "First. Second."
