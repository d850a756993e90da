"""Whether a gate that was read from a file can be used: numbers that are some, parts that fit together.

Whoever reads files turns what is raised here into words for the user. It reads no files itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.gated import GatedCascade
from llama_index.packs.mixture_of_agents.gate.jury import Jury
from llama_index.packs.mixture_of_agents.gate.network import GatingNetwork
from llama_index.packs.mixture_of_agents.gate.rules import RuleGate
from llama_index.packs.mixture_of_agents.gate.scoring_gate import Scorer, ScoringGate

_MOST_DIGITS = 18


def refused_constant(constant: str) -> None:
    """NaN and infinity are no numbers a gate can reckon with."""
    raise ValueError(f"it holds {constant}, which is no number a gate can reckon with")


def finite(digits: str) -> float:
    """The number that these digits are; "1e999" is none."""
    value = float(digits)
    if not math.isfinite(value):
        refused_constant("Infinity")
    return value


def whole(digits: str) -> int:
    """The whole number that these digits are; one of more than 18 digits is no number of a gate's."""
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it holds a whole number of {len(digits)} digits")
    return int(digits)


def check_sound(gate: CascadeGate | GatedCascade | ScoringGate | RuleGate, models: Sequence[Any]) -> None:
    """Refuse a gate whose parts do not fit.

    Args:
        gate: As it was read.
        models: Whom its file says it was made for.

    Raises:
        ValueError: What does not fit.
    """
    if not all(isinstance(name, str) for name in models) or len(set(models)) < len(models):
        raise ValueError("its models are no list of different names")
    if tuple(models) != gate.models:
        raise ValueError("its models are not those its parts were made for")
    if isinstance(gate, GatedCascade):
        _check_cascade(gate.cascade)
        _check_scoring(gate.network)
    elif isinstance(gate, CascadeGate):
        _check_cascade(gate)
    elif isinstance(gate, ScoringGate):
        _check_scoring(gate)


def _check_cascade(gate: CascadeGate) -> None:
    if not all(gate.groups) or len(gate.scales) != len(gate.groups) - 1:
        raise ValueError("a cascade has one scale for each group but the last, and no empty group")
    _check_chances("accuracies", gate.accuracies)
    _check_jury(gate.jury)


def _check_scoring(gate: ScoringGate) -> None:
    if gate.top_k < 1:
        raise ValueError("top_k is below 1")
    _check_jury(gate.jury)
    _check_scorer(gate.scorer, len(gate.models))


def _check_scorer(scorer: Scorer, models: int) -> None:
    arrays = scorer.model.arrays()
    shapes: tuple[tuple[int, ...], ...]
    if isinstance(scorer.model, GatingNetwork):
        features, hidden = len(arrays["mean"]), len(arrays["inner_bias"])
        shapes = ((features,), (features,), (features, hidden), (hidden,), (hidden, models), (models,))
    else:
        shapes = ((len(arrays["right"]), arrays["rows"].shape[-1]), (len(arrays["right"]), models))
    if tuple(array.shape for array in arrays.values()) != shapes or len(scorer.scales) != models:
        raise ValueError("its arrays and scales are not of the sizes that its models need")


def _check_jury(jury: Jury) -> None:
    _check_chances("a juror's accuracy", {str(panel): one.accuracy for panel, one in jury.jurors.items()})
    if not all((juror.logit.spread > 0).all() for juror in jury.jurors.values()):
        raise ValueError("a juror's spread is not above 0")


def _check_chances(what: str, chances: Mapping[str, Any]) -> None:
    # bool is an int, and no probability.
    sound = [
        isinstance(c, (int, float)) and not isinstance(c, bool) and 0 <= c <= 1 for c in chances.values()
    ]
    if not all(sound):
        raise ValueError(f"{what}: no number between 0 and 1")
