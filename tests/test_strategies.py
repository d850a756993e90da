"""Strategies: who sits in a layer, and that an own role or temperature is never overwritten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents import ConfigurationError, Proposer
from llama_index.packs.mixture_of_agents.strategies import (
    ROLES,
    STRATEGIES,
    TEMPERATURES,
    by_role,
    by_self,
    by_temperature,
    seats_wanted,
    strategy_named,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


class Agent:
    """Anything with `run` is an agent."""

    name = "agent"

    def run(self, **_: object) -> None: ...


def proposers(count: int) -> list[Proposer]:
    return [Proposer(ScriptedLLM("x", model=f"m{n}")) for n in range(count)]


@given(name=st.sampled_from(sorted(STRATEGIES)), count=st.integers(1, 6), wanted=st.integers(1, 12))
def test_every_strategy_seats_as_many_as_wanted_and_changes_nobody(
    name: str, count: int, wanted: int
) -> None:
    given_proposers = proposers(count)
    before = [(p.name, p.role, p.sampling) for p in given_proposers]
    seated = STRATEGIES[name](1, given_proposers, wanted)
    assert len(seated) == wanted
    assert {proposer.model.model for proposer in seated} <= {f"m{n}" for n in range(count)}
    assert [(p.name, p.role, p.sampling) for p in given_proposers] == before


@given(count=st.integers(1, 6), wanted=st.integers(1, 12))
def test_models_take_turns(count: int, wanted: int) -> None:
    for name in ("model", "role", "temperature"):
        seated = STRATEGIES[name](1, proposers(count), wanted)
        assert [proposer.model.model for proposer in seated] == [f"m{n % count}" for n in range(wanted)]


def test_roles_and_temperatures_are_spread_in_turn() -> None:
    assert [p.role for p in by_role(1, proposers(1), 5)] == [*ROLES, ROLES[0]]
    temperatures = [p.sampling.temperature for p in by_temperature(1, proposers(2), 4)]
    assert temperatures == [*TEMPERATURES, TEMPERATURES[0]]


def test_a_role_or_temperature_of_ones_own_stays() -> None:
    own = Proposer(ScriptedLLM("x"), role="A poet.", temperature=0.0)
    assert {p.role for p in by_role(1, [own], 3)} == {"A poet."}
    assert {p.sampling.temperature for p in by_temperature(1, [own], 3)} == {0.0}
    assert {p.sampling.temperature for p in by_self(1, [own], 3)} == {0.0}


def test_self_asks_the_first_alone_warm_and_with_seeds_that_never_repeat() -> None:
    seated = [proposer for layer in (1, 2) for proposer in by_self(layer, proposers(3), 4)]
    assert {proposer.model.model for proposer in seated} == {"m0"}
    assert {proposer.sampling.temperature for proposer in seated} == {0.7}
    assert len({proposer.sampling.seed for proposer in seated}) == 8


def test_an_agent_is_seated_without_sampling_settings_which_it_would_refuse() -> None:
    agent = Proposer(Agent())
    for strategy in STRATEGIES.values():
        assert all(p.sampling.given() == {} for p in strategy(1, [agent], 3))


@pytest.mark.parametrize(
    ("strategy", "count", "asked", "wanted"),
    [
        ("model", 1, None, 1),
        ("model", 5, None, 5),
        ("role", 1, None, 3),
        ("self", 2, None, 3),
        ("temperature", 5, None, 5),
        ("role", 1, 2, 2),
        (by_role, 1, None, 1),
    ],
)
def test_how_many_sit_when_nobody_says(strategy: str, count: int, asked: int | None, wanted: int) -> None:
    assert seats_wanted(strategy, count, asked) == wanted


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigurationError, match="'model', 'role', 'temperature', 'self'"):
        strategy_named("majority")
    assert strategy_named(by_role) is by_role
