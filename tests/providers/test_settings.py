"""A model's own settings: known to its class, or refused; and never a secret."""

from __future__ import annotations

from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import llm_named, parse_model, takes_setting
from llama_index.packs.mixture_of_agents.providers.secrecy import is_secret_name

ENV = {
    "OPENAI_API_KEY": "key",
    "MISTRAL_API_KEY": "key",
    "ANTHROPIC_API_KEY": "key",
    "GROQ_API_KEY": "key",
    "TOGETHER_API_KEY": "key",
    "OPENROUTER_API_KEY": "key",
    "GOOGLE_API_KEY": "key",
}


def made(name: str, **settings: Any) -> Any:
    pytest.importorskip(parsed_module(name))
    return llm_named(name, settings=settings, env=ENV)


def parsed_module(name: str) -> str:
    return f"llama_index.llms.{parse_model(name).provider.replace('-', '_')}"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("openai:gpt-4o", {"temperature": 0.2, "timeout": 7.0, "reasoning_effort": "low"}),
        ("mistralai:mistral-small-latest", {"temperature": 0.2, "timeout": 7, "max_tokens": 9}),
        ("anthropic:claude-sonnet-4-5", {"temperature": 0.2, "max_retries": 0}),
        ("gemini:gemini-2.5-flash", {"temperature": 0.2, "context_window": 32_000}),
        ("ollama:qwen3", {"temperature": 0.2, "context_window": 32_000, "request_timeout": 60.0}),
        ("openai-like:m@http://127.0.0.1:9/v1", {"temperature": 0.2, "context_window": 32_000}),
        ("groq:llama-3.1-8b-instant", {"temperature": 0.2, "context_window": 32_000}),
        ("together:meta-llama/Llama-3", {"temperature": 0.2, "is_function_calling_model": True}),
        ("openrouter:openai/gpt-4o", {"temperature": 0.2, "allow_fallbacks": False}),
    ],
)
def test_settings_reach_the_class(name: str, settings: dict[str, Any]) -> None:
    llm = made(name, **settings)
    held = {setting: getattr(llm, setting, value) for setting, value in settings.items()}
    assert held == settings


def test_the_callers_settings_stand_over_ours() -> None:
    assert made("mistralai:mistral-small-latest").max_tokens == 4096
    assert made("mistralai:mistral-small-latest", max_tokens=5).max_tokens == 5
    assert made("groq:llama-3.1-8b-instant").metadata.context_window == 131_072


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        # These two classes swallow what they do not know.
        ("openai:gpt-4o", "request_timeout", "takes no setting 'request_timeout'. Did you mean 'timeout'?"),
        ("groq:llama-3.1-8b-instant", "temprature", "Did you mean 'temperature'?"),
        ("mistralai:mistral-small-latest", "temprature", "Did you mean 'temperature'?"),
        ("anthropic:claude-sonnet-4-5", "context_window", "It takes additional_kwargs, "),
        ("gemini:gemini-2.5-flash", "tempreature", "Did you mean 'temperature'?"),
        ("ollama:qwen3", "zzz", "takes no setting 'zzz'. It takes "),
        ("openai:gpt-4o", "model", "is said by the model's name"),
        ("openai:gpt-4o", "api_base", "belongs into the name: openai:gpt-4o@http://"),
    ],
)
def test_a_setting_the_class_does_not_take_is_refused(name: str, setting: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        made(name, **{setting: 1})
    assert said in str(refusal.value)


def test_suggestions_name_neither_keys_nor_objects() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        made("openai:gpt-4o", zzz=1)
    said = str(refusal.value)
    assert "temperature" in said
    assert not any(name in said for name in ("api_key", "http_client", "callback_manager", "model,"))


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"api_key": "sesame"}, "'api_key'"),
        ({"azure_api_key": "sesame"}, "'azure_api_key'"),
        ({"aws_secret_access_key": "sesame"}, "'aws_secret_access_key'"),
        ({"token": "sesame"}, "'token'"),
        ({"default_headers": {"Authorization": "sesame"}}, "'default_headers.Authorization'"),
        (
            {"additional_kwargs": {"extra": [{"x-api-key": "sesame"}]}},
            "'additional_kwargs.extra[0].x-api-key'",
        ),
        ({"system_prompt": "use sk-proj-sesamesesamesesame"}, "'system_prompt'"),
    ],
)
def test_a_secret_among_settings_is_refused_and_not_repeated(settings: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY, or into a") as refusal:
        llm_named("openai:gpt-4o", settings=settings, env=ENV)
    assert place in str(refusal.value)
    assert "sesame" not in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "tokenizer", "prompt_key", "pad_token", "eos_token_id", "keep_alive", "top_k", "author"],
)
def test_a_harmless_name_is_no_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["apiKey", "API-KEY", "hf_token", "client_secret", "Authorization", "password"]
)
def test_a_secrets_name_is_known_however_it_is_written(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("settings", [["temperature"], {1: 2}, "temperature"])
def test_settings_that_are_none_are_refused(settings: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be names and values"):
        llm_named("openai:gpt-4o", settings=settings, env=ENV)


def test_a_value_the_class_refuses_is_told() -> None:
    with pytest.raises(ConfigurationError, match="cannot be used: temperature: "):
        made("openai:gpt-4o", temperature="hot")


def test_one_may_ask_whether_a_setting_is_taken() -> None:
    model = parse_model("openai:gpt-4o")
    assert takes_setting(model, "temperature")
    assert not takes_setting(model, "context_window")
