"""Names without a provider, other packages' names, and names that say too much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import PROVIDERS, ModelName, llm_named, parse_model
from llama_index.packs.mixture_of_agents.providers.families import FAMILIES, FULL_NAMES, family_of
from llama_index.packs.mixture_of_agents.providers.integrations import INTEGRATIONS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The LangChain sample's
        ("gpt-4", "openai:gpt-4"),
        ("claude-3-haiku", "anthropic:claude-3-haiku-20240307"),
        ("mistral-small", "mistralai:mistral-small-latest"),
        ("llama-3.1-8b-instant", "groq:llama-3.1-8b-instant"),
        ("gpt-4o-mini", "openai:gpt-4o-mini"),
        ("gpt-5", "openai:gpt-5"),
        ("chatgpt-4o-latest", "openai:chatgpt-4o-latest"),
        ("o1", "openai:o1"),
        ("o3-mini", "openai:o3-mini"),
        ("o4-mini", "openai:o4-mini"),
        ("claude-sonnet-4-5", "anthropic:claude-sonnet-4-5"),
        ("Claude-3-Haiku", "anthropic:claude-3-haiku-20240307"),
        ("gemini-2.5-flash", "google-genai:gemini-2.5-flash"),
        ("llama-3.3-70b-versatile", "groq:llama-3.3-70b-versatile"),
        ("mixtral-8x7b-32768", "groq:mixtral-8x7b-32768"),
        ("open-mixtral-8x22b", "mistralai:open-mixtral-8x22b"),
        ("open-mistral-nemo", "mistralai:open-mistral-nemo"),
        ("codestral", "mistralai:codestral-latest"),
        ("codestral-2508", "mistralai:codestral-2508"),
        ("magistral-small-latest", "mistralai:magistral-small-latest"),
        ("command-r-plus", "cohere:command-r-plus"),
        ("deepseek-chat", "deepseek:deepseek-chat"),
        ("qwen-max", "dashscope:qwen-max"),
        ("sonar-pro", "perplexity:sonar-pro"),
        (" gpt-4o ", "openai:gpt-4o"),
        # Spellings of a provider, and packages that have no row of their own
        ("openai_like:m@http://h/v1", "openai-like:m@http://h/v1"),
        ("azure_openai:gpt-4o", "azure-openai:gpt-4o"),
        ("together:meta-llama/Llama-3-8b", "together:meta-llama/Llama-3-8b"),
        ("hf:some/model", "huggingface:some/model"),
    ],
)
def test_a_name_leads_to_its_provider(name: str, expected: str) -> None:
    assert str(parse_model(name)) == expected


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("llama-3.1-8b", ["groq", "ollama", "together", "openrouter"]),
        ("gpt-oss-20b", ["groq", "ollama", "together", "openrouter"]),
        ("mixtral-8x7b", ["groq", "ollama", "together", "openrouter"]),
        ("deepseek-r1", ["groq", "ollama", "together", "openrouter"]),
        ("qwen3-32b", ["groq", "ollama", "together", "openrouter"]),
        ("gemma-3-27b-it", ["google-genai", "groq", "ollama", "together", "openrouter"]),
        ("meta-llama/Llama-3-8b", ["together", "openrouter", "huggingface"]),
    ],
)
def test_a_name_that_several_serve_names_the_choices(name: str, choices: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="served by several providers") as refusal:
        parse_model(name)
    said = str(refusal.value).partition("Say whose: ")[2]
    written = [f"{provider}:{name}" for provider in choices]
    assert said == f"{', '.join(written[:-1])} or {written[-1]}."
    for choice in written:
        assert str(parse_model(choice)) == choice


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gtp-4o", "Did you mean a name that begins with 'gpt-'? Those are openai's."),
        ("cluade-3-haiku", "begins with 'claude-'? Those are anthropic's."),
        ("lama-3", "begins with 'llama'? Those are served by several providers."),
        ("zzz", "'zzz' names no model. Write provider:model"),
        ("anthropic", "names no model, but a provider. Write provider:model, for example anthropic:claude"),
        ("cohere", "names no model, but a provider. Write provider:model, for example cohere:model"),
        ("openai/gpt-4o", "openai:gpt-4o or openrouter:openai/gpt-4o"),
        ("qwen3:8b", "write ollama:qwen3:8b"),
        ("gpt-4o@http://h/v1", "openai-like:gpt-4o@http://h/v1"),
        ("nobody:x", "pip install llama-index-llms-nobody"),
        ("coher:command-r", "Did you mean 'cohere'"),
        ("cohere:m@http://h", "cohere takes none"),
        ("http://h/v1", "The providers are"),
        ("openai-like:m@h:8000/v1", "Write openai-like:m@http://h:8000/v1."),
        ("openai-like:m@localhost", "Write openai-like:m@http://localhost."),
        ("openai:gpt-4o@ftp://10.0.0.1/x", "Write openai:gpt-4o@http://10.0.0.1/x."),
        ("openai-like:m@http://", "Write openai-like:m@http://host:8000/v1."),
        ("./models/mine", "Write sparse-moe:./models/mine"),
        ("~/mine", "Write sparse-moe:~/mine"),
        ("..:x", "Unknown provider"),
        ("os.path:x", "Unknown provider"),
    ],
)
def test_what_is_no_name_is_told_how_to_write_one(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_model(name)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [
        "openai:sk-proj-abcdefghijklmnopqrstuv",
        "sk-ant-api03-abcdefghijklmnopqrstuv",
        "groq:gsk_abcdefghijklmnopqrstuv1234",
        "openai-like:m@http://user:sesame@h/v1",
        "openai-like:m@http://h/v1?api_key=sesame",
    ],
)
def test_a_secret_in_a_name_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(ConfigurationError, match="looks like a key or password") as refusal:
        llm_named(name, env={})
    assert not any(part in str(refusal.value) for part in ("abcdefgh", "sesame"))


def test_a_name_with_a_dash_is_no_secret() -> None:
    name = "huggingface:hf-internal-testing/tiny-random-LlamaForCausalLM"
    assert str(parse_model(name)) == name


def test_every_family_is_served_by_someone() -> None:
    served = {provider for family in FAMILIES for provider in family.providers}
    assert served <= {*PROVIDERS, *INTEGRATIONS}


def test_no_family_hides_behind_an_earlier_one() -> None:
    for family in FAMILIES:
        example = family.pattern.replace("[1-9]", "9").replace("*", "some")
        assert family_of(example) is family, family.pattern


def test_full_names_are_of_families_with_one_provider() -> None:
    for short, full in FULL_NAMES.items():
        family = family_of(short)
        assert family is not None
        assert len(family.providers) == 1
        assert family_of(full) is family


@pytest.mark.parametrize(
    ("provider", "table"), [("anthropic", "ANTHROPIC_MODELS"), ("mistralai", "MISTRALAI_MODELS")]
)
def test_full_names_are_known_to_their_class(provider: str, table: str) -> None:
    known: Mapping[str, int] = getattr(pytest.importorskip(f"llama_index.llms.{provider}.utils"), table)
    full_names = {full for short, full in FULL_NAMES.items() if parse_model(short).provider == provider}
    assert full_names <= set(known)


def test_lists_do_not_overlap() -> None:
    assert not set(PROVIDERS) & set(INTEGRATIONS)
    assert len(set(INTEGRATIONS)) == len(INTEGRATIONS)


@given(st.sampled_from(FAMILIES), st.text("abc0123456789.-", max_size=8))
def test_what_a_bare_name_leads_to_is_a_name_itself(family: Any, rest: str) -> None:
    bare = family.pattern.replace("[1-9]", "3").replace("*", rest or "x")
    try:
        found = parse_model(bare)
    except ConfigurationError:
        return
    assert isinstance(found, ModelName)
    assert parse_model(str(found)) == found
