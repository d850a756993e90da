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

from llama_index.packs.mixture_of_agents.checks import shortened
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

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
    written, _, model = name.strip().partition(":")
    provider = _OTHER_NAMES.get(written.lower(), written.lower())
    if not model.strip() or not provider.replace("-", "").replace("_", "").isalnum():
        raise ConfigurationError(
            f"{name!r} names no embedding model. Write provider:model, for example "
            "openai:text-embedding-3-small or huggingface:BAAI/bge-small-en-v1.5."
        )
    embedding = _class_of(name, provider)
    try:
        made: BaseEmbedding = embedding(model_name=model.strip())
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise ConfigurationError(f"{name} cannot be used: {shortened(_said(error), 600)}") from error
    return made


def _class_of(name: str, provider: str) -> Any:
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


def _embeddings_of(module: ModuleType) -> list[type]:
    """The embedding classes a package offers, in its own order."""
    offered = [getattr(module, name, None) for name in getattr(module, "__all__", dir(module))]
    return [
        one
        for one in offered
        if inspect.isclass(one) and issubclass(one, BaseEmbedding) and not inspect.isabstract(one)
    ]


def _said(error: Exception) -> str:
    """Its message, without what was passed: that may be a key."""
    faults = getattr(error, "errors", None)
    if not callable(faults):
        return str(error)
    told = faults(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in told)
