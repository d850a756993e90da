"""The conditional logit: probabilities over candidates and none, learned where something can be."""

from __future__ import annotations

import json

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import NONE_WIDTH, Ballot
from llama_index.packs.mixture_of_agents.gate.conditional_logit import ConditionalLogit


def drawn(count: int, seed: int = 0) -> tuple[list[Ballot], list[int]]:
    """Ballots of three candidates; the first feature says which is right, with odds of exp(2 * feature)."""
    draw = np.random.default_rng(seed)
    ballots, places = [], []
    for _ in range(count):
        features = draw.normal(size=(3, 2))
        odds = np.exp([*(2 * features[:, 0]), 1.0])
        ballots.append(Ballot(("a", "b", "c"), features, np.array([1.0, *draw.normal(size=NONE_WIDTH - 1)])))
        places.append(int(draw.choice(4, p=odds / odds.sum())))
    return ballots, places


def test_what_is_learned_is_what_was_true() -> None:
    ballots, places = drawn(3_000)
    logit = ConditionalLogit.fitted(ballots, places, ridge=0.1)
    slopes = logit.weights[:2] / logit.spread
    assert np.allclose(slopes, [2.0, 0.0], atol=0.2)
    said = np.mean([logit.probabilities(ballot)[-1] for ballot in ballots])
    assert abs(said - np.mean(np.array(places) == 3)) < 0.02


def test_probabilities_sum_to_one_and_the_ridge_draws_them_together() -> None:
    ballots, places = drawn(100)
    loose, tight = (ConditionalLogit.fitted(ballots, places, ridge) for ridge in (1.0, 1e5))
    for ballot in drawn(20, seed=1)[0]:
        assert np.isclose(loose.probabilities(ballot).sum(), 1)
        assert np.ptp(tight.probabilities(ballot)[:3]) < np.ptp(loose.probabilities(ballot)[:3])


def test_a_question_nobody_answered_leaves_only_none() -> None:
    ballots, places = drawn(30)
    nobody = Ballot((), np.zeros((0, 2)), ballots[0].none)
    logit = ConditionalLogit.fitted([*ballots, nobody], [*places, 0])
    assert logit.probabilities(nobody).tolist() == [1.0]
    assert ConditionalLogit.fitted([nobody], [0]).probabilities(nobody).tolist() == [1.0]


def test_it_comes_back_from_json_as_it_was() -> None:
    ballots, places = drawn(50)
    logit = ConditionalLogit.fitted(ballots, places)
    again = ConditionalLogit.from_json(json.loads(json.dumps(logit.as_json())))
    assert (again.probabilities(ballots[0]) == logit.probabilities(ballots[0])).all()
