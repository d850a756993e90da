"""Asking: placing one call for a run, keeping what becomes of it, and what a proposer reads.

It knows the run and its state, and nothing of the workflow's events or of how a run finishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.answers.shapes import arguments_as_text
from llama_index.packs.mixture_of_agents.calls.endpoint import Reply
from llama_index.packs.mixture_of_agents.calls.layouts import shared_prefix_messages
from llama_index.packs.mixture_of_agents.calls.retries import status_of
from llama_index.packs.mixture_of_agents.prompts import (
    proposer_messages,
)
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Task
from llama_index.packs.mixture_of_agents.runs.live_run import Asked, LiveRun
from llama_index.packs.mixture_of_agents.runs.progress import Progress
from llama_index.packs.mixture_of_agents.runs.states import MixtureState
from llama_index.packs.mixture_of_agents.seats.placing import Outcome, Speak, place, tell
from llama_index.packs.mixture_of_agents.seats.seat import Seat

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
