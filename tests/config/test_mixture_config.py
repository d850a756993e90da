"""A mixture as data: two sets of names, short forms, and what is refused with which words."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from llama_index.packs.mixture_of_agents.config import (
    BudgetConfig,
    FinishConfig,
    MixtureConfig,
    ModelConfig,
    PriceConfig,
    ProposerConfig,
    RefusedError,
    StopConfig,
    TraceConfig,
)
from llama_index.packs.mixture_of_agents.config.shaping import SYNONYMS
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.config.mixtures import mixtures

TABLES: tuple[type[BaseModel], ...] = (
    *(MixtureConfig, ModelConfig, ProposerConfig, FinishConfig, StopConfig, BudgetConfig, TraceConfig),
    PriceConfig,
)


def test_the_names_of_the_langchain_sample_mean_ours() -> None:
    theirs = MixtureConfig(
        models_layer=["gpt-4", "claude-3-haiku"],
        model_roles="gpt-4",
        aggregator_model="mistral-small",
        nb_models_by_layer=3,
        layer=2,
        layer_strategy="role",
        temperature=0.7,
        max_tokens=500,
    )
    ours = MixtureConfig(
        proposers=["gpt-4", "claude-3-haiku"],
        role_writer="gpt-4",
        aggregator="mistral-small",
        nb_models_by_layer=3,
        num_layers=2,
        strategy="role",
        temperature=0.7,
        max_tokens=500,
    )
    assert theirs == ours
    assert (theirs.layer, theirs.layer_strategy, theirs.models_layer) == (2, "role", ours.proposers)
    assert (theirs.model_roles, theirs.aggregator_model) == (ours.role_writer, ours.aggregator)
    assert theirs.was_set == ours.was_set


def test_a_list_of_models_is_who_proposes() -> None:
    assert MixtureConfig(models=["a", "b"]) == MixtureConfig(proposers=["a", "b"])
    assert MixtureConfig(models={"a": "b"}).models["a"].model == "b"


def test_one_thing_under_two_names_must_be_the_same() -> None:
    assert MixtureConfig(layer=2, num_layers=2).num_layers == 2
    assert MixtureConfig(models_layer=("a",), proposers=["a"]) == MixtureConfig(proposers=["a"])
    with pytest.raises(ConfigurationError, match=r"num_layers means the same as layer, and they differ"):
        MixtureConfig(layer=2, num_layers=3)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"proposers": "a"}, {"proposers": [{"model": "a"}]}),
        ({"proposers": ["a"]}, {"proposers": [[{"model": "a"}]]}),
        ({"proposers": [["a"], ["b", "c"]]}, {"models_layer": ([{"model": "a"}], ("b", {"model": "c"}))}),
        ({"finish": "vote"}, {"finish": {"kind": "vote"}}),
        ({"stop_early": "agreement"}, {"stop_early": {"kind": "agreement"}}),
        ({"budget": 2}, {"budget": {"usd": 2.0}}),
        ({"trace": True}, {"trace": {}}),
        ({"trace": False}, {"trace": None}),
        ({"trace": "logs"}, {"trace": {"path": "logs"}}),
        ({"models": {"a": "b"}}, {"models": {"a": {"model": "b"}}}),
        ({"timeout": "none"}, {"timeout": None}),
    ],
)
def test_short_forms(short: dict[str, Any], long: dict[str, Any]) -> None:
    assert MixtureConfig(**short) == MixtureConfig(**long)


def test_tables_may_be_objects() -> None:
    made = MixtureConfig(
        proposers=[ProposerConfig(model="a", role="r")], finish=FinishConfig(kind="rank"), trace=TraceConfig()
    )
    assert made == MixtureConfig(proposers=[{"model": "a", "role": "r"}], finish="rank", trace=True)


def test_every_field_says_what_it_is() -> None:
    bare = [
        f"{t.__name__}.{n}" for t in TABLES for n, field in t.model_fields.items() if not field.description
    ]
    assert not bare


def test_no_synonym_is_a_field_and_each_leads_to_one() -> None:
    assert not set(SYNONYMS) & set(MixtureConfig.model_fields)
    assert set(SYNONYMS.values()) <= set(MixtureConfig.model_fields)


def test_it_cannot_be_changed() -> None:
    config = MixtureConfig(layer=2)
    with pytest.raises(ValidationError, match="frozen"):
        config.num_layers = 3


def test_updated_is_checked_anew_and_keeps_the_rest() -> None:
    config = MixtureConfig(proposers=["a"], layer=2, timeout=None)
    assert config.updated(layer=4) == MixtureConfig(proposers=["a"], layer=4, timeout=None)
    assert config.num_layers == 2
    assert config.updated(models_layer=["b"]).was_set == {"proposers", "num_layers", "timeout"}
    with pytest.raises(ConfigurationError, match=r"num_layers must be a whole number >= 1; found 0"):
        config.updated(layer=0)


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"temprature": 1}, "temprature is no key here. Did you mean 'temperature'?"),
    "key with a dash": ({"num-layers": 1}, "num-layers is no key here. Did you mean 'num_layers'?"),
    "sample's key": ({"model_layer": ["a"]}, "Did you mean 'models_layer'?"),
    "unknown key inside": (
        {"proposers": ["a", {"model": "b", "temprature": 1}]},
        "proposers[1].temprature is no key here. Did you mean 'temperature'? The keys are: max_tokens, model",
    ),
    "wrong type": ({"layer": "3"}, "layer must be a whole number >= 1; found '3'. 3 means two rounds"),
    "too few layers": ({"num_layers": 0}, "num_layers must be a whole number >= 1; found 0."),
    "true is no number": ({"max_tokens": True}, "max_tokens must be a whole number >= 1, or None"),
    "too hot": ({"temperature": 2.5}, "temperature must be a number between 0 and 2, or None"),
    "nan": ({"temperature": float("nan")}, "temperature must be a finite number; found nan."),
    "past 64 bits": ({"max_tokens": 2**70}, "max_tokens must be a number of at most 64 bits"),
    "inside a list": (
        {"models_layer": ["a", {"model": "b", "temperature": "hot"}]},
        "models_layer[1].temperature must be a number between 0 and 2, or None for the model's own; found",
    ),
    "inside a round": (
        {"proposers": [["a"], [{"model": "b", "seed": 1.5}]]},
        "proposers[1][0].seed must be a whole number, or None for none; found 1.5.",
    ),
    "no model": ({"proposers": [{"role": "r"}]}, "proposers[0] lacks the key 'model'"),
    "empty model": ({"aggregator": " "}, "aggregator must name a model; found an empty text."),
    "empty model in a table": ({"aggregator": {"model": ""}}, "aggregator.model must be a non-empty text"),
    "number as a model": ({"proposers": [3]}, "proposers[0] must be a model's name, or a table"),
    "mixed rounds": ({"proposers": ["a", ["b"]]}, "proposers[0] must be a non-empty list: models for all"),
    "empty round": ({"proposers": [["a"], []]}, "proposers[1] must be a non-empty list"),
    "live object": ({"aggregator": ScriptedLLM("x")}, "aggregator must be a text, a number, true or false"),
    "unknown strategy": ({"layer_strategy": "rol"}, "layer_strategy: Unknown strategy 'rol'; use one of"),
    "unknown finish": (
        {"finish": "vot"},
        "finish.kind must be one of 'synthesize', 'sequential', 'rank', 'vote'",
    ),
    "window of a vote": (
        {"finish": {"kind": "vote", "window": 3}},
        "finish: window is for kind = 'sequential'; found kind = 'vote'.",
    ),
    "small window": (
        {"finish": {"kind": "sequential", "window": 1}},
        "finish.window must be a whole number >= 2",
    ),
    "extractor": (
        {"finish": {"kind": "vote", "extract": "nmber"}},
        "finish.extract: Unknown extractor 'nmber'",
    ),
    "pattern": ({"finish": {"kind": "vote", "extract": "regex:("}}, "finish.extract: The pattern"),
    "weight": (
        {"finish": {"kind": "vote", "weights": {"a": -1}}},
        "finish.weights.a must be a number between 0",
    ),
    "stop without a kind": ({"stop_early": {"share": 1}}, "stop_early lacks the key 'kind'"),
    "stop of neither kind": (
        {"stop_early": "never"},
        "stop_early.kind must be one of 'agreement', 'similarity'",
    ),
    "share": (
        {"stop_early": {"kind": "agreement", "share": 2}},
        "stop_early.share must be a number between 0 and 1",
    ),
    "similarity without a model": (
        {"stop_early": "similarity"},
        "stop_early: kind = 'similarity' needs an embed",
    ),
    "budget without a limit": (
        {"budget": {"margin": 2}},
        "budget must set a limit: usd, tokens, seconds, total",
    ),
    "two places of a trace": (
        {"trace": {"path": "a", "folder": "b"}},
        "trace: path is a file for all runs, folder for one each; keep one of the two.",
    ),
    "negative budget": ({"budget": -1}, "budget.usd must be a number between 0 and"),
    "degrade": (
        {"budget": {"usd": 1, "degrade": "x"}},
        "budget.degrade must be a list of 'skip_refine', 'drop_dearest'",
    ),
    "redact": ({"trace": {"redact": "x"}}, "trace.redact must be true (every text), false, or a list"),
    "trace": ({"trace": 3}, "trace must be true, a path, or a table; found 3."),
    "price": ({"prices": {"x": {"input": 1}}}, "prices.x lacks the key 'output'"),
    "dear price": ({"prices": {"a.b": {"input": -1, "output": 1}}}, 'prices."a.b".input must be a number'),
    "no share": ({"stop_early": {"kind": "agreement", "share": 0}}, "stop_early.share must be above 0"),
    "one temperature": ({"temperatures": 0.5}, "temperatures must be a non-empty list of numbers between"),
    "no temperatures": ({"temperatures": []}, "temperatures must be a non-empty list of numbers between"),
    "a hot one": (
        {"temperatures": [0.1, 3]},
        "Each of temperatures must be a number between 0 and 2; found 3",
    ),
    "bounds": ({"temperatures": "0.2-1"}, "The bounds of temperatures are written as '0.2..1.0'"),
    "far bound": ({"temperatures": "0.2..3"}, "The upper bound of temperatures must be a number between"),
    "number of models": ({"nb_models_by_layer": [1, 0]}, "nb_models_by_layer must be a whole number >= 1"),
    "roles": ({"roles": "always"}, "roles must be one of 'run', 'layer', 'fixed'; found 'always'."),
    "null in settings": (
        {"models": {"x": {"model": "m", "settings": {"a": [None]}}}},
        "models.x.settings holds null; leave out what has no value.",
    ),
    "model in settings": (
        {"aggregator": {"model": "m", "settings": {"model": "n"}}},
        "aggregator.settings.model belongs one level up: write aggregator.model.",
    ),
    "half a character": ({"aggregator": "gpt-\ud800"}, "aggregator holds half a character"),
}


@pytest.mark.parametrize(("values", "said"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_work_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        MixtureConfig(**values)
    assert said in str(refusal.value)
    assert refusal.value.__context__ is None, "pydantic's own error holds what was passed"


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(RefusedError) as refusal:
        MixtureConfig(layer=0, temperature=9, proposers=[{"model": "a", "max_tokens": 0}])
    assert [fault.place for fault in refusal.value.faults] == [
        ("proposers", 0, "max_tokens"),
        ("layer",),
        ("temperature",),
    ]
    assert len(str(refusal.value).splitlines()) == 3
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)


@settings(max_examples=40)
@given(mixtures)
def test_pydantics_own_ways_give_the_same(config: MixtureConfig) -> None:
    assert MixtureConfig.model_validate(config.model_dump()) == config
    assert MixtureConfig(**config.described()) == config
    assert pickle.loads(pickle.dumps(config)) == config


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda junk: st.lists(junk, max_size=3) | st.dictionaries(st.text(max_size=5), junk, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([*MixtureConfig.model_fields, *SYNONYMS, "x"]), _JUNK, max_size=4))
def test_anything_is_a_mixture_or_refused(values: dict[str, Any]) -> None:
    try:
        config = MixtureConfig(**values)
    except ConfigurationError:
        return
    assert MixtureConfig(**config.described()) == config
