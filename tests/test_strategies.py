"""Strategies: who sits in a layer, and that an own role or temperature is never overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.spreading import Spread
from llama_index.packs.mixture_of_agents.strategies import (
    ROLES,
    STRATEGIES,
    by_model,
    by_role,
    by_self,
    by_temperature,
    picked,
    register_strategy,
    seats_wanted,
    strategy_named,
    temperature_strategy,
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


def test_roles_are_spread_in_turn_and_wait_for_written_ones() -> None:
    seated = by_role(1, proposers(1), 5)
    assert [p.role for p in seated] == [*ROLES, ROLES[0]]
    assert all(p.takes_role for p in seated)


def temperatures_of(seated: list[Proposer]) -> dict[str, list[float | None]]:
    """Each model's temperatures, in the order of its seats."""
    found: dict[str, list[float | None]] = {}
    for proposer in seated:
        found.setdefault(proposer.model.model, []).append(proposer.sampling.temperature)
    return found


@given(count=st.integers(1, 5), wanted=st.integers(1, 24))
def test_no_two_seats_of_a_model_have_the_same_temperature(count: int, wanted: int) -> None:
    for values in temperatures_of(by_temperature(1, proposers(count), wanted)).values():
        assert len(set(values)) == len(values)
        assert all(value is not None and 0.3 <= value <= 0.9 for value in values)


def test_temperatures_are_spread_evenly() -> None:
    assert temperatures_of(by_temperature(1, proposers(1), 3)) == {"m0": [0.3, 0.6, 0.9]}
    assert temperatures_of(by_temperature(1, proposers(2), 4)) == {"m0": [0.3, 0.7], "m1": [0.5, 0.9]}


@given(count=st.integers(1, 5), length=st.integers(1, 5))
def test_every_model_goes_through_the_whole_list_of_temperatures(count: int, length: int) -> None:
    values = [n / 10 for n in range(length)]
    seated = temperature_strategy(values)(1, proposers(count), count * length)
    for own in temperatures_of(seated).values():
        assert sorted(value for value in own if value is not None) == values


def test_temperatures_may_be_given_as_bounds() -> None:
    for bounds in ("0.2..1.0", Spread(0.2, 1.0)):
        seated = temperature_strategy(bounds)(1, proposers(1), 5)
        assert temperatures_of(seated) == {"m0": [0.2, 0.4, 0.6, 0.8, 1.0]}


def test_temperatures_that_are_none_are_refused_before_anyone_is_seated() -> None:
    with pytest.raises(ConfigurationError, match=r"'0\.2\.\.1\.0'"):
        temperature_strategy("hot")


def test_a_role_or_temperature_of_ones_own_stays() -> None:
    own = Proposer(ScriptedLLM("x"), role="A poet.", temperature=0.0)
    assert {p.role for p in by_role(1, [own], 3)} == {"A poet."}
    assert not any(p.takes_role for p in by_role(1, [own], 3))
    assert {p.sampling.temperature for p in by_temperature(1, [own], 3)} == {0.0}
    assert {p.sampling.temperature for p in by_self(1, [own], 3)} == {0.0}


def test_self_asks_the_first_alone_warm_and_with_seeds_that_never_repeat() -> None:
    seated = [proposer for layer in (1, 2) for proposer in by_self(layer, proposers(3), 4)]
    assert {proposer.model.model for proposer in seated} == {"m0"}
    assert {proposer.sampling.temperature for proposer in seated} == {0.7}
    assert len({proposer.sampling.seed for proposer in seated}) == 8


def test_an_agent_is_seated_without_sampling_settings_which_it_would_refuse() -> None:
    agent = Proposer(Agent())
    for strategy in [*STRATEGIES.values(), temperature_strategy([0.1, 0.2])]:
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
        ("a name of the caller's", 2, None, 2),
    ],
)
def test_how_many_sit_when_nobody_says(strategy: str, count: int, asked: int | None, wanted: int) -> None:
    assert seats_wanted(strategy, count, asked) == wanted


def test_a_list_of_temperatures_seats_one_for_each() -> None:
    assert seats_wanted("temperature", 1, None, [0.1, 0.2, 0.3, 0.4]) == 4
    assert seats_wanted("temperature", 5, None, [0.1, 0.2]) == 5
    assert seats_wanted("temperature", 1, None, "0.2..1.0") == 3
    assert seats_wanted("temperature", 1, 2, [0.1, 0.2, 0.3]) == 2


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigurationError, match="'model', 'role', 'temperature', 'self'"):
        strategy_named("majority")
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        strategy_named("temprature")
    assert strategy_named(by_role) is by_role


def first_alone(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
    return [proposers[0]]


@pytest.fixture
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is gone after it."""
    for name, function in list(STRATEGIES.items()):
        monkeypatch.setitem(STRATEGIES, name, function)
    for name in ("mine", "my own"):
        monkeypatch.setitem(STRATEGIES, name, by_model)
        del STRATEGIES[name]


@pytest.mark.usefixtures("_registry")
def test_a_strategy_of_the_callers_own_is_known_by_its_name() -> None:
    assert register_strategy("mine", first_alone) is first_alone
    assert strategy_named("mine") is first_alone
    with pytest.raises(ConfigurationError, match="'mine'"):
        strategy_named("mime")


@pytest.mark.usefixtures("_registry")
def test_registering_works_as_a_decorator_and_again() -> None:
    for _ in range(2):  # as in a notebook's cell, run again

        @register_strategy("my own")
        def own(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
            return list(proposers)

        assert strategy_named("my own") is own


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("name", ["model", "role", "temperature", "self"])
def test_a_built_in_strategy_is_replaced_only_on_purpose(name: str) -> None:
    with pytest.raises(ConfigurationError, match="replace=True"):
        register_strategy(name, first_alone)
    register_strategy(name, first_alone, replace=True)
    assert strategy_named(name) is first_alone


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("name", "function"),
    [("", first_alone), (None, first_alone), (3, first_alone), ("mine", 3), ("mine", lambda layer: [])],
)
def test_what_cannot_be_a_strategy_is_not_registered(name: Any, function: Any) -> None:
    with pytest.raises(ConfigurationError):
        register_strategy(name, function)
    assert "mine" not in STRATEGIES


def names_of(drawn: list[Proposer]) -> list[str]:
    return [proposer.name for proposer in drawn]


@given(count=st.integers(1, 6), wanted=st.integers(1, 20), seed=st.integers(), layer=st.integers(1, 4))
def test_nobody_is_drawn_a_second_time_before_all_were_once(
    count: int, wanted: int, seed: int, layer: int
) -> None:
    drawn = names_of(picked(proposers(count), wanted, "sample", seed, layer))
    assert len(drawn) == wanted
    for start in range(0, wanted, count):
        part = drawn[start : start + count]
        assert len(set(part)) == len(part)
    assert drawn == names_of(picked(proposers(count), wanted, "sample", seed, layer))


def test_the_draw_depends_on_the_seed_and_the_layer() -> None:
    draws = {
        tuple(names_of(picked(proposers(6), 6, "sample", seed, layer))) for seed in (0, 1) for layer in (1, 2)
    }
    assert len(draws) == 4


def test_the_draw_is_the_same_in_every_process() -> None:
    assert names_of(picked(proposers(4), 4, "sample", 7, 1)) == ["m0", "m2", "m3", "m1"]


def test_cycling_leaves_the_order_to_the_strategy() -> None:
    assert names_of(picked(proposers(3), 7, "cycle", 0, 1)) == ["m0", "m1", "m2"]
