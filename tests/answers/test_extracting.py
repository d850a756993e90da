"""Extracting: the answer in a text, by each built-in extractor, a pattern, or a function of the caller's."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.answers.extracting import (
    EXTRACTORS,
    extracted,
    extractor_label,
    extractor_named,
    final_answer,
    final_choice,
    final_number,
    whole_text,
)
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Some work.\n#### 1,000.00", "1000"),
        ("So \\boxed{\\frac{3}{4}} it is", "0.75"),
        ("nested \\boxed{x^{2}+1}", "x^{2}+1"),
        ("\\boxed{\\text{Paris}}", "paris"),
        ("The answer is **42**.", "42"),
        ("**Answer:** Paris", "paris"),
        ("Final Answer:\n\n$$\n42\n$$", "42"),
        ("The final answer is: \\(\\boxed{7}\\).", "7"),
        ("The answer is Paris. I hope this helps!", "paris"),
        ("The answer is 42. I hope this answer is clear.", "clear"),
        ("The answer is 42. Answer:", "42"),
        ("answer: 1\nanswer: 2", "2"),
        ("Answer: 50%", "50"),
        ("ANSWER IS $1,200", "1200"),
        ("Paris", "paris"),
        ("It is big.\nParis.", "paris"),
        ("word " * 100, None),
        ("cut \\boxed{12", "cut \\boxed{12"),
        ("", None),
        ("   \n ", None),
        ("...", None),
    ],
)
def test_the_answer_follows_its_last_marker(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 boxes of 4 make 12 in 2 rows. The answer is 12, as 2 rows have 6 each: 6.", "12"),
        ("The answer is 5 + 3 = 8.", "8"),
        ("#### -3", "-3"),
        ("The answer is 42. I hope this answer is clear.", "42"),
        ("first 5, then 7 apples", "7"),
        ("<<20*3=60>>60\nA: 2880000", "2880000"),
        ("the total is $12.50.", "12.5"),
        ("nothing", None),
        ("", None),
    ],
)
def test_the_number_behind_a_marker_or_else_the_last_one(text: str, answer: str | None) -> None:
    assert final_number(text) == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("Answer: B", "B"),
        ("Answer: **C**", "C"),
        ("The answer is (c).", "C"),
        ("the correct answer is D because of it", "D"),
        ("Answer: A because it holds", "A"),
        ("Answer: option J", "J"),
        ("**B**", "B"),
        ("**B) Paris**", "B"),
        ("B. Paris", "B"),
        ("\\boxed{\\text{E}}", "E"),
        ("(A) is wrong, (B) is right. So (B).", "B"),
        ("Option F", "F"),
        ("A", "A"),
        ("the answer is a cat", None),
        ("The answer is I think so", None),
        ("Answer: Because", None),
        ("Answer: K", None),
        ("I think so", None),
        ("", None),
    ],
)
def test_the_letter_of_a_multiple_choice(text: str, letter: str | None) -> None:
    assert final_choice(text) == letter


@given(st.text())
def test_a_text_is_compared_without_its_case_and_white_space(text: str) -> None:
    found = whole_text(f"  {text}\n")
    assert found == whole_text(text.replace(" ", "\t\n "))
    assert found is None or (found == found.strip() and "  " not in found)


@given(text=st.text(max_size=300), name=st.sampled_from(sorted(EXTRACTORS)))
def test_the_built_in_ones_take_any_text(text: str, name: str) -> None:
    found = extracted(EXTRACTORS[name], text)
    assert found is None or found.strip() == found != ""


@pytest.mark.parametrize("name", sorted(EXTRACTORS))
@pytest.mark.parametrize("piece", ["\\boxed{", "answer: ", "#### ", "<think>", "(B) {}%"])
def test_a_million_characters_are_read_once_not_squared(name: str, piece: str) -> None:
    # Squared, it would be hours: the time limit of each test is what fails.
    found = extracted(EXTRACTORS[name], piece * (MILLION // len(piece)))
    assert found is None or isinstance(found, str)


def test_thinking_is_left_out() -> None:
    assert extracted(final_number, "<think>perhaps 7, the answer is 7</think>42") == "42"


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        (r"regex:total: (\d+)", "total: 1, then total: 2", "2"),
        (r"regex:\d+", "1 and 22", "22"),
        (r"regex:a(\d)|b(\d)", "a1 b2", "2"),
        (r"regex:^yes|no$", "no\nyes", "yes"),
        (r"regex:x*", "abc", None),
        (r"regex:total: (\d+)", "none", None),
    ],
)
def test_of_a_pattern_the_last_match_counts(pattern: str, text: str, answer: str | None) -> None:
    assert extracted(extractor_named(pattern), text) == answer


@pytest.mark.parametrize("pattern", ["regex:(", "regex:[z-a]", "regex:", "regex:(?P<1>x)"])
def test_a_pattern_that_cannot_be_read_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="regex:"):
        extractor_named(pattern)


def test_names_lead_to_extractors_and_functions_stay() -> None:
    for name, extractor in EXTRACTORS.items():
        assert extractor_named(name) is extractor
    assert extractor_named(str.upper) is str.upper


@pytest.mark.parametrize("given_extractor", ["numbr", "Answer", "", None, 3, ["answer"], lambda: None])
def test_what_is_no_extractor_is_refused(given_extractor: object) -> None:
    with pytest.raises(ConfigurationError):
        extractor_named(given_extractor)


def test_a_name_nearly_right_is_told_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'number'"):
        extractor_named("numbr")


def last_word(text: str) -> str:
    return text.split()[-1]


class Worded:
    """An extractor with state."""

    def __call__(self, text: str) -> str:
        return text


def test_records_name_an_extractor_in_words() -> None:
    assert extractor_label("number") == "number"
    assert extractor_label(r"regex:\d+") == r"regex:\d+"
    assert extractor_label(extractor_named(r"regex:\d+")) == r"regex:\d+"
    assert extractor_label(extractor_named("number")) == "number"
    assert extractor_label(last_word) == f"{__name__}.last_word"
    assert extractor_label(functools.partial(last_word)) == f"{__name__}.last_word"
    assert extractor_label(Worded()) == f"{__name__}.Worded"


def test_an_extractor_that_raises_is_told_with_its_reason() -> None:
    with pytest.raises(MixtureError, match=r"last_word raised IndexError.*return None") as caught:
        extracted(last_word, "")
    assert isinstance(caught.value.causes[0], IndexError)


def test_an_extractor_that_gives_no_text_is_told() -> None:
    with pytest.raises(MixtureError, match="returned 42"):
        extracted(lambda text: 42, "x")  # type: ignore[arg-type, return-value]


def test_a_blank_answer_is_none() -> None:
    assert extracted(lambda text: "  ", "x") is None
    assert extracted(lambda text: " y ", "x") == "y"
