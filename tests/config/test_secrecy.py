"""Secrets in a configuration: refused wherever they stand, and never repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.config import MixtureConfig, load_config
from llama_index.packs.mixture_of_agents.config.secrecy import looks_secret, masked
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

NAMED = "correct-horse-battery"
LOOKING = (
    *(
        "sk-ant-api03-abc1234567890DEF",
        "sk-short",
        "Bearer abcdef",
        "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    ),
    *("gsk_abcdefghijklmnop1234567890", "https://me:pass@host/v1", "https://host/v1?api_key=abcd"),
    "-----BEGIN RSA PRIVATE KEY-----\nabc",
)


@pytest.mark.parametrize(
    "key", ["api_key", "apiKey", "OPENAI-API-KEY", "token", "password", "client_secret", "auth"]
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda secret: secret,
        lambda secret: {"aggregator": {"model": "m", **secret}},
        lambda secret: {"models": {"fast": {"model": "m", "settings": {"headers": [secret]}}}},
        lambda secret: {"proposers": [["a"], [{"model": "m", "settings": secret}]]},
        lambda secret: {"trace": secret},
    ],
    ids=["top", "table", "settings", "round", "trace"],
)
def test_a_key_named_like_a_secret_is_refused(key: str, wrap: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        MixtureConfig(**wrap({key: NAMED}))
    said = str(refusal.value)
    assert "is named like a secret" in said
    assert "environment variable" in said
    assert ".env" in said
    assert NAMED not in said


@pytest.mark.parametrize("secret", LOOKING)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda secret: {"aggregator": secret},
        lambda secret: {"models": {"fast": {"model": "m", "settings": {"base": secret}}}},
        lambda secret: {"max_tokens": secret},
        lambda secret: {"nothing_like_it": secret},
        lambda secret: {secret: 1},
        lambda secret: {"models": {secret: "m"}},
        lambda secret: {"prices": {secret: {"input": 1, "output": 1}}},
    ],
    ids=["model", "settings", "wrong type", "unknown key", "key", "alias", "price"],
)
def test_a_value_that_looks_like_a_key_is_refused(secret: str, wrap: Any) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        MixtureConfig(**wrap(secret))
    assert "looks like a secret" in str(refusal.value)
    assert secret not in str(refusal.value)
    assert secret not in repr(refusal.value.__context__)


@pytest.mark.parametrize(
    "secret", [secret for secret in LOOKING if secret not in ("sk-short", "Bearer abcdef")]
)
def test_a_key_within_a_sentence_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        MixtureConfig(models_layer=["a", {"model": "m", "role": f"Use {secret}"}])
    assert str(refusal.value).startswith("models_layer[1].role looks like a secret")
    assert secret not in str(refusal.value)


@pytest.mark.parametrize("ending", ["toml", "yaml", "json"])
def test_a_file_with_a_secret_is_refused_with_its_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"moa.{ending}"
    data = {"aggregator": {"model": "m", "settings": {"organization": "o", "api_key": LOOKING[0]}}}
    texts = {
        "toml": f'[aggregator]\nmodel = "m"\n[aggregator.settings]\napi_key = "{LOOKING[0]}"\n',
        "yaml": f"aggregator:\n  model: m\n  settings:\n    api_key: {LOOKING[0]}\n",
        "json": json.dumps(data, indent=1),
    }
    path.write_text(texts[ending], encoding="utf-8")
    with pytest.raises(ConfigurationError) as refusal:
        load_config(path)
    line = 6 if ending == "json" else 4
    assert str(refusal.value).startswith(
        f"{path}, line {line}: aggregator.settings.api_key is named like a secret"
    )
    assert LOOKING[0] not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "A task-based reasoning model",
        "You are the bearer of bad news, and a basic education helps.",
        "openai-like:qwen3@http://127.0.0.1:8000/v1",
        "hf-llama-3.1",
        "gpt-4o-mini-2024-07-18",
        "https://host/v1?version=3",
        r"regex:sk-(\d+)",
    ],
)
def test_ordinary_words_are_no_secrets(text: str) -> None:
    assert not looks_secret(text)
    assert masked(text) == text
    assert MixtureConfig(aggregator={"model": "m", "role": text}).aggregator is not None


def test_tokens_that_are_no_secrets_stay() -> None:
    settings = {"eos_token": "</s>", "max_new_tokens": 5, "tokenizer": "x", "keywords": ["a"]}
    config = MixtureConfig(
        aggregator={"model": "m", "settings": settings}, max_tokens=5, budget={"tokens": 9}
    )
    assert config.aggregator is not None
    assert config.aggregator.settings == settings
    assert MixtureConfig(models={"token": "m", "secret": "m"}).models.keys() == {"token", "secret"}
