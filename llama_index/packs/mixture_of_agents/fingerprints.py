"""Values as JSON that is the same in every process, so that a hash of it names them. Knows no mixture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError


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
