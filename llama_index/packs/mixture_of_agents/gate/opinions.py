"""What a gate thinks of the answers that are there, asked so that its faults cost no answer.

By then every call is paid for. A gate that raises, or says what means nothing, has no opinion: heads are
counted, as without one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.answers.voting import checked_weights
from llama_index.packs.mixture_of_agents.checks import has_methods, shown
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.results import Decision, Proposal

_logger = logging.getLogger(__name__)


def verdict_of(
    gate: Gate | None, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
) -> Decision | None:
    """The answer that a gate names; None where it names none, or none of these proposals."""
    judge: Any = gate
    if not has_methods(judge, "verdict"):
        return None
    try:
        return _among(judge.verdict(messages, proposals), proposals)
    except Exception:
        _logger.warning("The gate's verdict failed; its votes are counted", exc_info=True)
        return None


def weights_of(
    gate: Gate | None, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
) -> dict[str, float] | None:
    """What a gate has each one's vote count for; None to count heads."""
    if gate is None:
        return None
    try:
        return checked_weights(gate.weights(messages, proposals)) or None
    except Exception:
        _logger.warning("The gate's weights failed; heads are counted", exc_info=True)
        return None


def _among(said: object, proposals: Sequence[Proposal]) -> Decision | None:
    if said is None:
        return None
    if not isinstance(said, Decision):
        raise TypeError(f"a verdict is a Decision or None; found {shown(said)}")
    if said.chosen not in [proposal.proposer for proposal in proposals]:
        raise ValueError(f"it chose {said.chosen!r}, who proposed nothing")
    return said
