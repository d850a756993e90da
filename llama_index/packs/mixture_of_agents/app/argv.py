"""Command-line words, put into the form the parser takes. Knows no command."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_MODEL_LIKE = re.compile(r"[a-z][a-z0-9-]*:\S")


def spread(words: Sequence[str], options: Collection[str]) -> list[str]:
    """Repeat an option before each of its values: `--models a b` becomes `--models a --models b`.

    Its values are the words up to the next option. A word with spaces in it is a value only if it
    begins like `provider:model`, so a question may stand last. Nothing after `--` is changed.

    Args:
        words: The words after the program's name.
        options: Which options take several values.
    """
    end = words.index("--") if "--" in words else len(words)
    spread_out: list[str] = []
    current = ""
    for word in words[:end]:
        if word.startswith("-"):
            current = _option_of(word, options)
            awaits_value = word == current
            spread_out.append(word)
        elif current and (awaits_value or _is_value(word)):
            spread_out += [word] if awaits_value else [current, word]
            awaits_value = False
        else:
            current = ""
            spread_out.append(word)
    return [*spread_out, *words[end:]]


def _option_of(word: str, options: Collection[str]) -> str:
    """The option a word opens, if it is one of these: `--models`, or `--models=a`."""
    name = word.partition("=")[0]
    return name if name in options else ""


def _is_value(word: str) -> bool:
    return not any(character.isspace() for character in word) or bool(_MODEL_LIKE.match(word))
