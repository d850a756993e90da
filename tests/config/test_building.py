"""From a configuration to a pack that answers; and no option of the pack that a file cannot say."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.embeddings import MockEmbedding

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.config import MixtureConfig
from llama_index.packs.mixture_of_agents.config.building import AS_THEY_ARE
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.runs.mixture import Mixture
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

NO_FIELDS = {
    "llm": "models are named: aggregator",
    "reference_llms": "models are named: proposers",
    "policies": "live objects, given to pack(policies=...)",
    "config": "the configuration itself",
}
"""Options of the pack that no field is named after, and why."""
NO_OPTIONS = {
    "proposers": "reference_llms, by name",
    "aggregator": "llm, by name",
    "models": "what the names in the others mean",
    "gate_online": "a gate that reckons with feedback",
    "limits": "policies, and the capacity of a gate",
    "limits_deadline": "how long these wait",
}


class Cast:
    """Makes scripted models by name, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, *, settings: Mapping[str, Any]) -> ScriptedLLM:
        self.made.append((name, dict(settings)))
        return ScriptedLLM(lambda messages: f"answer of {name}: 42", model=name)


def mixture_of(**values: Any) -> Mixture:
    return MixtureConfig(**values).pack(Cast()).workflow.mixture


def test_every_option_of_the_pack_is_a_field_or_has_a_reason() -> None:
    options = set(inspect.signature(MixtureOfAgentsPack.__init__).parameters) - {"self"}
    assert options - set(MixtureConfig.model_fields) == set(NO_FIELDS)
    assert set(MixtureConfig.model_fields) - options == set(NO_OPTIONS)


def test_defaults_are_the_packs() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(MixtureOfAgentsPack.__init__).parameters.items()
    }
    config = MixtureConfig()
    assert {name: getattr(config, name) for name in AS_THEY_ARE} == {n: defaults[n] for n in AS_THEY_ARE}
    assert config.finish.kind == defaults["finish"]


def test_options_are_those_of_the_pack() -> None:
    options = MixtureConfig(proposers=["a"]).options(Cast())
    pack = MixtureOfAgentsPack(ScriptedLLM("yes", model="j"), [ScriptedLLM("no", model="a")], **options)
    assert str(pack.run("Why?")) == "yes"


def test_the_samples_configuration_answers() -> None:
    config = MixtureConfig(
        models_layer=["gpt-4", "claude-3-haiku"],
        aggregator_model="mistral-small",
        nb_models_by_layer=3,
        layer=2,
        layer_strategy="model",
        temperature=0.7,
        max_tokens=500,
    )
    response = config.pack(Cast()).run("What is {6} * 7?")
    assert response.text == "answer of mistral-small: 42"
    assert [proposal.proposer for proposal in response.proposals] == ["gpt-4", "claude-3-haiku", "gpt-4-2"]


def test_a_vote_of_a_file_answers() -> None:
    response = MixtureConfig(proposers=["a", "b"], layer=2, finish={"kind": "vote", "extract": "number"})
    answered = response.pack(Cast()).run("Why?")
    assert answered.text == "answer of a: 42"
    assert answered.decision is not None
    assert answered.decision.votes == {"42": ["a", "b"]}


def test_proposers_get_what_their_tables_say() -> None:
    mixture = mixture_of(
        models={"warm": {"model": "real", "temperature": 0.9, "settings": {"x": 1}}},
        proposers=[{"model": "warm", "name": "w", "role": "You doubt.", "seed": 3, "timeout": 5}, "plain"],
        layer=2,
        max_tokens=7,
    )
    warm, plain = mixture.layers[0]
    assert (warm.name, warm.proposer.role, warm.proposer.timeout) == ("w", "You doubt.", 5)
    assert (warm.sampling.temperature, warm.sampling.seed, warm.sampling.max_tokens) == (0.9, 3, 7)
    assert (plain.name, plain.sampling.temperature, plain.sampling.max_tokens) == ("plain", None, 7)


def test_settings_reach_whoever_makes_the_model_and_each_is_made_once() -> None:
    cast = Cast()
    config = MixtureConfig(
        models={"fast": {"model": "real", "settings": {"x": 1}}},
        proposers=["fast", "fast", {"model": "fast", "settings": {"x": 2}}, "real"],
        aggregator={"model": "fast", "role": "You judge."},
    )
    pack = config.pack(cast)
    assert cast.made == [("real", {"x": 1}), ("real", {"x": 2}), ("real", {})]
    first, second, *_ = pack.workflow.mixture.layers[0]
    assert first.proposer.model is second.proposer.model is pack.get_modules()["llm"]


def test_a_list_for_each_round() -> None:
    names = mixture_of(proposers=[["a"], ["b", "c"]], aggregator="j").names
    assert names == [["a"], ["b", "c"], ["j"]]


def test_without_an_aggregator_the_first_model_writes_without_its_role() -> None:
    writer = mixture_of(
        proposers=[{"model": "a", "name": "n", "role": "r", "temperature": 1}, "b"]
    ).aggregator
    assert (writer.name, writer.proposer.role, writer.sampling.temperature) == ("a", None, None)


def test_an_aggregator_alone() -> None:
    assert str(MixtureConfig(aggregator="a", layer=1).pack(Cast()).run("Why?")) == "answer of a: 42"


def test_every_run_records_its_whole_configuration() -> None:
    config = MixtureConfig(proposers=["a"], layer=2)
    mixture = config.pack(Cast()).workflow.mixture
    assert mixture.config == config.described(full=True)
    assert MixtureConfig(**dict(mixture.config or {})) == config


def test_finishes_and_early_stops() -> None:
    made = mixture_of(
        proposers=["a"],
        finish={"kind": "sequential", "window": 3},
        stop_early={"kind": "agreement", "extract": "number", "share": 0.75},
        role_writer={"model": "r", "temperature": 0},
        strategy="role",
        roles="layer",
    )
    assert made.finish.described() == {"name": "sequential", "window": 3}
    assert made.stop_early is not None
    assert made.stop_early.described() == {"name": "agreement", "extract": "number", "share": 0.75}
    assert made.role_writer is not None
    assert (made.role_writer.name, made.role_writer.sampling.temperature) == ("r", 0)
    assert mixture_of(proposers=["a"], finish="rank").finish.described() == {"name": "rank"}
    weighed = mixture_of(proposers=["a"], finish={"kind": "vote", "weights": {"a": 2}}).finish
    assert weighed.described() == {"name": "vote", "extract": "answer", "weights": {"a": 2.0}}


def test_similarity_takes_an_embedding_model_by_name() -> None:
    asked: list[str] = []

    def embed_for(name: str) -> MockEmbedding:
        asked.append(name)
        return MockEmbedding(embed_dim=2)

    config = MixtureConfig(
        proposers=["a", "b"], stop_early={"kind": "similarity", "embed_model": "e", "threshold": 0.5}
    )
    response = config.pack(Cast(), embed_for=embed_for).run("Why?")
    assert asked == ["e"]
    assert response.stopped_after == 1


def test_a_trace_of_a_file_holds_its_configuration(tmp_path: Path) -> None:
    config = MixtureConfig(proposers=["a"], layer=2, trace=tmp_path / "runs.jsonl")
    config.pack(Cast()).run("Why?")
    lines = (tmp_path / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    assert config.described(full=True) in _values_of([json.loads(line) for line in lines])
    redacted = config.updated(trace={"folder": str(tmp_path / "each"), "redact": ["answer of a"]})
    redacted.pack(Cast()).run("Why?")
    (file,) = (tmp_path / "each").iterdir()
    assert "answer of a" not in file.read_text(encoding="utf-8")


def _values_of(value: object) -> list[object]:
    """A value and every value inside it."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(held for one in inside for held in _values_of(one))]


def test_a_budget_of_a_file_reckons_with_its_prices() -> None:
    prices = {name: {"input": 1000, "output": 1000} for name in ("a", "b", "j")}
    config = MixtureConfig(
        proposers=[["a", "b"], ["a", "b"]], aggregator="j", max_tokens=10, prices=prices, budget={"usd": 5000}
    )
    assert config.pack(Cast()).run("Why?").usage.cost_usd
    with pytest.raises(ConfigurationError, match="budget"):
        config.updated(budget=0.000001).pack(Cast()).run("Why?")
    with pytest.raises(ConfigurationError, match="budget: degrade names a measure twice"):
        config.updated(budget={"usd": 1, "degrade": ["skip_refine", "skip_refine"]}).pack(Cast())


@pytest.mark.parametrize("options", [("temperatures", [0.1, 0.9]), ("temperatures", "0.1..0.9")])
def test_temperatures_are_spread(options: tuple[str, Any]) -> None:
    name, value = options
    layer = mixture_of(proposers=["a"], strategy="temperature", nb_models_by_layer=2, **{name: value}).layers[
        0
    ]
    assert [seat.sampling.temperature for seat in layer] == [0.1, 0.9]


def test_nobody_named_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"the configuration names no model\. Set proposers to a list"
    ):
        MixtureConfig().pack(Cast())


def test_a_model_that_cannot_be_made_is_refused_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")
    config = MixtureConfig(models={"quick": "openai:gpt-4o"}, proposers=[["quik"], ["quick"]])
    with pytest.raises(
        ConfigurationError, match=r"proposers\[0\]\[0\]: .*did you mean 'quick', which is in mod"
    ):
        config.pack()
    with pytest.raises(ConfigurationError, match=r"aggregator: openai:gpt-4o needs a key"):
        MixtureConfig(aggregator="openai:gpt-4o", layer=1).pack()


def test_what_the_pack_refuses_stays_refused() -> None:
    with pytest.raises(ConfigurationError, match="quorum is 3, but a round has only 1 proposers"):
        MixtureConfig(proposers=["a"], quorum=3).pack(Cast())


def test_settings_reach_the_class_of_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "no-key")
    config = MixtureConfig(models={"fast": {"model": "openai:gpt-4o-mini", "settings": {"max_retries": 7}}})
    pack = config.updated(aggregator="fast", layer=1).pack()
    assert pack.get_modules()["llm"].max_retries == 7
    wrong = config.updated(aggregator={"model": "fast", "settings": {"max_retrys": 7}}, layer=1)
    with pytest.raises(ConfigurationError, match=r"aggregator: .*max_retrys"):
        wrong.pack()
