"""Numbers as texts write them, each brought to one shortest form, so that equal numbers are equal texts.

"$1,000.00" is "1000", "12.50" is "12.5", "50%" is "50", "3/4" is "0.75", "1 1/2" is "1.5", "4/6" is "2/3"
and "-3" stays negative. "2-3" holds 2 and 3. Digits in a word or an exponent ("CO2", "cm^2") are no numbers.
What a number answers is not known here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from decimal import Context, Decimal
from fractions import Fraction

_MINUS = "[-\N{MINUS SIGN}]"
_CURRENCY = r"\\?[$€£]"
_WORD = r"[^\W\d_]\w*(?:\.[0-9]+)*"
_EXPONENT = r"\^\s*\{?[-+]?[0-9]+\}?"
_SIGN = rf"(?:(?P<sign>(?<![\w)\]}}]){_MINUS}\s?)?(?:{_CURRENCY})?|{_CURRENCY}(?P<minus>{_MINUS}))"
_WHOLE = r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DIGITS = rf"(?:{_WHOLE}(?P<part>\.[0-9]+)?|(?<![\w.])(?P<only>\.[0-9]+))"
_POWER = r"(?:[eE](?P<power>[-+]?[0-9]{1,3})(?![\w.]))?"
_BELOW = r"(?:\s?/\s?(?P<below>[0-9]{1,18})(?![0-9.,]*[0-9]))?"

_NUMBER = re.compile(f"(?P<skipped>{_WORD}|{_EXPONENT})|{_SIGN}{_DIGITS}{_POWER}{_BELOW}")
_EXACT = Context(prec=100)
"""Places enough for 18 digits over 18 digits, where the quotient ends at all."""

_MIXED = re.compile(r"(?<![\w.,/])([0-9]{1,3}) ([0-9]{1,3})\s?/\s?([0-9]{1,3})(?![\w/]|\.[0-9])")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([0-9]{1,18})\s*\}\s*\{\s*([0-9]{1,18})\s*\}")


def numbers(text: str) -> Iterator[str]:
    """Every number of a text in order, each in its shortest form."""
    return map(_shortest, _found(text))


def last_number(text: str) -> str | None:
    """The last number of a text, in its shortest form; None where there is none."""
    last = deque(_found(text), maxlen=1)
    return _shortest(last[0]) if last else None


def only_number(text: str) -> str | None:
    """The number a text is, where it is nothing else; None for any other text."""
    found = _NUMBER.fullmatch(_with_plain_fractions(text).strip())
    return _shortest(found) if found and not found["skipped"] else None


def _found(text: str) -> Iterator[re.Match[str]]:
    return (found for found in _NUMBER.finditer(_with_plain_fractions(text)) if not found["skipped"])


def _with_plain_fractions(text: str) -> str:
    plain = _FRACTION.sub(r"\1/\2", text) if "frac" in text else text
    return _MIXED.sub(_improper, plain) if "/" in plain else plain


def _improper(mixed: re.Match[str]) -> str:
    """Write "24 2/3" as "74/3"; two numbers that only stand side by side stay."""
    units, above, below = map(int, mixed.groups())
    return f"{units * below + above}/{below}" if 0 < above < below else mixed[0]


def _shortest(found: re.Match[str]) -> str:
    digits = (found["whole"] or "0").replace(",", "") + (found["part"] or found["only"] or "")
    if found["power"]:
        digits = format(Decimal(f"{digits}e{found['power']}"), "f")
    below = (found["below"] or "").lstrip("0")
    plain = _divided(digits, below) if below else _trimmed(digits)
    return f"-{plain}" if plain != "0" and (found["sign"] or found["minus"]) else plain


def _trimmed(digits: str) -> str:
    whole, _, part = digits.partition(".")
    whole, part = whole.lstrip("0") or "0", part.rstrip("0")
    return f"{whole}.{part}" if part else whole


def _divided(above: str, below: str) -> str:
    """A fraction as a decimal where that is exact, else in lowest terms; a very long one as it is."""
    if len(above) > 18:
        return f"{_trimmed(above)}/{below}"
    value = Fraction(above) / int(below)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return str(value)
    return _trimmed(format(_EXACT.divide(Decimal(value.numerator), Decimal(value.denominator)), "f"))
