r"""What can be seen of an answer in its text: the answer itself, others it may mean, and how sound it looks.

The extractor's answer is one reading. A text that ends "12 * $2 = $24 on 3 bags." means 24 and not its last
number 3; so the result of its last equation and the first number of its last sentence are kept beside it,
and who weighs readings learns which to trust. The arithmetic of its equations, GSM8K's `<<6*7=42>>` among
them (arXiv 2110.14168), is checked. Nothing is known here of models or of what is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from llama_index.packs.mixture_of_agents.answers.extracting import Extractor, extracted, extractor_named
from llama_index.packs.mixture_of_agents.answers.numerals import numbers
from llama_index.packs.mixture_of_agents.errors import MixtureError

_LONGEST = 20_000
"""Characters of a text's end that are read; what a text may cost has a limit."""
_MOST_NUMBERS = 2_000
_DIGITS = r"[0-9][0-9,]{0,18}(?:\.[0-9]{1,18})?"
_RESULT = re.compile(rf"=\s{{0,4}}(?:<<)?\\?\$?\s{{0,4}}(-?{_DIGITS})")
_SUM = re.compile(
    rf"({_DIGITS}(?:\s{{0,4}}[-+*/x\u00d7÷]\s{{0,4}}\$?{_DIGITS}){{1,8}})\s{{0,4}}=\s{{0,4}}\$?({_DIGITS})"
)
_TERM = re.compile(rf"([-+*/x\u00d7÷]?)\s*\$?({_DIGITS})")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n")
_MARKER = re.compile(r"\#\#\#\#|\\boxed|^\s*A: |\banswer\b(?: is)?\s?:?", re.IGNORECASE | re.MULTILINE)
_TOLERANCE = 0.011
"""Rounding to whole cents or percents is no mistake."""


@dataclass(frozen=True)
class Reading:
    """What one text says.

    Attributes:
        answer: The extractor's; None where it found none.
        result: Of the last equation, where answers are numbers.
        opening: The first number of the last sentence, where answers are numbers.
        closing: All numbers of the last sentence.
        mentioned: All numbers.
        wrong_sums: Equations whose sides differ.
        is_marked: Its answer is set off, as by `####`.
    """

    answer: str | None = None
    result: str | None = None
    opening: str | None = None
    closing: frozenset[str] = frozenset()
    mentioned: frozenset[str] = frozenset()
    wrong_sums: int = 0
    is_marked: bool = False

    @property
    def all(self) -> tuple[str, ...]:
        """Each answer it may mean, the extractor's first."""
        return tuple(dict.fromkeys(a for a in (self.answer, self.result, self.opening) if a is not None))


class Reader:
    """Reads texts for answers of one kind.

    Args:
        extract: Name of the extractor, as `answers.extracting` knows them: "number", "choice", ...

    Raises:
        ConfigurationError: There is no such extractor.
    """

    def __init__(self, extract: str = "number") -> None:
        self.extract = extract
        self._extractor: Extractor = extractor_named(extract)
        self._numeric = extract == "number"

    def answer(self, text: str) -> str | None:
        """The extractor's answer; None where there is none, or the extractor could not cope."""
        try:
            return extracted(self._extractor, text)
        except MixtureError:
            return None

    def read(self, text: str) -> Reading:
        """All that is looked at in a text."""
        end = text[-_LONGEST:]
        last = next((part for part in reversed(_SENTENCE.split(end)) if part.strip()), "")
        closing = _numbers(last)
        found = _results(end) if self._numeric else []
        return Reading(
            answer=self.answer(text),
            result=found[-1] if found else None,
            opening=closing[0] if closing and self._numeric else None,
            closing=frozenset(closing),
            mentioned=frozenset(_numbers(end)),
            wrong_sums=wrong_sums(end),
            is_marked=_MARKER.search(end) is not None,
        )


def wrong_sums(text: str) -> int:
    """Equations of whole sums, such as "20*3=60", whose sides differ by more than rounding."""
    return sum(not _holds(said, result) for said, result in _SUM.findall(text.replace("\\", "")))


def _holds(said: str, result: str) -> bool:
    value, stated = _value(said), _number(result)
    return value is None or abs(value - stated) <= _TOLERANCE * max(1.0, abs(stated))


def _value(said: str) -> float | None:
    """Products before sums, left to right; None for a division by nothing."""
    terms: list[float] = []
    for sign, digits in _TERM.findall(said):
        number = _number(digits)
        if sign in ("*", "x", "\u00d7"):
            terms[-1] *= number
        elif sign in ("/", "÷"):
            if not number:
                return None
            terms[-1] /= number
        else:
            terms.append(-number if sign == "-" else number)
    return sum(terms)


def _number(digits: str) -> float:
    return float(digits.replace(",", ""))


def _results(text: str) -> list[str]:
    plain = text.replace("\\", "")
    return list(chain.from_iterable(_first(found) for found in _RESULT.findall(plain)))


def _first(found: str) -> Iterator[str]:
    return islice(numbers(found.rstrip(",")), 1)


def _numbers(text: str) -> list[str]:
    return list(islice(numbers(text), _MOST_NUMBERS))
