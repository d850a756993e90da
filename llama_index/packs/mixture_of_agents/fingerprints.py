"""Values as JSON that is the same in every process, so that a hash of it names them. Knows no mixture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError

_ASIDE = re.compile(
    r"(.*_)?(timeout|latency|max_retries|num_workers|batch_size|device|device_map|headers)"
    r"|(.*_)?(key|token|secret|password|credentials)"
)
"""Settings that change no answer, or that are secret."""


def plain(value: Any) -> Any:
    """A message, or whatever its caller put into it, as JSON; what a newer LlamaIndex leaves empty is out."""
    if isinstance(value, BaseModel):
        try:
            return value.model_dump(mode="json", exclude_none=True)
        except (PydanticSerializationError, UnicodeDecodeError):  # an object of the caller's own is in it
            return plain(value.model_dump(exclude_none=True))
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(held) for held in value]
    if isinstance(value, bytes):
        return sha256(value).hexdigest()
    # An object without a text of its own has its address instead, which is another in every process.
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


def settings_hash(model: BaseModel, *, known: str = "") -> str:
    """A model object's own settings that are not its class's usual ones, as a hash; empty where all are.

    Objects and functions are not in it, nor keys and what changes no answer: times, tries, headers.

    Args:
        model: The object.
        known: A value that need not be in it: the model's name.
    """
    own = dict(_own_settings(model, known))
    return sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:16] if own else ""


def _own_settings(model: BaseModel, known: str) -> Iterator[tuple[str, Any]]:
    for name, usual in _usual_settings(type(model)):
        value = getattr(model, name, None)
        if _is_data(value) and value not in (usual, known):
            yield name, value


@lru_cache(maxsize=128)
def _usual_settings(kind: type[BaseModel]) -> tuple[tuple[str, Any], ...]:
    fields = {name: field for name, field in kind.model_fields.items() if not _ASIDE.fullmatch(name)}
    return tuple((name, _usual(field)) for name, field in fields.items())


def _usual(field: FieldInfo) -> Any:
    """A field's default where that is data; None where there is none, or it would have to be made."""
    if field.default_factory in (dict, list):
        return {} if field.default_factory is dict else []
    return field.default if _is_data(field.default) else None


def _is_data(value: object) -> bool:
    """Whether a value is JSON, all the way down."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_data(held) for key, held in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_data(held) for held in value)
    return value is None or isinstance(value, (str, int, float))
