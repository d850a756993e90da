"""Which seats of a layer are asked now: all of them, or those the gate says, stage by stage.

A gate reads the question and this layer's answers so far (`gate.protocol`); here its words become seats. It
places no calls.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.calls.retries import describe
from llama_index.packs.mixture_of_agents.calls.tasks import ended
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.protocol import Gate, GateDecision
from llama_index.packs.mixture_of_agents.results import Proposal, Routing
from llama_index.packs.mixture_of_agents.runs.live_run import LiveRun
from llama_index.packs.mixture_of_agents.runs.progress import Progress
from llama_index.packs.mixture_of_agents.runs.states import MixtureState

_logger = logging.getLogger(__name__)


async def route(
    run: LiveRun, state: MixtureState, layer: int, progress: Progress
) -> tuple[MixtureState, list[int]]:
    """Whom to ask next in a layer, by their places; empty when its answers are enough.

    Args:
        run: The run's live side.
        state: What the run has come to; `staged` holds what this layer has come to.
        layer: The layer, from 1.
        progress: Where the run says what it does.

    Returns:
        The state with what was decided, and the places.

    Raises:
        ConfigurationError: The gate was made for other proposers.
        MixtureError: The gate knows nobody who can be asked.
    """
    seats = run.mixture.layers[layer - 1]
    left = [index for index in range(len(seats)) if index not in {staged.index for staged in state.staged}]
    gate = run.mixture.gate
    if gate is None or not left:
        return state, left if gate is not None or not state.staged else []
    decision = await _decided(gate, run, state, layer, [seats[index].name for index in left])
    places = {seats[index].name: index for index in left}
    asked = [name for name in dict.fromkeys(decision.ask) if name in places]
    routing = Routing(
        layer=layer,
        asked=asked,
        scores=decision.scores,
        confidence=decision.confidence,
        reason=decision.reason,
    )
    progress.routed(routing)
    return state.model_copy(update={"routed": [*state.routed, routing]}), [places[name] for name in asked]


async def _decided(
    gate: Gate, run: LiveRun, state: MixtureState, layer: int, left: list[str]
) -> GateDecision:
    """What the gate says; where it fails through a fault of its own, everyone is asked, as without it."""
    candidates = run.mixture.facts.layers[layer - 1]
    proposals = [staged.outcome for staged in state.staged if isinstance(staged.outcome, Proposal)]
    try:
        task = await ended(_said(gate, state.messages, candidates, proposals))
        if task.cancelled():  # not the run's doing: that is raised above
            raise RuntimeError("it was cancelled from within")
        decision = _plain(task.result())
    except MixtureError:
        raise
    except Exception as error:
        _logger.warning("The gate failed; everyone is asked", exc_info=True)
        return GateDecision(
            ask=tuple(left), reason=f"the gate failed, so everyone is asked: {describe(error)}"
        )
    known = {seat.name for seat in candidates}
    unknown = [name for name in decision.ask if name not in known]
    if unknown:
        raise ConfigurationError(
            f"The gate asks for {', '.join(map(repr, unknown))}, but those who propose in layer {layer} are "
            f"{', '.join(map(repr, sorted(known)))}. Train it for these, or name them as it knows them."
        )
    return decision


async def _said(
    gate: Gate,
    messages: Sequence[ChatMessage],
    candidates: Sequence[SeatFacts],
    proposals: Sequence[Proposal],
) -> GateDecision:
    return await gate.decide(messages, candidates, proposals)


def _plain(said: GateDecision) -> GateDecision:
    """The same with numbers that a trace can hold; a gate of the caller's own may say anything."""
    sure = said.confidence
    decision = GateDecision(ask=said.ask, scores=said.scores, confidence=sure, reason=said.reason)
    scores = {name: score for name, score in decision.scores.items() if math.isfinite(score)}
    is_told = decision.confidence is not None and math.isfinite(decision.confidence)
    return decision.model_copy(update={"scores": scores, "confidence": sure if is_told else None})
