"""Folds: every case is judged once, by what was trained on neither it nor its like."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.gate.folds import cross_fitted, parted


@settings(max_examples=60)
@given(kin=st.lists(st.integers(0, 9), max_size=40), seed=st.integers(0, 99), folds=st.integers(2, 6))
def test_the_like_are_judged_together_and_never_learned_from(kin: list[int], seed: int, folds: int) -> None:
    judged = []
    for learning, held_out in parted(kin, seed, folds):
        assert sorted([*learning, *held_out]) == list(range(len(kin)))
        assert not {kin[place] for place in learning} & {kin[place] for place in held_out}
        judged += held_out
    assert sorted(judged) == list(range(len(kin)))


def test_a_question_asked_often_is_not_known_by_heart() -> None:
    cases = [(question, question % 2) for question in range(30)] * 4
    said = cross_fitted(cases, dict, lambda known, case: known.get(case[0]), lambda case: case[0], 0)
    assert said == [None] * len(cases)
