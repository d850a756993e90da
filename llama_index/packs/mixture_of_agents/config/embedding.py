"""From "provider:model" to a LlamaIndex embedding model, for early stops by similarity.

Every integration is `llama_index.embeddings.<provider>`, and its class takes `model_name`; so no table is
needed. It is imported when it is asked for. No call is made; a local model is read from its folder or cache.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import ValidationError

from llama_index.packs.mixture_of_agents.checks import shortened
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import PROVIDERS, ModelName, key_variable, variables
from llama_index.packs.mixture_of_agents.providers.secrecy import without

_OTHER_NAMES = {
    "mistral": "mistralai",
    "gemini": "google-genai",
    "google": "google-genai",
    "local": "huggingface",
}


def embedding_named(name: str) -> BaseEmbedding:
    """The embedding model of "provider:model".

    Raises:
        ConfigurationError: The name has another form, the package is not installed, or its class refuses
            (a key is not set, for instance).
    """
    model = _taken_apart(name)
    key = _key(model)
    try:
        made: BaseEmbedding = embedding_class(name)(model_name=model.model, **key)
    except (ValueError, TypeError, ImportError, OSError) as error:
        if isinstance(error, ConfigurationError):
            raise
        said = without(_said(error), key)
        raise ConfigurationError(f"{name} cannot be used: {shortened(said, 600)}") from error
    return made


def embedding_class(name: str) -> Any:
    """The class that serves "provider:model", imported now.

    Raises:
        ConfigurationError: The name has another form, or the package is not installed.
    """
    provider = _taken_apart(name).provider
    package = f"llama-index-embeddings-{provider.replace('_', '-')}"
    try:
        module = import_module(f"llama_index.embeddings.{provider.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{name} needs the package {package} ({error}). Run: pip install {package}"
        ) from error
    classes = _embeddings_of(module)
    if not classes:
        raise ConfigurationError(f"{name}: {module.__name__} has no embedding model's class.")
    return classes[0]


def _taken_apart(name: str) -> ModelName:
    written, _, model = name.strip().partition(":")
    provider = _OTHER_NAMES.get(written.lower(), written.lower())
    if not model.strip() or not provider.replace("-", "").replace("_", "").isalnum():
        raise ConfigurationError(
            f"{name!r} names no embedding model. Write provider:model, for example "
            "openai:text-embedding-3-small or huggingface:BAAI/bge-small-en-v1.5."
        )
    return ModelName(provider, model.strip())


def _key(model: ModelName) -> dict[str, str]:
    """The provider's key from the environment or a `.env` file; nothing where there is none."""
    row = PROVIDERS.get(model.provider)
    env = variables()
    variable = key_variable(model, row, env) if row is not None and not row.address_variable else ""
    return {"api_key": env[variable]} if variable else {}


def _embeddings_of(module: ModuleType) -> list[type]:
    """The embedding classes a package offers, in its own order."""
    offered = [getattr(module, name, None) for name in getattr(module, "__all__", dir(module))]
    return [
        one
        for one in offered
        if inspect.isclass(one) and issubclass(one, BaseEmbedding) and not inspect.isabstract(one)
    ]


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error) or type(error).__name__
    # Its own text shows what was passed, the key too.
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
