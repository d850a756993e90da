"""The cascade: who is asked when, that it reads nobody it did not ask, and what its votes come to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from llama_index.packs.mixture_of_agents.answers.voting import tally
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.calibration import Platt, calibration_error
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision
from llama_index.packs.mixture_of_agents.gate.risk import ALWAYS
from llama_index.packs.mixture_of_agents.gate.targets import Target
from llama_index.packs.mixture_of_agents.gate.training import Recipe, trained
from tests.gate.recorded_answers import asking, cases, proposals, samples, seats

ALL = ("tiny", "small", "large")
AGREED: dict[str, Any] = {"tiny": "2 + 3 = 5.\n#### 5", "small": "2 + 3 = 5.\n#### 5"}
APART: dict[str, Any] = {"tiny": "2 + 3 = 9.\n#### 9", "small": "2 + 3 = 6.\n#### 6"}
QUESTION = "A shop sells 2, 3 pens on its days. How many pens in all?"


@lru_cache(maxsize=1)
def gate() -> CascadeGate:
    some, reader = cases()
    made = trained(some, reader, Recipe(target=Target(share=0.6)))
    assert isinstance(made, CascadeGate)
    return made


def decided(which: CascadeGate, names: tuple[str, ...] = ALL, **texts: str) -> GateDecision:
    return asyncio.run(which.decide(asking(QUESTION), seats(*names), proposals(**texts)))


def test_the_cheap_few_are_asked_at_once_and_the_dearest_where_they_differ() -> None:
    assert decided(gate()).ask == ("tiny", "small")
    assert decided(gate(), **AGREED).ask == ()
    assert decided(gate(), **APART).ask == ("large",)


def test_where_all_have_answered_it_is_enough() -> None:
    decision = decided(gate(), **APART, large="#### 5")
    assert decision.ask == ()
    assert decision.confidence is not None
    assert set(decision.scores) == set(ALL)


def test_who_agrees_makes_it_surer() -> None:
    sure, unsure = (decided(gate(), **texts).confidence for texts in (AGREED, APART))
    assert sure is not None
    assert unsure is not None
    assert sure > 0.8 > unsure


def test_who_cannot_be_asked_is_not() -> None:
    assert decided(gate(), ("small", "large")).ask == ("small",)
    assert decided(gate(), ("tiny", "small"), **APART).ask == ()
    assert "nobody is left" in decided(gate(), ("tiny", "small"), **APART).reason


def test_a_whole_group_that_failed_is_passed_over() -> None:
    assert decided(gate(), ("large",)).ask == ("large",)


def test_one_who_failed_leaves_the_smaller_panel_to_judge() -> None:
    decision = decided(gate(), ("small", "large"), small=AGREED["small"])
    assert decision.confidence is not None
    assert set(decision.scores) <= {"small", "large"}


def test_answers_that_say_nothing_are_escalated() -> None:
    decision = decided(gate(), tiny="I do not know.", small="")
    assert (decision.ask, decision.confidence) == (("large",), None)


def test_a_confidence_that_is_no_number_is_escalated() -> None:
    broken = replace(gate(), scales=[Platt(float("nan"), 0.0)])
    decision = decided(broken, **AGREED)
    assert (decision.ask, decision.confidence) == (("large",), None)


def test_other_proposers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="made for tiny, small, large; it knows nothing of huge"):
        decided(gate(), (*ALL, "huge"))


def test_a_count_by_its_weights_comes_out_as_its_verdict() -> None:
    counted = 0
    for sample in samples(40, seed=5):
        given = proposals(**sample.responses)
        verdict, weights = (way(asking(sample.question), given) for way in (gate().verdict, gate().weights))
        read = [(name, gate().jury.reader.answer(text)) for name, text in sample.responses.items()]
        if verdict is not None and verdict.answer in {answer for _, answer in read}:  # type: ignore[union-attr]
            assert tally(read, weights).answer == verdict.answer  # type: ignore[arg-type, union-attr]
            counted += 1
    assert counted > 30


def test_a_verdict_is_in_the_words_of_someone_who_gives_that_answer() -> None:
    verdict = gate().verdict(asking(QUESTION), proposals(**APART, large="2 + 3 = 5.\n#### 5"))
    assert verdict is not None
    assert (verdict.answer, verdict.chosen) == ("5", "large")
    assert verdict.votes == {"9": ["tiny"], "6": ["small"], "5": ["large"]}
    assert gate().verdict(asking(QUESTION), proposals(tiny="none")) is None
    assert gate().weights(asking(QUESTION), proposals(tiny="none")) is None


def test_a_tighter_bound_asks_the_dearest_more_and_loses_less() -> None:
    some, reader = cases(140)
    facts: list[dict[str, Any]] = [
        dict(trained(some, reader, Recipe(target=Target(bound=bound))).facts) for bound in (0.02, 0.2)
    ]
    shares = [one["share_of_dearest"] for one in facts]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
    assert all(one["loss"] <= bound for one, bound in zip(facts, (0.02, 0.2), strict=True))


def test_a_bound_too_tight_for_the_data_always_asks_everyone() -> None:
    some, reader = cases(60)
    made = trained(some, reader, Recipe(target=Target(bound=0.001)))
    assert isinstance(made, CascadeGate)
    assert made.threshold == ALWAYS
    assert decided(made, **AGREED).ask == ("large",)


def test_platts_scaling_mends_odds_that_are_too_bold() -> None:
    draw = np.random.default_rng(0)
    honest = draw.random(2_000)
    right = (draw.random(2_000) < honest).astype(float)
    odds = np.log(honest / (1 - honest))
    bold = 1 / (1 + np.exp(-3 * odds))
    scale = Platt.fitted(bold, right)
    assert scale.slope == pytest.approx(1 / 3, abs=0.05)
    assert calibration_error(scale(bold), right) < 0.03 < calibration_error(bold, right)
    assert Platt.fitted([], []) == Platt()
