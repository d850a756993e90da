"""Three roles on one model, and what the caller may change about them."""

from __future__ import annotations

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.app.default_mixture import (
    Wishes,
    default_aggregator,
    default_proposers,
    named_proposers,
    seeds,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


def test_the_proposers_differ_in_name_role_and_temperature() -> None:
    proposers = default_proposers(ScriptedLLM("x"), Wishes())
    assert [proposer.name for proposer in proposers] == ["expert", "critic", "teacher"]
    assert len({proposer.role for proposer in proposers}) == 3
    assert len({proposer.sampling.temperature for proposer in proposers}) == 3
    assert all("at most" in (proposer.role or "") for proposer in proposers)


def test_what_the_caller_wants_goes_before_the_defaults() -> None:
    wishes = Wishes(temperature=0.0, max_tokens=9, seed=5)
    proposers = [*default_proposers(ScriptedLLM("x"), wishes), default_aggregator(ScriptedLLM("x"), wishes)]
    assert {proposer.sampling.temperature for proposer in proposers} == {0.0}
    assert {proposer.sampling.max_tokens for proposer in proposers} == {9}
    assert [proposer.sampling.seed for proposer in proposers] == [5, 6, 7, 5]


def test_equal_models_get_seeds_of_their_own() -> None:
    model = ScriptedLLM("x")
    assert [p.sampling.seed for p in named_proposers([model, model], Wishes(seed=1))] == [1, 2]
    assert seeds(None, 2) == [None, None]


def test_two_rounds_and_a_synthesis() -> None:
    llm = ScriptedLLM("an answer")
    response = MixtureOfAgentsPack(
        default_aggregator(llm, Wishes()), default_proposers(llm, Wishes()), timeout=None
    ).run("Why?")
    assert [(p.layer, p.proposer) for p in response.proposals] == [
        (layer, name) for layer in (1, 2) for name in ("expert", "critic", "teacher")
    ]
    assert response.synthesizer == "aggregator"
    assert len(llm.calls) == 7
