"""Secrets in a configuration: found by the key's name or by the value's looks, and never repeated.

A configuration is shared, committed and recorded with every run, so a key in it is a key lost. Which names
hold secrets is known to `providers.secrecy`, what keys look like to `records.traces`. This module knows
no field, and sees no environment.
"""

from __future__ import annotations

import re
from typing import Any

from llama_index.packs.mixture_of_agents.config.faults import Place, refused
from llama_index.packs.mixture_of_agents.providers.secrecy import is_secret_name
from llama_index.packs.mixture_of_agents.records.traces.redaction import scrubbed

_WHERE = (
    "a configuration holds no secrets: it is shared, and every run records it. Remove it here, and set the "
    "provider's environment variable (such as OPENAI_API_KEY) or write that into a .env file."
)
_NAMED_BY_CALLER = (("models",), ("prices",), ("limits",), ("finish", "weights"))
"""Tables whose keys are names that the caller gives."""

_WHOLE = re.compile(r"sk-\S{4,}|(?i:bearer)\s+\S+")
"""What nothing but a key is, when it is the whole value."""
_IN_ADDRESS = re.compile(
    r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)|(?<=[?&])(?:api[_-]?key|key|token|access[_-]?token|secret)=[^\s&]+"
)
_KEY_FILE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_MASK = "***"


def refuse_secrets(value: Any, place: Place = ()) -> None:
    """Refuse plain data that holds a secret.

    Raises:
        RefusedError: It does; the message names the key and never the value.
    """
    if isinstance(value, dict):
        for key, held in value.items():
            _refuse_name(key, place)
            refuse_secrets(held, (*place, key))
    elif isinstance(value, list):
        for number, held in enumerate(value):
            refuse_secrets(held, (*place, number))
    elif isinstance(value, str) and looks_secret(value):
        raise refused(place, f" looks like a secret, but {_WHERE}")


def _refuse_name(key: str, place: Place) -> None:
    if looks_secret(key):
        raise refused(place, f" has a key that looks like a secret, but {_WHERE}")
    if place not in _NAMED_BY_CALLER and is_secret_name(key):
        raise refused((*place, key), f" is named like a secret, but {_WHERE}")


def looks_secret(value: str) -> bool:
    """Whether a value is, or contains, what looks like a key."""
    whole = _WHOLE.fullmatch(value.strip()) or _KEY_FILE.search(value)
    return bool(whole) or masked(value) != value


def masked(text: str) -> str:
    """A text with what looks like a key in it left out."""
    return _IN_ADDRESS.sub(_MASK, scrubbed(text))
