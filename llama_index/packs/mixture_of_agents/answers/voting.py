"""A majority over extracted answers, as a pure count; ties are told, not hidden.

Self-consistency, arXiv 2203.11171, with models in the place of samples. It does not know where proposals come
from, nor what is done with the decision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from llama_index.packs.mixture_of_agents.answers.extracting import Extractor, extracted
from llama_index.packs.mixture_of_agents.checks import number, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.results import Decision, Proposal

_MOST_NAMED = 4
_LONGEST_ANSWER = 60
_HEAVIEST = 1e9


def voted(
    proposals: Sequence[Proposal], extractor: Extractor, weights: Mapping[str, float] | None = None
) -> Decision:
    """Extract an answer from each proposal and count.

    A proposal whose extraction fails abstains, and the reason says why.

    Args:
        proposals: Of one round, in proposer order; one at least.
        extractor: Finds the answer in a text.
        weights: As for `tally`.

    Raises:
        ConfigurationError: As for `tally`.
    """
    answers: list[tuple[str, str | None]] = []
    problems = []
    for proposal in proposals:
        try:
            answers.append((proposal.proposer, extracted(extractor, proposal.text)))
        except MixtureError as problem:
            answers.append((proposal.proposer, None))
            problems.append(f"{proposal.proposer}: {problem}")
    decision = tally(answers, weights)
    reason = "; ".join([decision.reason, *dict.fromkeys(problems)])
    return decision.model_copy(update={"reason": reason})


def tally(answers: Sequence[tuple[str, str | None]], weights: Mapping[str, float] | None = None) -> Decision:
    """Count votes; of answers with as many, the one given first in proposer order is chosen.

    Args:
        answers: Each proposer and its extracted answer, in proposer order, one at least; None abstains.
        weights: What a proposer's vote counts, 1 for who is not named, between 0 and 1e9; None counts heads.

    Returns:
        The decision; chosen is the first with the winning answer, or the first of all where nobody has an
        answer (or all weigh nothing).

    Raises:
        ConfigurationError: There is nobody to choose from, or a weight is no such number.
    """
    if not answers:
        raise ConfigurationError("A vote needs one proposal at least; found none.")
    if weights is not None:
        weights = checked_weights(weights)
    votes: dict[str, list[str]] = {}
    for proposer, answer in answers:
        if answer is not None:
            votes.setdefault(answer, []).append(proposer)
    weighed = {answer: _weight(who, weights) for answer, who in votes.items()}
    leading = _leading(weighed)
    first = leading[0] if leading else None
    return Decision(
        chosen=votes[first][0] if first is not None else answers[0][0],
        reason=_reason(answers, weighed, leading, weights is not None),
        answer=first,
        votes=votes,
        abstained=[proposer for proposer, answer in answers if answer is None],
        ties=leading if len(leading) > 1 else [],
    )


def checked_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    """Weights by proposer; none of them for None.

    Raises:
        ConfigurationError: They are no mapping of names, or a weight is no number between 0 and 1e9.
    """
    if weights is None:
        return {}
    if not isinstance(weights, Mapping):
        raise ConfigurationError(f"weights must be a mapping of proposers' names; found {shown(weights)}.")
    for proposer, weight in weights.items():
        number(f"The weight of {proposer}", weight, 0, _HEAVIEST)
    return dict(weights)


def _weight(who: Sequence[str], weights: Mapping[str, float] | None) -> float:
    return len(who) if weights is None else math.fsum(weights.get(name, 1) for name in who)


def _leading(weighed: Mapping[str, float]) -> list[str]:
    """The answers with the most votes, the one given first in front."""
    most = max(weighed.values(), default=0)
    # Sums of fractions that ought to be equal may be a hair apart.
    return [answer for answer, weight in weighed.items() if most and math.isclose(weight, most)]


def _reason(
    answers: Sequence[tuple[str, str | None]],
    weighed: Mapping[str, float],
    leading: Sequence[str],
    by_weight: bool,
) -> str:
    """Why, in words: "3 of 4 say 42", "2 of 4 say 42; tie with 43; 42 was given first"."""
    silent = sum(answer is None for _, answer in answers)
    if not leading:
        found = "every answer's weight is 0" if weighed else "no answer could be extracted from any proposal"
        return f"{found}; the first proposal stands"
    first = leading[0]
    agreeing = sum(answer == first for _, answer in answers)
    parts = [f"{agreeing} of {len(answers)} {'says' if agreeing == 1 else 'say'} {_brief(first)}"]
    if by_weight:
        parts.append(f"by weight {weighed[first]:g} of {math.fsum(weighed.values()):g}")
    if len(leading) > 1:
        others = [_brief(answer) for answer in leading[1:]]
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        parts.append(f"tie with {', '.join(others[:_MOST_NAMED])}{more}")
        parts.append(f"{_brief(first)} was given first")
    if silent:
        parts.append(f"{silent} without an answer that can be extracted")
    return "; ".join(parts)


def _brief(answer: str) -> str:
    return answer if len(answer) <= _LONGEST_ANSWER else f"{answer[:_LONGEST_ANSWER]}..."
