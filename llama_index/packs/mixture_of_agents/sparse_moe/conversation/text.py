"""Token ids to text, piece by piece, and stop strings.

Both classes hold text back until it can no longer change: half a UTF-8 character, or the possible
beginning of a stop string. What they gave out, joined, is the final text. They know nothing of
models, threads or LlamaIndex.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

# What decoders write for bytes that are not (yet) a character.
_INCOMPLETE = "\ufffd"


class TextAssembler:
    """Turns tokens into text as they come.

    A token's text depends on its neighbours (a leading space, a character spread over several
    tokens), so a short window is decoded with and without the new token and the difference is what
    the token added. The window starts at the last piece given out, so each token costs the same.

    Args:
        decode: Token ids to text, special tokens skipped.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._given: list[int] = []
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """Take one token; return the text that is now certain, possibly empty."""
        self._held.append(token_id)
        piece = self._held_text()
        if not piece or piece.endswith(_INCOMPLETE):
            return ""
        return self._give(piece)

    def flush(self) -> str:
        """Return what is still held back, broken characters included."""
        return self._give(self._held_text())

    def _held_text(self) -> str:
        before = self._decode(self._given) if self._given else ""
        return self._decode(self._given + self._held)[len(before) :]

    def _give(self, piece: str) -> str:
        if piece:
            self._given, self._held = self._held, []
        return piece


class StopScanner:
    """Cuts a text that comes in pieces at the first stop string.

    Args:
        stops: Texts that end the answer, none of them empty.
    """

    def __init__(self, stops: Collection[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take a piece; return what can be given out. After a stop string was seen: nothing more."""
        if self.stopped:
            return ""
        self._held += text
        cut = first_stop(self._held, self._stops)
        if cut is not None:
            self.stopped = True
            return self._release(cut)
        return self._release(len(self._held) - held_back(self._held, self._stops))

    def flush(self) -> str:
        """Return the held beginning of a stop string that did not come after all."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, length: int) -> str:
        given, self._held = self._held[:length], self._held[length:]
        return given


def first_stop(text: str, stops: Collection[str]) -> int | None:
    """Find where the stop string that is complete first begins, or None.

    Complete first, not begun first: so it does not matter in what pieces the text came.
    """
    spans = [(start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0]
    return min(spans)[1] if spans else None


def held_back(text: str, stops: Collection[str]) -> int:
    """Length of the longest end of `text` that is the beginning of a stop string, in characters."""
    longest = min(len(text), max((len(stop) for stop in stops), default=1) - 1)
    for length in range(longest, 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
