"""A configuration as plain values in its shortest form, and as the text of a file. It reads nothing."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel

from llama_index.packs.mixture_of_agents.config.fields import UNLIMITED
from llama_index.packs.mixture_of_agents.config.plain_data import Table
from llama_index.packs.mixture_of_agents.config.tables import (
    FinishConfig,
    ModelConfig,
    StopConfig,
    TraceConfig,
)


def shortest(config: BaseModel, *, full: bool = False) -> dict[str, Any]:
    """The values of a configuration, each in its shortest form.

    Args:
        config: A checked configuration.
        full: Every field; else only what is not the default.
    """
    values: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if full or value != field.get_default(call_default_factory=True):
            values[name] = _proposers(value) if name == "proposers" else _short(value)
    # None is the default of all others; only a limit is taken off by it.
    if "timeout" in values and values["timeout"] is None and not full:
        values["timeout"] = UNLIMITED
    return values


def _proposers(rounds: tuple[tuple[ModelConfig, ...], ...]) -> list[Any]:
    lists = [[_short(entry) for entry in models] for models in rounds]
    return lists[0] if len(lists) == 1 else lists


def _short(value: object) -> Any:
    if isinstance(value, (list, tuple)):
        return [_short(held) for held in value]
    if isinstance(value, dict):
        return {key: _short(held) for key, held in value.items()}
    if not isinstance(value, Table):
        return value
    said = _set_values(value)
    if isinstance(value, TraceConfig):
        return said if value.redact or value.folder else (value.path or True)
    key = "kind" if isinstance(value, (FinishConfig, StopConfig)) else "model"
    return said[key] if list(said) == [key] else said


def _set_values(table: Table) -> dict[str, Any]:
    """Its values that are not the default; what says what it is, always."""
    fields = type(table).model_fields
    return {
        name: _short(value)
        for name, value in dict(table).items()
        if name == "kind" or value != fields[name].get_default(call_default_factory=True)
    }


def as_toml(values: dict[str, Any]) -> str:
    """The text of a TOML file."""
    import tomli_w

    return tomli_w.dumps(values)


def as_yaml(values: dict[str, Any]) -> str:
    """The text of a YAML file."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text if values else ""


EXPONENTS = (
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+\Z"),
    list("-+.0123456789"),
)
"""Numbers that YAML 1.2 knows and PyYAML does not: 5e-2."""


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper, which also writes line breaks other than its own so that they come back."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", value, style='"' if _OTHER_BREAKS.search(value) else None
    )


_OTHER_BREAKS = re.compile("[\x85\u2028\u2029]")
_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver(*EXPONENTS)  # so that such a text is put in quotes
