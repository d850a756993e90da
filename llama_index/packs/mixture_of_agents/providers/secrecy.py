"""What looks like a secret, and where it would be: in a name, an address, or settings.

Names and settings travel into configurations, traces and messages, where no key may be. Pure; what is
found is never repeated in what is said about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+")
_SECRET_NAME = re.compile(
    r"(.*_)?(api|access|secret|private|auth|subscription|account|signing)_?key(_id)?"
    r"|(.*_)?(secret|password|passwd|passphrase|credentials?|authorization|bearer|cookie)"
    r"|(.*_)?(api|access|auth|bearer|session|security|refresh|secret|hf|hub|ad|id|personal)_?token"
    r"|key|token|auth"
)
_KEY = re.compile(
    r"(?<![A-Za-z0-9])("
    r"sk-[A-Za-z0-9_-]{16,}|(gsk|hf|xai|r8|ghp|csk|fw|nvapi|pplx|tgp_v1)[-_][A-Za-z0-9]{20,}"
    r"|AIza[A-Za-z0-9_-]{30,}|AKIA[A-Z0-9]{16})"
)


_SHORTEST_KEY = 8
"""Characters. Shorter ones are placeholders, and words of a message could be the same."""


def is_secret_name(name: str) -> bool:
    """Whether a setting, header or parameter of this name holds a secret."""
    words = [word.lower() for word in _WORDS.split(name) if word]
    return _SECRET_NAME.fullmatch("_".join(words)) is not None


def has_key(text: str) -> bool:
    """Whether something in the text looks like a provider's key."""
    return _KEY.search(text) is not None


def has_secret_in_address(address: str) -> bool:
    """Whether a URL carries a password or a key."""
    try:
        parts = urlsplit(address)
    except ValueError:  # no URL at all; whoever opens it will say so
        return has_key(address)
    named = any(is_secret_name(name) for name, _ in parse_qsl(parts.query))
    return "@" in parts.netloc or named or has_key(address)


def secret_places(value: Any, place: str = "") -> Iterator[str]:
    """Where in settings a secret is, as "headers.Authorization"; names alone, never what is there.

    Args:
        value: Settings, or a part of them.
        place: Where that part is.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            inside = f"{place}.{name}" if place else str(name)
            if is_secret_name(str(name)) and inner is not None:
                yield inside
            else:
                yield from secret_places(inner, inside)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from secret_places(inner, f"{place}[{number}]")
    elif isinstance(value, str) and has_key(value):
        yield place


def without(text: str, secrets: Mapping[str, str]) -> str:
    """The text with each secret replaced by the name of the variable that holds it."""
    for name, secret in secrets.items():
        if len(secret) >= _SHORTEST_KEY:
            text = text.replace(secret, f"<{name}>")
    return text
