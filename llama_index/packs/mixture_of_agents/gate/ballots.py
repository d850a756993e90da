"""The answers that a panel of models gave to one question, as candidates with numbers that describe each.

A candidate is one distinct answer. What describes it is who gives it, who may mean it, how sound those texts
look, and what kind of answer it is; and, for "none of them is right", what kind of question it is. No model's
answer outside the panel is looked at. What the numbers are worth is learned elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llama_index.packs.mixture_of_agents.answers.numerals import numbers
from llama_index.packs.mixture_of_agents.gate.readings import Reader, Reading
from llama_index.packs.mixture_of_agents.gate.recorded import Sample

Floats = NDArray[np.float64]
Panel = tuple[str, ...]
"""Names of models, in the gate's order."""

_LARGEST = 1e12
_MOST_NUMBERS = 200
_SHARED = (
    "readings agree",
    "result stands in the last sentence",
    "opens the last sentence",
    "mentioned by others",
    "givers' last equation differs",
    "and stands in the last sentence",
    "givers without a marker",
    "givers' wrong sums",
    "question's numbers used",
    "two or more",
    "three or more",
    "whole number",
    "zero or less",
    "stands in the question",
    "size",
    "size against the question's",
)
NONE_WIDTH = 4


@dataclass(frozen=True)
class Ballot:
    """Candidates of one question.

    Attributes:
        candidates: Distinct answers, in the order of the panel.
        features: A row for each candidate; the columns are `columns(panel)`.
        none: What describes "none of them".
    """

    candidates: tuple[str, ...]
    features: Floats
    none: Floats

    def place(self, answer: str) -> int:
        """The row of an answer; the row after the last where no candidate is it."""
        return self.candidates.index(answer) if answer in self.candidates else len(self.candidates)


@dataclass(frozen=True)
class Question:
    """What of a question bears on answers.

    Attributes:
        values: The numbers in it.
        count: How many there are.
        length: Characters.
    """

    values: frozenset[str]
    count: int
    length: int

    @classmethod
    def of(cls, text: str) -> Question:
        """Look at a question's text."""
        found = [value for value, _ in zip(numbers(text), range(_MOST_NUMBERS), strict=False)]
        return cls(frozenset(found), len(found), len(text))


def columns(panel: Panel) -> list[str]:
    """What each feature of a candidate is."""
    return [*(f"{name} says" for name in panel), *(f"{name} may mean" for name in panel), *_SHARED]


def ballot_of(question: Question, panel: Panel, readings: Mapping[str, Reading]) -> Ballot:
    """The candidates of a panel that has answered.

    Args:
        question: What was asked.
        panel: Whose answers count.
        readings: Of each of the panel.
    """
    own = [readings[name] for name in panel]
    candidates = tuple(dict.fromkeys(answer for reading in own for answer in reading.all))
    rows = [_row(candidate, question, own) for candidate in candidates]
    none = [1.0, len(candidates) / 5, question.count / 5, min(question.length, 5_000) / 300]
    return Ballot(candidates, np.array(rows).reshape(len(rows), len(columns(panel))), np.array(none))


def _row(candidate: str, question: Question, own: Sequence[Reading]) -> list[float]:
    says = [reading.answer == candidate for reading in own]
    means = [not said and candidate == reading.result for said, reading in zip(says, own, strict=True)]
    givers = [reading for said, reading in zip(says, own, strict=True) if said]
    return [
        *map(float, says),
        *map(float, means),
        *_reading_row(candidate, own, givers),
        *_soundness(givers, question),
        *(float(sum(says) + sum(means) >= least) for least in (2, 3)),
        *_kind(candidate, question),
    ]


def _reading_row(candidate: str, own: Sequence[Reading], givers: Sequence[Reading]) -> list[float]:
    overruled = [r for r in givers if r.result is not None and r.result != candidate]
    others = [r for r in own if r.answer != candidate]
    return [
        float(sum(r.result == candidate for r in givers)),
        float(sum(r.result == candidate and candidate in r.closing for r in others)),
        float(sum(r.opening == candidate for r in others)),
        float(sum(r.result != candidate and candidate in r.mentioned for r in others)),
        float(len(overruled)),
        float(sum(r.result in r.closing for r in overruled)),
    ]


def _soundness(givers: Sequence[Reading], question: Question) -> list[float]:
    used = [len(question.values & r.mentioned) / max(1, len(question.values)) for r in givers]
    return [
        float(sum(not r.is_marked for r in givers)),
        float(sum(min(2, r.wrong_sums) for r in givers)),
        max(used, default=0.0),
    ]


def _kind(candidate: str, question: Question) -> list[float]:
    size = _size(candidate)
    largest = max(map(_size, question.values), default=1.0)
    return [
        float(candidate.lstrip("-").isdigit()),
        float(candidate.startswith("-") or candidate == "0"),
        float(candidate in question.values),
        math.log1p(size),
        math.log((size + 1) / (largest + 1)),
    ]


def _size(answer: str) -> float:
    """The number's distance from 0, up to a limit; 0 for other answers."""
    try:
        return float(min(Fraction(_LARGEST), abs(Fraction(answer)))) if len(answer) <= 60 else _LARGEST
    except (ValueError, ZeroDivisionError):
        return 0.0


class Case:
    """A sample as it is learned from: its texts are read once, its ballots made once.

    Args:
        sample: The question, its right answer and the answers given.
        reader: What an answer is.
        truth: The right answer in the reader's form.
    """

    def __init__(self, sample: Sample, reader: Reader, truth: str) -> None:
        self.sample, self.truth = sample, truth
        self._reader = reader
        self._ballots: dict[Panel, Ballot | None] = {}

    @cached_property
    def question(self) -> Question:
        """What of the question bears on answers."""
        return Question.of(self.sample.question)

    @cached_property
    def readings(self) -> dict[str, Reading]:
        """What each model's text says."""
        return {name: self._reader.read(text) for name, text in self.sample.responses.items()}

    def is_right(self, name: str) -> bool:
        """Whether the extractor's answer of a model is the right one; False for who did not answer."""
        reading = self.readings.get(name)
        return reading is not None and reading.answer == self.truth

    def ballot(self, panel: Panel) -> Ballot | None:
        """The candidates of a panel; None where one of it did not answer."""
        if panel not in self._ballots:
            is_whole = all(name in self.readings for name in panel)
            self._ballots[panel] = ballot_of(self.question, panel, self.readings) if is_whole else None
        return self._ballots[panel]
