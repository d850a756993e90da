"""Where a small model's crew looks, what its words are held to, and what becomes of its plan."""

from __future__ import annotations

import pytest

from llama_index.packs.mixture_of_agents.agents.tools.cleaning import Column
from llama_index.packs.mixture_of_agents.app.looking import astray, look_for, plan_for_each

TABLES = {
    "staff": [Column(name="id", type="INTEGER"), Column(name="name", type="TEXT")],
    "sales": [
        Column(name="region", type="TEXT"),
        Column(name="soldIn_month", type="INTEGER"),
        Column(name="revenue", type="REAL"),
        Column(name="unit_count", type="INTEGER"),
    ],
    "empty": [],
}


@pytest.mark.parametrize(
    ("question", "sql"),
    [
        (
            "Which region has the highest revenue?",
            'SELECT "region", round(sum("revenue"), 4) AS "sum of revenue" FROM "sales" '
            "GROUP BY 1 ORDER BY 2 DESC LIMIT 12",
        ),
        (
            "What are mean units by month?",
            'SELECT "soldIn_month", round(avg("unit_count"), 4) AS "avg of unit_count" FROM "sales" '
            "GROUP BY 1 ORDER BY 2 DESC LIMIT 12",
        ),
        (
            "Which region has the lowest unit count?",
            'SELECT "region", count(*) AS "count" FROM "sales" GROUP BY 1 ORDER BY 2 ASC LIMIT 12',
        ),
        (
            "Which region sold the fewest units?",
            'SELECT "region", sum("unit_count") AS "sum of unit_count" FROM "sales" '
            "GROUP BY 1 ORDER BY 2 ASC LIMIT 12",
        ),
        (
            "How many sales are there in each region?",
            'SELECT "region", count(*) AS "count" FROM "sales" GROUP BY 1 ORDER BY 2 DESC LIMIT 12',
        ),
        ("", 'SELECT "id", count(*) AS "count" FROM "staff" GROUP BY 1 ORDER BY 2 DESC LIMIT 12'),
        (
            "Who is on the staff, by name?",
            'SELECT "name", count(*) AS "count" FROM "staff" GROUP BY 1 ORDER BY 2 DESC LIMIT 12',
        ),
    ],
)
def test_the_words_of_a_question_say_where_to_look(question: str, sql: str) -> None:
    look = look_for(question, TABLES)
    assert look is not None
    assert look.sql == sql


def test_a_column_that_is_called_as_the_number_keeps_its_labels() -> None:
    look = look_for("How many?", {"t": [Column(name="count", type="TEXT")]})
    assert look is not None
    assert look.sql == (
        'SELECT "count", count(*) AS "count in all" FROM "t" GROUP BY 1 ORDER BY 2 DESC LIMIT 12'
    )


@pytest.mark.parametrize(
    ("said", "found"), [("270.0", "270"), ("1,234", "1234"), ("$5", "5.00"), ("fell by 3", "-3")]
)
def test_a_number_in_another_form_is_the_same_number(said: str, found: str) -> None:
    assert astray(said, [found]) == ""


def test_there_may_be_nothing_to_look_at_and_no_groups() -> None:
    assert look_for("So?", {}) is None
    assert look_for("So?", {"a": []}) is None
    look = look_for("So?", {'a"b': [Column(name='x"y', type="INT")]})
    assert look is not None
    assert look.sql == 'SELECT sum("x""y") AS "sum of x""y" FROM "a""b"'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("North leads with 270.", ""),
        ("North leads, 1,200.5 against 30.", ""),
        ("North leads.", "it says none of the numbers that were found"),
        ("North leads with 999, then 12 and 30", "it says 999, 12, which nothing that was found does"),
    ],
)
def test_numbers_are_those_that_were_found(text: str, why: str) -> None:
    assert astray(text, ["north | 270", "south | 1,200.5 | 30"]) == why


def test_where_no_number_was_found_none_is_asked_for() -> None:
    assert astray("North leads.", ["north", "t1"]) == ""


def test_each_specialist_is_asked_the_question() -> None:
    plan = plan_for_each("So?", ["a", "b"])
    assert [(task.id, task.agent, task.instructions, task.needs) for task in plan.tasks] == [
        ("t1", "a", "So?", []),
        ("t2", "b", "So?", []),
    ]
    assert plan.notes
