"""What is written of a mixture means the same when it is read again."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from llama_index.packs.mixture_of_agents.config import MixtureConfig, load_config
from tests.config.mixtures import VALUES, mixtures

_EACH = settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@_EACH
@given(mixtures)
def test_a_mixture_written_as_toml_yaml_or_json_is_read_as_the_same(
    tmp_path: Path, config: MixtureConfig
) -> None:
    texts = {
        "toml": config.dump_toml(),
        "yaml": config.dump_yaml(),
        "json": json.dumps(config.described(full=True)),
    }
    for ending, text in texts.items():
        path = tmp_path / f"moa.{ending}"
        path.write_text(text, encoding="utf-8", newline="\n")
        assert load_config(path) == config, text


@settings(max_examples=50)
@given(mixtures)
def test_the_recorded_form_is_plain_json_and_whole(config: MixtureConfig) -> None:
    recorded = config.described(full=True)
    assert json.loads(json.dumps(recorded)) == recorded
    assert set(recorded) == set(MixtureConfig.model_fields)


def test_every_field_is_drawn() -> None:
    assert set(VALUES) == set(MixtureConfig.model_fields)


def test_the_shortest_form_is_written() -> None:
    config = MixtureConfig(
        proposers=["a", {"model": "b", "role": "You doubt."}],
        finish="vote",
        timeout=None,
        trace=True,
        budget=2,
    )
    assert config.dump_toml() == (
        'proposers = [\n    "a",\n    { model = "b", role = "You doubt." },\n]\n'
        'finish = "vote"\ntimeout = "none"\ntrace = true\n\n[budget]\nusd = 2.0\n'
    )


def test_defaults_are_not_written() -> None:
    assert MixtureConfig(num_layers=3, finish="synthesize").dump_toml() == ""
    assert MixtureConfig().dump_yaml() == ""
