"""How a person names a model, taken apart: `provider:model`, `provider:model@http://host`, or a bare name.

A name that says too little or too much is refused, with what to write in its place. It knows the table,
and neither classes nor keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import families, integrations, secrecy
from llama_index.packs.mixture_of_agents.providers.table import ALIASES, Provider

_ADDRESSED = re.compile(r"(?P<model>.*?)@(?P<address>https?://[^\s/]\S*)")

_NO_ADDRESS = re.compile(
    r"(?P<model>[^@]+)@(?:[a-z]+://)?(?P<host>(?:localhost|\d+(?:\.\d+){3}|[\w.-]+:\d+)(?:[:/]\S*)?|)"
)
"""What an address looks like that lacks its beginning, or has another, or no host."""
_PATH = ("./", "../", "/", "~", ".\\", "..\\")


@dataclass(frozen=True)
class ModelName:
    """A model as a person names it.

    Attributes:
        provider: Which row of the table, or which other LlamaIndex package.
        model: The provider's own name for it; a directory for a local model.
        address: Where its server is, if that was said.
    """

    provider: str
    model: str
    address: str | None = None

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}" + (f"@{self.address}" if self.address else "")


def taken_apart(name: str, rows: Mapping[str, Provider]) -> ModelName:
    """What a name says.

    Args:
        name: As a person wrote it.
        rows: The known providers.

    Raises:
        ConfigurationError: It says no model, leaves open whose, or carries a secret.
    """
    text = name.strip()
    addressed = _ADDRESSED.fullmatch(text)
    _refuse_secrets(text, addressed["address"] if addressed else "")
    if addressed and ":" not in addressed["model"]:
        raise ConfigurationError(_no_provider(name, addressed["model"], addressed["address"]))
    written, colon, rest = text.partition(":")
    if not colon and text:
        return _bare(text, rows)
    if not written or not rest.strip():
        raise ConfigurationError(_no_model(name, rows))
    provider = _provider(written, rows)
    row = row_of(provider, rows)
    if row is None:
        raise ConfigurationError(_unknown(name, written, rows))
    return _addressed(name, provider, row, rest, rows)


def row_of(provider: str, rows: Mapping[str, Provider]) -> Provider | None:
    """The provider's row, or one made of its package's name; None where nobody is called so."""
    return rows.get(provider) or integrations.row_of(provider)


def _provider(written: str, rows: Mapping[str, Provider]) -> str:
    lowered = written.lower()
    spelled = lowered if lowered in rows else lowered.replace("_", "-")
    return spelled if spelled in rows else ALIASES.get(spelled, spelled)


def _addressed(name: str, provider: str, row: Provider, rest: str, rows: Mapping[str, Provider]) -> ModelName:
    addressed = None if row.is_directory else _ADDRESSED.fullmatch(rest)
    if addressed is None:
        _refuse_half_an_address(name, provider, row, rest)
        return ModelName(provider, rest)
    if not addressed["model"].strip():
        raise ConfigurationError(_no_model(name, rows))
    if not row.address_argument:
        raise ConfigurationError(
            f"{name!r} gives an address, but {provider} takes none; drop '@{addressed['address']}'."
        )
    return ModelName(provider, addressed["model"], addressed["address"])


def _refuse_half_an_address(name: str, provider: str, row: Provider, rest: str) -> None:
    half = _NO_ADDRESS.fullmatch(rest) if row.address_argument else None
    if half is not None:
        raise ConfigurationError(
            f"{name!r} gives an address that cannot be: behind @ it begins with http:// or https://, and a "
            f"host follows. Write {provider}:{half['model']}@http://{half['host'] or 'host:8000/v1'}."
        )


def _bare(model: str, rows: Mapping[str, Provider]) -> ModelName:
    """A name without provider, by its family."""
    if row_of(_provider(model, rows), rows) is not None:
        raise ConfigurationError(
            f"{model!r} names no model, but a provider. Write provider:model, for example "
            f"{_example(_provider(model, rows), rows)}."
        )
    if model.startswith(_PATH):
        raise ConfigurationError(
            f"{model!r} looks like a folder of this machine. Write sparse-moe:{model} for a mixture of "
            f"experts in it, huggingface:{model} for another model."
        )
    family = families.family_of(model)
    if family is None and "/" in model:
        raise ConfigurationError(_open(model, _choices_for_path(model, rows)))
    if family is None:
        raise ConfigurationError(_no_model(model, rows) + _meant(model))
    if len(family.providers) > 1:
        raise ConfigurationError(_open(model, [f"{provider}:{model}" for provider in family.providers]))
    return ModelName(family.providers[0], families.FULL_NAMES.get(model.lower(), model))


def _choices_for_path(model: str, rows: Mapping[str, Provider]) -> list[str]:
    """`openai/gpt-4o` is how OpenRouter spells it; `meta-llama/...` is a name of the hub."""
    owner, _, rest = model.partition("/")
    provider = _provider(owner, rows)
    if row_of(provider, rows) is not None and rest:
        return [f"{provider}:{rest}", f"openrouter:{model}"]
    return [f"{provider}:{model}" for provider in ("together", "openrouter", "huggingface")]


def _open(model: str, choices: list[str]) -> str:
    return (
        f"{model!r} is served by several providers, under spellings of their own. Say whose: "
        f"{', '.join(choices[:-1])} or {choices[-1]}."
    )


def _meant(model: str) -> str:
    family = families.nearest_family(model)
    if family is None:
        return ""
    whose = f"{family.providers[0]}'s" if len(family.providers) == 1 else "served by several providers"
    return f" Did you mean a name that begins with {family.stem!r}? Those are {whose}."


def _no_model(name: str, rows: Mapping[str, Provider]) -> str:
    return (
        f"{name!r} names no model. Write provider:model, for example openai:gpt-4o-mini; "
        f"the providers are {_listed(rows)}."
    )


def _no_provider(name: str, model: str, address: str) -> str:
    return (
        f"{name!r} names no provider. Write provider:model, for a server of your own "
        f"openai-like:{model or 'model'}@{address}."
    )


def _example(provider: str, rows: Mapping[str, Provider]) -> str:
    row = row_of(provider, rows)
    return f"{provider}:{(row.probe if row else '') or 'model'}"


def _unknown(name: str, provider: str, rows: Mapping[str, Provider]) -> str:
    if families.family_of(provider) is not None:
        return (
            f"{name!r} names no provider. For a model of your Ollama server, write ollama:{name.strip()}; "
            f"the providers are {_listed(rows)}."
        )
    known = [*rows, *ALIASES, *integrations.INTEGRATIONS]
    close = get_close_matches(provider.lower(), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    other = (
        f" Another LlamaIndex package works once it is installed: pip install llama-index-llms-{provider}"
        if not close and integrations.is_name(provider)
        else ""
    )
    return f"Unknown provider {provider!r} in {name!r}.{hint} The providers are {_listed(rows)}.{other}"


def _listed(rows: Mapping[str, Provider]) -> str:
    return ", ".join(rows)


def _refuse_secrets(text: str, address: str) -> None:
    # The name itself is not repeated: it would be in the log.
    if secrecy.has_key(text) or (address and secrecy.has_secret_in_address(address)):
        raise ConfigurationError(
            "A model's name carries what looks like a key or password. Keys come from the environment or a "
            ".env file, for example OPENAI_API_KEY=...; take it out of the name."
        )
