"""A cascade learned from recorded answers: juries, what their confidence means, and the threshold.

Confidences and losses come from cross-fitting: each case is judged by a jury that did not see it. The jury
that is kept is then trained on all cases, so conformal risk control's guarantee, which is exact for a set
held out whole, holds as closely as the two juries agree (as in cross-conformal prediction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_index.packs.mixture_of_agents.gate.ballots import Case, Floats, Panel
from llama_index.packs.mixture_of_agents.gate.calibration import Platt, calibration_error
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.conditional_logit import RIDGE
from llama_index.packs.mixture_of_agents.gate.folds import cross_fitted
from llama_index.packs.mixture_of_agents.gate.jury import Juror, Jury, learned
from llama_index.packs.mixture_of_agents.gate.order import Order, groups_of
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.risk import NO_STOP
from llama_index.packs.mixture_of_agents.gate.targets import Target


@dataclass(frozen=True)
class Judged:
    """What juries that did not see a case said of it, a column for each stage.

    Attributes:
        confidence: Of the present answer, 0 for none.
        right: Whether it is.
    """

    confidence: Floats
    right: Any


@dataclass(frozen=True)
class Staged:
    """All that a threshold is chosen from.

    Attributes:
        judged: Every case after every stage.
        scales: For each stage but the last, what makes its confidence mean what it says.
        scores: The confidences so made, a column for each stage but the last; `NO_STOP` where no answer can
            be told, which the cascade does not take for enough.
    """

    judged: Judged
    scales: Sequence[Platt]
    scores: Floats

    def threshold(self, target: Target) -> float:
        """The confidence that is enough."""
        right = self.judged.right
        losses = (right[:, -1:] & ~right[:, :-1]).astype(float)
        return target.threshold(self.scores, losses) if self.scores.shape[1] else 0.0

    def facts(self, threshold: float) -> dict[str, Any]:
        """What to expect of new questions, by cross-fitting."""
        return _facts(self.judged, self.scores, threshold)


def train_cascade(
    cases: Sequence[Case],
    order: Order,
    reader: Reader,
    target: Target,
    *,
    seed: int = 0,
    first: int | None = None,
    ridge: float = RIDGE,
) -> CascadeGate:
    """Learn a cascade.

    Args:
        cases: Questions with answers.
        order: The models.
        reader: What an answer is.
        target: What the threshold is to keep to.
        seed: Of the folds.
        first: How many of the cheapest are asked at once; see `order.groups_of`.
        ridge: The juries' L2 penalty.
    """
    groups = groups_of(order, first)
    staged = staged_by(cases, stages_of(groups), reader, seed, ridge)
    threshold = staged.threshold(target)
    facts = order.facts() | staged.facts(threshold)
    return cascade_of(cases, order, groups, staged, threshold, reader, facts, ridge)


def cascade_of(
    cases: Sequence[Case],
    order: Order,
    groups: Sequence[Panel],
    staged: Staged,
    threshold: float,
    reader: Reader,
    facts: dict[str, Any],
    ridge: float = RIDGE,
) -> CascadeGate:
    """Put a cascade together, with juries of all cases."""
    return CascadeGate(
        groups=groups,
        jury=jury_of(cases, panels_of(order.models), reader, ridge),
        scales=staged.scales,
        threshold=threshold,
        accuracies=order.accuracies,
        facts=facts,
    )


def staged_by(
    cases: Sequence[Case], stages: Sequence[Panel], reader: Reader, seed: int, ridge: float = RIDGE
) -> Staged:
    """How sure juries are after each stage, in probabilities that mean what they say."""
    judged = judged_by_stage(cases, stages, reader, seed, ridge)
    scales = [Platt.fitted(judged.confidence[:, s], judged.right[:, s]) for s in range(len(stages) - 1)]
    return Staged(judged, scales, _scaled(judged.confidence, scales))


def stages_of(groups: Sequence[Panel]) -> list[Panel]:
    """Who has answered after each group."""
    return [tuple(name for group in groups[: end + 1] for name in group) for end in range(len(groups))]


def panels_of(models: Panel) -> list[Panel]:
    """Each model alone, and the cheapest two, three, ..., all: someone may fail when it counts."""
    alone: list[Panel] = [(name,) for name in models]
    return [*alone, *(models[:count] for count in range(2, len(models) + 1))]


def jury_of(cases: Sequence[Case], panels: Sequence[Panel], reader: Reader, ridge: float = RIDGE) -> Jury:
    """Learn a model for each panel that enough cases were answered by."""
    jurors = {}
    for panel in panels:
        logit = learned(cases, panel, ridge)
        if logit is not None:
            jurors[panel] = Juror(logit, 0.0)
    jury = Jury(reader, jurors)
    return Jury(reader, {p: Juror(j.logit, _accuracy(jury, p, cases)) for p, j in jurors.items()})


def judged_by_stage(
    cases: Sequence[Case], stages: Sequence[Panel], reader: Reader, seed: int, ridge: float = RIDGE
) -> Judged:
    """What juries that did not see a case say of it after each stage."""
    is_whole = all(name in case.sample.responses for case in cases for name in stages[-1])
    # The smaller panels only stand in where somebody is missing.
    panels = list(stages) if is_whole else panels_of(stages[-1])
    said = cross_fitted(
        list(cases),
        lambda some: jury_of(some, panels, reader, ridge),
        lambda jury, case: [_at_stage(jury, case, stage) for stage in stages],
        lambda case: case.sample.question,
        seed,
    )
    found = np.array(said, dtype=float).reshape(len(cases), len(stages), 2)
    return Judged(found[:, :, 0], found[:, :, 1] > 0)


def _at_stage(jury: Jury, case: Case, stage: Panel) -> tuple[float, bool]:
    present = {name: case.readings[name] for name in stage if name in case.readings}
    ballot = case.ballot(stage) if stage in jury.jurors else None
    found = jury.on_ballot(stage, ballot) if ballot is not None else jury.found(case.question, present)
    if found is None or found.answer is None:
        return 0.0, False
    return found.confidence, found.answer == case.truth


def _accuracy(jury: Jury, panel: Panel, cases: Sequence[Case]) -> float:
    ballots = [(ballot, case.truth) for case in cases if (ballot := case.ballot(panel)) is not None]
    right = sum(jury.on_ballot(panel, ballot).answer == truth for ballot, truth in ballots)
    return right / len(ballots)


def _scaled(confidence: Floats, scales: Sequence[Platt]) -> Floats:
    told = confidence > 0
    columns = [
        np.where(told[:, stage], scale(confidence[:, stage]), NO_STOP) for stage, scale in enumerate(scales)
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(confidence), 0))


def _facts(judged: Judged, scores: Floats, threshold: float) -> dict[str, Any]:
    """What to expect of new questions, by cross-fitting."""
    reached = scores >= threshold
    stops = reached.any(axis=1)
    place = np.where(stops, reached.argmax(axis=1) if scores.shape[1] else 0, judged.right.shape[1] - 1)
    right = judged.right[np.arange(len(place)), place]
    return {
        "cases": len(place),
        "accuracy": float(right.mean()),
        "accuracy_of_everyone": float(judged.right[:, -1].mean()),
        "share_of_dearest": float(1 - stops.mean()),
        "loss": float((judged.right[:, -1] & ~right).mean()),
        "gain": float((~judged.right[:, -1] & right).mean()),
        "calibration_error": [
            _calibration(judged.confidence[:, stage], scores[:, stage], judged.right[:, stage])
            | {"stage": stage + 1}
            for stage in range(scores.shape[1])
        ],
    }


def _calibration(raw: Floats, scaled: Floats, right: Any) -> dict[str, Any]:
    """How far off confidences are, of cases that may stop there."""
    may = np.isfinite(scaled)
    return {
        "raw": calibration_error(raw[may], right[may]),
        "scaled": calibration_error(scaled[may], right[may]),
    }
