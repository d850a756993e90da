"""A model's own settings, from a configuration to its class's constructor: known to it, and no secrets.

An unknown one is refused, never passed on in silence: several classes swallow what they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import secrecy
from llama_index.packs.mixture_of_agents.providers.classes import arguments_of
from llama_index.packs.mixture_of_agents.providers.names import ModelName
from llama_index.packs.mixture_of_agents.providers.table import Provider

_OBJECTS = frozenset(
    {
        *("callback_manager", "messages_to_prompt", "completion_to_prompt", "output_parser"),
        *("pydantic_program_mode", "query_wrapper_prompt", "rate_limiter", "http_client"),
        *("async_http_client", "openai_client", "async_openai_client", "client", "async_client"),
    }
)
"""Arguments for objects, which no configuration holds: valid in Python, not worth suggesting."""


def refuse_secrets(model: ModelName, provider: Provider, settings: object) -> None:
    """Refuse settings that are no mapping of names, or that carry a key.

    Raises:
        ConfigurationError: They are, or do.
    """
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise ConfigurationError(
            f"The settings of {model} must be names and values, for example {{'temperature': 0.2}}; "
            f"found a {type(settings).__name__}."
        )
    place = next(secrecy.secret_places(settings), None)
    if place is not None:
        named = (
            f"the environment variable {' or '.join(provider.keys)}" if provider.keys else "the environment"
        )
        raise ConfigurationError(
            f"The setting {place!r} of {model} looks like a secret. Keys are not taken from settings: put it "
            f"into {named}, or into a .env file."
        )


def checked(
    model: ModelName,
    provider: Provider,
    made_by: Callable[..., Any],
    taken: tuple[str, ...],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings, if the class takes each of them.

    Args:
        model: Whose they are.
        provider: Its row.
        made_by: Its class.
        taken: Arguments that the name has filled.
        settings: What the caller wants.

    Raises:
        ConfigurationError: One is unknown to the class, or said by the name already.
    """
    accepted = arguments_of(made_by)
    for name in settings:
        if name in taken:
            raise ConfigurationError(
                f"The setting {name!r} of {model} is said by the model's name; leave it out."
            )
        if name == provider.address_argument:
            raise ConfigurationError(
                f"The setting {name!r} of {model} belongs into the name: {model.provider}:{model.model}@http://..."
            )
        if accepted is not None and name not in accepted:
            raise ConfigurationError(_unknown(model, name, _worth_naming(accepted, provider, taken)))
    return dict(settings)


def _worth_naming(accepted: frozenset[str], provider: Provider, taken: tuple[str, ...]) -> list[str]:
    hidden = {*taken, *_OBJECTS, provider.address_argument}
    return sorted(name for name in accepted - hidden if not secrecy.is_secret_name(name))


def _unknown(model: ModelName, name: str, valid: list[str]) -> str:
    close = get_close_matches(name, valid, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{model} takes no setting {name!r}.{hint} It takes {', '.join(valid) or 'none'}."
