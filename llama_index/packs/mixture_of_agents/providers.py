"""From "provider:model" to a LlamaIndex LLM.

A table says which class serves a provider, which package brings it, which variable holds its key. A
class is imported when it is asked for, and never before: no provider's library is needed for another.
Whatever is missing is said before any call. It knows nothing of mixtures.

    llm_named("openai:gpt-4o-mini")
    llm_named("openai-like:qwen3@http://127.0.0.1:8000/v1")
    llm_named("sparse-moe:models/my-mixture")
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llama_index.core.llms.llm import LLM
from pydantic import ValidationError

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_ADDRESSED = re.compile(r"(?P<model>.*?)@(?P<address>https?://[^\s/]\S*)")
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ModelName:
    """A model as a person names it.

    Attributes:
        provider: Which row of the table.
        model: The provider's own name for it; a directory for a local model.
        address: Where its server is, if that was said.
    """

    provider: str
    model: str
    address: str | None = None

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}" + (f"@{self.address}" if self.address else "")


@dataclass(frozen=True)
class Provider:
    """Who serves models, and what their class wants to know.

    Attributes:
        module: Where the class is.
        class_name: What it is called.
        package: What pip installs it from; empty where this package brings it.
        keys: Variables that may hold the key, best first; empty where none is needed.
        key_argument: The class's argument for the key; empty where it reads the variable itself.
        address_argument: The class's argument for a server's address; empty where there is none.
        address_variable: The variable read where no address was given and one is needed.
        is_directory: Whether the model's name is a path on this machine.
        settings: Further arguments.
    """

    module: str
    class_name: str
    package: str = ""
    keys: tuple[str, ...] = ()
    key_argument: str = ""
    address_argument: str = ""
    address_variable: str = ""
    is_directory: bool = False
    settings: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(
        module="llama_index.llms.openai",
        class_name="OpenAI",
        package="llama-index-llms-openai",
        keys=("OPENAI_API_KEY",),
        address_argument="api_base",
    ),
    "mistralai": Provider(
        module="llama_index.llms.mistralai",
        class_name="MistralAI",
        package="llama-index-llms-mistralai",
        keys=("MISTRAL_API_KEY",),
        address_argument="endpoint",
        # Its own limit, 512 tokens, cuts answers short.
        settings={"max_tokens": 4096},
    ),
    "anthropic": Provider(
        module="llama_index.llms.anthropic",
        class_name="Anthropic",
        package="llama-index-llms-anthropic",
        keys=("ANTHROPIC_API_KEY",),
        address_argument="base_url",
        settings={"max_tokens": 4096},
    ),
    "google-genai": Provider(
        module="llama_index.llms.google_genai",
        class_name="GoogleGenAI",
        package="llama-index-llms-google-genai",
        keys=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        key_argument="api_key",
        # Without these two the constructor asks the server for them.
        settings={"context_window": 1_000_000, "max_tokens": 8192},
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
    "sparse-moe": Provider(
        module="llama_index.packs.mixture_of_agents.sparse_moe",
        class_name="SparseMoELLM",
        is_directory=True,
    ),
}
"""Everyone a model can be named from."""

ALIASES: Mapping[str, str] = {"mistral": "mistralai", "gemini": "google-genai", "google": "google-genai"}
"""Other names for some of them."""


def llm_named(name: str) -> LLM:
    """Make the LLM that "provider:model" stands for. No call is made.

    Args:
        name: "provider:model", and "@http://..." behind it for a server of one's own.

    Raises:
        ConfigurationError: The name is malformed, the provider unknown, its package not installed, its
            key not set, or the model refused by its class.
    """
    model = parse_model(name)
    provider = PROVIDERS[model.provider]
    arguments = _arguments(model, provider)
    llm_class = _class_of(model, provider)
    try:
        llm: LLM = llm_class(**arguments)
        # Classes that know their models by name find an unknown one here, not at construction.
        llm.metadata  # noqa: B018
    except ConfigurationError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigurationError(f"{model} cannot be used: {_shortened(_said(error))}") from error
    return llm


def parse_model(name: str) -> ModelName:
    """Take "provider:model" or "provider:model@http://host" apart.

    Raises:
        ConfigurationError: It has no such form, or the provider is unknown or takes no address.
    """
    written, _, rest = name.strip().partition(":")
    provider = ALIASES.get(written.lower(), written.lower())
    if written and rest and provider not in PROVIDERS:
        raise ConfigurationError(_unknown(name, written))
    addressed = _ADDRESSED.fullmatch(rest)
    if addressed is None or (provider in PROVIDERS and PROVIDERS[provider].is_directory):
        model, address = rest, None
    else:
        model, address = addressed["model"], addressed["address"]
    if not written or not model.strip():
        raise ConfigurationError(
            f"{name!r} names no model. Write provider:model, for example openai:gpt-4o-mini; "
            f"the providers are {_listed()}."
        )
    if address is not None and not PROVIDERS[provider].address_argument:
        raise ConfigurationError(f"{name!r} gives an address, but {provider} takes none; drop '@{address}'.")
    return ModelName(provider, model, address)


def _unknown(name: str, provider: str) -> str:
    close = get_close_matches(provider.lower(), [*PROVIDERS, *ALIASES], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown provider {provider!r} in {name!r}.{hint} The providers are {_listed()}."


def _listed() -> str:
    return ", ".join(PROVIDERS)


def _arguments(model: ModelName, provider: Provider) -> dict[str, Any]:
    """The arguments of the provider's class, its key looked up and its address settled."""
    named = str(Path(model.model).expanduser()) if provider.is_directory else model.model
    arguments: dict[str, Any] = {"model": named, **provider.settings}
    if provider.address_variable:
        arguments |= _own_server(model, provider)
    elif model.address:
        arguments[provider.address_argument] = model.address
    if provider.keys:
        key = _key(model, provider)
        arguments |= {provider.key_argument: key} if provider.key_argument else {}
    return arguments


def _key(model: ModelName, provider: Provider) -> str:
    for variable in provider.keys:
        if os.environ.get(variable, "").strip():
            return os.environ[variable]
    raise ConfigurationError(
        f"{model} needs a key: set the environment variable {' or '.join(provider.keys)}, for example "
        f"export {provider.keys[0]}=..."
    )


def _own_server(model: ModelName, provider: Provider) -> dict[str, Any]:
    """Address and key of a server that speaks OpenAI's protocol.

    The key in OPENAI_API_KEY goes to the server in OPENAI_API_BASE, and to no other that is named.
    """
    address = model.address or os.environ.get(provider.address_variable, "").strip()
    if not address:
        raise ConfigurationError(
            f"{model} needs the address of its server: write {model}@http://host:8000/v1, or set the "
            f"environment variable {provider.address_variable}."
        )
    key = os.environ.get("OPENAI_LIKE_API_KEY", "")
    if not key and not model.address:
        key = os.environ.get("OPENAI_API_KEY", "")
    # The client refuses an empty key even where the server wants none.
    return {provider.address_argument: address, "api_key": key or "none"}


def _class_of(model: ModelName, provider: Provider) -> Any:
    try:
        return getattr(import_module(provider.module), provider.class_name)
    except ModuleNotFoundError as error:
        if not provider.package:
            raise
        raise ConfigurationError(
            f"{model} needs the package {provider.package} ({error}). Run: pip install {provider.package}"
        ) from error


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # Its own text shows what was passed, the key too.
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)


def _shortened(text: str, limit: int = 600) -> str:
    # Some classes list every model they know.
    return text if len(text) <= limit else f"{text[:limit]}..."
