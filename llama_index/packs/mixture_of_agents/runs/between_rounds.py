"""What happens between rounds: roles are written, proposals condensed, remaining rounds skipped.

It knows the run and its state, and nothing of the workflow's events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.answers.shapes import shaped_request
from llama_index.packs.mixture_of_agents.prompts import (
    as_reference,
    condenser_messages,
    role_writer_messages,
    without_tool_turns,
)
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Cast, Missing, Proposal
from llama_index.packs.mixture_of_agents.runs.asking import begin, call_of, end, speaking
from llama_index.packs.mixture_of_agents.runs.live_run import LiveRun
from llama_index.packs.mixture_of_agents.runs.progress import Progress
from llama_index.packs.mixture_of_agents.runs.rounds import Round, RoundLimits
from llama_index.packs.mixture_of_agents.runs.states import MixtureState
from llama_index.packs.mixture_of_agents.seats.casting import fixed_roles, role_list_of, roles_from
from llama_index.packs.mixture_of_agents.seats.placing import Outcome, place
from llama_index.packs.mixture_of_agents.seats.seat import Seat
from llama_index.packs.mixture_of_agents.strategies import FIXED_ROLES
from llama_index.packs.mixture_of_agents.synthesis import Reading, reading_for

_logger = logging.getLogger(__name__)


async def ask_for_roles(run: LiveRun, state: MixtureState, layer: int, progress: Progress) -> MixtureState:
    """Have roles written for the question; fixed ones stand in, marked, where that comes to nothing.

    Args:
        run: The run's live side.
        state: What the run has come to.
        layer: The round they are first for.
        progress: Where the run says what it does.
    """
    seat, count = run.mixture.role_writer, run.mixture.facts.roles_to_write(layer)
    if seat is None:
        raise RuntimeError("Roles are only asked for where someone writes them.")
    asked = role_writer_messages(without_tool_turns(state.messages), count)
    messages, options = shaped_request(seat.proposer.model, asked, role_list_of(count))
    call = call_of(run, seat, (layer, -1, 0), "roles", messages)
    with _step(run) as step:
        record = await _beside_rounds(run, seat, call, step, progress, options)
    if isinstance(record, Missing):
        cast = Cast(layer=layer, roles=fixed_roles(count), is_fixed=True)
        return state.model_copy(update={"roles": [*state.roles, cast], "beside": [*state.beside, record]})
    said = ChatMessage(role=MessageRole.ASSISTANT, content=record.text)
    roles = roles_from(seat.proposer.model, said, count)
    written = sum(role not in FIXED_ROLES for role in roles or ())
    cast = Cast(
        layer=layer,
        roles=roles or fixed_roles(count),
        is_fixed=roles is None,
        written=written,
        writing=record,
    )
    return state.model_copy(update={"roles": [*state.roles, cast]})


async def ask_to_condense(run: LiveRun, state: MixtureState, layer: int, progress: Progress) -> MixtureState:
    """Have a round's proposals put into one text; where that comes to nothing, all are passed on.

    Drafts that overflow the window are condensed over a sliding one, as in a synthesis.

    Args:
        run: The run's live side.
        state: What the run has come to; the round is closed in it.
        layer: The round.
        progress: Where the run says what it does.
    """
    proposals, missing = state.references()
    messages = without_tool_turns(state.messages)
    reading = reading_for(run.mixture.aggregator, messages, proposals, missing, form=condenser_messages)
    *passes, last = await _condensed(run, reading, layer, progress)
    spent = [*state.spent, *(record.usage for record in passes if isinstance(record, Proposal))]
    if isinstance(last, Missing):
        return state.model_copy(update={"beside": [*state.beside, last], "spent": spent})
    return state.model_copy(update={"condensed": [*state.condensed, last], "spent": spent})


async def _condensed(
    run: LiveRun, reading: Reading, layer: int, progress: Progress
) -> list[Proposal | Missing]:
    """What each pass over the drafts came to; the last one is what all of them came to."""
    seat, index = run.mixture.aggregator, len(run.mixture.layers[layer - 1])
    records, carried = list[Proposal | Missing](), ""
    with _step(run) as step:
        for turn in range(reading.turns):
            call = call_of(run, seat, (layer, index, turn), "condense", reading.prompt(turn, carried))
            record = await _beside_rounds(run, seat, call, step, progress)
            records.append(record)
            if isinstance(record, Missing):
                break
            carried = as_reference(record.text)
    return records


@contextmanager
def _step(run: LiveRun) -> Iterator[Round]:
    """A step that is no round of proposers; all its calls together may take no longer than one."""
    step = Round(RoundLimits(layer_timeout=run.mixture.limits.layer_timeout))
    try:
        yield step
    finally:
        step.end()


async def _beside_rounds(
    run: LiveRun,
    seat: Seat,
    call: Call,
    step: Round,
    progress: Progress,
    options: Mapping[str, Any] | None = None,
) -> Proposal | Missing:
    """Place a call that is no proposal, for as long as its step may take."""
    begin(run, call, progress)
    placed = place(call, speaking(seat, options), run.placing, progress.retries(call), seat.proposer.timeout)
    outcome = await step.hold(placed, lambda reason: Outcome(call, call.cut(reason)))
    await end(run, outcome, progress)
    return outcome.record


async def stopped_early(run: LiveRun, state: MixtureState, layer: int, progress: Progress) -> MixtureState:
    """The state, marked where the round's proposals agree so far that the remaining ones are skipped."""
    rule = run.mixture.stop_early
    texts = [proposal.text for proposal in state.proposals if proposal.layer == layer]
    if rule is None or layer >= len(run.mixture.layers) or len(texts) < 2:
        return state
    try:
        # No longer than a round may take: an embedding model can hang like any other.
        reason = await asyncio.wait_for(rule.agreed(texts), run.mixture.limits.layer_timeout)
    except Exception:
        _logger.warning("whether round %d agrees could not be told; it goes on", layer, exc_info=True)
        return state
    if not reason:
        return state
    progress.agreed(layer, str(reason))
    return state.model_copy(update={"stopped_after": layer})
