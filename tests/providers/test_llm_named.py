"""From a name to an LLM: the table, the names, and what is said when something is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llama_index.packs.mixture_of_agents import providers
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError
from llama_index.packs.mixture_of_agents.providers import (
    ALIASES,
    PROVIDERS,
    ModelName,
    classes,
    llm_named,
    parse_model,
)
from llama_index.packs.mixture_of_agents.providers.integrations import INTEGRATIONS
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

KEYS = {name: provider.keys[0] for name, provider in PROVIDERS.items() if provider.keys}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai:gpt-4o-mini", ModelName("openai", "gpt-4o-mini")),
        ("mistral:mistral-small-latest", ModelName("mistralai", "mistral-small-latest")),
        ("gemini:gemini-2.5-flash", ModelName("google-genai", "gemini-2.5-flash")),
        ("Ollama:qwen3:8b", ModelName("ollama", "qwen3:8b")),
        (" openai:gpt-4o ", ModelName("openai", "gpt-4o")),
        ("openai-like:a/b@http://h:1/v1", ModelName("openai-like", "a/b", "http://h:1/v1")),
        ("ollama:m@https://h", ModelName("ollama", "m", "https://h")),
        ("openai:ft@2024", ModelName("openai", "ft@2024")),
        ("openai-like:m@v1.2", ModelName("openai-like", "m@v1.2")),
        ("sparse-moe:a@http:/b", ModelName("sparse-moe", "a@http:/b")),
        ("sparse-moe:C:\\models\\moe", ModelName("sparse-moe", "C:\\models\\moe")),
    ],
)
def test_names_are_taken_apart(name: str, expected: ModelName) -> None:
    assert parse_model(name) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openai", "Write provider:model"),
        ("no-such-model", "Write provider:model"),
        ("openai:", "Write provider:model"),
        ("openai:  ", "Write provider:model"),
        (":gpt-4o", "Write provider:model"),
        ("", "Write provider:model"),
        ("openai-like:@http://h/v1", "Write provider:model"),
        ("opnai:gpt-4o", "Did you mean 'openai'"),
        ("nobody:x", "The providers are openai, mistralai"),
        ("gemini:x@http://h", "google-genai takes none"),
    ],
)
def test_names_that_are_none_are_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_model(name)


@given(
    st.sampled_from(sorted(PROVIDERS)),
    st.text(st.characters(codec="ascii", exclude_characters="@", exclude_categories=("Z", "C")), min_size=1),
)
def test_a_name_means_what_it_says(provider: str, model: str) -> None:
    name = ModelName(provider, model)
    assert parse_model(str(name)) == name


@given(st.text())
def test_anything_is_a_name_or_refused(text: str) -> None:
    try:
        provider = parse_model(text).provider
    except ConfigurationError:
        return
    assert provider in PROVIDERS or provider in INTEGRATIONS


def test_aliases_lead_somewhere() -> None:
    assert set(ALIASES.values()) <= set(PROVIDERS)
    assert not set(ALIASES) & set(PROVIDERS)


@pytest.mark.parametrize("provider", sorted(KEYS))
def test_a_missing_key_is_named_before_anything_is_imported(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classes, "import_module", _unwanted)
    with pytest.raises(ConfigurationError, match=KEYS[provider]):
        llm_named(f"{provider}:some-model")


def test_an_empty_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        llm_named("openai:gpt-4o")


def _unwanted(module: str) -> types.ModuleType:
    pytest.fail(f"{module} was imported")


@pytest.mark.parametrize("provider", sorted(name for name, row in PROVIDERS.items() if row.package))
def test_a_missing_package_is_named(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> types.ModuleType:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setenv(KEYS.get(provider, "UNUSED"), "key")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    monkeypatch.setattr(classes, "import_module", missing)
    with pytest.raises(ConfigurationError, match=f"Run: pip install {PROVIDERS[provider].package}$"):
        llm_named(f"{provider}:some-model")


def test_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    llm: Any = llm_named("openai:gpt-4o-mini")
    assert (llm.class_name(), llm.model) == ("openai_llm", "gpt-4o-mini")
    elsewhere: Any = llm_named("openai:gpt-4o-mini@http://127.0.0.1:9/v1")
    assert elsewhere.api_base == "http://127.0.0.1:9/v1"


def test_mistralai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "key")
    llm: Any = llm_named("mistralai:mistral-small-latest")
    assert (llm.class_name(), llm.max_tokens) == ("MistralAI_LLM", 4096)


@pytest.mark.parametrize(("key", "name"), [("OPENAI_API_KEY", "openai"), ("MISTRAL_API_KEY", "mistralai")])
def test_a_model_its_class_does_not_know_is_refused(
    key: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(key, "key")
    with pytest.raises(
        ConfigurationError, match=f"^{name}:no-such-model cannot be used: Unknown model"
    ) as refusal:
        llm_named(f"{name}:no-such-model")
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("openai:gpt-4oo", "gpt-4o"),
        ("openai:GPT-4o-mini", "gpt-4o-mini"),
        ("mistralai:mistral-smal-latest", "mistral-small-latest"),
    ],
)
def test_of_a_misspelled_model_the_nearest_is_told(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("MISTRAL_API_KEY", "key")
    with pytest.raises(ConfigurationError, match=f"Did you mean '{nearest}'") as refusal:
        llm_named(name)
    assert len(str(refusal.value)) < 300


class TestServersOfOnesOwn:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("llama_index.llms.openai_like")

    def test_an_address_is_needed(self) -> None:
        with pytest.raises(ConfigurationError, match="OPENAI_API_BASE"):
            llm_named("openai-like:qwen3")

    def test_the_environment_may_give_it_and_its_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        llm: Any = llm_named("openai-like:qwen3")
        assert (llm.api_base, llm.api_key, llm.is_chat_model) == ("http://127.0.0.1:9/v1", "key", True)

    def test_a_key_goes_to_no_server_it_is_not_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        llm: Any = llm_named("openai-like:qwen3@http://127.0.0.1:9/v1")
        assert (llm.api_base, llm.api_key) == ("http://127.0.0.1:9/v1", "none")
        monkeypatch.setenv("OPENAI_LIKE_API_KEY", "own")
        llm = llm_named("openai-like:qwen3@http://127.0.0.1:9/v1")
        assert llm.api_key == "own"


@pytest.mark.parametrize(
    ("name", "module", "key"),
    [
        ("anthropic:claude-sonnet-4-5", "llama_index.llms.anthropic", "ANTHROPIC_API_KEY"),
        ("gemini:gemini-2.5-flash", "llama_index.llms.google_genai", "GEMINI_API_KEY"),
        ("ollama:qwen3", "llama_index.llms.ollama", "UNUSED"),
    ],
)
def test_other_providers_are_made_without_a_call(
    name: str, module: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(module)
    monkeypatch.setenv(key, "key")
    llm = llm_named(name)
    assert llm.metadata.model_name == name.partition(":")[2]
    assert llm.metadata.context_window > 4000


def test_a_home_directory_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made: list[dict[str, Any]] = []

    def make(**arguments: Any) -> ScriptedLLM:
        made.append(arguments)
        return ScriptedLLM("x")

    monkeypatch.setattr(classes, "import_module", lambda module: types.SimpleNamespace(SparseMoELLM=make))
    llm_named("sparse-moe:~/moe")
    assert made == [{"model": str(tmp_path / "moe")}]


def test_a_local_model_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"\[sparse-moe\]"):
        llm_named("sparse-moe:anywhere")


@pytest.mark.parametrize("state", ["absent", "empty", "half-written", "dense"])
def test_a_directory_that_is_no_whole_mixture_is_refused(tmp_path: Path, state: str) -> None:
    pytest.importorskip("torch")
    directory = tmp_path / "model"
    if state != "absent":
        directory.mkdir()
    if state in ("half-written", "dense"):
        config = '{"model_type": "mixtral", "num_local_experts": 4}'
        (directory / "config.json").write_text(
            config if state == "half-written" else '{"model_type": "llama"}'
        )
    if state == "dense":
        (directory / "tokenizer.json").write_text("{}")
        header = b"{}"
        (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ConfigurationError):
        llm_named(f"sparse-moe:{directory}")


class Strict(BaseModel):
    """Refuses its arguments as a whole, as a class with a field too many does."""

    api_key: str
    window: int

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)


def test_a_class_that_refuses_its_arguments_does_not_show_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRICT_KEY", "sk-secret")
    row = providers.Provider(__name__, "Strict", keys=("STRICT_KEY",), key_argument="api_key")
    monkeypatch.setattr(providers, "PROVIDERS", {"strict": row})
    monkeypatch.setattr(providers, "class_of", lambda *_: Strict)
    with pytest.raises(ConfigurationError, match="window: Field required") as raised:
        providers.llm_named("strict:m")
    assert "sk-secret" not in str(raised.value)
