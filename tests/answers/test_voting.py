"""Voting: the count against a slow one, ties, abstentions, weights, and the reason in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.answers.extracting import final_number
from llama_index.packs.mixture_of_agents.answers.voting import tally, voted
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.results import Proposal

BALLOTS = st.lists(st.none() | st.sampled_from(["1", "2", "3"]), min_size=1, max_size=8)


def ballot(given_answers: Sequence[str | None]) -> list[tuple[str, str | None]]:
    return [(f"p{n}", answer) for n, answer in enumerate(given_answers)]


def slowly(answers: list[tuple[str, str | None]]) -> tuple[str, str | None, list[str]]:
    """Chosen, answer and ties, each worked out from the whole ballot anew."""

    def votes(answer: str) -> int:
        return len([who for who, said in answers if said == answer])

    said = [answer for _, answer in answers if answer is not None]
    if not said:
        return answers[0][0], None, []
    best = max(votes(answer) for answer in said)
    tied = []
    for answer in said:
        if votes(answer) == best and answer not in tied:
            tied.append(answer)
    winner = next(answer for answer in said if votes(answer) == best)
    chosen = next(who for who, answer in answers if answer == winner)
    return chosen, winner, tied if len(tied) > 1 else []


@given(BALLOTS)
def test_a_slow_count_comes_to_the_same(given_answers: list[str | None]) -> None:
    answers = ballot(given_answers)
    decision = tally(answers)
    assert (decision.chosen, decision.answer, decision.ties) == slowly(answers)


@given(BALLOTS)
def test_everybody_is_in_the_record_once_and_in_order(given_answers: list[str | None]) -> None:
    decision = tally(ballot(given_answers))
    voters = [who for names in decision.votes.values() for who in names]
    assert sorted([*voters, *decision.abstained]) == [f"p{n}" for n in range(len(given_answers))]
    assert all(names == sorted(names) for names in [*decision.votes.values(), decision.abstained])
    assert list(decision.votes) == list(dict.fromkeys(answer for answer in given_answers if answer))


@given(BALLOTS)
def test_equal_weights_change_nothing_but_words(given_answers: list[str | None]) -> None:
    answers = ballot(given_answers)
    weighed = tally(answers, {who: 0.1 for who, _ in answers})
    assert weighed.model_dump(exclude={"reason"}) == tally(answers).model_dump(exclude={"reason"})


@given(BALLOTS, st.lists(st.integers(0, 5), min_size=8, max_size=8))
def test_weights_count_as_so_many_heads(given_answers: list[str | None], weights: list[int]) -> None:
    answers = ballot(given_answers)
    heads = [entry for n, entry in enumerate(answers) for _ in range(weights[n])]
    decision = tally(answers, {f"p{n}": weight for n, weight in enumerate(weights)})
    if any(answer for _, answer in heads):
        # Who weighs nothing is no head, so only the order among ties may differ.
        assert set(decision.ties) == set(tally(heads).ties)
        assert decision.answer in {*decision.ties, tally(heads).answer}
    else:
        assert (decision.chosen, decision.answer) == ("p0", None)


def test_sums_that_are_equal_but_for_rounding_are_a_tie() -> None:
    weights = {"p0": 0.1, "p1": 0.2, "p2": 0.3}
    assert tally(ballot(["x", "x", "y"]), weights).ties == ["x", "y"]


@pytest.mark.parametrize(
    ("given_answers", "reason"),
    [
        (["42", "42", "41", "42"], "3 of 4 say 42"),
        (["1"], "1 of 1 says 1"),
        (["42", "43", "43", "42"], "2 of 4 say 42; tie with 43; 42 was given first"),
        (["1", None], "1 of 2 says 1; 1 without an answer that can be extracted"),
        ([None, None], "no answer could be extracted from any proposal; the first proposal stands"),
        (list("abcdefg"), "1 of 7 says a; tie with b, c, d, e and 2 more; a was given first"),
    ],
)
def test_the_reason_says_how_it_was_counted(given_answers: list[str | None], reason: str) -> None:
    assert tally(ballot(given_answers)).reason == reason


def test_a_long_answer_is_cut_in_the_reason_alone() -> None:
    decision = tally(ballot(["x" * 500]))
    assert decision.answer == "x" * 500
    assert len(decision.reason) < 100


def test_votes_that_weigh_nothing_choose_nobody() -> None:
    decision = tally(ballot(["1", "2"]), {"p0": 0, "p1": 0})
    assert (decision.chosen, decision.answer, decision.ties) == ("p0", None, [])
    assert "weight is 0" in decision.reason


def test_who_has_no_weight_of_its_own_counts_one() -> None:
    decision = tally(ballot(["1", "2"]), {"p1": 1.5})
    assert decision.answer == "2"
    assert decision.reason == "1 of 2 says 2; by weight 1.5 of 2.5"


@pytest.mark.parametrize("weight", [-1, math.inf, math.nan, "2", None, True])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ConfigurationError, match="weight of p0"):
        tally(ballot(["1"]), {"p0": weight})


def test_weights_that_are_no_mapping_are_refused() -> None:
    weights: Any = [1, 2]
    with pytest.raises(ConfigurationError, match="mapping"):
        tally(ballot(["1"]), weights)


def test_nobody_to_choose_from_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="one proposal at least"):
        tally([])


def proposals(*texts: str) -> list[Proposal]:
    return [Proposal(proposer=f"p{n}", layer=1, text=text) for n, text in enumerate(texts)]


def test_answers_are_extracted_and_counted() -> None:
    decision = voted(proposals("it is 4", "5", "I say $4.00", "no idea"), final_number)
    assert (decision.chosen, decision.answer, decision.abstained) == ("p0", "4", ["p3"])


def test_an_extractor_that_fails_is_an_abstention_with_its_reason() -> None:
    def choosy(text: str) -> str:
        if text == "bad":
            raise KeyError("no such key")
        return text

    decision = voted(proposals("bad", "b", "b"), choosy)
    assert (decision.chosen, decision.answer, decision.abstained) == ("p1", "b", ["p0"])
    assert "p0: the extractor" in decision.reason
    assert "KeyError" in decision.reason
