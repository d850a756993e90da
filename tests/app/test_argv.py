"""Options that take several values, in the form the parser takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.app.argv import spread

MODELS = ("--models",)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "ask Q --models openai:gpt-4o-mini mistralai:mistral-small-latest --aggregator openai:gpt-4o",
            "ask Q --models openai:gpt-4o-mini --models mistralai:mistral-small-latest "
            "--aggregator openai:gpt-4o",
        ),
        ("ask --models a:1 b:2 --json", "ask --models a:1 --models b:2 --json"),
        ("ask --models=a:1 b:2", "ask --models=a:1 --models b:2"),
        ("ask --models a:1 --models b:2", "ask --models a:1 --models b:2"),
        ("ask --models a:1 -", "ask --models a:1 -"),
        ("ask --models a:1 -- b:2", "ask --models a:1 -- b:2"),
        ("ask --models gpt-4o gpt-5", "ask --models gpt-4o --models gpt-5"),
        ("ask --models", "ask --models"),
        ("ask --layers 2 word", "ask --layers 2 word"),
        ("", ""),
    ],
)
def test_values_are_spread(line: str, expected: str) -> None:
    assert spread(line.split(), MODELS) == expected.split()


def test_a_question_may_stand_last() -> None:
    words = ["ask", "--models", "a:1", "b:2", "Why is the sky blue?"]
    assert spread(words, MODELS) == ["ask", "--models", "a:1", "--models", "b:2", "Why is the sky blue?"]


def test_a_path_with_spaces_is_a_value() -> None:
    words = ["--models", "a:1", "sparse-moe:my models/moe"]
    assert spread(words, MODELS) == ["--models", "a:1", "--models", "sparse-moe:my models/moe"]


def test_a_value_with_spaces_right_behind_the_option_stays_its_value() -> None:
    assert spread(["--models", "no model"], MODELS) == ["--models", "no model"]


plain = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1).filter(
    lambda word: not word.startswith("-")
)
words = st.one_of(plain, st.just("--models"), st.just("--json"), st.just("a question with spaces"))


@given(st.lists(words), st.lists(plain, min_size=1), st.lists(plain))
def test_every_value_reaches_the_option_it_stands_behind(
    before: list[str], values: list[str], after: list[str]
) -> None:
    given_words = [*before, "--models", *values, "--json", "--", *after]
    prefix = spread([*before, "--json"], MODELS)[:-1]
    repeated = [word for value in values for word in ("--models", value)]
    assert spread(given_words, MODELS) == [*prefix, *repeated, "--json", "--", *after]


@given(st.lists(words))
def test_without_variadic_options_nothing_changes(given_words: list[str]) -> None:
    assert spread(given_words, ()) == given_words


@given(st.lists(words))
def test_spreading_twice_is_spreading_once(given_words: list[str]) -> None:
    once = spread(given_words, MODELS)
    assert spread(once, MODELS) == once
