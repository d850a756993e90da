"""Key and address of a model, from variables to its class's arguments.

A key goes to the server it belongs to: one from this process's environment never goes to an address
that a `.env` file names, since that file may have come with a folder from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers.names import ModelName
from llama_index.packs.mixture_of_agents.providers.table import Provider
from llama_index.packs.mixture_of_agents.providers.variables import source_of

_OWN_SERVER_KEY = "OPENAI_LIKE_API_KEY"
_OPENAI_KEY = "OPENAI_API_KEY"


def key_variable(model: ModelName, provider: Provider, env: Mapping[str, str]) -> str:
    """The variable whose key a model would be asked with; empty where there is none.

    Args:
        model: The model.
        provider: Its row.
        env: Variables.
    """
    if provider.address_variable:
        return _own_server_key(model, provider, env)
    return next((name for name in provider.keys if env.get(name, "").strip()), "")


def access(model: ModelName, provider: Provider, env: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that say where the model is and who asks.

    Raises:
        ConfigurationError: A key or an address is needed and not set.
    """
    variable = key_variable(model, provider, env)
    if provider.address_variable:
        # The client refuses an empty key even where the server wants none.
        key = env[variable] if variable else "none"
        return {provider.address_argument: _address(model, provider, env), provider.key_argument: key}
    if provider.keys and provider.needs_key and not variable:
        raise ConfigurationError(
            f"{model} needs a key: set the environment variable {' or '.join(provider.keys)}, for example "
            f"export {provider.keys[0]}=..., or write it into a .env file here."
        )
    where = {provider.address_argument: model.address} if model.address else {}
    return where | ({provider.key_argument: env[variable]} if variable else {})


def _address(model: ModelName, provider: Provider, env: Mapping[str, str]) -> str:
    address = model.address or env.get(provider.address_variable, "").strip()
    if not address:
        raise ConfigurationError(
            f"{model} needs the address of its server: write {model}@http://host:8000/v1, or set the "
            f"environment variable {provider.address_variable}."
        )
    return address


def _own_server_key(model: ModelName, provider: Provider, env: Mapping[str, str]) -> str:
    """The key for a server that speaks OpenAI's protocol.

    The key in OPENAI_API_KEY goes to the server in OPENAI_API_BASE, and to no other that is named.
    """
    if model.address:
        names = [_OWN_SERVER_KEY]
    else:
        home = source_of(provider.address_variable, env)
        names = [name for name in (_OWN_SERVER_KEY, _OPENAI_KEY) if source_of(name, env) == home]
    return next((name for name in names if env.get(name, "").strip()), "")
