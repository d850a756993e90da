"""The picture of a run: events in, rows and words out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.app.board import (
    Board,
    count,
    degraded_note,
    lines,
    opening,
    printable,
    summary,
    updated,
)
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Task, Usage


def after(*events: ProgressEvent, rounds: int = 2, text: str = "") -> Board:
    board = Board(rounds)
    for number, event in enumerate(events):
        board = updated(board, event, float(number), text)
    return board


def asked(name: str, layer: int = 1, task: Task = "propose") -> ProgressEvent:
    return ProgressEvent(kind="asked", layer=layer, proposer=name, task=task)


def answered(name: str, layer: int = 1, task: Task = "propose") -> ProgressEvent:
    usage = Usage(prompt_tokens=10, completion_tokens=7)
    return ProgressEvent(kind="answered", layer=layer, proposer=name, seconds=1.5, usage=usage, task=task)


def synthesis(name: str, task: Task = "synthesize") -> ProgressEvent:
    return ProgressEvent(kind="synthesis", layer=3, proposer=name, task=task)


def told(*events: ProgressEvent, rounds: int = 2, text: str = "") -> list[str]:
    """What these events say in plain lines."""
    board, said = Board(rounds), list[str]()
    for number, event in enumerate(events):
        before, board = board, updated(board, event, float(number), text)
        said += lines(event, before, board)
    return said


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
    down = ProgressEvent(kind="missing", layer=3, proposer="a", reason="down", task="synthesize")
    board = after(synthesis("a"), down, synthesis("a"), answered("a", 3, "synthesize"))
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
    opened = ProgressEvent(kind="round", layer=1)
    assert told(opened, asked("a"), answered("a"), text="Yes.") == [
        "Round 1 of 2: each answers alone",
        "  a is thinking",
        "  a answered in 1.5 s, 7 tokens: Yes.",
    ]
    gone = ProgressEvent(kind="missing", layer=1, proposer="b", reason="down")
    assert told(asked("b"), gone)[-1] == "  b is missing: down"
    retry = ProgressEvent(kind="retry", layer=1, proposer="b", seconds=2, reason="HTTP 429")
    assert told(asked("b"), retry)[-1] == "  b tries again after 2.0 s: HTTP 429"


def test_lines_of_the_synthesis() -> None:
    down = ProgressEvent(kind="missing", layer=3, proposer="a", reason="down", task="synthesize")
    assert told(synthesis("a"), down, synthesis("b")) == [
        "Synthesis: one answer from all of these",
        "  a writes",
        "  a is missing: down",
        "  b stands in and starts the answer over",
    ]


def test_a_synthesis_in_passes_is_one_part_of_the_run() -> None:
    said = told(asked("a", 3, "synthesize"), answered("a", 3, "synthesize"), synthesis("a"), text="So far.")
    assert said == [
        "Synthesis: one answer from all of these",
        "  a writes",
        "  a answered in 1.5 s, 7 tokens: So far.",
        "  a writes",
    ]


def test_roles_are_a_part_of_their_own_before_the_round() -> None:
    opened = ProgressEvent(kind="round", layer=1)
    roles = '{"roles": [{"name": "Cautious economist"}, {"name": "Nurse"}]}'
    assert told(opened, asked("j", task="roles"), answered("j", task="roles"), asked("a"), text=roles) == [
        "Roles for this question, before round 1",
        "  j writes roles",
        "  j answered in 1.5 s, 7 tokens: Cautious economist, Nurse",
        "Round 1 of 2: each answers alone",
        "  a is thinking",
    ]


def test_condensing_is_seen_and_the_next_round_reads_it() -> None:
    said = told(asked("a"), answered("a"), asked("j", task="condense"), asked("a", 2))
    assert said[-4:] == [
        "Round 1 of 2, condensed into one text",
        "  j reads them and writes one text",
        "Round 2 of 2: each has read what is common to them and answers again",
        "  a is thinking",
    ]


def test_ranking_says_why_and_whose_proposal_it_is() -> None:
    choice = '{"choice": 2, "reason": "It is exact."}'
    said = told(asked("j", 3, "rank"), answered("j", 3, "rank"), synthesis("b", "propose"), text=choice)
    assert said == [
        "Ranking: which of these is the answer",
        "  j compares them",
        "  j answered in 1.5 s, 7 tokens: It is exact.",
        "Answer: what b said, word for word",
    ]


def test_a_vote_asks_nobody() -> None:
    assert (
        told(asked("a"), answered("a"), synthesis("a", "propose"))[-1] == "Answer: what a said, word for word"
    )


def test_agreement_ends_the_rounds() -> None:
    agreed = ProgressEvent(kind="agreed", layer=1, reason="3 of 3 proposals say 42")
    assert told(asked("a"), answered("a"), agreed)[-1] == (
        "  They agree: 3 of 3 proposals say 42; 1 round left out"
    )


def test_who_comes_late_does_not_change_the_picture() -> None:
    late = ProgressEvent(kind="missing", layer=1, proposer="b", reason="cut off")
    board = after(asked("a"), asked("b"), answered("a"), asked("a", 2), late)
    assert (board.layer, [row.state for row in board.rows]) == (2, ["thinking"])


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


def routed(asks: str, reason: str, layer: int = 1) -> ProgressEvent:
    return ProgressEvent(kind="routed", layer=layer, proposer=asks, reason=reason)


def test_what_a_gate_says_stands_above_those_it_asks() -> None:
    run = (
        ProgressEvent(kind="round", layer=1),
        *(routed("a", "nobody has answered yet"), asked("a"), answered("a")),
        *(routed("b", "42 is right with\nprobability 0.4"), asked("b"), answered("b")),
        routed("", "enough"),
    )
    assert [line.partition(" in ")[0] for line in told(*run)] == [
        "Round 1 of 2: each answers alone",
        "  The gate asks a: nobody has answered yet",
        "  a is thinking",
        "  a answered",
        "  The gate asks b: 42 is right with probability 0.4",
        "  b is thinking",
        "  b answered",
        "  The gate asks nobody more: enough",
    ]
    assert [row.name for row in after(*run).rows] == ["a", "b"]
    assert len(after(*run).gate) == 3
    assert after(*run, ProgressEvent(kind="round", layer=2)).gate == ()


def test_after_roles_the_gate_opens_the_round() -> None:
    run = (asked("j", task="roles"), answered("j", task="roles"), routed("a", "one will do"), asked("a"))
    assert told(*run)[-3:] == [
        "Round 1 of 2: each answers alone",
        "  The gate asks a: one will do",
        "  a is thinking",
    ]
