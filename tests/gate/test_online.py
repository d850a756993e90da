"""A gate that goes on learning: what it learns, of whom, and what that changes."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, MixtureResponse
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate import attendance
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedGate
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.gate.online import OnlineGate
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision
from llama_index.packs.mixture_of_agents.gate.rules import RuleGate
from llama_index.packs.mixture_of_agents.gate.targets import Target
from llama_index.packs.mixture_of_agents.gate.training import Recipe, trained
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.gate.recorded_answers import asking, cases, proposals, samples, seats

ALL = ("tiny", "small", "large")
QUESTION = "A shop sells 2, 3 pens on its days. How many pens in all?"
AGREED: Mapping[str, str] = {"tiny": "2 + 3 = 5.\n#### 5", "small": "2 + 3 = 5.\n#### 5"}


@lru_cache
def learned(kind: str) -> Any:
    some, reader = cases()
    return trained(some, reader, Recipe(kind, Target(share=0.6)))


def decided(gate: Any, question: str = QUESTION, **texts: str) -> GateDecision:
    decision: GateDecision = asyncio.run(gate.decide(asking(question), seats(*ALL), proposals(**texts)))
    return decision


def response(run: str, texts: Mapping[str, str], final: str = "") -> MixtureResponse:
    return MixtureResponse(text=final, proposals=proposals(**texts), run_id=run)


def shares(gate: OnlineGate) -> dict[str, float]:
    return {about: one.right for (kind, about), one in gate.estimates().items() if kind == "proposer"}


@pytest.mark.parametrize("kind", ["cascade", "neighbours"])
def test_with_no_outcomes_it_decides_as_the_gate_it_wraps(kind: str) -> None:
    gate = learned(kind)
    online = OnlineGate(gate)
    for sample in samples(15, seed=4):
        for heard in ({}, {n: sample.responses[n] for n in ("tiny", "small")}, sample.responses):
            assert decided(online, sample.question, **heard) == decided(gate, sample.question, **heard)
            given = (asking(sample.question), proposals(**heard))
            assert online.weights(*given) == gate.weights(*given)
            assert online.verdict(*given) == gate.verdict(*given)


@settings(max_examples=8, deadline=None)
@given(
    skills=st.fixed_dictionaries({name: st.floats(0.05, 0.95) for name in ALL}), seed=st.integers(0, 1_000)
)
def test_estimates_come_to_the_truth(skills: dict[str, float], seed: int) -> None:
    online, draw, counted = OnlineGate(RuleGate([])), random.Random(seed), dict.fromkeys(ALL, 0)
    for number in range(400):
        right = {name: draw.random() < skill for name, skill in skills.items()}
        counted = {name: counted[name] + is_right for name, is_right in right.items()}
        texts = {name: f"The answer is {7 if is_right else 8}" for name, is_right in right.items()}
        online.feedback(response(f"r{number}", texts), answer="The answer is 7", question="?")
    assert shares(online) == {name: pytest.approx(count / 400) for name, count in counted.items()}
    for (_, name), estimate in online.estimates().items():
        seen = counted[name] / 400
        assert estimate.chance == pytest.approx((50 * 0.5 + counted[name]) / 450)
        assert abs(estimate.chance - skills[name]) <= abs(seen - skills[name]) + 50 / 450


@settings(max_examples=25, deadline=None)
@given(
    heard=st.sets(st.sampled_from(ALL)),
    way=st.sampled_from([{"right": True}, {"right": False}, {"answer": "5"}, {"verifier": "yes"}]),
)
def test_it_learns_of_answers_it_was_shown_and_of_no_others(heard: set[str], way: dict[str, Any]) -> None:
    online = OnlineGate(learned("cascade"))
    texts = dict.fromkeys(heard, "2 + 3 = 5.\n#### 5")
    if "verifier" in way:
        way = {"verifier": lambda question, text: text in texts.values()}
    told = online.feedback(response("r", texts, "#### 5"), question=QUESTION, **way)
    assert {about for kind, about in (one.key for one in told) if kind == "proposer"} <= heard
    stages = {about for kind, about in (one.key for one in told) if kind == "stage"}
    assert stages <= ({"1"} if heard & {"tiny", "small"} else set())


def test_only_the_first_round_is_learned_from() -> None:
    online = OnlineGate(RuleGate([]))
    later = proposals(large="#### 5")[0].model_copy(update={"layer": 2})
    told = online.feedback(
        MixtureResponse(text="#### 5", proposals=[*proposals(tiny="#### 5"), later], run_id="r"),
        right=True,
        question="?",
    )
    assert [one.key[1] for one in told] == ["tiny"]


def test_of_a_wrong_answer_only_those_who_gave_it_are_known_to_be_wrong() -> None:
    online = OnlineGate(RuleGate([]), extract="number")
    texts = {"tiny": "#### 5", "small": "#### 6", "large": "no idea"}
    told = online.feedback(response("r", texts, "So it is 5."), right=False, question="?")
    assert [(one.key[1], one.is_right) for one in told] == [("tiny", False)]
    told = online.feedback(response("r", texts, "So it is 5."), right=True, question="?")
    assert {one.key[1]: one.is_right for one in told} == {"tiny": True, "small": False, "large": False}


def test_a_cascade_that_stops_at_wrong_answers_learns_to_go_on() -> None:
    online = OnlineGate(learned("cascade"))
    before = decided(online, **AGREED)
    assert before.ask == ()
    for number in range(150):
        online.feedback(response(f"r{number}", AGREED), answer="#### 9", question=QUESTION)
    after = decided(online, **AGREED)
    assert after.ask == ("large",)
    assert after.confidence is not None
    assert before.confidence is not None
    assert after.confidence < 0.3 < before.confidence
    online.reset()
    assert decided(online, **AGREED) == before


def test_a_gate_of_scores_learns_whom_to_trust() -> None:
    online = OnlineGate(learned("neighbours"))
    before = decided(online).scores
    for number in range(200):
        texts = {"tiny": "#### 5", "large": "#### 6"}
        online.feedback(response(f"r{number}", texts), answer="#### 5", question=QUESTION)
    after = decided(online).scores
    assert after["tiny"] > before["tiny"]
    assert after["large"] < before["large"]
    assert after["small"] == before["small"]


def test_outcomes_as_expected_change_little() -> None:
    online, draw = OnlineGate(learned("cascade")), random.Random(3)
    sure = decided(online, **AGREED).confidence
    assert sure is not None
    for number in range(300):
        truth = "#### 5" if draw.random() < sure else "#### 9"
        online.feedback(response(f"r{number}", AGREED), answer=truth, question=QUESTION)
    now = decided(online, **AGREED).confidence
    assert now == pytest.approx(sure, abs=0.05)


def test_rules_keep_their_choice_and_overflow_goes_by_what_was_learned() -> None:
    online = OnlineGate(RuleGate([{"ask": ["tiny"]}]))
    for number in range(30):
        texts = {"small": "#### 1", "large": "#### 2"}
        online.feedback(response(f"r{number}", texts), answer="#### 2", question="?")
    decision = decided(online)
    assert decision.ask == ("tiny",)
    assert decision.scores["large"] > 0.5 > decision.scores["small"]


def run_with(online: OnlineGate, gate: Any = None, *policies: Any, **texts: str) -> MixtureResponse:
    models = [ScriptedLLM(text, model=name) for name, text in texts.items()]
    writer = ScriptedLLM("So it is 5.", model="judge")
    pack = MixtureOfAgentsPack(writer, models, 2, gate=gate or online, policies=[online, *policies])
    return pack.run(QUESTION)


def test_feedback_on_a_run_it_took_part_in_needs_no_question(tmp_path: Path) -> None:
    online = OnlineGate(learned("cascade"), tmp_path / "outcomes.sqlite")
    found = run_with(online, **AGREED, large="#### 5")
    assert [routing.asked for routing in found.routed] == [["tiny", "small"], []]
    assert {one.key for one in online.feedback(found, right=True)} == {
        ("proposer", "tiny"), ("proposer", "small"), ("stage", "1"),
    }  # fmt: skip
    again = OnlineGate(learned("cascade"), tmp_path / "outcomes.sqlite")
    assert shares(again) == {"tiny": 1.0, "small": 1.0}
    assert shares(OnlineGate(learned("neighbours"), tmp_path / "outcomes.sqlite")) == {}


def test_limits_go_around_it() -> None:
    capacity = Capacity({"*": Limits(in_flight=9)})
    online = OnlineGate(learned("cascade"))
    found = run_with(online, CappedGate(online, capacity), capacity, **AGREED, large="#### 5")
    assert found.routed[0].asked == ["tiny", "small"]
    with pytest.raises(ConfigurationError, match="Limits go around what learns"):
        OnlineGate(CappedGate(learned("cascade"), capacity))


def test_agreement_is_learned_from_only_where_it_was_asked_for() -> None:
    texts = {"tiny": "#### 5", "small": "#### 5", "large": "#### 6"}
    silent = OnlineGate(RuleGate([]), extract="number")
    run_with(silent, **texts)
    assert silent.estimates() == {}
    online = OnlineGate(RuleGate([]), learn_from="agreement", extract="number")
    found = run_with(online, **texts)
    assert shares(online) == {"tiny": 1.0, "small": 1.0, "large": 0.0}
    online.feedback(found, answer="6")  # the majority was wrong
    assert shares(online) == {"tiny": 0.0, "small": 0.0, "large": 1.0}


@pytest.mark.parametrize(
    "texts",
    [
        {"tiny": "#### 5", "small": "#### 5"},
        {"tiny": "#### 5", "small": "#### 6", "large": "#### 7"},
        {"tiny": "#### 5", "small": "#### 5", "large": "none"},
    ],
)
def test_two_are_no_majority_and_neither_is_a_tie(texts: dict[str, str]) -> None:
    online = OnlineGate(RuleGate([]), learn_from="agreement", extract="number")
    run_with(online, **texts)
    assert online.estimates() == {}


def test_agreement_says_nothing_of_a_stages_vote() -> None:
    online = OnlineGate(learned("cascade"), learn_from="agreement")
    run_with(online, tiny="#### 5", small="#### 6", large="#### 5")
    assert {kind for kind, _ in online.estimates()} == {"proposer"}


def test_learning_from_runs_it_takes_no_part_in_is_refused() -> None:
    online = OnlineGate(RuleGate([]), learn_from="agreement")
    pack = MixtureOfAgentsPack(ScriptedLLM("j"), [ScriptedLLM("a")], 2, gate=online)
    with pytest.raises(ConfigurationError, match=r"gate=online, policies=\[online\]"):
        pack.run("Why?")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "Give one of right=, answer= and verifier="),
        ({"right": True, "answer": "5"}, "Give one of"),
        ({"right": True}, "The run's answer, 'none', says nothing that 'number' can read"),
        ({"answer": "many"}, "The right answer, 'many', says nothing"),
        ({"verifier": lambda question, text: 3}, "must say True, False or None"),
        ({"right": True, "question": None}, "The run r is not known here"),
        ({"right": "no"}, "right must be True, False or None; found 'no'"),
        ({"right": 1}, "right must be True, False or None; found 1"),
        ({"answer": 7}, "answer must be a text; found 7. Pass answer='7'"),
        ({"answer": True}, "answer must be a text; found True"),
        ({"verifier": 3}, "verifier must be a function of a question and a text; found 3"),
        ({"answer": "5", "question": 5}, "question must be a text"),
    ],
)
def test_feedback_that_cannot_be_is_refused(told: dict[str, Any], said: str) -> None:
    online = OnlineGate(learned("cascade"))
    with pytest.raises(ConfigurationError, match=said):
        online.feedback(response("r", AGREED, "none"), **{"question": QUESTION, **told})
    assert online.estimates() == {}


def test_of_the_right_answer_nobody_is_told_to_pass_it() -> None:
    with pytest.raises(ConfigurationError, match="Pass the right one as answer=") as of_the_run:
        OnlineGate(learned("cascade")).feedback(response("r", AGREED, "none"), right=True, question=QUESTION)
    with pytest.raises(ConfigurationError, match="Name it as proposers would") as of_the_answer:
        OnlineGate(learned("cascade")).feedback(response("r", AGREED), answer="many", question=QUESTION)
    assert "Name it" not in str(of_the_run.value)
    assert "Pass the right one" not in str(of_the_answer.value)


def test_feedback_on_what_is_no_response_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="response must be what a run gave; found 'x'"):
        OnlineGate(RuleGate([])).feedback("x", right=True, question="?")  # type: ignore[arg-type]


def test_a_verifier_is_called_once_for_each_text() -> None:
    seen = list[str]()

    def check(question: str, text: str) -> bool | None:
        seen.append(text)
        return None if text == "#### 7" else text == "#### 5"

    texts = {"a": "#### 5", "b": "#### 6", "c": "#### 5", "d": "#### 7", "e": "#### 7"}
    told = OnlineGate(RuleGate([])).feedback(response("r", texts), verifier=check, question="?")
    assert seen == ["#### 5", "#### 6", "#### 7"]
    assert {one.key[1]: one.is_right for one in told} == {"a": True, "b": False, "c": True}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"store": 5}, "store must be a path, as text or as a Path; found 5"),
        ({"store": " "}, "store must be a path"),
        ({"store": b"outcomes"}, "store must be a path"),
        ({"store": "out\0comes"}, "store must be a path"),
        ({"clock": 3}, "clock must be a function"),
        ({"prior_weight": 0}, "prior_weight"),
        ({"half_life_days": -1}, "half_life_days"),
        ({"learn_from": "stars"}, "learn_from must be 'agreement' or None"),
        ({"extract": "nothing such"}, "nothing such"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        OnlineGate(RuleGate([]), **options)
    for none in (None, "gate", OnlineGate(RuleGate([]))):
        with pytest.raises(ConfigurationError, match="gate must be"):
            OnlineGate(none)  # type: ignore[arg-type]


def test_more_runs_at_once_than_are_remembered_afterwards_are_all_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendance, "MOST_ENDED", 3)
    online = OnlineGate(RuleGate([]), learn_from="agreement", extract="number")
    models = [ScriptedLLM("#### 5", model=name) for name in ALL]
    pack = MixtureOfAgentsPack(ScriptedLLM("5", model="judge"), models, 2, gate=online, policies=[online])

    async def asked() -> list[MixtureResponse]:
        return await asyncio.gather(*[pack.arun(f"{number}?") for number in range(20)])

    assert len(asyncio.run(asked())) == 20
    assert {one.count for one in online.estimates().values()} == {20.0}


def test_a_locked_store_costs_no_answer_and_what_a_run_taught_is_kept_when_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outcomes.sqlite"
    online = OnlineGate(RuleGate([]), path, learn_from="agreement", extract="number")
    run_with(online, **dict.fromkeys(ALL, "#### 5"))
    assert {one.count for one in online.estimates().values()} == {1.0}
    with closing(sqlite3.connect(path, isolation_level=None)) as held:
        held.execute("BEGIN EXCLUSIVE")
        fresh = OnlineGate(RuleGate([]), path, learn_from="agreement", extract="number")
        assert run_with(fresh, **dict.fromkeys(ALL, "#### 5")).text == "So it is 5."
    assert {one.count for one in fresh.estimates().values()} == {2.0}
    assert [record.getMessage()[:40] for record in caplog.records] == [f"Outcomes in {path}"[:40]]
