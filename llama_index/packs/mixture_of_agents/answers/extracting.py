r"""The answer inside a text: what a vote counts and an early stop compares.

An extractor is a function from a text to the answer in a normal form, or None where there is none, so that
"$1,000.00" and "1000" are one vote. The forms read are those of GSM8K's `#### 42` (arXiv 2110.14168), of
MATH's `\boxed{42}` (arXiv 2103.03874), and of "the answer is 42". What becomes of answers is not known here.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections import deque
from collections.abc import Callable, Iterator

from llama_index.packs.mixture_of_agents.answers.numerals import last_number, numbers, only_number
from llama_index.packs.mixture_of_agents.checks import shortened, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.prompts import as_reference

Extractor = Callable[[str], str | None]
"""A text -> the answer in it, or None for none."""

_PATTERN = "regex:"
_SHORT = 200
"""Characters up to which a text may be all answer."""
_LONGEST_BOXED = 1_000
_MOST_MARKERS = 100
"""A text of markers alone is no answer, and must not take its length squared to read."""

_MARKERS = (
    r"\#\#\#\#",
    r"(?P<boxed>\\boxed\s*\{)",
    r"\banswer\b(?:[ \t]+is\b)?[*_`\s]{0,4}:",
    r"\banswer[ \t]+is\b",
)
_MARKER = re.compile("|".join(_MARKERS), re.IGNORECASE)
_OUTER = " \t\r\n*_`\"'“”$"
_END = _OUTER + ".,;:!"
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{([^{}]*)\}")
_DISPLAY = re.compile(r"\\[()\[\]]")
_SENTENCE = re.compile(r"(?:(?<=\w\w\w)|(?<=[0-9]))[.!?]+\s+(?=[A-Z])")

_LETTER_FIRST = re.compile(
    r"[\s*_`\"'$:]*(?:(?:option|choice)\s+)?[*_`]*"
    r"(?:[(\[]\s*(?P<bracketed>[A-J])\s*[)\]]|(?P<alone>[A-J])(?!['\w]))"
    r"(?P<behind>\s+\w+)?",
    re.IGNORECASE,
)
_LETTER_SHOWN = re.compile(
    r"\(\s*([A-J])\s*\)"
    r"|\*\*\s*\(?([A-J])(?:[).:][^*\n]{0,200})?\s*\*\*"
    r"|\b(?:[Oo]ption|[Cc]hoice)\s+\(?([A-J])\b"
)
_LETTER_OPENS = re.compile(r"\s*\(?([A-J])(?:\s*[).:]|\s*\Z)")
_REASONED = frozenset({"because", "since", "as", "and", "is", "for", "if"})


def extractor_named(given: object) -> Extractor:
    """The extractor of that name, of that pattern, or the function itself.

    Args:
        given: "answer", "number", "choice" or "text"; "regex:" and a pattern, of which the last match counts
            (its first group where it has one); or a function of one text.

    Raises:
        ConfigurationError: It is none of these, or the pattern cannot be read.
    """
    if isinstance(given, str) and given.startswith(_PATTERN):
        return functools.partial(_last_match, _compiled(given.removeprefix(_PATTERN)))
    if isinstance(given, str) and given in EXTRACTORS:
        return EXTRACTORS[given]
    if callable(given):
        _check_arguments(given)
        return given
    near = difflib.get_close_matches(given, EXTRACTORS, n=1) if isinstance(given, str) else []
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(
        f"Unknown extractor {shown(given)}; use one of {', '.join(map(repr, EXTRACTORS))}, 'regex:' and a "
        f"pattern, or a function text -> text or None.{hint}"
    )


def extractor_label(given: object) -> str:
    """How records call an extractor: its name, "regex:" and its pattern, or the function's qualified name."""
    if isinstance(given, str):
        return given
    for name, extractor in EXTRACTORS.items():
        if given is extractor:
            return name
    if isinstance(given, functools.partial):
        is_pattern = given.func is _last_match
        return f"{_PATTERN}{given.args[0].pattern}" if is_pattern else extractor_label(given.func)
    named = given if hasattr(given, "__qualname__") else type(given)
    return f"{named.__module__}.{named.__qualname__}"


def extracted(extractor: Extractor, text: str) -> str | None:
    """What an extractor finds in a proposal, its thinking left out; None for nothing.

    Raises:
        MixtureError: The extractor raised, or gave something that is no text. Built-in ones do neither.
    """
    try:
        answer: object = extractor(as_reference(text))
    except Exception as error:
        said = shortened(f"{type(error).__name__}: {error}")
        raise MixtureError(
            f"the extractor {extractor_label(extractor)} raised {said}; let it return None where a text "
            "holds no answer",
            causes=[error],
        ) from error
    if answer is None or isinstance(answer, str):
        return (answer or "").strip() or None
    raise MixtureError(
        f"the extractor {extractor_label(extractor)} returned {shown(answer)}; let it return a text, or None "
        "where there is no answer"
    )


def final_answer(text: str) -> str | None:
    """What follows the last marker of an answer, or the last line of a short text, in a normal form.

    Numbers are in their shortest form, anything else is case-folded, without markup and closing dots.
    """
    for said in _marked(text):
        found = _normal(said)
        if found:
            return found
    lines = text.strip().splitlines() if len(text) <= _SHORT else []
    return (_normal(lines[-1]) or None) if lines else None


def final_number(text: str) -> str | None:
    """The number after the last marker of an answer that has one, or the last of the text; see `numerals`."""
    for said in _marked(text):
        # "5 + 3 = 8": the result stands behind; "42, as 6 * 7 is 42": the answer stands in front.
        first = next(numbers(said.rpartition("=")[2]), None) or next(numbers(said), None)
        if first is not None:
            return first
    return last_number(text)


def final_choice(text: str) -> str | None:
    """The letter, A to J, of a multiple choice: "(B)", "Answer: B", "**B**", "B. Paris"; as a capital."""
    for said in _marked(text):
        letter = _letter_at_beginning(said)
        if letter:
            return letter
    stated = _LETTER_SHOWN.findall(text)
    if stated:
        return str(next(filter(None, stated[-1])))
    lines = text.strip().splitlines()
    found = _LETTER_OPENS.match(lines[-1]) or _LETTER_OPENS.match(lines[0]) if lines else None
    return found[1] if found else None


def whole_text(text: str) -> str | None:
    """The whole text, its case folded and its white space squeezed."""
    return _folded(text) or None


EXTRACTORS: dict[str, Extractor] = {
    "answer": final_answer,
    "number": final_number,
    "choice": final_choice,
    "text": whole_text,
}


def _compiled(pattern: str) -> re.Pattern[str]:
    if not pattern:
        raise ConfigurationError("'regex:' needs a pattern behind it, such as r'regex:total: (\\d+)'.")
    try:
        return re.compile(pattern, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"The pattern {shown(pattern)} cannot be read ({error}). Pass 'regex:' and a regular expression "
            "of Python's, such as r'regex:total: (\\d+)'."
        ) from error


def _last_match(pattern: re.Pattern[str], text: str) -> str | None:
    last = None
    for match in pattern.finditer(text):
        groups = [group for group in match.groups() if group is not None]
        last = (groups[0] if groups else match[0]).strip() or last
    return last


def _check_arguments(extractor: Callable[..., object]) -> None:
    try:
        inspect.signature(extractor).bind("")
    except ValueError:  # written in C, it need not have one; the call will show
        return
    except TypeError as error:
        raise ConfigurationError(
            f"The extractor {extractor_label(extractor)} cannot be called with one text: {error}. Give it "
            "one argument, the proposal's text."
        ) from error


def _marked(text: str) -> Iterator[str]:
    """What stands behind each marker, from the last one to the first, up to the next marker."""
    end = len(text)
    for marker in reversed(deque(_MARKER.finditer(text), maxlen=_MOST_MARKERS)):
        if marker["boxed"]:
            yield _in_braces(text, marker.end())
        else:
            yield _first_line(text[marker.end() : end])
        end = marker.start()


def _in_braces(text: str, start: int) -> str:
    depth = 1
    piece = text[start : start + _LONGEST_BOXED]
    for place, character in enumerate(piece):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return piece[:place]
    return ""  # cut off


def _first_line(text: str) -> str:
    """The first line with something on it, to the end of its first sentence."""
    for line in text.splitlines():
        if _DISPLAY.sub("", line).strip(_END):
            return _SENTENCE.split(line, maxsplit=1)[0]
    return ""


def _normal(said: str) -> str:
    bare = _bare(said).lstrip(_OUTER + ":").rstrip(_END)
    number = only_number(bare.rstrip("%\\ "))
    return number if number is not None else _folded(bare)


def _bare(said: str) -> str:
    return _DISPLAY.sub("", _WRAPPED.sub(r"\1", said))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _letter_at_beginning(said: str) -> str | None:
    found = _LETTER_FIRST.match(_bare(said))
    if not found:
        return None
    letter, behind = found["bracketed"] or found["alone"], (found["behind"] or "").strip()
    # "a cat" and "I think" are no choices; "A because of ..." is one.
    in_doubt = not found["bracketed"] and (letter.islower() or letter in "AI")
    return None if in_doubt and behind and behind not in _REASONED else letter.upper()
