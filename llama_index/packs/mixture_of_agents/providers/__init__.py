"""From a model's name to a LlamaIndex LLM.

A table says which class serves a provider, which package brings it, which variable holds its key; any
other `llama_index.llms.*` package is found by its name. A class is imported when it is asked for, and
never before: no provider's library is needed for another. Whatever is missing is said before any call.
It knows nothing of mixtures.

    llm_named("claude-3-haiku")
    llm_named("openai:gpt-4o-mini", settings={"temperature": 0.2})
    llm_named("openai-like:qwen3@http://127.0.0.1:8000/v1")
    llm_named("sparse-moe:models/my-mixture")

table         who serves models, as data
families      bare model names, as data
integrations  other packages, by name
names         a name, taken apart
variables     the environment, over a .env file
access        keys and addresses from there
secrecy       what looks like a secret
classes       a class, and which arguments it takes
settings      a model's own settings
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from llama_index.core.llms.llm import LLM
from pydantic import ValidationError

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import names, secrecy
from llama_index.packs.mixture_of_agents.providers import settings as own_settings
from llama_index.packs.mixture_of_agents.providers.access import access, key_variable
from llama_index.packs.mixture_of_agents.providers.classes import arguments_of, class_of, model_arguments
from llama_index.packs.mixture_of_agents.providers.names import ModelName
from llama_index.packs.mixture_of_agents.providers.table import ALIASES, PROVIDERS, Provider
from llama_index.packs.mixture_of_agents.providers.variables import Variables, variables

__all__ = [  # noqa: RUF022 (sorted as Python sorts, capitals with the rest)
    "ALIASES",
    "ModelName",
    "PROVIDERS",
    "Provider",
    "Variables",
    "key_variable",
    "llm_named",
    "parse_model",
    "provider_of",
    "takes_setting",
    "variables",
]

_NAME = re.compile(r"[A-Za-z0-9][\w.:/@-]*[A-Za-z0-9]")
"""What may be a model's name among words."""


def llm_named(
    name: str, *, settings: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> LLM:
    """Make the LLM that a name stands for. No call is made.

    Args:
        name: "provider:model", and "@http://..." behind it for a server of one's own; or a bare name
            whose beginning says whose it is, such as "gpt-4o".
        settings: Arguments of the model's class by name, such as {"temperature": 0.2}; never a key.
        env: Variables that hold keys and addresses; by default the environment over a `.env` file in
            the current folder.

    Raises:
        ConfigurationError: The name is malformed or ambiguous, the provider unknown, its package not
            installed, its key not set, a setting unknown to its class, or the model refused by it.
    """
    model = parse_model(name)
    provider = provider_of(model)
    wanted = {} if settings is None else settings
    own_settings.refuse_secrets(model, provider, wanted)
    env = variables() if env is None else env
    arguments = access(model, provider, env)
    made_by = class_of(model, provider)
    taken = model_arguments(model, provider, made_by)
    arguments |= dict.fromkeys(taken, _spelled(model, provider)) | dict(provider.settings)
    arguments |= own_settings.checked(model, provider, made_by, taken, wanted)
    key = key_variable(model, provider, env)
    return _made(model, made_by, arguments, {key: env[key]} if key else {})


def parse_model(name: str) -> ModelName:
    """Take "provider:model", "provider:model@http://host" or a bare name apart.

    Raises:
        ConfigurationError: It has no such form, leaves open whose model it is, or its provider is unknown or
            takes no address.
    """
    return names.taken_apart(name, PROVIDERS)


def provider_of(model: ModelName) -> Provider:
    """What is known of the model's provider.

    Raises:
        ConfigurationError: Nobody is called so.
    """
    row = names.row_of(model.provider, PROVIDERS)
    if row is None:
        raise ConfigurationError(
            f"Unknown provider {model.provider!r}; the providers are {', '.join(PROVIDERS)}."
        )
    return row


def takes_setting(model: ModelName, setting: str) -> bool:
    """Whether the model's class, imported now, takes a setting of this name.

    Raises:
        ConfigurationError: Its package is not installed.
    """
    accepted = arguments_of(class_of(model, provider_of(model)))
    return accepted is None or setting in accepted


def _spelled(model: ModelName, provider: Provider) -> str:
    return str(Path(model.model).expanduser()) if provider.is_directory else model.model


def _made(
    model: ModelName, made_by: Callable[..., Any], arguments: dict[str, Any], secrets: Mapping[str, str]
) -> LLM:
    try:
        llm: LLM = made_by(**arguments)
        # Classes that know their models by name find an unknown one here, not at construction.
        llm.metadata  # noqa: B018
    except ConfigurationError:
        raise
    except Exception as error:  # a class of anyone's, with errors of its own
        said = secrecy.without(_said(error), secrets)
        raise ConfigurationError(f"{model} cannot be used: {_with_nearest(model.model, said)}") from error
    return llm


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error) or type(error).__name__
    # Its own text shows what was passed, the key too.
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)


def _with_nearest(model: str, said: str) -> str:
    """What a class says of a model that it does not know; of all it lists, the nearest is enough."""
    listed = {word.lower(): word for word in _NAME.findall(said) if word != model}
    close = get_close_matches(model.lower(), listed, n=1, cutoff=0.75)
    if close:
        return f"{_shortened(said, 160)} Did you mean {listed[close[0]]!r}?"
    return _shortened(said, 600)


def _shortened(text: str, limit: int) -> str:
    # Some classes list every model they know.
    return text if len(text) <= limit else f"{text[:limit]}..."
