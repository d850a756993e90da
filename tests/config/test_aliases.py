"""Names of one's own for models: where they lead, and that none leads to itself."""

from __future__ import annotations

import pytest

from llama_index.packs.mixture_of_agents.config import MixtureConfig, ProposerConfig
from llama_index.packs.mixture_of_agents.config.aliases import resolved
from llama_index.packs.mixture_of_agents.errors import ConfigurationError


def test_the_nearer_settings_win() -> None:
    config = MixtureConfig(
        models={
            "base": {"model": "openai:gpt-4o", "temperature": 0.1, "seed": 1, "settings": {"a": 1, "b": 1}},
            "warm": {"model": "base", "temperature": 0.9, "settings": {"b": 2, "c": 2}},
        }
    )
    full = resolved(ProposerConfig(model="warm", name="w", seed=5, settings={"c": 3}), config.models)
    assert full == ProposerConfig(
        model="openai:gpt-4o", name="w", temperature=0.9, seed=5, settings={"a": 1, "b": 2, "c": 3}
    )


def test_a_name_that_is_no_alias_stands() -> None:
    entry = ProposerConfig(model="openai:gpt-4o")
    assert resolved(entry, MixtureConfig(models={"fast": "x"}).models) == entry


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"a": "a"}, "models.a is a cycle of names: a -> a."),
        ({"a": "b", "b": "c", "c": "a"}, "models.a is a cycle of names: a -> b -> c -> a."),
        ({"into": "x", "x": "y", "y": "x"}, "models.x is a cycle of names: x -> y -> x."),
    ],
)
def test_a_cycle_is_refused_and_named(models: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        MixtureConfig(models=models)
    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_each_cycle_is_told_once() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        MixtureConfig(models={"a": "b", "b": "a", "c": "c", "d": "a"})
    assert str(refusal.value).count("cycle") == 2
