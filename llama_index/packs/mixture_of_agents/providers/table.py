"""Who serves models, as a table: which class, which package, which variable holds the key.

Data only; nothing here is imported from a provider, and nothing is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Provider:
    """Who serves models, and what their class wants to know.

    Attributes:
        module: Where the class is.
        class_name: What it is called; empty where it is found by the module's name.
        package: What pip installs it from; empty where this package brings it.
        keys: Variables that may hold the key, best first; empty where none is needed.
        key_argument: The class's argument for the key.
        needs_key: False where the class may find what it needs elsewhere.
        model_arguments: The class's arguments for the model's name; empty where they are looked for.
        address_argument: The class's argument for a server's address; empty where there is none.
        address_variable: The variable read where no address was given and one is needed.
        is_directory: Whether the model's name may be a path on this machine.
        loads_at_once: Whether making it reads the model's weights.
        settings: Further arguments.
        probe: A small model to try it with; empty where there is none that everyone has.
    """

    module: str
    class_name: str
    package: str = ""
    keys: tuple[str, ...] = ()
    key_argument: str = "api_key"
    needs_key: bool = True
    model_arguments: tuple[str, ...] = ("model",)
    address_argument: str = ""
    address_variable: str = ""
    is_directory: bool = False
    loads_at_once: bool = False
    settings: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    probe: str = ""


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(
        module="llama_index.llms.openai",
        class_name="OpenAI",
        package="llama-index-llms-openai",
        keys=("OPENAI_API_KEY",),
        address_argument="api_base",
        probe="gpt-4o-mini",
    ),
    "mistralai": Provider(
        module="llama_index.llms.mistralai",
        class_name="MistralAI",
        package="llama-index-llms-mistralai",
        keys=("MISTRAL_API_KEY",),
        address_argument="endpoint",
        # Its own limit, 512 tokens, cuts answers short.
        settings={"max_tokens": 4096},
        probe="mistral-small-latest",
    ),
    "anthropic": Provider(
        module="llama_index.llms.anthropic",
        class_name="Anthropic",
        package="llama-index-llms-anthropic",
        keys=("ANTHROPIC_API_KEY",),
        address_argument="base_url",
        settings={"max_tokens": 4096},
        probe="claude-haiku-4-5",
    ),
    "google-genai": Provider(
        module="llama_index.llms.google_genai",
        class_name="GoogleGenAI",
        package="llama-index-llms-google-genai",
        keys=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        # Without these two the constructor asks the server for them.
        settings={"context_window": 1_000_000, "max_tokens": 8192},
        probe="gemini-2.5-flash-lite",
    ),
    "groq": Provider(
        module="llama_index.llms.groq",
        class_name="Groq",
        package="llama-index-llms-groq",
        keys=("GROQ_API_KEY",),
        address_argument="api_base",
        # Nearly all of its models have this window; the class would take 3900 tokens for granted.
        settings={"context_window": 131_072},
        probe="llama-3.1-8b-instant",
    ),
    "ollama": Provider(
        module="llama_index.llms.ollama",
        class_name="Ollama",
        package="llama-index-llms-ollama",
        address_argument="base_url",
        # Without a window its metadata asks the server; half a minute is short for a local model.
        settings={"context_window": 8192, "request_timeout": 600.0},
    ),
    "openai-like": Provider(
        module="llama_index.llms.openai_like",
        class_name="OpenAILike",
        package="llama-index-llms-openai-like",
        address_argument="api_base",
        address_variable="OPENAI_API_BASE",
        settings={"is_chat_model": True},
    ),
    "openrouter": Provider(
        module="llama_index.llms.openrouter",
        class_name="OpenRouter",
        package="llama-index-llms-openrouter",
        keys=("OPENROUTER_API_KEY",),
        address_argument="api_base",
        # Its own limits, 256 tokens written and 3900 read, are below what any of its models can do.
        settings={"context_window": 32_768, "max_tokens": 4096},
        probe="openai/gpt-4o-mini",
    ),
    "together": Provider(
        module="llama_index.llms.together",
        class_name="TogetherLLM",
        package="llama-index-llms-together",
        keys=("TOGETHER_API_KEY",),
        address_argument="api_base",
        settings={"context_window": 32_768},
        probe="meta-llama/Llama-3.2-3B-Instruct-Turbo",
    ),
    "huggingface": Provider(
        module="llama_index.llms.huggingface",
        class_name="HuggingFaceLLM",
        package="llama-index-llms-huggingface",
        model_arguments=("model_name", "tokenizer_name"),
        is_directory=True,
        loads_at_once=True,
        settings={"is_chat_model": True},
    ),
    "sparse-moe": Provider(
        module="llama_index.packs.mixture_of_agents.sparse_moe",
        class_name="SparseMoELLM",
        is_directory=True,
    ),
}
"""The providers whose needs are known here; any other LlamaIndex package is used by its name."""

ALIASES: Mapping[str, str] = {
    "mistral": "mistralai",
    "gemini": "google-genai",
    "google": "google-genai",
    "hf": "huggingface",
    "together-ai": "together",
    "togetherai": "together",
}
"""Other names for some of them."""
