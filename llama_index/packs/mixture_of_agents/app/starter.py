"""A configuration to begin with: every key with what it means and an example, most of them commented out.

It is written from the fields themselves, so it cannot tell of keys that are not there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llama_index.packs.mixture_of_agents.config import MixtureConfig
from llama_index.packs.mixture_of_agents.config.writing import as_toml, as_yaml

_TITLE = (
    "A mixture of agents: several models propose, one writes the answer. Ask it with: "
    "moa ask --config {name} '...'. Check it with: moa config check {name}. "
    "A '#' with a key right behind it is an example: delete the '#' to set it. "
    "Keys of providers do not belong here, but in the environment or in a .env file."
)
_IN_FORCE = ("proposers", "aggregator")
_WIDTH = 100
_WRITERS: Mapping[str, Callable[[dict[str, Any]], str]] = {"toml": as_toml, "yaml": as_yaml}
FORMATS = tuple(_WRITERS)
"""What a starter can be written in."""


def starter(form: str, name: str) -> str:
    """The text of a file to begin with.

    Args:
        form: "toml" or "yaml".
        name: What the file will be called.
    """
    paragraphs = [_prose(_TITLE.format(name=name))]
    paragraphs += [_paragraph(key, form) for key in (*_plain_keys(), *_table_keys())]
    return "\n\n".join(paragraphs) + "\n"


def _plain_keys() -> Iterator[str]:
    return (key for key in MixtureConfig.model_fields if not isinstance(_example(key), dict))


def _table_keys() -> Iterator[str]:
    """They come last: in TOML, whatever stands behind the head of a table is in it."""
    return (key for key in MixtureConfig.model_fields if isinstance(_example(key), dict))


def _paragraph(key: str, form: str) -> str:
    lines = _WRITERS[form]({key: _example(key)}).strip().splitlines()
    mark = "" if key in _IN_FORCE else "#"
    shown = "\n".join(f"{mark}{line}" for line in lines if line.strip())
    return f"{_prose(MixtureConfig.model_fields[key].description or key)}\n{shown}"


def _example(key: str) -> Any:
    return (MixtureConfig.model_fields[key].examples or [None])[0]


def _prose(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# "))
