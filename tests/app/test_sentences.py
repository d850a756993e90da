"""Whatever a small model may say of what was found is true of it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.app.looking import Look
from llama_index.packs.mixture_of_agents.app.sentences import sentences

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zs", "Zl", "Zp")), min_size=1, max_size=12
)
AMOUNTS = st.one_of(st.integers(-1_000, 1_000), st.floats(-1e6, 1e6).map(lambda value: round(value, 4)))


def look(along: str | None = "city", *, least: bool = False, measured: str | None = "sales") -> Look:
    return Look("t", along, measured, "sum" if measured else "count", least)


@given(st.data(), st.dictionaries(NAMES, AMOUNTS, min_size=1, max_size=8), st.booleans())
def test_what_may_be_said_ranks_as_was_found(
    data: st.DataObject, found: dict[str, float], least: bool
) -> None:
    rows = sorted(found.items(), key=lambda row: row[1], reverse=not least)
    told = sentences(look(least=least), rows)
    best = [name for name, value in rows if value == rows[0][1]]
    if told is None:
        assert len(best) > 3
        return
    said = data.draw(st.from_regex(told, fullmatch=True))
    who, _, rest = said.partition(" the ")
    listed = ", ".join(best[:-1]) + f" and {best[-1]}" if len(best) > 1 else best[0]
    assert who == f"{listed} {'have' if len(best) > 1 else 'has'}"
    assert rest.split()[0] in (
        ("least", "lowest", "smallest") if least else ("largest", "highest", "greatest")
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", 3)], "a has the largest sum of sales: 3."),
        ([("a", 3.0), ("b", 2)], "a has the highest sum of sales, with 3. Next comes b with 2."),
        (
            [("a", 3), ("b", 2), ("c", 1)],
            "a has the greatest sum of sales, at 3. Then come b with 2 and c with 1.",
        ),
        ([("a", 3), ("b", 3), ("c", 1)], "a and b have the largest sum of sales: 3."),
        ([("St. Gall (CH)", 3)], "St. Gall (CH) has the largest sum of sales: 3."),
        ([("two\nlines", 3)], "two lines has the largest sum of sales: 3."),
    ],
)
def test_some_of_what_may_be_said(rows: list[tuple[str, float]], said: str) -> None:
    told = sentences(look(), rows)
    assert told is not None
    assert re.fullmatch(told, said)


def test_one_number_in_all_is_said_as_it_is() -> None:
    told = sentences(look(None, measured=None), [(60,)])
    assert told is not None
    assert re.fullmatch(told, "In all, the number of rows is 60.")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(None, 3)],
        [("a", None)],
        [("", 3)],
        [("x" * 41, 3)],
        [(name, 3) for name in "abcd"],
    ],
    ids=["nothing", "no name", "no number", "empty", "long", "many alike"],
)
def test_where_nothing_sound_can_be_said_nothing_is_prescribed(rows: list[tuple[str | None, int]]) -> None:
    assert sentences(look(), rows) is None


@pytest.mark.parametrize(
    "rows",
    [
        [("C", 0.0), ("B", 0.0)],
        [("C", 0.1234), ("B", 0.1234)],
        [("C", 0.5), ("B", 0.0)],
    ],
    ids=["rounded to nothing", "equal when rounded", "one rounded to nothing"],
)
def test_what_rounding_made_alike_is_not_ranked(rows: list[tuple[str, float]]) -> None:
    assert sentences(replace(look(), is_rounded=True), rows) is None


@pytest.mark.parametrize(
    "rows",
    [
        [("A B", 9), ("A  B", 5)],
        [("Nobody. All is well. Lima", 9)],
        [("a", 10**300)],
    ],
    ids=["printed alike", "a sentence", "a number without end"],
)
def test_names_and_numbers_that_would_mislead_are_not_said(rows: list[tuple[str, int]]) -> None:
    assert sentences(look(), rows) is None


def test_who_is_equal_to_one_that_is_named_is_not_left_out() -> None:
    some = sentences(look(), [("a", 9), ("b", 6), ("c", 5), ("d", 5)])
    assert some is not None
    assert re.fullmatch(some, "a has the largest sum of sales: 9. Next comes b with 6.")
    assert "c" not in some.replace("comes", "").replace("Next", "")
    assert sentences(look(), [("a", 9), ("b", 5), ("c", 5), ("d", 5)]) == (sentences(look(), [("a", 9)]))
