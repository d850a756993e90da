"""What is taken out before anything is written: secrets always, contents where asked.

Secrets are found by the names of their fields and by what keys look like. It knows text and plain JSON
values, and nothing of runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

SECRET = "[secret]"
REDACTED = "[redacted]"

Redact = bool | Callable[[str], str] | Sequence[str | re.Pattern[str]]
"""Nothing, everything, by a function, or whatever matches one of some regular expressions."""

_SECRET_FIELD = re.compile(
    r"(api|access|secret|private|subscription)[-_]?key(_id)?$|authorization|credential|passw(or)?d|secret"
    r"|headers$|cookie|(^|[-_])(auth|access|api|bearer|refresh|session|id)?[-_]?token$",
    re.IGNORECASE,
)
_PREFIXES = "sk|pk|rk|xai|pplx|gsk|tgp|nvapi|r8|hf|csk|fw|ghp|gho|ghs|ghu|xoxb|xoxp"
# Most have a beginning of their own; a digit tells them from words with hyphens. What a pattern may look
# ahead is bounded, or a text made for it would take minutes.
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    rf"(?:{_PREFIXES}|github_pat|glpat)[-_](?=[A-Za-z_-]{{0,40}}[0-9])[A-Za-z0-9_-]{{16,}}"
    r"|AIza[A-Za-z0-9_-]{30,}"
    r"|A[KS]IA[A-Z0-9]{16}"
    r"|(?<![_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r")"
)
_AFTER_NAME = re.compile(
    r"(?P<name>\bbearer[ \t]{1,8}|\b(?:authorization|x-api-key|api[-_]?key|access[-_]?token)"
    r"[\"']?[ \t]{0,8}[:=][ \t]{0,8}[\"']?(?:(?:bearer|basic)[ \t]{1,8})?)"
    r"(?=[^\s\"']{0,60}[0-9])(?P<value>[A-Za-z0-9._~+/=-]{12,})",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(
    r"(?P<before>://)[^\s/@:]{0,256}:[^\s/@]{1,1024}(?=@)"
    r"|(?P<name>[?&](?:api[-_]?key|key|(?:access|auth|id|refresh)?[-_]?token|(?:client[-_]?)?secret|passw(?:or)?d"
    r"|sig|signature|x-(?:amz|goog)-signature)=)[^\s&\"'<>]{6,4096}",
    re.IGNORECASE,
)
_KEY_FILE = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]{0,20}PRIVATE KEY)-----[^-]{0,20000}(?:-----END (?P=kind)-----)?"
)
# Most texts have none of these, and are done with sooner than by the patterns.
_BEGINNINGS = (
    *(f"{name}{dash}" for name in _PREFIXES.split("|") for dash in "-_"),
    "AIza",
    "github_pat",
    "glpat",
    "AKIA",
    "ASIA",
    "eyJ",
)
_SHORTEST = 16
"""No key, and no name with a key behind it, has fewer characters."""
_NAMES = ("bearer", "authorization", "key", "token")
_STRUCTURE = frozenset({"role", "block_type", "image", "audio", "video", "data"})
"""Fields of a message whose texts nobody wrote."""
_NAMED = frozenset({"finish_reason", "source", "tool"})
"""Likewise, of the details of an answer."""


def scrubbed(text: str) -> str:
    """The text without what looks like a key; again scrubbed, it stays as it is."""
    if len(text) < _SHORTEST:
        return text
    for beginning in _BEGINNINGS:
        if beginning in text:
            text = _KEY.sub(SECRET, text)
            break
    if "://" in text or "=" in text:
        text = _IN_ADDRESS.sub(lambda found: f"{found['before'] or found['name']}{SECRET}", text)
    if "PRIVATE KEY-----" in text:
        text = _KEY_FILE.sub(SECRET, text)
    lower = text.lower()
    for name in _NAMES:
        if name in lower:
            return _AFTER_NAME.sub(rf"\g<name>{SECRET}", text)
    return text


def cleaned(value: Any) -> Any:
    """Any value as JSON, without secrets; objects become their text, without their address in memory."""
    if isinstance(value, str):
        return value if len(value) < _SHORTEST else scrubbed(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON has no other
    if isinstance(value, Mapping):
        return {scrubbed(str(key)): _cleaned_field(str(key), held) for key, held in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [cleaned(held) for held in value]
    if isinstance(value, BaseModel):
        return cleaned(dict(value))
    return scrubbed(re.sub(r" at 0x[0-9a-fA-F]+", "", str(value)))


def _cleaned_field(name: str, value: Any) -> Any:
    return _hidden(value) if _is_secret(name) else cleaned(value)


@lru_cache(maxsize=1024)
def _is_secret(field: str) -> bool:
    return _SECRET_FIELD.search(field) is not None


def _hidden(value: Any) -> Any:
    """The same shape, with a secret in each place."""
    if isinstance(value, Mapping):
        return {str(name): _hidden(held) for name, held in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_hidden(held) for held in value]
    return value if value is None or isinstance(value, bool) else SECRET


def summary(text: str) -> str:
    """What stands for a text that is not kept: its length and hash; nothing for nothing.

    The hash tells equal texts from different ones. A short text can be found by trying.
    """
    if not text:
        return text
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"[redacted: {len(text)} characters, sha256 {digest}]"


class Redaction:
    """What a trace leaves out.

    Args:
        redact: True puts length and hash in the place of every text that a person or a model wrote. A
            function gives what is written in a text's place. Regular expressions: what matches one is
            replaced. False keeps texts, without what looks like a key.

    Raises:
        ConfigurationError: It is something else, or no regular expression.
    """

    def __init__(self, redact: Redact = False) -> None:
        self.alters = redact is not False
        self._whole = redact is True
        self._rewrite = _rewriter(redact)

    def text(self, text: str) -> str:
        """A text that a person or a model wrote; secrets are still in it, for `cleaned` to find."""
        return text if self._rewrite is None else self._rewrite(text)

    def optional(self, text: str | None) -> str | None:
        """Likewise, where there may be none."""
        return None if text is None else self.text(text)

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A chat message, as JSON, cleaned."""
        plain: dict[str, Any] = cleaned(message)
        if self._whole:
            blocks = [{"block_type": "text", "text": summary(_content(b))} for b in plain.get("blocks", ())]
            return {"role": plain.get("role"), "blocks": blocks}
        return plain if self._rewrite is None else self._rewritten(plain, kept=_STRUCTURE)

    def settings(self, settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """A configuration, cleaned; texts may stand anywhere in it."""
        if settings is None:
            return None
        plain: dict[str, Any] = cleaned(settings)
        if self._whole:
            return {"redacted": summary(json.dumps(plain))}
        return plain if self._rewrite is None else self._rewritten(plain)

    def details(self, details: Mapping[str, Any]) -> dict[str, Any]:
        """What else is known of an answer: what an agent's tools were asked and said is text, too."""
        if self._rewrite is None:
            return dict(details)
        return {
            name: held if name == "sparse_moe" else self._rewritten(cleaned(held), name, kept=_NAMED)
            for name, held in details.items()
        }

    def event(self, fields: Mapping[str, Any], named: Callable[[str, str], str | None]) -> dict[str, Any]:
        """What happened, as JSON, cleaned; texts may stand anywhere in it.

        Args:
            fields: Its fields.
            named: Of a field and what stands in it, at any depth: what is written of it where it is a name;
                None for a text. What a tool was called with (`arguments`) is text in any field.
        """
        plain: dict[str, Any] = cleaned(fields)
        return plain if self._rewrite is None else self._of_event(plain, "", named)

    def _of_event(self, value: Any, field: str, named: Callable[[str, str], str | None]) -> Any:
        if field == "arguments":
            return self._arguments(value)
        if isinstance(value, dict):
            return {name: self._of_event(held, name, named) for name, held in value.items()}
        if isinstance(value, list):
            return [self._of_event(held, field, named) for held in value]
        if not isinstance(value, str):
            return value
        name = named(field, value)
        return self.text(value) if name is None else name

    def _arguments(self, value: Any) -> Any:
        """What a tool was called with: all of it, the names of its fields too, may be a model's words."""
        if self._whole:
            return {"redacted": summary(json.dumps(value))} if value else value
        if isinstance(value, dict):
            return {self.text(str(name)): self._arguments(held) for name, held in value.items()}
        if isinstance(value, list):
            return [self._arguments(held) for held in value]
        return self.text(value) if isinstance(value, str) else value

    def _rewritten(self, value: Any, field: str = "", kept: frozenset[str] = frozenset()) -> Any:
        if isinstance(value, str):
            stays = field in kept or field.endswith("mimetype")
            return value if stays or self._rewrite is None else self._rewrite(value)
        if field == "arguments" and isinstance(value, dict):
            return self._arguments(value)
        if isinstance(value, dict):
            return {name: self._rewritten(held, name, kept) for name, held in value.items()}
        return [self._rewritten(held, field, kept) for held in value] if isinstance(value, list) else value


def _content(block: Mapping[str, Any]) -> str:
    return str(block["text"]) if "text" in block else json.dumps(block, sort_keys=True)


def _rewriter(redact: object) -> Callable[[str], str] | None:
    if redact is False:
        return None
    if redact is True:
        return summary
    if callable(redact):
        return lambda text: str(redact(text))
    if isinstance(redact, (list, tuple)) and all(isinstance(each, (str, re.Pattern)) for each in redact):
        patterns = [_compiled(each) for each in redact]
        return lambda text: _without(patterns, text)
    raise ConfigurationError(
        "redact must be True for every text, a function of a text, a list of regular expressions, or False "
        f"for none; found {shown(redact)}."
    )


def _compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"redact has {shown(pattern)}, no regular expression: {error}.") from error


def _without(patterns: Sequence[re.Pattern[str]], text: str) -> str:
    for pattern in patterns:
        text = pattern.sub(REDACTED, text)
    return text
