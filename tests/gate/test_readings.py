"""What is read in an answer's text: answers it may mean, its arithmetic, and that no text costs much."""

from __future__ import annotations

import time

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.readings import Reader, wrong_sums


def test_the_last_equations_result_is_kept_beside_the_last_number() -> None:
    reading = Reader().read("She buys 3 bags. So she spends 12 * $2 = $24 on 3 bags.")
    assert (reading.answer, reading.result) == ("3", "24")
    assert "24" in reading.closing
    assert reading.all == ("3", "24", "12")


def test_a_marked_answer_is_seen_as_such() -> None:
    marked, plain = Reader().read("6*7 = <<6*7=42>>42\n#### 42"), Reader().read("It has 42 of them.")
    assert (marked.answer, marked.result, marked.is_marked) == ("42", "42", True)
    assert not plain.is_marked


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("20*3 = <<20*3=60>>60", 0),
        ("20*3 = 61", 1),
        ("2 + 3 * 4 = 14, and 10 / 4 - 1 = 1.5", 0),
        ("1,000 + 1 = 1,001 and 5 / 0 = 3", 0),
        ("10 / 3 = 3.33", 0),
        ("7 - 9 = 2", 1),
        ("no sums", 0),
    ],
)
def test_sums_whose_sides_differ_are_counted(text: str, wrong: int) -> None:
    assert wrong_sums(text) == wrong


def test_answers_that_are_no_numbers_have_one_reading() -> None:
    reading = Reader("choice").read("5 * 5 = 25. The answer is (B)")
    assert reading.all == ("B",)


def test_a_text_without_an_answer_has_no_reading() -> None:
    assert Reader().read("I do not know.").all == ()
    assert Reader().read("").all == ()


@pytest.mark.parametrize(
    "text", ["1" * 200_000, "1+" * 100_000, "1 + 1 = " * 30_000, "= $" * 60_000, "(((" * 60_000]
)
def test_hostile_texts_are_read_in_bounded_time(text: str) -> None:
    started = time.monotonic()
    Reader().read(text)
    assert time.monotonic() - started < 20


def test_an_unknown_way_to_extract_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="extract"):
        Reader("digits")
