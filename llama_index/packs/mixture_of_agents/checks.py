"""Small checks of what a caller passes: is it a whole number, are these seconds, who may be asked.

A refusal says what was found, but never prints a caller's object: the repr of an LLM holds its API key.
This module knows nothing of mixtures.
"""

from __future__ import annotations

import os
import reprlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_LARGEST_SHOWN = 10**18


def shown(value: object) -> str:
    """A value for a message: numbers and texts as written, anything else by its type alone."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return _items_shown(value)
    if isinstance(value, int) and abs(value) > _LARGEST_SHOWN:  # Python refuses to print very long ones
        return "a number of more than 18 digits"
    if value is None or isinstance(value, (bool, int, float, str)):
        return reprlib.repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    return _with_article(type(value).__name__)


def _items_shown(values: Sequence[object] | set[object] | frozenset[object]) -> str:
    kind = type(values).__name__
    if not values:
        return f"an empty {kind}"
    items = list(dict.fromkeys(_item_shown(value) for value in values))
    more = ", ..." if len(items) > 5 else ""
    return f"{_with_article(kind)} of {', '.join(items[:5])}{more}"


def _item_shown(value: object) -> str:
    # One level is enough to see what is wrong, and an endless nest of lists ends here.
    return type(value).__name__ if _is_object(value) else shown(value)


def _is_object(value: object) -> bool:
    return value is not None and not isinstance(value, (bool, int, float, str, type, ModuleType))


def _with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def shortened(said: str, limit: int = 200) -> str:
    """What another library said, cut: some list every model they know."""
    return said if len(said) <= limit else f"{said[:limit]}..."


def whole_number(
    name: str, value: object, least: int | None = None, *, none: str = "", hint: str = ""
) -> None:
    """Refuse what is no whole number, or too small a one.

    Args:
        name: What the caller knows it by.
        value: What the caller passed; None passes where `none` says what it means.
        least: The smallest that works; None for any.
        none: What None stands for, such as "for no limit"; empty where None is refused.
        hint: What to do, where the rule alone does not say it.

    Raises:
        ConfigurationError: It is something else.
    """
    if value is None and none:
        return
    if isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least):
        return
    rule = "a whole number" if least is None else f"a whole number >= {least}"
    _refuse(name, value, rule, none, hint)


def number(name: str, value: object, least: float, most: float, *, none: str = "") -> None:
    """Refuse what is no number between `least` and `most`; the arguments are `whole_number`'s."""
    if value is None and none:
        return
    if not (_is_number(value) and least <= value <= most):
        _refuse(name, value, f"a number between {least:g} and {most:g}", none)


def seconds(name: str, value: object, *, none: str = "", or_zero: bool = False) -> None:
    """Refuse what is no finite number of seconds; the arguments are `whole_number`'s.

    Args:
        name: What the caller knows it by.
        value: What the caller passed.
        none: What None stands for; empty where None is refused.
        or_zero: Whether 0 works, too.

    Raises:
        ConfigurationError: It is something else; infinity too.
    """
    if value is None and none:
        return
    # Compared, not converted: a whole number may be too large for a float.
    if _is_number(value) and 0 <= value <= sys.float_info.max and (value or or_zero):
        return
    _refuse(name, value, f"a finite number of seconds {'>= 0' if or_zero else '> 0'}", none)


def text(name: str, value: object, *, or_empty: bool = False) -> None:
    """Refuse what is neither text nor None.

    Raises:
        ConfigurationError: It is something else, or empty where that says nothing.
    """
    if value is None or (isinstance(value, str) and (value.strip() or or_empty)):
        return
    _refuse(name, value, "a text" if or_empty else "a non-empty text", "for none of its own")


def path(name: str, value: object) -> Path:
    """The path that a caller passed.

    Raises:
        ConfigurationError: It is none, or no file can be called so.
    """
    named = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if isinstance(named, str) and named.strip() and "\0" not in named:
        return Path(named)
    raise ConfigurationError(f"{name} must be a path, as text or as a Path; found {shown(value)}.")


def has_methods(value: object, *methods: str) -> bool:
    """Whether it is an object with these methods; a class or a module is no such object."""
    if isinstance(value, (type, ModuleType)):
        return False
    return all(callable(getattr(value, method, None)) for method in methods)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refuse(name: str, value: object, rule: str, none: str = "", hint: str = "") -> None:
    or_none = f", or None {none}" if none else ""
    behind = f" {hint}" if hint else ""
    raise ConfigurationError(f"{name} must be {rule}{or_none}; found {shown(value)}.{behind}")
