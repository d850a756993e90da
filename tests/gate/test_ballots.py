"""Ballots: distinct candidates, features of a fixed width, and nothing of anyone outside the panel."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.gate.ballots import Case, Question, ballot_of, columns
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.recorded import Sample

READER = Reader()
PANEL = ("a", "b")
_TEXTS = st.text(alphabet="0123456789 =+*/-.$,#%ae\n", max_size=60)


def case(**responses: str) -> Case:
    return Case(Sample(question="What is 6 times 7?", answer="42", responses=responses), READER, "42")


@settings(max_examples=50)
@given(one=_TEXTS, two=_TEXTS, question=_TEXTS)
def test_any_texts_give_finite_features_of_distinct_candidates(one: str, two: str, question: str) -> None:
    readings = {"a": READER.read(one), "b": READER.read(two)}
    ballot = ballot_of(Question.of(question), PANEL, readings)
    assert len(set(ballot.candidates)) == len(ballot.candidates)
    assert ballot.features.shape == (len(ballot.candidates), len(columns(PANEL)))
    assert np.isfinite(ballot.features).all()
    assert np.isfinite(ballot.none).all()


@settings(max_examples=25)
@given(said=_TEXTS)
def test_who_is_not_of_the_panel_changes_nothing(said: str) -> None:
    with_it, without = (
        case(a="#### 42", b="41", c=said).ballot(PANEL),
        case(a="#### 42", b="41").ballot(PANEL),
    )
    assert with_it is not None
    assert without is not None
    assert with_it.candidates == without.candidates
    assert (with_it.features == without.features).all()
    assert (with_it.none == without.none).all()


def test_a_panel_of_whom_someone_is_missing_has_no_ballot() -> None:
    assert case(a="42").ballot(PANEL) is None


def test_the_right_answers_row_is_found_or_the_one_behind_the_last() -> None:
    ballot = case(a="#### 42", b="#### 41").ballot(PANEL)
    assert ballot is not None
    assert [ballot.place(answer) for answer in ("42", "41", "7")] == [0, 1, 2]


def test_enormous_numbers_are_of_a_bounded_size() -> None:
    ballot = case(a="9" * 400, b="1/3").ballot(PANEL)
    assert ballot is not None
    assert np.isfinite(ballot.features).all()
