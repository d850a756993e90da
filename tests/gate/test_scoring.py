"""Gates that read the question alone: features, neighbours, the network, its balance, whom they choose."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.evaluating import evaluated
from llama_index.packs.mixture_of_agents.gate.gated import GatedCascade, straight_below
from llama_index.packs.mixture_of_agents.gate.neighbours import Neighbours
from llama_index.packs.mixture_of_agents.gate.question_features import BUCKETS, COUNTED, QuestionFeatures
from llama_index.packs.mixture_of_agents.gate.risk import NEVER
from llama_index.packs.mixture_of_agents.gate.scoring_gate import ScoringGate, chosen_of, vote_weight
from llama_index.packs.mixture_of_agents.gate.targets import Target
from llama_index.packs.mixture_of_agents.gate.training import Recipe, trained
from tests.gate.recorded_answers import asking, cases, proposals, samples, seats

_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
KINDS = ["neighbours", pytest.param("network", marks=_TORCH)]
EASY = "A shop sells 2, 3 pens on its days. How many pens in all?"
HARD = "A shop sells 2, 3, 7, 5, 9, 4, 8 pens on its days. How many pens in all?"


@lru_cache(maxsize=4)
def gate(kind: str) -> ScoringGate:
    some, reader = cases(160)
    made = trained(some, reader, Recipe(kind, Target(share=0.6), top_k=2))
    assert isinstance(made, ScoringGate)
    return made


@settings(max_examples=40)
@given(question=st.text(max_size=80))
def test_any_question_has_finite_features(question: str) -> None:
    row = QuestionFeatures().rows([question])
    assert row.shape == (1, BUCKETS + COUNTED)
    assert np.isfinite(row).all()


def test_no_questions_have_no_features() -> None:
    assert len(QuestionFeatures().rows([])) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_hard_questions_go_to_the_dearest_more_often_than_easy_ones(kind: str) -> None:
    asked: dict[bool, list[bool]] = {True: [], False: []}
    for sample in samples(80, seed=7):
        messages = asking(sample.question)
        decision = asyncio.run(gate(kind).decide(messages, seats("tiny", "small", "large"), []))
        assert decision.ask in (("large",), ("small", "tiny"), ("tiny", "small"))
        asked[len(sample.question) > 65].append(decision.ask == ("large",))
    hard, easy = (np.mean(asked[is_hard]) for is_hard in (True, False))
    assert hard > easy + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_chosen_is_better_than_chance_and_keeps_its_share(kind: str) -> None:
    some, reader = cases(200, seed=9)
    found = asyncio.run(evaluated(gate(kind), some, gate(kind).models, reader, jury=gate(kind).jury))
    lines = {line.name: line for line in found.lines}
    assert lines["gate"].share_of_dearest <= 0.65
    assert lines["gate"].accuracy > 0.8
    assert lines["oracle"].accuracy >= lines["gate"].accuracy


def test_answers_are_enough_and_votes_are_weighed_by_the_question() -> None:
    given = proposals(tiny="#### 4", small="#### 5")
    assert asyncio.run(gate("neighbours").decide(asking(EASY), seats("tiny", "small"), given)).ask == ()
    weights = gate("neighbours").weights(asking(EASY), given)
    assert weights is not None
    assert weights["small"] > weights["tiny"] > 0
    verdict = gate("neighbours").verdict(asking(EASY), given)
    assert verdict is not None
    assert (verdict.answer, verdict.chosen) == ("5", "small")
    assert gate("neighbours").verdict(asking(EASY), proposals(tiny="none")) is None


def test_without_the_dearest_the_best_of_the_others_are_asked() -> None:
    decision = asyncio.run(gate("neighbours").decide(asking(HARD), seats("tiny", "small"), []))
    assert set(decision.ask) == {"small", "tiny"}
    with pytest.raises(ConfigurationError, match="knows nothing of huge"):
        asyncio.run(gate("neighbours").decide(asking(HARD), seats("huge"), []))


@pytest.mark.parametrize(
    ("scores", "has_dearest", "threshold", "chosen"),
    [
        ([0.5, 0.7, 0.9], True, -0.1, [2]),
        ([0.5, 0.7, 0.9], True, -0.3, [1, 0]),
        ([0.5, 0.7, 0.6], False, 0.0, [1, 2]),
        ([0.9], True, -0.1, [0]),
        ([], False, 0.0, []),
    ],
)
def test_the_dearest_alone_or_the_best_few_of_the_others(
    scores: list[float], has_dearest: bool, threshold: float, chosen: list[int]
) -> None:
    assert chosen_of(scores, has_dearest, threshold, top_k=2) == chosen


@given(chance=st.floats(0, 1))
def test_a_vote_never_weighs_less_than_nothing(chance: float) -> None:
    assert 0 <= vote_weight(chance) <= vote_weight(1.0)


def test_neighbours_far_away_or_never_asked_leave_what_is_true_of_all() -> None:
    rows = np.eye(3)
    right = np.array([[1.0, np.nan], [0.0, 1.0], [1.0, np.nan]])
    chances = Neighbours(rows, right, nearest=1).chances(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert chances[0].tolist() == pytest.approx([2 / 3, 1.0])
    assert chances[1, 0] > 2 / 3
    assert np.isfinite(chances).all()


@_TORCH
def test_balance_is_least_where_load_is_even_and_most_where_one_has_all() -> None:
    import torch

    from llama_index.packs.mixture_of_agents.gate.network_training import load_balance

    even = torch.eye(3, dtype=torch.float64) * 20
    one = torch.tensor([[20.0, 0.0, 0.0]] * 3)
    assert float(load_balance(even)) == pytest.approx(1.0, abs=1e-6)
    assert float(load_balance(one)) == pytest.approx(3.0, abs=1e-6)


@_TORCH
def test_the_balancing_term_spreads_the_load() -> None:
    from llama_index.packs.mixture_of_agents.gate.network_training import train_network

    draw = np.random.default_rng(0)
    rows = draw.normal(size=(200, 6))
    right = (draw.random((200, 3)) < [0.8, 0.75, 0.7]).astype(float)
    loads = []
    for balance in (0.0, 1.0):
        first = train_network(rows, right, 0, balance).logits(rows).argmax(axis=1)
        loads.append(np.bincount(first, minlength=3).max())
    assert loads[1] < loads[0]


def test_questions_go_straight_only_where_most_would_be_escalated_anyway() -> None:
    leads = np.arange(100) / 100
    assert straight_below(leads, leads < 0.5) == pytest.approx(0.61)
    assert straight_below(leads, leads > 0.5) == NEVER
    assert straight_below(leads[:10], leads[:10] < 1) == NEVER


def test_where_most_are_escalated_a_lead_that_tells_nothing_does_not_send_all_straight() -> None:
    draw = np.random.default_rng(0)
    leads = draw.random(400)
    assert straight_below(leads, draw.random(400) < 0.85) < 0.5
    assert straight_below(leads, leads < 0.85) == pytest.approx(0.92, abs=0.03)


@_TORCH
@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_what_a_network_and_a_cascade_expect_is_what_they_do(share: float) -> None:
    some, reader = cases(160)
    made = trained(some, reader, Recipe("gated", Target(share=share)))
    assert isinstance(made, GatedCascade)
    assert made.facts["share_of_dearest"] <= share
    gate, *_ = asyncio.run(evaluated(made, some, made.models, reader)).lines
    assert gate.share_of_dearest == pytest.approx(made.facts["share_of_dearest"], abs=0.1)
    assert all(0 <= found["scaled"] <= 0.3 for found in made.facts["calibration_error"])
