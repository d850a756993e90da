"""Rules: the first that holds decides, a name nobody has is refused, and they can be read back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision, load_gate
from llama_index.packs.mixture_of_agents.gate.rules import Rule, RuleGate
from llama_index.packs.mixture_of_agents.gate.saved import save_gate
from tests.gate.recorded_answers import asking, proposals, seats

GATE = RuleGate(
    [
        {"ask": ["large", "small"], "pattern": r"\bprove\b"},
        Rule(ask=("small",), words=("capital", "flag"), shorter_than=60),
        Rule(ask=("large",), longer_than=200),
    ],
    otherwise=["tiny"],
)


def decided(gate: RuleGate, question: str, *names: str, **texts: str) -> GateDecision:
    names = names or ("tiny", "small", "large")
    return asyncio.run(gate.decide(asking(question), seats(*names), proposals(**texts)))


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Prove that it halts.", ("large", "small")),
        ("The CAPITAL of Peru?", ("small",)),
        ("The capitals of Peru?", ("tiny",)),
        ("capital " + "x" * 300, ("large",)),
        ("", ("tiny",)),
    ],
)
def test_the_first_rule_that_holds_decides(question: str, asked: tuple[str, ...]) -> None:
    assert decided(GATE, question).ask == asked


def test_without_an_otherwise_everyone_is_asked() -> None:
    assert decided(RuleGate([]), "Why?").ask == ("tiny", "small", "large")


def test_once_anyone_answered_it_is_enough() -> None:
    assert decided(GATE, "Prove it.", large="done").ask == ()


def test_who_is_not_there_is_left_out_and_nobody_at_all_is_refused() -> None:
    assert decided(GATE, "Prove it.", "tiny", "small").ask == ("small",)
    with pytest.raises(ConfigurationError, match="A rule asks large, small"):
        decided(GATE, "Prove it.", "tiny")


def test_heads_are_counted() -> None:
    assert GATE.weights(asking("Why?"), proposals(tiny="1")) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("rule", [{}, {"ask": []}, {"ask": ["a"], "pattern": "("}, {"ask": ["a"], "if": "x"}])
def test_a_rule_that_cannot_be_read_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="A rule cannot be read"):
        RuleGate([rule])


def test_rules_come_back_from_disk(tmp_path: Path) -> None:
    again = load_gate(save_gate(GATE, tmp_path / "gate"))
    assert again.described() == GATE.described()


def test_which_part_of_a_rule_is_wrong_is_said() -> None:
    with pytest.raises(ConfigurationError, match="words: Input should be a valid tuple"):
        RuleGate([{"ask": ["large"], "words": "prove"}])
