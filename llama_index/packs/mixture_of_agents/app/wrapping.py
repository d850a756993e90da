"""Text that arrives in pieces, broken into lines between words. Knows widths, not terminals."""

from __future__ import annotations

import re
from collections.abc import Callable

_PARTS = re.compile(r"\n|[^\S\n]+|\S+")


class Wrapping:
    """Breaks a stream of text between words.

    A word is held back until it is whole. Indentation and the text's own line breaks stay.

    Args:
        width: Longest line; only a word that is longer itself goes beyond.
        measure: How wide a piece of text is.
    """

    def __init__(self, width: int, measure: Callable[[str], int] = len) -> None:
        self._width, self._measure = width, measure
        self._column = 0
        self._gap = self._word = ""

    def fed(self, text: str) -> str:
        """Take a piece in; give what can be printed now."""
        return "".join(self._fed(part) for part in _PARTS.findall(text))

    def ended(self) -> str:
        """Give the last word."""
        if not self._word:
            return ""
        placed = self._gap + self._word
        breaks = self._column > 0 and self._column + self._measure(placed) > self._width
        out = "\n" + self._word if breaks else placed
        self._column = self._measure(self._word) if breaks else self._column + self._measure(placed)
        self._word = self._gap = ""
        return out

    def _fed(self, part: str) -> str:
        if not part.isspace():
            self._word += part
            return ""
        out = self.ended()
        if part == "\n":
            self._column, self._gap = 0, ""
            return out + part
        self._gap += part
        return out
