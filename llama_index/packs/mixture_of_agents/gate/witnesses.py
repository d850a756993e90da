"""Who says what was right: a person, the right answer, a check of the caller's, or that most agree.

Each judges what a gate expected: True, False, or None where it cannot tell. They see answers that were
given, and no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.expectations import PROPOSER, Expectation

Witness = Callable[[Expectation], bool | None]
Check = Callable[[str, str], bool | None]
"""Question and answer's text -> whether it is right; None for unknown."""

_FEWEST = 3
"""Two who agree, or differ, are no majority."""


def check_told(right: object, answer: object, verifier: object) -> None:
    """Refuse what is no word of a witness, or of several at once.

    Raises:
        ConfigurationError: Not exactly one is given, or it is something else.
    """
    if sum(said is not None for said in (right, answer, verifier)) != 1:
        raise ConfigurationError("Give one of right=, answer= and verifier=; they are different witnesses.")
    if right is not None and not isinstance(right, bool):  # "no" would count as yes
        raise ConfigurationError(f"right must be True, False or None; found {shown(right)}.")
    if answer is not None and not isinstance(answer, str):
        is_number = isinstance(answer, (int, float)) and not isinstance(answer, bool)
        hint = f" Pass answer={str(answer)!r}." if is_number else ""
        raise ConfigurationError(f"answer must be a text; found {shown(answer)}.{hint}")
    if verifier is not None and not callable(verifier):
        raise ConfigurationError(
            f"verifier must be a function of a question and a text; found {shown(verifier)}."
        )


def by_answer(truth: str) -> Witness:
    """The right answer is known."""
    return lambda expected: expected.answer == truth


def by_word(final: str, right: bool) -> Witness:
    """Somebody says of the final answer that it is right, or wrong.

    Who answered otherwise than a wrong answer may be right or wrong: nothing is known of them.
    """
    if right:
        return by_answer(final)
    return lambda expected: False if expected.answer == final else None


def by_check(check: Check, question: str, texts: Mapping[str, str]) -> Witness:
    """The caller's check judges each text that says what it is taken to say, once.

    Raises:
        ConfigurationError: It says something else than True, False or None.
    """
    known: dict[str, bool | None] = {}

    def judged(expected: Expectation) -> bool | None:
        if expected.said_by is None:
            return None
        text = texts[expected.said_by]
        if text not in known:
            known[text] = _checked(check(question, text))
        return known[text]

    return judged


def _checked(said: object) -> bool | None:
    if said is None or isinstance(said, bool):
        return said
    raise ConfigurationError(
        f"A verifier must say True, False or None (unknown) of an answer; found {shown(said)}."
    )


def by_majority(expected: Sequence[Expectation]) -> Witness:
    """What more than half of three or more say is taken to be right; whether it is, nobody knows.

    Of a stage's vote it says nothing: that is made of the same agreement.
    """
    said = [one.answer for one in expected if one.key[0] == PROPOSER and one.answer is not None]
    [(most, count)] = Counter(said).most_common(1) or [("", 0)]
    if len(said) < _FEWEST or 2 * count <= len(said):
        return lambda expected: None
    return lambda one: one.answer == most if one.key[0] == PROPOSER and one.answer is not None else None
