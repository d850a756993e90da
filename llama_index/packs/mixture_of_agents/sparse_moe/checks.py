"""Values a caller may give, refused with what is valid.

It knows no option by name.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from llama_index.packs.mixture_of_agents.errors import ConfigurationError


def is_number(value: object) -> bool:
    """Tell whether a value is a finite number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_int(value: object) -> bool:
    """Tell whether a value is a whole number; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def require(ok: bool, name: str, value: object, valid: str) -> None:
    """Refuse a value unless it is fine.

    Raises:
        ConfigurationError: Names the option, the value and what it must be.
    """
    if not ok:
        raise ConfigurationError(f"{name}={value!r} is not valid; it must be {valid}")


def require_count(name: str, value: object) -> None:
    """Refuse anything but a whole number of at least one.

    Raises:
        ConfigurationError: Names the option and what it must be.
    """
    require(
        is_int(value) and isinstance(value, int) and value >= 1, name, value, "a whole number of at least 1"
    )


def require_one_of(name: str, value: object, valid: Collection[object]) -> None:
    """Refuse anything but one of a few values, of the same type.

    Raises:
        ConfigurationError: Names the option and the values.
    """
    ok = any(value == one and type(value) is type(one) for one in valid)
    require(ok, name, value, f"one of {', '.join(map(repr, valid))}")
