"""What a text says under its disguises: signs nobody sees, look-alike letters, words held apart, Base64.

Each reading is a text that a pattern can be matched against. What is looked for in it is not known here.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from urllib.parse import unquote

TAGS = re.compile("[\U000e0020-\U000e007e]{3,}")
"""Letters that nobody sees (Unicode's tag characters), which models read all the same."""
_UNSEEN = re.compile(
    "[\u00ad\u034f\u115f\u1160\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0100-\U000e01ef]"
)
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" *\n[ \n]*")
_RULES = re.compile(r"([=#_*~-])\1{7,}")

_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u0451\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0442\u043a\u043c\u043d\u0432"
    "\u0410\u0415\u041e\u0420\u0421\u0425\u0406\u0408\u0405\u0412\u041a\u041c\u041d\u0422"
    "\u03b1\u03b5\u03bf\u03c1\u03b9\u03bd\u03c5\u03ba\u03c4\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u0131",
    "aeeopcyxijshdqwtkmhbAEOPCXIJSBKMHTaeopivuktABEZHIKMNOPTYXi",
)
"""Letters of Cyrillic and Greek that are taken for Latin ones (Unicode UTS 39, confusables)."""
_MARKUP = re.compile(r"</?[A-Za-z]{1,10}/?>|[*`|~\"]+")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED_SPACE = re.compile(r"\\[nrt]")
_SPLIT_WORD = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_LETTERS_APART = re.compile(r"(?<=\b\w) (?=\w\b)")
_BETWEEN_WORDS = re.compile(r"(?<=\w)[_.+\-](?=\w)")
_ENCODED = re.compile(r"[A-Za-z0-9+/]{24,4000}={0,2}")
_MOST_DECODED = 20


def shown(text: str) -> str:
    """The text as a model reads it: no unseen signs, letters in their usual form, no runs of space or rules.

    Runs say nothing, and a pattern that may begin anywhere in one would take a length squared.
    """
    seen = _UNSEEN.sub("", TAGS.sub(lambda match: f" {visible(match[0])} ", text))
    usual = unicodedata.normalize("NFKC", seen)
    spaced = _SPACES.sub(lambda run: "  "[: len(run[0])], usual)  # two may part words of letters held apart
    return _RULES.sub(r"\1\1\1\1\1\1\1\1", _LINES.sub("\n", spaced))


def undisguised(plain: str) -> Iterator[str]:
    """What a text, as `shown` gives it, says besides: each reading that differs from it.

    Args:
        plain: The text.
    """
    latin = _latin(plain)
    loose = _loosened(latin)
    yield from dict.fromkeys(reading for reading in (latin, loose, _decoded(plain)) if reading != plain)


def visible(tags: str) -> str:
    """Tag characters as the letters they stand for."""
    return "".join(chr(ord(sign) - 0xE0000) for sign in tags)


def _latin(text: str) -> str:
    if text.isascii():
        return text
    parted = unicodedata.normalize("NFKD", text.translate(_LOOK_ALIKES))
    return "".join(sign for sign in parted if not unicodedata.combining(sign))


def _loosened(text: str) -> str:
    """Words free of markup and escapes, with spaces between them whatever stood there."""
    said = unquote(html.unescape(text), errors="replace") if "%" in text or "&" in text else text
    said = _ESCAPED_SPACE.sub(" ", _ESCAPED.sub(lambda match: chr(int(match[1], 16)), said))
    said = _MARKUP.sub("", _SPLIT_WORD.sub("", said))
    said = _LETTERS_APART.sub("", _BETWEEN_WORDS.sub(" ", said))
    return _SPACES.sub(" ", said)


def _decoded(text: str) -> str:
    """What stands in it in Base64, as far as that is text; a line each."""
    found = (_text_of(match[0]) for match in islice(_ENCODED.finditer(text), _MOST_DECODED))
    return "\n".join(filter(None, found))


def _text_of(encoded: str) -> str:
    whole = encoded.rstrip("=")
    try:
        raw = base64.b64decode(whole[: len(whole) - (len(whole) % 4 == 1)] + "=" * (-len(whole) % 4))
    except binascii.Error:
        return ""
    said = raw.replace(b"\0", b"").decode("utf-8", errors="replace")  # PowerShell's is UTF-16
    return said if said.isprintable() or "\n" in said else ""
