"""Which answer is right, given who gave it: one conditional logit for each panel of models that was learned.

A jury answers for any models that answered: by the best panel it has learned all of whose members are among
them. It reads no answers but those it is shown, and decides nothing about whom to ask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.packs.mixture_of_agents.gate.ballots import (
    NONE_WIDTH,
    Ballot,
    Case,
    Floats,
    Panel,
    Question,
    ballot_of,
    columns,
)
from llama_index.packs.mixture_of_agents.gate.conditional_logit import RIDGE, ConditionalLogit
from llama_index.packs.mixture_of_agents.gate.readings import Reader, Reading
from llama_index.packs.mixture_of_agents.results import Decision, Proposal

LEAST_CASES = 20
"""Cases a panel must have answered to be learned from."""


@dataclass(frozen=True)
class Finding:
    """What a panel's answers come to.

    Attributes:
        panel: Whose answers were weighed.
        ballot: The candidates.
        chances: Of each to be right, and, last, of none to be.
    """

    panel: Panel
    ballot: Ballot
    chances: Floats

    @property
    def answer(self) -> str | None:
        """The candidate most likely right; None without any."""
        return self.ballot.candidates[int(self.chances[:-1].argmax())] if self.ballot.candidates else None

    @property
    def confidence(self) -> float:
        """How likely it is right."""
        return float(self.chances[:-1].max()) if self.ballot.candidates else 0.0

    def chance(self, answer: str | None) -> float:
        """How likely an answer is right; 0 for one that is no candidate."""
        if answer is None or answer not in self.ballot.candidates:
            return 0.0
        return float(self.chances[self.ballot.place(answer)])


@dataclass(frozen=True)
class Juror:
    """One panel's model.

    Attributes:
        logit: What was learned.
        accuracy: How often its answer was right, of the cases it was trained on; only to tell panels apart.
    """

    logit: ConditionalLogit
    accuracy: float


class Jury:
    """Weighs answers.

    Args:
        reader: What an answer is.
        jurors: By panel.
    """

    def __init__(self, reader: Reader, jurors: Mapping[Panel, Juror]) -> None:
        self.reader = reader
        self.jurors = dict(jurors)

    def panel_for(self, names: Sequence[str]) -> Panel | None:
        """The panel to trust when these have answered; None where nobody among them was learned of."""
        known = [panel for panel in self.jurors if set(panel) <= set(names)]
        return max(known, key=lambda panel: (self.jurors[panel].accuracy, len(panel)), default=None)

    def finding(self, question: str, texts: Mapping[str, str], panel: Panel | None = None) -> Finding | None:
        """What the answers come to.

        Args:
            question: What was asked.
            texts: Name -> text of everyone who answered.
            panel: Whose answers to weigh; None for the best there is.

        Returns:
            None where nobody of any panel answered.
        """
        readings = {name: self.reader.read(text) for name, text in texts.items()}
        return self.found(Question.of(question), readings, panel)

    def found(
        self, question: Question, readings: Mapping[str, Reading], panel: Panel | None = None
    ) -> Finding | None:
        """The same of readings; the arguments are `finding`'s."""
        if panel is None or panel not in self.jurors or not set(panel) <= set(readings):
            panel = self.panel_for(list(readings))
        if panel is None:
            return None
        return self.on_ballot(panel, ballot_of(question, panel, readings))

    def on_ballot(self, panel: Panel, ballot: Ballot) -> Finding:
        """What a panel's candidates come to."""
        return Finding(panel, ballot, self.jurors[panel].logit.probabilities(ballot))

    def weights(self, finding: Finding | None, texts: Mapping[str, str]) -> dict[str, float] | None:
        """Votes with which a count comes out as the jury does.

        Each answer's chance is parted evenly among those who give it, so that it counts once. None where
        no vote weighs anything.
        """
        if finding is None:
            return None
        answers = {name: self.reader.answer(text) for name, text in texts.items()}
        count = {answer: list(answers.values()).count(answer) for answer in answers.values()}
        found = {name: finding.chance(answer) / count[answer] for name, answer in answers.items()}
        sound = all(math.isfinite(weight) for weight in found.values())
        return found if sound and any(found.values()) else None

    def verdict(self, finding: Finding | None, proposals: Sequence[Proposal]) -> Decision | None:
        """The finding as a decision among proposals; None without an answer."""
        answer = finding.answer if finding is not None else None
        if finding is None or answer is None:
            return None
        readings = {p.proposer: self.reader.read(p.text) for p in proposals}
        votes: dict[str, list[str]] = {}
        for name, reading in readings.items():
            if reading.answer is not None:
                votes.setdefault(reading.answer, []).append(name)
        chosen = votes.get(answer) or [name for name, r in readings.items() if answer in r.all]
        # Of those who say the same, the words of the last in the panel's order: the dearest.
        ranked = [name for name in finding.panel if name in chosen] or chosen
        return Decision(
            chosen=ranked[-1],
            answer=answer,
            votes=votes,
            abstained=[name for name, reading in readings.items() if reading.answer is None],
            reason=f"{answer} is right with probability {finding.confidence:.2f}, by what "
            f"{len(finding.panel)} answered",
        )

    def as_json(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [
            {
                "panel": list(panel),
                "accuracy": juror.accuracy,
                "columns": columns(panel),
                **juror.logit.as_json(),
            }
            for panel, juror in self.jurors.items()
        ]

    @classmethod
    def from_json(cls, reader: Reader, kept: Sequence[dict[str, Any]]) -> Jury:
        """Of what `as_json` gave.

        Raises:
            ValueError: A juror has not as many numbers as its panel needs.
        """
        return cls(reader, dict(map(_juror, kept)))


def learned(cases: Sequence[Case], panel: Panel, ridge: float = RIDGE) -> ConditionalLogit | None:
    """A panel's model; None where too few cases were answered by all of it."""
    answered = [(ballot, case) for case in cases if (ballot := case.ballot(panel)) is not None]
    if len(answered) < LEAST_CASES:
        return None
    return ConditionalLogit.fitted(
        [ballot for ballot, _ in answered], [ballot.place(case.truth) for ballot, case in answered], ridge
    )


def _juror(kept: dict[str, Any]) -> tuple[Panel, Juror]:
    panel = tuple(kept["panel"])
    logit = ConditionalLogit.from_json(kept)
    width = len(columns(panel))
    if (len(logit.mean), len(logit.spread), len(logit.weights)) != (width, width, width + NONE_WIDTH):
        raise ValueError(f"the juror of {', '.join(panel)} needs {width} features")
    return panel, Juror(logit, float(kept["accuracy"]))
