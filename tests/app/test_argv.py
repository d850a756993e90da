"""Words of the command line, in the form the parser takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.app.argv import Option, expanded
from llama_index.packs.mixture_of_agents.app.commands.words import reflowed
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

MODELS = Option(("--models", "--models-layer"), is_list=True, splits_commas=True)
NUMBERS = Option(("--nb-models-by-layer",), is_list=True, splits_commas=True, is_numeric=True)
FILES = Option(("--file", "-f"), is_list=True)
LAYERS = Option(("--layers", "--layer"))
EXTRACT = Option(("--extract",), splits_commas=True)
TRACE = Option(("--trace",), opposites=("--no-trace",), is_flag=True)
OPTIONS = (MODELS, NUMBERS, FILES, LAYERS, EXTRACT, TRACE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "Q --models openai:gpt-4o-mini mistralai:mistral-small-latest --extract number",
            "Q --models openai:gpt-4o-mini --models mistralai:mistral-small-latest --extract number",
        ),
        ("--models a:1 b:2 --trace", "--models a:1 --models b:2 --trace"),
        ("--models=a:1 b:2", "--models a:1 --models b:2"),
        ("--models a:1 --models b:2", "--models a:1 --models b:2"),
        ("--models a:1,b:2 c:3", "--models a:1 --models b:2 --models c:3"),
        ("--models a:1, b:2,", "--models a:1 --models b:2"),
        ("--models ,", "--models ,"),
        ("--models a:1 -", "--models a:1 -"),
        ("--models a:1 -- b:2", "--models a:1 -- b:2"),
        ("--models gpt-4o gpt-5", "--models gpt-4o --models gpt-5"),
        ("--models", "--models"),
        ("--layers 2 word", "--layers 2 word"),
        ("--models_layer a b", "--models-layer a --models-layer b"),
        ("--nb_models_by_layer 3 2 Why?", "--nb-models-by-layer 3 --nb-models-by-layer 2 Why?"),
        ("--nb-models-by-layer=3,2 1", " ".join(f"--nb-models-by-layer {n}" for n in (3, 2, 1))),
        ("-f a,b.txt c.txt", "-f a,b.txt -f c.txt"),
        ("--file a -f b", "--file a -f b"),
        ("--extract regex:a,b", "--extract regex:a,b"),
        ("--extract --layer_x", "--extract --layer_x"),
        ("--no_trace", "--no-trace"),
        ("--un_known --layer_s", "--un_known --layer_s"),
        ("--layers 2 --layer 2", "--layers 2 --layer 2"),
        ("--models a b --models-layer a,b", "--models a --models b --models-layer a --models-layer b"),
        ("--trace --trace", "--trace --trace"),
        ("-- --models a b", "-- --models a b"),
        ("", ""),
    ],
)
def test_words_are_put_into_the_parsers_form(line: str, expected: str) -> None:
    assert expanded(line.split(), OPTIONS) == expected.split()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--layers 3 --layer 2", "--layers 3 and --layer 2 say different things"),
        ("--layer 3 --layer 2", "--layer 3 and --layer 2 say different things"),
        ("--models a b --models-layer a", "--models a b and --models-layer a say different things"),
        ("--models_layer a --models b", "--models-layer a and --models b say different things"),
        ("--trace --no-trace", "--trace and --no-trace say different things"),
    ],
)
def test_two_values_for_one_option_are_refused(line: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        expanded(line.split(), OPTIONS)


def test_a_question_may_stand_last() -> None:
    words = ["--models", "a:1", "b:2", "Why is the sky blue?"]
    assert expanded(words, OPTIONS) == ["--models", "a:1", "--models", "b:2", "Why is the sky blue?"]


def test_a_path_with_spaces_is_a_value() -> None:
    words = ["--models", "a:1", "sparse-moe:my models/moe"]
    assert expanded(words, OPTIONS) == ["--models", "a:1", "--models", "sparse-moe:my models/moe"]


def test_a_value_with_spaces_right_behind_the_option_stays_its_value() -> None:
    assert expanded(["--models", "no model"], OPTIONS) == ["--models", "no model"]


plain = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1).filter(
    lambda word: not word.startswith("-") and "," not in word
)
words = st.one_of(plain, st.just("--models"), st.just("--trace"), st.just("a question with spaces"))


@given(st.lists(words), st.lists(plain, min_size=1), st.lists(plain))
def test_every_value_reaches_the_option_it_stands_behind(
    before: list[str], values: list[str], after: list[str]
) -> None:
    before = [*before, "--trace"]  # so that no option before still awaits its value
    if before[-2:-1] == ["--models"]:
        before.append("--trace")
    given_words = [*before, "--models", *values, "--trace", "--", *after]
    repeated = [word for value in values for word in ("--models", value)]
    expected = [*expanded(before, OPTIONS), *repeated, "--trace", "--", *after]
    assert expanded(given_words, OPTIONS) == expected


@given(st.lists(words))
def test_without_options_nothing_changes(given_words: list[str]) -> None:
    assert expanded(given_words, ()) == given_words


@given(st.lists(words))
def test_expanding_twice_is_expanding_once(given_words: list[str]) -> None:
    once = expanded(given_words, OPTIONS)
    assert expanded(once, OPTIONS) == once


def test_a_help_texts_paragraphs_are_one_line_each_and_examples_stay() -> None:
    text = """A first line.

    One paragraph
    in two lines.

      moa ask "..."

    Another
    one."""
    assert reflowed(text) == "\n\n".join(
        ["A first line.", "One paragraph in two lines.", '  moa ask "..."', "Another one."]
    )
