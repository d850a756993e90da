"""Asking: placing one call for a run, keeping what becomes of it, and what a proposer reads.

It knows the run and its state, and nothing of the workflow's events or of how a run finishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.casting import fixed_roles, role_list_of, roles_from
from llama_index.packs.mixture_of_agents.endpoint import Reply
from llama_index.packs.mixture_of_agents.layouts import shared_prefix_messages
from llama_index.packs.mixture_of_agents.placing import Outcome, Speak, place, tell
from llama_index.packs.mixture_of_agents.progress import Progress
from llama_index.packs.mixture_of_agents.prompts import (
    as_reference,
    condenser_messages,
    proposer_messages,
    role_writer_messages,
    without_tool_turns,
)
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Cast, Missing, Proposal, Task
from llama_index.packs.mixture_of_agents.retries import status_of
from llama_index.packs.mixture_of_agents.rounds import Round, RoundLimits
from llama_index.packs.mixture_of_agents.runs import Asked, LiveRun, MixtureState
from llama_index.packs.mixture_of_agents.seats import Seat
from llama_index.packs.mixture_of_agents.shapes import arguments_as_text, shaped_request
from llama_index.packs.mixture_of_agents.strategies import FIXED_ROLES
from llama_index.packs.mixture_of_agents.synthesis import Reading, reading_for

_REFUSED = (400, 422)
"""HTTP: the request is not one that this server understands."""


async def ask_proposer(
    run: LiveRun, state: MixtureState, layer: int, index: int, progress: Progress
) -> Proposal | Missing:
    """Ask one proposer, for as long as its round waits.

    Args:
        run: The run's live side.
        state: What the run has come to.
        layer: The round, from 1.
        index: The proposer's place in it, from 0.
        progress: Where the run says what it does.
    """
    seat = run.mixture.layers[layer - 1][index]
    call = call_of(run, seat, (layer, index, 0), "propose", _proposer_prompt(run, state, layer, index))
    begin(run, call, progress)
    this_round = run.round(layer)
    placed = place(call, speaking(seat), run.placing, progress.retries(call), seat.proposer.timeout)
    outcome = await this_round.hold(placed, lambda reason: Outcome(call, call.cut(reason)))
    if isinstance(outcome.record, Proposal):
        this_round.count_proposal()
    await end(run, outcome, progress)
    return outcome.record


def _proposer_prompt(run: LiveRun, state: MixtureState, layer: int, index: int) -> list[ChatMessage]:
    references, absent = run.material(state)
    seats, roles = run.mixture.layers[layer - 1], _roles(run, state, layer)
    if not seats[index].shares_prefix:
        return proposer_messages(state.messages, roles[index], references, absent)
    sharers = [role or "" for seat, role in zip(seats, roles, strict=True) if seat.shares_prefix]
    return shared_prefix_messages(state.messages, roles[index], references, absent, sharers)


def _roles(run: LiveRun, state: MixtureState, layer: int) -> list[str | None]:
    """Everyone's role in a layer: one written for the question where a seat takes one and there is one."""
    written = iter(state.roles_at(layer))
    return [
        str(next(written, None) or seat.proposer.role or "") or None
        if seat.proposer.takes_role
        else seat.proposer.role
        for seat in run.mixture.layers[layer - 1]
    ]


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


def call_of(
    run: LiveRun,
    seat: Seat,
    where: tuple[int, int, int],
    task: Task,
    messages: Sequence[ChatMessage],
    may_call_tools: bool = False,
) -> Call:
    """A call to a seat, about to be placed."""
    layer, index, turn = where
    return Call(
        run_id=run.run_id,
        layer=layer,
        index=index,
        proposer=seat.name,
        messages=messages,
        sampling=seat.sampling,
        may_call_tools=may_call_tools,
        stoppable=seat.endpoint.stoppable,
        task=task,
        turn=turn,
        identity=seat.proposer.identity,
    )


def speaking(seat: Seat, options: Mapping[str, Any] | None = None) -> Speak:
    """One attempt at a call to a seat, in one piece; an answer in a shape becomes its text.

    A server may refuse the shape though its class offers it; then the prompt's words have to do.
    """

    async def speak(call: Call) -> Reply:
        settings = changed(seat, call)
        if not options:
            return await seat.endpoint.reply(call.messages, settings)
        try:
            return _as_text(await seat.endpoint.reply(call.messages, {**settings, **options}))
        except Exception as error:
            if status_of(error) not in _REFUSED:
                raise
            return await seat.endpoint.reply(call.messages, settings)

    return speak


def changed(seat: Seat, call: Call) -> dict[str, Any]:
    """The settings that a policy changed, as options of the call."""
    return {} if call.sampling == seat.sampling else call.sampling.given()


def _as_text(reply: Reply) -> Reply:
    """The arguments of tool calls as the text: records, stores and traces hold texts."""
    text = arguments_as_text(reply.message)
    if not text:
        return reply
    return Reply(ChatMessage(role=MessageRole.ASSISTANT, content=text), reply.usage, details=reply.details)


def begin(
    run: LiveRun, call: Call, progress: Progress, kind: Literal["asked", "synthesis"] = "asked"
) -> None:
    """A call is about to be placed: remember whom, and say so."""
    run.asked[call.place] = Asked(call.proposer, call.task)
    run.watch_all(lambda watch: watch.asks(call))
    progress.asks(call, kind)


async def end(run: LiveRun, outcome: Outcome, progress: Progress) -> None:
    """Keep an outcome for the result and for the causes of an error, and say it."""
    call, record = outcome.call, outcome.record
    run.outcomes[call.place] = outcome.light()
    if not outcome.source:
        await tell(run.placing.policies, call, record)
    run.watch_all(lambda watch: watch.noted(call, record, outcome.usage, outcome.source))
    progress.outcome(call, record)
